//! `attach`: a client's two directions meet a container's three streams.
//!
//! The shim writes to one end of a socket pair and reads from it; the daemon only carries bytes between the other end
//! and the client. An attachment taken before the start waits in the supervisor until then.
use std::{io, os::unix::net::UnixStream as StdStream};

use futures_util::StreamExt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{UnixStream, unix::OwnedReadHalf, unix::OwnedWriteHalf},
};

use crate::{
    container::{
        detach::DetachKeys,
        handle::{Attacher, Command, Handle},
        logs::LogStream,
        view::AttachOptions,
    },
    error::{Error, Result},
};

const BUFFER_BYTES: usize = 64 << 10;

/// A place at the container's streams, taken before or after its start.
pub struct Attachment {
    tty: bool,
    /// Absent when only the log was asked for.
    container: Option<UnixStream>,
    stdin: bool,
    detach_keys: Option<DetachKeys>,
    /// What was printed before.
    past: Option<LogStream>,
    handle: Handle,
}

pub async fn attach(handle: Handle, options: AttachOptions, past: Option<LogStream>) -> Result<Attachment> {
    let config = handle.record();
    let config = &config.config;
    let detach_keys = DetachKeys::parse(options.detach_keys.as_deref())?;
    let stdin = options.stdin && config.open_stdin;
    let container = if options.stream {
        let failed = |error: io::Error| Error::system("cannot make a socket pair").because(error);
        let (ours, theirs) = StdStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        let attacher = Attacher {
            stdin,
            stdout: options.stdout,
            stderr: options.stderr,
            socket: theirs.into(),
        };
        handle.ask(|reply| Command::Attach { attacher, reply }).await?;
        Some(UnixStream::from_std(ours).map_err(failed)?)
    } else {
        None
    };
    Ok(Attachment {
        tty: config.tty,
        container,
        stdin,
        detach_keys: config.tty.then_some(detach_keys),
        past,
        handle,
    })
}

impl Attachment {
    /// Raw bytes, or stdcopy frames?
    pub fn tty(&self) -> bool {
        self.tty
    }

    /// Copies both ways until the container ends or the client leaves; a client that ends its side only ends standard
    /// input.
    pub async fn run<S: AsyncRead + AsyncWrite + Unpin + Send>(self, mut client: S) {
        if let Some(mut past) = self.past {
            while let Some(Ok(chunk)) = past.next().await {
                if client.write_all(&chunk).await.is_err() {
                    return;
                }
            }
        }
        if let Some(container) = self.container {
            let (from, to) = container.into_split();
            let (reader, mut writer) = tokio::io::split(client);
            tokio::select! {
                () = output(from, &mut writer) => {}
                () = input(reader, to, self.stdin, self.detach_keys) => {
                    let action = "detach".to_owned();
                    let _ = self.handle.ask(|reply| Command::Tell { action, reply }).await;
                }
            }
            let _ = writer.shutdown().await;
        } else {
            let _ = client.shutdown().await;
        }
    }
}

/// Until the container's end, or until the client takes no more.
async fn output(mut from: OwnedReadHalf, client: &mut (impl AsyncWrite + Unpin)) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                if client.write_all(&buffer[..count]).await.is_err() || client.flush().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Returns when the client detaches, and otherwise never: output decides when an attachment ends.
async fn input(mut client: impl AsyncRead + Unpin, mut to: OwnedWriteHalf, stdin: bool, mut keys: Option<DetachKeys>) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut kept = Vec::new();
    loop {
        let count = match client.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        let mut bytes = &buffer[..count];
        let mut detached = false;
        if let Some(keys) = &mut keys {
            kept.clear();
            detached = keys.feed(bytes, &mut kept);
            bytes = &kept;
        }
        // The container may have closed its input; it may still print.
        if stdin && to.write_all(bytes).await.is_err() {
            break;
        }
        if detached {
            return;
        }
    }
    let _ = to.shutdown().await;
    std::future::pending::<()>().await;
}

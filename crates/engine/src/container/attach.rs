//! `attach`: a client's two directions meet a container's three streams.
//!
//! The shim writes to one end of a socket pair and reads from it; the daemon only carries bytes between the other end
//! and the client. An attachment taken before the start waits in the supervisor until then. An exec's is made as it starts.
use std::{
    future::Future,
    io,
    os::{fd::OwnedFd, unix::net::UnixStream as StdStream},
    sync::Arc,
};

use futures_util::StreamExt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{UnixStream, unix::OwnedReadHalf, unix::OwnedWriteHalf},
};

use crate::{
    container::{
        detach::DetachKeys,
        exec::Exec,
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
    /// Whose streams they are, where they are not the container's own.
    exec: Option<Arc<Exec>>,
}

/// Both ends of what carries the streams: ours, and the shim's.
pub fn pair() -> Result<(UnixStream, OwnedFd)> {
    let failed = |error: io::Error| Error::system("cannot make a socket pair").because(error);
    let (ours, theirs) = StdStream::pair().map_err(failed)?;
    ours.set_nonblocking(true).map_err(failed)?;
    Ok((UnixStream::from_std(ours).map_err(failed)?, theirs.into()))
}

pub async fn attach(handle: Handle, options: AttachOptions, past: Option<LogStream>) -> Result<Attachment> {
    let config = handle.record();
    let config = &config.config;
    let detach_keys = DetachKeys::parse(options.detach_keys.as_deref())?;
    let stdin = options.stdin && config.open_stdin;
    let container = if options.stream {
        let (ours, theirs) = pair()?;
        let attacher = Attacher {
            stdin,
            stdout: options.stdout,
            stderr: options.stderr,
            socket: theirs,
        };
        handle.ask(|reply| Command::Attach { attacher, reply }).await?;
        Some(ours)
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
        exec: None,
    })
}

impl Attachment {
    /// The streams of an exec, `raw` where its client reads no frames.
    pub fn of_exec(handle: Handle, exec: Arc<Exec>, streams: UnixStream, keys: DetachKeys, raw: bool) -> Attachment {
        Attachment {
            tty: raw,
            container: Some(streams),
            stdin: exec.record.attach[0],
            detach_keys: exec.record.tty.then_some(keys),
            past: None,
            handle,
            exec: Some(exec),
        }
    }

    /// Raw bytes, or stdcopy frames?
    pub fn tty(&self) -> bool {
        self.tty
    }

    /// Copies both ways until the container ends or the client leaves; a client that ends its side only ends standard
    /// input. `gone` ends when the client has left altogether, where that can be told.
    pub async fn run<S>(self, mut client: S, gone: impl Future<Output = ()> + Send)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        if let Some(mut past) = self.past {
            while let Some(Ok(chunk)) = past.next().await {
                if client.write_all(&chunk).await.is_err() {
                    return;
                }
            }
        }
        let Some(container) = self.container else {
            return drop(client.shutdown().await);
        };
        let (from, to) = container.into_split();
        let (reader, mut writer) = tokio::io::split(client);
        let over = tokio::select! {
            over = output(from, &mut writer) => over,
            () = input(reader, to, self.stdin, self.detach_keys) => Over::Detached,
            () = gone => Over::Gone,
        };
        finish(over, &self.handle, self.exec).await;
        let _ = writer.shutdown().await;
    }
}

/// How an attachment came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// There is no more output.
    Ended,
    Detached,
    /// The client takes nothing any more.
    Gone,
}

async fn finish(over: Over, handle: &Handle, exec: Option<Arc<Exec>>) {
    match (over, exec) {
        // Whoever asks for the exit code now shall get it.
        (Over::Ended, Some(exec)) => drop(exec.wait_for_end().await),
        (Over::Ended, None) => {}
        (Over::Detached, None) => {
            let action = "detach".to_owned();
            let _ = handle.ask(|reply| Command::Tell { action, reply }).await;
        }
        (Over::Detached, Some(exec)) => {
            let action = "exec_detach".to_owned();
            let _ = handle.ask(|reply| Command::TellExec { exec, action, reply }).await;
        }
        // Docker's client closes its connection to detach, so its end says nothing about what the process should do.
        (Over::Gone, _) => {}
    }
}

/// Until the container's end, or until the client takes no more.
async fn output(mut from: OwnedReadHalf, client: &mut (impl AsyncWrite + Unpin)) -> Over {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return Over::Ended,
            Ok(count) => {
                if client.write_all(&buffer[..count]).await.is_err() || client.flush().await.is_err() {
                    return Over::Gone;
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

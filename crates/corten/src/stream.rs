//! Bytes between the user and a container: standard input in, output and error out.
//!
//! Reading standard input is a thread, because making it non-blocking would change the terminal for everybody else who
//! has it open. The end of input closes one direction only: output goes on until the container ends.
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use bytes::{Bytes, BytesMut};
use corten_api::client::{Hijacked, Streaming};
use corten_api::stream::{Decoder, Stream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::failure::Failure;
use crate::terminal::{DetachFilter, DetachKeys};

/// A pipe takes that many bytes at once, if it takes any.
const PIPE_ATOM_BYTES: usize = 4096;
const CHUNK_BYTES: usize = 64 * 1024;

/// How an attached stream came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The container closed its side.
    Output,
    /// The user typed the detach keys.
    Detached,
}

/// What is attached.
pub struct Attached {
    pub tty: bool,
    pub stdin: bool,
    /// Looked for in what the user types, on a terminal only.
    pub detach_keys: DetachKeys,
}

/// Copies both ways until the container's side ends or the user detaches.
pub async fn copy(hijacked: Hijacked, attached: Attached) -> Result<Ended, Failure> {
    let (mut from, mut to) = tokio::io::split(hijacked.stream);
    let mut input = attached.stdin.then(read_stdin);
    let mut filter = attached.tty.then(|| DetachFilter::new(attached.detach_keys));
    let mut output = Output::new(attached.tty);
    let mut buffer = BytesMut::with_capacity(CHUNK_BYTES);
    let mut pending = Bytes::new();
    loop {
        tokio::select! {
            read = from.read_buf(&mut buffer) => match read {
                Ok(0) => return Ok(Ended::Output),
                Ok(_) => output.take(buffer.split().freeze()).await?,
                // A daemon that dies closes without manners.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(Ended::Output),
                Err(error) => return Err(Failure::io("reading from the container", &error)),
            },
            written = to.write(&pending), if !pending.is_empty() => match written {
                Ok(length) => drop(pending.split_to(length)),
                // The container stopped reading: output may still come.
                Err(_) => {
                    pending.clear();
                    input = None;
                }
            },
            chunk = next(&mut input), if input.is_some() && pending.is_empty() => match chunk {
                Some(typed) => match &mut filter {
                    Some(filter) => {
                        let (passed, detached) = filter.pass(&typed);
                        if detached {
                            return Ok(Ended::Detached);
                        }
                        pending = passed.into();
                    }
                    None => pending = typed,
                },
                None => {
                    input = None;
                    // Ignored: the container may be gone already.
                    let _ = to.shutdown().await;
                }
            },
        }
    }
}

async fn next(input: &mut Option<mpsc::Receiver<Bytes>>) -> Option<Bytes> {
    match input {
        Some(input) => input.recv().await,
        None => std::future::pending().await,
    }
}

/// Standard input in pieces; the channel closes at its end.
pub fn read_stdin() -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            match stdin.read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => {
                    if sender.blocking_send(Bytes::copy_from_slice(&buffer[..length])).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
    receiver
}

/// Copies a body without input (logs) to standard output and error.
pub async fn print(mut body: Streaming, tty: bool) -> Result<(), Failure> {
    let mut output = Output::new(tty);
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| Failure::io("reading from the daemon", &error))?;
        output.take(piece).await?;
    }
    Ok(())
}

/// Where a container's output goes.
struct Output {
    /// Absent for a terminal's raw stream.
    frames: Option<Decoder>,
}

impl Output {
    fn new(raw: bool) -> Output {
        Output {
            frames: (!raw).then(Decoder::new),
        }
    }

    async fn take(&mut self, bytes: Bytes) -> Result<(), Failure> {
        let Some(frames) = &mut self.frames else {
            return write(Stream::Stdout, bytes).await;
        };
        frames.push(&bytes);
        // A log has a frame for each line: those of one stream that came together are written together.
        let (mut to, mut together) = (Stream::Stdout, BytesMut::new());
        while let Some((stream, payload)) = frames.next().map_err(|error| Failure::new(error.to_string()))? {
            if stream != to && !together.is_empty() {
                write(to, together.split().freeze()).await?;
            }
            if stream == Stream::SystemError {
                let text = String::from_utf8_lossy(&payload).trim_end().to_string();
                return Err(Failure::new(format!("error from daemon in stream: {text}")));
            }
            to = stream;
            together.extend_from_slice(&payload);
        }
        if together.is_empty() {
            return Ok(());
        }
        write(to, together.freeze()).await
    }
}

/// Writes at once where that cannot block, else from a thread of the pool.
async fn write(stream: Stream, bytes: Bytes) -> Result<(), Failure> {
    let result = if bytes.len() <= PIPE_ATOM_BYTES && is_ready(stream) {
        write_now(stream, &bytes)
    } else {
        let done = tokio::task::spawn_blocking(move || write_now(stream, &bytes)).await;
        done.unwrap_or_else(|error| Err(io::Error::other(error)))
    };
    match result {
        Ok(()) => Ok(()),
        // Nobody reads any more: end as any filter does, with the status of SIGPIPE.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::silent(141)),
        Err(error) => Err(Failure::io("writing the container's output", &error)),
    }
}

fn write_now(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    // Unbuffered: standard output of the library would hold back what follows the last line's end.
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = match stream {
            Stream::Stderr => io::stderr().write(rest),
            _ => rustix::io::write(io::stdout(), rest).map_err(io::Error::from),
        };
        match written {
            Ok(length) => rest = &rest[length..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_until_ready(stream)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn poll_output(stream: Stream, timeout: Option<&Timespec>) -> io::Result<bool> {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let fd = if stream == Stream::Stderr {
        stderr.as_fd()
    } else {
        stdout.as_fd()
    };
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    let ready = poll(&mut fds, timeout)?;
    Ok(ready > 0)
}

fn is_ready(stream: Stream) -> bool {
    poll_output(stream, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap_or(false)
}

fn wait_until_ready(stream: Stream) -> io::Result<()> {
    poll_output(stream, None).map(drop)
}

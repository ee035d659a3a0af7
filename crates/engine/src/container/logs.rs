//! `logs`: what a container printed, from its json-file log.
//!
//! Blocks are read and framed on a thread that may wait for the disk, many lines to a chunk. Whoever follows sleeps
//! until the kernel says that the log's directory has changed; nobody polls.
use std::{
    fmt::Write,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::Stream;
use jiff::Timestamp;
use memchr::memchr;
use rustix::fs::inotify;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
};

use crate::{
    container::{
        handle::{Handle, Snapshot},
        log_config,
        log_files::LogFiles,
        log_line::LogLine,
        record::Record,
        view::LogsOptions,
    },
    context::blocking,
    error::{Error, Kind, Result},
    ready,
};

/// What is read at once.
const BLOCK: usize = 256 << 10;
/// Chunks that wait for a slow client.
const QUEUE: usize = 4;

/// Chunks of many stdcopy frames each, or of raw bytes for a container with a terminal.
#[derive(Debug)]
pub struct LogStream {
    pub tty: bool,
    chunks: mpsc::Receiver<io::Result<Bytes>>,
}

impl Stream for LogStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        self.chunks.poll_recv(context)
    }
}

/// Opens the log in `directory`.
pub async fn logs(handle: Handle, directory: PathBuf, options: LogsOptions) -> Result<LogStream> {
    let snapshot = handle.snapshot();
    let record = &snapshot.record;
    if !options.stdout && !options.stderr {
        return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
    }
    let Some(log) = log_config::file(record, &directory) else {
        return Err(Error::new(
            Kind::NotImplemented,
            "configured logging driver does not support reading",
        ));
    };
    // Watched before the first read, so that nothing written in between goes unnoticed.
    let follow = options.follow && snapshot.state.phase.is_running();
    let failed = |error: io::Error| Error::system("cannot read the container's log").because(error);
    let watch = if follow {
        Some(watch(&directory).map_err(failed)?)
    } else {
        None
    };
    let tail = options.tail;
    let files = blocking(move || {
        LogFiles::open(log.path, log.max_files, tail, follow)
            .map_err(|error| Error::system("cannot open the log").because(error))
    });
    let reader = Reader {
        files: files.await?,
        rest: Vec::new(),
        framer: Framer {
            tty: record.config.tty,
            details: if options.details {
                details(record)
            } else {
                String::new()
            },
            whole: [true; 2],
            options,
        },
    };
    let (sender, chunks) = mpsc::channel(QUEUE);
    let tty = record.config.tty;
    tokio::spawn(pump(reader, sender, watch, handle, snapshot.exits));
    Ok(LogStream { tty, chunks })
}

/// Until there is no more, the client is gone, or `until` is reached.
async fn pump(
    mut reader: Reader,
    sender: mpsc::Sender<io::Result<Bytes>>,
    watch: Option<AsyncFd<OwnedFd>>,
    handle: Handle,
    exits: u64,
) {
    let deadline = reader.framer.options.until;
    loop {
        // Seen before reading: what is in the log then is all there is.
        let ended = |snapshot: &Snapshot| snapshot.removed || snapshot.exits > exits;
        let over = ended(&handle.snapshot());
        loop {
            let (back, chunk) = match tokio::task::spawn_blocking(move || {
                let chunk = reader.next();
                (reader, chunk)
            })
            .await
            {
                Ok(done) => done,
                Err(_) => return,
            };
            reader = back;
            match chunk {
                Ok(Chunk::Bytes(bytes)) => {
                    if sender.send(Ok(bytes)).await.is_err() {
                        return;
                    }
                }
                Ok(Chunk::End) => break,
                Ok(Chunk::Past) => return,
                Err(error) => {
                    let _ = sender.send(Err(error)).await;
                    return;
                }
            }
        }
        let Some(watch) = &watch else { return };
        if over {
            return;
        }
        tokio::select! {
            changed = changed(watch) => if changed.is_err() { return },
            _ = handle.wait_until(ended) => {}
            () = sender.closed() => return,
            () = sleep_until(deadline) => return,
        }
    }
}

async fn sleep_until(deadline: Option<Timestamp>) {
    match deadline.map(|deadline| deadline.duration_since(Timestamp::now())) {
        Some(left) => tokio::time::sleep(left.try_into().unwrap_or_default()).await,
        None => std::future::pending().await,
    }
}

fn watch(directory: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    use inotify::{CreateFlags, WatchFlags};
    let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    // The directory, and not the file: rotation makes another one.
    inotify::add_watch(
        &fd,
        directory,
        WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO,
    )?;
    ready::watched(fd)
}

/// Waits for a change, and takes all that are queued: what they say does not matter.
async fn changed(watch: &AsyncFd<OwnedFd>) -> io::Result<()> {
    let mut buffer = [0; 4096];
    watch
        .async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut buffer)?))
        .await?;
    while matches!(rustix::io::read(watch.get_ref(), &mut buffer), Ok(count) if count > 0) {}
    Ok(())
}

enum Chunk {
    Bytes(Bytes),
    /// Nothing more for now.
    End,
    /// Everything that follows is later than was asked for.
    Past,
}

struct Reader {
    files: LogFiles,
    /// The beginning of a line whose end is not written yet.
    rest: Vec<u8>,
    framer: Framer,
}

impl Reader {
    fn next(&mut self) -> io::Result<Chunk> {
        loop {
            if self.files.read(&mut self.rest, BLOCK)? == 0 {
                return Ok(Chunk::End);
            }
            let mut output = BytesMut::with_capacity(self.rest.len() + BLOCK / 8);
            let mut start = 0;
            let mut past = false;
            while let Some(length) = memchr(b'\n', &self.rest[start..]) {
                let line = &self.rest[start..start + length];
                start += length + 1;
                if let Some(line) = LogLine::parse(line)
                    && !self.framer.frame(&line, &mut output)
                {
                    past = true;
                    break;
                }
            }
            self.rest.drain(..start);
            match (output.is_empty(), past) {
                (false, _) => return Ok(Chunk::Bytes(output.freeze())),
                (true, true) => return Ok(Chunk::Past),
                (true, false) => {}
            }
        }
    }
}

/// Lines to what clients read.
struct Framer {
    tty: bool,
    options: LogsOptions,
    details: String,
    /// Did the last piece of stdout and of stderr end its line? Only the first piece of a line has a prefix.
    whole: [bool; 2],
}

impl Framer {
    /// False when the line is later than was asked for.
    fn frame(&mut self, line: &LogLine<'_>, output: &mut BytesMut) -> bool {
        let options = &self.options;
        if options.since.is_some() || options.until.is_some() {
            let Some(time) = line.timestamp() else { return true };
            if options.until.is_some_and(|until| time > until) {
                return false;
            }
            if options.since.is_some_and(|since| time < since) {
                return true;
            }
        }
        if !(if line.stderr { options.stderr } else { options.stdout }) {
            return true;
        }
        let mut prefix = String::new();
        let whole = &mut self.whole[usize::from(line.stderr)];
        if *whole && options.timestamps {
            let time = line.timestamp().unwrap_or_default();
            // Nine digits always, so that columns stay columns.
            write!(prefix, "{time:.9} ").expect("strings take everything");
        }
        if *whole && !self.details.is_empty() {
            prefix.push_str(&self.details);
        }
        *whole = line.text.ends_with(b"\n");
        if !self.tty {
            let length = u32::try_from(prefix.len() + line.text.len()).unwrap_or(u32::MAX);
            output.put_slice(&[1 + u8::from(line.stderr), 0, 0, 0]);
            output.put_u32(length);
        }
        output.put_slice(prefix.as_bytes());
        output.put_slice(&line.text);
        true
    }
}

/// `key=value,…` and a space, as Docker prints them.
fn details(record: &Record) -> String {
    let escape = |text: &str| {
        let mut escaped = String::new();
        for byte in text.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(char::from(byte)),
                b' ' => escaped.push('+'),
                _ => write!(escaped, "%{byte:02X}").expect("strings take everything"),
            }
        }
        escaped
    };
    let pairs: Vec<String> = log_config::details(record)
        .iter()
        .map(|(key, value)| format!("{}={}", escape(key), escape(value)))
        .collect();
    format!("{} ", pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framer(tty: bool, timestamps: bool) -> Framer {
        let options = LogsOptions {
            stdout: true,
            stderr: true,
            timestamps,
            ..LogsOptions::default()
        };
        Framer {
            tty,
            options,
            details: String::new(),
            whole: [true; 2],
        }
    }

    fn line(text: &'static str, time: &'static str) -> LogLine<'static> {
        LogLine {
            text: text.as_bytes().into(),
            stderr: false,
            time: time.into(),
        }
    }

    #[test]
    fn a_frame_has_stream_and_length() {
        let mut output = BytesMut::new();
        framer(false, false).frame(&line("hi\n", "2026-01-02T03:04:05Z"), &mut output);
        assert_eq!(&output[..], b"\x01\0\0\0\0\0\0\x03hi\n");
    }

    #[test]
    fn only_the_first_piece_of_a_line_has_a_time_with_nine_digits() {
        let mut framer = framer(true, true);
        let mut output = BytesMut::new();
        framer.frame(&line("long ", "2026-01-02T03:04:05.1Z"), &mut output);
        framer.frame(&line("line\n", "2026-01-02T03:04:05.2Z"), &mut output);
        assert_eq!(&output[..], b"2026-01-02T03:04:05.100000000Z long line\n");
    }

    #[test]
    fn until_ends_and_since_skips() {
        let mut framer = framer(true, false);
        framer.options.since = "2026-01-01T00:00:00Z".parse().ok();
        framer.options.until = "2026-01-03T00:00:00Z".parse().ok();
        let mut output = BytesMut::new();
        assert!(framer.frame(&line("early", "2025-12-31T00:00:00Z"), &mut output));
        assert!(framer.frame(&line("now", "2026-01-02T00:00:00Z"), &mut output));
        assert!(!framer.frame(&line("late", "2026-01-04T00:00:00Z"), &mut output));
        assert_eq!(&output[..], b"now");
    }
}

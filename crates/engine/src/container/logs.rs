//! `logs`: what a container printed, from the files of its log.
//!
//! Blocks are read and framed on a thread that may wait for the disk, many lines to a chunk. Whoever follows sleeps
//! until the kernel says that the log has grown; nobody polls.
use std::{
    fmt::Write,
    io,
    ops::ControlFlow,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
};

use bytes::Bytes;
use futures_util::Stream;
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::{
    container::{
        handle::{Handle, Snapshot},
        record::Record,
        view::LogsOptions,
    },
    context::{Context, blocking},
    error::{Error, Kind, Result},
    log::{
        entry::Entry,
        facts::Facts,
        files::{LogFiles, Reading, Start},
        place::Place,
        times::Clock,
        watch::Watch,
    },
};

/// What is read at once.
const BLOCK_BYTES: usize = 256 << 10;
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

    fn poll_next(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        self.chunks.poll_recv(context)
    }
}

/// Opens the log in `directory`.
pub async fn logs(
    context: &Arc<Context>,
    handle: Handle,
    directory: PathBuf,
    options: LogsOptions,
) -> Result<LogStream> {
    let snapshot = handle.snapshot();
    let record = &snapshot.record;
    if !options.stdout && !options.stderr {
        return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
    }
    let Some(place) = Place::of(record, &directory).filter(|place| place.readable) else {
        return Err(Error::new(
            Kind::NotImplemented,
            "configured logging driver does not support reading",
        ));
    };
    // Watched before the first read, so that nothing written in between goes unnoticed.
    let follow = options.follow && snapshot.state.phase.is_running();
    let failed = |error: io::Error| Error::system("cannot read the container's log").because(error);
    let watch = match follow {
        true => Some(context.keeper.watch(&directory).map_err(failed)?),
        false => None,
    };
    let start = match (options.tail, options.since) {
        (Some(lines), _) => Start::Last(lines),
        (None, Some(since)) => Start::Time(nanoseconds(since)),
        (None, None) => Start::Oldest,
    };
    let files = blocking(move || {
        LogFiles::open(place.path, place.format, start, follow)
            .map_err(|error| Error::system("cannot open the log").because(error))
    });
    let deadline = options.until.filter(|_| follow);
    let reader = Reader {
        files: files.await?,
        framer: Framer::new(record, options),
    };
    let (sender, chunks) = mpsc::channel(QUEUE);
    let tty = record.config.tty;
    tokio::spawn(pump(reader, sender, watch, handle, snapshot.exits, deadline));
    Ok(LogStream { tty, chunks })
}

fn nanoseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(if time < Timestamp::UNIX_EPOCH {
        i64::MIN
    } else {
        i64::MAX
    })
}

/// Until there is no more, the client is gone, or `deadline` is reached.
async fn pump(
    mut reader: Reader,
    sender: mpsc::Sender<io::Result<Bytes>>,
    watch: Option<Watch>,
    handle: Handle,
    exits: u64,
    deadline: Option<Timestamp>,
) {
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
            () = watch.changed() => {}
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

enum Chunk {
    Bytes(Bytes),
    /// Nothing more for now.
    End,
    /// Everything that follows is later than was asked for.
    Past,
}

struct Reader {
    files: LogFiles,
    framer: Framer,
}

impl Reader {
    fn next(&mut self) -> io::Result<Chunk> {
        loop {
            let mut output = Vec::with_capacity(BLOCK_BYTES + BLOCK_BYTES / 8);
            let framer = &mut self.framer;
            let reading = self.files.read(BLOCK_BYTES, |entry| framer.frame(entry, &mut output))?;
            return Ok(match reading {
                _ if !output.is_empty() => Chunk::Bytes(output.into()),
                Reading::End => Chunk::End,
                Reading::Stopped => Chunk::Past,
                Reading::Block => continue,
            });
        }
    }
}

/// Entries to what clients read.
struct Framer {
    tty: bool,
    options: LogsOptions,
    since: Option<i64>,
    until: Option<i64>,
    details: String,
    clock: Clock,
    /// Did the last piece of stdout and of stderr end its line? Only the first piece of a line has a prefix.
    whole: [bool; 2],
}

const HEADER_BYTES: usize = 8;

impl Framer {
    fn new(record: &Record, options: LogsOptions) -> Framer {
        Framer {
            tty: record.config.tty,
            details: if options.details {
                details(record)
            } else {
                String::new()
            },
            since: options.since.map(nanoseconds),
            until: options.until.map(nanoseconds),
            options,
            clock: Clock::default(),
            whole: [true; 2],
        }
    }

    /// Breaks when the entry is later than was asked for.
    fn frame(&mut self, entry: &Entry<'_>, output: &mut Vec<u8>) -> ControlFlow<()> {
        if self.since.is_some() || self.until.is_some() {
            let Some(time) = entry.time.nanoseconds() else {
                return ControlFlow::Continue(());
            };
            if self.until.is_some_and(|until| time > until) {
                return ControlFlow::Break(());
            }
            if self.since.is_some_and(|since| time < since) {
                return ControlFlow::Continue(());
            }
        }
        let wanted = if entry.stderr {
            self.options.stderr
        } else {
            self.options.stdout
        };
        if !wanted {
            return ControlFlow::Continue(());
        }
        let start = output.len();
        if !self.tty {
            output.extend_from_slice(&[1 + u8::from(entry.stderr), 0, 0, 0, 0, 0, 0, 0]);
        }
        let whole = &mut self.whole[usize::from(entry.stderr)];
        if *whole && self.options.timestamps {
            self.clock.append(entry.time.nanoseconds().unwrap_or_default(), output);
            output.push(b' ');
        }
        if *whole {
            output.extend_from_slice(self.details.as_bytes());
        }
        *whole = entry.ended;
        entry.text.append_to(output);
        if entry.ended {
            output.push(b'\n');
        }
        if !self.tty {
            let length = u32::try_from(output.len() - start - HEADER_BYTES).unwrap_or(u32::MAX);
            output[start + 4..start + HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
        }
        ControlFlow::Continue(())
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
    let pairs: Vec<String> = Facts::of(record)
        .details()
        .iter()
        .map(|(key, value)| format!("{}={}", escape(key), escape(value)))
        .collect();
    format!("{} ", pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::entry::{Text, Time};

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
            since: None,
            until: None,
            details: String::new(),
            clock: Clock::default(),
            whole: [true; 2],
        }
    }

    fn entry(text: &'static str, time: &'static str) -> Entry<'static> {
        let ended = text.ends_with('\n');
        Entry {
            text: Text::Plain(text.trim_end().as_bytes()),
            stderr: false,
            ended,
            continues: false,
            last: ended,
            time: Time::Text(time.as_bytes()),
        }
    }

    #[test]
    fn a_frame_has_stream_and_length() {
        let mut output = Vec::new();
        let _ = framer(false, false).frame(&entry("hi\n", "2026-01-02T03:04:05Z"), &mut output);
        assert_eq!(&output[..], b"\x01\0\0\0\0\0\0\x03hi\n");
    }

    #[test]
    fn only_the_first_piece_of_a_line_has_a_time_with_nine_digits() {
        let mut framer = framer(true, true);
        let mut output = Vec::new();
        let _ = framer.frame(&entry("long", "2026-01-02T03:04:05.1Z"), &mut output);
        let _ = framer.frame(&entry(" line\n", "2026-01-02T03:04:05.2Z"), &mut output);
        assert_eq!(&output[..], b"2026-01-02T03:04:05.100000000Z long line\n");
    }

    #[test]
    fn until_ends_and_since_skips() {
        let mut framer = framer(true, false);
        let time = |text: &str| text.parse().ok().map(nanoseconds);
        framer.since = time("2026-01-01T00:00:00Z");
        framer.until = time("2026-01-03T00:00:00Z");
        let mut output = Vec::new();
        assert!(
            framer
                .frame(&entry("early", "2025-12-31T00:00:00Z"), &mut output)
                .is_continue()
        );
        assert!(
            framer
                .frame(&entry("now", "2026-01-02T00:00:00Z"), &mut output)
                .is_continue()
        );
        assert!(
            framer
                .frame(&entry("late", "2026-01-04T00:00:00Z"), &mut output)
                .is_break()
        );
        assert_eq!(&output[..], b"now");
    }
}

//! `cp`: files between a container and this machine.
//!
//! What comes from a container is not trusted: it is extracted beneath the destination and nowhere else, whatever its names
//! and links say.
use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use corten_api::calls::Archive;
use corten_api::client::{self, Client, Streaming};
use corten_api::upload::Upload;
use corten_linux::transfer::{Chunked, Sink};
use corten_store::layer::error::LayerError;
use corten_store::layer::extract::{Target, extract};
use corten_store::layer::make::Owner;
use corten_store::layer::pack::{Packer, Rules};
use corten_store::layer::tar::{Kind, Reader};
use corten_store::layer::walk::on_a_deep_stack;
use futures_util::StreamExt;
use rustix::fs::{Mode, OFlags};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};

use crate::arguments::{Arity, Command, Flag, Matches, Outcome};
use crate::command::archive::read_pieces;
use crate::failure::{self, Failure};
use crate::local::{self, Side};
use crate::session::Session;
use crate::units;
use crate::{errln, terminal};

pub static CP: Command = Command {
    name: "cp",
    usage: "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tcorten cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    about: "Copy files between a container and the local file system",
    aliases: &["container cp", "cp"],
    flags: &[&[
        Flag::switch("archive", "Archive mode (copy all uid/gid information)").short('a'),
        Flag::switch("follow-link", "Always follow symbolic links in SRC_PATH").short('L'),
        Flag::switch(
            "quiet",
            "Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached",
        )
        .short('q'),
    ]],
    arity: Arity::Exactly(2),
    interspersed: true,
    run: |session, matches| Box::pin(cp(session, matches)),
};

/// How often the line of progress is looked at.
const BEAT: Duration = Duration::from_millis(75);
/// Pieces between the connection and the thread at the files.
const WAITING: usize = 4;
const PIECE_BYTES: usize = 256 * 1024;
/// Of a file, between two looks at the line of progress.
const CHUNK_BYTES: u64 = 16 << 20;

struct Copy {
    container: String,
    follow: bool,
    copy_owner: bool,
    quiet: bool,
}

async fn cp(session: Session, matches: Matches) -> Outcome {
    let (source, destination) = (matches.argument(0), matches.argument(1));
    for (name, argument) in [("source", source), ("destination", destination)] {
        if argument.is_empty() {
            return Err(Failure::new(format!("{name} can not be empty")));
        }
    }
    let quiet = match matches.given("quiet") {
        true => matches.on("quiet"),
        false => !terminal::stdout_is_terminal(),
    };
    let copy = |container: &str| Copy {
        container: container.to_string(),
        follow: matches.on("follow-link"),
        copy_owner: matches.on("archive"),
        quiet,
    };
    match (split(source), split(destination)) {
        ((Some(container), from), (None, to)) => copy(container).get(&*session.client().await?, from, to).await,
        ((None, from), (Some(container), to)) => copy(container).put(&*session.client().await?, from, to).await,
        ((Some(_), _), (Some(_), _)) => Err(Failure::new("copying between containers is not supported")),
        ((None, _), (None, _)) => Err(Failure::new("must specify at least one container source")),
    }?;
    Ok(0)
}

/// `CONTAINER:PATH`, or a path of this machine: one with a colon begins with `/` or `.`
fn split(argument: &str) -> (Option<&str>, &str) {
    if argument.starts_with('/') {
        return (None, argument);
    }
    match argument.split_once(':') {
        Some((container, path)) if !container.starts_with('.') && !container.is_empty() => (Some(container), path),
        _ => (None, argument),
    }
}

impl Copy {
    async fn get(&self, client: &Client, from: &str, to: &str) -> Result<(), Failure> {
        let to = match to {
            "-" => to.to_string(),
            path => local::absolute(path)?,
        };
        local::check_output(&to)?;
        let (mut from, mut name) = (from.to_string(), String::new());
        if self.follow
            && let Ok(stat) = client.stat_path(&self.container, &from).await
            && stat.is_symlink()
        {
            let target = match stat.link_target.starts_with('/') {
                true => stat.link_target,
                false => local::join(&local::split(&from).0, &stat.link_target),
            };
            (from, name) = local::followed(&from, &target);
        }
        let (body, stat) = client.read_path(&self.container, &from).await?;
        if to == "-" {
            return print(body).await;
        }
        let source = Side {
            path: from,
            exists: true,
            is_directory: stat.is_directory(),
            name,
        };
        let destination = local::destination(&to)?;
        let (directory, rename) = local::prepare(&source, &destination)?;
        let mut renames: Vec<(String, String)> = Vec::new();
        if !source.name.is_empty() {
            renames.push((local::split(&source.path).1, source.name.clone()));
        }
        renames.extend(rename);
        let progress = Progress::begin(!self.quiet, "Copying from container - ");
        let result = receive(body, directory, renames, progress.count.clone()).await;
        progress.end(&to);
        result
    }

    async fn put(&self, client: &Client, from: &str, to: &str) -> Result<(), Failure> {
        let from = match from {
            "-" => from.to_string(),
            path => local::absolute(path)?,
        };
        let mut destination = Side {
            path: to.to_string(),
            ..Side::default()
        };
        let mut stat = client.stat_path(&self.container, to).await;
        if let Ok(found) = &stat
            && found.is_symlink()
        {
            destination.path = match found.link_target.starts_with('/') {
                true => found.link_target.clone(),
                false => local::join(&local::split(to).0, &found.link_target),
            };
            stat = client.stat_path(&self.container, &destination.path).await;
        }
        if let Ok(found) = &stat {
            if found.is_device() {
                return Err(Failure::new(format!(
                    "destination \"{}:{to}\" must be a directory or a regular file: got a device",
                    self.container
                )));
            }
            destination.exists = true;
            destination.is_directory = found.is_directory();
        }
        if from == "-" {
            if !destination.is_directory {
                return Err(Failure::new(format!(
                    "destination \"{}:{to}\" must be a directory",
                    self.container
                )));
            }
            let archive = read_pieces(io::stdin(), None);
            return Ok(client
                .write_path(&self.container, &destination.path, self.copy_owner, archive)
                .await?);
        }
        let source = local::source(&from, self.follow)?;
        let (directory, rename) = local::prepare(&source, &destination)?;
        let name = match rename {
            Some((_, new)) => new,
            None if source.name.is_empty() => local::split(&source.path).1,
            None => source.name.clone(),
        };
        let progress = Progress::begin(!self.quiet, "Copying to container - ");
        let parts = Parts::of(&source, name)?;
        let upload = client.upload_path(&self.container, &directory, self.copy_owner).await?;
        let (sent, packed) = match upload {
            Some(upload) => write(parts, upload, progress.count.clone()).await?,
            None => {
                let (archive, packed) = pack(parts, progress.count.clone());
                let sent = client
                    .write_path(&self.container, &directory, self.copy_owner, archive)
                    .await;
                (sent, packed.await)
            }
        };
        progress.end(&format!("{}:{}", self.container, destination.path));
        // What could not be read here is why the daemon got half an archive.
        match packed {
            Ok(Err(LayerError::Write(_))) | Ok(Ok(())) | Err(_) => Ok(sent?),
            Ok(Err(error)) => Err(told(&error)),
        }
    }
}

/// The archive as it comes.
async fn print(mut body: Streaming) -> Result<(), Failure> {
    let out = rustix::io::dup(io::stdout()).map_err(|error| Failure::io("standard output", &error.into()))?;
    let mut out = File::from(out);
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| Failure::io("reading from the daemon", &error))?;
        out.write_all(&piece)
            .map_err(|error| Failure::io("writing the archive", &error))?;
    }
    Ok(())
}

/// Extracts on a thread of its own what the connection brings.
async fn receive(
    mut body: Streaming,
    directory: String,
    renames: Vec<(String, String)>,
    count: Arc<AtomicU64>,
) -> Result<(), Failure> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let extracted = tokio::task::spawn_blocking(move || {
        let unpack = || unpack(Pieces::new(receiver), &directory, &renames);
        on_a_deep_stack(unpack).map_err(|error| Failure::io("extracting", &error))?
    });
    while let Some(piece) = body.next().await {
        let length = piece.as_ref().map_or(0, Bytes::len);
        if sender.send(piece).await.is_err() {
            break;
        }
        count.fetch_add(length as u64, Ordering::Relaxed);
    }
    drop(sender);
    match extracted.await {
        Ok(result) => result,
        Err(_) => Err(Failure::new("extracting broke off")),
    }
}

fn unpack(pieces: Pieces, directory: &str, renames: &[(String, String)]) -> Result<(), Failure> {
    let root = open_directory(Path::new(directory))
        .map_err(|error| Failure::new(format!("open {directory}: {}", failure::reason(&error))))?;
    let target = Target {
        root: root.as_fd(),
        directory: root.as_fd(),
        path: b"",
        shown: directory.as_bytes(),
        keep_kinds: true,
        owner: Owner::Unchanged,
        owners: None,
    };
    let mut reader = Reader::new(pieces);
    extract(&mut reader, target, &mut |entry| {
        for (old, new) in renames {
            entry.path = local::renamed(&entry.path, old, new);
            if entry.kind == Kind::HardLink {
                entry.link = local::renamed(&entry.link, old, new);
            }
        }
    })
    .map(drop)
    .map_err(|error| told(&error))
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// An error with its cause.
fn told(error: &LayerError) -> Failure {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    Failure::new(match cause {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    })
}

/// Pieces of the answer's body as a reader; ends where they do.
struct Pieces {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Pieces {
    fn new(receiver: mpsc::Receiver<io::Result<Bytes>>) -> Pieces {
        Pieces {
            receiver,
            current: Bytes::new(),
        }
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.current = piece?,
                None => return Ok(&[]),
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, amount: usize) {
        let _ = self.current.split_to(amount);
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let chunk = self.fill_buf()?;
        let count = chunk.len().min(buffer.len());
        buffer[..count].copy_from_slice(&chunk[..count]);
        self.consume(count);
        Ok(count)
    }
}

type Packed = Result<Result<(), LayerError>, JoinError>;

/// What an archive is made of.
struct Parts {
    parent: OwnedFd,
    /// Within the parent.
    base: String,
    /// Within the archive.
    name: String,
}

impl Parts {
    fn of(source: &Side, name: String) -> Result<Parts, Failure> {
        let (directory, base) = local::split(&source.path);
        let parent = open_directory(Path::new(&directory))
            .map_err(|error| Failure::new(format!("open {directory}: {}", failure::reason(&error))))?;
        Ok(Parts { parent, base, name })
    }

    /// For a thread that may wait.
    fn write(&self, sink: &mut dyn Sink) -> Result<(), LayerError> {
        let pack = || {
            let mut packer = Packer::new(sink, Rules::default());
            match self.base.as_str() {
                "." | "/" => packer.add_directory(self.parent.as_fd(), format!("{}/", self.name).as_bytes())?,
                base => {
                    let base = std::ffi::CString::new(base).expect("arguments have no zero bytes");
                    packer.add(self.parent.as_fd(), &base, self.name.as_bytes())?;
                }
            }
            packer.finish()
        };
        on_a_deep_stack(pack).map_err(LayerError::Write).flatten()
    }
}

/// Packed straight onto the connection: the kernel sends what files have.
async fn write(
    parts: Parts,
    upload: Upload,
    count: Arc<AtomicU64>,
) -> Result<(Result<(), client::Error>, Packed), Failure> {
    let both = tokio::task::spawn_blocking(move || {
        let pack = || {
            let socket = upload.socket().map_err(LayerError::Write)?;
            let chunks = Chunked::begin(socket, upload.head()).map_err(LayerError::Write)?;
            let mut sending = Counting { sink: chunks, count };
            parts.write(&mut sending)?;
            sending.sink.finish().map(drop).map_err(LayerError::Write)
        };
        let packed = pack();
        // What could not be read here leaves half an archive, and nobody waits for what the daemon says of it.
        let unread = packed
            .as_ref()
            .is_err_and(|error| !matches!(error, LayerError::Write(_)));
        let sent = if unread { Ok(()) } else { upload.answer() };
        (sent, packed)
    });
    let (sent, packed) = both.await.map_err(|_| Failure::new("packing broke off"))?;
    Ok((sent, Ok(packed)))
}

/// Counts for the line of progress.
struct Counting {
    sink: Chunked,
    count: Arc<AtomicU64>,
}

impl Sink for Counting {
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.sink.bytes(bytes)
    }

    fn file(&mut self, file: BorrowedFd, offset: u64, length: u64) -> io::Result<()> {
        let mut done = 0;
        while done < length {
            let step = (length - done).min(CHUNK_BYTES);
            self.sink.file(file, offset + done, step)?;
            self.count.fetch_add(step, Ordering::Relaxed);
            done += step;
        }
        Ok(())
    }
}

/// The source as an archive, made by a thread of its own.
fn pack(parts: Parts, count: Arc<AtomicU64>) -> (Archive, JoinHandle<Result<(), LayerError>>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let packed = tokio::task::spawn_blocking(move || {
        let mut sending = Sending {
            sender: sender.clone(),
            count,
        };
        let result = parts.write(&mut sending);
        if result.is_err() {
            let _ = sender.blocking_send(Err(io::Error::other("the archive could not be made")));
        }
        result
    });
    let pieces = futures_util::stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    });
    (pieces.boxed(), packed)
}

/// Where the archive's bytes go.
struct Sending {
    sender: mpsc::Sender<io::Result<Bytes>>,
    count: Arc<AtomicU64>,
}

impl Sink for Sending {
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(PIECE_BYTES) {
            let sent = self.sender.blocking_send(Ok(Bytes::copy_from_slice(piece)));
            sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            self.count.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// A line that moves on standard error, and the last word.
struct Progress {
    count: Arc<AtomicU64>,
    shown: bool,
    line: Option<tokio::task::JoinHandle<()>>,
}

impl Progress {
    fn begin(shown: bool, header: &'static str) -> Progress {
        let count = Arc::new(AtomicU64::new(0));
        let line = (shown && io::stderr().is_terminal()).then(|| {
            let count = count.clone();
            tokio::spawn(async move {
                loop {
                    let size = units::decimal_size(count.load(Ordering::Relaxed) as f64, 3);
                    let _ = write!(io::stderr(), "\r\x1b[2K{header}{size}");
                    tokio::time::sleep(BEAT).await;
                }
            })
        });
        Progress { count, shown, line }
    }

    fn end(self, target: &str) {
        if let Some(line) = self.line {
            line.abort();
            let _ = write!(io::stderr(), "\r\x1b[2K");
        }
        if self.shown {
            let size = units::decimal_size(self.count.load(Ordering::Relaxed) as f64, 3);
            errln!("Successfully copied {size} to {target}");
        }
    }
}

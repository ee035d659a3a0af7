//! `cp`: what stands at a path, its files as a tar stream, and a tar stream into a directory.
//!
//! Paths mean what they mean to a process whose root is the container's. Names that a container can change are never
//! walked by us: `linux::fd` asks the kernel, and what follows is relative to descriptors.
use std::{
    ffi::CString,
    io::{self, BufRead, BufReader, Read},
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
};

use corten_linux::{
    fd::{self, open_in_root},
    transfer::Sink,
};
use corten_runtime::{process::identity, rootfs::stranger::become_for_files};
use corten_store::layer::{
    compress::{self, MAGIC, Peeked},
    error::LayerError,
    extract::{Target, extract},
    make::Owner,
    pack::{Packer, Rules, is_pseudo},
    tar::Reader,
    walk::on_a_deep_stack,
};
use jiff::Timestamp;
use rustix::{
    fs::{AtFlags, FileType, OFlags, StatVfsMountFlags, Statx, StatxFlags, fstatvfs, statx},
    io::Errno,
};

use crate::{
    container::{
        files::{self, Files, Purpose},
        handle::{Command, Handle},
        view::{PathStat, WriteOptions},
    },
    context::{Context, blocking},
    error::{Error, Kind, Result, causes},
};

/// Of what inflating gives.
const BUFFER: usize = 256 << 10;

/// Files on their way out: opened, and not read yet.
#[derive(Debug)]
pub struct Outgoing {
    pub stat: PathStat,
    files: Files,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Everything in it, under this name that ends with a slash.
    Directory(OwnedFd, Vec<u8>),
    /// One thing that is no directory, by its name in one.
    Entry(OwnedFd, CString),
}

/// A path that was looked up.
struct Found {
    stat: PathStat,
    source: Source,
}

/// What stands at `path`.
pub async fn stat(context: &Arc<Context>, handle: &Handle, reference: &str, path: &str) -> Result<PathStat> {
    let files = files::open(context, handle, Purpose::Read).await?;
    let (reference, path) = (reference.to_owned(), path.to_owned());
    blocking(move || Ok(look_up(&files, &reference, &path)?.stat)).await
}

/// The files at `path`, to be written out by [`Outgoing::write`].
pub async fn read(context: &Arc<Context>, handle: &Handle, reference: &str, path: &str) -> Result<Outgoing> {
    let files = files::open(context, handle, Purpose::Read).await?;
    let (reference, path) = (reference.to_owned(), path.to_owned());
    let outgoing = blocking(move || {
        let Found { stat, source } = look_up(&files, &reference, &path)?;
        Ok(Outgoing { stat, files, source })
    });
    let outgoing = outgoing.await?;
    tell(handle, "archive-path").await;
    Ok(outgoing)
}

impl Outgoing {
    /// Writes the archive, on a thread that may wait for whoever reads it.
    pub fn write(self, sink: &mut dyn Sink) -> io::Result<()> {
        let rules = Rules {
            hidden_mounts: self.files.hidden_mounts(),
            owners: self.files.owners.clone(),
        };
        on_a_deep_stack(|| {
            let mut packer = Packer::new(sink, rules);
            match &self.source {
                Source::Directory(directory, name) => packer.add_directory(directory.as_fd(), name)?,
                Source::Entry(parent, name) => packer.add(parent.as_fd(), name, name.to_bytes())?,
            }
            self.files.check_there()?;
            Ok(packer.finish()?)
        })?
    }
}

/// Extracts a tar stream, compressed or not, into the directory at `path`.
pub async fn write(
    context: &Arc<Context>,
    handle: &Handle,
    reference: &str,
    options: WriteOptions,
    archive: impl BufRead + Send + 'static,
) -> Result<()> {
    let files = files::open(context, handle, Purpose::Write).await?;
    let (reference, handle_of_reader) = (reference.to_owned(), handle.clone());
    blocking(move || {
        let archive = Watched {
            archive,
            handle: handle_of_reader,
        };
        let extract = || {
            if let Some((user, group)) = files.maker {
                // The thread ends with its work.
                become_for_files(user, group).map_err(|error| files_failed().because(error))?;
            }
            extract_into(&files, &reference, &options, archive)
        };
        on_a_deep_stack(extract).map_err(|error| files_failed().because(error))?
    })
    .await?;
    tell(handle, "extract-to-dir").await;
    Ok(())
}

async fn tell(handle: &Handle, action: &str) {
    let action = action.to_owned();
    let _ = handle.ask(|reply| Command::Tell { action, reply }).await;
}

/// An archive that ends when the container does not exist any more.
struct Watched<R> {
    archive: R,
    handle: Handle,
}

impl<R: BufRead> BufRead for Watched<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        // Not held while the archive is waited for: nobody could change the container meanwhile.
        let removed = self.handle.watch.borrow().removed;
        match removed {
            true => Err(io::Error::other("the container was removed")),
            false => self.archive.fill_buf(),
        }
    }

    fn consume(&mut self, amount: usize) {
        self.archive.consume(amount);
    }
}

impl<R: BufRead> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let chunk = self.fill_buf()?;
        let count = chunk.len().min(buffer.len());
        buffer[..count].copy_from_slice(&chunk[..count]);
        self.consume(count);
        Ok(count)
    }
}

fn extract_into(files: &Files, reference: &str, options: &WriteOptions, archive: impl BufRead) -> Result<()> {
    let path = clean(&options.path);
    let root = files.root();
    let directory =
        open_in_root(root, &path, OFlags::PATH).map_err(|error| unfound(error, reference, &options.path))?;
    let kind = fd::file_type(directory.as_fd()).map_err(|error| unfound(error, reference, &options.path))?;
    if kind != FileType::Directory {
        return Err(Error::invalid("extraction point is not a directory"));
    }
    if is_pseudo(directory.as_fd()) {
        return Err(unfound(Errno::NOENT.into(), reference, &options.path));
    }
    check_writable(files, &directory)?;
    let user = &files.record.config.user;
    let owner = match options.copy_owner && !user.is_empty() {
        true => {
            let identity = identity::look_up(root, user, &[]).map_err(|failure| Error::invalid(failure.message))?;
            Owner::Given(identity.uid, identity.gid)
        }
        false => Owner::Archived,
    };
    let target = Target {
        root,
        directory: directory.as_fd(),
        path: path.as_bytes(),
        shown: path.as_bytes(),
        keep_kinds: options.keep_kinds,
        owner,
        owners: files.owners.as_ref(),
    };
    let archive = inflated(archive).map_err(extraction)?;
    let mut reader = Reader::new(archive);
    extract(&mut reader, target, &mut |_| ()).map_err(extraction)?;
    // Whoever sends is not done before everything was taken.
    let rest = io::copy(&mut reader.into_inner(), &mut io::sink());
    rest.map(drop).map_err(|error| extraction(LayerError::Read(error)))
}

/// Told by the first bytes.
fn inflated<'a>(mut archive: impl BufRead + 'a) -> Result<Box<dyn BufRead + 'a>, LayerError> {
    let start = archive.fill_buf().map_err(LayerError::Read)?;
    if start.len() >= MAGIC {
        return Ok(match compress::detect(start)? {
            compress::Compression::None => Box::new(archive),
            compression => {
                let inflated = compress::inflate(compression, archive).map_err(LayerError::Read)?;
                Box::new(BufReader::with_capacity(BUFFER, inflated))
            }
        });
    }
    // A beginning in very small pieces.
    let peeked = Peeked::new(archive, MAGIC).map_err(LayerError::Read)?;
    let compression = compress::detect(peeked.start())?;
    let inflated = compress::inflate(compression, BufReader::new(peeked)).map_err(LayerError::Read)?;
    Ok(Box::new(BufReader::with_capacity(BUFFER, inflated)))
}

/// What is wrong with an archive is its sender's fault; the rest is what the container's files have said.
fn extraction(error: LayerError) -> Error {
    let kind = match &error {
        LayerError::File { source, .. } => match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::ROFS | Errno::ACCESS | Errno::PERM) => Kind::Forbidden,
            Some(Errno::NOSPC | Errno::DQUOT | Errno::IO) => Kind::System,
            _ => Kind::Invalid,
        },
        LayerError::Write(_) => Kind::System,
        _ => Kind::Invalid,
    };
    Error::new(kind, causes(&error))
}

fn check_writable(files: &Files, directory: &OwnedFd) -> Result<()> {
    let unreadable = |error: io::Error| files_failed().because(error);
    let root = fd::mount_id(files.root()).map_err(unreadable)?;
    let on_root = fd::mount_id(directory.as_fd()).map_err(unreadable)? == root;
    let vfs = fstatvfs(directory).map_err(|error| unreadable(error.into()))?;
    let read_only = vfs.f_flag.contains(StatVfsMountFlags::RDONLY);
    let forbidden = |message: &str| Err(Error::new(Kind::Forbidden, message));
    match on_root {
        true if read_only || files.record.host_config.readonly_rootfs => {
            forbidden("container rootfs is marked read-only")
        }
        false if read_only => forbidden("mounted volume is marked read-only"),
        _ => Ok(()),
    }
}

fn files_failed() -> Error {
    Error::system("cannot read the container's files")
}

/// By the letters alone, absolute, without `.` and `..`.
fn clean(path: &str) -> String {
    crate::container::mount_request::clean(path)
}

/// A trailing `/` or `/.` asks for a directory, also through a link.
fn look_up(files: &Files, reference: &str, path: &str) -> Result<Found> {
    let cleaned = clean(path);
    let here = path == "." || path.ends_with("/.");
    let unfound = |error| unfound(error, reference, path);
    let root = files.root();
    if cleaned == "/" || here || path.ends_with('/') {
        let name = match cleaned.rsplit('/').next() {
            _ if here => ".",
            Some("") | None => "/",
            Some(name) => name,
        };
        let directory = open_in_root(root, &cleaned, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK);
        let directory = directory.map_err(unfound)?;
        return as_directory(directory, name, reference, path);
    }
    let (parent, name) = cleaned.rsplit_once('/').expect("an absolute path has a slash");
    let parent = open_in_root(root, parent, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK);
    let parent = parent.map_err(unfound)?;
    // Docker's view of a container has no /proc and no /sys.
    if is_pseudo(parent.as_fd()) {
        return Err(unfound(Errno::NOENT.into()));
    }
    let name = CString::new(name).map_err(|_| unfound(Errno::NOENT.into()))?;
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let stat = statx(&parent, &name, flags, StatxFlags::BASIC_STATS).map_err(|error| unfound(error.into()))?;
    let base = name.to_string_lossy().into_owned();
    if kind(&stat) == FileType::Directory {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(&parent, &name, flags, rustix::fs::Mode::empty());
        let directory = directory.map_err(|error| unfound(error.into()))?;
        return as_directory(directory, &base, reference, path);
    }
    let link_target = match kind(&stat) {
        FileType::Symlink => fd::real_path(root, &cleaned).map_err(unfound)?,
        _ => PathBuf::new(),
    };
    Ok(Found {
        stat: PathStat {
            link_target: link_target.to_string_lossy().into_owned(),
            ..path_stat(&stat, base)
        },
        source: Source::Entry(parent, name),
    })
}

fn as_directory(directory: OwnedFd, name: &str, reference: &str, path: &str) -> Result<Found> {
    let unfound = |error| unfound(error, reference, path);
    let flags = AtFlags::EMPTY_PATH;
    let stat = statx(&directory, c"", flags, StatxFlags::BASIC_STATS).map_err(|error| unfound(error.into()))?;
    // The place of such a mount is a directory of the container's, and what is in it is not.
    let hidden = is_pseudo(directory.as_fd());
    let stat = path_stat(&stat, name.to_owned());
    let label = if name == "/" {
        "/".to_owned()
    } else {
        format!("{name}/")
    };
    let directory = match hidden {
        true => empty().map_err(unfound)?,
        false => directory,
    };
    Ok(Found {
        stat,
        source: Source::Directory(directory, label.into_bytes()),
    })
}

/// A directory with nothing in it: a tmpfs that nobody else sees.
fn empty() -> io::Result<OwnedFd> {
    let context = corten_linux::mount::open_filesystem("tmpfs")?;
    corten_linux::mount::finish(context.as_fd(), rustix::mount::MountAttrFlags::MOUNT_ATTR_NODEV)
}

fn unfound(error: io::Error, reference: &str, path: &str) -> Error {
    // What goes on behind a file is not there either.
    let missing = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    if missing {
        return Error::not_found(format!("Could not find the file {path} in container {reference}"));
    }
    let reason = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::LOOP) => "too many levels of symbolic links".to_owned(),
        Some(Errno::NAMETOOLONG) => "file name too long".to_owned(),
        Some(Errno::ACCESS | Errno::PERM) => "permission denied".to_owned(),
        _ => return files_failed().because(error),
    };
    Error::invalid(format!("lstat {path}: {reason}"))
}

fn kind(stat: &Statx) -> FileType {
    FileType::from_raw_mode(stat.stx_mode.into())
}

fn path_stat(stat: &Statx, name: String) -> PathStat {
    let modified = Timestamp::new(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec as i32);
    PathStat {
        name,
        size: i64::try_from(stat.stx_size).unwrap_or(i64::MAX),
        mode: go_mode(stat.stx_mode.into()),
        modified: modified.unwrap_or_default(),
        link_target: String::new(),
    }
}

/// Go's `FileMode`: the kinds are bits of their own.
fn go_mode(mode: u32) -> u32 {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => 1 << 31,
        FileType::Symlink => 1 << 27,
        FileType::BlockDevice => 1 << 26,
        FileType::CharacterDevice => 1 << 26 | 1 << 21,
        FileType::Fifo => 1 << 25,
        FileType::Socket => 1 << 24,
        _ => 0,
    };
    let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    let special = special.iter().filter(|(bit, _)| mode & bit != 0).map(|(_, go)| go);
    mode & 0o777 | kind | special.sum::<u32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        assert_eq!(go_mode(0o100644), 0o644);
        assert_eq!(go_mode(0o104755), 0o755 | 1 << 23);
        assert_eq!(go_mode(0o041777), 0o777 | 1 << 31 | 1 << 20);
        assert_eq!(go_mode(0o120777), 0o777 | 1 << 27);
        assert_eq!(go_mode(0o020666), 0o666 | 1 << 26 | 1 << 21);
        assert_eq!(go_mode(0o060660), 0o660 | 1 << 26);
        assert_eq!(go_mode(0o010600), 0o600 | 1 << 25);
        assert_eq!(go_mode(0o140700), 0o700 | 1 << 24);
    }
}

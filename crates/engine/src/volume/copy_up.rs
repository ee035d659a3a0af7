//! A new volume takes the files that the image has in its place.
//!
//! The image's layers are stacked by the kernel into a detached mount that no namespace ever sees, and the target is
//! resolved beneath it: a symbolic link of the image's leads nowhere else. From there on everything is relative to
//! file descriptors. Ownership, modes, times, links and extended attributes are kept; devices and sockets are not
//! copied.
use std::{
    ffi::CStr,
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use corten_store::store::Store;
use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
        openat,
    },
    io::Errno,
};

use crate::error::{Error, Result};

/// Deeper trees are refused: recursion must end.
const DEPTH: usize = 256;
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Copies what `layers` have at `target` into the empty directory `volume`. Nothing there is fine.
pub fn copy_up(store: &Store, layers: &[String], target: &str, volume: &Path) -> Result<()> {
    if layers.is_empty() {
        return Ok(());
    }
    let directory = openat(CWD, volume, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
        .map_err(|error| Error::system(format!("cannot open {}", volume.display())).because(io::Error::from(error)))?;
    copy_up_into(store, layers, target, directory.as_fd())
}

/// The same into an open directory, which may have something in it: then it is left as it is.
pub fn copy_up_into(store: &Store, layers: &[String], target: &str, volume: BorrowedFd<'_>) -> Result<()> {
    if layers.is_empty() {
        return Ok(());
    }
    let copied = is_empty(volume).and_then(|empty| match empty {
        true => copy(store, layers, target, volume),
        false => Ok(()),
    });
    copied.map_err(|error| Error::system(format!("cannot copy the image's {target} into its volume")).because(error))
}

/// A file system of its own begins with this one.
const FOUND: &CStr = c"lost+found";

fn is_empty(directory: BorrowedFd<'_>) -> io::Result<bool> {
    let readable = openat(directory, c".", DIRECTORY, Mode::empty())?;
    for entry in Dir::read_from(&readable)? {
        let entry = entry?;
        if ![c".", c"..", FOUND].contains(&entry.file_name()) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn copy(store: &Store, layers: &[String], target: &str, volume: BorrowedFd<'_>) -> io::Result<()> {
    let lowers = store.active("none", layers).lowers;
    let root = stack(&lowers.iter().map(|path| path.as_path()).collect::<Vec<_>>())?;
    let flags = DIRECTORY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let source = match rustix::fs::openat2(&root, target.trim_start_matches('/'), flags, Mode::empty(), resolve) {
        Ok(source) => source,
        // Not there, or no directory: Docker leaves the volume empty as well.
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let destination = openat(volume, c".", flags, Mode::empty())?;
    copy_directory(source.as_fd(), destination.as_fd(), 0)?;
    copy_attributes(source.as_fd(), destination.as_fd(), &rustix::fs::fstat(&source)?)
}

/// Layers, topmost first, as one read-only tree.
fn stack(lowers: &[&Path]) -> io::Result<OwnedFd> {
    if let [only] = lowers {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        return Ok(rustix::fs::openat(CWD, *only, flags, Mode::empty())?);
    }
    let lowers: Vec<PathBuf> = lowers.iter().map(|lower| lower.to_path_buf()).collect();
    corten_runtime::rootfs::overlay::read_only(&lowers)
}

fn copy_directory(source: BorrowedFd<'_>, destination: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
    if depth > DEPTH {
        return Err(io::Error::other("directories are nested too deeply"));
    }
    for entry in Dir::read_from(source)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = rustix::fs::statat(source, name, AtFlags::SYMLINK_NOFOLLOW)?;
        copy_entry(source, destination, name, &stat, depth)?;
    }
    Ok(())
}

fn copy_entry(
    source: BorrowedFd<'_>,
    destination: BorrowedFd<'_>,
    name: &CStr,
    stat: &Stat,
    depth: usize,
) -> io::Result<()> {
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            rustix::fs::mkdirat(destination, name, Mode::RWXU)?;
            let from = rustix::fs::openat(source, name, directory, Mode::empty())?;
            let to = rustix::fs::openat(destination, name, directory, Mode::empty())?;
            copy_directory(from.as_fd(), to.as_fd(), depth + 1)?;
            copy_attributes(from.as_fd(), to.as_fd(), stat)
        }
        FileType::RegularFile => {
            let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut from = File::from(rustix::fs::openat(source, name, read, Mode::empty())?);
            let mut to = File::from(rustix::fs::openat(destination, name, write, Mode::RUSR | Mode::WUSR)?);
            io::copy(&mut from, &mut to)?;
            copy_attributes(from.as_fd(), to.as_fd(), stat)
        }
        FileType::Symlink => {
            let link = rustix::fs::readlinkat(source, name, Vec::new())?;
            rustix::fs::symlinkat(link, destination, name)?;
            let (owner, group) = owner(stat);
            Ok(rustix::fs::chownat(
                destination,
                name,
                owner,
                group,
                AtFlags::SYMLINK_NOFOLLOW,
            )?)
        }
        FileType::Fifo => {
            rustix::fs::mknodat(destination, name, FileType::Fifo, mode, 0)?;
            let (owner, group) = owner(stat);
            Ok(rustix::fs::chownat(
                destination,
                name,
                owner,
                group,
                AtFlags::SYMLINK_NOFOLLOW,
            )?)
        }
        _ => Ok(()),
    }
}

fn owner(stat: &Stat) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
}

/// Owner before mode: changing the owner takes set-user-ID bits away.
fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
    let (owner, group) = owner(stat);
    rustix::fs::fchown(to, owner, group)?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    copy_extended(from, to)?;
    let time = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or_default(),
    };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    Ok(rustix::fs::futimens(to, &times)?)
}

fn copy_extended(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let mut names = vec![0_u8; 64 << 10];
    let length = match rustix::fs::flistxattr(from, names.as_mut_slice()) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        length => length?,
    };
    let mut value = vec![0_u8; 64 << 10];
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let name = CStr::from_bytes_with_nul(name).map_err(io::Error::other)?;
        // Overlayfs's own are no attributes of the file.
        if name.to_bytes().starts_with(b"trusted.overlay.") {
            continue;
        }
        let length = rustix::fs::fgetxattr(from, name, value.as_mut_slice())?;
        match rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty()) {
            Err(Errno::OPNOTSUPP) => {}
            set => set?,
        }
    }
    Ok(())
}

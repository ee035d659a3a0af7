//! The files of a log that rotates: `x` is written, `x.1` (or `x.1.gz`) is older, `x.2` older still.
//!
//! The daemon turns older files into compressed ones. Whoever renames, it or a shim, holds a lock on the directory; a
//! shim that does not get it at once rotates a little later.
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};

use super::position::{self, Position};

pub const COMPRESSED: &str = ".gz";

/// The file that was rotated so many times; the present one for 0.
pub fn name(path: &Path, age: u32) -> PathBuf {
    if age == 0 {
        return path.to_owned();
    }
    suffixed(path, &format!(".{age}"))
}

/// Its compressed form.
pub fn compressed(path: &Path, age: u32) -> PathBuf {
    suffixed(path, &format!(".{age}{COMPRESSED}"))
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

pub fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(path)
}

/// The right to rename the files of a directory, until it is dropped.
pub struct Lock {
    _directory: OwnedFd,
}

impl Lock {
    pub fn wait(directory: &Path) -> io::Result<Lock> {
        Lock::with(directory, FlockOperation::LockExclusive)
    }

    /// Fails with `WouldBlock` while somebody else has it.
    pub fn try_now(directory: &Path) -> io::Result<Lock> {
        Lock::with(directory, FlockOperation::NonBlockingLockExclusive)
    }

    fn with(directory: &Path, operation: FlockOperation) -> io::Result<Lock> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(directory, flags, Mode::empty())?;
        flock(&directory, operation)?;
        Ok(Lock { _directory: directory })
    }
}

/// x → x.1 → x.2 …; the oldest falls off. What fails leaves the log where it is.
pub fn shift(path: &Path, max_files: u32) {
    if max_files <= 1 {
        let _ = fs::remove_file(path);
        return;
    }
    let oldest = max_files - 1;
    let _ = fs::remove_file(name(path, oldest));
    let _ = fs::remove_file(compressed(path, oldest));
    for age in (1..oldest).rev() {
        let _ = fs::rename(name(path, age), name(path, age + 1));
        let _ = fs::rename(compressed(path, age), compressed(path, age + 1));
    }
    let _ = fs::rename(path, name(path, 1));
}

/// Would the next rotation drop a file that a remote is still to get, where that must not be?
pub fn must_hold(path: &Path, max_files: u32) -> bool {
    let Some(directory) = path.parent() else { return false };
    let Ok(file) = File::open(directory.join(position::FILE)) else {
        return false;
    };
    let Some(position) = Position::read(&file).filter(|position| position.hold) else {
        return false;
    };
    let oldest = name(path, max_files.max(1) - 1);
    fs::metadata(oldest).is_ok_and(|metadata| metadata.ino() == position.inode)
}

//! Reading and writing the small files of a cgroup directory.
//!
//! One `write(2)` is one command to the kernel: a value is never split, and the error of that call is the answer.
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::error::Error;

/// Writes each value with one call of its own, through one descriptor.
pub fn write_all<'v>(directory: impl AsFd, file: &str, values: impl IntoIterator<Item = &'v str>) -> io::Result<()> {
    let file = rustix::fs::openat(directory, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    for value in values {
        rustix::io::retry_on_intr(|| rustix::io::write(&file, value.as_bytes()))?;
    }
    Ok(())
}

pub fn write(path: &Path, value: &str) -> io::Result<()> {
    write_all(CWD, path.to_str().ok_or(io::ErrorKind::InvalidInput)?, [value])
}

/// The whole file. Unlike `std::fs::read_to_string` it asks no size first: cgroup files have none.
pub fn read(path: &Path) -> io::Result<String> {
    read_whole(&rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// The same beneath a directory.
pub fn read_at(directory: impl AsFd, file: &str) -> io::Result<String> {
    read_whole(&rustix::fs::openat(
        directory,
        file,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

fn read_whole(file: &OwnedFd) -> io::Result<String> {
    let mut text = Vec::with_capacity(4096);
    loop {
        if text.capacity() - text.len() < 1024 {
            text.reserve(text.capacity());
        }
        let n = rustix::io::retry_on_intr(|| rustix::io::read(file, rustix::buffer::spare_capacity(&mut text)))?;
        if n == 0 {
            return String::from_utf8(text).map_err(|_| io::ErrorKind::InvalidData.into());
        }
    }
}

/// A file with one number; `None` for `max`.
pub fn read_number(path: &Path) -> io::Result<Option<u64>> {
    let text = read(path)?;
    Ok(text.trim().parse().ok())
}

/// Lines of `name value`.
pub fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (name, value) = line.split_once(' ')?;
        Some((name, value.trim().parse().ok()?))
    })
}

/// `Ok(None)` instead of "no such file": the cgroup is gone, or its controller does not have the file.
pub fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if is_gone(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Does an error say that the file, or its cgroup, is not there any more?
pub fn is_gone(error: &io::Error) -> bool {
    // A file of a cgroup that was removed after the open answers ENODEV.
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

pub fn make_directory(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::mkdir(path, Mode::from_raw_mode(0o755))?)
}

/// The directories below `path`, and `path` itself last: the order in which they can be removed.
pub fn tree(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    walk(path, &mut found)?;
    Ok(found)
}

fn walk(path: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let Some(directory) = if_there(rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from))? else {
        return Ok(());
    };
    // Two links and one for each child: most containers make none, and are not listed.
    let has_children = rustix::fs::fstat(&directory)?.st_nlink > 2;
    if has_children {
        for entry in Dir::new(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if entry.file_type() == FileType::Directory && name != c"." && name != c".." {
                walk(
                    &path.join(name.to_str().map_err(|_| io::ErrorKind::InvalidData)?),
                    found,
                )?;
            }
        }
    }
    found.push(path.to_owned());
    Ok(())
}

/// Removes a cgroup with all beneath it. Dying processes hold it for a moment: that is waited for, up to `patience`.
pub fn remove_tree(path: &Path, patience: Duration) -> Result<(), Error> {
    let started = Instant::now();
    let mut pause = Duration::from_micros(100);
    loop {
        match remove_once(path) {
            Ok(()) => return Ok(()),
            Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) if started.elapsed() < patience => {}
            Err(e) => return Err(Error::io("remove cgroup", path, e)),
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn remove_once(path: &Path) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR) {
        Err(Errno::BUSY) => {}
        other => return other,
    }
    let below = tree(path).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    for directory in &below {
        match rustix::fs::unlinkat(CWD, directory, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

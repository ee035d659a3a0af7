//! Paths beneath a directory that someone else may be changing: resolved by the kernel, never walked by name.
//!
//! "In root" means what `chroot(2)` means: `..` stops at the root and absolute symbolic links begin there.
use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags, fstat, mkdirat, openat, openat2, readlinkat, statx,
    },
    io::Errno,
};

/// Renames elsewhere make the kernel ask for a retry when `..` is involved.
const RETRIES: usize = 64;
/// As the kernel's own limit.
const SYMLINKS_MAX: usize = 40;

/// Opens `path` as a process whose root is `root` would, but through no magic link of procfs.
pub fn open_in_root(root: BorrowedFd, path: impl AsRef<Path>, flags: OFlags) -> io::Result<OwnedFd> {
    open_resolved(
        root,
        path.as_ref(),
        flags,
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
}

/// Opens `path` beneath `root` and refuses symbolic links in every component.
pub fn open_without_links(root: BorrowedFd, path: impl AsRef<Path>, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    open_resolved(root, path.as_ref(), flags, resolve)
}

/// Opens `path` beneath `root`; one that leads out of it, by `..` or by a symbolic link, fails with EXDEV.
pub fn open_beneath(root: BorrowedFd, path: impl AsRef<Path>, flags: OFlags) -> io::Result<OwnedFd> {
    open_resolved(
        root,
        path.as_ref(),
        flags,
        ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
    )
}

fn open_resolved(root: BorrowedFd, path: &Path, flags: OFlags, resolve: ResolveFlags) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    for _ in 0..RETRIES {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => continue,
            result => return Ok(result?),
        }
    }
    Err(Errno::AGAIN.into())
}

/// What [`ensure`] makes when nothing is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    Directory,
    /// An empty regular file.
    File,
}

/// An O_PATH descriptor of `path` in `root`; what is missing of it is made, directories with mode 0755.
///
/// Symbolic links are followed within the root, also those that dangle: their targets are made.
pub fn ensure(root: BorrowedFd, path: impl AsRef<Path>, make: Make) -> io::Result<OwnedFd> {
    let path = path.as_ref();
    match open_in_root(root, path, OFlags::PATH) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => create_in_root(root, path, make),
        result => result,
    }
}

fn create_in_root(root: BorrowedFd, path: &Path, make: Make) -> io::Result<OwnedFd> {
    let mut walked = PathBuf::new();
    let mut here: OwnedFd = open_without_links(root, ".", OFlags::PATH | OFlags::DIRECTORY)?;
    let mut rest = components(path);
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            walked.pop();
            here = open_without_links(root, &walked, OFlags::PATH | OFlags::DIRECTORY)?;
            continue;
        }
        let last = rest.is_empty();
        let next = match openat(
            &here,
            &*name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        ) {
            Err(Errno::NOENT) => create_one(here.as_fd(), &name, if last { make } else { Make::Directory })?,
            result => result?,
        };
        if FileType::from_raw_mode(fstat(&next)?.st_mode) == FileType::Symlink {
            links += 1;
            if links > SYMLINKS_MAX {
                return Err(Errno::LOOP.into());
            }
            let target = readlinkat(&next, c"", Vec::new())?;
            let target = Path::new(OsStr::from_bytes(target.to_bytes()));
            if target.is_absolute() {
                walked.clear();
                here = open_without_links(root, ".", OFlags::PATH | OFlags::DIRECTORY)?;
            }
            for name in components(target).into_iter().rev() {
                rest.push_front(name);
            }
            continue;
        }
        walked.push(&name);
        here = next;
    }
    Ok(here)
}

/// Where `path` leads in `root` when every symbolic link on the way is followed, the last one too: a plain absolute path.
/// What follows a component that is not there is only read, not looked at.
pub fn real_path(root: BorrowedFd, path: impl AsRef<Path>) -> io::Result<PathBuf> {
    let mut walked = PathBuf::new();
    let mut rest = components(path.as_ref());
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            walked.pop();
            continue;
        }
        walked.push(&name);
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        // The last component may be a link: it is what is opened.
        let here = match open_without_links(root, &walked, flags) {
            Ok(here) => here,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                for name in rest {
                    match name == ".." {
                        true => drop(walked.pop()),
                        false => walked.push(name),
                    }
                }
                break;
            }
            Err(error) => return Err(error),
        };
        if file_type(here.as_fd())? == FileType::Symlink {
            links += 1;
            if links > SYMLINKS_MAX {
                return Err(Errno::LOOP.into());
            }
            let target = readlinkat(&here, c"", Vec::new())?;
            let target = Path::new(OsStr::from_bytes(target.to_bytes()));
            walked.pop();
            if target.is_absolute() {
                walked.clear();
            }
            for name in components(target).into_iter().rev() {
                rest.push_front(name);
            }
        }
    }
    Ok(Path::new("/").join(walked))
}

fn components(path: &Path) -> VecDeque<OsString> {
    let parts = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    });
    parts.collect()
}

fn create_one(directory: BorrowedFd, name: &OsStr, make: Make) -> io::Result<OwnedFd> {
    match make {
        Make::Directory => {
            match mkdirat(directory, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            Ok(openat(
                directory,
                name,
                OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )?)
        }
        Make::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Ok(openat(directory, name, flags, Mode::from_raw_mode(0o644))?)
        }
    }
}

/// The file type behind a descriptor.
pub fn file_type(fd: BorrowedFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode))
}

/// The number of the mount that a descriptor lies on.
pub fn mount_id(fd: BorrowedFd) -> io::Result<u64> {
    Ok(statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let directory = tempfile::tempdir().unwrap();
        let fd = fs::File::open(directory.path()).unwrap().into();
        (directory, fd)
    }

    #[test]
    fn ensure_makes_what_is_missing() {
        let (directory, root) = root();
        ensure(root.as_fd(), "/a/b/c", Make::File).unwrap();
        assert!(directory.path().join("a/b/c").is_file());
        ensure(root.as_fd(), "/a/d", Make::Directory).unwrap();
        assert!(directory.path().join("a/d").is_dir());
    }

    #[test]
    fn ensure_never_leaves_the_root() {
        let (directory, root) = root();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), directory.path().join("absolute")).unwrap();
        symlink("../../../../../../../..", directory.path().join("upwards")).unwrap();
        ensure(root.as_fd(), "absolute/made", Make::Directory).unwrap();
        ensure(root.as_fd(), "upwards/made", Make::Directory).unwrap();
        ensure(root.as_fd(), "/../../made-too", Make::Directory).unwrap();
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        assert!(directory.path().join("made").is_dir());
        assert!(directory.path().join("made-too").is_dir());
        let inside = directory.path().join(outside.path().strip_prefix("/").unwrap());
        assert!(inside.join("made").is_dir());
    }

    #[test]
    fn a_real_path_has_no_links_and_stays_in_the_root() {
        let (directory, root) = root();
        fs::create_dir_all(directory.path().join("a/b")).unwrap();
        symlink("/a", directory.path().join("absolute")).unwrap();
        symlink("../../../absolute/b", directory.path().join("a/b/up")).unwrap();
        symlink("missing/../x", directory.path().join("a/dangling")).unwrap();
        symlink("loop", directory.path().join("loop")).unwrap();
        for (path, real) in [
            ("/", "/"),
            ("a/b", "/a/b"),
            ("/absolute/b/up/c", "/a/b/c"),
            ("../../absolute", "/a"),
            ("a/dangling", "/a/x"),
            ("no/such/../thing", "/no/thing"),
        ] {
            assert_eq!(real_path(root.as_fd(), path).unwrap(), Path::new(real), "{path}");
        }
        assert!(real_path(root.as_fd(), "loop").is_err());
    }

    #[test]
    fn beneath_means_beneath() {
        let (directory, root) = root();
        fs::create_dir_all(directory.path().join("a/b")).unwrap();
        symlink("b", directory.path().join("a/inner")).unwrap();
        symlink("/etc", directory.path().join("absolute")).unwrap();
        symlink("../../..", directory.path().join("a/upwards")).unwrap();
        open_beneath(root.as_fd(), "a/inner", OFlags::PATH).unwrap();
        for path in ["absolute", "a/upwards", "a/../..", "/a"] {
            let error = open_beneath(root.as_fd(), path, OFlags::PATH).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(Errno::XDEV.raw_os_error()), "{path}");
        }
    }

    #[test]
    fn endless_links_are_an_error() {
        let (directory, root) = root();
        symlink("b/x", directory.path().join("a")).unwrap();
        symlink("a/x", directory.path().join("b")).unwrap();
        assert!(ensure(root.as_fd(), "a/c", Make::Directory).is_err());
    }
}

//! Walking to directories inside a layer that is being unpacked.
//!
//! No name of an archive is ever resolved by the kernel in one go: every component is opened relative to its parent and
//! without following links. A symbolic link that stands where a directory should is followed here, as `chroot` would,
//! except that climbing above the root is refused instead of being stopped there.
use std::{
    collections::{HashMap, VecDeque},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::Rc,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, RawMode, Stat, mkdirat, openat, readlinkat, statat, unlinkat},
    io::Errno,
};

use crate::layer::error::LayerError;

/// Archives go through a tree in order, so few are in use at once; several loads must fit under 1024 descriptors.
const CACHE: usize = 200;
/// Of directories; deletion holds one descriptor per level.
const MAX_DEPTH: usize = 512;
/// The kernel's limit.
const MAX_NAME: usize = 255;
const MAX_LINKS: usize = 40;

#[derive(Debug)]
pub struct Directories {
    root: Rc<OwnedFd>,
    cache: HashMap<Vec<u8>, Rc<OwnedFd>>,
}

/// Makes a name of an archive relative and plain, as Docker does: `/a/./b/../c/` is `a/c`. Empty for the root itself.
pub fn clean(path: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut components: Vec<&[u8]> = Vec::new();
    for component in path.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." if components.pop().is_none() => return Err("its name leads out of the root"),
            b".." => {}
            long if long.len() > MAX_NAME => return Err("its name has a component longer than 255 bytes"),
            component => components.push(component),
        }
    }
    match components.len() > MAX_DEPTH {
        true => Err("it is nested too deeply"),
        false => Ok(components.join(&b'/')),
    }
}

/// Parent and last component of a clean path.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memrchr(b'/', path) {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Overlayfs's mark for "nothing here".
pub fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode as RawMode) == FileType::CharacterDevice && stat.st_rdev == 0
}

impl Directories {
    pub fn new(root: OwnedFd) -> Directories {
        Directories {
            root: Rc::new(root),
            cache: HashMap::new(),
        }
    }

    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Forgets what was opened: something on the way was replaced.
    pub fn forget(&mut self) {
        self.cache.clear();
    }

    /// The directory at a clean path. Missing ones are made when `create` says so, else `None`.
    pub fn open(&mut self, path: &[u8], create: bool, entry: &[u8]) -> Result<Option<Rc<OwnedFd>>, LayerError> {
        if path.is_empty() {
            return Ok(Some(self.root.clone()));
        }
        if let Some(found) = self.cache.get(path) {
            return Ok(Some(found.clone()));
        }
        // The longest beginning that is known, then one component after the other.
        let mut known = path;
        let mut current = loop {
            known = split(known).0;
            match self.cache.get(known) {
                Some(found) => break found.clone(),
                None if known.is_empty() => break self.root.clone(),
                None => {}
            }
        };
        let mut done = known.len();
        while done < path.len() {
            let start = if done == 0 { 0 } else { done + 1 };
            let end = memchr::memchr(b'/', &path[start..]).map_or(path.len(), |slash| start + slash);
            let next = match open_component(current.as_fd(), &path[start..end], create, entry)? {
                Step::Directory(next) => next,
                Step::Missing => return Ok(None),
                Step::Link => match self.follow(&path[..end], create, entry)? {
                    Some(next) => next,
                    None => return Ok(None),
                },
            };
            current = Rc::new(next);
            if self.cache.len() >= CACHE {
                self.cache.clear();
            }
            self.cache.insert(path[..end].to_vec(), current.clone());
            done = end;
        }
        Ok(Some(current))
    }

    /// The slow way: from the root, through symbolic links.
    fn follow(&self, path: &[u8], create: bool, entry: &[u8]) -> Result<Option<OwnedFd>, LayerError> {
        // Components still to walk, with whether they come from a link: what links name must be there.
        let own = |component: &[u8]| (component.to_vec(), false);
        let mut pending: VecDeque<_> = path.split(|&byte| byte == b'/').map(own).collect();
        let mut stack: Vec<OwnedFd> = Vec::new();
        let mut links = 0;
        while let Some((component, linked)) = pending.pop_front() {
            if component.is_empty() || component == b"." {
                continue;
            }
            if component == b".." {
                if stack.pop().is_none() {
                    return Err(LayerError::entry(
                        entry,
                        "a symbolic link on its way leads out of the root",
                    ));
                }
                continue;
            }
            if stack.len() >= MAX_DEPTH {
                return Err(LayerError::entry(entry, "it is nested too deeply"));
            }
            let current = stack.last().map_or(self.root.as_fd(), AsFd::as_fd);
            match open_component(current, &component, create && !linked, entry)? {
                Step::Directory(next) => stack.push(next),
                Step::Missing if linked && create => {
                    return Err(LayerError::entry(
                        entry,
                        "a symbolic link on its way leads to nothing in this layer",
                    ));
                }
                Step::Missing => return Ok(None),
                Step::Link => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(LayerError::entry(entry, "too many symbolic links on its way"));
                    }
                    let target = readlinkat(current, component.as_slice(), Vec::new())
                        .map_err(LayerError::file(entry, "read a symbolic link on its way"))?;
                    let target = target.to_bytes();
                    if target.starts_with(b"/") {
                        stack.clear();
                    }
                    let parts = target.split(|&byte| byte == b'/').rev();
                    parts.for_each(|part| pending.push_front((part.to_vec(), true)));
                }
            }
        }
        let found = match stack.pop() {
            Some(found) => Ok(found),
            None => self.root.try_clone(),
        };
        found.map(Some).map_err(LayerError::file(entry, "open its directory"))
    }
}

/// Runs what goes down a tree level by level, each with a frame of its own: more of them than an ordinary stack holds.
pub fn on_a_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> std::io::Result<T> {
    const BYTES: usize = 32 << 20;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("walk".to_owned()).stack_size(BYTES);
        let walk = thread.spawn_scoped(scope, work)?;
        walk.join().map_err(|_| std::io::Error::other("a walk broke off"))
    })
}

enum Step {
    Directory(OwnedFd),
    Missing,
    Link,
}

fn open_component(parent: BorrowedFd<'_>, name: &[u8], create: bool, entry: &[u8]) -> Result<Step, LayerError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || openat(parent, name, flags, Mode::empty());
    match open() {
        Ok(found) => return Ok(Step::Directory(found)),
        Err(Errno::NOENT) if !create => return Ok(Step::Missing),
        Err(Errno::NOENT) => {}
        Err(Errno::NOTDIR) => {
            let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
            let stat = stat.map_err(LayerError::file(entry, "read its directory"))?;
            match FileType::from_raw_mode(stat.st_mode as RawMode) {
                FileType::Symlink => return Ok(Step::Link),
                // The layer hides what is below and puts something else there.
                _ if is_whiteout(&stat) && create => {
                    let removed = unlinkat(parent, name, AtFlags::empty());
                    removed.map_err(LayerError::file(entry, "replace a whiteout"))?;
                    make(parent, name, entry)?;
                    set_opaque(parent, name, entry)?;
                    return open()
                        .map(Step::Directory)
                        .map_err(LayerError::file(entry, "open its directory"));
                }
                _ => return Err(LayerError::entry(entry, "what should be its directory is none")),
            }
        }
        Err(error) => return Err(LayerError::file(entry, "open its directory")(error)),
    }
    make(parent, name, entry)?;
    open()
        .map(Step::Directory)
        .map_err(LayerError::file(entry, "open its directory"))
}

/// A directory that has no entry of its own, or not yet.
fn make(parent: BorrowedFd<'_>, name: &[u8], entry: &[u8]) -> Result<(), LayerError> {
    mkdirat(parent, name, Mode::from_raw_mode(0o755)).map_err(LayerError::file(entry, "create its directory"))
}

/// Marks the directory so that overlayfs hides what layers below have in it.
pub fn set_opaque(parent: BorrowedFd<'_>, name: &[u8], entry: &[u8]) -> Result<(), LayerError> {
    set_xattr(parent, name, b"trusted.overlay.opaque", b"y")
        .map_err(LayerError::file(entry, "make its directory opaque"))
}

/// `setxattr` relative to a directory, which Linux has no call for before 6.13. Links are not followed.
pub fn set_xattr(parent: BorrowedFd<'_>, name: &[u8], key: &[u8], value: &[u8]) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let name: &[u8] = if name.is_empty() { b"." } else { name };
    let path = [format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(), name].concat();
    rustix::fs::lsetxattr(path, key, value, rustix::fs::XattrFlags::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_relative_and_plain() {
        for (name, plain) in [
            ("a/b", "a/b"),
            ("./a//b/", "a/b"),
            ("/etc/passwd", "etc/passwd"),
            ("a/../b", "b"),
            ("./", ""),
            ("", ""),
            ("/", ""),
            ("a/..", ""),
            ("...", "..."),
        ] {
            assert_eq!(clean(name.as_bytes()), Ok(plain.as_bytes().to_vec()), "{name}");
        }
        for bad in ["..", "../x", "a/../../b", "/../etc/passwd", "a/b/../../../c"] {
            assert!(clean(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(clean(&[b'a'; 256]).is_err());
        assert!(clean("a/".repeat(513).as_bytes()).is_err());
    }
}

//! Unpacking a layer: a tar stream becomes files under one directory, with whiteouts in overlayfs's form.
//!
//! Made for a directory that nobody else touches. About four system calls per file: directories are opened once and
//! kept, and owner and mode are only set where creation did not get them right.
use std::{
    io::{self, BufRead},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::Rc,
};

use rustix::{
    fs::{
        AtFlags, CWD, Dev, FileType, Gid, Mode, OFlags, RawMode, Timespec, Timestamps, Uid, chmodat, chownat, fchmod,
        fchown, fsetxattr, ftruncate, futimens, linkat, makedev, mkdirat, mknodat, openat, renameat, statat, symlinkat,
        unlinkat, utimensat,
    },
    io::Errno,
};

use crate::layer::{
    error::LayerError,
    tar::{Entry, Kind, Reader},
    walk::{Directories, clean, is_whiteout, set_opaque, set_xattr, split},
};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Bookkeeping of AUFS, of no meaning here.
const AUFS: &[u8] = b".wh..wh.";

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    pub entries: u64,
    /// Bytes of files, as Docker counts a layer's size.
    pub size: u64,
}

/// Unpacks all entries into `root`. What a later entry replaces is moved to `discarded`, on the same file system.
pub fn apply<R: BufRead>(reader: &mut Reader<R>, root: OwnedFd, discarded: OwnedFd) -> Result<Applied, LayerError> {
    let mut unpacker = Unpacker {
        directories: Directories::new(root),
        discarded,
        discards: 0,
        late: Vec::new(),
        missing_bits: umask(),
        applied: Applied::default(),
    };
    while let Some(entry) = reader.next_entry()? {
        unpacker.applied.entries += 1;
        unpacker.entry(reader, entry)?;
    }
    unpacker.finish()
}

struct Unpacker {
    directories: Directories,
    discarded: OwnedFd,
    discards: u64,
    /// Of directories: what must wait until everything is in them.
    late: Vec<Late>,
    /// Mode bits that the process's umask takes away.
    missing_bits: u32,
    applied: Applied,
}

struct Late {
    path: Vec<u8>,
    modified: (i64, u32),
    mode: Option<u32>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Where an entry goes.
struct Place<'a> {
    parent: Rc<OwnedFd>,
    name: &'a [u8],
    /// The entry's name in the archive, for errors.
    entry: &'a [u8],
}

impl Place<'_> {
    fn fd(&self) -> BorrowedFd<'_> {
        self.parent.as_fd()
    }

    fn failed<E: Into<io::Error>>(&self, doing: &'static str) -> impl FnOnce(E) -> LayerError {
        LayerError::file(self.entry, doing)
    }
}

impl Unpacker {
    fn entry<R: BufRead>(&mut self, reader: &mut Reader<R>, mut entry: Entry) -> Result<(), LayerError> {
        let path = clean(&entry.path).map_err(|problem| LayerError::entry(&entry.path, problem))?;
        let name_in_archive = std::mem::take(&mut entry.path);
        // A layer may not forge what overlayfs believes.
        entry.xattrs.retain(|(key, _)| !key.starts_with(b"trusted.overlay."));
        if path.is_empty() {
            return self.root(&entry, &name_in_archive);
        }
        let (parent, name) = split(&path);
        if name.starts_with(AUFS) && name != OPAQUE || path.starts_with(AUFS) && path != OPAQUE {
            return Ok(());
        }
        let parent = self.directories.open(parent, true, &name_in_archive)?;
        let place = Place {
            parent: parent.expect("made when missing"),
            name,
            entry: &name_in_archive,
        };
        if name == OPAQUE {
            return set_opaque(place.fd(), b"", place.entry);
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(&Place { name: hidden, ..place });
        }
        match entry.kind {
            Kind::File => self.file(reader, &entry, &place),
            Kind::Directory => self.directory(entry, &place, path.clone()),
            Kind::HardLink => self.hard_link(&entry, &place),
            Kind::Symlink => {
                self.create(&place, || symlinkat(entry.link.as_slice(), place.fd(), place.name))?;
                self.finish_node(&entry, &place)
            }
            Kind::CharacterDevice | Kind::BlockDevice | Kind::Fifo => self.node(&entry, &place),
        }
    }

    /// The layer's root directory itself: only what it looks like.
    fn root(&mut self, entry: &Entry, name: &[u8]) -> Result<(), LayerError> {
        if entry.kind != Kind::Directory {
            return Err(LayerError::entry(name, "the root can only be a directory"));
        }
        chownat(
            self.directories.root(),
            "",
            Some(uid(entry)),
            Some(gid(entry)),
            AtFlags::EMPTY_PATH,
        )
        .map_err(LayerError::file(name, "set its owner"))?;
        self.late.push(Late {
            path: Vec::new(),
            modified: entry.modified,
            mode: Some(entry.mode),
            xattrs: entry.xattrs.clone(),
        });
        Ok(())
    }

    /// Runs `make` until nothing is in its way.
    fn create<T>(&mut self, place: &Place<'_>, make: impl Fn() -> Result<T, Errno>) -> Result<T, LayerError> {
        match make() {
            Err(Errno::EXIST) => {
                self.clear(place)?;
                make().map_err(place.failed("create it"))
            }
            result => result.map_err(place.failed("create it")),
        }
    }

    /// Takes away what an earlier entry put here.
    fn clear(&mut self, place: &Place<'_>) -> Result<(), LayerError> {
        let stat = statat(place.fd(), place.name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.map_err(place.failed("read what it replaces"))?;
        match FileType::from_raw_mode(stat.st_mode as RawMode) {
            FileType::Directory => {
                self.discards += 1;
                let discarded = self.discards.to_string();
                renameat(place.fd(), place.name, self.discarded.as_fd(), discarded)
                    .map_err(place.failed("remove what it replaces"))?;
                self.directories.forget();
            }
            kind => {
                unlinkat(place.fd(), place.name, AtFlags::empty()).map_err(place.failed("remove what it replaces"))?;
                if kind == FileType::Symlink {
                    self.directories.forget();
                }
            }
        }
        Ok(())
    }

    fn file<R: BufRead>(&mut self, reader: &mut Reader<R>, entry: &Entry, place: &Place<'_>) -> Result<(), LayerError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let file = self.create(place, || openat(place.fd(), place.name, flags, mode))?;
        match &entry.sparse {
            None => write_all(reader, file.as_fd(), place)?,
            Some(segments) => {
                for segment in segments {
                    write_at(reader, file.as_fd(), segment.offset, segment.length, place)?;
                }
                ftruncate(&file, entry.size).map_err(place.failed("set its size"))?;
            }
        }
        self.applied.size += entry.size;
        if (entry.uid, entry.gid) != (0, 0) {
            fchown(&file, Some(uid(entry)), Some(gid(entry))).map_err(place.failed("set its owner"))?;
        }
        if self.wrong_mode(entry.mode) {
            fchmod(&file, Mode::from_raw_mode(entry.mode)).map_err(place.failed("set its mode"))?;
        }
        for (key, value) in &entry.xattrs {
            tolerate(fsetxattr(&file, key.as_slice(), value, rustix::fs::XattrFlags::empty()))
                .map_err(place.failed("set an extended attribute"))?;
        }
        futimens(&file, &times(entry.modified)).map_err(place.failed("set its time"))
    }

    fn directory(&mut self, entry: Entry, place: &Place<'_>, path: Vec<u8>) -> Result<(), LayerError> {
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let mut late = self.wrong_mode(entry.mode);
        match mkdirat(place.fd(), place.name, mode) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                self.merge_directory(&entry, place, mode)?;
                // An earlier entry may have left a mode for later too.
                late = true;
            }
            Err(error) => return Err(place.failed("create it")(error)),
        }
        if (entry.uid, entry.gid) != (0, 0) {
            self.own(&entry, place)?;
        }
        self.late.push(Late {
            path,
            modified: entry.modified,
            // A set-group-id bit would be inherited by what is created inside.
            mode: late.then_some(entry.mode),
            xattrs: entry.xattrs,
        });
        Ok(())
    }

    /// Something is there already: a directory stays with its files, anything else goes.
    fn merge_directory(&mut self, entry: &Entry, place: &Place<'_>, mode: Mode) -> Result<(), LayerError> {
        let stat = statat(place.fd(), place.name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.map_err(place.failed("read what it replaces"))?;
        if FileType::from_raw_mode(stat.st_mode as RawMode) == FileType::Directory {
            let name = place.name;
            chmodat(place.fd(), name, mode, AtFlags::empty()).map_err(place.failed("set its mode"))?;
            return self.own(entry, place);
        }
        self.clear(place)?;
        mkdirat(place.fd(), place.name, mode).map_err(place.failed("create it"))?;
        match is_whiteout(&stat) {
            true => set_opaque(place.fd(), place.name, place.entry),
            false => Ok(()),
        }
    }

    fn hard_link(&mut self, entry: &Entry, place: &Place<'_>) -> Result<(), LayerError> {
        let refused = |problem: &str| {
            let target = String::from_utf8_lossy(&entry.link);
            LayerError::entry(place.entry, format!("hard link to {target:?}: {problem}"))
        };
        let target = clean(&entry.link).map_err(|_| refused("that leads out of the root"))?;
        if target.is_empty() {
            return Err(refused("that is the root"));
        }
        let (directory, name) = split(&target);
        let Some(directory) = self.directories.open(directory, false, place.entry)? else {
            return Err(refused("this layer does not have that file"));
        };
        let link = || linkat(&*directory, name, place.fd(), place.name, AtFlags::empty());
        match link() {
            Ok(()) => Ok(()),
            Err(Errno::NOENT) => Err(refused("this layer does not have that file")),
            Err(Errno::PERM) => Err(refused("that is a directory")),
            Err(Errno::EXIST) => {
                let stat = |fd: BorrowedFd<'_>, name: &[u8]| statat(fd, name, AtFlags::SYMLINK_NOFOLLOW);
                let old = stat(directory.as_fd(), name).map_err(place.failed("read its target"))?;
                let new = stat(place.fd(), place.name).map_err(place.failed("read what it replaces"))?;
                if (old.st_dev, old.st_ino) == (new.st_dev, new.st_ino) {
                    return Ok(());
                }
                self.clear(place)?;
                link().map_err(place.failed("create it"))
            }
            Err(error) => Err(place.failed("create it")(error)),
        }
    }

    fn node(&mut self, entry: &Entry, place: &Place<'_>) -> Result<(), LayerError> {
        let (kind, device): (_, Dev) = match entry.kind {
            Kind::Fifo => (FileType::Fifo, 0),
            Kind::BlockDevice => (FileType::BlockDevice, makedev(entry.device.0, entry.device.1)),
            _ => (FileType::CharacterDevice, makedev(entry.device.0, entry.device.1)),
        };
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        self.create(place, || mknodat(place.fd(), place.name, kind, mode, device))?;
        self.finish_node(entry, place)?;
        if self.wrong_mode(entry.mode) {
            let mode = Mode::from_raw_mode(entry.mode);
            chmodat(place.fd(), place.name, mode, AtFlags::empty()).map_err(place.failed("set its mode"))?;
        }
        Ok(())
    }

    /// Owner, attributes and time of what cannot be opened.
    fn finish_node(&mut self, entry: &Entry, place: &Place<'_>) -> Result<(), LayerError> {
        if (entry.uid, entry.gid) != (0, 0) {
            self.own(entry, place)?;
        }
        for (key, value) in &entry.xattrs {
            tolerate(set_xattr(place.fd(), place.name, key, value))
                .map_err(place.failed("set an extended attribute"))?;
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        utimensat(place.fd(), place.name, &times(entry.modified), flags).map_err(place.failed("set its time"))
    }

    fn own(&self, entry: &Entry, place: &Place<'_>) -> Result<(), LayerError> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        chownat(place.fd(), place.name, Some(uid(entry)), Some(gid(entry)), flags)
            .map_err(place.failed("set its owner"))
    }

    /// `.wh.x` hides `x` of the layers below; an `x` of this layer stays, whichever comes first.
    fn whiteout(&mut self, place: &Place<'_>) -> Result<(), LayerError> {
        if place.name.is_empty() || place.name == b"." || place.name == b".." {
            return Err(LayerError::entry(place.entry, "it hides nothing that can be hidden"));
        }
        let made = mknodat(place.fd(), place.name, FileType::CharacterDevice, Mode::empty(), 0);
        match made {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                let stat = statat(place.fd(), place.name, AtFlags::SYMLINK_NOFOLLOW);
                let stat = stat.map_err(place.failed("read what it hides"))?;
                match FileType::from_raw_mode(stat.st_mode as RawMode) {
                    FileType::Directory => set_opaque(place.fd(), place.name, place.entry),
                    _ => Ok(()),
                }
            }
            Err(error) => Err(place.failed("create it")(error)),
        }
    }

    /// Modes, attributes and times of directories, as filling them would have changed those.
    fn finish(mut self) -> Result<Applied, LayerError> {
        for late in std::mem::take(&mut self.late) {
            let (parent, name) = split(&late.path);
            let Some(parent) = self.directories.open(parent, false, &late.path)? else {
                continue;
            };
            let place = Place {
                parent,
                name: if name.is_empty() { b"." } else { name },
                entry: &late.path,
            };
            let stat = statat(place.fd(), place.name, AtFlags::SYMLINK_NOFOLLOW);
            let directory =
                stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode as RawMode) == FileType::Directory);
            if !directory {
                // A later entry replaced it.
                continue;
            }
            if let Some(mode) = late.mode {
                chmodat(place.fd(), place.name, Mode::from_raw_mode(mode), AtFlags::empty())
                    .map_err(place.failed("set its mode"))?;
            }
            for (key, value) in &late.xattrs {
                tolerate(set_xattr(place.fd(), place.name, key, value))
                    .map_err(place.failed("set an extended attribute"))?;
            }
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            utimensat(place.fd(), place.name, &times(late.modified), flags).map_err(place.failed("set its time"))?;
        }
        Ok(self.applied)
    }

    /// Whether creating with `mode & 0777` does not give `mode`.
    fn wrong_mode(&self, mode: u32) -> bool {
        mode & 0o7000 != 0 || mode & self.missing_bits != 0
    }
}

fn write_all<R: BufRead>(reader: &mut Reader<R>, file: BorrowedFd<'_>, place: &Place<'_>) -> Result<(), LayerError> {
    let mut data = reader.data();
    loop {
        let chunk = data.fill_buf().map_err(|error| unread(error, place))?;
        if chunk.is_empty() {
            return Ok(());
        }
        match rustix::io::write(file, chunk) {
            Ok(written) => data.consume(written),
            Err(Errno::INTR) => {}
            Err(error) => return Err(place.failed("write it")(error)),
        }
    }
}

fn write_at<R: BufRead>(
    reader: &mut Reader<R>,
    file: BorrowedFd<'_>,
    mut offset: u64,
    mut length: u64,
    place: &Place<'_>,
) -> Result<(), LayerError> {
    let mut data = reader.data();
    while length > 0 {
        let chunk = data.fill_buf().map_err(|error| unread(error, place))?;
        let chunk = &chunk[..chunk.len().min(usize::try_from(length).unwrap_or(usize::MAX))];
        match rustix::io::pwrite(file, chunk, offset) {
            Ok(written) => {
                data.consume(written);
                offset += written as u64;
                length -= written as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(place.failed("write it")(error)),
        }
    }
    Ok(())
}

/// An archive that ends too early is wrong itself; everything else that keeps it from being read is not its fault.
fn unread(error: io::Error, place: &Place<'_>) -> LayerError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => LayerError::entry(place.entry, "its data is cut off"),
        _ => place.failed("read it")(error),
    }
}

/// Attributes that the file system does not have are left out, as Docker does.
fn tolerate(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::NOTSUP | Errno::PERM) => Ok(()),
        result => result,
    }
}

fn uid(entry: &Entry) -> Uid {
    Uid::from_raw(entry.uid)
}

fn gid(entry: &Entry) -> Gid {
    Gid::from_raw(entry.gid)
}

fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Read, not set: it belongs to all threads of the process.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|digits| u32::from_str_radix(digits.trim(), 8).ok())
        .unwrap_or(0o777)
}

/// Opens a directory that this process made, as `apply` wants it.
pub fn open_directory(path: &std::path::Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).map_err(io::Error::from)
}

//! Unpacking a layer: a tar stream becomes files under one directory, with whiteouts in overlayfs's form.
//!
//! Made for a directory that nobody else touches. About four system calls per file: directories are opened once and
//! kept, and owner and mode are only set where creation did not get them right.
use std::{
    io::{self, BufRead},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    fs::{
        AtFlags, CWD, FileType, Gid, Mode, OFlags, RawMode, Uid, chmodat, chownat, linkat, mkdirat, mknodat, openat,
        renameat, statat, unlinkat,
    },
    io::Errno,
};

use crate::layer::{
    error::LayerError,
    fill::Filler,
    make::{Late, Maker, Owner, Place},
    tar::{Entry, Kind, Reader},
    walk::{Directories, clean, is_whiteout, set_opaque, split},
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
    let maker = Arc::new(Maker::new(Owner::Archived, None));
    let mut unpacker = Unpacker {
        directories: Directories::new(root),
        discarded,
        discards: 0,
        late: Vec::new(),
        filler: Filler::new(Arc::clone(&maker)),
        maker,
        applied: Applied::default(),
    };
    let unpacked = unpacker.entries(reader);
    unpacker.filler.finish()?;
    unpacked?;
    unpacker.finish()
}

struct Unpacker {
    directories: Directories,
    discarded: OwnedFd,
    discards: u64,
    /// Of directories: what must wait until everything is in them.
    late: Vec<Late>,
    maker: Arc<Maker>,
    filler: Filler,
    applied: Applied,
}

impl Unpacker {
    fn entries<R: BufRead>(&mut self, reader: &mut Reader<R>) -> Result<(), LayerError> {
        while !self.filler.failed()
            && let Some(entry) = reader.next_entry()?
        {
            self.applied.entries += 1;
            self.entry(reader, entry)?;
        }
        Ok(())
    }

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
            Kind::File => {
                let file = self.create(&place, |maker| maker.create_file(&entry, &place))?;
                self.applied.size += entry.size;
                entry.path = name_in_archive;
                self.filler.fill(reader, entry, file)
            }
            Kind::Directory => self.directory(entry, &place, path.clone()),
            Kind::HardLink => self.hard_link(&entry, &place),
            Kind::Symlink => {
                self.create(&place, |maker| maker.create_symlink(&entry, &place))?;
                self.maker.finish_node(&entry, &place)
            }
            Kind::CharacterDevice | Kind::BlockDevice | Kind::Fifo => {
                self.create(&place, |maker| maker.create_node(&entry, &place))?;
                self.maker.finish_node(&entry, &place)
            }
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
            Some(Uid::from_raw(entry.uid)),
            Some(Gid::from_raw(entry.gid)),
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
    fn create<T>(&mut self, place: &Place<'_>, make: impl Fn(&Maker) -> Result<T, Errno>) -> Result<T, LayerError> {
        match make(&self.maker) {
            Err(Errno::EXIST) => {
                self.clear(place)?;
                make(&self.maker).map_err(place.failed("create it"))
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

    fn directory(&mut self, entry: Entry, place: &Place<'_>, path: Vec<u8>) -> Result<(), LayerError> {
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let mut late = self.maker.wrong_mode(entry.mode);
        match mkdirat(place.fd(), place.name, mode) {
            Ok(()) => self.maker.own_directory(&entry, place, true)?,
            Err(Errno::EXIST) => {
                self.merge_directory(&entry, place, mode)?;
                // An earlier entry may have left a mode for later too.
                late = true;
            }
            Err(error) => return Err(place.failed("create it")(error)),
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
            return self.maker.own_directory(entry, place, false);
        }
        self.clear(place)?;
        mkdirat(place.fd(), place.name, mode).map_err(place.failed("create it"))?;
        self.maker.own_directory(entry, place, true)?;
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
            self.maker.finish_directory(&late, &place)?;
        }
        Ok(self.applied)
    }
}

/// Opens a directory that this process made, as `apply` wants it.
pub fn open_directory(path: &std::path::Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).map_err(io::Error::from)
}

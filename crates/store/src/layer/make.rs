//! Making one file, link or device from an archive's entry: what unpacking a layer and copying into a living tree share.
//!
//! Every call is relative to the parent's descriptor, and none follows a link in the last component: what somebody else
//! puts in the entry's place at the wrong moment may get its owner and mode, but only where it stands.
use std::{
    borrow::Cow,
    io::{self, BufRead, Read},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    rc::Rc,
};

use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, RawMode, Timespec, Timestamps, Uid, chmod, chownat, fchmod, fchown,
        fsetxattr, fstat, ftruncate, futimens, makedev, mknodat, openat, symlinkat, utimensat,
    },
    io::Errno,
};

use crate::layer::{
    error::LayerError,
    owners::{CAPABILITY, Owners},
    pack::{look, stat_of},
    tar::{Entry, Kind, Reader},
    walk::set_xattr,
};

/// Where an entry goes.
pub(crate) struct Place<'a> {
    pub parent: Rc<OwnedFd>,
    pub name: &'a [u8],
    /// The entry's name in the archive, for errors.
    pub entry: &'a [u8],
}

impl Entry {
    fn failed<E: Into<io::Error>>(&self, doing: &'static str) -> impl FnOnce(E) -> LayerError {
        LayerError::file(&self.path, doing)
    }
}

impl Place<'_> {
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.parent.as_fd()
    }

    pub fn failed<E: Into<io::Error>>(&self, doing: &'static str) -> impl FnOnce(E) -> LayerError {
        LayerError::file(self.entry, doing)
    }
}

/// Who owns what is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Whom the archive names; this process is root.
    Archived,
    /// One and the same for everything.
    Given(u32, u32),
    /// Whoever runs this process.
    Unchanged,
}

#[derive(Debug)]
pub(crate) struct Maker {
    owner: Owner,
    /// Who that is in the tree, where it is not who the archive says.
    owners: Option<Owners>,
    /// Mode bits that the process's umask takes away.
    missing_bits: u32,
}

/// Of a directory: what must wait until everything is in it.
pub(crate) struct Late {
    pub path: Vec<u8>,
    pub modified: (i64, u32),
    pub mode: Option<u32>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Maker {
    pub fn new(owner: Owner, owners: Option<Owners>) -> Maker {
        Maker {
            owner,
            owners,
            missing_bits: umask(),
        }
    }

    /// Whether creating with `mode & 0777` does not give `mode`.
    pub fn wrong_mode(&self, mode: u32) -> bool {
        mode & 0o7000 != 0 || mode & self.missing_bits != 0
    }

    /// What a file's owner has to be changed to; `new` when it was just made, by this process. `mount` says where it is.
    fn owner(
        &self,
        entry: &Entry,
        new: bool,
        name: &[u8],
        mount: impl FnOnce() -> Result<u64, Errno>,
    ) -> Result<Option<(Uid, Gid)>, LayerError> {
        let owner = match self.owner {
            Owner::Archived => (entry.uid, entry.gid),
            Owner::Given(user, group) => (user, group),
            Owner::Unchanged => return Ok(None),
        };
        let (user, group) = self.in_tree(owner, name, mount)?;
        Ok(((user, group) != (0, 0) || !new).then(|| (Uid::from_raw(user), Gid::from_raw(group))))
    }

    fn in_tree(
        &self,
        owner: (u32, u32),
        entry: &[u8],
        mount: impl FnOnce() -> Result<u64, Errno>,
    ) -> Result<(u32, u32), LayerError> {
        let Some(owners) = &self.owners else { return Ok(owner) };
        let mount = mount().map_err(LayerError::file(entry, "tell where it is"))?;
        owners.in_tree(mount, owner).ok_or_else(|| {
            let (user, group) = owner;
            let problem = format!("its owner {user}:{group} is not in the container's user namespace");
            LayerError::entry(entry, problem)
        })
    }

    /// An attribute's value, as a file in the tree has it.
    fn attribute<'a>(&self, key: &[u8], value: &'a [u8], file: BorrowedFd<'_>) -> Result<Cow<'a, [u8]>, Errno> {
        match &self.owners {
            Some(owners) if key == CAPABILITY => Ok(owners.capabilities_in_tree(mount_of(file)?, value).into()),
            _ => Ok(value.into()),
        }
    }

    /// Owner of a directory that the archive does not have, but things in it.
    pub fn own_parent(&self, above: BorrowedFd<'_>, name: &[u8], entry: &[u8]) -> Result<(), LayerError> {
        let (user, group) = self.in_tree((0, 0), entry, || mount_of(above))?;
        if (user, group) == (0, 0) {
            return Ok(());
        }
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        chownat(above, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(LayerError::file(entry, "set the owner of its directory"))
    }

    pub fn create_file(&self, entry: &Entry, place: &Place<'_>) -> Result<OwnedFd, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(place.fd(), place.name, flags, Mode::from_raw_mode(entry.mode & 0o777))
    }

    /// Data, owner, mode, attributes and time of a file that was just made, or cut to nothing. `entry.path` is its name in
    /// the archive.
    pub fn fill<R: BufRead>(
        &self,
        reader: &mut Reader<R>,
        entry: &Entry,
        file: BorrowedFd<'_>,
        new: bool,
    ) -> Result<(), LayerError> {
        match &entry.sparse {
            None => write_all(reader, file, entry)?,
            Some(segments) => {
                for segment in segments {
                    write_at(reader, file, segment.offset, segment.length, entry)?;
                }
                ftruncate(file, entry.size).map_err(entry.failed("set its size"))?;
            }
        }
        self.finish_file(entry, file, new)
    }

    /// The same for a new file whose data is here already.
    pub fn fill_from(&self, mut data: &[u8], entry: &Entry, file: BorrowedFd<'_>) -> Result<(), LayerError> {
        while !data.is_empty() {
            match rustix::io::write(file, data) {
                Ok(written) => data = &data[written..],
                Err(Errno::INTR) => {}
                Err(error) => return Err(entry.failed("write it")(error)),
            }
        }
        self.finish_file(entry, file, true)
    }

    fn finish_file(&self, entry: &Entry, file: BorrowedFd<'_>, new: bool) -> Result<(), LayerError> {
        if let Some((user, group)) = self.owner(entry, new, &entry.path, || mount_of(file))? {
            fchown(file, Some(user), Some(group)).map_err(entry.failed("set its owner"))?;
        }
        if self.wrong_mode(entry.mode) || !new {
            fchmod(file, Mode::from_raw_mode(entry.mode)).map_err(entry.failed("set its mode"))?;
        }
        for (key, value) in &entry.xattrs {
            let value = self
                .attribute(key, value, file)
                .map_err(entry.failed("tell where it is"))?;
            tolerate(fsetxattr(file, key.as_slice(), &value, rustix::fs::XattrFlags::empty()))
                .map_err(entry.failed("set an extended attribute"))?;
        }
        futimens(file, &times(entry.modified)).map_err(entry.failed("set its time"))
    }

    pub fn create_symlink(&self, entry: &Entry, place: &Place<'_>) -> Result<(), Errno> {
        symlinkat(entry.link.as_slice(), place.fd(), place.name)
    }

    /// A device or a FIFO.
    pub fn create_node(&self, entry: &Entry, place: &Place<'_>) -> Result<(), Errno> {
        let device = makedev(entry.device.0, entry.device.1);
        let (kind, device) = match entry.kind {
            Kind::Fifo => (FileType::Fifo, 0),
            Kind::BlockDevice => (FileType::BlockDevice, device),
            _ => (FileType::CharacterDevice, device),
        };
        mknodat(
            place.fd(),
            place.name,
            kind,
            Mode::from_raw_mode(entry.mode & 0o777),
            device,
        )
    }

    /// Owner, mode, attributes and time of what cannot be opened.
    pub fn finish_node(&self, entry: &Entry, place: &Place<'_>) -> Result<(), LayerError> {
        if let Some((user, group)) = self.owner(entry, true, place.entry, || mount_of(place.fd()))? {
            chownat(
                place.fd(),
                place.name,
                Some(user),
                Some(group),
                AtFlags::SYMLINK_NOFOLLOW,
            )
            .map_err(place.failed("set its owner"))?;
        }
        if entry.kind != Kind::Symlink && self.wrong_mode(entry.mode) {
            set_mode(place, entry.mode).map_err(place.failed("set its mode"))?;
        }
        for (key, value) in &entry.xattrs {
            tolerate(set_xattr(place.fd(), place.name, key, value))
                .map_err(place.failed("set an extended attribute"))?;
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        utimensat(place.fd(), place.name, &times(entry.modified), flags).map_err(place.failed("set its time"))
    }

    /// Owner of a directory; its mode and time come late. `new` when it was just made.
    pub fn own_directory(&self, entry: &Entry, place: &Place<'_>, new: bool) -> Result<(), LayerError> {
        // Something may be mounted on one that was there.
        let mount = || match new {
            true => mount_of(place.fd()),
            false => Ok(look(place.fd(), place.name)?.stx_mnt_id),
        };
        let Some((user, group)) = self.owner(entry, new, place.entry, mount)? else {
            return Ok(());
        };
        chownat(
            place.fd(),
            place.name,
            Some(user),
            Some(group),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(place.failed("set its owner"))
    }

    /// Mode, attributes and time of a directory once everything is in it. Something else by now is left alone.
    pub fn finish_directory(&self, late: &Late, place: &Place<'_>) -> Result<(), LayerError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let directory = match openat(place.fd(), place.name, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(error) => return Err(place.failed("open it")(error)),
        };
        if let Some(mode) = late.mode {
            fchmod(&directory, Mode::from_raw_mode(mode)).map_err(place.failed("set its mode"))?;
        }
        for (key, value) in &late.xattrs {
            tolerate(fsetxattr(
                &directory,
                key.as_slice(),
                value,
                rustix::fs::XattrFlags::empty(),
            ))
            .map_err(place.failed("set an extended attribute"))?;
        }
        futimens(&directory, &times(late.modified)).map_err(place.failed("set its time"))
    }
}

fn mount_of(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    Ok(stat_of(fd)?.stx_mnt_id)
}

/// The mode of a device or a FIFO, which must not be opened: `fchmodat(2)` has no way not to follow links before Linux 6.6.
fn set_mode(place: &Place<'_>, mode: u32) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = openat(place.fd(), place.name, flags, Mode::empty())?;
    match FileType::from_raw_mode(fstat(&node)?.st_mode as RawMode) {
        FileType::Symlink => Ok(()),
        _ => chmod(format!("/proc/self/fd/{}", node.as_raw_fd()), Mode::from_raw_mode(mode)),
    }
}

fn write_all<R: BufRead>(reader: &mut Reader<R>, file: BorrowedFd<'_>, entry: &Entry) -> Result<(), LayerError> {
    let mut data = reader.data();
    loop {
        let chunk = data.fill_buf().map_err(|error| unread(error, entry))?;
        if chunk.is_empty() {
            return Ok(());
        }
        match rustix::io::write(file, chunk) {
            Ok(written) => data.consume(written),
            Err(Errno::INTR) => {}
            Err(error) => return Err(entry.failed("write it")(error)),
        }
    }
}

fn write_at<R: BufRead>(
    reader: &mut Reader<R>,
    file: BorrowedFd<'_>,
    mut offset: u64,
    mut length: u64,
    entry: &Entry,
) -> Result<(), LayerError> {
    let mut data = reader.data();
    while length > 0 {
        let chunk = data.fill_buf().map_err(|error| unread(error, entry))?;
        let chunk = &chunk[..chunk.len().min(usize::try_from(length).unwrap_or(usize::MAX))];
        match rustix::io::pwrite(file, chunk, offset) {
            Ok(written) => {
                data.consume(written);
                offset += written as u64;
                length -= written as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(entry.failed("write it")(error)),
        }
    }
    Ok(())
}

/// Appends all data of a small file.
pub(crate) fn read_all<R: BufRead>(reader: &mut Reader<R>, entry: &Entry, to: &mut Vec<u8>) -> Result<(), LayerError> {
    let read = reader.data().read_to_end(to);
    read.map(drop).map_err(|error| unread(error, entry))
}

/// An archive that ends too early is wrong itself; everything else that keeps it from being read is not its fault.
fn unread(error: io::Error, entry: &Entry) -> LayerError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => LayerError::entry(&entry.path, "its data is cut off"),
        _ => entry.failed("read it")(error),
    }
}

/// Attributes that the file system does not have are left out, as Docker does.
fn tolerate(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::NOTSUP | Errno::PERM) => Ok(()),
        result => result,
    }
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

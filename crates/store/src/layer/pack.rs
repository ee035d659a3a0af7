//! Packing: files beneath a directory become a tar stream. The one way archives of trees are made.
//!
//! Every file is opened relative to its directory's descriptor and never through a link, so a tree that somebody changes
//! meanwhile is read as it is found, and nothing outside of it. What vanishes between two calls is left out; a file that
//! shrinks is filled up with zeroes; what cannot be archived (sockets) is skipped.
//!
//! The tree must be on a mount without devices (`MOUNT_ATTR_NODEV`): then even a device file that takes a regular file's
//! place at the wrong moment is not opened.
use std::{
    collections::HashMap,
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use corten_linux::transfer::Sink;
use rustix::{
    fs::{
        AtFlags, Dir, FileType, Mode, OFlags, SeekFrom, Statx, StatxFlags, flistxattr, flistxattr_query, fstatfs,
        openat, readlinkat, seek, statx,
    },
    io::Errno,
};

use crate::layer::{
    error::LayerError,
    owners::{CAPABILITY, Owners, forget_namespace},
    sparse::Segment,
    tar::{Entry, Kind},
    write::{append, end, padding},
};

/// What is gathered before it goes out.
const BUFFER: usize = 256 << 10;
/// Files up to this size are read into the buffer.
const SMALL: u64 = 64 << 10;
/// Of directories: each level holds a descriptor.
const MAX_DEPTH: usize = 512;
/// Fewer bytes than this in holes, and a file is written in full.
const HOLES: u64 = 256 << 10;
/// A file with more pieces is written in full.
const MAX_SEGMENTS: usize = 64 << 10;
/// Further files with several names are written once for each.
const MAX_LINKED: usize = 1 << 20;
/// Of all extended attributes of one file together.
const MAX_XATTRS: usize = 64 << 10;

/// Where the descent stops, and who owns what it finds.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Mounts whose contents are left out: only the directory, or an empty file, is there.
    pub hidden_mounts: Vec<u64>,
    /// Who owns what for whoever the archive is for, where that is not who the tree says.
    pub owners: Option<Owners>,
}

/// A tar archive that grows as trees are added to it.
pub struct Packer<'a> {
    sink: &'a mut dyn Sink,
    rules: Rules,
    buffer: Vec<u8>,
    /// Files with several names: the first of them, and how many are still to come.
    linked: HashMap<(u64, u64), (Vec<u8>, u32)>,
    names: Vec<u8>,
    /// Of the entries themselves: what was packed.
    entries: u64,
}

/// What was found under a name.
struct Found {
    stat: Statx,
    /// Of regular files and directories.
    file: Option<OwnedFd>,
}

impl Found {
    fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.stx_mode.into())
    }
}

impl<'a> Packer<'a> {
    pub fn new(sink: &'a mut dyn Sink, rules: Rules) -> Packer<'a> {
        Packer {
            sink,
            rules,
            buffer: Vec::with_capacity(BUFFER + (8 << 10)),
            linked: HashMap::new(),
            names: Vec::new(),
            entries: 0,
        }
    }

    /// Adds what stands at `name` in `parent`, under the name `path`. Nothing there is fine.
    pub fn add(&mut self, parent: BorrowedFd, name: &CStr, path: &[u8]) -> Result<(), LayerError> {
        let Some(found) = self.open(parent, name, None, path)? else {
            return Ok(());
        };
        let here = stat_of(parent).map_err(LayerError::file(path, "read its directory"))?;
        self.found(found, parent, name, path, here.stx_mnt_id, 0)
    }

    /// Adds everything in a directory; names begin with `prefix`, which is empty or ends with a slash.
    pub fn add_contents(&mut self, directory: BorrowedFd, prefix: &[u8]) -> Result<(), LayerError> {
        let stat = stat_of(directory).map_err(LayerError::file(prefix, "read it"))?;
        self.contents(directory, prefix, stat.stx_mnt_id, 0)
    }

    /// Adds a directory itself, then everything in it. `path` is its name, ending with a slash.
    pub fn add_directory(&mut self, directory: BorrowedFd, path: &[u8]) -> Result<(), LayerError> {
        let mount = self.directory(directory, path)?;
        self.contents(directory, path, mount, 0)
    }

    /// Adds a directory without what is in it; returns the number of its mount.
    pub(crate) fn directory(&mut self, directory: BorrowedFd, path: &[u8]) -> Result<u64, LayerError> {
        let stat = stat_of(directory).map_err(LayerError::file(path, "read it"))?;
        let mut entry = self.entry(Kind::Directory, path.to_vec(), &stat);
        entry.xattrs = self.xattrs(directory);
        self.head(&entry)?;
        Ok(stat.stx_mnt_id)
    }

    /// An entry without data.
    pub fn head(&mut self, entry: &Entry) -> Result<(), LayerError> {
        self.entries += 1;
        append(&mut self.buffer, entry);
        match self.buffer.len() >= BUFFER {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// How many entries there are so far.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Writes the end mark and what is still in the buffer.
    pub fn finish(mut self) -> Result<(), LayerError> {
        self.buffer.extend_from_slice(&end());
        self.flush()
    }

    fn flush(&mut self) -> Result<(), LayerError> {
        let written = self.sink.bytes(&self.buffer).map_err(LayerError::Write);
        self.buffer.clear();
        written
    }

    fn entry(&self, kind: Kind, path: Vec<u8>, stat: &Statx) -> Entry {
        let mut entry = entry(kind, path, stat);
        if let Some(owners) = &self.rules.owners {
            (entry.uid, entry.gid) = owners.in_archive(stat.stx_mnt_id, (entry.uid, entry.gid));
        }
        entry
    }

    fn contents(&mut self, directory: BorrowedFd, prefix: &[u8], mount: u64, depth: usize) -> Result<(), LayerError> {
        if depth > MAX_DEPTH {
            return Err(LayerError::entry(prefix, "it is nested too deeply"));
        }
        let names = match sorted_names(directory) {
            Ok(names) => names,
            // The directory itself was removed while it was open.
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(LayerError::file(prefix, "list it")(error)),
        };
        let mut path = prefix.to_vec();
        for (name, kind) in names {
            path.truncate(prefix.len());
            path.extend_from_slice(name.to_bytes());
            if let Some(found) = self.open(directory, &name, Some(kind), &path)? {
                self.found(found, directory, &name, &path, mount, depth)?;
            }
        }
        Ok(())
    }

    fn found(
        &mut self,
        found: Found,
        parent: BorrowedFd,
        name: &CStr,
        path: &[u8],
        mount: u64,
        depth: usize,
    ) -> Result<(), LayerError> {
        let hidden = found.stat.stx_mnt_id != mount && self.is_hidden(&found);
        match (found.kind(), &found.file) {
            (FileType::Directory, Some(file)) => {
                let path = [path, b"/"].concat();
                let mut entry = self.entry(Kind::Directory, path.clone(), &found.stat);
                entry.xattrs = if hidden { Vec::new() } else { self.xattrs(file.as_fd()) };
                self.head(&entry)?;
                match hidden {
                    true => Ok(()),
                    false => self.contents(file.as_fd(), &path, found.stat.stx_mnt_id, depth + 1),
                }
            }
            (FileType::RegularFile, Some(file)) => self.file(&found.stat, file.as_fd(), path, hidden),
            (FileType::Directory | FileType::RegularFile, None) => Ok(()),
            (kind, _) => self.other(kind, &found.stat, parent, name, path),
        }
    }

    /// Of a mount that does not belong to what is packed, or one of a file system that only pretends to have files.
    fn is_hidden(&self, found: &Found) -> bool {
        let known = self.rules.hidden_mounts.contains(&found.stat.stx_mnt_id);
        known || found.file.as_ref().is_some_and(|file| is_pseudo(file.as_fd()))
    }

    /// Opens regular files and directories, and looks at everything else. `None` where there is nothing any more.
    fn open(
        &self,
        parent: BorrowedFd,
        name: &CStr,
        kind: Option<FileType>,
        path: &[u8],
    ) -> Result<Option<Found>, LayerError> {
        let failed = LayerError::file(path, "open it");
        let openable = matches!(kind, Some(FileType::RegularFile | FileType::Directory));
        if !openable {
            let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
            let stat = match statx(parent, name, flags, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => return Ok(None),
                Err(error) => return Err(failed(error)),
            };
            let kind = FileType::from_raw_mode(stat.stx_mode.into());
            if !matches!(kind, FileType::RegularFile | FileType::Directory) {
                return Ok(Some(Found { stat, file: None }));
            }
            return match self.open(parent, name, Some(kind), path)? {
                // Something else by now: as it was.
                None => Ok(Some(Found { stat, file: None })),
                found => Ok(found),
            };
        }
        // Never waits: for a FIFO in a file's place, for a lease, for a terminal.
        let mut flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        if kind == Some(FileType::Directory) {
            flags |= OFlags::DIRECTORY;
        }
        let file = match openat(parent, name, flags, Mode::empty()) {
            Ok(file) => file,
            // It vanished, or something else took its place.
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::NXIO | Errno::STALE) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let stat = stat_of(file.as_fd()).map_err(failed)?;
        let file = Some(file);
        let found = Found { stat, file };
        match found.kind() {
            FileType::RegularFile | FileType::Directory => Ok(Some(found)),
            _ => Ok(Some(Found { file: None, ..found })),
        }
    }

    fn file(&mut self, stat: &Statx, file: BorrowedFd, path: &[u8], hidden: bool) -> Result<(), LayerError> {
        if let Some(first) = self.earlier_name(stat, path) {
            return self.head(&Entry {
                link: first,
                size: 0,
                ..self.entry(Kind::HardLink, path.to_vec(), stat)
            });
        }
        let mut entry = self.entry(Kind::File, path.to_vec(), stat);
        if hidden {
            entry.size = 0;
            return self.head(&entry);
        }
        entry.xattrs = self.xattrs(file);
        if stat.stx_blocks * 512 + HOLES <= stat.stx_size {
            entry.sparse = segments(file, stat.stx_size);
        }
        self.head(&entry)?;
        match &entry.sparse {
            None if entry.size <= SMALL => self.small(file, entry.size, path),
            None => self.pieces(file, &[(0, entry.size)]),
            Some(segments) => {
                let pieces: Vec<_> = segments.iter().map(|piece| (piece.offset, piece.length)).collect();
                self.pieces(file, &pieces)
            }
        }
    }

    /// Reads a whole file into the buffer.
    fn small(&mut self, file: BorrowedFd, size: u64, path: &[u8]) -> Result<(), LayerError> {
        let start = self.buffer.len();
        let end = start + size as usize;
        self.buffer.resize(end, 0);
        let mut filled = start;
        while filled < end {
            match rustix::io::read(file, &mut self.buffer[filled..end]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(LayerError::file(path, "read it")(error)),
            }
        }
        self.buffer.extend_from_slice(padding(size));
        match self.buffer.len() >= BUFFER {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn pieces(&mut self, file: BorrowedFd, pieces: &[(u64, u64)]) -> Result<(), LayerError> {
        self.flush()?;
        let mut sum = 0;
        for &(offset, length) in pieces {
            self.sink.file(file, offset, length).map_err(LayerError::Write)?;
            sum += length;
        }
        self.buffer.extend_from_slice(padding(sum));
        Ok(())
    }

    /// The name under which this very file was packed already.
    fn earlier_name(&mut self, stat: &Statx, path: &[u8]) -> Option<Vec<u8>> {
        if stat.stx_nlink < 2 {
            return None;
        }
        let device = (u64::from(stat.stx_dev_major) << 32) | u64::from(stat.stx_dev_minor);
        let key = (device, stat.stx_ino);
        if let Some((first, left)) = self.linked.get_mut(&key) {
            *left -= 1;
            return match *left {
                0 => self.linked.remove(&key).map(|(first, _)| first),
                _ => Some(first.clone()),
            };
        }
        if self.linked.len() < MAX_LINKED {
            self.linked.insert(key, (path.to_vec(), stat.stx_nlink - 1));
        }
        None
    }

    fn other(
        &mut self,
        kind: FileType,
        stat: &Statx,
        parent: BorrowedFd,
        name: &CStr,
        path: &[u8],
    ) -> Result<(), LayerError> {
        let (kind, link) = match kind {
            FileType::Symlink => match readlinkat(parent, name, Vec::new()) {
                Ok(target) => (Kind::Symlink, target.into_bytes()),
                // No link any more.
                Err(Errno::NOENT | Errno::INVAL) => return Ok(()),
                Err(error) => return Err(LayerError::file(path, "read the link")(error)),
            },
            FileType::CharacterDevice => (Kind::CharacterDevice, Vec::new()),
            FileType::BlockDevice => (Kind::BlockDevice, Vec::new()),
            FileType::Fifo => (Kind::Fifo, Vec::new()),
            // Of no use without the process that listens.
            _ => return Ok(()),
        };
        if let Some(first) = self.earlier_name(stat, path) {
            return self.head(&Entry {
                link: first,
                ..self.entry(Kind::HardLink, path.to_vec(), stat)
            });
        }
        self.head(&Entry {
            link,
            device: (stat.stx_rdev_major, stat.stx_rdev_minor),
            ..self.entry(kind, path.to_vec(), stat)
        })
    }

    /// Extended attributes that mean something elsewhere. A file system that has none, or too many, has none.
    fn xattrs(&mut self, file: BorrowedFd) -> Vec<(Vec<u8>, Vec<u8>)> {
        // Nearly always nothing: asked for the length first, as that needs no memory.
        if !flistxattr_query(file).is_ok_and(|length| length > 0) {
            return Vec::new();
        }
        self.names.resize(MAX_XATTRS, 0);
        let listed = flistxattr(file, self.names.as_mut_slice()).unwrap_or(0);
        let mut found = Vec::new();
        for name in self.names[..listed].split(|&byte| byte == 0) {
            if !travels(name) {
                continue;
            }
            let mut value = vec![0; MAX_XATTRS];
            if let Ok(length) = rustix::fs::fgetxattr(file, name, value.as_mut_slice()) {
                value.truncate(length);
                if self.rules.owners.is_some() && name == CAPABILITY {
                    forget_namespace(&mut value);
                }
                found.push((name.to_vec(), value));
            }
        }
        self.names.clear();
        found
    }
}

/// Whether an attribute belongs to the file, and not to the machine or the mount that it is on.
fn travels(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || name.starts_with(b"system.posix_acl_")
        || name == CAPABILITY
        || name.starts_with(b"trusted.") && !name.starts_with(b"trusted.overlay.")
}

/// Owner, mode, time and size; no links, devices or attributes yet.
pub(crate) fn entry(kind: Kind, path: Vec<u8>, stat: &Statx) -> Entry {
    Entry {
        path,
        mode: u32::from(stat.stx_mode) & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        size: if kind == Kind::File { stat.stx_size } else { 0 },
        modified: (stat.stx_mtime.tv_sec, 0),
        ..Entry::of(kind)
    }
}

pub(crate) fn stat_of(fd: BorrowedFd) -> Result<Statx, Errno> {
    statx(
        fd,
        c"",
        AtFlags::EMPTY_PATH,
        StatxFlags::BASIC_STATS | StatxFlags::MNT_ID,
    )
}

/// What stands under a name, and where.
pub(crate) fn look(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Statx, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    statx(parent, name, flags, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)
}

/// Names with what they are, in the order of their bytes: the same tree always gives the same archive.
pub(crate) fn sorted_names(directory: BorrowedFd) -> Result<Vec<(CString, FileType)>, Errno> {
    // The descriptor may be one that only names the directory.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut names = Vec::new();
    for entry in Dir::new(openat(directory, c".", flags, Mode::empty())?)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push((name.to_owned(), entry.file_type()));
        }
    }
    names.sort_unstable_by(|(one, _), (other, _)| one.as_bytes().cmp(other.as_bytes()));
    Ok(names)
}

/// Where a file has data. `None` when that cannot be told, or is not worth it.
fn segments(file: BorrowedFd, size: u64) -> Option<Vec<Segment>> {
    let mut segments = Vec::new();
    let mut position = 0;
    while position < size {
        let start = match seek(file, SeekFrom::Data(position)) {
            Ok(start) => start,
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            Err(_) => return None,
        };
        let end = seek(file, SeekFrom::Hole(start)).ok()?.min(size);
        if start >= size || segments.len() == MAX_SEGMENTS {
            return (start >= size).then_some(segments);
        }
        segments.push(Segment {
            offset: start,
            length: end.checked_sub(start)?,
        });
        position = end;
    }
    // A last, empty piece says where the file ends, for readers that go by the map alone.
    segments.push(Segment {
        offset: size,
        length: 0,
    });
    Some(segments)
}

/// Kernel interfaces in the shape of files: reading them has effects, or no end.
pub fn is_pseudo(fd: BorrowedFd) -> bool {
    const PSEUDO: [u64; 20] = [
        0x9fa0,      // proc
        0x6265_6572, // sysfs
        0x27_e0eb,   // cgroup
        0x6367_7270, // cgroup2
        0x1cd1,      // devpts
        0x1980_0202, // mqueue
        0x6462_6720, // debugfs
        0x7472_6163, // tracefs
        0x7363_6673, // securityfs
        0xcafe_4a11, // bpf
        0x6165_676c, // pstore
        0xde5e_81e4, // efivarfs
        0x6265_6570, // configfs
        0x4249_4e4d, // binfmt_misc
        0x6e73_6673, // nsfs
        0xf97c_ff8c, // selinuxfs
        0x6573_5543, // fusectl
        0x0187,      // autofs
        0x6759_6969, // rpc_pipefs
        0x6e66_7364, // nfsd
    ];
    fstatfs(fd).is_ok_and(|stat| PSEUDO.contains(&(stat.f_type as u64)))
}

/// The last error of a sink, as it stands in an I/O context.
impl From<LayerError> for io::Error {
    fn from(error: LayerError) -> io::Error {
        match error {
            LayerError::Write(error) => error,
            error => io::Error::other(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Read as _,
        os::unix::{fs::symlink, net::UnixListener},
    };

    use rustix::fs::{CWD, mknodat};

    use super::*;
    use crate::layer::tar::Reader;

    fn open(path: &std::path::Path) -> OwnedFd {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, path, flags, Mode::empty()).unwrap()
    }

    fn entries(archive: &[u8]) -> Vec<(Entry, Vec<u8>)> {
        let mut reader = Reader::new(archive);
        let mut entries = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            let mut data = Vec::new();
            reader.data().read_to_end(&mut data).unwrap();
            entries.push((entry, data));
        }
        entries
    }

    fn pack(directory: &std::path::Path) -> Vec<u8> {
        let mut archive = Vec::new();
        let mut packer = Packer::new(&mut archive, Rules::default());
        packer.add_contents(open(directory).as_fd(), b"").unwrap();
        packer.finish().unwrap();
        archive
    }

    #[test]
    fn a_tree_is_packed_in_order_with_links_and_without_sockets() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("b/c")).unwrap();
        fs::write(root.join("a"), "small").unwrap();
        fs::write(root.join("large"), vec![7; 300_000]).unwrap();
        fs::hard_link(root.join("a"), root.join("b/again")).unwrap();
        symlink("/etc/passwd", root.join("link")).unwrap();
        mknodat(open(root), "fifo", FileType::Fifo, Mode::RWXU, 0).unwrap();
        let _socket = UnixListener::bind(root.join("socket")).unwrap();
        rustix::fs::setxattr(root.join("a"), "user.colour", b"red", rustix::fs::XattrFlags::empty()).unwrap();
        let archive = pack(root);
        assert_eq!(archive, pack(root));
        let entries = entries(&archive);
        let names: Vec<_> = entries
            .iter()
            .map(|(entry, _)| String::from_utf8_lossy(&entry.path).into_owned())
            .collect();
        assert_eq!(names, ["a", "b/", "b/again", "b/c/", "fifo", "large", "link"]);
        assert_eq!(entries[0].1, b"small");
        assert_eq!(entries[0].0.xattrs, [(b"user.colour".to_vec(), b"red".to_vec())]);
        assert_eq!(
            (entries[2].0.kind, entries[2].0.link.as_slice()),
            (Kind::HardLink, &b"a"[..])
        );
        assert_eq!(entries[4].0.kind, Kind::Fifo);
        assert!(entries[5].1 == vec![7; 300_000]);
        assert_eq!(
            (entries[6].0.kind, entries[6].0.link.as_slice()),
            (Kind::Symlink, &b"/etc/passwd"[..])
        );
    }

    #[test]
    fn holes_are_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let file = fs::File::create(directory.path().join("sparse")).unwrap();
        file.set_len(1 << 30).unwrap();
        rustix::io::pwrite(&file, b"middle", 512 << 20).unwrap();
        let archive = pack(directory.path());
        assert!(archive.len() < 100_000, "{} bytes", archive.len());
        let entries = entries(&archive);
        assert_eq!(entries[0].0.size, 1 << 30);
        let segments = entries[0].0.sparse.as_ref().unwrap();
        assert!(segments.iter().any(|piece| piece.offset == 512 << 20), "{segments:?}");
        assert_eq!(&entries[0].1[..6], b"middle");
    }

    #[test]
    fn what_changes_meanwhile_is_packed_as_it_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (file, aside) = (directory.path().join("x"), directory.path().join("y"));
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let _ = fs::write(&file, "file");
                    let _ = fs::remove_file(&file);
                    let _ = symlink("/etc/shadow", &file);
                    let _ = fs::rename(&file, &aside);
                    let _ = fs::create_dir(&file);
                    let _ = fs::remove_dir(&file);
                    let _ = mknodat(CWD, &file, FileType::Fifo, Mode::RWXU, 0);
                    let _ = fs::remove_file(&file);
                }
            });
            for _ in 0..2000 {
                for (entry, data) in entries(&pack(directory.path())) {
                    assert!(data.is_empty() || data == b"file", "{entry:?}");
                }
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
}

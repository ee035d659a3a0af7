//! Extracting: an archive's entries go into a directory of a living tree, which somebody else may be changing meanwhile.
//!
//! As `tar x` does it: directories merge, everything else replaces what had its name. Symbolic links that the tree has on
//! the way to an entry are followed as a process whose root is the tree's would; links of the archive are made, never
//! trusted. Nothing is ever made, changed or removed outside of the root.
use std::{
    collections::HashMap,
    ffi::{CStr, OsStr},
    io::BufRead,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    rc::Rc,
    sync::Arc,
};

use corten_linux::fd::open_in_root;
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, RawMode, fstat, ftruncate, linkat, mkdirat, openat, statat, unlinkat},
    io::Errno,
};

use crate::layer::{
    error::{LayerError, printable},
    fill::Filler,
    make::{Late, Maker, Owner, Place},
    owners::Owners,
    pack::{is_pseudo, look, sorted_names, stat_of},
    tar::{Entry, Kind, Reader},
    walk::{clean, split},
};

/// Parents that are kept open.
const CACHE: usize = 200;
/// Of a directory that is replaced: each level holds a descriptor.
const MAX_DEPTH: usize = 512;
/// How often something may get in the way of an entry before that is an error.
const ATTEMPTS: usize = 16;

/// Where an archive goes.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// What nothing leaves.
    pub root: BorrowedFd<'a>,
    /// Beneath the root: where the entries' names begin.
    pub directory: BorrowedFd<'a>,
    /// The way from the root to that directory, for links on the way.
    pub path: &'a [u8],
    /// The same as whoever reads an error knows it.
    pub shown: &'a [u8],
    /// A directory does not take the place of something else, nor the other way round.
    pub keep_kinds: bool,
    pub owner: Owner,
    /// Who the archive's owners are in the tree, where they are others.
    pub owners: Option<&'a Owners>,
}

/// Extracts all entries, each after `change` has seen it. Returns how many there were.
pub fn extract<R: BufRead>(
    reader: &mut Reader<R>,
    target: Target<'_>,
    change: &mut dyn FnMut(&mut Entry),
) -> Result<u64, LayerError> {
    let maker = Arc::new(Maker::new(target.owner, target.owners.cloned()));
    let mut extractor = Extractor {
        target,
        filler: Filler::new(Arc::clone(&maker)),
        maker,
        parents: HashMap::new(),
        late: Vec::new(),
    };
    let entries = extractor.entries(reader, change);
    extractor.filler.finish()?;
    let entries = entries?;
    extractor.finish()?;
    Ok(entries)
}

struct Extractor<'a> {
    target: Target<'a>,
    maker: Arc<Maker>,
    filler: Filler,
    parents: HashMap<Vec<u8>, Rc<OwnedFd>>,
    late: Vec<Late>,
}

impl Extractor<'_> {
    fn entries<R: BufRead>(
        &mut self,
        reader: &mut Reader<R>,
        change: &mut dyn FnMut(&mut Entry),
    ) -> Result<u64, LayerError> {
        let mut entries = 0;
        while !self.filler.failed()
            && let Some(mut entry) = reader.next_entry()?
        {
            change(&mut entry);
            self.entry(reader, entry)?;
            entries += 1;
        }
        Ok(entries)
    }

    fn entry<R: BufRead>(&mut self, reader: &mut Reader<R>, mut entry: Entry) -> Result<(), LayerError> {
        let path = clean(&entry.path).map_err(|problem| LayerError::entry(&entry.path, problem))?;
        let name_in_archive = std::mem::take(&mut entry.path);
        // Not the archive's to say.
        entry.xattrs.retain(|(key, _)| !key.starts_with(b"trusted.overlay."));
        if path.is_empty() {
            return match entry.kind {
                Kind::Directory => Ok(()),
                _ => Err(LayerError::entry(&name_in_archive, "it has no name of its own")),
            };
        }
        let (parent, name) = split(&path);
        let Some(parent) = self.parent(parent, true, &name_in_archive)? else {
            return Err(LayerError::entry(
                &name_in_archive,
                "what should be its directory is none",
            ));
        };
        let place = Place {
            parent,
            name,
            entry: &name_in_archive,
        };
        match entry.kind {
            Kind::File => {
                let (file, new) = self.file(&entry, &place, &path)?;
                entry.path = name_in_archive;
                match new {
                    true => self.filler.fill(reader, entry, file),
                    false => self.maker.fill(reader, &entry, file.as_fd(), false),
                }
            }
            Kind::Directory => self.directory(entry, &place, &path),
            Kind::HardLink => self.hard_link(&entry, &place, &path),
            Kind::Symlink => {
                self.create(&place, &path, |maker| maker.create_symlink(&entry, &place))?;
                self.maker.finish_node(&entry, &place)
            }
            Kind::CharacterDevice | Kind::BlockDevice | Kind::Fifo => {
                self.create(&place, &path, |maker| maker.create_node(&entry, &place))?;
                self.maker.finish_node(&entry, &place)
            }
        }
    }

    /// An empty file, and whether it is a new one.
    fn file(&mut self, entry: &Entry, place: &Place<'_>, path: &[u8]) -> Result<(OwnedFd, bool), LayerError> {
        let mut attempts = 0..ATTEMPTS;
        loop {
            match self.maker.create_file(entry, place) {
                Ok(file) => return Ok((file, true)),
                Err(Errno::EXIST) if attempts.next().is_some() => {}
                Err(error) => return Err(place.failed("create it")(error)),
            }
            match self.clear(place, path) {
                Ok(()) => {}
                // Something is mounted there, as on a container's /etc/hosts: it stays, with new contents.
                Err(Trouble::Mounted) => return Ok((open_mounted(place)?, false)),
                Err(Trouble::Other(error)) => return Err(error),
            }
        }
    }

    /// Runs `make` until nothing is in its way.
    fn create<T>(
        &mut self,
        place: &Place<'_>,
        path: &[u8],
        make: impl Fn(&Maker) -> Result<T, Errno>,
    ) -> Result<T, LayerError> {
        let mut attempts = 0..ATTEMPTS;
        loop {
            match make(&self.maker) {
                Err(Errno::EXIST) if attempts.next().is_some() => {}
                result => return result.map_err(place.failed("create it")),
            }
            self.clear(place, path).map_err(|trouble| match trouble {
                Trouble::Mounted => place.failed("remove what it replaces")(Errno::BUSY),
                Trouble::Other(error) => error,
            })?;
        }
    }

    /// Takes away what has the entry's name, for something that is no directory.
    fn clear(&mut self, place: &Place<'_>, path: &[u8]) -> Result<(), Trouble> {
        let stat = match look(place.fd(), place.name) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(place.failed("read what it replaces")(error).into()),
        };
        // The kernel would take it away: what is mounted in another mount namespace than ours keeps nobody from that.
        let mount = stat_of(place.fd())
            .map_err(place.failed("read its directory"))?
            .stx_mnt_id;
        if stat.stx_mnt_id != mount {
            return Err(Trouble::Mounted);
        }
        let kind = FileType::from_raw_mode(stat.stx_mode.into());
        if kind != FileType::Directory {
            if kind == FileType::Symlink {
                self.parents.clear();
            }
            return match unlinkat(place.fd(), place.name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => Ok(()),
                Err(Errno::BUSY) => Err(Trouble::Mounted),
                Err(error) => Err(place.failed("remove what it replaces")(error).into()),
            };
        }
        if self.target.keep_kinds {
            return Err(self.conflict("directory", "non-directory", path).into());
        }
        self.parents.clear();
        remove_tree(place.fd(), place.name, mount, 0)
            .map_err(|error| place.failed("remove what it replaces")(error).into())
    }

    fn conflict(&self, old: &str, new: &str, path: &[u8]) -> LayerError {
        let within = |path: &[u8]| printable(&[self.target.shown, path].concat());
        let separator: &[u8] = if self.target.shown.ends_with(b"/") { b"" } else { b"/" };
        LayerError::Conflict(format!(
            "cannot overwrite {old} {:?} with {new} {:?}",
            within(&[separator, path].concat()),
            within(b"")
        ))
    }

    fn directory(&mut self, entry: Entry, place: &Place<'_>, path: &[u8]) -> Result<(), LayerError> {
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let mut attempts = 0..ATTEMPTS;
        let new = loop {
            match mkdirat(place.fd(), place.name, mode) {
                Ok(()) => break true,
                Err(Errno::EXIST) if attempts.next().is_some() => {}
                Err(error) => return Err(place.failed("create it")(error)),
            }
            let stat = match statat(place.fd(), place.name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(place.failed("read what it replaces")(error)),
            };
            if FileType::from_raw_mode(stat.st_mode as RawMode) == FileType::Directory {
                break false;
            }
            if self.target.keep_kinds {
                return Err(self.conflict("non-directory", "directory", path));
            }
            self.clear(place, path).map_err(|trouble| match trouble {
                Trouble::Mounted => place.failed("remove what it replaces")(Errno::BUSY),
                Trouble::Other(error) => error,
            })?;
        };
        self.maker.own_directory(&entry, place, new)?;
        self.late.push(Late {
            path: path.to_vec(),
            modified: entry.modified,
            // A set-group-id bit would be inherited by what is created inside.
            mode: (!new || self.maker.wrong_mode(entry.mode)).then_some(entry.mode),
            xattrs: entry.xattrs,
        });
        Ok(())
    }

    fn hard_link(&mut self, entry: &Entry, place: &Place<'_>, path: &[u8]) -> Result<(), LayerError> {
        let refused = |problem: &str| {
            let target = String::from_utf8_lossy(&entry.link);
            LayerError::entry(place.entry, format!("hard link to {target:?}: {problem}"))
        };
        let target = clean(&entry.link).map_err(|_| refused("that leads out of the directory"))?;
        let (directory, name) = split(&target);
        if name.is_empty() {
            return Err(refused("that is the directory itself"));
        }
        if target == path {
            return Ok(());
        }
        let Some(directory) = self.parent(directory, false, place.entry)? else {
            return Err(refused("no such file"));
        };
        self.create(place, path, |_| {
            linkat(&*directory, name, place.fd(), place.name, AtFlags::empty())
        })
    }

    /// The directory at a clean path beneath the target's. Missing ones are made when `create` says so, else `None`.
    fn parent(&mut self, path: &[u8], create: bool, entry: &[u8]) -> Result<Option<Rc<OwnedFd>>, LayerError> {
        let failed = |error| LayerError::file(entry, "open its directory")(error);
        if let Some(found) = self.parents.get(path) {
            return Ok(Some(found.clone()));
        }
        if path.is_empty() {
            let own = self.target.directory.try_clone_to_owned();
            let own = Rc::new(own.map_err(LayerError::file(entry, "open its directory"))?);
            self.parents.insert(Vec::new(), own.clone());
            return Ok(Some(own));
        }
        let (above, name) = split(path);
        let Some(above) = self.parent(above, create, entry)? else {
            return Ok(None);
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let found = match openat(&above, name, flags | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(found) => found,
            Err(Errno::NOENT) if !create => return Ok(None),
            Err(Errno::NOENT) => {
                match mkdirat(&above, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) => self.maker.own_parent(above.as_fd(), name, entry)?,
                    Err(Errno::EXIST) => {}
                    Err(error) => return Err(LayerError::file(entry, "create its directory")(error)),
                }
                openat(&above, name, flags | OFlags::NOFOLLOW, Mode::empty()).map_err(failed)?
            }
            // A link, most likely: the kernel follows it, and stays within the root.
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let way = [self.target.path, b"/", path].concat();
                let found = open_in_root(self.target.root, Path::new(OsStr::from_bytes(&way)), flags);
                match found {
                    Ok(found) => found,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound && !create => return Ok(None),
                    Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
                        return Err(LayerError::entry(entry, "what should be its directory is none"));
                    }
                    Err(error) => return Err(LayerError::file(entry, "open its directory")(error)),
                }
            }
            Err(error) => return Err(failed(error)),
        };
        if is_pseudo(found.as_fd()) {
            return Err(LayerError::entry(
                entry,
                "its directory is an interface of the kernel's",
            ));
        }
        if self.parents.len() >= CACHE {
            self.parents.clear();
        }
        let found = Rc::new(found);
        self.parents.insert(path.to_vec(), found.clone());
        Ok(Some(found))
    }

    /// Modes, attributes and times of directories, as filling them would have changed those.
    fn finish(mut self) -> Result<(), LayerError> {
        for late in std::mem::take(&mut self.late) {
            let (parent, name) = split(&late.path);
            let Some(parent) = self.parent(parent, false, &late.path)? else {
                continue;
            };
            let place = Place {
                parent,
                name,
                entry: &late.path,
            };
            self.maker.finish_directory(&late, &place)?;
        }
        Ok(())
    }
}

/// Why a name is not free.
enum Trouble {
    Mounted,
    Other(LayerError),
}

impl From<LayerError> for Trouble {
    fn from(error: LayerError) -> Trouble {
        Trouble::Other(error)
    }
}

/// A regular file that cannot be replaced, cut to nothing.
fn open_mounted(place: &Place<'_>) -> Result<OwnedFd, LayerError> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(place.fd(), place.name, flags, Mode::empty()).map_err(place.failed("open what it replaces"))?;
    let stat = fstat(&file).map_err(place.failed("read what it replaces"))?;
    if FileType::from_raw_mode(stat.st_mode as RawMode) != FileType::RegularFile {
        return Err(place.failed("remove what it replaces")(Errno::BUSY));
    }
    ftruncate(&file, 0).map_err(place.failed("empty what it replaces"))?;
    Ok(file)
}

/// Removes a directory with everything in it, but nothing of another mount and nothing that something is mounted on.
fn remove_tree(parent: BorrowedFd<'_>, name: &[u8], mount: u64, depth: usize) -> Result<(), Errno> {
    if depth > MAX_DEPTH {
        return Err(Errno::NAMETOOLONG);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let directory = match openat(parent, name, flags, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error),
    };
    if stat_of(directory.as_fd())?.stx_mnt_id != mount {
        return Err(Errno::BUSY);
    }
    for (name, _) in sorted_names(directory.as_fd())? {
        let removed = match look(directory.as_fd(), name.to_bytes()) {
            Err(error) => Err(error),
            Ok(stat) if stat.stx_mnt_id != mount => Err(Errno::BUSY),
            Ok(stat) if FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory => Err(Errno::ISDIR),
            Ok(_) => unlinkat(&directory, name.as_c_str(), AtFlags::empty()),
        };
        match removed {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => remove_tree(directory.as_fd(), CStr::to_bytes(&name), mount, depth + 1)?,
            Err(error) => return Err(error),
        }
    }
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    };

    use rustix::fs::CWD;

    use super::*;
    use crate::layer::write::{append, end, padding};

    struct World {
        outer: tempfile::TempDir,
        root: OwnedFd,
        directory: OwnedFd,
    }

    /// `outer/root` is the root, `outer/root/here` is where archives go.
    fn world() -> World {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir_all(outer.path().join("root/here")).unwrap();
        fs::write(outer.path().join("secret"), "secret").unwrap();
        let open = |path: &str| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            openat(CWD, outer.path().join(path), flags, Mode::empty()).unwrap()
        };
        let (root, directory) = (open("root"), open("root/here"));
        World { outer, root, directory }
    }

    impl World {
        fn extract(&self, archive: &[u8], keep_kinds: bool) -> Result<u64, LayerError> {
            let target = Target {
                root: self.root.as_fd(),
                directory: self.directory.as_fd(),
                path: b"/here",
                shown: b"/here",
                keep_kinds,
                owner: Owner::Archived,
                owners: None,
            };
            extract(&mut Reader::new(archive), target, &mut |_| ())
        }

        fn path(&self, path: &str) -> std::path::PathBuf {
            self.outer.path().join("root").join(path)
        }

        fn assert_outside_untouched(&self) {
            assert_eq!(fs::read_to_string(self.outer.path().join("secret")).unwrap(), "secret");
            assert_eq!(fs::metadata(self.outer.path().join("secret")).unwrap().nlink(), 1);
            assert_eq!(fs::read_dir(self.outer.path()).unwrap().count(), 2);
        }
    }

    fn archive(entries: &[(Kind, &str, &str)]) -> Vec<u8> {
        let mut archive = Vec::new();
        for &(kind, path, content) in entries {
            let data = if kind == Kind::File { content } else { "" };
            let entry = Entry {
                path: path.into(),
                link: if kind == Kind::File { Vec::new() } else { content.into() },
                mode: if kind == Kind::Directory { 0o750 } else { 0o640 },
                size: data.len() as u64,
                modified: (1_700_000_000, 0),
                ..Entry::of(kind)
            };
            append(&mut archive, &entry);
            archive.extend_from_slice(data.as_bytes());
            archive.extend_from_slice(padding(data.len() as u64));
        }
        archive.extend_from_slice(&end());
        archive
    }

    #[test]
    fn directories_merge_and_everything_else_replaces() {
        let world = world();
        fs::create_dir_all(world.path("here/d/kept")).unwrap();
        fs::write(world.path("here/f"), "old").unwrap();
        fs::create_dir_all(world.path("here/was-directory/x/y")).unwrap();
        symlink("f", world.path("here/was-link")).unwrap();
        let entries = [
            (Kind::Directory, "./", ""),
            (Kind::Directory, "d/", ""),
            (Kind::File, "d/new", "1"),
            (Kind::File, "f", "new"),
            (Kind::File, "was-directory", "2"),
            (Kind::File, "was-link", "3"),
            (Kind::File, "missing/parents/file", "4"),
            (Kind::HardLink, "again", "f"),
            (Kind::Symlink, "dangling", "/no/such"),
        ];
        assert_eq!(world.extract(&archive(&entries), false).unwrap(), 9);
        let read = |path: &str| fs::read_to_string(world.path(path)).unwrap();
        assert!(world.path("here/d/kept").is_dir());
        assert_eq!(
            [read("here/d/new"), read("here/f"), read("here/was-directory")],
            ["1", "new", "2"]
        );
        assert_eq!(
            [
                read("here/was-link"),
                read("here/missing/parents/file"),
                read("here/again")
            ],
            ["3", "4", "new"]
        );
        let directory = fs::metadata(world.path("here/d")).unwrap();
        assert_eq!(
            (directory.permissions().mode() & 0o7777, directory.mtime()),
            (0o750, 1_700_000_000)
        );
        assert_eq!(fs::metadata(world.path("here/f")).unwrap().nlink(), 2);
    }

    #[test]
    fn kinds_are_kept_where_that_is_asked() {
        let world = world();
        fs::create_dir(world.path("here/d")).unwrap();
        symlink("d", world.path("here/link")).unwrap();
        let error = world.extract(&archive(&[(Kind::File, "d", "x")]), true).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"cannot overwrite directory "/here/d" with non-directory "/here""#
        );
        let error = world
            .extract(&archive(&[(Kind::Directory, "link/", "")]), true)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"cannot overwrite non-directory "/here/link" with directory "/here""#
        );
        world
            .extract(&archive(&[(Kind::File, "link", "x"), (Kind::Directory, "d", "")]), true)
            .unwrap();
    }

    #[test]
    fn links_on_the_way_are_followed_within_the_root() {
        let world = world();
        let outside = world.outer.path().to_str().unwrap().to_owned();
        symlink("/there", world.path("here/absolute")).unwrap();
        symlink("../there", world.path("here/relative")).unwrap();
        symlink("../../../../..", world.path("here/up")).unwrap();
        symlink(&outside, world.path("here/outside")).unwrap();
        symlink("loop", world.path("here/loop")).unwrap();
        fs::create_dir(world.path("there")).unwrap();
        let entries = [
            (Kind::File, "absolute/a", "1"),
            (Kind::File, "relative/b", "2"),
            (Kind::File, "up/c", "3"),
        ];
        world.extract(&archive(&entries), true).unwrap();
        assert!(world.path("there/a").exists() && world.path("there/b").exists() && world.path("c").exists());
        for path in ["outside/secret", "loop/x"] {
            assert!(
                world.extract(&archive(&[(Kind::File, path, "gone")]), false).is_err(),
                "{path}"
            );
        }
        world.assert_outside_untouched();
    }

    #[test]
    fn hostile_names_and_links_stay_within() {
        let world = world();
        let secret = world.outer.path().join("secret").to_str().unwrap().to_owned();
        for entries in [
            &[(Kind::File, "../../secret", "gone")][..],
            &[(Kind::File, "a/../../../secret", "gone")],
            &[(Kind::HardLink, "link", "../../secret")],
            &[(Kind::HardLink, "link", secret.as_str())],
            &[(Kind::Symlink, "s", secret.as_str()), (Kind::HardLink, "h", "s/x")],
            &[(Kind::File, "", "nameless")],
        ] {
            assert!(world.extract(&archive(entries), false).is_err(), "{entries:?}");
        }
        // Links of the archive's own are made, and lead nowhere else.
        let entries = [
            (Kind::Symlink, "s", secret.as_str()),
            (Kind::File, "s", "a file now"),
            (Kind::Symlink, "t", "../../.."),
            (Kind::File, "t/made", "x"),
        ];
        world.extract(&archive(&entries), false).unwrap();
        assert_eq!(fs::read_to_string(world.path("here/s")).unwrap(), "a file now");
        assert!(world.path("made").exists());
        world.assert_outside_untouched();
    }

    #[test]
    fn a_directory_swapped_for_a_link_meanwhile_leads_nowhere_else() {
        let world = world();
        let stop = std::sync::atomic::AtomicBool::new(false);
        let (name, outside) = (world.path("here/d"), world.outer.path().to_owned());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let _ = fs::create_dir(&name);
                    let _ = fs::remove_dir_all(&name);
                    let _ = symlink(&outside, &name);
                    let _ = fs::remove_file(&name);
                }
            });
            let entries = archive(&[
                (Kind::Directory, "d/", ""),
                (Kind::File, "d/secret", "gone"),
                (Kind::HardLink, "d/hard", "d/secret"),
            ]);
            for _ in 0..2000 {
                let _ = world.extract(&entries, false);
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        world.assert_outside_untouched();
        let mode = fs::metadata(world.outer.path()).unwrap().permissions().mode();
        assert_ne!(mode & 0o777, 0o750);
    }
}

//! Differences: what a container's writable layer changes in the layers below it, as a list or as the tar of a new layer.
//!
//! Overlayfs keeps all of it in the upper directory: new and changed files as they are, a character device 0:0 for what is
//! gone, an attribute on directories that hide what is below. A file is there as soon as somebody opened it for writing,
//! so what has changed is told by comparing, in the way that Docker compares.
use std::{
    ffi::{CStr, OsStr},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxFlags, fgetxattr, lgetxattr, openat, readlinkat, statx},
    io::Errno,
};

use crate::layer::{
    error::LayerError,
    pack::{Packer, entry, sorted_names, stat_of},
    tar::{Entry, Kind},
};

const MAX_DEPTH: usize = 512;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    Modified,
    Added,
    Deleted,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// From the root, with a leading slash.
    pub path: Vec<u8>,
    pub kind: ChangeKind,
}

/// Places where mounts of the engine's own need something to stand on. What is made there is no change of the user's.
const MADE_FILES: [&[u8]; 5] = [
    b"/etc/hosts",
    b"/etc/hostname",
    b"/etc/resolv.conf",
    b"/sbin/docker-init",
    b"/.dockerenv",
];
/// And where it leads.
const MADE_LINK: (&[u8], &[u8]) = (b"/etc/mtab", b"/proc/mounts");
const MADE_DIRECTORIES: [&[u8]; 10] = [
    b"/dev",
    b"/dev/mqueue",
    b"/dev/pts",
    b"/dev/shm",
    b"/etc",
    b"/proc",
    b"/sbin",
    b"/sys",
    b"/sys/fs",
    b"/sys/fs/cgroup",
];

/// All changes, parents before what is in them, otherwise in the order of names.
///
/// `upper` is the writable layer's directory, on a mount without devices; `lower` the layers below as one tree.
pub fn changes(upper: BorrowedFd, lower: BorrowedFd) -> Result<Vec<Change>, LayerError> {
    let mut changes = Vec::new();
    compare(upper, Some(lower), b"", &mut changes, 0)?;
    Ok(changes)
}

fn compare(
    upper: BorrowedFd,
    lower: Option<BorrowedFd>,
    path: &[u8],
    changes: &mut Vec<Change>,
    depth: usize,
) -> Result<(), LayerError> {
    if depth > MAX_DEPTH {
        return Err(LayerError::entry(path, "it is nested too deeply"));
    }
    let names = list(upper, path)?;
    for (name, _) in &names {
        let path = [path, b"/", name.to_bytes()].concat();
        let Some(new) = look(upper, name, &path)? else {
            continue;
        };
        let old = lower.map_or(Ok(None), |lower| look(lower, name, &path))?;
        let mut tell = |kind| {
            let path = path.clone();
            changes.push(Change { path, kind });
        };
        match old {
            Some(_) if is_whiteout(&new) => tell(ChangeKind::Deleted),
            None if is_whiteout(&new) => {}
            _ if made_by_engine(upper, name, &path, &new, old.as_ref()) => {}
            None => {
                tell(ChangeKind::Added);
                if let Some(below) = directory(upper, name, &new) {
                    compare(below.as_fd(), None, &path, changes, depth + 1)?;
                }
            }
            Some(old) => {
                let mark = changes.len();
                let below = lower.and_then(|lower| directory(lower, name, &old));
                let below = below.as_ref().map(AsFd::as_fd);
                match (directory(upper, name, &new), below) {
                    (Some(above), below) => compare(above.as_fd(), below, &path, changes, depth + 1)?,
                    (None, Some(below)) => gone(below, &path, |_| false, changes)?,
                    (None, None) => {}
                }
                if changes.len() > mark || differ(&old, &new) || capability(upper, name) != capability_of(lower, name) {
                    let kind = ChangeKind::Modified;
                    changes.insert(mark, Change { path, kind });
                }
            }
        }
    }
    // Whatever an opaque directory does not have itself is gone.
    match lower {
        Some(lower) if is_opaque(upper) => {
            let stays = |name: &CStr| names.iter().any(|(known, _)| known.as_c_str() == name);
            gone(lower, path, stays, changes)
        }
        _ => Ok(()),
    }
}

fn gone(
    lower: BorrowedFd,
    path: &[u8],
    stays: impl Fn(&CStr) -> bool,
    changes: &mut Vec<Change>,
) -> Result<(), LayerError> {
    for (name, _) in list(lower, path)? {
        if !stays(&name) {
            changes.push(Change {
                path: [path, b"/", name.to_bytes()].concat(),
                kind: ChangeKind::Deleted,
            });
        }
    }
    Ok(())
}

/// Adds the upper directory's contents as a layer: whiteouts as `.wh.` files, in AUFS's way that all images use.
pub fn pack_layer(packer: &mut Packer<'_>, upper: BorrowedFd, lower: BorrowedFd) -> Result<(), LayerError> {
    let look = |fd| stat_of(fd).map_err(LayerError::file(b"/", "read it"));
    let (new, old) = (look(upper)?, look(lower)?);
    if ownership(&new) != ownership(&old) {
        packer.head(&entry(Kind::Directory, b"./".to_vec(), &new))?;
    }
    pack_directory(packer, upper, Some(lower), b"", 0)
}

fn pack_directory(
    packer: &mut Packer<'_>,
    upper: BorrowedFd,
    lower: Option<BorrowedFd>,
    prefix: &[u8],
    depth: usize,
) -> Result<(), LayerError> {
    if depth > MAX_DEPTH {
        return Err(LayerError::entry(prefix, "it is nested too deeply"));
    }
    for (name, _) in list(upper, prefix)? {
        let path = [prefix, name.to_bytes()].concat();
        let Some(new) = look(upper, &name, &path)? else {
            continue;
        };
        let old = lower.map_or(Ok(None), |lower| look(lower, &name, &path))?;
        if is_whiteout(&new) {
            let path = [prefix, WHITEOUT, name.to_bytes()].concat();
            packer.head(&mark(path, &new))?;
            continue;
        }
        if made_by_engine(upper, &name, &[b"/", path.as_slice()].concat(), &new, old.as_ref()) {
            continue;
        }
        let Some(above) = directory(upper, &name, &new) else {
            packer.add(upper, &name, &path)?;
            continue;
        };
        let moved = fgetxattr(&above, "trusted.overlay.redirect", &mut [0_u8; 1][..]);
        if !matches!(moved, Err(Errno::NODATA | Errno::NOTSUP)) {
            let problem = "it was renamed in a way that no layer can express (overlayfs with redirect_dir=on)";
            return Err(LayerError::entry(&path, problem));
        }
        let path = [path.as_slice(), b"/"].concat();
        packer.directory(above.as_fd(), &path)?;
        let mut below = old.and_then(|old| directory(lower?, &name, &old));
        if below.is_some() && is_opaque(above.as_fd()) {
            packer.head(&mark([path.as_slice(), OPAQUE].concat(), &new))?;
            below = None;
        }
        pack_directory(packer, above.as_fd(), below.as_ref().map(AsFd::as_fd), &path, depth + 1)?;
    }
    Ok(())
}

/// An empty file that stands for something.
fn mark(path: Vec<u8>, stat: &Statx) -> Entry {
    Entry {
        path,
        mode: 0o600,
        modified: (stat.stx_mtime.tv_sec, 0),
        ..Entry::of(Kind::File)
    }
}

fn list(directory: BorrowedFd, path: &[u8]) -> Result<Vec<(std::ffi::CString, FileType)>, LayerError> {
    match sorted_names(directory) {
        // Removed while it was open.
        Err(Errno::NOENT) => Ok(Vec::new()),
        names => names.map_err(LayerError::file(path, "list it")),
    }
}

fn look(directory: BorrowedFd, name: &CStr, path: &[u8]) -> Result<Option<Statx>, LayerError> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    match statx(directory, name, flags, StatxFlags::BASIC_STATS) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::STALE) => Ok(None),
        Err(error) => Err(LayerError::file(path, "read it")(error)),
    }
}

fn kind(stat: &Statx) -> FileType {
    FileType::from_raw_mode(stat.stx_mode.into())
}

fn is_whiteout(stat: &Statx) -> bool {
    kind(stat) == FileType::CharacterDevice && (stat.stx_rdev_major, stat.stx_rdev_minor) == (0, 0)
}

fn is_opaque(directory: BorrowedFd) -> bool {
    let mut value = [0; 2];
    fgetxattr(directory, "trusted.overlay.opaque", &mut value[..]).is_ok_and(|length| &value[..length] == b"y")
}

/// The directory of that name; `None` when it is none.
fn directory(parent: BorrowedFd, name: &CStr, stat: &Statx) -> Option<OwnedFd> {
    if kind(stat) != FileType::Directory {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty()).ok()
}

fn ownership(stat: &Statx) -> (u16, u32, u32) {
    (stat.stx_mode, stat.stx_uid, stat.stx_gid)
}

/// As Docker sees it: what a directory has in it makes it neither older nor larger, and some tools cut times to seconds.
fn differ(old: &Statx, new: &Statx) -> bool {
    let device = |stat: &Statx| (stat.stx_rdev_major, stat.stx_rdev_minor);
    if ownership(old) != ownership(new) || device(old) != device(new) {
        return true;
    }
    if kind(new) == FileType::Directory {
        return false;
    }
    let (before, after) = (old.stx_mtime, new.stx_mtime);
    let cut = before.tv_nsec == 0 || after.tv_nsec == 0;
    let same_time = before.tv_sec == after.tv_sec && (cut || before.tv_nsec == after.tv_nsec);
    !same_time || old.stx_size != new.stx_size
}

fn capability_of(directory: Option<BorrowedFd>, name: &CStr) -> Option<Vec<u8>> {
    directory.and_then(|directory| capability(directory, name))
}

/// A program's capabilities: the one attribute whose change Docker tells.
fn capability(directory: BorrowedFd, name: &CStr) -> Option<Vec<u8>> {
    let mut value = vec![0; 64];
    let directory = format!("/proc/self/fd/{}/", directory.as_raw_fd());
    let path = [directory.as_bytes(), name.to_bytes()].concat();
    let length = lgetxattr(OsStr::from_bytes(&path), "security.capability", value.as_mut_slice()).ok()?;
    value.truncate(length);
    Some(value)
}

/// Whether there is nothing but what a start needs to mount something onto.
fn made_by_engine(parent: BorrowedFd, name: &CStr, path: &[u8], new: &Statx, old: Option<&Statx>) -> bool {
    match kind(new) {
        FileType::RegularFile => MADE_FILES.contains(&path) && old.is_none() && new.stx_size == 0,
        FileType::Symlink if path == MADE_LINK.0 && old.is_none() => {
            readlinkat(parent, name, Vec::new()).is_ok_and(|target| target.to_bytes() == MADE_LINK.1)
        }
        FileType::Directory if MADE_DIRECTORIES.contains(&path) => {
            let plain = (FileType::Directory.as_raw_mode() as u16 | 0o755, 0, 0);
            if ownership(new) != old.map_or(plain, ownership) {
                return false;
            }
            let Some(directory) = directory(parent, name, new) else {
                return false;
            };
            sorted_names(directory.as_fd()).is_ok_and(|names| {
                names.iter().all(|(name, _)| {
                    let path = [path, b"/", name.to_bytes()].concat();
                    let stat = look(directory.as_fd(), name, &path);
                    matches!(stat, Ok(Some(stat)) if made_by_engine(directory.as_fd(), name, &path, &stat, None))
                })
            })
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Read as _,
        os::unix::fs::{PermissionsExt, symlink},
        path::{Path, PathBuf},
        process::Command,
    };

    use rustix::fs::CWD;

    use super::*;
    use crate::layer::{
        apply::{apply, open_directory},
        pack::Rules,
        tar::Reader,
    };

    fn open(path: &Path) -> OwnedFd {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, path, flags, Mode::empty()).unwrap()
    }

    /// A lower directory, and an overlay over it in which a script has run.
    struct World {
        directory: tempfile::TempDir,
    }

    fn world(script: &str) -> World {
        let directory = tempfile::tempdir().unwrap();
        for name in [
            "lower/etc",
            "lower/keep/deep",
            "lower/gone/x",
            "upper",
            "work",
            "merged",
        ] {
            fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        let lower = |name: &str| directory.path().join("lower").join(name);
        fs::write(lower("etc/passwd"), "root").unwrap();
        fs::write(lower("keep/deep/file"), "1").unwrap();
        fs::write(lower("gone/x/file"), "1").unwrap();
        symlink("passwd", lower("etc/link")).unwrap();
        let mount = "mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged && cd merged";
        let output = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-ec"])
            .arg(format!("{mount}\n{script}"))
            .current_dir(directory.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        World { directory }
    }

    impl World {
        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn changes(&self) -> Vec<String> {
            let changes = changes(open(&self.path("upper")).as_fd(), open(&self.path("lower")).as_fd()).unwrap();
            let letter = |kind| match kind {
                ChangeKind::Modified => 'C',
                ChangeKind::Added => 'A',
                ChangeKind::Deleted => 'D',
            };
            let line = |change: Change| format!("{} {}", letter(change.kind), String::from_utf8_lossy(&change.path));
            changes.into_iter().map(line).collect()
        }

        fn layer(&self) -> Vec<u8> {
            let mut archive = Vec::new();
            let mut packer = Packer::new(&mut archive, Rules::default());
            pack_layer(
                &mut packer,
                open(&self.path("upper")).as_fd(),
                open(&self.path("lower")).as_fd(),
            )
            .unwrap();
            packer.finish().unwrap();
            archive
        }

        fn names(&self) -> Vec<String> {
            let archive = self.layer();
            let mut reader = Reader::new(&archive[..]);
            let mut names = Vec::new();
            while let Some(entry) = reader.next_entry().unwrap() {
                reader.data().read_to_end(&mut Vec::new()).unwrap();
                names.push(String::from_utf8(entry.path).unwrap());
            }
            names
        }
    }

    #[test]
    fn changes_are_told_with_their_parents() {
        let world = world("echo 2 > keep/deep/file; rm -r gone; mkdir -p new/dir; echo x > new/dir/f; rm etc/link");
        let expected = [
            "C /etc",
            "D /etc/link",
            "D /gone",
            "C /keep",
            "C /keep/deep",
            "C /keep/deep/file",
            "A /new",
            "A /new/dir",
            "A /new/dir/f",
        ];
        assert_eq!(world.changes(), expected);
        let expected = [
            "etc/",
            "etc/.wh.link",
            ".wh.gone",
            "keep/",
            "keep/deep/",
            "keep/deep/file",
            "new/",
            "new/dir/",
            "new/dir/f",
        ];
        assert_eq!(world.names(), expected);
    }

    #[test]
    fn a_file_that_was_only_opened_has_not_changed() {
        let world = world("chmod 644 etc/passwd; chmod 700 keep/deep; exec 3>>keep/deep/file");
        assert_eq!(world.changes(), ["C /keep", "C /keep/deep"]);
    }

    #[test]
    fn a_directory_that_was_replaced_hides_what_was_in_it() {
        let world = world("rm -r keep; mkdir keep; echo x > keep/new; rm -r gone; echo x > gone");
        assert_eq!(
            world.changes(),
            ["C /gone", "D /gone/x", "C /keep", "A /keep/new", "D /keep/deep"]
        );
        assert_eq!(world.names(), ["gone", "keep/", "keep/.wh..wh..opq", "keep/new"]);
    }

    #[test]
    fn places_for_the_engines_mounts_are_no_change() {
        let world = world(
            "mkdir -p proc sys dev; touch etc/hosts etc/hostname etc/resolv.conf .dockerenv; \
                      ln -s /proc/mounts etc/mtab",
        );
        assert_eq!(world.changes(), Vec::<String>::new());
        assert_eq!(world.names(), Vec::<String>::new());
        let world = self::world("mkdir -p proc sys dev; touch etc/hosts etc/own; touch dev/file");
        assert_eq!(world.changes(), ["A /dev", "A /dev/file", "C /etc", "A /etc/own"]);
        assert_eq!(world.names(), ["dev/", "dev/file", "etc/", "etc/own"]);
    }

    #[test]
    fn the_layer_unpacks_to_the_upper_directory_again() {
        let script = "echo 2 > keep/deep/file; ln keep/deep/file keep/hard; rm -r gone; mkdir gone; mkfifo fifo; \
                      mknod dev c 1 3; chmod 4711 etc/passwd; chown 7:8 etc/passwd; ln -s x y; truncate -s 64M sparse";
        let world = world(script);
        for name in ["files", "discarded"] {
            fs::create_dir(world.path(name)).unwrap();
        }
        fs::set_permissions(world.path("upper"), fs::Permissions::from_mode(0o711)).unwrap();
        let layer = world.layer();
        let (files, discarded) = (world.path("files"), world.path("discarded"));
        let mut reader = Reader::new(&layer[..]);
        apply(
            &mut reader,
            open_directory(&files).unwrap(),
            open_directory(&discarded).unwrap(),
        )
        .unwrap();
        let list = |name: &str| {
            let script = "find . -printf '%P %y %m %U:%G %n %s %l %Ts\\n' | grep -v '^ ' | sort; \
                          getfattr -dRm 'trusted.overlay.opaque' . 2>/dev/null";
            let output = Command::new("sh")
                .args(["-c", script])
                .current_dir(world.path(name))
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let without_sizes_of_directories = |text: String| {
            let lines = text.lines().map(|line| match line.contains(" d ") {
                true => line.split(' ').take(4).collect::<Vec<_>>().join(" "),
                false => line.to_owned(),
            });
            lines.collect::<Vec<_>>()
        };
        assert_eq!(
            without_sizes_of_directories(list("files")),
            without_sizes_of_directories(list("upper"))
        );
        assert_eq!(fs::metadata(files).unwrap().permissions().mode() & 0o7777, 0o711);
    }
}

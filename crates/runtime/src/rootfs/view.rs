//! A container's files from outside: its root as one detached mount tree, for as long as the descriptor is open.
//!
//! Of a running container the tree is a copy of its mounts, whatever it has mounted since its start. Of one at rest it is
//! put together anew, in a mount namespace that ends with the thread that made it; no other namespace ever sees it. In
//! neither can a device be opened: what stands in a container's files is what the container put there.
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use corten_linux::{
    fd::{self, Make},
    mount::{self, Attributes},
    namespace,
    process::{NamespaceKind, pidfd_namespace},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{CWD, FileType, Mode, OFlags, open, openat},
    io::Errno,
    mount::{MountAttrFlags, fsconfig_set_flag, fsconfig_set_string},
};

use crate::rootfs::{mounts, overlay};

const CLONE_NEWNS: u64 = 0x0002_0000;
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// What a root file system is stacked from.
#[derive(Debug, Clone)]
pub struct Layers {
    /// Topmost first.
    pub lowers: Vec<PathBuf>,
    pub upper: PathBuf,
    pub work: PathBuf,
}

/// A directory or file of the host's at its place in a container.
#[derive(Debug, Clone)]
pub struct Bind {
    pub source: PathBuf,
    pub target: String,
    pub recursive: bool,
    pub writable: bool,
}

/// What may be done with a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing is written, and the layers may be used by somebody else meanwhile.
    Read,
    /// Nobody else may use the writable layer. What is written is on the disk when the kernel gets to it; afterwards
    /// [`forget_volatile`] must be called before the layer is mounted again.
    Write,
}

/// The root of a running process's mount namespace: with all its mounts, or as it is beneath them.
///
/// `None` when the process has ended.
pub fn of_process(pid: i32, pidfd: BorrowedFd, with_mounts: bool) -> io::Result<Option<OwnedFd>> {
    let Some(namespace) = mount_namespace(pid, pidfd)? else {
        return Ok(None);
    };
    let copy = || {
        namespace::unshare_directories()?;
        namespace::enter(namespace.as_fd(), CLONE_NEWNS)?;
        let root = open("/", DIRECTORY, Mode::empty())?;
        let tree = mount::clone_tree(root.as_fd(), with_mounts)?;
        without_devices(tree.as_fd())?;
        Ok(tree)
    };
    aside(copy).map(Some)
}

/// The root of a container that does not run. What is not there is not mounted; the engine said so at the last start.
pub fn at_rest(layers: &Layers, binds: &[Bind], access: Access) -> io::Result<OwnedFd> {
    if binds.is_empty() && access == Access::Read {
        return unchanged(layers);
    }
    let make = || {
        namespace::unshare(CLONE_NEWNS)?;
        let mut trees = Vec::with_capacity(binds.len());
        for bind in binds {
            trees.extend(open_bind(bind)?.map(|tree| (tree, bind)));
        }
        mounts::cut_off().map_err(|failure| io::Error::other(failure.message))?;
        let root = match access {
            Access::Read => with_scratch(layers)?,
            Access::Write => writable(layers)?,
        };
        if trees.is_empty() {
            without_devices(root.as_fd())?;
            return Ok(root);
        }
        // Any directory will do as a stage: nobody else is in this namespace.
        let stage = open(&layers.upper, DIRECTORY, Mode::empty())?;
        mount::attach(root.as_fd(), stage.as_fd())?;
        for (tree, bind) in trees {
            attach(tree, bind, root.as_fd())?;
        }
        let copy = mount::clone_tree(root.as_fd(), true)?;
        without_devices(copy.as_fd())?;
        Ok(copy)
    };
    aside(make)
}

/// The layers of a container that does not run, as they are, and nothing mounted on them.
pub fn unchanged(layers: &Layers) -> io::Result<OwnedFd> {
    let mut all = vec![layers.upper.clone()];
    all.extend_from_slice(&layers.lowers);
    overlay::read_only(&all)
}

/// Layers, topmost first, as one read-only tree.
pub fn stack(lowers: &[PathBuf]) -> io::Result<OwnedFd> {
    match lowers {
        [only] => directory(only),
        lowers => overlay::read_only(lowers),
    }
}

/// A directory of the host's by itself, in which no device can be opened.
pub fn directory(path: &Path) -> io::Result<OwnedFd> {
    let directory = open(path, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
    let tree = mount::clone_tree(directory.as_fd(), false)?;
    without_devices(tree.as_fd())?;
    Ok(tree)
}

/// Takes the mark away that a volatile mount leaves in its work directory, and that keeps the layer from being mounted.
pub fn forget_volatile(work: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(work.join("work/incompat")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Runs in a thread of its own, which may go into other namespaces and never comes back.
fn aside<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|_| Err(io::Error::other("a thread died")))
}

fn mount_namespace(pid: i32, pidfd: BorrowedFd) -> io::Result<Option<OwnedFd>> {
    let gone = |error: &io::Error| error.raw_os_error() == Some(Errno::SRCH.raw_os_error());
    match pidfd_namespace(pidfd, NamespaceKind::Mount) {
        Ok(namespace) => return Ok(Some(namespace)),
        Err(error) if gone(&error) => return Ok(None),
        // Before Linux 6.11, by number.
        Err(_) => {}
    }
    let path = format!("/proc/{pid}/ns/mnt");
    let namespace = match open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(namespace) => namespace,
        Err(Errno::NOENT | Errno::SRCH) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // The process lives, so the number was still its own.
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    Ok((poll(&mut fds, Some(&now))? == 0).then_some(namespace))
}

fn without_devices(tree: BorrowedFd) -> io::Result<()> {
    let attributes = Attributes {
        set: MountAttrFlags::MOUNT_ATTR_NODEV.bits().into(),
        ..Attributes::default()
    };
    mount::set_attributes(tree, attributes, true)
}

/// For reading, with a top layer in memory: places for mounts are made there.
fn with_scratch(layers: &Layers) -> io::Result<OwnedFd> {
    let context = mount::open_filesystem("tmpfs")?;
    let scratch = mount::finish(context.as_fd(), MountAttrFlags::empty())?;
    let stage = open(&layers.work, DIRECTORY, Mode::empty())?;
    mount::attach(scratch.as_fd(), stage.as_fd())?;
    for name in ["upper", "work"] {
        rustix::fs::mkdirat(&scratch, name, Mode::from_raw_mode(0o755))?;
    }
    let mut lowers = vec![layers.upper.clone()];
    lowers.extend_from_slice(&layers.lowers);
    mount_overlay(&Layers {
        lowers,
        upper: layers.work.join("upper"),
        work: layers.work.join("work"),
    })
}

fn writable(layers: &Layers) -> io::Result<OwnedFd> {
    forget_volatile(&layers.work)?;
    mount_overlay(layers)
}

/// Volatile: taking such a mount away does not write the whole disk out.
fn mount_overlay(layers: &Layers) -> io::Result<OwnedFd> {
    let Layers { lowers, upper, work } = layers;
    if !overlay::takes_layers_one_by_one(lowers) {
        return overlay::mount_at(upper, lowers, upper, work, true);
    }
    let context = mount::open_filesystem("overlay")?;
    for lower in lowers {
        fsconfig_set_string(&context, "lowerdir+", lower)?;
    }
    fsconfig_set_string(&context, "upperdir", upper)?;
    fsconfig_set_string(&context, "workdir", work)?;
    fsconfig_set_flag(&context, "volatile")?;
    mount::finish(context.as_fd(), MountAttrFlags::empty())
}

fn open_bind(bind: &Bind) -> io::Result<Option<OwnedFd>> {
    let source = match openat(CWD, &bind.source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Ok(source) => source,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let tree = mount::clone_tree(source.as_fd(), bind.recursive)?;
    if !bind.writable {
        let attributes = Attributes {
            set: MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into(),
            ..Attributes::default()
        };
        mount::set_attributes(tree.as_fd(), attributes, bind.recursive)?;
    }
    Ok(Some(tree))
}

fn attach(tree: OwnedFd, bind: &Bind, root: BorrowedFd) -> io::Result<()> {
    let make = match fd::file_type(tree.as_fd())? {
        FileType::Directory => Make::Directory,
        _ => Make::File,
    };
    let target = fd::ensure(root, &bind.target, make)?;
    match mount::attach(tree.as_fd(), target.as_fd()) {
        // A file where the image has a directory: the container could not be started either.
        Err(error) if error.raw_os_error() == Some(Errno::NOTDIR.raw_os_error()) => Ok(()),
        attached => attached,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::{mknodat, statat};

    use super::*;

    fn layers(directory: &Path) -> Layers {
        let path = |name: &str| {
            let path = directory.join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        Layers {
            lowers: vec![path("a"), path("b")],
            upper: path("upper"),
            work: path("work"),
        }
    }

    fn read(root: &OwnedFd, name: &str) -> io::Result<String> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        io::read_to_string(fs::File::from(openat(root, name, flags, Mode::empty())?))
    }

    fn write(root: &OwnedFd, name: &str, text: &str) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        let file = openat(root, name, flags, Mode::from_raw_mode(0o644))?;
        rustix::io::write(file, text.as_bytes())?;
        Ok(())
    }

    fn mounts() -> String {
        fs::read_to_string("/proc/self/mountinfo").unwrap()
    }

    #[test]
    fn a_container_at_rest_is_read_without_a_trace() {
        let directory = tempfile::tempdir().unwrap();
        let layers = layers(directory.path());
        fs::write(layers.lowers[1].join("low"), "low").unwrap();
        fs::write(layers.upper.join("up"), "up").unwrap();
        let volume = directory.path().join("volume");
        fs::create_dir(&volume).unwrap();
        fs::write(volume.join("file"), "of the volume").unwrap();
        let bind = |target: &str, writable| Bind {
            source: volume.clone(),
            target: target.to_owned(),
            recursive: true,
            writable,
        };
        let before = mounts();
        let missing = Bind {
            source: "/no/such".into(),
            ..bind("/elsewhere", true)
        };
        let binds = [bind("/data/deep", false), bind("/data/open", true), missing];
        let root = at_rest(&layers, &binds, Access::Read).unwrap();
        assert_eq!(mounts(), before);
        assert_eq!([read(&root, "low").unwrap(), read(&root, "up").unwrap()], ["low", "up"]);
        assert_eq!(read(&root, "data/deep/file").unwrap(), "of the volume");
        assert!(write(&root, "data/deep/file", "x").is_err());
        drop(root);
        assert_eq!(
            fs::read_dir(&layers.upper).unwrap().count(),
            1,
            "nothing was made for the mounts"
        );
        let root = at_rest(&layers, &[], Access::Read).unwrap();
        assert!(write(&root, "new", "x").is_err());
    }

    #[test]
    fn what_is_written_at_rest_stays_and_the_layer_can_be_mounted_again() {
        let directory = tempfile::tempdir().unwrap();
        let layers = layers(directory.path());
        let before = mounts();
        for round in 0..3 {
            let root = at_rest(&layers, &[], Access::Write).unwrap();
            write(&root, "file", &round.to_string()).unwrap();
            mknodat(
                &root,
                "null",
                FileType::CharacterDevice,
                Mode::RWXU,
                rustix::fs::makedev(1, 3),
            )
            .or_else(|error| if round > 0 { Ok(()) } else { Err(error) })
            .unwrap();
            statat(&root, "null", rustix::fs::AtFlags::empty()).unwrap();
            assert!(read(&root, "null").is_err(), "no device can be opened");
        }
        assert_eq!(fs::read_to_string(layers.upper.join("file")).unwrap(), "2");
        assert!(layers.work.join("work/incompat").exists());
        forget_volatile(&layers.work).unwrap();
        forget_volatile(&layers.work).unwrap();
        assert!(!layers.work.join("work/incompat").exists());
        assert_eq!(mounts(), before);
    }
}

//! /dev: the devices that every container has, those that it was given, and its console.
//!
//! Nodes are made with mknod; where that is forbidden the host's own are bound.
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use corten_linux::{
    fd::{self, Make},
    mount,
};
use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, fstat, major, makedev, minor, mknodat, open,
        openat, symlinkat, unlinkat,
    },
    io::Errno,
    pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::{
    error::Context,
    process::plan::{ChildPlan, DeviceKind, DevicePlan, MountPlan, MountSource},
    rootfs::{mounts, owners::IdMaps},
    shim::protocol::Failure,
};

/// (name, major, minor); all mode 0666, owned by root.
const DEFAULT: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Fills /dev, and makes the devices asked for anywhere else.
pub(crate) fn make(plan: &ChildPlan, root: BorrowedFd) -> Result<(), Failure> {
    if plan.default_devices {
        let dev = dev_directory(root)?;
        for device in default().filter(|_| !plan.user_namespace) {
            make_node(&device, dev.as_fd(), name_of(&device)?)?;
        }
        for (target, name) in LINKS {
            link(target, dev.as_fd(), name)?;
        }
        if Path::new("/proc/kcore").exists() {
            link("/proc/kcore", dev.as_fd(), "core")?;
        }
    }
    for device in plan.devices.iter().filter(|_| !plan.user_namespace) {
        let parent = device.path.parent().unwrap_or(Path::new("/"));
        let parent = fd::ensure(root, parent, Make::Directory).context(|| saying(device))?;
        make_node(device, parent.as_fd(), name_of(device)?)?;
    }
    Ok(())
}

fn default() -> impl Iterator<Item = DevicePlan> {
    DEFAULT.into_iter().map(|(name, major, minor)| DevicePlan {
        path: Path::new("/dev").join(name),
        kind: DeviceKind::Character,
        major,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
    })
}

fn saying(device: &DevicePlan) -> String {
    format!("cannot make the device {}", device.path.display())
}

fn name_of(device: &DevicePlan) -> Result<&str, Failure> {
    let name = device.path.file_name().and_then(|name| name.to_str());
    name.ok_or_else(|| Failure::invalid(format!("{}: not a path of a file", saying(device))))
}

/// Is this the /dev of a container in a user namespace, which its shim fills?
pub(crate) fn is_home(plan: &ChildPlan, mount: &MountPlan) -> bool {
    let tmpfs = matches!(&mount.what, MountSource::Filesystem { kind, .. } if kind == "tmpfs");
    plan.user_namespace && tmpfs && mount.target == Path::new("/dev")
}

/// That /dev, with all its devices: within the namespace none can be made. In the shim.
pub(crate) fn home(plan: &ChildPlan, mount: &MountPlan, maps: &IdMaps) -> Result<OwnedFd, Failure> {
    let host = |user, group| {
        let ids = maps.host_user(user).zip(maps.host_group(group));
        ids.ok_or_else(|| Failure::invalid(format!("user {user}:{group} is not in the container's user namespace")))
    };
    let (user, group) = host(0, 0)?;
    let owner = [("uid", user.to_string()), ("gid", group.to_string())];
    let dev = mounts::make_filesystem(mount, "tmpfs", Some("tmpfs"), &owner)?;
    for device in default().chain(plan.devices.iter().cloned()) {
        let (user, group) = host(device.uid, device.gid)?;
        let device = DevicePlan {
            uid: user,
            gid: group,
            ..device
        };
        let Ok(within) = device.path.strip_prefix("/dev") else {
            return Err(Failure::invalid(format!(
                "{}: in a user namespace devices can only be beneath /dev",
                saying(&device)
            )));
        };
        let parent = within.parent().unwrap_or(Path::new(""));
        let parent = fd::ensure(dev.as_fd(), parent, Make::Directory).context(|| saying(&device))?;
        make_node(&device, parent.as_fd(), name_of(&device)?)?;
    }
    Ok(dev)
}

fn dev_directory(root: BorrowedFd) -> Result<OwnedFd, Failure> {
    fd::open_without_links(root, "dev", OFlags::PATH | OFlags::DIRECTORY)
        .context(|| "/dev is not a directory of the image itself")
}

fn link(target: &str, directory: BorrowedFd, name: &str) -> Result<(), Failure> {
    let say = || format!("cannot link /dev/{name}");
    match symlinkat(target, directory, name) {
        Err(Errno::EXIST) => {
            // A /dev of the image itself, without a tmpfs over it.
            unlinkat(directory, name, AtFlags::empty()).context(say)?;
            symlinkat(target, directory, name).context(say)
        }
        result => result.context(say),
    }
}

fn make_node(device: &DevicePlan, directory: BorrowedFd, name: &str) -> Result<(), Failure> {
    let say = || format!("cannot make the device {}", device.path.display());
    let kind = match device.kind {
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Character => FileType::CharacterDevice,
        DeviceKind::Fifo => FileType::Fifo,
    };
    let number = makedev(device.major, device.minor);
    match mknodat(directory, name, kind, Mode::from_raw_mode(device.mode), number) {
        Ok(()) => {}
        Err(Errno::EXIST) => return replace_node(device, directory, name, kind).context(say),
        Err(Errno::PERM) => return bind_node(device, directory, name).context(say),
        Err(error) => return Err(error).context(say),
    }
    if (device.uid, device.gid) != (0, 0) {
        let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
        chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).context(say)?;
        // A change of owner may clear bits of the mode.
        chmodat(directory, name, Mode::from_raw_mode(device.mode), AtFlags::empty()).context(say)?;
    }
    Ok(())
}

/// Something has the name already: the same device is kept, anything else gives way.
fn replace_node(device: &DevicePlan, directory: BorrowedFd, name: &str, kind: FileType) -> io::Result<()> {
    let node = openat(
        directory,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let found = fstat(&node)?;
    if FileType::from_raw_mode(found.st_mode) == kind && found.st_rdev == makedev(device.major, device.minor) {
        return Ok(());
    }
    unlinkat(directory, name, AtFlags::empty())?;
    Ok(mknodat(
        directory,
        name,
        kind,
        Mode::from_raw_mode(device.mode),
        makedev(device.major, device.minor),
    )?)
}

fn bind_node(device: &DevicePlan, directory: BorrowedFd, name: &str) -> io::Result<()> {
    let host = open(&device.path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let found = fstat(&host)?;
    if (major(found.st_rdev), minor(found.st_rdev)) != (device.major, device.minor) {
        return Err(Errno::PERM.into());
    }
    let tree = mount::clone_tree(host.as_fd(), false)?;
    let place = fd::ensure(directory, name, Make::File)?;
    mount::attach(tree.as_fd(), place.as_fd())
}

/// A pseudo-terminal that becomes /dev/console. Returns (ours, the container's).
pub(crate) fn console(size: (u16, u16), root: BorrowedFd) -> Result<(OwnedFd, OwnedFd), Failure> {
    let say = || "cannot make the container's console";
    let (ours, theirs) = terminal(size, root)?;
    let dev = dev_directory(root)?;
    let place = fd::ensure(dev.as_fd(), "console", Make::File).context(say)?;
    let tree = mount::clone_tree(theirs.as_fd(), false).context(say)?;
    mount::attach(tree.as_fd(), place.as_fd()).context(say)?;
    Ok((ours, theirs))
}

/// A pseudo-terminal of the container's own devpts. Returns (ours, the container's).
pub(crate) fn terminal(size: (u16, u16), root: BorrowedFd) -> Result<(OwnedFd, OwnedFd), Failure> {
    let say = || "cannot make the container's terminal";
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK;
    let ours = fd::open_without_links(root, "dev/pts/ptmx", flags).context(say)?;
    let found = fstat(&ours).context(say)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::CharacterDevice || found.st_rdev != makedev(5, 2) {
        return Err(Failure::invalid(
            "cannot make the container's terminal: /dev/pts/ptmx is not a terminal device",
        ));
    }
    unlockpt(&ours).context(say)?;
    let peer_flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let theirs = ioctl_tiocgptpeer(&ours, peer_flags).context(say)?;
    let (rows, columns) = size;
    tcsetwinsize(
        &ours,
        Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )
    .context(say)?;
    Ok((ours, theirs))
}

/// Our own /dev/null, proven to be the null device: whatever the image ships under that name is not it.
pub(crate) fn null() -> io::Result<OwnedFd> {
    let null = open(
        "/dev/null",
        OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
    )?;
    let found = fstat(&null)?;
    if FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice && found.st_rdev == makedev(1, 3) {
        Ok(null)
    } else {
        Err(io::Error::other("/dev/null of the host is not the null device"))
    }
}

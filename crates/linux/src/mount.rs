//! `mount_setattr(2)`, and mounts by file descriptor as short verbs over rustix.
//!
//! A mount made here is detached: nobody sees it until [`attach`] puts it somewhere, and dropping it undoes it.
use std::{
    ffi::{CStr, c_long},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    ptr,
};

use linux_raw_sys::general as raw;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsmount, fsopen,
    move_mount, open_tree,
};

use crate::syscall::{check, syscall};

/// How mounts and unmounts travel between a mount and its copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    Private,
    Slave,
    Shared,
    Unbindable,
}

impl Propagation {
    fn bits(self) -> u64 {
        match self {
            Propagation::Unbindable => 1 << 17,
            Propagation::Private => 1 << 18,
            Propagation::Slave => 1 << 19,
            Propagation::Shared => 1 << 20,
        }
    }
}

/// What [`set_attributes`] changes; everything else stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `MOUNT_ATTR_*`.
    pub set: u64,
    pub clear: u64,
    pub propagation: Option<Propagation>,
}

/// `mount_setattr(2)` on the mount that `mount` is the root of, and on all beneath it when `recursive`.
pub fn set_attributes(mount: BorrowedFd, attributes: Attributes, recursive: bool) -> io::Result<()> {
    let attr = raw::mount_attr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: attributes.propagation.map_or(0, Propagation::bits),
        userns_fd: 0,
    };
    set(mount, &attr, recursive)
}

/// Lets files of a mount that nobody has seen yet belong to whom the maps of a user namespace say. Kernel ≥ 5.12, and
/// only some file systems: EINVAL elsewhere, EPERM on a mount that is mapped already.
pub fn set_id_map(mount: BorrowedFd, user_namespace: BorrowedFd, recursive: bool) -> io::Result<()> {
    let attr = raw::mount_attr {
        attr_set: u64::from(raw::MOUNT_ATTR_IDMAP),
        attr_clr: 0,
        propagation: 0,
        userns_fd: user_namespace.as_raw_fd() as u64,
    };
    set(mount, &attr, recursive)
}

fn set(mount: BorrowedFd, attr: &raw::mount_attr, recursive: bool) -> io::Result<()> {
    let flags = raw::AT_EMPTY_PATH | if recursive { raw::AT_RECURSIVE } else { 0 };
    let size = size_of::<raw::mount_attr>();
    // SAFETY: the path is an empty C string and `attr` lives across the call, which reads `size` bytes of it.
    let result = unsafe {
        let number = c_long::from(raw::__NR_mount_setattr);
        syscall(
            number,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            ptr::from_ref(attr),
            size,
        )
    };
    check(result).map(drop)
}

/// A detached copy of the mount at `at`, or of the subtree when `at` is not its root.
pub fn clone_tree(at: BorrowedFd, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(at, c"", flags)?)
}

/// Puts a detached mount onto `target`: descriptor to descriptor, no name is walked.
pub fn attach(mount: BorrowedFd, target: BorrowedFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, c"", target, c"", flags)?)
}

/// A new file system instance, to be configured and then [`finish`]ed.
pub fn open_filesystem(kind: &str) -> io::Result<OwnedFd> {
    Ok(fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?)
}

/// The configured file system as a detached mount.
pub fn finish(context: BorrowedFd, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    fsconfig_create(context)?;
    Ok(fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// What the kernel had to say about the last failure, where it says more than errno.
pub fn complaint(context: BorrowedFd) -> Option<String> {
    let mut buffer = [0u8; 512];
    let length = rustix::io::read(context.as_fd(), &mut buffer).ok()?;
    let text = CStr::from_bytes_until_nul(&buffer).map_or(&buffer[..length], CStr::to_bytes);
    let text = String::from_utf8_lossy(&text[..text.len().min(length)])
        .trim()
        .to_owned();
    // Each message begins with its severity: "e ", "w " or "i ".
    Some(text.get(2..).unwrap_or(&text).to_owned()).filter(|text| !text.is_empty())
}

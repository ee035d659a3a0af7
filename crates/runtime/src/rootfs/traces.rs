//! Traces: two names that programs look for in a container of Docker's.
//!
//! `/.dockerenv` tells them that they are in one, and `/etc/mtab` what is mounted. What is there already stays, and a root
//! that takes nothing new is no reason not to start.
use std::os::fd::{AsFd, BorrowedFd};

use corten_linux::fd;
use rustix::fs::{Mode, OFlags, openat, symlinkat};

pub(crate) fn leave(root: BorrowedFd) {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let _ = openat(root, ".dockerenv", flags, Mode::from_raw_mode(0o755));
    if let Ok(etc) = fd::open_in_root(root, "etc", OFlags::PATH | OFlags::DIRECTORY) {
        let _ = symlinkat("/proc/mounts", etc.as_fd(), "mtab");
    }
}

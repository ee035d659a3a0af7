//! Project quotas: how much a directory tree may hold, on file systems that count by project (ext4, xfs).
use std::{
    ffi::{c_int, c_long},
    io, mem,
    os::fd::{AsRawFd, BorrowedFd},
};

use linux_raw_sys::general as raw;

use crate::syscall::{check, syscall};

/// `struct fsxattr`, from linux/fs.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_on_write_extent_size: u32,
    _rest: [u8; 8],
}

/// `struct if_dqblk`, from linux/quota.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Limits {
    /// KiB.
    hard_blocks: u64,
    soft_blocks: u64,
    /// Bytes.
    space: u64,
    hard_inodes: u64,
    soft_inodes: u64,
    inodes: u64,
    block_time: u64,
    inode_time: u64,
    valid: u32,
}

const FS_IOC_FSGETXATTR: c_long = 0x801c_581f;
const FS_IOC_FSSETXATTR: c_long = 0x401c_5820;
/// New files and directories within take the project over.
const INHERIT: u32 = 0x200;
const PROJECT: c_int = 2;
const SET: c_int = 0x0080_0008;
const GET: c_int = 0x0080_0007;
const VALID_BLOCKS: u32 = 1;

fn attributes(file: BorrowedFd) -> io::Result<Attributes> {
    let mut found = Attributes::default();
    // SAFETY: the kernel writes a struct fsxattr there, which lives across the call.
    let result = unsafe {
        syscall(
            c_long::from(raw::__NR_ioctl),
            file.as_raw_fd(),
            FS_IOC_FSGETXATTR,
            &raw mut found,
        )
    };
    check(result).map(|_| found)
}

/// The project that a file is counted for; 0 means none.
pub fn project(file: BorrowedFd) -> io::Result<u32> {
    attributes(file).map(|found| found.project)
}

/// Counts a directory, and what is made within from now on, for a project.
pub fn set_project(directory: BorrowedFd, project: u32) -> io::Result<()> {
    let mut wanted = attributes(directory)?;
    wanted.flags |= INHERIT;
    wanted.project = project;
    // SAFETY: the kernel reads a struct fsxattr there, which lives across the call.
    let result = unsafe {
        syscall(
            c_long::from(raw::__NR_ioctl),
            directory.as_raw_fd(),
            FS_IOC_FSSETXATTR,
            &raw const wanted,
        )
    };
    check(result).map(drop)
}

/// `quotactl_fd(2)` on the file system of a file. Kernel ≥ 5.14.
fn quota(file: BorrowedFd, command: c_int, project: u32, limits: &mut Limits) -> io::Result<()> {
    let command = (command << 8) | PROJECT;
    // SAFETY: both commands read or write a struct if_dqblk, which lives across the call.
    let result = unsafe {
        syscall(
            c_long::from(raw::__NR_quotactl_fd),
            file.as_raw_fd(),
            command,
            project,
            std::ptr::from_mut(limits),
        )
    };
    check(result).map(drop)
}

const _: () = assert!(mem::size_of::<Limits>() == 72, "as the kernel has it");

/// How many bytes a project may take, rounded up to KiB; 0 means any. Fails with ESRCH where the file system does not
/// count by project.
pub fn set_limit(file: BorrowedFd, project: u32, bytes: u64) -> io::Result<()> {
    let mut limits = Limits {
        hard_blocks: bytes.div_ceil(1024),
        soft_blocks: bytes.div_ceil(1024),
        valid: VALID_BLOCKS,
        ..Limits::default()
    };
    quota(file, SET, project, &mut limits)
}

/// The bytes that a project may take and those that it takes.
pub fn limit(file: BorrowedFd, project: u32) -> io::Result<(u64, u64)> {
    let mut limits = Limits::default();
    quota(file, GET, project, &mut limits)?;
    Ok((limits.hard_blocks * 1024, limits.space))
}

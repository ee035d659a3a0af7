//! Namespaces: entering and leaving them, and bringing a new network namespace's loopback interface up.
use std::{
    ffi::{c_int, c_long},
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use linux_raw_sys::general as raw;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::syscall::{check, syscall};

/// `setns(2)` with a namespace's descriptor; `kind` is the `CLONE_NEW*` that it must be.
pub fn enter(namespace: BorrowedFd, kind: u64) -> io::Result<()> {
    // SAFETY: changes only which namespaces this process is in.
    check(unsafe { syscall(c_long::from(raw::__NR_setns), namespace.as_raw_fd(), kind as c_int) }).map(drop)
}

/// The calling thread's root and working directory become its own; a thread that shares them cannot enter a mount
/// namespace.
pub fn unshare_directories() -> io::Result<()> {
    unshare(u64::from(raw::CLONE_FS))
}

/// `unshare(2)` of namespaces only.
pub fn unshare(kinds: u64) -> io::Result<()> {
    // SAFETY: without CLONE_FILES no memory or descriptor of ours changes.
    check(unsafe { syscall(c_long::from(raw::__NR_unshare), kinds) }).map(drop)
}

/// `struct ifreq` with flags in its union.
#[repr(C)]
struct InterfaceFlags {
    name: [u8; 16],
    flags: i16,
    _rest: [u8; 22],
}

/// Sets `lo` up in the caller's network namespace; the kernel gives it its addresses.
pub fn bring_loopback_up() -> io::Result<()> {
    const SIOCSIFFLAGS: c_long = 0x8914;
    const IFF_UP: i16 = 1;
    const IFF_RUNNING: i16 = 1 << 6;
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut request = InterfaceFlags {
        name: [0; 16],
        flags: IFF_UP | IFF_RUNNING,
        _rest: [0; 22],
    };
    request.name[..2].copy_from_slice(b"lo");
    // SAFETY: the request is as large as struct ifreq and lives across the call.
    let result = unsafe {
        syscall(
            c_long::from(raw::__NR_ioctl),
            socket.as_raw_fd(),
            SIOCSIFFLAGS,
            &raw const request,
        )
    };
    check(result).map(drop)
}

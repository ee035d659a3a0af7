//! Processes: `clone3(2)`, pidfds, `execveat(2)`, and what a child needs between clone and exec.
//!
//! A process made by [`clone3`] is a copy of the caller like one made by `fork(2)`; that is only sound while the caller
//! has one thread. The launcher and the shims have.
use std::{
    ffi::{CStr, CString, c_char, c_int, c_long},
    io, mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

use linux_raw_sys::general as raw;
use rustix::process::Pid;

use crate::syscall::{check, syscall};

bitflags::bitflags! {
    /// Namespaces that a child gets of its own.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct CloneFlags: u64 {
        const NEWNS = raw::CLONE_NEWNS as u64;
        const NEWCGROUP = raw::CLONE_NEWCGROUP as u64;
        const NEWUTS = raw::CLONE_NEWUTS as u64;
        const NEWIPC = raw::CLONE_NEWIPC as u64;
        const NEWUSER = raw::CLONE_NEWUSER as u64;
        const NEWPID = raw::CLONE_NEWPID as u64;
        const NEWNET = raw::CLONE_NEWNET as u64;
    }
}

/// Where a [`clone3`] returned.
#[derive(Debug)]
pub enum Cloned {
    Child,
    Parent { pid: Pid, pidfd: OwnedFd },
}

/// `clone3(2)` as a fork into new namespaces and, where given, straight into a cgroup of the unified hierarchy.
///
/// # Safety
/// The caller must be the only thread of its process.
pub unsafe fn clone3(flags: CloneFlags, cgroup: Option<BorrowedFd>) -> io::Result<Cloned> {
    let mut pidfd: c_int = -1;
    // SAFETY: an all-zero clone_args is valid: no stack (a copy of the caller's), no tls, no set_tid.
    let mut args: raw::clone_args = unsafe { mem::zeroed() };
    args.flags = flags.bits() | u64::from(raw::CLONE_PIDFD);
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = u64::from(raw::SIGCHLD);
    if let Some(cgroup) = cgroup {
        args.flags |= raw::CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: args and pidfd live across the call; without CLONE_VM the child runs on its own copy of this stack. The
    // caller promises to be single-threaded, so no lock is held by a thread that the child lacks.
    let pid = check(unsafe { syscall(c_long::from(raw::__NR_clone3), &raw mut args, mem::size_of_val(&args)) })?;
    match Pid::from_raw(pid as i32) {
        None => Ok(Cloned::Child),
        Some(pid) => Ok(Cloned::Parent {
            pid,
            // SAFETY: CLONE_PIDFD made the kernel store a new descriptor there, and nobody else knows it.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
    }
}

/// `fork(2)`: `None` in the child. The parent gets no pidfd and need not wait when it ignores SIGCHLD.
///
/// # Safety
/// The caller must be the only thread of its process.
pub unsafe fn fork() -> io::Result<Option<Pid>> {
    // Not clone3: a container's filter lets that one end in ENOSYS, and docker-init forks within a container.
    // SAFETY: no flag but the signal and a null stack make it a fork; the caller promises to be single-threaded.
    let pid = check(unsafe { syscall(c_long::from(raw::__NR_clone), c_long::from(raw::SIGCHLD), 0, 0, 0, 0) })?;
    Ok(Pid::from_raw(pid as i32))
}

/// A kind of namespace that `ioctl(pidfd, PIDFD_GET_*_NAMESPACE)` hands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamespaceKind {
    Ipc,
    Mount,
    Net,
}

/// A descriptor of one namespace of a process. Kernel ≥ 6.11; ESRCH once the process has exited.
pub fn pidfd_namespace(pidfd: BorrowedFd, kind: NamespaceKind) -> io::Result<OwnedFd> {
    const PIDFS_IOCTL_MAGIC: c_long = 0xff << 8;
    let request = PIDFS_IOCTL_MAGIC
        | match kind {
            NamespaceKind::Ipc => 2,
            NamespaceKind::Mount => 3,
            NamespaceKind::Net => 4,
        };
    // SAFETY: these requests take no argument and return a new descriptor.
    let fd = check(unsafe { syscall(c_long::from(raw::__NR_ioctl), pidfd.as_raw_fd(), request, 0) })?;
    // SAFETY: the kernel just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// `pidfd_send_signal(2)`; any number, real-time signals too.
pub fn pidfd_send_signal(pidfd: BorrowedFd, number: i32) -> io::Result<()> {
    let null = ptr::null::<u8>();
    // SAFETY: without a siginfo the kernel reads no memory of ours; it checks the number.
    check(unsafe {
        syscall(
            c_long::from(raw::__NR_pidfd_send_signal),
            pidfd.as_raw_fd(),
            number,
            null,
            0,
        )
    })
    .map(drop)
}

/// Makes a command begin in another network namespace than ours.
pub fn start_in_network(command: &mut std::process::Command, network: OwnedFd) {
    use std::os::unix::process::CommandExt;
    let enter = move || {
        // SAFETY: changes only which namespace the new process is in; the descriptor is owned by this closure.
        let entered = unsafe {
            syscall(
                c_long::from(raw::__NR_setns),
                network.as_raw_fd(),
                c_long::from(raw::CLONE_NEWNET),
            )
        };
        check(entered).map(drop)
    };
    // SAFETY: between fork and exec the closure makes one system call and touches no memory but its own.
    unsafe { command.pre_exec(enter) };
}

/// Marks every descriptor from `first` on close-on-exec.
pub fn close_range_on_exec(first: RawFd) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: c_int = 1 << 2;
    // SAFETY: only sets flags on descriptors.
    check(unsafe {
        syscall(
            c_long::from(raw::__NR_close_range),
            first,
            c_int::MAX,
            CLOSE_RANGE_CLOEXEC,
        )
    })
    .map(drop)
}

/// Leaves this process with copies of `keep`, numbered from `first` on, and nothing beyond them.
///
/// For a process that is a copy of another and must let go of what that one holds.
///
/// # Safety
/// No value made before may use or drop a descriptor from `first` on afterwards, those in `keep` included.
pub unsafe fn keep_only(keep: &[BorrowedFd], first: RawFd) -> io::Result<Vec<OwnedFd>> {
    let beyond = first + keep.len() as RawFd;
    let copies = keep.iter().map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, beyond));
    let copies: Vec<OwnedFd> = copies.collect::<Result<_, _>>()?;
    let mut kept = Vec::with_capacity(copies.len());
    for (number, copy) in (first..).zip(&copies) {
        // SAFETY: whatever had the number is, as the caller promises, used no more.
        kept.push(unsafe {
            place(copy.as_fd(), number, false)?;
            OwnedFd::from_raw_fd(number)
        });
    }
    mem::forget(copies);
    // SAFETY: only raw system calls: nobody owns what is closed, for the copies were forgotten.
    check(unsafe { syscall(c_long::from(raw::__NR_close_range), beyond, c_int::MAX, 0) })?;
    Ok(kept)
}

/// `dup3(2)` onto a number of our choice, inherited across exec when `inherit`.
///
/// # Safety
/// If `number` is open, no value that owns it may be used or dropped afterwards.
pub unsafe fn place(fd: BorrowedFd, number: RawFd, inherit: bool) -> io::Result<()> {
    let flags = if inherit { 0 } else { raw::O_CLOEXEC };
    if fd.as_raw_fd() == number {
        let flag = if inherit { 0 } else { c_long::from(raw::FD_CLOEXEC) };
        // SAFETY: F_SETFD only changes a flag of that descriptor.
        let set = unsafe { syscall(c_long::from(raw::__NR_fcntl), number, c_long::from(raw::F_SETFD), flag) };
        return check(set).map(drop);
    }
    // SAFETY: the caller promises that nobody owns `number`.
    check(unsafe { syscall(c_long::from(raw::__NR_dup3), fd.as_raw_fd(), number, flags) }).map(drop)
}

/// An argument or environment vector in the kernel's form.
pub struct Vector {
    pointers: Vec<*const c_char>,
    _strings: Vec<CString>,
}

impl Vector {
    pub fn new(strings: Vec<CString>) -> Vector {
        let mut pointers: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
        pointers.push(ptr::null());
        Vector {
            pointers,
            _strings: strings,
        }
    }
}

/// `execve(2)`: returns only when it failed.
pub fn execve(path: &CStr, arguments: &Vector, environment: &Vector) -> io::Error {
    let (arguments, environment) = (arguments.pointers.as_ptr(), environment.pointers.as_ptr());
    // SAFETY: the path is NUL-terminated, both vectors end with null and point to strings that live as long as they do.
    unsafe { syscall(c_long::from(raw::__NR_execve), path.as_ptr(), arguments, environment) };
    io::Error::last_os_error()
}

/// Ends this process at once, without running destructors or flushing anything.
pub fn exit_now(code: i32) -> ! {
    loop {
        // SAFETY: does not return.
        unsafe { syscall(c_long::from(raw::__NR_exit_group), code) };
    }
}

//! Signal dispositions and the signal mask: what a child inherits unless someone resets it.
//!
//! Ignored signals stay ignored across exec, so a container's process would inherit the SIGPIPE that Rust ignores.
use std::{
    ffi::{c_int, c_long},
    io,
    sync::atomic::{AtomicI32, Ordering},
};

use linux_raw_sys::general as raw;
use rustix::process::Pid;

use crate::syscall::{check, syscall};

const IGNORE: usize = 1;
const LAST: c_int = 64;

unsafe extern "C" {
    fn signal(number: c_int, handler: usize) -> usize;
}

/// Lets a signal do what it does by default. Also those that the C library keeps for itself.
pub fn set_default(number: i32) {
    // `struct sigaction` as the kernel has it: handler (SIG_DFL), flags, restorer, mask.
    let action = [0u64; 4];
    let (none, size) = (std::ptr::null::<u64>(), size_of::<u64>());
    // SAFETY: the kernel reads one struct sigaction, which `action` is at least as large as; SIG_DFL runs no code of
    // ours, and numbers that cannot be changed are refused.
    unsafe {
        syscall(
            c_long::from(raw::__NR_rt_sigaction),
            number,
            &raw const action,
            none,
            size,
        )
    };
}

/// Drops a signal. Ignoring SIGCHLD makes the kernel reap children by itself.
pub fn ignore(number: i32) {
    // SAFETY: SIG_IGN runs no code of ours.
    unsafe { signal(number, IGNORE) };
}

/// Every disposition as a fresh process has it, and nothing blocked.
pub fn reset_all() -> io::Result<()> {
    for number in 1..=LAST {
        set_default(number);
    }
    set_mask(0)
}

/// Blocks exactly the signals whose bits (number - 1) are set.
pub fn set_mask(blocked: u64) -> io::Result<()> {
    let how = c_long::from(raw::SIG_SETMASK);
    // SAFETY: the kernel reads eight bytes of `blocked` and writes nothing.
    let result = unsafe {
        syscall(
            c_long::from(raw::__NR_rt_sigprocmask),
            how,
            &raw const blocked,
            0usize,
            size_of::<u64>(),
        )
    };
    check(result).map(drop)
}

/// Who gets what [`forward`] receives.
static TARGET: AtomicI32 = AtomicI32::new(0);

extern "C" fn forward(number: c_int) {
    let target = TARGET.load(Ordering::Relaxed);
    // SAFETY: kill(2) is async-signal-safe and touches no memory.
    unsafe { syscall(c_long::from(raw::__NR_kill), target, number) };
}

/// From now on every signal that can be caught, but for SIGCHLD and the terminal's own stops, goes to `target` instead.
pub fn forward_all_to(target: Pid) {
    TARGET.store(target.as_raw_nonzero().get(), Ordering::Relaxed);
    let kept = [
        raw::SIGCHLD,
        raw::SIGKILL,
        raw::SIGSTOP,
        raw::SIGTTIN,
        raw::SIGTTOU,
        raw::SIGSEGV,
        raw::SIGBUS,
    ];
    let kept = kept.map(|number| number as c_int);
    for number in (1..=LAST).filter(|number| !kept.contains(number) && !matches!(number, 32 | 33)) {
        // SAFETY: the handler only makes one async-signal-safe system call.
        unsafe { signal(number, forward as *const () as usize) };
    }
    // A background process that touches the terminal's settings must not stop the container.
    ignore(raw::SIGTTOU as c_int);
    ignore(raw::SIGTTIN as c_int);
}

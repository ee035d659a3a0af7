//! Signal dispositions and the signal mask: what a child inherits unless someone resets it.
//!
//! Ignored signals stay ignored across exec, so a container's process would inherit the SIGPIPE that Rust ignores.
use std::{
    ffi::{c_int, c_long},
    io,
};

use linux_raw_sys::general as raw;

use crate::syscall::{check, syscall};

const DEFAULT: usize = 0;
const IGNORE: usize = 1;
const LAST: c_int = 64;

unsafe extern "C" {
    fn signal(number: c_int, handler: usize) -> usize;
}

/// Lets a signal do what it does by default.
pub fn set_default(number: i32) {
    // SAFETY: SIG_DFL runs no code of ours; numbers that cannot be changed are refused by the kernel.
    unsafe { signal(number, DEFAULT) };
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
        syscall(c_long::from(raw::__NR_rt_sigprocmask), how, &raw const blocked, 0usize, size_of::<u64>())
    };
    check(result).map(drop)
}

//! The way to system calls that rustix lacks: libc's own `syscall`, which every Rust program links anyway.
//!
//! Numbers come from `linux_raw_sys::general::__NR_*`.
use std::ffi::{c_long, c_ulong};
use std::io;

unsafe extern "C" {
    pub(crate) fn syscall(number: c_long, ...) -> c_long;
}

/// Up to six arguments; the rest are zero.
///
/// # Safety
/// The arguments must be what the kernel expects for `number`, with pointers valid for as long as it uses them.
pub(crate) unsafe fn call<const N: usize>(number: u32, arguments: [usize; N]) -> io::Result<usize> {
    let argument = |index: usize| arguments.get(index).copied().unwrap_or(0) as c_ulong;
    // SAFETY: `syscall` is variadic over machine words; the caller answers for their meaning.
    let result = unsafe {
        syscall(
            number as c_long,
            argument(0),
            argument(1),
            argument(2),
            argument(3),
            argument(4),
            argument(5),
        )
    };
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as usize)
    }
}

/// -1 means: look at errno.
pub(crate) fn check(result: c_long) -> io::Result<c_long> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

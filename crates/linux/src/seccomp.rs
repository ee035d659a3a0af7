//! `seccomp(2)`: a filter over the system calls that a process may make.
//!
//! The program is an array of `struct sock_filter`, carried as `u64` so that it can be sent and stored as plain numbers.
use std::io;

use linux_raw_sys::general::__NR_seccomp;

use crate::syscall::call;

/// Log every action but `ALLOW`.
pub const FLAG_LOG: u32 = 1 << 1;
/// Leave speculative store bypass mitigation off.
pub const FLAG_SPEC_ALLOW: u32 = 1 << 2;

/// One classic BPF instruction, as `struct sock_filter` lies in memory.
pub const fn instruction(code: u16, jump_true: u8, jump_false: u8, k: u32) -> u64 {
    let [c0, c1] = code.to_ne_bytes();
    let [k0, k1, k2, k3] = k.to_ne_bytes();
    u64::from_ne_bytes([c0, c1, jump_true, jump_false, k0, k1, k2, k3])
}

#[repr(C)]
struct Program {
    len: u16,
    filter: *const u64,
}

const SECCOMP_SET_MODE_FILTER: usize = 1;

/// Filters this thread, and what it becomes by fork and exec, from now on; can only be tightened later.
///
/// Needs `CAP_SYS_ADMIN` in the thread's user namespace or `no_new_privs`.
pub fn set_filter(program: &[u64], flags: u32) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(22))?;
    let program = Program {
        len,
        filter: program.as_ptr(),
    };
    // SAFETY: `program` and the instructions it points to live across the call, which only reads them; u64 is as large
    // as struct sock_filter and at least as strictly aligned.
    unsafe {
        call(
            __NR_seccomp,
            [SECCOMP_SET_MODE_FILTER, flags as usize, &raw const program as usize],
        )
    }
    .map(drop)
}

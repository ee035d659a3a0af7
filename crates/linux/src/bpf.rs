//! `bpf(2)`, as far as a device filter on a v2 cgroup needs it: load a program, attach it, find and detach others.
//!
//! Memory of programs is charged to the cgroup since Linux 5.11, so `RLIMIT_MEMLOCK` is never touched: raising it takes
//! a capability that many hosts do not have.
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use linux_raw_sys::general::__NR_bpf;

use crate::syscall::call;

const BPF_PROG_LOAD: usize = 5;
const BPF_PROG_ATTACH: usize = 8;
const BPF_PROG_DETACH: usize = 9;
const BPF_PROG_GET_FD_BY_ID: usize = 13;
const BPF_PROG_QUERY: usize = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;

/// One eBPF instruction, as `struct bpf_insn` lies in memory.
pub const fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> u64 {
    let registers = if cfg!(target_endian = "little") {
        destination | source << 4
    } else {
        destination << 4 | source
    };
    let [o0, o1] = offset.to_ne_bytes();
    let [i0, i1, i2, i3] = immediate.to_ne_bytes();
    u64::from_ne_bytes([code, registers, o0, o1, i0, i1, i2, i3])
}

/// The head of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default)]
struct LoadAttribute {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// … for `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[repr(C)]
#[derive(Default)]
struct AttachAttribute {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replace: u32,
}

/// … for `BPF_PROG_QUERY`.
#[repr(C)]
#[derive(Default)]
struct QueryAttribute {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

/// # Safety
/// `attribute` must be the attribute of `command`, and the addresses in it valid.
unsafe fn bpf<T>(command: usize, attribute: &mut T) -> io::Result<usize> {
    // SAFETY: the kernel reads (and for queries writes) at most the size we state; the rest is the caller's word.
    unsafe { call(__NR_bpf, [command, &raw mut *attribute as usize, size_of::<T>()]) }
}

/// Loads a program that decides over accesses to devices (`BPF_PROG_TYPE_CGROUP_DEVICE`).
pub fn load_device_program(program: &[u64]) -> io::Result<OwnedFd> {
    let mut attribute = LoadAttribute {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        name: *b"corten_devices\0\0",
        ..LoadAttribute::default()
    };
    // SAFETY: the instructions and the licence outlive the call; the kernel verifies the program itself.
    let fd = unsafe { bpf(BPF_PROG_LOAD, &mut attribute) }?;
    // SAFETY: the kernel just gave us this descriptor (close-on-exec), and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Attaches a device program to a v2 cgroup, beside those that are there: all of them must agree.
pub fn attach_device_program(cgroup: BorrowedFd, program: BorrowedFd) -> io::Result<()> {
    attach(BPF_PROG_ATTACH, cgroup, program, BPF_F_ALLOW_MULTI)
}

pub fn detach_device_program(cgroup: BorrowedFd, program: BorrowedFd) -> io::Result<()> {
    attach(BPF_PROG_DETACH, cgroup, program, 0)
}

fn attach(command: usize, cgroup: BorrowedFd, program: BorrowedFd, flags: u32) -> io::Result<()> {
    let mut attribute = AttachAttribute {
        target: cgroup.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: BPF_CGROUP_DEVICE,
        flags,
        replace: 0,
    };
    // SAFETY: the attribute holds descriptors only, both alive.
    unsafe { bpf(command, &mut attribute) }.map(drop)
}

/// The device programs that are attached to this very cgroup.
pub fn device_programs(cgroup: BorrowedFd) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0u32; 64];
    let mut attribute = QueryAttribute {
        target: cgroup.as_raw_fd() as u32,
        kind: BPF_CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        ..QueryAttribute::default()
    };
    // SAFETY: the kernel writes at most `count` ids into the array, which outlives the call.
    unsafe { bpf(BPF_PROG_QUERY, &mut attribute) }?;
    let count = (attribute.count as usize).min(ids.len());
    ids[..count].iter().map(|id| program_by_id(*id)).collect()
}

fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attribute = [id, 0, 0];
    // SAFETY: the attribute is three plain numbers: the id, where to go on from, flags.
    let fd = unsafe { bpf(BPF_PROG_GET_FD_BY_ID, &mut attribute) }?;
    // SAFETY: the kernel just gave us this descriptor (close-on-exec), and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

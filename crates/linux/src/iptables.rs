//! The older iptables, as far as needed to see whether it lets packets through: the `filter` table's FORWARD chain.
//!
//! Only looks, and only at a table that is loaded: asking for another one would load it. Layouts are those of
//! linux/netfilter_ipv4/ip_tables.h and its IPv6 sibling; what the kernel returns is its own `struct` for this machine.
use std::{
    ffi::{c_int, c_long},
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use linux_raw_sys::general as raw;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with};

use crate::syscall::{check, syscall};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Ipv4,
    Ipv6,
}

/// What becomes of forwarded packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// What no rule decides about is dropped.
    pub drops: bool,
    /// Chains that somebody has added to the table.
    pub chains: Vec<String>,
}

/// Bytes of a table's name, of a target's header, and of what stands before the entries.
const NAME: usize = 32;
const TARGET_HEADER: usize = 32;
const ENTRIES_HEADER: usize = 40;
/// `NF_INET_FORWARD`
const FORWARD: usize = 2;
/// A table with hundreds of thousands of rules; the kernel's answer is not trusted beyond it.
const SIZE_MAX: usize = 64 << 20;

/// Where things are in an entry.
struct Layout {
    level: c_int,
    target_offset: usize,
    header: usize,
}

impl Family {
    fn layout(self) -> Layout {
        match self {
            Family::Ipv4 => Layout {
                level: 0,
                target_offset: 88,
                header: 112,
            },
            Family::Ipv6 => Layout {
                level: 41,
                target_offset: 140,
                header: 168,
            },
        }
    }
}

/// The tables that the calling thread's network namespace has loaded: `filter`, `nat`, …
pub fn tables(family: Family) -> io::Result<Vec<String>> {
    let names = match family {
        Family::Ipv4 => "/proc/thread-self/net/ip_tables_names",
        Family::Ipv6 => "/proc/thread-self/net/ip6_tables_names",
    };
    match fs::read_to_string(names) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => Ok(result?.lines().map(str::to_owned).collect()),
    }
}

/// The `filter` table of the calling thread's network namespace; `None` where none is loaded.
pub fn forward(family: Family) -> io::Result<Option<Forward>> {
    if !tables(family)?.iter().any(|name| name == "filter") {
        return Ok(None);
    }
    let domain = match family {
        Family::Ipv4 => AddressFamily::INET,
        Family::Ipv6 => AddressFamily::INET6,
    };
    const IPPROTO_RAW: u32 = 255;
    let protocol = Protocol::from_raw(IPPROTO_RAW.try_into().expect("it is not 0"));
    let socket = socket_with(domain, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol))?;
    let layout = family.layout();
    let (underflow, size) = info(socket.as_fd(), &layout)?;
    let entries = entries(socket.as_fd(), &layout, size)?;
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "unknown layout of iptables' entries");
    read(&entries, &layout, underflow).map(Some).ok_or_else(malformed)
}

/// `IPT_SO_GET_INFO`: where the FORWARD chain's policy is, and how many bytes the entries have.
fn info(socket: BorrowedFd, layout: &Layout) -> io::Result<(usize, usize)> {
    const GET_INFO: c_int = 64;
    // Name, which hooks, where each chain begins and where its policy is, how many entries, their size.
    let mut info = [0; NAME + 4 + 5 * 4 + 5 * 4 + 4 + 4];
    info[..6].copy_from_slice(b"filter");
    get_option(socket, layout.level, GET_INFO, &mut info)?;
    let underflow = number(&info, NAME + 4 + 5 * 4 + FORWARD * 4).expect("within");
    let size = number(&info, NAME + 4 + 5 * 4 + 5 * 4 + 4).expect("within");
    Ok((underflow, size))
}

/// `IPT_SO_GET_ENTRIES`. Fails with EAGAIN when the table has just changed its size.
fn entries(socket: BorrowedFd, layout: &Layout, size: usize) -> io::Result<Vec<u8>> {
    const GET_ENTRIES: c_int = 65;
    if size > SIZE_MAX {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    let mut entries = vec![0; ENTRIES_HEADER + size];
    entries[..6].copy_from_slice(b"filter");
    let bytes = u32::try_from(size).expect("checked above");
    entries[NAME..NAME + 4].copy_from_slice(&bytes.to_ne_bytes());
    get_option(socket, layout.level, GET_ENTRIES, &mut entries)?;
    Ok(entries.split_off(ENTRIES_HEADER))
}

/// `getsockopt(2)`.
fn get_option(socket: BorrowedFd, level: c_int, option: c_int, value: &mut [u8]) -> io::Result<()> {
    let mut length = u32::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the value has as many bytes as `length` says, and both live across the call.
    let result = unsafe {
        syscall(
            c_long::from(raw::__NR_getsockopt),
            socket.as_raw_fd(),
            level,
            option,
            value.as_mut_ptr(),
            &raw mut length,
        )
    };
    check(result).map(drop)
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_ne_bytes(bytes)).ok()
}

fn short(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(usize::from(u16::from_ne_bytes(bytes)))
}

fn read(entries: &[u8], layout: &Layout, underflow: usize) -> Option<Forward> {
    /// `-NF_DROP - 1`
    const DROP: u32 = -1_i32 as u32;
    let target = |entry: usize| Some(entry + short(entries, entry + layout.target_offset)?);
    let verdict = number(entries, target(underflow)? + TARGET_HEADER)?;
    let mut chains = Vec::new();
    let mut entry = 0;
    while entry < entries.len() {
        let target = target(entry)?;
        // The head of a chain is an entry whose target is the error that has the chain's name; the last one is "ERROR".
        let kind = entries.get(target + 2..target + TARGET_HEADER)?;
        if text(kind) == "ERROR" {
            let name = text(entries.get(target + TARGET_HEADER..)?);
            if name != "ERROR" {
                chains.push(name);
            }
        }
        let length = short(entries, entry + layout.target_offset + 2)?;
        if length < layout.header {
            return None;
        }
        entry += length;
    }
    Some(Forward {
        drops: verdict == DROP as usize,
        chains,
    })
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end.min(NAME)]).into_owned()
}

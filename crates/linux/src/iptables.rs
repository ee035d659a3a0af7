//! The older iptables, as far as needed to see whether it lets packets through: the `filter` table's FORWARD chain.
//!
//! Only looks, and only at a table that is loaded: asking for another one would load it. Layouts are those of
//! linux/netfilter_ipv4/ip_tables.h and its IPv6 sibling; what the kernel returns is its own `struct` for this machine.
use std::{
    ffi::{c_int, c_long},
    fs, io,
    ops::RangeInclusive,
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
    /// What no rule decides about is dropped, or a rule without conditions drops what comes to it.
    pub drops: bool,
    /// Chains that somebody has added to the table.
    pub chains: Vec<String>,
    /// Interfaces that any rule of the table is about. A beginning of names ends in `*`.
    pub interfaces: Vec<String>,
}

/// Bytes of a table's name, of a target's header, and of what stands before the entries.
const NAME: usize = 32;
const TARGET_HEADER: usize = 32;
/// `IFNAMSIZ`
const INTERFACE: usize = 16;
const ENTRIES_HEADER: usize = 40;
/// `NF_INET_FORWARD`
const FORWARD: usize = 2;
/// A table with hundreds of thousands of rules; the kernel's answer is not trusted beyond it.
const SIZE_MAX: usize = 64 << 20;

/// Where things are in an entry.
struct Layout {
    level: c_int,
    /// The name of the interface that packets come in by; after it that of the other, and the masks of both.
    interfaces: usize,
    /// Conditions end here; the entry has more of them between its header and its target.
    conditions: usize,
    target_offset: usize,
    header: usize,
}

impl Family {
    fn layout(self) -> Layout {
        match self {
            Family::Ipv4 => Layout {
                level: 0,
                interfaces: 16,
                conditions: 84,
                target_offset: 88,
                header: 112,
            },
            Family::Ipv6 => Layout {
                level: 41,
                interfaces: 64,
                conditions: 136,
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
    let (chain, size) = info(socket.as_fd(), &layout)?;
    let entries = entries(socket.as_fd(), &layout, size)?;
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "unknown layout of iptables' entries");
    read(&entries, &layout, chain).map(Some).ok_or_else(malformed)
}

/// `IPT_SO_GET_INFO`: where the FORWARD chain begins and where its policy is, and how many bytes the entries have.
fn info(socket: BorrowedFd, layout: &Layout) -> io::Result<(RangeInclusive<usize>, usize)> {
    const GET_INFO: c_int = 64;
    // Name, which hooks, where each chain begins and where its policy is, how many entries, their size.
    let mut info = [0; NAME + 4 + 5 * 4 + 5 * 4 + 4 + 4];
    info[..6].copy_from_slice(b"filter");
    get_option(socket, layout.level, GET_INFO, &mut info)?;
    let first = number(&info, NAME + 4 + FORWARD * 4).expect("within");
    let policy = number(&info, NAME + 4 + 5 * 4 + FORWARD * 4).expect("within");
    let size = number(&info, NAME + 4 + 5 * 4 + 5 * 4 + 4).expect("within");
    Ok((first..=policy, size))
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

fn read(entries: &[u8], layout: &Layout, chain: RangeInclusive<usize>) -> Option<Forward> {
    let mut found = Forward {
        drops: false,
        chains: Vec::new(),
        interfaces: Vec::new(),
    };
    let mut entry = 0;
    while entry < entries.len() {
        let target_offset = short(entries, entry + layout.target_offset)?;
        let length = short(entries, entry + layout.target_offset + 2)?;
        if length < layout.header {
            return None;
        }
        let target = entries.get(entry + target_offset..)?;
        // The head of a chain is an entry whose target is the error that has the chain's name; the last one is "ERROR".
        let kind = text(target.get(2..TARGET_HEADER)?);
        if kind == "ERROR" {
            let name = text(target.get(TARGET_HEADER..)?);
            if name != "ERROR" {
                found.chains.push(name);
            }
        }
        let conditions = entries.get(entry..entry + layout.conditions)?;
        let unconditional = target_offset == layout.header && conditions.iter().all(|&byte| byte == 0);
        // The policy is an entry as well.
        found.drops |= chain.contains(&entry) && unconditional && drops(&kind, target);
        found.interfaces.extend(interfaces(&conditions[layout.interfaces..]));
        entry += length;
    }
    Some(found)
}

fn drops(kind: &str, target: &[u8]) -> bool {
    /// `-NF_DROP - 1`
    const DROP: usize = -1_i32 as u32 as usize;
    match kind {
        // The standard target, with a verdict.
        "" => number(target, TARGET_HEADER) == Some(DROP),
        "REJECT" => true,
        _ => false,
    }
}

/// Names and masks, as `struct ipt_ip` and its sibling have them. A beginning of names is one whose NUL the mask leaves
/// out; it still has its `+`.
fn interfaces(bytes: &[u8]) -> impl Iterator<Item = String> + '_ {
    [0, INTERFACE].into_iter().filter_map(|at| {
        let name = text(&bytes[at..at + INTERFACE]);
        let mask = &bytes[at + 2 * INTERFACE..at + 3 * INTERFACE];
        let compared = mask.iter().take_while(|&&byte| byte != 0).count();
        match name.get(..compared) {
            _ if name.is_empty() => None,
            Some(beginning) => Some(format!("{beginning}*")),
            None => Some(name),
        }
    })
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end.min(NAME)]).into_owned()
}

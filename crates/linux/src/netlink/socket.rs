//! A netlink socket: send a batch, read its answers.
//!
//! It belongs to the network namespace of the thread that opened it, for as long as it lives, whatever namespace its
//! user is in later. Calls block; the kernel answers them while they are sent.
use std::{
    error, fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netlink, netlink::SocketAddrNetlink, recv,
        send, socket_with, sockopt,
    },
};

use crate::netlink::message::{Batch, HEADER, Received};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The error's message carries what follows the request's header no further.
const NLM_F_CAPPED: u16 = 0x100;
/// The error carries attributes: the kernel's own sentence.
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// Answers come in packets of at most this size (NLMSG_GOODSIZE, and what dumps use).
const RECEIVE: usize = 64 << 10;

/// Which kernel subsystem answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Route,
    Netfilter,
}

/// The kernel said no to one message of a batch.
#[derive(Debug)]
pub struct Refusal {
    /// Which message: 0 is the first.
    pub index: usize,
    pub errno: Errno,
    /// The kernel's sentence (extended acknowledgement), where it gave one.
    pub message: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(message) => write!(f, "{message} ({})", io::Error::from(self.errno)),
            None => write!(f, "{}", io::Error::from(self.errno)),
        }
    }
}

impl error::Error for Refusal {}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Refusal {
        Refusal {
            index: 0,
            errno,
            message: None,
        }
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> io::Error {
        match refusal.message {
            None => refusal.errno.into(),
            Some(_) => io::Error::new(io::Error::from(refusal.errno).kind(), refusal),
        }
    }
}

#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    next: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// A socket in the calling thread's network namespace.
    pub fn open(protocol: Protocol) -> io::Result<Socket> {
        let protocol = match protocol {
            // NETLINK_ROUTE is 0.
            Protocol::Route => None,
            Protocol::Netfilter => Some(netlink::NETFILTER),
        };
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        bind(&fd, &SocketAddrNetlink::new(0, 0))?;
        // A batch of thousands of elements must fit, and so must its acknowledgements. The limits are the host's.
        let _ = sockopt::set_socket_send_buffer_size_force(&fd, 8 << 20)
            .or_else(|_| sockopt::set_socket_send_buffer_size(&fd, 8 << 20));
        let _ = sockopt::set_socket_recv_buffer_size_force(&fd, 8 << 20)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(&fd, 8 << 20));
        // Sentences beside the numbers of errors (4.12).
        set_netlink_option(fd.as_fd(), NETLINK_EXT_ACK, 1)?;
        set_netlink_option(fd.as_fd(), NETLINK_CAP_ACK, 1)?;
        Ok(Socket {
            fd,
            next: 1,
            buffer: vec![0; RECEIVE],
        })
    }

    /// Sends a batch and waits for the acknowledgement of every message that asks for one. The first refusal is the
    /// answer; whether messages after it took effect is up to the subsystem (nftables: none does; rtnetlink: all do).
    pub fn transact(&mut self, batch: &mut Batch) -> Result<(), Refusal> {
        if batch.is_empty() {
            // The kernel refuses to be sent nothing.
            return Ok(());
        }
        let first = self.next;
        let count = batch.len();
        self.next = self.next.wrapping_add(u32::try_from(count).unwrap_or(u32::MAX)).max(1);
        let mut waiting = batch.acknowledged().filter(|asked| *asked).count();
        send(&self.fd, batch.number(first), SendFlags::empty())?;
        let mut refused: Option<Refusal> = None;
        while waiting > 0 {
            let length = self.receive()?;
            for (header, payload) in messages(&self.buffer[..length]) {
                let index = header.sequence.wrapping_sub(first) as usize;
                if header.kind != NLMSG_ERROR || index >= count {
                    continue;
                }
                waiting = waiting.saturating_sub(1);
                if let Some(refusal) = refusal(&header, payload, index)
                    && refused.as_ref().is_none_or(|known| index < known.index)
                {
                    // nftables drops a batch at its first error, and acknowledges nothing more.
                    refused = Some(refusal);
                }
            }
            if refused.is_some() {
                self.drain();
                break;
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Sends one request for a list; `each` gets the kind and the bytes (family header first) of every answer.
    pub fn dump(&mut self, batch: &mut Batch, mut each: impl FnMut(u16, &[u8])) -> Result<(), Refusal> {
        let number = self.next;
        self.next = self.next.wrapping_add(1).max(1);
        send(&self.fd, batch.number(number), SendFlags::empty())?;
        loop {
            let length = self.receive()?;
            for (header, payload) in messages(&self.buffer[..length]) {
                if header.sequence != number {
                    continue;
                }
                match header.kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => return refusal(&header, payload, 0).map_or(Ok(()), Err),
                    kind => each(kind, payload),
                }
            }
        }
    }

    /// Joins a multicast group: what it says is read with [`Socket::listen`], on a socket that does nothing else.
    pub fn join(&self, group: u32) -> io::Result<()> {
        set_netlink_option(self.fd.as_fd(), NETLINK_ADD_MEMBERSHIP, group)
    }

    /// Waits for what its groups say. `ENOBUFS`: some of it was lost.
    pub fn listen(&mut self, mut each: impl FnMut(u16, &[u8])) -> Result<(), Errno> {
        let length = self.receive()?;
        for (header, payload) in messages(&self.buffer[..length]) {
            each(header.kind, payload);
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<usize, Errno> {
        loop {
            match recv(&self.fd, self.buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((length, _)) => return Ok(length),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes what else lies there, so that it is not taken for the next batch's answer.
    fn drain(&mut self) {
        while recv(&self.fd, self.buffer.as_mut_slice(), RecvFlags::DONTWAIT).is_ok() {}
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

struct Header {
    kind: u16,
    flags: u16,
    sequence: u32,
}

/// The messages of one packet.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    std::iter::from_fn(move || {
        let header: &[u8; HEADER] = bytes.first_chunk()?;
        let length = u32::from_ne_bytes(*header.first_chunk()?) as usize;
        let payload = bytes.get(HEADER..length)?;
        let header = Header {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            sequence: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((header, payload))
    })
}

/// What an acknowledgement says; `None` is yes.
fn refusal(header: &Header, payload: &[u8], index: usize) -> Option<Refusal> {
    let number = payload.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    if number == 0 {
        return None;
    }
    let echoed = match header.flags & NLM_F_CAPPED {
        0 => payload
            .get(4..8)
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(HEADER, |bytes| (u32::from_ne_bytes(bytes) as usize).next_multiple_of(4)),
        _ => HEADER,
    };
    let message = (header.flags & NLM_F_ACK_TLVS != 0)
        .then(|| payload.get(4 + echoed..))
        .flatten()
        .and_then(|bytes| Received::new(bytes).text(NLMSGERR_ATTR_MSG))
        .map(str::to_owned);
    Some(Refusal {
        index,
        errno: Errno::from_raw_os_error(-number),
        message,
    })
}

const NETLINK_ADD_MEMBERSHIP: i32 = 1;
const NETLINK_CAP_ACK: i32 = 10;
const NETLINK_EXT_ACK: i32 = 11;

/// `setsockopt(2)` of a netlink option.
fn set_netlink_option(fd: BorrowedFd, option: i32, value: u32) -> io::Result<()> {
    use std::{ffi::c_long, os::fd::AsRawFd};

    use linux_raw_sys::general as raw;

    use crate::syscall::{check, syscall};
    const SOL_NETLINK: i32 = 270;
    // SAFETY: the value is an int that lives across the call.
    let result = unsafe {
        syscall(
            c_long::from(raw::__NR_setsockopt),
            fd.as_raw_fd(),
            SOL_NETLINK,
            option,
            &raw const value,
            size_of::<u32>(),
        )
    };
    check(result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::flags;

    const RTM_NEWLINK: u16 = 16;
    const RTM_GETLINK: u16 = 18;

    #[test]
    fn a_dump_lists_the_loopback_interface() {
        let mut socket = Socket::open(Protocol::Route).expect("netlink");
        let mut names = Vec::new();
        let mut batch = Batch::new();
        batch.message(RTM_GETLINK, flags::REQUEST | flags::DUMP, &[0; 16], |_| {});
        socket
            .dump(&mut batch, |_, payload| {
                names.extend(Received::new(&payload[16..]).text(3).map(str::to_owned))
            })
            .expect("allowed");
        assert!(names.iter().any(|name| name == "lo"), "{names:?}");
    }

    #[test]
    fn a_refusal_names_the_message_and_the_next_batch_is_not_confused() {
        let mut socket = Socket::open(Protocol::Route).expect("netlink");
        for _ in 0..2 {
            let mut batch = Batch::new();
            for index in [1_i32, i32::MAX] {
                let mut header = [0; 16];
                header[4..8].copy_from_slice(&index.to_ne_bytes());
                batch.message(RTM_NEWLINK, flags::REQUEST | flags::ACK, &header, |_| {});
            }
            let refusal = socket.transact(&mut batch).expect_err("there is no such interface");
            assert_eq!((refusal.index, refusal.errno), (1, Errno::NODEV));
        }
    }
}

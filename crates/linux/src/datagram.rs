//! Datagrams together with the address of ours that they came to, and answers that come from it.
//!
//! A socket on every address of a host answers from the one that routing picks, unless it is told (`IP_PKTINFO`).
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

use linux_raw_sys::general::{__NR_recvmsg, __NR_sendmsg, __NR_setsockopt};

use crate::syscall::call;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IPPROTO_IP: i32 = 0;
const IPPROTO_IPV6: i32 = 41;
const IP_PKTINFO: i32 = 8;
const IPV6_RECVPKTINFO: i32 = 49;
const IPV6_PKTINFO: i32 = 50;
const MSG_NOSIGNAL: usize = 0x4000;

/// `struct iovec`.
#[repr(C)]
struct Part {
    base: *mut u8,
    length: usize,
}

/// `struct msghdr`.
#[repr(C)]
struct Message {
    name: *mut u8,
    name_length: u32,
    parts: *mut Part,
    part_count: usize,
    control: *mut u8,
    control_length: usize,
    flags: i32,
}

/// `struct sockaddr_storage`, as much of it as IP needs.
#[repr(C, align(8))]
struct Name([u8; 32]);

/// `struct cmsghdr` with a `struct in_pktinfo` or `struct in6_pktinfo` behind it.
#[repr(C)]
struct Control {
    length: usize,
    level: i32,
    kind: i32,
    data: [u8; 24],
}

const CONTROL_HEAD: usize = 16;

/// Lets [`receive`] know where datagrams came to. `ipv6` is the socket's family; it may serve IPv4 too.
pub fn tell_destination(socket: BorrowedFd, ipv6: bool) -> io::Result<()> {
    let (level, option) = match ipv6 {
        true => (IPPROTO_IPV6, IPV6_RECVPKTINFO),
        false => (IPPROTO_IP, IP_PKTINFO),
    };
    let on: i32 = 1;
    // SAFETY: the value is an int that outlives the call, of the length that is said.
    let result = unsafe {
        call(
            __NR_setsockopt,
            [
                socket.as_raw_fd() as usize,
                level as usize,
                option as usize,
                (&raw const on) as usize,
                size_of::<i32>(),
            ],
        )
    };
    result.map(drop)
}

/// A datagram: its length in `buffer`, who sent it, and to which address of ours, where the socket tells.
pub fn receive(socket: BorrowedFd, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, Option<IpAddr>)> {
    let mut name = Name([0; 32]);
    let mut control = Control {
        length: 0,
        level: 0,
        kind: 0,
        data: [0; 24],
    };
    let mut part = Part {
        base: buffer.as_mut_ptr(),
        length: buffer.len(),
    };
    let mut message = Message {
        name: (&raw mut name).cast(),
        name_length: size_of::<Name>() as u32,
        parts: &raw mut part,
        part_count: 1,
        control: (&raw mut control).cast(),
        control_length: size_of::<Control>(),
        flags: 0,
    };
    // SAFETY: every pointer of the message leads to memory of the length beside it, which outlives the call and is
    // borrowed by nobody else.
    let length = unsafe {
        call(
            __NR_recvmsg,
            [socket.as_raw_fd() as usize, (&raw mut message) as usize, 0],
        )
    }?;
    let sender = read_name(&name.0).ok_or_else(|| io::Error::other("a datagram from nowhere"))?;
    let told = message.control_length >= CONTROL_HEAD;
    Ok((length, sender, told.then(|| read_control(&control)).flatten()))
}

/// Sends a datagram, from an address of ours where one is said.
pub fn send(socket: BorrowedFd, bytes: &[u8], to: SocketAddr, from: Option<IpAddr>) -> io::Result<usize> {
    let (mut name, name_length) = write_name(to);
    let mut control = from.map(|from| write_control(from, to.is_ipv6()));
    let mut part = Part {
        base: bytes.as_ptr().cast_mut(),
        length: bytes.len(),
    };
    let message = Message {
        name: (&raw mut name).cast(),
        name_length,
        parts: &raw mut part,
        part_count: 1,
        control: control
            .as_mut()
            .map_or(ptr::null_mut(), |control| (&raw mut *control).cast()),
        control_length: control.as_ref().map_or(0, |_| size_of::<Control>()),
        flags: 0,
    };
    // SAFETY: every pointer of the message leads to memory of the length beside it, which outlives the call; sending
    // only reads it.
    unsafe {
        call(
            __NR_sendmsg,
            [socket.as_raw_fd() as usize, (&raw const message) as usize, MSG_NOSIGNAL],
        )
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes[..N].try_into().expect("as long as asked for")
}

fn read_name(name: &[u8; 32]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(array(&name[2..]));
    match u16::from_ne_bytes(array(name)) {
        AF_INET => Some(SocketAddr::from((Ipv4Addr::from(array::<4>(&name[4..])), port))),
        AF_INET6 => {
            let address = Ipv6Addr::from(array::<16>(&name[8..]));
            let scope = u32::from_ne_bytes(array(&name[24..]));
            Some(SocketAddrV6::new(address, port, 0, scope).into())
        }
        _ => None,
    }
}

fn write_name(address: SocketAddr) -> (Name, u32) {
    let mut name = Name([0; 32]);
    let bytes = &mut name.0;
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    match address {
        SocketAddr::V4(address) => {
            bytes[..2].copy_from_slice(&AF_INET.to_ne_bytes());
            bytes[4..8].copy_from_slice(&SocketAddrV4::ip(&address).octets());
            (name, 16)
        }
        SocketAddr::V6(address) => {
            bytes[..2].copy_from_slice(&AF_INET6.to_ne_bytes());
            bytes[8..24].copy_from_slice(&address.ip().octets());
            bytes[24..28].copy_from_slice(&address.scope_id().to_ne_bytes());
            (name, 28)
        }
    }
}

/// `in_pktinfo` is an index, the address that was meant, and the one in the packet; `in6_pktinfo` an address and an index.
fn read_control(control: &Control) -> Option<IpAddr> {
    match (control.level, control.kind) {
        (IPPROTO_IP, IP_PKTINFO) => Some(Ipv4Addr::from(array::<4>(&control.data[8..])).into()),
        (IPPROTO_IPV6, IPV6_PKTINFO) => Some(Ipv6Addr::from(array::<16>(&control.data)).into()),
        _ => None,
    }
}

/// On an IPv6 socket an IPv4 address is written as a mapped one.
fn write_control(from: IpAddr, ipv6_socket: bool) -> Control {
    let mut data = [0; 24];
    let (length, level, kind) = match (from, ipv6_socket) {
        (IpAddr::V4(from), false) => {
            data[4..8].copy_from_slice(&from.octets());
            (12, IPPROTO_IP, IP_PKTINFO)
        }
        (from, _) => {
            let from = match from {
                IpAddr::V4(from) => from.to_ipv6_mapped(),
                IpAddr::V6(from) => from,
            };
            data[..16].copy_from_slice(&from.octets());
            (20, IPPROTO_IPV6, IPV6_PKTINFO)
        }
    };
    Control {
        length: CONTROL_HEAD + length,
        level,
        kind,
        data,
    }
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, os::fd::AsFd};

    use super::*;

    /// Asks at `asked`, and is answered by a socket on `bound`: from which address?
    fn answered_from(bound: &str, asked: &str) -> IpAddr {
        let host = UdpSocket::bind((bound, 0)).expect("a port");
        tell_destination(host.as_fd(), bound.contains(':')).expect("known since Linux 2.6");
        let any = if asked.contains(':') { "::" } else { "0.0.0.0" };
        let client = UdpSocket::bind((any, 0)).expect("a port");
        let port = host.local_addr().expect("bound").port();
        client.send_to(b"hello", (asked, port)).expect("sent");
        let mut buffer = [0; 64];
        let (length, peer, came_to) = receive(host.as_fd(), &mut buffer).expect("it was sent");
        assert_eq!(&buffer[..length], b"hello");
        send(host.as_fd(), b"answer", peer, came_to).expect("sent");
        let (length, sender) = client.recv_from(&mut buffer).expect("answered");
        assert_eq!(&buffer[..length], b"answer");
        sender.ip()
    }

    #[test]
    fn answers_come_from_the_address_that_was_asked() {
        for (bound, asked) in [("0.0.0.0", "127.0.0.9"), ("::", "127.0.0.9"), ("::", "::1")] {
            assert_eq!(answered_from(bound, asked), asked.parse::<IpAddr>().expect("valid"));
        }
    }
}

//! Sockets that hold host ports.
//!
//! A TCP port is held by a listening socket with `SO_REUSEADDR`, as servers do: so "in use" means what it means to them,
//! and connections of the past (TIME_WAIT) are in nobody's way.
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
};

use corten_linux::datagram::tell_destination;
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt},
};

use crate::model::Protocol;

/// Connections that wait for the proxy.
const BACKLOG: i32 = 128;

/// Which addresses of the host one socket holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hold {
    One(IpAddr),
    /// `0.0.0.0` and `::` in one.
    Every,
}

impl Hold {
    pub(super) fn address(self) -> IpAddr {
        match self {
            Hold::One(address) => address,
            Hold::Every => Ipv6Addr::UNSPECIFIED.into(),
        }
    }
}

/// A socket on a port of the host's. `None` where the kernel has no sockets of this protocol.
pub(super) fn hold(protocol: Protocol, hold: Hold, port: u16) -> Result<Option<OwnedFd>, Errno> {
    let address = SocketAddr::new(hold.address(), port);
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let fd = match socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, Some(number)) {
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) if protocol == Protocol::Sctp => return Ok(None),
        result => result?,
    };
    if family == AddressFamily::INET6 {
        sockopt::set_ipv6_v6only(&fd, hold != Hold::Every)?;
    }
    if protocol == Protocol::Udp {
        if hold.address().is_unspecified() {
            tell_destination(fd.as_fd(), address.is_ipv6())
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        }
        bind(&fd, &address)?;
    } else {
        sockopt::set_socket_reuseaddr(&fd, true)?;
        bind(&fd, &address)?;
        listen(&fd, BACKLOG)?;
    }
    Ok(Some(fd))
}

/// Can sockets have IPv6 addresses here?
pub(super) fn has_ipv6() -> bool {
    let socket = socket_with(AddressFamily::INET6, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    socket.is_ok_and(|fd| bind(&fd, &SocketAddr::from((Ipv6Addr::LOCALHOST, 0))).is_ok())
}

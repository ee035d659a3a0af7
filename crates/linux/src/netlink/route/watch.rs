//! Changes of interfaces, addresses and routes, as they happen.
//!
//! A reader that is too slow loses some; [`Watch::read`] says so, and the reader lists what there is.
use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use rustix::io::Errno;

use crate::netlink::{
    message::Received,
    route::list::{Link, read_link},
    socket::{Protocol, Socket},
};

/// What to hear about (`RTNLGRP_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Link = 1,
    Ipv4Address = 5,
    Ipv4Route = 7,
    Ipv6Address = 9,
    Ipv6Route = 11,
    /// Switches of IPv4 such as forwarding.
    Ipv4Settings = 24,
    Ipv6Settings = 25,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An interface is new or changed.
    Link(Link),
    LinkGone(Link),
    Address,
    Route,
    /// A switch of all interfaces at once changed.
    Settings,
}

#[derive(Debug)]
pub struct Watch {
    socket: Socket,
}

impl Watch {
    /// Hears what happens in the calling thread's network namespace from now on.
    pub fn open(groups: &[Group]) -> io::Result<Watch> {
        let socket = Socket::open(Protocol::Route)?;
        for &group in groups {
            socket.join(group as u32)?;
        }
        Ok(Watch { socket })
    }

    /// Waits for the next events. `false`: some were lost.
    pub fn read(&mut self, mut each: impl FnMut(Event)) -> io::Result<bool> {
        let read = self.socket.listen(|kind, payload| match kind {
            16 => each_link(payload, Event::Link, &mut each),
            17 => each_link(payload, Event::LinkGone, &mut each),
            20 | 21 => each(Event::Address),
            24 | 25 => each(Event::Route),
            80 | 81 if is_about_all(payload) => each(Event::Settings),
            _ => {}
        });
        match read {
            Ok(()) => Ok(true),
            Err(Errno::NOBUFS) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Bridges tell about their ports with messages of their own kind, which carry a family; those are no interfaces.
fn each_link(payload: &[u8], event: impl Fn(Link) -> Event, each: &mut impl FnMut(Event)) {
    if payload.first() == Some(&0)
        && let Some(link) = read_link(payload)
    {
        each(event(link));
    }
}

/// Is a `struct netconfmsg` about `conf/all`?
fn is_about_all(payload: &[u8]) -> bool {
    const NETCONFA_IFINDEX: u16 = 1;
    const ALL: u32 = -1_i32 as u32;
    let attributes = Received::new(payload.get(4..).unwrap_or_default());
    attributes.u32(NETCONFA_IFINDEX) == Some(ALL)
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

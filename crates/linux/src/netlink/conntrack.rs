//! Connection tracking: finds and forgets flows.
//!
//! A flow keeps the translation that its first packet met, for as long as packets come; so a client that never stops
//! talking would not notice that a rule has changed. See linux/netfilter/nfnetlink_conntrack.h.
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use rustix::io::Errno;

use crate::netlink::{
    message::{Batch, Received, flags},
    nft::transaction::{Family, header},
    socket::{Refusal, Socket},
};

const SUBSYSTEM: u16 = 1;
const GET: u16 = SUBSYSTEM << 8 | 1;
const DELETE: u16 = SUBSYSTEM << 8 | 2;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
const NESTED: u16 = 1 << 15;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// A flow between ports, as its first packet was and as answers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// As in the header of IP.
    pub protocol: u8,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub reply_source: SocketAddr,
    pub reply_destination: SocketAddr,
}

/// Forgets the UDP flows that `chosen` picks. How many these were.
pub fn forget_udp(socket: &mut Socket, chosen: impl Fn(&Flow) -> bool) -> Result<usize, Refusal> {
    let mut found = 0;
    for family in [Family::Ipv4, Family::Ipv6] {
        found += forget(socket, family, Filter::Udp, |flow| flow.protocol == UDP && chosen(flow))?.gone;
    }
    Ok(found)
}

/// What became of the flows that were to be forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forgotten {
    pub gone: usize,
    /// In a flow table, which the kernel does not let them be taken from. They leave it when their interface is gone.
    pub held: usize,
}

/// Forgets those of the flows that any of `addresses` answers that `chosen` picks.
pub fn forget_answered_by(
    socket: &mut Socket,
    addresses: &BTreeSet<IpAddr>,
    chosen: impl Fn(&Flow) -> bool,
) -> Result<Forgotten, Refusal> {
    let mut forgotten = Forgotten::default();
    for family in [Family::Ipv4, Family::Ipv6] {
        let mut own = addresses
            .iter()
            .filter(|address| address.is_ipv4() == (family == Family::Ipv4));
        let filter = match (own.next(), own.next()) {
            (None, _) => continue,
            (Some(IpAddr::V4(address)), None) => Filter::AnsweredBy(*address),
            // By an IPv6 address the kernel leaves out exactly what has it (seen with 6.18).
            _ => Filter::Nothing,
        };
        let of_family = forget(socket, family, filter, |flow| {
            addresses.contains(&flow.reply_source.ip()) && chosen(flow)
        })?;
        forgotten.gone += of_family.gone;
        forgotten.held += of_family.held;
    }
    Ok(forgotten)
}

/// What of its flows the kernel lists. Before 5.8 it lists all of them.
#[derive(Clone, Copy)]
enum Filter {
    Nothing,
    Udp,
    AnsweredBy(Ipv4Addr),
}

fn forget(
    socket: &mut Socket,
    family: Family,
    filter: Filter,
    chosen: impl Fn(&Flow) -> bool,
) -> Result<Forgotten, Refusal> {
    const OFFLOADED: u32 = 1 << 14;
    let mut batch = Batch::new();
    let mut held = 0;
    list(socket, family, filter, |attributes| {
        if flow(&attributes).is_some_and(|flow| chosen(&flow)) {
            match attributes.u32_be(STATUS).unwrap_or(0) & OFFLOADED {
                0 => add_deletion(&mut batch, family, &attributes),
                _ => held += 1,
            }
        }
    })?;
    let gone = batch.len();
    match socket.transact(&mut batch) {
        // One has just come into a flow table.
        Err(refusal) if refusal.errno == Errno::BUSY => held += 1,
        // It ended by itself, or packets made a new one of it.
        Err(refusal) if refusal.errno != Errno::NOENT => return Err(refusal),
        _ => {}
    }
    Ok(Forgotten { gone, held })
}

fn list(socket: &mut Socket, family: Family, filter: Filter, mut each: impl FnMut(Received)) -> Result<(), Refusal> {
    const SOURCE: u32 = 1 << 0;
    const PROTOCOL: u32 = 1 << 3;
    let mut batch = Batch::new();
    let request = flags::REQUEST | flags::DUMP;
    batch.message(GET, request, &header(family as u8, 0), |attributes| {
        let (original, reply) = match filter {
            Filter::Nothing => return,
            Filter::Udp => (PROTOCOL, 0),
            Filter::AnsweredBy(_) => (0, SOURCE),
        };
        match filter {
            Filter::Nothing => {}
            Filter::Udp => {
                attributes.nested(TUPLE_ORIGINAL, |tuple| {
                    tuple.nested(2, |protocol| {
                        protocol.u8(1, UDP);
                    });
                });
            }
            Filter::AnsweredBy(address) => {
                attributes.nested(TUPLE_REPLY, |tuple| {
                    tuple.nested(1, |addresses| {
                        addresses.bytes(1, &address.octets());
                    });
                });
            }
        }
        attributes.nested(FILTER, |filter| {
            filter.u32(1, original).u32(2, reply);
        });
    });
    socket.dump(&mut batch, |_, payload| {
        if let Some(attributes) = payload.get(4..) {
            each(Received::new(attributes));
        }
    })
}

fn add_deletion(batch: &mut Batch, family: Family, found: &Received) {
    let request = flags::REQUEST | flags::ACK;
    batch.message(DELETE, request, &header(family as u8, 0), |attributes| {
        for (kind, nested) in [(TUPLE_ORIGINAL, NESTED), (ID, 0), (ZONE, 0)] {
            if let Some(value) = found.find(kind) {
                attributes.bytes(kind | nested, value);
            }
        }
    });
}

/// `None` for what has no ports.
fn flow(attributes: &Received) -> Option<Flow> {
    let (protocol, source, destination) = tuple(attributes.nested(TUPLE_ORIGINAL)?)?;
    let (_, reply_source, reply_destination) = tuple(attributes.nested(TUPLE_REPLY)?)?;
    Some(Flow {
        protocol,
        source,
        destination,
        reply_source,
        reply_destination,
    })
}

fn tuple(attributes: Received) -> Option<(u8, SocketAddr, SocketAddr)> {
    let (addresses, protocol) = (attributes.nested(1)?, attributes.nested(2)?);
    let &[number @ (TCP | UDP | SCTP)] = protocol.find(1)? else {
        return None;
    };
    let address = |kinds: [u16; 2]| {
        let v4 = || <[u8; 4]>::try_from(addresses.find(kinds[0])?).ok().map(IpAddr::from);
        let v6 = || <[u8; 16]>::try_from(addresses.find(kinds[1])?).ok().map(IpAddr::from);
        v4().or_else(v6)
    };
    let port = |kind| Some(u16::from_be_bytes(protocol.find(kind)?.try_into().ok()?));
    Some((
        number,
        SocketAddr::new(address([1, 3])?, port(2)?),
        SocketAddr::new(address([2, 4])?, port(3)?),
    ))
}

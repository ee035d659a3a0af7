//! Lists of what a namespace has: interfaces, addresses, routes.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::io::Errno;

use crate::netlink::{
    message::{Batch, Received, flags},
    route::{
        link::{IFF_UP, header},
        path::{RTA_DST, RTA_GATEWAY, RTA_OIF, RTA_PRIORITY, TABLE_MAIN},
    },
    socket::{Refusal, Socket},
};

pub(super) const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const RTEXT_FILTER_SKIP_STATS: u32 = 8;
const IFF_LOOPBACK: u32 = 8;
const IFF_LOWER_UP: u32 = 1 << 16;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_TABLE: u16 = 15;

/// An interface as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub alias: Option<String>,
    /// `bridge`, `veth`, …; absent for hardware and `lo`.
    pub kind: Option<String>,
    /// Index of the bridge or bond that it is a port of.
    pub master: Option<u32>,
    /// Index of its parent, or of its peer; in another namespace perhaps.
    pub parent: Option<u32>,
    pub up: bool,
    /// It has a carrier.
    pub running: bool,
    pub loopback: bool,
    pub mac: Option<[u8; 6]>,
    pub mtu: u32,
    /// The 802.1Q number of a vlan.
    pub vlan: Option<u16>,
    /// Flags of a bridge's port.
    pub isolated: bool,
    pub hairpin: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    pub interface: u32,
    pub address: IpAddr,
    pub prefix: u8,
}

/// A route of the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    pub destination: (IpAddr, u8),
    pub gateway: Option<IpAddr>,
    /// Absent for routes that go nowhere, or to several interfaces.
    pub interface: Option<u32>,
    pub metric: u32,
    /// Who made it (`RTPROT_*`): 2 is the kernel, 3 is what administrators make.
    pub protocol: u8,
}

/// Every interface.
pub fn links(socket: &mut Socket) -> Result<Vec<Link>, Refusal> {
    let mut batch = Batch::new();
    batch.message(
        RTM_GETLINK,
        flags::REQUEST | flags::DUMP,
        &header(0, 0, 0),
        |attributes| {
            attributes.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
        },
    );
    let mut links = Vec::new();
    socket.dump(&mut batch, |kind, payload| {
        if kind == RTM_NEWLINK {
            links.extend(read_link(payload));
        }
    })?;
    Ok(links)
}

/// One interface, by name.
pub fn link(socket: &mut Socket, name: &str) -> Result<Option<Link>, Refusal> {
    let mut batch = Batch::new();
    batch.message(
        RTM_GETLINK,
        flags::REQUEST | flags::ACK,
        &header(0, 0, 0),
        |attributes| {
            attributes.text(IFLA_IFNAME, name);
            attributes.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
        },
    );
    let mut link = None;
    match socket.dump(&mut batch, |_, payload| link = read_link(payload)) {
        Ok(()) => Ok(link),
        // Names that cannot be: ERANGE, EINVAL.
        Err(refusal) if matches!(refusal.errno, Errno::NODEV | Errno::RANGE | Errno::INVAL) => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

pub(super) fn read_link(payload: &[u8]) -> Option<Link> {
    let (header, rest) = payload.split_first_chunk::<16>()?;
    let attributes = Received::new(rest);
    let flags = u32::from_ne_bytes(header[8..12].try_into().ok()?);
    let info = attributes.nested(IFLA_LINKINFO);
    let kind = info.as_ref().and_then(|info| info.text(IFLA_INFO_KIND));
    let port = info.as_ref().and_then(|info| info.nested(IFLA_INFO_SLAVE_DATA));
    let port_flag = |attribute| {
        let value = port.as_ref().and_then(|port| port.find(attribute));
        value.is_some_and(|value| value.first() == Some(&1))
    };
    Some(Link {
        index: u32::from_ne_bytes(header[4..8].try_into().ok()?),
        name: attributes.text(IFLA_IFNAME)?.to_owned(),
        alias: attributes.text(IFLA_IFALIAS).map(str::to_owned),
        kind: kind.map(str::to_owned),
        master: attributes.u32(IFLA_MASTER).filter(|&index| index != 0),
        parent: attributes.u32(IFLA_LINK).filter(|&index| index != 0),
        up: flags & IFF_UP != 0,
        running: flags & IFF_LOWER_UP != 0,
        loopback: flags & IFF_LOOPBACK != 0,
        mac: attributes.find(IFLA_ADDRESS).and_then(|mac| mac.try_into().ok()),
        mtu: attributes.u32(IFLA_MTU).unwrap_or(0),
        vlan: (kind == Some("vlan"))
            .then(|| {
                info.as_ref()?
                    .nested(IFLA_INFO_DATA)?
                    .find(IFLA_VLAN_ID)?
                    .try_into()
                    .ok()
            })
            .flatten()
            .map(u16::from_ne_bytes),
        isolated: port_flag(IFLA_BRPORT_ISOLATED),
        hairpin: port_flag(IFLA_BRPORT_MODE),
    })
}

/// Every address of every interface, both families.
pub fn addresses(socket: &mut Socket) -> Result<Vec<Address>, Refusal> {
    let mut batch = Batch::new();
    batch.message(RTM_GETADDR, flags::REQUEST | flags::DUMP, &[0; 8], |_| {});
    let mut addresses = Vec::new();
    socket.dump(&mut batch, |kind, payload| {
        if kind == RTM_NEWADDR {
            addresses.extend(read_address(payload));
        }
    })?;
    Ok(addresses)
}

fn read_address(payload: &[u8]) -> Option<Address> {
    let (header, rest) = payload.split_first_chunk::<8>()?;
    let attributes = Received::new(rest);
    // Of a point-to-point interface, the other is the peer's.
    let bytes = attributes.find(IFA_LOCAL).or_else(|| attributes.find(IFA_ADDRESS))?;
    Some(Address {
        interface: u32::from_ne_bytes(header[4..].try_into().ok()?),
        address: address(bytes)?,
        prefix: header[1],
    })
}

/// The main table, both families.
pub fn routes(socket: &mut Socket) -> Result<Vec<Route>, Refusal> {
    let mut routes = Vec::new();
    for family in [2, 10] {
        let mut batch = Batch::new();
        let header = [family, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        batch.message(RTM_GETROUTE, flags::REQUEST | flags::DUMP, &header, |_| {});
        let listed = socket.dump(&mut batch, |kind, payload| {
            if kind == RTM_NEWROUTE {
                routes.extend(read_route(payload));
            }
        });
        match listed {
            // A kernel without IPv6.
            Err(refusal) if family == 10 && refusal.errno == Errno::OPNOTSUPP => {}
            listed => listed?,
        }
    }
    Ok(routes)
}

fn read_route(payload: &[u8]) -> Option<Route> {
    const RTM_F_CLONED: u32 = 0x200;
    let (header, rest) = payload.split_first_chunk::<12>()?;
    let attributes = Received::new(rest);
    let table = attributes.u32(RTA_TABLE).unwrap_or(header[4].into());
    let flags = u32::from_ne_bytes(header[8..].try_into().ok()?);
    if table != TABLE_MAIN.into() || flags & RTM_F_CLONED != 0 {
        return None;
    }
    let any: IpAddr = match header[0] {
        2 => Ipv4Addr::UNSPECIFIED.into(),
        10 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let destination = match attributes.find(RTA_DST) {
        Some(bytes) => address(bytes)?,
        None => any,
    };
    Some(Route {
        destination: (destination, header[1]),
        gateway: attributes.find(RTA_GATEWAY).and_then(address),
        interface: attributes.u32(RTA_OIF),
        metric: attributes.u32(RTA_PRIORITY).unwrap_or(0),
        protocol: header[5],
    })
}

pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(<[u8; 4]>::try_from(bytes).ok()?.into()),
        16 => Some(<[u8; 16]>::try_from(bytes).ok()?.into()),
        _ => None,
    }
}

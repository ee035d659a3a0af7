//! Interfaces: making, changing and deleting them.
//!
//! What one message cannot say goes into a second one of the same batch: a new veth's peer cannot be up at birth
//! (ENOTCONN), IPv6's way of making addresses cannot be chosen at birth (EAFNOSUPPORT), and a port of a bridge has flags
//! only once it is one. Messages name an interface by name or index, so nobody has to ask for the index in between.
use std::{
    ffi::c_long,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use linux_raw_sys::general as raw;
use rustix::{io::Errno, net::netdevice};

use crate::{
    netlink::{
        message::{Attributes, Batch, flags},
        socket::Socket,
    },
    syscall::{check, syscall},
};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;

const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;

const VETH_INFO_PEER: u16 = 1;
const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_FLAGS: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;

const AF_INET6: u16 = 10;
pub(super) const IFF_UP: u32 = 1;

/// An interface to make. What is `None` is the kernel's choice.
#[derive(Debug)]
pub struct NewLink<'a> {
    pub name: &'a str,
    pub kind: Kind<'a>,
    pub mac: Option<[u8; 6]>,
    pub mtu: Option<u32>,
    /// Index of the bridge that it becomes a port of.
    pub master: Option<u32>,
    /// Where it is born: the socket's namespace if nowhere else.
    pub namespace: Option<BorrowedFd<'a>>,
    pub up: bool,
}

impl<'a> NewLink<'a> {
    pub fn new(name: &'a str, kind: Kind<'a>) -> NewLink<'a> {
        NewLink {
            name,
            kind,
            mac: None,
            mtu: None,
            master: None,
            namespace: None,
            up: false,
        }
    }
}

/// What kind of interface; `parent` is an index in the socket's namespace.
#[derive(Debug, Clone, Copy)]
pub enum Kind<'a> {
    /// Multicast goes to all ports. The kernel's own choice (snooping) comes to the same while no router of multicast asks
    /// who wants it, and costs every new port a walk over all others: 0.3 ms at 500.
    Bridge,
    Dummy,
    Veth {
        peer: Peer<'a>,
    },
    Macvlan {
        parent: u32,
        mode: MacvlanMode,
    },
    Ipvlan {
        parent: u32,
        mode: IpvlanMode,
        flag: IpvlanFlag,
    },
    Vlan {
        parent: u32,
        id: u16,
    },
}

/// The other end of a veth. It is down: bring it up where it lives.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    pub name: &'a str,
    pub mac: Option<[u8; 6]>,
    pub mtu: Option<u32>,
    pub namespace: Option<BorrowedFd<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacvlanMode {
    Private = 1,
    Vepa = 2,
    Bridge = 4,
    Passthru = 8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpvlanMode {
    L2 = 0,
    L3 = 1,
    L3s = 2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpvlanFlag {
    Bridge = 0,
    Private = 1,
    Vepa = 2,
}

impl Kind<'_> {
    fn name(&self) -> &'static str {
        match self {
            Kind::Bridge => "bridge",
            Kind::Dummy => "dummy",
            Kind::Veth { .. } => "veth",
            Kind::Macvlan { .. } => "macvlan",
            Kind::Ipvlan { .. } => "ipvlan",
            Kind::Vlan { .. } => "vlan",
        }
    }

    fn parent(&self) -> Option<u32> {
        match *self {
            Kind::Bridge | Kind::Dummy | Kind::Veth { .. } => None,
            Kind::Macvlan { parent, .. } | Kind::Ipvlan { parent, .. } | Kind::Vlan { parent, .. } => Some(parent),
        }
    }

    fn data(&self, data: &mut Attributes) {
        match *self {
            Kind::Bridge => {
                data.u8(IFLA_BR_MCAST_SNOOPING, 0);
            }
            Kind::Dummy => {}
            Kind::Veth { peer } => {
                data.nested_after(VETH_INFO_PEER, &header(0, 0, 0), |attributes| {
                    one_queue(attributes.text(IFLA_IFNAME, peer.name));
                    common(attributes, peer.mac, peer.mtu, peer.namespace);
                });
            }
            Kind::Macvlan { mode, .. } => {
                data.u32(IFLA_MACVLAN_MODE, mode as u32);
            }
            Kind::Ipvlan { mode, flag, .. } => {
                data.u16(IFLA_IPVLAN_MODE, mode as u16);
                if flag != IpvlanFlag::Bridge {
                    data.u16(IFLA_IPVLAN_FLAGS, flag as u16);
                }
            }
            Kind::Vlan { id, .. } => {
                data.u16(IFLA_VLAN_ID, id);
            }
        }
    }
}

/// Makes an interface; refused with EEXIST where its name is taken.
pub fn create(batch: &mut Batch, link: &NewLink) {
    let flags = flags::REQUEST | flags::ACK | flags::CREATE | flags::EXCL;
    let up = if link.up { IFF_UP } else { 0 };
    batch.message(RTM_NEWLINK, flags, &header(0, up, up), |attributes| {
        attributes.text(IFLA_IFNAME, link.name);
        common(attributes, link.mac, link.mtu, link.namespace);
        if let Some(master) = link.master {
            attributes.u32(IFLA_MASTER, master);
        }
        if let Some(parent) = link.kind.parent() {
            attributes.u32(IFLA_LINK, parent);
        }
        if matches!(link.kind, Kind::Veth { .. }) {
            one_queue(attributes);
        }
        attributes.nested(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, link.kind.name());
            info.nested(IFLA_INFO_DATA, |data| link.kind.data(data));
        });
    });
}

/// A veth uses one queue unless somebody sets more channels, but the kernel sets memory aside for one per processor.
fn one_queue(attributes: &mut Attributes) {
    attributes.u32(IFLA_NUM_TX_QUEUES, 1).u32(IFLA_NUM_RX_QUEUES, 1);
}

fn common(attributes: &mut Attributes, mac: Option<[u8; 6]>, mtu: Option<u32>, namespace: Option<BorrowedFd>) {
    if let Some(mac) = mac {
        attributes.bytes(IFLA_ADDRESS, &mac);
    }
    if let Some(mtu) = mtu {
        attributes.u32(IFLA_MTU, mtu);
    }
    if let Some(namespace) = namespace {
        attributes.u32(IFLA_NET_NS_FD, namespace.as_raw_fd() as u32);
    }
}

/// An interface that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    Index(u32),
    Name(&'a str),
}

/// What to change about an interface.
#[derive(Debug, Clone, Copy, Default)]
pub struct Changes<'a> {
    pub up: Option<bool>,
    /// Only together with [`Target::Index`], and while it is down on kernels before 6.2.
    pub name: Option<&'a str>,
    pub mac: Option<[u8; 6]>,
    pub mtu: Option<u32>,
    /// 0 takes it out of its bridge.
    pub master: Option<u32>,
    pub namespace: Option<BorrowedFd<'a>>,
    /// A text for administrators.
    pub alias: Option<&'a str>,
    /// IPv6 makes no address by itself, not even a link-local one.
    pub no_automatic_ipv6: bool,
    /// Only of a bridge's port, which it already is.
    pub port: Option<Port>,
}

/// Flags of a bridge's port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Port {
    /// Talks to no other isolated port.
    pub isolated: bool,
    /// Packets may leave where they came in.
    pub hairpin: bool,
}

/// Changes an interface; refused with ENODEV where there is none.
pub fn change(batch: &mut Batch, target: Target, changes: &Changes) {
    debug_assert!(changes.name.is_none() || matches!(target, Target::Index(_)));
    let index = match target {
        Target::Index(index) => index,
        Target::Name(_) => 0,
    };
    let (up, mask) = match changes.up {
        None => (0, 0),
        Some(up) => (if up { IFF_UP } else { 0 }, IFF_UP),
    };
    batch.message(
        RTM_NEWLINK,
        flags::REQUEST | flags::ACK,
        &header(index, up, mask),
        |attributes| {
            if let Some(name) = match target {
                Target::Name(name) => Some(name),
                Target::Index(_) => changes.name,
            } {
                attributes.text(IFLA_IFNAME, name);
            }
            common(attributes, changes.mac, changes.mtu, changes.namespace);
            if let Some(master) = changes.master {
                attributes.u32(IFLA_MASTER, master);
            }
            if let Some(alias) = changes.alias {
                attributes.bytes(IFLA_IFALIAS, alias.as_bytes());
            }
            if changes.no_automatic_ipv6 {
                attributes.nested(IFLA_AF_SPEC, |families| {
                    families.nested(AF_INET6, |inet6| {
                        inet6.u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
                    });
                });
            }
            if let Some(port) = changes.port {
                attributes.nested(IFLA_LINKINFO, |info| {
                    info.text(IFLA_INFO_SLAVE_KIND, "bridge");
                    info.nested(IFLA_INFO_SLAVE_DATA, |data| {
                        data.u8(IFLA_BRPORT_MODE, port.hairpin.into());
                        data.u8(IFLA_BRPORT_ISOLATED, port.isolated.into());
                    });
                });
            }
        },
    );
}

/// Deletes an interface; for a veth also its peer. Takes the kernel ten milliseconds and more.
pub fn delete(batch: &mut Batch, target: Target) {
    let index = match target {
        Target::Index(index) => index,
        Target::Name(_) => 0,
    };
    batch.message(
        RTM_DELLINK,
        flags::REQUEST | flags::ACK,
        &header(index, 0, 0),
        |attributes| {
            if let Target::Name(name) = target {
                attributes.text(IFLA_IFNAME, name);
            }
        },
    );
}

/// An interface's index in the socket's namespace, if it exists there. Needs no message.
pub fn index(socket: &Socket, name: &str) -> rustix::io::Result<Option<u32>> {
    // The call cuts longer names, and would find another interface.
    if name.len() > 15 {
        return Ok(None);
    }
    match netdevice::name_to_index(socket.as_fd(), name) {
        Ok(index) => Ok(Some(index)),
        Err(Errno::NODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Has it a carrier? Where that just changed, the kernel draws its conclusions before it answers (a bridge's port forwards,
/// a queue is opened, IPv6 makes its addresses) and not some milliseconds later: a first packet that is lost in between is
/// sent again after a second.
pub fn settle(socket: &Socket, name: &str) -> io::Result<bool> {
    const SIOCETHTOOL: c_long = 0x8946;
    const ETHTOOL_GLINK: u32 = 10;
    /// `struct ifreq` with a pointer in its union.
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        value: *mut [u32; 2],
        _rest: [u8; 16],
    }
    if name.len() > 15 {
        return Err(Errno::NODEV.into());
    }
    // `struct ethtool_value`.
    let mut value = [ETHTOOL_GLINK, 0];
    let mut request = Request {
        name: [0; 16],
        value: &raw mut value,
        _rest: [0; 16],
    };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: the request is as large as struct ifreq; it and the value that it points to live across the call.
    check(unsafe {
        syscall(
            c_long::from(raw::__NR_ioctl),
            socket.as_fd().as_raw_fd(),
            SIOCETHTOOL,
            &raw mut request,
        )
    })?;
    Ok(value[1] != 0)
}

/// `struct ifinfomsg`.
pub(super) fn header(index: u32, flags: u32, mask: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&mask.to_ne_bytes());
    header
}

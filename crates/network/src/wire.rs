//! Wires: a container's interfaces.
//!
//! All interfaces of a container are made with one message batch on the host's side and one inside its namespace, where
//! the loopback interface is up already. Nothing is deleted when a container ends: its namespace takes its interfaces
//! along, without anybody waiting.
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::BorrowedFd,
};

use corten_linux::netlink::{
    message::Batch,
    route::{
        address,
        link::{self, Changes, IpvlanFlag, IpvlanMode, Kind, MacvlanMode, NewLink, Peer, Port, Target},
        list,
        path::{self, Route},
    },
    socket::{Protocol, Refusal, Socket},
};
use ipnet::IpNet;
use rustix::io::Errno;

use crate::{
    error::{Error, Result},
    model::Mac,
    namespace::inside,
    sysctl,
    wire::settle::{Fresh, settle},
};

mod settle;

/// IPv6 does not exist on interfaces with a smaller one.
const IPV6_MINIMUM_MTU: u32 = 1280;

/// One interface of a container.
#[derive(Debug, Clone)]
pub struct Wire<'a> {
    /// The network's name, for errors.
    pub network: &'a str,
    pub plug: Plug<'a>,
    /// Inside: `eth0`.
    pub interface: &'a str,
    pub mac: Option<Mac>,
    /// IPv6 is off where none of them is one.
    pub addresses: Vec<IpNet>,
    /// At most one of each family, among all wires of a container.
    pub defaults: Vec<Gateway>,
    pub mtu: Option<u32>,
    /// See [`sysctls`].
    pub sysctls: Vec<Sysctl>,
}

/// Where the other end of a wire is.
#[derive(Debug, Clone, Copy)]
pub enum Plug<'a> {
    /// A veth on a bridge.
    Bridge {
        bridge: &'a str,
        /// The end on the host.
        host_interface: &'a str,
        port: Port,
    },
    Macvlan {
        parent: &'a str,
        mode: MacvlanMode,
    },
    Ipvlan {
        parent: &'a str,
        mode: IpvlanMode,
        flag: IpvlanFlag,
    },
}

/// A default route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gateway {
    Via(IpAddr),
    /// Everybody is a neighbour.
    OnLink4,
    OnLink6,
}

/// A switch of an interface, `net.ipv4.conf.IFNAME.log_martians=1`, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl {
    /// `ipv4/conf`
    directory: String,
    name: String,
    value: String,
}

/// Reads the endpoint option `com.docker.network.endpoint.sysctls`: switches separated by commas.
pub fn sysctls(option: &str) -> Result<Vec<Sysctl>> {
    option.split(',').map(sysctl).collect()
}

fn sysctl(text: &str) -> Result<Sysctl> {
    let malformed = || {
        Error::invalid(format!(
            "invalid network sysctl '{text}': must be like net.X.Y.IFNAME.Z=V"
        ))
    };
    let (path, value) = text.split_once('=').ok_or_else(malformed)?;
    let ["net", family, group, interface, name] = *path.trim().split('.').collect::<Vec<_>>() else {
        return Err(malformed());
    };
    // docker's `--network name=…,driver-opt=…` comes in small letters, values too.
    if !interface.eq_ignore_ascii_case("IFNAME") {
        return Err(malformed());
    }
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if ![family, group, name].into_iter().all(is_word) {
        return Err(malformed());
    }
    Ok(Sysctl {
        directory: format!("{family}/{group}"),
        name: name.to_owned(),
        value: value.trim().to_owned(),
    })
}

/// Makes a container's interfaces. A failure leaves none of them behind.
pub fn connect(namespace: BorrowedFd, wires: &[Wire]) -> Result<()> {
    if wires.is_empty() {
        return Ok(());
    }
    let mut host = Socket::open(Protocol::Route).map_err(cannot_open)?;
    make(&mut host, namespace, wires)?;
    let mut failed = None;
    let equipped = inside(namespace, || {
        let mut socket = Socket::open(Protocol::Route)?;
        let equipped = equip(&mut socket, wires).and_then(|()| switch_on(&mut host, wires));
        equipped.map_err(|(wire, error)| {
            failed = Some(wire);
            error
        })?;
        settle(&host, &socket, &wires.iter().map(fresh).collect::<Vec<_>>());
        Ok(())
    });
    equipped.map_err(|error| {
        undo(&mut host, namespace, wires);
        error_of(&wires[failed.unwrap_or(0)], error)
    })
}

/// Brings the ends on the host up, right after those inside: in between an interface is up without a carrier, and if the
/// kernel's worker looks at it then, it waits for all processors with the lock that every message here needs. Up from its
/// birth, a veth cost 5 ms at the median, and not 1.
fn switch_on(host: &mut Socket, wires: &[Wire]) -> Result<(), (usize, io::Error)> {
    let up = Changes {
        up: Some(true),
        ..Changes::default()
    };
    let mut batch = Batch::new();
    let mut owners = Vec::new();
    for (number, wire) in wires.iter().enumerate() {
        if let Plug::Bridge { host_interface, .. } = wire.plug {
            link::change(&mut batch, Target::Name(host_interface), &up);
            owners.push(number);
        }
    }
    host.transact(&mut batch)
        .map_err(|refusal| (owners[refusal.index], refusal.into()))
}

fn fresh<'a>(wire: &'a Wire) -> Fresh<'a> {
    Fresh {
        interface: wire.interface,
        addresses: &wire.addresses,
        outside: match wire.plug {
            Plug::Bridge {
                bridge, host_interface, ..
            } => Some([host_interface, bridge]),
            Plug::Macvlan { .. } | Plug::Ipvlan { .. } => None,
        },
    }
}

/// Deletes an interface of a running container, and the end on the host with it. Its routes go too.
pub fn disconnect(namespace: BorrowedFd, interface: &str) -> Result<()> {
    inside(namespace, || {
        let mut socket = Socket::open(Protocol::Route)?;
        delete(&mut socket, interface)
    })
    .map_err(|error| Error::system(format!("cannot remove interface {interface}")).because(error))
}

/// Chooses the default routes of a running container: an interface and where it leads, per family. The family's earlier
/// ones go; what the container learned from router advertisements stays.
pub fn set_default_routes(
    namespace: BorrowedFd,
    ipv4: Option<(&str, Gateway)>,
    ipv6: Option<(&str, Gateway)>,
) -> Result<()> {
    inside(namespace, || {
        let mut socket = Socket::open(Protocol::Route)?;
        let mut wanted = Vec::new();
        for (interface, gateway) in ipv4.into_iter().chain(ipv6) {
            let index = link::index(&socket, interface)?.ok_or(Errno::NODEV)?;
            let addresses = list::addresses(&mut socket).map_err(io::Error::from)?;
            let nets = addresses
                .iter()
                .filter(|address| address.interface == index)
                .filter_map(|address| IpNet::new(address.address, address.prefix).ok())
                .collect::<Vec<_>>();
            wanted.push(gateway.route(index, &nets));
        }
        replace_defaults(&mut socket, &wanted)
    })
    .map_err(|error| Error::system("cannot set the default routes").because(error))
}

fn replace_defaults(socket: &mut Socket, wanted: &[Route]) -> io::Result<()> {
    const PROTOCOL_ROUTER_ADVERTISEMENT: u8 = 9;
    let mut batch = Batch::new();
    for old in list::routes(socket).map_err(io::Error::from)? {
        if let (0, Some(interface)) = (old.destination.1, old.interface)
            && old.protocol != PROTOCOL_ROUTER_ADVERTISEMENT
        {
            let old = Route {
                destination: old.destination,
                interface,
                gateway: old.gateway,
                on_link: false,
            };
            path::remove(&mut batch, &old);
        }
    }
    match socket.transact(&mut batch) {
        // Somebody else removed it meanwhile.
        Err(refusal) if refusal.errno != Errno::SRCH => return Err(refusal.into()),
        _ => {}
    }
    let mut batch = Batch::new();
    for route in wanted {
        path::replace(&mut batch, route);
    }
    Ok(socket.transact(&mut batch)?)
}

impl Gateway {
    fn route(self, interface: u32, addresses: &[IpNet]) -> Route {
        let any = match self {
            Gateway::Via(IpAddr::V4(_)) | Gateway::OnLink4 => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            Gateway::Via(IpAddr::V6(_)) | Gateway::OnLink6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        let gateway = match self {
            Gateway::Via(gateway) => Some(gateway),
            Gateway::OnLink4 | Gateway::OnLink6 => None,
        };
        let is_neighbour = |gateway: IpAddr| {
            let link_local = matches!(gateway, IpAddr::V6(address) if address.is_unicast_link_local());
            link_local || addresses.iter().any(|net| net.contains(&gateway))
        };
        Route {
            destination: (any, 0),
            interface,
            gateway,
            on_link: gateway.is_some_and(|gateway| !is_neighbour(gateway)),
        }
    }
}

/// Makes the interfaces; their inner ends are down, and nothing is set there but name, hardware address and MTU.
fn make(host: &mut Socket, namespace: BorrowedFd, wires: &[Wire]) -> Result<()> {
    let mut batch = Batch::new();
    // Which wire each message is for.
    let mut owners = Vec::new();
    for (number, wire) in wires.iter().enumerate() {
        add_link(host, &mut batch, namespace, number, wire)?;
        owners.resize(batch.len(), number);
    }
    host.transact(&mut batch).map_err(|refusal| {
        undo(host, namespace, wires);
        error_of(&wires[owners[refusal.index]], refusal.into())
    })
}

fn add_link(host: &Socket, batch: &mut Batch, namespace: BorrowedFd, number: usize, wire: &Wire) -> Result<()> {
    let index = |name: &str| link::index(host, name).map_err(|error| error_of(wire, error.into()));
    let needed = |name: &str| {
        index(name)?.ok_or_else(|| {
            let network = wire.network;
            Error::not_found(format!("interface {name} of network {network} does not exist"))
        })
    };
    let mac = wire.mac.map(|mac| mac.0);
    match wire.plug {
        Plug::Bridge {
            bridge,
            host_interface,
            port,
        } => {
            // What we undo must be ours.
            if index(host_interface)?.is_some() {
                return Err(Error::conflict(format!("interface {host_interface} exists already")));
            }
            let peer = Peer {
                name: wire.interface,
                mac,
                mtu: wire.mtu,
                namespace: Some(namespace),
            };
            let veth = NewLink {
                mtu: wire.mtu,
                master: Some(needed(bridge)?),
                ..NewLink::new(host_interface, Kind::Veth { peer })
            };
            link::create(batch, &veth);
            let changes = Changes {
                // The host has nothing to say on a bridge's port. (Without IPv6 there, saying so is an error.)
                no_automatic_ipv6: sysctl::has_ipv6() && wire.mtu.is_none_or(|mtu| mtu >= IPV6_MINIMUM_MTU),
                port: (port != Port::default()).then_some(port),
                ..Changes::default()
            };
            link::change(batch, Target::Name(host_interface), &changes);
        }
        Plug::Macvlan { parent, mode } => {
            let kind = Kind::Macvlan {
                parent: needed(parent)?,
                mode,
            };
            add_child(batch, namespace, number, wire, kind);
        }
        Plug::Ipvlan { parent, mode, flag } => {
            let kind = Kind::Ipvlan {
                parent: needed(parent)?,
                mode,
                flag,
            };
            add_child(batch, namespace, number, wire, kind);
        }
    }
    Ok(())
}

fn add_child(batch: &mut Batch, namespace: BorrowedFd, number: usize, wire: &Wire, kind: Kind) {
    let name = birth_name(number);
    let link = NewLink {
        // An ipvlan has its parent's.
        mac: wire
            .mac
            .filter(|_| matches!(kind, Kind::Macvlan { .. }))
            .map(|mac| mac.0),
        mtu: wire.mtu,
        namespace: Some(namespace),
        ..NewLink::new(&name, kind)
    };
    link::create(batch, &link);
}

/// Kernels before 6.15 refuse a name for the other namespace that is taken on the host, and `eth0` often is.
fn birth_name(number: usize) -> String {
    format!("corten-new{number}")
}

/// What is said inside; the failure is that of a wire.
fn equip(socket: &mut Socket, wires: &[Wire]) -> Result<(), (usize, io::Error)> {
    let mut batch = Batch::new();
    let mut owners = Vec::new();
    let mut children = Vec::new();
    for (number, wire) in wires.iter().enumerate() {
        let index = add_settings(socket, &mut batch, number, wire).map_err(|error| (number, error))?;
        owners.resize(batch.len(), number);
        if !matches!(wire.plug, Plug::Bridge { .. }) {
            children.push(index);
        }
    }
    socket.transact(&mut batch).map_err(|refusal| {
        // Only here is it known which interfaces are ours: they may have their final names by now.
        let mut batch = Batch::new();
        for index in children {
            link::delete(&mut batch, Target::Index(index));
        }
        let _ = socket.transact(&mut batch);
        (owners[refusal.index], refusal.into())
    })
}

/// The interface's index.
fn add_settings(socket: &Socket, batch: &mut Batch, number: usize, wire: &Wire) -> io::Result<u32> {
    let is_child = !matches!(wire.plug, Plug::Bridge { .. });
    let born = birth_name(number);
    let name = if is_child { &born } else { wire.interface };
    let index = link::index(socket, name)?.ok_or(Errno::NODEV)?;
    set_switches(name, wire)?;
    if is_child {
        let rename = Changes {
            name: Some(wire.interface),
            ..Changes::default()
        };
        link::change(batch, Target::Index(index), &rename);
    }
    let up = Changes {
        up: Some(true),
        ..Changes::default()
    };
    link::change(batch, Target::Index(index), &up);
    for net in &wire.addresses {
        address::add(batch, index, net.addr(), net.prefix_len());
    }
    for gateway in &wire.defaults {
        path::replace(batch, &gateway.route(index, &wire.addresses));
    }
    Ok(index)
}

/// While the interface is down.
fn set_switches(name: &str, wire: &Wire) -> io::Result<()> {
    let switches = sysctl::Tree::of_containers()?;
    let ipv6 = wire.addresses.iter().any(|net| matches!(net, IpNet::V6(_)));
    if ipv6 {
        // The link-local address works at once as well.
        switches.write(&format!("ipv6/conf/{name}/accept_dad"), "0")?;
        switches.write(&format!("ipv6/conf/{name}/disable_ipv6"), "0")?;
        if matches!(wire.plug, Plug::Bridge { port, .. } if port.isolated) {
            // Who is linked meets at the host, which would send the two past itself. In IPv4 only a gateway can.
            switches.write(&format!("ipv6/conf/{name}/accept_redirects"), "0")?;
        }
    } else {
        switches.write_if_there(&format!("ipv6/conf/{name}/disable_ipv6"), "1")?;
    }
    for Sysctl {
        directory,
        name: switch,
        value,
    } in &wire.sysctls
    {
        switches.write(&format!("{directory}/{name}/{switch}"), value)?;
    }
    Ok(())
}

/// Takes away what [`make`] made, all or a part of it.
fn undo(host: &mut Socket, namespace: BorrowedFd, wires: &[Wire]) {
    let mut children = Vec::new();
    for (number, wire) in wires.iter().enumerate() {
        match wire.plug {
            Plug::Bridge { host_interface, .. } => {
                let _ = delete(host, host_interface);
            }
            Plug::Macvlan { .. } | Plug::Ipvlan { .. } => children.push(birth_name(number)),
        }
    }
    let _ = inside(namespace, || {
        let mut socket = Socket::open(Protocol::Route)?;
        children.iter().try_for_each(|name| delete(&mut socket, name))
    });
}

fn delete(socket: &mut Socket, name: &str) -> io::Result<()> {
    let mut batch = Batch::new();
    link::delete(&mut batch, Target::Name(name));
    match socket.transact(&mut batch) {
        Err(Refusal {
            errno: Errno::NODEV, ..
        }) => Ok(()),
        result => Ok(result?),
    }
}

fn cannot_open(error: io::Error) -> Error {
    Error::system("cannot talk to the kernel about interfaces").because(error)
}

fn error_of(wire: &Wire, error: io::Error) -> Error {
    let network = wire.network;
    let refusal = error.get_ref().and_then(|error| error.downcast_ref::<Refusal>());
    let errno = refusal
        .map(|refusal| refusal.errno)
        .or_else(|| Errno::from_io_error(&error));
    if errno == Some(Errno::XFULL) {
        return Error::conflict(format!("network {network} is full: a bridge takes 1023 interfaces"));
    }
    let message = format!("cannot attach {} to network {network}", wire.interface);
    match errno {
        Some(Errno::OPNOTSUPP) => Error::unsupported(message).because(error),
        _ => Error::system(message).because(error),
    }
}

#[cfg(test)]
mod tests;

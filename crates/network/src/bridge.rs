//! Bridges: where containers of one network meet.
//!
//! A bridge of ours carries an alias that says whose it is, for other engines call theirs `br-…` as well. An
//! administrator's bridge may be used too; it gets what it lacks and loses nothing.
use std::{
    collections::{BTreeMap, HashSet},
    io,
    net::IpAddr,
};

use corten_linux::netlink::{
    message::Batch,
    route::{
        address,
        link::{self, Changes, Kind, NewLink, Port, Target},
        list::{self, Link},
    },
    socket::{Protocol, Refusal, Socket},
};
use ipnet::IpNet;
use rustix::io::Errno;

use crate::{
    error::{Error, Result},
    model::Mac,
    sysctl,
};

/// A bridge as it should be.
#[derive(Debug, Clone)]
pub struct BridgeSpec<'a> {
    pub name: &'a str,
    /// Whose bridges these are: the firewall table's name. See [`litter`].
    pub owner: &'a str,
    pub mtu: Option<u32>,
    /// Derived from the first IPv4 address when absent, so that neighbours still know the bridge after it was made anew.
    pub mac: Option<Mac>,
    /// Gateways with their prefixes.
    pub addresses: &'a [IpNet],
    /// Packets to 127.0.0.0/8 may be sent through it: ports published to 127.0.0.1 need this, and a guard of the firewall.
    pub route_localnet: bool,
}

/// How a bridge came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Made now, or by us earlier.
    Ours,
    /// It was there, and is somebody else's: never removed.
    Foreign,
}

/// Makes a bridge, or gives what is there what it lacks. A failure leaves no new bridge behind.
pub fn create(spec: &BridgeSpec) -> Result<Origin> {
    let failed = |error: io::Error| Error::system(format!("cannot make bridge {}", spec.name)).because(error);
    check_name(spec.name)?;
    let mut socket = Socket::open(Protocol::Route).map_err(failed)?;
    let existing = list::link(&mut socket, spec.name).map_err(|refusal| failed(refusal.into()))?;
    if let Some(existing) = &existing
        && existing.kind.as_deref() != Some("bridge")
    {
        let name = spec.name;
        return Err(Error::conflict(format!("interface {name} exists and is no bridge")));
    }
    let made = match &existing {
        Some(_) => Ok(()),
        None => make(&mut socket, spec).map_err(io::Error::from),
    };
    let equipped = made.and_then(|()| equip(&mut socket, spec, existing.as_ref()));
    if let Err(error) = equipped {
        if existing.is_none() {
            let _ = delete(&mut socket, spec.name);
        }
        return Err(failed(error));
    }
    Ok(match existing {
        Some(existing) if existing.alias.as_deref() != Some(spec.owner) => Origin::Foreign,
        _ => Origin::Ours,
    })
}

/// Removes a bridge, if it is there. Not for foreign ones.
pub fn remove(name: &str) -> Result<()> {
    Socket::open(Protocol::Route)
        .and_then(|mut socket| delete(&mut socket, name))
        .map_err(|error| Error::system(format!("cannot remove bridge {name}")).because(error))
}

/// Is it there, and a bridge?
pub fn exists(name: &str) -> bool {
    let link = Socket::open(Protocol::Route).map(|mut socket| list::link(&mut socket, name));
    matches!(link, Ok(Ok(Some(link))) if link.kind.as_deref() == Some("bridge"))
}

fn make(socket: &mut Socket, spec: &BridgeSpec) -> Result<(), Refusal> {
    let mut batch = Batch::new();
    let mac = spec.mac.or_else(|| derived_mac(spec.addresses));
    link::create(
        &mut batch,
        &NewLink {
            mac: mac.map(|mac| mac.0),
            mtu: spec.mtu,
            ..NewLink::new(spec.name, Kind::Bridge)
        },
    );
    let alias = Changes {
        alias: Some(spec.owner),
        ..Changes::default()
    };
    link::change(&mut batch, Target::Name(spec.name), &alias);
    let made = socket.transact(&mut batch);
    if made.as_ref().is_err_and(|refusal| refusal.index > 0) {
        let _ = delete(socket, spec.name);
    }
    made
}

/// `02:42` and the address: as containers get theirs.
fn derived_mac(addresses: &[IpNet]) -> Option<Mac> {
    addresses.iter().find_map(|address| match address {
        IpNet::V4(address) => {
            let [a, b, c, d] = address.addr().octets();
            Some(Mac([0x02, 0x42, a, b, c, d]))
        }
        IpNet::V6(_) => None,
    })
}

/// Switches, addresses, up.
fn equip(socket: &mut Socket, spec: &BridgeSpec, existing: Option<&Link>) -> io::Result<()> {
    let index = link::index(socket, spec.name)?.ok_or(Errno::NODEV)?;
    let ours = existing.is_none_or(|link| link.alias.as_deref() == Some(spec.owner));
    set_switches(spec, ours)?;
    let has: Vec<_> = match existing {
        None => Vec::new(),
        Some(_) => list::addresses(socket).map_err(io::Error::from)?,
    };
    let mine = |address: &list::Address| address.interface == index;
    let same =
        |address: &list::Address, net: &IpNet| (address.address, address.prefix) == (net.addr(), net.prefix_len());
    let mut batch = Batch::new();
    if ours {
        for old in has.iter().filter(|address| mine(address) && !link_local(address)) {
            if !spec.addresses.iter().any(|net| same(old, net)) {
                address::remove(&mut batch, index, old.address, old.prefix);
            }
        }
    }
    for net in spec.addresses {
        if !has.iter().any(|address| mine(address) && same(address, net)) {
            address::add(&mut batch, index, net.addr(), net.prefix_len());
        }
    }
    let up = Changes {
        up: Some(true),
        ..Changes::default()
    };
    link::change(&mut batch, Target::Index(index), &up);
    Ok(socket.transact(&mut batch)?)
}

/// IPv6 makes these by itself.
fn link_local(address: &list::Address) -> bool {
    match address.address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// The host neither learns from router advertisements of containers nor waits to see whether its addresses are taken.
fn set_switches(spec: &BridgeSpec, ours: bool) -> io::Result<()> {
    let name = spec.name;
    let ipv6 = spec.addresses.iter().any(|net| matches!(net, IpNet::V6(_)));
    if ours {
        sysctl::write_if_there(&format!("ipv6/conf/{name}/accept_ra"), "0")?;
        sysctl::write_if_there(&format!("ipv6/conf/{name}/accept_dad"), "0")?;
    }
    if ours || ipv6 {
        let disable = if ipv6 { "0" } else { "1" };
        let there = sysctl::write_if_there(&format!("ipv6/conf/{name}/disable_ipv6"), disable)?;
        if ipv6 && !there {
            let why = if sysctl::has_ipv6() {
                "IPv6 needs an MTU of 1280 or more"
            } else {
                "this kernel has no IPv6"
            };
            return Err(io::Error::other(why));
        }
    }
    if spec.route_localnet {
        sysctl::write(&format!("ipv4/conf/{name}/route_localnet"), "1")?;
    }
    Ok(())
}

fn delete(socket: &mut Socket, name: &str) -> io::Result<()> {
    let mut batch = Batch::new();
    link::delete(&mut batch, Target::Name(name));
    match socket.transact(&mut batch) {
        Err(refusal) if refusal.errno != Errno::NODEV => Err(refusal.into()),
        _ => Ok(()),
    }
}

/// May an interface have this name? The kernel's rule, and no `%`, which it fills in with a number.
pub fn check_name(name: &str) -> Result<()> {
    let forbidden = |byte: u8| matches!(byte, b'/' | b':' | b'%') || !byte.is_ascii_graphic();
    if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.bytes().any(forbidden) {
        return Err(Error::invalid(format!(
            "invalid interface name {name:?}: 1 to 15 letters and digits"
        )));
    }
    Ok(())
}

/// Interfaces that a daemon of this owner made and that nobody needs any more.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Litter {
    /// Bridges, and parents of macvlan and ipvlan networks.
    pub interfaces: Vec<String>,
    /// Host ends of veths, by index.
    pub wires: BTreeMap<u32, String>,
}

/// Looks for interfaces of networks of `owner` that are not among `interfaces`, and for ends of veths on any of its bridges
/// that are not among `wires`. Those whose container just ended may be among them: the kernel takes them away by itself,
/// soon.
pub fn litter(owner: &str, interfaces: &HashSet<&str>, wires: &HashSet<&str>) -> io::Result<Litter> {
    let mut socket = Socket::open(Protocol::Route)?;
    let links = list::links(&mut socket).map_err(io::Error::from)?;
    let ours = |link: &&Link| link.alias.as_deref() == Some(owner);
    let indices: HashSet<u32> = links.iter().filter(ours).map(|link| link.index).collect();
    let unknown = |link: &&Link| ours(link) && !interfaces.contains(&*link.name);
    let loose = |link: &&Link| {
        link.kind.as_deref() == Some("veth")
            && link.master.is_some_and(|master| indices.contains(&master))
            && !wires.contains(&*link.name)
    };
    Ok(Litter {
        interfaces: links.iter().filter(unknown).map(|link| link.name.clone()).collect(),
        wires: links
            .iter()
            .filter(loose)
            .map(|link| (link.index, link.name.clone()))
            .collect(),
    })
}

/// Deletes what [`litter`] found, all that can be deleted.
pub fn sweep(litter: &Litter) -> io::Result<()> {
    let mut socket = Socket::open(Protocol::Route)?;
    let mut result = Ok(());
    for name in litter.wires.values().chain(&litter.interfaces) {
        result = delete(&mut socket, name).and(result);
    }
    result
}

/// Makes interfaces ports of a bridge again, which lost them when it was made anew while containers ran. `port` is what
/// such ports are like.
pub fn adopt(bridge: &str, wires: &[&str], port: Port) -> io::Result<()> {
    let mut socket = Socket::open(Protocol::Route)?;
    let index = link::index(&socket, bridge)?.ok_or(Errno::NODEV)?;
    let links = list::links(&mut socket).map_err(io::Error::from)?;
    let lost = links
        .iter()
        .filter(|link| wires.contains(&&*link.name) && link.master != Some(index));
    let mut batch = Batch::new();
    for link in lost {
        let join = Changes {
            master: Some(index),
            up: Some(true),
            ..Changes::default()
        };
        let flags = Changes {
            port: Some(port),
            ..Changes::default()
        };
        link::change(&mut batch, Target::Index(link.index), &join);
        link::change(&mut batch, Target::Index(link.index), &flags);
    }
    socket.transact(&mut batch)?;
    let _ = link::settle(&socket, bridge);
    Ok(())
}

/// Takes ends of veths down whose containers ended a moment ago, for others have their addresses now. Those that the kernel
/// has taken away already are no error.
pub fn unplug(wires: &[String]) -> io::Result<()> {
    let mut socket = Socket::open(Protocol::Route)?;
    for wire in wires {
        let mut batch = Batch::new();
        let down = Changes {
            up: Some(false),
            ..Changes::default()
        };
        link::change(&mut batch, Target::Name(wire), &down);
        match socket.transact(&mut batch) {
            Err(refusal) if refusal.errno != Errno::NODEV => return Err(refusal.into()),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error::Kind as Why, testing::alone};

    fn spec<'a>(name: &'a str, addresses: &'a [IpNet]) -> BridgeSpec<'a> {
        BridgeSpec {
            name,
            owner: "corten-test",
            mtu: None,
            mac: None,
            addresses,
            route_localnet: true,
        }
    }

    fn link(name: &str) -> Option<Link> {
        list::link(&mut Socket::open(Protocol::Route).expect("netlink"), name).expect("allowed")
    }

    fn addresses(name: &str) -> Vec<IpNet> {
        let mut socket = Socket::open(Protocol::Route).expect("netlink");
        let index = link::index(&socket, name).expect("allowed").expect("there");
        let all = list::addresses(&mut socket).expect("allowed");
        let mine = all
            .iter()
            .filter(|address| address.interface == index && !link_local(address));
        mine.map(|address| IpNet::new(address.address, address.prefix).expect("valid"))
            .collect()
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().expect("valid")).collect()
    }

    #[test]
    fn a_bridge_is_made_once_and_keeps_its_hardware_address() {
        alone(|| {
            let gateways = nets(&["10.7.0.1/24", "fd00:7::1/64"]);
            for _ in 0..2 {
                assert_eq!(create(&spec("br-test", &gateways)).expect("root"), Origin::Ours);
                let link = link("br-test").expect("made");
                assert!(link.up && link.kind.as_deref() == Some("bridge"));
                assert_eq!(link.mac, Some([0x02, 0x42, 10, 7, 0, 1]));
                assert_eq!(addresses("br-test"), gateways);
                assert_eq!(
                    sysctl::read("ipv4/conf/br-test/route_localnet").expect("there"),
                    Some(1)
                );
                assert_eq!(sysctl::read("ipv6/conf/br-test/accept_ra").expect("there"), Some(0));
            }
            let moved = nets(&["10.8.0.1/24"]);
            create(&spec("br-test", &moved)).expect("root");
            assert_eq!(addresses("br-test"), moved);
            assert_eq!(sysctl::read("ipv6/conf/br-test/disable_ipv6").expect("there"), Some(1));
            remove("br-test").expect("root");
            assert!(!exists("br-test"));
            remove("br-test").expect("it is gone already");
        });
    }

    #[test]
    fn a_bridge_that_cannot_be_equipped_is_not_left_behind() {
        alone(|| {
            let gateways = nets(&["10.7.0.1/24", "fd00:7::1/64"]);
            let error = create(&BridgeSpec {
                mtu: Some(1000),
                ..spec("br-test", &gateways)
            });
            assert_eq!(
                error.expect_err("IPv6 needs more").to_string(),
                "cannot make bridge br-test"
            );
            assert_eq!(link("br-test"), None);
            let error = create(&spec("lo", &gateways)).expect_err("it is none");
            assert_eq!(error.kind(), Why::Conflict);
            for name in ["", "a/b", "sixteen-letters-", "br%d", "br 1", ".."] {
                assert_eq!(create(&spec(name, &[])).expect_err(name).kind(), Why::Invalid);
            }
        });
    }

    #[test]
    fn an_administrators_bridge_keeps_its_addresses_and_is_no_litter() {
        alone(|| {
            let mut socket = Socket::open(Protocol::Route).expect("netlink");
            let mut batch = Batch::new();
            link::create(&mut batch, &NewLink::new("theirs", Kind::Bridge));
            socket.transact(&mut batch).expect("root");
            let index = link::index(&socket, "theirs").expect("allowed").expect("made");
            let mut batch = Batch::new();
            address::add(&mut batch, index, [10, 1, 1, 1].into(), 24);
            socket.transact(&mut batch).expect("root");
            let gateways = nets(&["10.9.0.1/24"]);
            assert_eq!(create(&spec("theirs", &gateways)).expect("root"), Origin::Foreign);
            assert_eq!(addresses("theirs"), nets(&["10.1.1.1/24", "10.9.0.1/24"]));
            create(&spec("br-old", &[])).expect("root");
            create(&spec("br-new", &[])).expect("root");
            let found = litter("corten-test", &HashSet::from(["br-new"]), &HashSet::new()).expect("allowed");
            assert_eq!(found.interfaces, ["br-old"]);
            sweep(&found).expect("root");
            assert!(!exists("br-old") && exists("br-new") && exists("theirs"));
        });
    }
}

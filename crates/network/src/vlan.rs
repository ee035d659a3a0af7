//! Parents of macvlan and ipvlan networks: an interface of the host's, a VLAN of one, or one that leads nowhere.
//!
//! The interfaces of containers on such a network are children of the parent. The host itself cannot talk to them: that
//! is how macvlan and ipvlan are.
use std::io;

use corten_linux::netlink::{
    message::Batch,
    route::{
        link::{self, Changes, IpvlanFlag, IpvlanMode, Kind, MacvlanMode, NewLink, Target},
        list,
    },
    socket::{Protocol, Refusal, Socket},
};
use rustix::io::Errno;

use crate::{
    bridge::{self, Origin, check_name},
    error::{Error, Result},
};

/// Finds a parent, or makes it: `eth0.50` is VLAN 50 of `eth0`, brought up if `eth0` is. What is made is marked as
/// `owner`'s.
pub fn parent(name: &str, owner: &str) -> Result<Origin> {
    check_name(name)?;
    let mut socket = open()?;
    let found = list::link(&mut socket, name).map_err(|refusal| failed(name, refusal))?;
    if let Some(found) = found {
        return Ok(match found.alias.as_deref() == Some(owner) {
            true => Origin::Ours,
            false => Origin::Foreign,
        });
    }
    let missing = || Error::not_found(format!("parent interface {name} does not exist"));
    let (base, number) = name.rsplit_once('.').ok_or_else(missing)?;
    let parent = link::index(&socket, base).map_err(|error| failed(name, error.into()))?;
    let parent = parent.ok_or_else(|| Error::not_found(format!("parent interface {base} of {name} does not exist")))?;
    let id = number
        .parse()
        .ok()
        .filter(|id| (1..4095).contains(id) && !number.starts_with(['0', '+']));
    let id = id.ok_or_else(|| Error::invalid(format!("invalid VLAN {number} of {name}: 1 to 4094")))?;
    make(&mut socket, &NewLink::new(name, Kind::Vlan { parent, id }), owner)
        .map_err(|refusal| failed(name, refusal))?;
    Ok(Origin::Ours)
}

/// Makes a parent that leads nowhere, for networks without a way out.
pub fn dead_end(name: &str, owner: &str) -> Result<()> {
    check_name(name)?;
    let mut socket = open()?;
    let found = list::link(&mut socket, name).map_err(|refusal| failed(name, refusal))?;
    match found {
        Some(found) if found.alias.as_deref() == Some(owner) => return Ok(()),
        Some(_) => return Err(Error::conflict(format!("interface {name} exists already"))),
        None => {}
    }
    let made = match make(&mut socket, &NewLink::new(name, Kind::Dummy), owner) {
        // Kernels without dummy interfaces: a bridge that never has a port will do.
        Err(refusal) if refusal.errno == Errno::OPNOTSUPP => {
            make(&mut socket, &NewLink::new(name, Kind::Bridge), owner)
        }
        made => made,
    };
    made.map_err(|refusal| failed(name, refusal))
}

/// Removes a parent that we made; any other stays.
pub fn remove(name: &str, owner: &str) -> Result<()> {
    let mut socket = open()?;
    match list::link(&mut socket, name).map_err(|refusal| failed(name, refusal))? {
        Some(link) if link.alias.as_deref() == Some(owner) => bridge::remove(name),
        _ => Ok(()),
    }
}

fn make(socket: &mut Socket, link: &NewLink, owner: &str) -> Result<(), Refusal> {
    let mut batch = Batch::new();
    link::create(&mut batch, link);
    let changes = Changes {
        alias: Some(owner),
        up: Some(true),
        // Nobody speaks IPv6 on the parent itself.
        no_automatic_ipv6: crate::sysctl::has_ipv6() && !matches!(link.kind, Kind::Vlan { .. }),
        ..Changes::default()
    };
    link::change(&mut batch, Target::Name(link.name), &changes);
    let made = socket.transact(&mut batch);
    if made.as_ref().is_err_and(|refusal| refusal.index > 0) {
        let mut batch = Batch::new();
        link::delete(&mut batch, Target::Name(link.name));
        let _ = socket.transact(&mut batch);
    }
    made
}

/// Refuses a network that this kernel cannot make.
pub fn check_kernel(driver: &str) -> Result<()> {
    let kind = match driver {
        // No interface has this index.
        "macvlan" => Kind::Macvlan {
            parent: 0,
            mode: MacvlanMode::Bridge,
        },
        "ipvlan" => Kind::Ipvlan {
            parent: 0,
            mode: IpvlanMode::L2,
            flag: IpvlanFlag::Bridge,
        },
        _ => return Ok(()),
    };
    let mut batch = Batch::new();
    link::create(&mut batch, &NewLink::new("corten-probe", kind));
    match open()?.transact(&mut batch) {
        Err(refusal) if refusal.errno == Errno::OPNOTSUPP => {
            Err(Error::unsupported(format!("this kernel has no {driver}")).because(refusal))
        }
        _ => Ok(()),
    }
}

/// The option `macvlan_mode`.
pub fn macvlan_mode(text: &str) -> Result<MacvlanMode> {
    match text {
        "" | "bridge" => Ok(MacvlanMode::Bridge),
        "private" => Ok(MacvlanMode::Private),
        "vepa" => Ok(MacvlanMode::Vepa),
        "passthru" => Ok(MacvlanMode::Passthru),
        _ => Err(Error::invalid(format!("requested macvlan mode '{text}' is not valid"))),
    }
}

/// The option `ipvlan_mode`.
pub fn ipvlan_mode(text: &str) -> Result<IpvlanMode> {
    match text {
        "" | "l2" => Ok(IpvlanMode::L2),
        "l3" => Ok(IpvlanMode::L3),
        "l3s" => Ok(IpvlanMode::L3s),
        _ => Err(Error::invalid(format!("requested ipvlan mode '{text}' is not valid"))),
    }
}

/// The option `ipvlan_flag`.
pub fn ipvlan_flag(text: &str) -> Result<IpvlanFlag> {
    match text {
        "" | "bridge" => Ok(IpvlanFlag::Bridge),
        "private" => Ok(IpvlanFlag::Private),
        "vepa" => Ok(IpvlanFlag::Vepa),
        _ => Err(Error::invalid(format!("requested ipvlan flag '{text}' is not valid"))),
    }
}

fn open() -> Result<Socket> {
    Socket::open(Protocol::Route)
        .map_err(|error| Error::system("cannot talk to the kernel about interfaces").because(error))
}

fn failed(name: &str, refusal: Refusal) -> Error {
    match refusal.errno {
        Errno::OPNOTSUPP => Error::unsupported(format!("this kernel cannot make {name}")).because(refusal),
        _ => Error::system(format!("cannot make interface {name}")).because(io::Error::from(refusal)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};

    use corten_linux::netlink::route::link::Peer;
    use ipnet::IpNet;

    use super::*;
    use crate::{
        model::Mac,
        namespace::inside,
        testing::{alone, new_namespace, reaches},
        wire::{self, Gateway, Plug, Wire},
    };

    fn net(text: &str) -> IpNet {
        text.parse().expect("valid")
    }

    /// A cable between `eth0` here and `eth0` of another host.
    fn cable() -> OwnedFd {
        let other = new_namespace();
        let peer = Peer {
            name: "eth0",
            mac: None,
            mtu: None,
            namespace: Some(other.as_fd()),
        };
        let mut socket = open().expect("netlink");
        let mut batch = Batch::new();
        link::create(&mut batch, &NewLink::new("eth0", Kind::Veth { peer }));
        socket.transact(&mut batch).expect("root");
        for namespace in [None, Some(&other)] {
            let up = || {
                bring_up(&mut open().expect("netlink"), "eth0");
                Ok(())
            };
            match namespace {
                None => up(),
                Some(namespace) => inside(namespace.as_fd(), up),
            }
            .expect("root");
        }
        link::settle(&socket, "eth0").expect("there");
        other
    }

    fn bring_up(socket: &mut Socket, name: &str) {
        let mut batch = Batch::new();
        let up = Changes {
            up: Some(true),
            ..Changes::default()
        };
        link::change(&mut batch, Target::Name(name), &up);
        socket.transact(&mut batch).expect("root");
    }

    fn give_address(namespace: &OwnedFd, name: &str, address: &str) {
        let address = net(address);
        inside(namespace.as_fd(), || {
            let mut socket = open().expect("netlink");
            let index = link::index(&socket, name)?.expect("there");
            let mut batch = Batch::new();
            corten_linux::netlink::route::address::add(&mut batch, index, address.addr(), address.prefix_len());
            Ok(socket.transact(&mut batch)?)
        })
        .expect("root");
    }

    fn wire<'a>(plug: Plug<'a>, addresses: &[&str], defaults: &[Gateway]) -> Wire<'a> {
        Wire {
            network: "lan",
            plug,
            interface: "eth0",
            mac: match plug {
                Plug::Ipvlan { .. } => None,
                _ => Some(Mac([2, 0x42, 10, 7, 0, 2])),
            },
            addresses: addresses.iter().map(|text| net(text)).collect(),
            defaults: defaults.to_vec(),
            mtu: None,
            sysctls: Vec::new(),
        }
    }

    #[test]
    fn a_container_is_on_a_vlan_of_an_interface() {
        alone(|| {
            let other = cable();
            match parent("eth0.50", "corten-test") {
                Err(error) if error.kind() == crate::error::Kind::Unsupported => {
                    return eprintln!("skipped: this kernel has no 802.1Q");
                }
                made => assert_eq!(made.expect("root"), Origin::Ours),
            }
            assert_eq!(parent("eth0.50", "corten-test").expect("it is there"), Origin::Ours);
            assert_eq!(parent("eth0.50", "another").expect("it is there"), Origin::Foreign);
            let vlan = list::link(&mut open().expect("netlink"), "eth0.50")
                .expect("allowed")
                .expect("made");
            assert_eq!((vlan.vlan, vlan.up), (Some(50), true));
            inside(other.as_fd(), || Ok(parent("eth0.50", "other host").expect("root"))).expect("root");
            give_address(&other, "eth0.50", "10.7.0.9/24");
            give_address(&other, "eth0", "10.8.0.9/24");
            let container = new_namespace();
            let plug = Plug::Macvlan {
                parent: "eth0.50",
                mode: MacvlanMode::Bridge,
            };
            let both = ["10.7.0.2/24", "10.8.0.2/24"];
            wire::connect(container.as_fd(), &[wire(plug, &both, &[])]).expect("root");
            assert!(reaches(&container, &other, "10.7.0.9:80"));
            // Not on that VLAN.
            assert!(!reaches(&container, &other, "10.8.0.9:80"));
            remove("eth0.50", "another").expect("not theirs: stays");
            remove("eth0.50", "corten-test").expect("root");
            assert_eq!(link::index(&open().expect("netlink"), "eth0.50"), Ok(None));
        });
    }

    #[test]
    fn ipvlans_reach_each_other_and_the_world() {
        for mode in [IpvlanMode::L2, IpvlanMode::L3, IpvlanMode::L3s] {
            alone(move || {
                if let Err(error) = check_kernel("ipvlan") {
                    return eprintln!("skipped: {error}");
                }
                let other = cable();
                let (one, two) = (new_namespace(), new_namespace());
                let plug = Plug::Ipvlan {
                    parent: "eth0",
                    mode,
                    flag: IpvlanFlag::Bridge,
                };
                for (namespace, address) in [(&one, "10.7.0.2/24"), (&two, "10.7.0.3/24")] {
                    wire::connect(namespace.as_fd(), &[wire(plug, &[address], &[Gateway::OnLink4])]).expect("root");
                }
                assert!(reaches(&one, &two, "10.7.0.3:80"), "{mode:?}");
                if mode == IpvlanMode::L2 {
                    give_address(&other, "eth0", "10.7.0.9/24");
                    assert!(reaches(&one, &other, "10.7.0.9:80"));
                }
                dead_end("dm-1", "corten-test").expect("root");
                let inner = Wire {
                    interface: "eth1",
                    ..wire(
                        Plug::Ipvlan {
                            parent: "dm-1",
                            mode,
                            flag: IpvlanFlag::Private,
                        },
                        &["10.9.0.2/24"],
                        &[],
                    )
                };
                wire::connect(one.as_fd(), &[inner]).expect("root");
                wire::disconnect(one.as_fd(), "eth1").expect("root");
                remove("dm-1", "corten-test").expect("root");
            });
        }
    }
}

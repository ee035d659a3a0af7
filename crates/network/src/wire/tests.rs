//! Wires between bridges and containers, in namespaces of the tests' own.
use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
};

use super::*;
use crate::{
    bridge::{self, BridgeSpec},
    error::Kind as Why,
    testing::{alone, new_namespace, reaches},
    vlan,
};

fn net(text: &str) -> IpNet {
    text.parse().expect("valid")
}

fn make_bridge(name: &str, addresses: &[&str]) {
    let addresses: Vec<_> = addresses.iter().map(|text| net(text)).collect();
    bridge::create(&BridgeSpec {
        name,
        owner: "corten-test",
        mtu: None,
        mac: None,
        addresses: &addresses,
        route_localnet: false,
    })
    .expect("root");
}

fn wire<'a>(bridge: &'a str, host_interface: &'a str, addresses: &[&str]) -> Wire<'a> {
    Wire {
        network: "web",
        plug: Plug::Bridge {
            bridge,
            host_interface,
            port: Port::default(),
        },
        interface: "eth0",
        mac: Some(Mac([2, 0x42, 10, 7, 0, 2])),
        addresses: addresses.iter().map(|text| net(text)).collect(),
        defaults: Vec::new(),
        mtu: None,
        sysctls: Vec::new(),
    }
}

fn macvlan<'a>(parent: &'a str, address: &str, last: u8) -> Wire<'a> {
    Wire {
        plug: Plug::Macvlan {
            parent,
            mode: MacvlanMode::Bridge,
        },
        mac: Some(Mac([2, 0x42, 10, 7, 0, last])),
        ..wire("", "", &[address])
    }
}

#[test]
fn macvlans_of_a_parent_that_leads_nowhere_reach_each_other() {
    alone(|| {
        // The host has an eth0 of its own: the container's does not meet it.
        bridge::create(&BridgeSpec {
            name: "eth0",
            owner: "x",
            mtu: None,
            mac: None,
            addresses: &[],
            route_localnet: false,
        })
        .expect("root");
        vlan::check_kernel("macvlan").expect("there");
        vlan::dead_end("dm-1", "corten-test").expect("root");
        vlan::dead_end("dm-1", "corten-test").expect("it is ours");
        let (one, two) = (new_namespace(), new_namespace());
        connect(one.as_fd(), &[macvlan("dm-1", "10.7.0.2/24", 2)]).expect("root");
        connect(two.as_fd(), &[macvlan("dm-1", "10.7.0.3/24", 3)]).expect("root");
        assert!(reaches(&one, &two, "10.7.0.3:80"));
        let mut broken = macvlan("dm-1", "ff02::1/64", 4);
        broken.interface = "eth1";
        connect(one.as_fd(), &[broken]).expect_err("no address");
        assert_eq!(names_in(&one), ["lo", "eth0"]);
        disconnect(one.as_fd(), "eth0").expect("root");
        assert_eq!(names_in(&one), ["lo"]);
        let error = vlan::parent("eth9.5", "corten-test").expect_err("no eth9");
        assert_eq!(error.kind(), Why::NotFound);
        assert_eq!(
            vlan::parent("eth0.4095", "corten-test").expect_err("too large").kind(),
            Why::Invalid
        );
        assert_eq!(
            vlan::parent("eth0", "corten-test").expect("there"),
            bridge::Origin::Foreign
        );
        vlan::remove("eth0", "corten-test").expect("not ours: stays");
        vlan::remove("dm-1", "corten-test").expect("root");
        assert!(names().contains(&"eth0".to_owned()) && !names().contains(&"dm-1".to_owned()));
    });
}

fn links() -> Vec<list::Link> {
    list::links(&mut Socket::open(Protocol::Route).expect("netlink")).expect("allowed")
}

fn names() -> Vec<String> {
    links().into_iter().map(|link| link.name).collect()
}

fn names_in(namespace: &OwnedFd) -> Vec<String> {
    inside(namespace.as_fd(), || Ok(names())).expect("root")
}

#[test]
fn two_containers_reach_each_other_over_both_families() {
    alone(|| {
        make_bridge("br0", &["10.7.0.1/24", "fd00:7::1/64"]);
        let (one, two) = (new_namespace(), new_namespace());
        let mut first = wire("br0", "veth1", &["10.7.0.2/24", "fd00:7::2/64"]);
        first.defaults = vec![
            Gateway::Via("10.7.0.1".parse().expect("valid")),
            Gateway::Via("fd00:7::1".parse().expect("valid")),
        ];
        connect(one.as_fd(), &[first]).expect("root");
        let mut second = wire("br0", "veth2", &["10.7.0.3/24", "fd00:7::3/64"]);
        second.mac = Some(Mac([2, 0x42, 10, 7, 0, 3]));
        connect(two.as_fd(), &[second]).expect("root");
        for address in ["10.7.0.3:80", "[fd00:7::3]:80"] {
            assert!(reaches(&one, &two, address), "{address}");
        }
        let routes = inside(one.as_fd(), || {
            Ok(list::routes(&mut Socket::open(Protocol::Route)?).expect("allowed"))
        });
        let gateways: Vec<_> = routes
            .expect("root")
            .into_iter()
            .filter_map(|route| route.gateway)
            .collect();
        assert_eq!(gateways.len(), 2, "{gateways:?}");
        disconnect(one.as_fd(), "eth0").expect("root");
        assert_eq!(names_in(&one), ["lo"]);
        assert!(!names().contains(&"veth1".to_owned()));
    });
}

#[test]
fn isolated_ports_reach_the_host_and_not_each_other() {
    alone(|| {
        make_bridge("br0", &["10.7.0.1/24"]);
        let here = OwnedFd::from(std::fs::File::open("/proc/thread-self/ns/net").expect("proc"));
        let (one, two) = (new_namespace(), new_namespace());
        for (namespace, name, address, last) in [(&one, "veth1", "10.7.0.2/24", 2), (&two, "veth2", "10.7.0.3/24", 3)] {
            let mut wire = wire("br0", name, &[address]);
            wire.mac = Some(Mac([2, 0x42, 10, 7, 0, last]));
            if let Plug::Bridge { port, .. } = &mut wire.plug {
                port.isolated = true;
            }
            connect(namespace.as_fd(), &[wire]).expect("root");
        }
        assert!(links().iter().filter(|link| link.isolated).count() == 2);
        assert!(reaches(&here, &one, "10.7.0.2:80"));
        assert!(!reaches(&one, &two, "10.7.0.3:80"));
    });
}

#[test]
fn a_failure_leaves_no_interface() {
    alone(|| {
        make_bridge("br0", &["10.7.0.1/24"]);
        let container = new_namespace();
        let before = names();
        // The second wire's name is taken, on the host's side and inside.
        let mut twice = [
            wire("br0", "veth1", &["10.7.0.2/24"]),
            wire("br0", "veth2", &["10.7.0.3/24"]),
        ];
        let error = connect(container.as_fd(), &twice).expect_err("eth0 twice");
        assert_eq!(error.to_string(), "cannot attach eth0 to network web");
        assert_eq!((names(), names_in(&container)), (before.clone(), vec!["lo".to_owned()]));
        // An address that cannot be, found only inside.
        twice[1].interface = "eth1";
        twice[1].addresses = vec![net("ff02::1/64")];
        let error = connect(container.as_fd(), &twice).expect_err("no address");
        assert_eq!(error.to_string(), "cannot attach eth1 to network web");
        assert_eq!((names(), names_in(&container)), (before.clone(), vec!["lo".to_owned()]));
        let error = connect(container.as_fd(), &[wire("br1", "veth1", &[])]).expect_err("no bridge");
        assert_eq!(error.kind(), Why::NotFound);
        // What was there before us stays.
        let error = connect(container.as_fd(), &[wire("br0", "br0", &[])]).expect_err("taken");
        assert_eq!(error.kind(), Why::Conflict);
        assert_eq!((names(), names_in(&container)), (before, vec!["lo".to_owned()]));
    });
}

#[test]
fn ports_of_a_bridge_made_anew_are_what_they_were() {
    alone(|| {
        make_bridge("br0", &["10.7.0.1/24"]);
        let here = OwnedFd::from(std::fs::File::open("/proc/thread-self/ns/net").expect("proc"));
        let container = new_namespace();
        connect(container.as_fd(), &[wire("br0", "veth1", &["10.7.0.2/24"])]).expect("root");
        bridge::remove("br0").expect("root");
        make_bridge("br0", &["10.7.0.1/24"]);
        let port = Port {
            isolated: true,
            hairpin: true,
        };
        bridge::adopt("br0", &["veth1"], port).expect("root");
        let links = links();
        let end = links.iter().find(|link| link.name == "veth1").expect("it stayed");
        assert!(end.isolated && end.hairpin && end.master.is_some());
        bridge::adopt("br0", &["veth1"], port).expect("nothing to do");
        assert!(reaches(&here, &container, "10.7.0.2:80"));
    });
}

#[test]
fn a_full_bridge_is_named_with_its_limit() {
    alone(|| {
        make_bridge("br0", &["10.7.0.1/24"]);
        let mut host = Socket::open(Protocol::Route).expect("netlink");
        let master = link::index(&host, "br0").expect("allowed");
        let names: Vec<_> = (0..1024)
            .map(|number| (format!("a{number}"), format!("b{number}")))
            .collect();
        // Both ends of a veth are ports, until there is one port left to have.
        for pairs in names[..511].chunks(64) {
            let mut batch = Batch::new();
            for (one, other) in pairs {
                let peer = Peer {
                    name: other,
                    mac: None,
                    mtu: None,
                    namespace: None,
                };
                let veth = NewLink {
                    master,
                    ..NewLink::new(one, Kind::Veth { peer })
                };
                link::create(&mut batch, &veth);
                let join = Changes {
                    master,
                    ..Changes::default()
                };
                link::change(&mut batch, Target::Name(other), &join);
            }
            host.transact(&mut batch).expect("root");
        }
        let (last, late) = (new_namespace(), new_namespace());
        connect(last.as_fd(), &[wire("br0", "veth1", &["10.7.0.2/24"])]).expect("one port is left");
        let error = connect(late.as_fd(), &[wire("br0", "veth2", &["10.7.0.3/24"])]).expect_err("none is left");
        assert_eq!(error.to_string(), "network web is full: a bridge takes 1023 interfaces");
        assert_eq!(names_in(&late), ["lo"]);
    });
}

#[test]
fn several_interfaces_with_switches_and_a_default_route_that_moves() {
    alone(|| {
        make_bridge("br0", &["10.7.0.1/24", "fd00:7::1/64"]);
        make_bridge("br1", &["10.8.0.1/24"]);
        let container = new_namespace();
        let mut wires = [
            wire("br0", "veth1", &["10.7.0.2/24", "fd00:7::2/64"]),
            wire("br1", "veth2", &["10.8.0.2/24"]),
        ];
        wires[0].defaults = vec![Gateway::Via("10.7.0.1".parse().expect("valid"))];
        wires[1].interface = "eth1";
        wires[1].sysctls =
            sysctls("net.ipv4.conf.IFNAME.log_martians=1, net.ipv4.neigh.IFNAME.app_solicit=3").expect("valid");
        connect(container.as_fd(), &wires).expect("root");
        assert_eq!(names_in(&container), ["lo", "eth0", "eth1"]);
        let switch = |path: &str| inside(container.as_fd(), || sysctl::read(path)).expect("root");
        assert_eq!(switch("ipv4/conf/eth1/log_martians"), Some(1));
        assert_eq!(switch("ipv4/neigh/eth1/app_solicit"), Some(3));
        assert_eq!(switch("ipv6/conf/eth0/disable_ipv6"), Some(0));
        assert_eq!(switch("ipv6/conf/eth1/disable_ipv6"), Some(1));
        let gateways = || {
            let routes = inside(container.as_fd(), || {
                Ok(list::routes(&mut Socket::open(Protocol::Route)?).expect("allowed"))
            });
            let routes = routes.expect("root").into_iter();
            routes
                .filter_map(|route| route.gateway)
                .map(|gateway| gateway.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(gateways(), ["10.7.0.1"]);
        let via = |address: &str| Gateway::Via(address.parse().expect("valid"));
        // One of the gateways is no neighbour.
        set_default_routes(
            container.as_fd(),
            Some(("eth1", via("192.168.7.1"))),
            Some(("eth0", via("fd00:7::1"))),
        )
        .expect("root");
        assert_eq!(gateways(), ["192.168.7.1", "fd00:7::1"]);
        set_default_routes(container.as_fd(), None, None).expect("root");
        assert!(gateways().is_empty());
        set_default_routes(container.as_fd(), Some(("eth7", via("10.7.0.1"))), None).expect_err("no eth7");
    });
}

#[test]
fn switches_name_an_interface_and_nothing_else() {
    for malformed in [
        "",
        "net.ipv4.conf.eth0.forwarding=1",
        "net.ipv4.conf.IFNAME.forwarding",
        "kernel.ipv4.conf.IFNAME.x=1",
        "net.ipv4.conf.IFNAME.../x=1",
        "net.ipv4.conf.IFNAME.a/b=1",
        "net.ipv4..IFNAME.x=1",
    ] {
        assert_eq!(sysctls(malformed).expect_err(malformed).kind(), Why::Invalid);
    }
    for word in ["IFNAME", "ifname"] {
        let found = sysctls(&format!("net.ipv6.conf.{word}.accept_ra=2")).expect("valid");
        assert_eq!(
            (found[0].directory.as_str(), found[0].name.as_str()),
            ("ipv6/conf", "accept_ra")
        );
    }
}

#[test]
fn neighbours_may_ask_for_an_ipv6_address_at_once() {
    alone(|| {
        make_bridge("br-test", &["fd00:7::1/64"]);
        let container = new_namespace();
        connect(container.as_fd(), &[wire("br-test", "veth1", &["fd00:7::ab:cdef/64"])]).expect("root");
        let groups = inside(container.as_fd(), || fs::read_to_string("/proc/thread-self/net/igmp6"));
        let groups = groups.expect("there is IPv6");
        assert!(groups.contains("ff0200000000000000000001ffabcdef"), "{groups}");
    });
}

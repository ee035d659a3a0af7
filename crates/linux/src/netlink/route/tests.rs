//! rtnetlink against the kernel, in namespaces of the tests' own.
use std::{
    fs::File,
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
    thread,
};

use rustix::io::Errno;

use crate::{
    namespace::{enter, unshare},
    netlink::{
        message::Batch,
        route::{
            address,
            link::{self, Changes, Kind, MacvlanMode, NewLink, Peer, Port, Target},
            list,
            path::{self, Route},
            watch::{Event, Group, Watch},
        },
        socket::{Protocol, Socket},
    },
};

const CLONE_NEWNET: u64 = 0x4000_0000;

fn alone<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let test = move || {
        unshare(CLONE_NEWNET).expect("tests of networks need root");
        test()
    };
    thread::spawn(test)
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn namespace() -> OwnedFd {
    alone(|| OwnedFd::from(File::open("/proc/thread-self/ns/net").expect("proc")))
}

/// A socket that stays in a namespace.
fn socket_in(namespace: &OwnedFd) -> Socket {
    thread::scope(|scope| {
        let open = || {
            enter(namespace.as_fd(), CLONE_NEWNET).expect("root");
            socket()
        };
        scope.spawn(open).join().expect("no panic")
    })
}

fn socket() -> Socket {
    Socket::open(Protocol::Route).expect("netlink")
}

fn index(socket: &Socket, name: &str) -> u32 {
    link::index(socket, name).expect("allowed").expect("there")
}

fn up<'a>() -> Changes<'a> {
    Changes {
        up: Some(true),
        ..Changes::default()
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("valid")
}

#[test]
fn a_pair_is_born_in_two_namespaces_with_all_it_needs() {
    alone(|| {
        let other = namespace();
        let mut host = socket();
        let mut batch = Batch::new();
        link::create(&mut batch, &NewLink::new("br0", Kind::Bridge));
        host.transact(&mut batch).expect("root");
        let bridge = index(&host, "br0");
        let peer = Peer {
            name: "eth0",
            mac: Some([2, 0x42, 10, 0, 0, 2]),
            mtu: Some(1400),
            namespace: Some(other.as_fd()),
        };
        let veth = NewLink {
            master: Some(bridge),
            mtu: Some(1400),
            up: true,
            ..NewLink::new("veth0", Kind::Veth { peer })
        };
        let port = Port {
            isolated: true,
            hairpin: true,
        };
        let changes = Changes {
            no_automatic_ipv6: true,
            port: Some(port),
            alias: Some("whose it is"),
            ..Changes::default()
        };
        let mut batch = Batch::new();
        link::create(&mut batch, &veth);
        link::change(&mut batch, Target::Name("veth0"), &changes);
        host.transact(&mut batch).expect("root");
        let end = list::link(&mut host, "veth0").expect("allowed").expect("there");
        assert_eq!(
            (end.kind.as_deref(), end.master, end.mtu),
            (Some("veth"), Some(bridge), 1400)
        );
        assert!(end.up && end.isolated && end.hairpin && !end.loopback);
        assert_eq!(end.alias.as_deref(), Some("whose it is"));
        let mut inside = socket_in(&other);
        let eth0 = list::link(&mut inside, "eth0").expect("allowed").expect("there");
        assert_eq!(
            (eth0.mac, eth0.mtu, eth0.up),
            (Some([2, 0x42, 10, 0, 0, 2]), 1400, false)
        );
        assert_eq!(eth0.parent, Some(end.index));
        // Renamed, moved home, and deleted by its new name; the other end goes along.
        let home = OwnedFd::from(File::open("/proc/thread-self/ns/net").expect("proc"));
        let mut batch = Batch::new();
        let rename = Changes {
            name: Some("moved"),
            mac: Some([2, 0, 0, 0, 0, 9]),
            ..Changes::default()
        };
        let go = Changes {
            namespace: Some(home.as_fd()),
            ..Changes::default()
        };
        link::change(&mut batch, Target::Index(eth0.index), &rename);
        link::change(&mut batch, Target::Name("moved"), &go);
        inside.transact(&mut batch).expect("root");
        let moved = list::link(&mut host, "moved").expect("allowed").expect("it came");
        assert_eq!(moved.mac, Some([2, 0, 0, 0, 0, 9]));
        let mut batch = Batch::new();
        link::delete(&mut batch, Target::Name("moved"));
        host.transact(&mut batch).expect("root");
        let names: Vec<_> = list::links(&mut host)
            .expect("allowed")
            .into_iter()
            .map(|link| link.name)
            .collect();
        assert_eq!(names, ["lo", "br0"]);
    });
}

#[test]
fn addresses_and_routes_come_and_go() {
    alone(|| {
        let mut socket = socket();
        let mut batch = Batch::new();
        link::create(
            &mut batch,
            &NewLink {
                up: true,
                ..NewLink::new("br0", Kind::Bridge)
            },
        );
        socket.transact(&mut batch).expect("root");
        let interface = index(&socket, "br0");
        let route = |destination: &str, prefix, gateway: Option<&str>, on_link| Route {
            destination: (ip(destination), prefix),
            interface,
            gateway: gateway.map(ip),
            on_link,
        };
        let routes = [
            route("0.0.0.0", 0, Some("10.7.0.1"), false),
            route("10.9.0.0", 16, None, false),
            route("10.10.0.0", 16, Some("192.168.1.1"), true),
            route("::", 0, Some("fd00::1"), false),
            route("fd01::", 64, None, false),
        ];
        let mut batch = Batch::new();
        address::add(&mut batch, interface, ip("10.7.0.2"), 24);
        address::add(&mut batch, interface, ip("fd00::2"), 64);
        for route in &routes {
            path::add(&mut batch, route);
        }
        path::replace(&mut batch, &route("0.0.0.0", 0, Some("10.7.0.9"), false));
        socket.transact(&mut batch).expect("root");
        let addresses = list::addresses(&mut socket).expect("allowed");
        for (wanted, prefix) in [(ip("10.7.0.2"), 24), (ip("fd00::2"), 64)] {
            let is =
                |found: &&list::Address| (found.interface, found.address, found.prefix) == (interface, wanted, prefix);
            assert!(addresses.iter().any(|found| is(&found)), "{wanted}: {addresses:?}");
        }
        let known = list::routes(&mut socket).expect("allowed");
        let gateway_of = |destination: &str, prefix| {
            let found = known
                .iter()
                .find(|known| known.destination == (ip(destination), prefix));
            found.map(|found| (found.interface, found.gateway))
        };
        assert_eq!(gateway_of("0.0.0.0", 0), Some((Some(interface), Some(ip("10.7.0.9")))));
        assert_eq!(gateway_of("10.9.0.0", 16), Some((Some(interface), None)));
        assert_eq!(
            gateway_of("10.10.0.0", 16),
            Some((Some(interface), Some(ip("192.168.1.1"))))
        );
        assert_eq!(gateway_of("::", 0), Some((Some(interface), Some(ip("fd00::1")))));
        let mut batch = Batch::new();
        path::add(&mut batch, &routes[1]);
        assert_eq!(
            socket.transact(&mut batch).expect_err("there already").errno,
            Errno::EXIST
        );
        let mut batch = Batch::new();
        path::remove(&mut batch, &routes[1]);
        address::remove(&mut batch, interface, ip("fd00::2"), 64);
        socket.transact(&mut batch).expect("root");
        assert!(
            list::addresses(&mut socket)
                .expect("allowed")
                .iter()
                .all(|found| found.address != ip("fd00::2"))
        );
    });
}

#[test]
fn a_macvlan_is_born_in_another_namespace() {
    alone(|| {
        let other = namespace();
        let mut host = socket();
        let mut batch = Batch::new();
        link::create(&mut batch, &NewLink::new("br0", Kind::Bridge));
        host.transact(&mut batch).expect("root");
        let kind = Kind::Macvlan {
            parent: index(&host, "br0"),
            mode: MacvlanMode::Private,
        };
        let child = NewLink {
            namespace: Some(other.as_fd()),
            mac: Some([2, 0, 0, 0, 0, 7]),
            ..NewLink::new("lan0", kind)
        };
        let mut batch = Batch::new();
        link::create(&mut batch, &child);
        host.transact(&mut batch).expect("root");
        let child = list::link(&mut socket_in(&other), "lan0")
            .expect("allowed")
            .expect("there");
        assert_eq!(
            (child.kind.as_deref(), child.mac),
            (Some("macvlan"), Some([2, 0, 0, 0, 0, 7]))
        );
    });
}

#[test]
fn changes_are_heard_of() {
    alone(|| {
        let mut watch =
            Watch::open(&[Group::Link, Group::Ipv4Address, Group::Ipv4Route, Group::Ipv4Settings]).expect("root");
        let mut socket = socket();
        let mut batch = Batch::new();
        link::create(&mut batch, &NewLink::new("br0", Kind::Bridge));
        link::change(&mut batch, Target::Name("br0"), &up());
        socket.transact(&mut batch).expect("root");
        let mut batch = Batch::new();
        address::add(&mut batch, index(&socket, "br0"), ip("10.7.0.2"), 24);
        link::delete(&mut batch, Target::Name("br0"));
        socket.transact(&mut batch).expect("root");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("root");
        let mut heard = Vec::new();
        while !matches!(heard.last(), Some(Event::Settings)) {
            assert!(watch.read(|event| heard.push(event)).expect("open"), "nothing is lost");
        }
        let about = |is: fn(&Event) -> bool| assert!(heard.iter().any(is), "{heard:?}");
        about(|event| matches!(event, Event::Link(link) if link.name == "br0" && link.up));
        about(|event| matches!(event, Event::LinkGone(link) if link.name == "br0"));
        about(|event| matches!(event, Event::Address));
        about(|event| matches!(event, Event::Route));
    });
}

#[test]
fn names_that_nothing_has_are_no_error() {
    alone(|| {
        let mut socket = socket();
        for name in ["eth7", "much-too-long-for-one", ""] {
            assert_eq!(list::link(&mut socket, name).expect("allowed"), None, "{name}");
            assert_eq!(link::index(&socket, name), Ok(None), "{name}");
        }
        link::settle(&socket, "eth7").expect_err("there is none");
        socket.transact(&mut Batch::new()).expect("nothing to say");
    });
}

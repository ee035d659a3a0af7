//! What a container hears about names of Corten's own.
use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    os::fd::AsFd,
};

use corten_network::{dns::lookup::View, model::Link};
use domain::base::iana::{Rcode, Rtype};

use crate::world::{Container, World, endpoint, over_udp, query, view, world};

/// A container that sees these networks.
fn served(world: &World, networks: &[&str]) -> Container {
    let container = Container::new();
    let id = format!("{:?}", container.namespace);
    world
        .resolver
        .serve(&id, container.namespace.as_fd(), view(networks))
        .expect("served");
    container
}

fn known(world: &World, network: &str, id: &str, names: &[&str], ipv4: &str) {
    let net = format!("{ipv4}/16");
    world
        .resolver
        .names()
        .add(&endpoint(network, id, names, Some(&net), None));
}

#[test]
fn names_aliases_and_short_ids_are_answered_over_udp_and_tcp() {
    world(|world| {
        let container = served(world, &["a"]);
        known(world, "a", "1", &["web", "Frontend", "0123456789ab"], "172.18.0.2");
        for name in ["web", "frontend", "FRONTEND", "0123456789ab", "web.a-net", "Web.A-NET"] {
            for answer in [container.ask(name, Rtype::A), container.ask_over_tcp(name, Rtype::A)] {
                assert_eq!(answer.records, ["172.18.0.2"], "{name}");
                assert_eq!(
                    (answer.code, answer.ttl, answer.id),
                    (Rcode::NOERROR, Some(600), 0x1234)
                );
            }
        }
        assert_eq!(world.upstream.asked(), 0);
    });
}

#[test]
fn a_known_name_without_such_a_record_has_an_empty_answer() {
    world(|world| {
        let container = served(world, &["a"]);
        known(world, "a", "1", &["v4", "www.example.com"], "172.18.0.2");
        let v6 = endpoint("a", "2", &["v6"], None, Some("fd00::2/64"));
        world.resolver.names().add(&v6);
        for (name, kind) in [
            ("v4", Rtype::AAAA),
            ("v6", Rtype::A),
            ("v4", Rtype::MX),
            ("v4", Rtype::TXT),
            ("v4", Rtype::HTTPS),
            ("www.example.com", Rtype::AAAA),
        ] {
            let answer = container.ask(name, kind);
            assert_eq!(
                (answer.code, answer.records.len()),
                (Rcode::NOERROR, 0),
                "{name} {kind}"
            );
        }
        assert_eq!(container.ask("v6", Rtype::AAAA).records, ["fd00::2"]);
        assert_eq!(world.upstream.asked(), 0);
        // Others may know more of what looks like a name of theirs.
        container.ask("www.example.com", Rtype::TXT);
        assert_eq!(world.upstream.asked(), 1);
    });
}

#[test]
fn several_endpoints_of_one_name_take_turns() {
    world(|world| {
        let container = served(world, &["a"]);
        for last in 2..5 {
            let name = format!("web-{last}");
            known(world, "a", &name, &[&name, "web"], &format!("172.18.0.{last}"));
        }
        let mut first = BTreeSet::new();
        for _ in 0..3 {
            let mut records = container.ask("web", Rtype::A).records;
            first.insert(records[0].clone());
            records.sort();
            assert_eq!(records, ["172.18.0.2", "172.18.0.3", "172.18.0.4"]);
        }
        assert_eq!(first.len(), 3);
        world.resolver.names().remove("a", "web-3");
        assert_eq!(container.ask("web", Rtype::A).records.len(), 2);
    });
}

#[test]
fn a_name_is_seen_on_ones_own_networks_only() {
    world(|world| {
        known(world, "a", "1", &["db"], "172.18.0.2");
        known(world, "b", "2", &["db", "only-b"], "172.19.0.2");
        let container = served(world, &["a"]);
        let id = format!("{:?}", container.namespace);
        assert_eq!(container.ask("db", Rtype::A).records, ["172.18.0.2"]);
        assert_eq!(container.ask("none.only-b", Rtype::A).code, Rcode::NXDOMAIN);
        assert_eq!(container.ask("only-b.b-net", Rtype::A).records, ["192.0.2.1"]);
        world.resolver.update(&id, view(&["b", "a"]));
        assert_eq!(container.ask("db", Rtype::A).records, ["172.19.0.2"]);
        assert_eq!(container.ask("db.a-net", Rtype::A).records, ["172.18.0.2"]);
        assert_eq!(container.ask("only-b", Rtype::A).records, ["172.19.0.2"]);
    });
}

#[test]
fn names_may_have_dots() {
    world(|world| {
        known(world, "a", "1", &["db.v1", "db"], "172.18.0.2");
        let container = served(world, &["a"]);
        for name in ["db.v1", "db.v1.a-net", "db.a-net"] {
            assert_eq!(container.ask(name, Rtype::A).records, ["172.18.0.2"], "{name}");
        }
        assert_eq!(container.ask("db.v2", Rtype::A).records, ["192.0.2.1"]);
    });
}

#[test]
fn a_link_is_a_name_for_one_container_only() {
    world(|world| {
        known(world, "a", "1", &["postgres"], "172.18.0.2");
        known(world, "a", "2", &["cache"], "172.18.0.3");
        let container = Container::new();
        let linked = View {
            links: ["DB", "cache"]
                .map(|alias| Link {
                    alias: alias.to_owned(),
                    target: "Postgres".to_owned(),
                })
                .into(),
            ..view(&["a"])
        };
        world
            .resolver
            .serve("c", container.namespace.as_fd(), linked)
            .expect("served");
        assert_eq!(container.ask("db", Rtype::A).records, ["172.18.0.2"]);
        assert_eq!(container.ask("cache", Rtype::A).records, ["172.18.0.2"]);
        let other = served(world, &["a"]);
        assert_eq!(other.ask("none", Rtype::A).code, Rcode::NXDOMAIN);
        assert_eq!(other.ask("cache", Rtype::A).records, ["172.18.0.3"]);
    });
}

#[test]
fn addresses_have_names_too() {
    world(|world| {
        let both = endpoint("a", "1", &["web", "alias"], Some("172.18.0.2/16"), Some("fd00::2/64"));
        world.resolver.names().add(&both);
        let container = served(world, &["a"]);
        let v6 = format!("2.{}0.0.d.f.ip6.arpa", "0.".repeat(27));
        for name in ["2.0.18.172.in-addr.arpa", "2.0.18.172.IN-ADDR.ARPA", &v6] {
            assert_eq!(container.ask(name, Rtype::PTR).records, ["web.a-net."], "{name}");
        }
        for name in ["none.0.18.172.in-addr.arpa", "none.2.0.18.172.in-addr.arpa"] {
            assert_eq!(container.ask(name, Rtype::PTR).code, Rcode::NXDOMAIN, "{name}");
        }
        assert_eq!(
            served(world, &["b"]).ask("2.0.18.172.in-addr.arpa", Rtype::PTR).ttl,
            Some(30)
        );
    });
}

#[test]
fn what_does_not_fit_is_marked_and_comes_over_tcp() {
    world(|world| {
        let container = served(world, &["a"]);
        for number in 0..100 {
            let address = format!("172.18.1.{number}");
            known(world, "a", &address, &["web"], &address);
        }
        let cut = container.ask("web", Rtype::A);
        assert!(cut.truncated && cut.records.len() > 20 && !cut.extended, "{cut:?}");
        let whole = container.ask_extended("web", Rtype::A, 4096);
        assert!(!whole.truncated && whole.extended, "{whole:?}");
        assert_eq!(whole.records.len(), 100);
        assert_eq!(container.ask_over_tcp("web", Rtype::A).records.len(), 100);
    });
}

#[test]
fn a_container_may_have_a_server_of_its_own_on_port_53() {
    world(|world| {
        known(world, "a", "1", &["web"], "172.18.0.2");
        let container = served(world, &["a"]);
        let query = query("web", Rtype::A, None);
        let asked = container.run(move || {
            let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).expect("free");
            let _tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 53)).expect("free");
            over_udp(&query).expect("the embedded one answers");
            let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("free");
            client.send_to(b"mine", (Ipv4Addr::LOCALHOST, 53)).expect("sent");
            let mut buffer = [0; 512];
            let length = udp.recv(&mut buffer).expect("received");
            buffer[..length].to_vec()
        });
        assert_eq!(asked, b"mine");
        assert_eq!(container.ask_over_tcp("web", Rtype::A).records, ["172.18.0.2"]);
    });
}

#[test]
fn the_next_daemon_takes_over_with_the_same_ports() {
    world(|world| {
        known(world, "a", "1", &["web"], "172.18.0.2");
        let container = served(world, &["a"]);
        let id = format!("{:?}", container.namespace);
        let ports = |container: &Container| {
            container.run(|| {
                let text = std::fs::read_to_string("/proc/thread-self/net/udp").expect("procfs");
                let lines = text.lines().filter(|line| line.contains("0B00007F:"));
                lines
                    .map(|line| line.split_whitespace().nth(1).unwrap_or_default().to_owned())
                    .collect::<Vec<_>>()
            })
        };
        let before = ports(&container);
        assert_eq!(before.len(), 1);
        world.resolver.stop(&id);
        while !ports(&container).is_empty() {
            std::thread::yield_now();
        }
        for again in [false, true] {
            // The second time somebody still has the ports.
            world
                .resolver
                .serve(&id, container.namespace.as_fd(), view(&["a"]))
                .expect("served");
            assert!(again || ports(&container) == before);
            assert_eq!(container.ask("web", Rtype::A).records, ["172.18.0.2"]);
            assert_eq!(container.ask_over_tcp("web", Rtype::A).records, ["172.18.0.2"]);
        }
    });
}

//! What a container hears about everybody else's names.
use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsFd,
    time::Duration,
};

use corten_network::dns::lookup::View;
use domain::base::iana::{Rcode, Rtype};

use crate::world::{Container, Upstream, World, view, world};

fn served(world: &World, view: View) -> Container {
    let container = Container::new();
    world
        .resolver
        .serve("c", container.namespace.as_fd(), view)
        .expect("served");
    container
}

fn resolv_conf(world: &World, text: &str) {
    fs::write(world.files.path().join("resolv.conf"), text).expect("written");
    // The reading before may count for another second.
    std::thread::sleep(Duration::from_millis(1100));
}

#[test]
fn the_hosts_servers_answer_over_udp_and_tcp() {
    world(|world| {
        let container = served(world, view(&["a"]));
        for answer in [
            container.ask("example.com", Rtype::A),
            container.ask_over_tcp("example.com", Rtype::A),
        ] {
            assert_eq!((answer.records, answer.ttl), (vec!["192.0.2.1".to_owned()], Some(30)));
            assert_eq!(answer.id, 0x1234);
        }
        assert!(container.ask_extended("example.com", Rtype::A, 1400).extended);
        assert_eq!(container.ask("none.example.com", Rtype::A).code, Rcode::NXDOMAIN);
        assert_eq!(container.ask("refuse.example.com", Rtype::A).code, Rcode::REFUSED);
    });
}

#[test]
fn truncated_answers_are_fetched_over_tcp_where_the_client_has_room() {
    world(|world| {
        let container = served(world, view(&["a"]));
        for name in ["big.example.com", "fat.example.com"] {
            let cut = container.ask(name, Rtype::A);
            assert!(cut.truncated && cut.records.is_empty(), "{cut:?}");
            let whole = container.ask_extended(name, Rtype::A, 4096);
            assert!(!whole.truncated, "{whole:?}");
            assert_eq!(whole.records.len(), 100);
            assert_eq!(container.ask_over_tcp(name, Rtype::A).records.len(), 100);
        }
    });
}

#[test]
fn a_server_that_is_silent_dead_or_declines_is_followed_by_the_next() {
    world(|world| {
        let container = served(world, view(&["a"]));
        // Nobody listens at the second; the first declines what the last has never heard of.
        resolv_conf(
            world,
            "nameserver 127.0.0.1\nnameserver 127.0.0.2\nnameserver 127.0.0.3\n",
        );
        let last = Upstream::with_everything(Ipv4Addr::new(127, 0, 0, 3));
        for name in ["refuse.example.com", "silent.example.com"] {
            assert_eq!(container.ask(name, Rtype::A).records, ["192.0.2.1"], "{name}");
        }
        assert_eq!(last.asked(), 2);
        // From now on the silent one is asked last.
        let asked = world.upstream.asked();
        assert_eq!(container.ask("refuse.example.com", Rtype::A).records, ["192.0.2.1"]);
        assert_eq!((last.asked(), world.upstream.asked()), (3, asked));
        for transport in [Container::ask, Container::ask_over_tcp] {
            assert_eq!(
                transport(&container, "refuse.example.com", Rtype::A).records,
                ["192.0.2.1"]
            );
        }
    });
}

#[test]
fn without_an_answer_the_server_failed() {
    world(|world| {
        let container = served(world, view(&["a"]));
        assert_eq!(container.ask("silent.example.com", Rtype::A).code, Rcode::SERVFAIL);
        resolv_conf(world, "");
        let asked = world.upstream.asked();
        assert_eq!(container.ask("example.com", Rtype::A).code, Rcode::SERVFAIL);
        assert_eq!(world.upstream.asked(), asked);
    });
}

#[test]
fn a_container_without_a_way_out_does_not_ask_the_hosts_servers() {
    world(|world| {
        let inward = View {
            forward: false,
            ..view(&["a"])
        };
        let container = served(world, inward);
        assert_eq!(container.ask("example.com", Rtype::A).code, Rcode::SERVFAIL);
        assert_eq!(container.ask_over_tcp("example.com", Rtype::A).code, Rcode::SERVFAIL);
        assert_eq!(world.upstream.asked(), 0);
        world.resolver.update("c", view(&["a"]));
        assert_eq!(container.ask("example.com", Rtype::A).code, Rcode::NOERROR);
    });
}

#[test]
fn servers_of_the_containers_choice_are_asked_from_inside_it() {
    world(|world| {
        for forward in [true, false] {
            let own = View {
                servers: ["127.0.0.11", "127.0.0.1", "::1"]
                    .map(|server| server.parse().expect("valid"))
                    .into(),
                forward,
                ..view(&["a"])
            };
            let container = served(world, own);
            // The host has a server at this address as well.
            let inside = container.run(|| Upstream::open(IpAddr::V4(Ipv4Addr::LOCALHOST)));
            for answer in [
                container.ask("example.com", Rtype::A),
                container.ask_over_tcp("example.com", Rtype::A),
            ] {
                assert_eq!(answer.records, ["192.0.2.1"]);
            }
            assert_eq!((inside.asked(), world.upstream.asked()), (2, 0));
        }
    });
}

#[test]
fn other_hosts_servers_are_asked_once_the_file_says_so() {
    world(|world| {
        let container = served(world, view(&["a"]));
        container.ask("example.com", Rtype::A);
        let second = Upstream::open(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)));
        resolv_conf(world, "nameserver 127.0.0.2\n");
        let asked = world.upstream.asked();
        container.ask("example.com", Rtype::A);
        assert_eq!((second.asked(), world.upstream.asked()), (1, asked));
    });
}

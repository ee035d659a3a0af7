//! What a container hears.
use std::os::fd::AsFd;

use domain::base::iana::{Rcode, Rtype};

use crate::world::{Container, endpoint, view, world};

#[test]
fn local_names_are_answered_over_udp_and_tcp() {
    world(|world| {
        let container = Container::new();
        world.resolver.names().add(&endpoint(
            "a",
            "1",
            &["web", "Frontend", "0123456789ab"],
            Some("172.18.0.2/16"),
            None,
        ));
        world
            .resolver
            .serve("c", container.namespace.as_fd(), view(&["a"]))
            .expect("served");
        for name in ["web", "frontend", "FRONTEND", "0123456789ab", "web.a-net", "Web.A-NET"] {
            for answer in [container.ask(name, Rtype::A), container.ask_over_tcp(name, Rtype::A)] {
                assert_eq!(answer.records, ["172.18.0.2"], "{name}");
                assert_eq!(
                    (answer.code, answer.ttl, answer.id),
                    (Rcode::NOERROR, Some(600), 0x1234)
                );
            }
        }
        let empty = container.ask("web", Rtype::AAAA);
        assert_eq!((empty.code, empty.records.len()), (Rcode::NOERROR, 0));
        assert_eq!(world.upstream.asked(), 0);
    });
}

#[test]
fn other_names_are_asked_of_the_hosts_servers() {
    world(|world| {
        let container = Container::new();
        world
            .resolver
            .serve("c", container.namespace.as_fd(), view(&["a"]))
            .expect("served");
        for answer in [
            container.ask("example.com", Rtype::A),
            container.ask_over_tcp("example.com", Rtype::A),
        ] {
            assert_eq!((answer.records, answer.ttl), (vec!["192.0.2.1".to_owned()], Some(30)));
            assert_eq!(answer.id, 0x1234);
        }
        assert_eq!(container.ask("none.example.com", Rtype::A).code, Rcode::NXDOMAIN);
        assert_eq!(container.ask("refuse.example.com", Rtype::A).code, Rcode::REFUSED);
    });
}

//! Containers that talk to published ports of their own host: their own, a sibling's, and one on another bridge.
use corten_linux::netlink::route::link::Port;

use super::world::{A1, A1_6, B1, B1_6, HOST, HOST6, Setting, World, rule, seen, seen_udp, world};
use crate::model::Protocol;

const PLAIN: Port = Port {
    hairpin: false,
    isolated: false,
};
const HAIRPIN: Port = Port {
    hairpin: true,
    isolated: false,
};

fn publish(world: &World) {
    world.publish("0.0.0.0", 8080, A1);
    world.publish("::", 8080, A1_6);
    world.publish("0.0.0.0", 8081, B1);
    world.publish("::", 8081, B1_6);
    let udp = rule(Protocol::Udp, "0.0.0.0", 8080, A1);
    world.firewall.publish(&[udp]).expect("free");
}

fn every_container_reaches_every_published_port(port: Port, bridge_netfilter: bool) {
    let setting = Setting { port, bridge_netfilter };
    world(setting, |world| {
        publish(world);
        for (who, from) in [("self", &world.a1), ("sibling", &world.a2), ("stranger", &world.b1)] {
            for host in [HOST, "10.8.0.1", "10.9.0.1"] {
                assert_eq!(seen(Some(from), host, 8080), "10.8.0.1", "{who} {host}");
            }
            assert_eq!(seen(Some(from), HOST6, 8080), "fd00:8::1", "{who}");
            assert_eq!(seen_udp(Some(from), HOST, 8080), "10.8.0.1", "{who}");
            assert_eq!(seen(Some(from), HOST, 8081), "10.9.0.1", "{who}");
        }
        // By their own addresses: on one bridge only, and without translation.
        assert_eq!(seen(Some(&world.a2), A1, 80), "10.8.0.3");
        assert_eq!(seen(Some(&world.b1), A1, 80), "-");
        assert_eq!(seen(Some(&world.b1), A1_6, 80), "-");
    });
}

#[test]
fn ports_are_reached_from_containers_where_bridges_pass_the_firewall() {
    every_container_reaches_every_published_port(HAIRPIN, true);
}

#[test]
fn ports_are_reached_from_containers_where_bridges_do_not_pass_the_firewall() {
    every_container_reaches_every_published_port(PLAIN, false);
    every_container_reaches_every_published_port(HAIRPIN, false);
}

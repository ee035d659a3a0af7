//! A host that forwards because of us, and containers that may not talk to each other.
use corten_linux::netlink::route::link::Port;
use tokio::runtime::Builder;

use super::world::{A1, A1_6, B1, HOST, HOST6, OTHER, Setting, seen, seen_udp, world};
use crate::{
    firewall::model::Opened,
    links::answer,
    model::{LinkedPort, PortRequest, Protocol},
    ports::publisher::{Families, Publisher, Way},
};

#[test]
fn an_opened_uplink_leads_to_our_networks_only() {
    world(Setting::default(), |world| {
        world.publish("0.0.0.0", 8080, A1);
        world.firewall.remove_network("br-b").expect("allowed");
        // `br-b` is somebody else's now.
        assert_eq!(seen(Some(&world.other), B1, 80), OTHER);
        let opened = Opened {
            ipv4: vec!["lan0".to_owned()],
            ipv6: vec!["lan0".to_owned()],
        };
        world.firewall.set_opened(&opened).expect("allowed");
        assert_eq!(seen(Some(&world.other), B1, 80), "-");
        assert_eq!(seen(Some(&world.other), "fd00:9::2", 80), "-");
        // What comes from there is let through by whoever made it forward, and gets its answers.
        assert_eq!(seen(Some(&world.b1), "192.0.2.1", 8080), B1);
        assert_eq!(seen(Some(&world.other), HOST, 8080), OTHER);
        assert_eq!(seen(Some(&world.a1), OTHER, 80), HOST);
    });
}

#[test]
fn without_inter_container_communication_only_published_ports_are_reached() {
    for bridge_netfilter in [false, true] {
        let port = Port {
            isolated: true,
            hairpin: false,
        };
        world(Setting { port, bridge_netfilter }, |world| {
            let mut network = world.a.clone();
            network.icc = false;
            world.firewall.add_network(&network).expect("allowed");
            world.publish("0.0.0.0", 8080, A1);
            world.publish("::", 8080, A1_6);
            let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
            let runtime = runtime.expect("threads");
            let publisher = Publisher::new(runtime.handle().clone(), true);
            let wishes = [Protocol::Tcp, Protocol::Udp].map(|protocol| PortRequest {
                protocol,
                container_port: 80,
                host_ip: None,
                host_ports: Some(8080..=8080),
            });
            let families = Families {
                ipv4: Way::Host,
                ipv6: Way::Host,
            };
            let claim = publisher.claim(&wishes, families).expect("free");
            claim.serve(
                Some(A1.parse().expect("an address")),
                Some(A1_6.parse().expect("an address")),
            );
            for from in [&world.a1, &world.a2] {
                assert_eq!(seen(Some(from), HOST, 8080), "10.8.0.1");
                assert_eq!(seen(Some(from), HOST6, 8080), "fd00:8::1");
                assert_eq!(seen_udp(Some(from), HOST, 8080), "10.8.0.1");
            }
            assert_eq!(seen(Some(&world.a2), A1, 80), "-");
            assert_eq!(seen(Some(&world.a2), A1_6, 80), "-");
            assert_eq!(seen(Some(&world.other), HOST, 8080), OTHER);
            // `[::1]` leads there too.
            assert_eq!(seen(None, "::1", 8080), "fd00:8::1");
        });
    }
}

#[test]
fn a_link_is_one_port_of_one_neighbour() {
    const A2: &str = "10.8.0.3";
    const A2_6: &str = "fd00:8::3";
    for bridge_netfilter in [false, true] {
        let port = Port {
            isolated: true,
            hairpin: false,
        };
        world(Setting { port, bridge_netfilter }, |world| {
            let mut network = world.a.clone();
            network.icc = false;
            world.firewall.add_network(&network).expect("allowed");
            let links = [(A2, A1), (A2_6, A1_6)].map(|(source, target)| LinkedPort {
                source: source.parse().expect("an address"),
                target: target.parse().expect("an address"),
                protocol: Protocol::Tcp,
                port: 80,
            });
            world.firewall.link(&[], &links).expect("allowed");
            answer("br-a", &links.into()).expect("allowed");
            assert_eq!(seen(Some(&world.a2), A1, 80), A2);
            assert_eq!(seen(Some(&world.a2), A1_6, 80), A2_6);
            assert_eq!(seen_udp(Some(&world.a2), A1, 80), "-");
            for address in [A2, A2_6] {
                assert_eq!(seen(Some(&world.a1), address, 80), "-");
            }
            world.firewall.rebuild(&[network], &[]).expect("allowed");
            assert_eq!(seen(Some(&world.a2), A1_6, 80), A2_6);
            world.firewall.link(&links, &[]).expect("allowed");
            assert_eq!(seen(Some(&world.a2), A1, 80), "-");
            assert_eq!(seen(Some(&world.a2), A1_6, 80), "-");
        });
    }
}

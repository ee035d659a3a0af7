//! Published ports, as seen from the other host and from the host itself.
use std::{sync::Arc, thread, time::Duration};

use super::world::{
    A1, A1_6, B1, HOST, HOST6, OTHER, OTHER6, Setting, ask_udp, at, connect, echoes, rule, run, seen, seen_udp,
    udp_socket, world,
};
use crate::{
    firewall::{
        keeper::Keeper,
        model::{BridgeRules, Direct, GatewayMode},
        table::Firewall,
    },
    model::Protocol,
    testing::alone,
};

#[test]
fn the_other_host_is_seen_with_its_own_address() {
    world(Setting::default(), |world| {
        world.publish("0.0.0.0", 8080, A1);
        world.publish("::", 8080, A1_6);
        let udp = [("0.0.0.0", A1), ("::", A1_6)].map(|(host, target)| rule(Protocol::Udp, host, 8080, target));
        world.firewall.publish(&udp).expect("free");
        assert_eq!(seen(Some(&world.other), HOST, 8080), OTHER);
        assert_eq!(seen(Some(&world.other), HOST6, 8080), OTHER6);
        assert_eq!(seen_udp(Some(&world.other), HOST, 8080), OTHER);
        assert_eq!(seen_udp(Some(&world.other), HOST6, 8080), OTHER6);
        // What was not published, and containers by their own addresses, which the other host knows the way to.
        for (address, unpublished) in [(HOST, 8081), (A1, 80), (A1_6, 80), (B1, 80)] {
            assert_eq!(seen(Some(&world.other), address, unpublished), "-", "{address}");
        }
    });
}

#[test]
fn the_host_itself_reaches_ports_by_all_its_addresses() {
    world(Setting::default(), |world| {
        world.publish("0.0.0.0", 8080, A1);
        world.publish("::", 8080, A1_6);
        world
            .firewall
            .publish(&[rule(Protocol::Udp, "0.0.0.0", 8080, A1)])
            .expect("free");
        assert_eq!(seen(None, "127.0.0.1", 8080), "10.8.0.1");
        assert_eq!(seen(None, "127.5.5.5", 8080), "10.8.0.1");
        assert_eq!(seen_udp(None, "127.0.0.1", 8080), "10.8.0.1");
        assert_eq!(seen(None, HOST, 8080), HOST);
        assert_eq!(seen(None, "10.9.0.1", 8080), "10.9.0.1");
        assert_eq!(seen(None, HOST6, 8080), HOST6);
    });
}

#[test]
fn a_port_on_one_address_is_not_on_the_others() {
    world(Setting::default(), |world| {
        world.publish("127.0.0.1", 8080, A1);
        world.publish(HOST, 8081, A1);
        world.publish(HOST, 8080, B1);
        assert_eq!(seen(None, "127.0.0.1", 8080), "10.8.0.1");
        assert_eq!(seen(None, HOST, 8080), HOST);
        assert_eq!(seen(Some(&world.other), HOST, 8081), OTHER);
        assert_eq!(seen(None, "127.0.0.1", 8081), "-");
        assert_eq!(seen(None, "10.9.0.1", 8081), "-");
    });
}

#[test]
fn nobody_outside_reaches_loopback_addresses() {
    world(Setting::default(), |world| {
        world.publish("127.0.0.1", 8080, A1);
        world.publish("0.0.0.0", 8081, A1);
        // A neighbour, and a container, send to 127.0.0.1 by the host's hardware address.
        for (namespace, gateway) in [(&world.other, HOST), (&world.b1, "10.9.0.1")] {
            at(namespace, || {
                crate::sysctl::write("ipv4/conf/all/route_localnet", "1").expect("own namespace");
                run(&[
                    "ip",
                    "route",
                    "del",
                    "local",
                    "127.0.0.0/8",
                    "dev",
                    "lo",
                    "table",
                    "local",
                ]);
                run(&[
                    "ip",
                    "route",
                    "del",
                    "local",
                    "127.0.0.1",
                    "dev",
                    "lo",
                    "table",
                    "local",
                ]);
                run(&["ip", "route", "add", "127.0.0.1/32", "via", gateway]);
            });
        }
        run(&["nft", "add rule inet corten user ip daddr 10.8.0.2 counter"]);
        let passed = || !run(&["nft", "list chain inet corten user"]).contains("packets 0 ");
        for namespace in [&world.other, &world.b1] {
            assert_eq!(seen(Some(namespace), "127.0.0.1", 8080), "-");
            assert_eq!(seen(Some(namespace), "127.0.0.1", 8081), "-");
        }
        assert!(!passed());
        // It is the guard that keeps them out.
        run(&["nft", "flush", "chain", "inet", "corten", "guard"]);
        seen(Some(&world.other), "127.0.0.1", 8080);
        assert!(passed());
    });
}

#[test]
fn a_port_that_is_taken_back_is_unreachable_at_once_and_flows_are_forgotten() {
    world(Setting::default(), |world| {
        let ports = [Protocol::Tcp, Protocol::Udp].map(|protocol| rule(protocol, "0.0.0.0", 8080, A1));
        world.firewall.publish(&ports).expect("free");
        let client = at(&world.other, || udp_socket(HOST));
        assert_eq!(ask_udp(&client, HOST, 8080), OTHER);
        world.firewall.unpublish(&ports).expect("allowed");
        assert_eq!(seen(Some(&world.other), HOST, 8080), "-");
        // The same flow: it would go on for as long as it talks.
        assert_eq!(ask_udp(&client, HOST, 8080), "-");
        let moved = [rule(Protocol::Udp, "0.0.0.0", 8080, B1)];
        world.firewall.publish(&moved).expect("free");
        assert_eq!(ask_udp(&client, HOST, 8080), OTHER);
    });
}

#[test]
fn what_leaves_has_the_hosts_address_unless_told_otherwise() {
    world(Setting::default(), |world| {
        assert_eq!(seen(Some(&world.a1), OTHER, 80), HOST);
        assert_eq!(seen(Some(&world.a1), OTHER6, 80), HOST6);
        assert_eq!(seen_udp(Some(&world.a1), OTHER, 80), HOST);
        let mut network = world.a.clone();
        network.masquerade4 = false;
        network.masquerade6 = false;
        world.firewall.add_network(&network).expect("allowed");
        assert_eq!(seen(Some(&world.a1), OTHER, 80), A1);
        assert_eq!(seen(Some(&world.a1), OTHER6, 80), A1_6);
        run(&["ip", "address", "add", "192.0.2.9/24", "dev", "lan0"]);
        network.masquerade4 = true;
        network.source4 = Some("192.0.2.9".parse().expect("an address"));
        world.firewall.add_network(&network).expect("allowed");
        assert_eq!(seen(Some(&world.a1), OTHER, 80), "192.0.2.9");
        assert_eq!(seen(Some(&world.a1), OTHER6, 80), A1_6);
    });
}

#[test]
fn internal_networks_have_no_way_out_and_none_in() {
    world(Setting::default(), |world| {
        let mut network = world.a.clone();
        network.internal = true;
        world.firewall.add_network(&network).expect("allowed");
        world.publish("0.0.0.0", 8080, A1);
        world.publish("0.0.0.0", 8081, B1);
        assert_eq!(seen(Some(&world.a2), A1, 80), "10.8.0.3");
        assert_eq!(seen(None, A1, 80), "10.8.0.1");
        for (from, host, port) in [
            (&world.a1, OTHER, 80),
            (&world.a1, OTHER6, 80),
            (&world.a1, B1, 80),
            (&world.a1, HOST, 8081),
            (&world.other, HOST, 8080),
            (&world.other, A1, 80),
            (&world.b1, HOST, 8080),
            (&world.b1, A1, 80),
        ] {
            assert_eq!(seen(Some(from), host, port), "-", "{host}:{port}");
        }
    });
}

#[test]
fn routed_and_unprotected_networks_are_reached_by_their_own_addresses() {
    world(Setting::default(), |world| {
        let mut network = world.a.clone();
        network.mode4 = GatewayMode::Routed;
        network.mode6 = GatewayMode::NatUnprotected;
        world.firewall.add_network(&network).expect("allowed");
        assert_eq!(seen(Some(&world.other), A1, 80), "-");
        assert_eq!(seen(Some(&world.other), A1_6, 80), OTHER6);
        world.publish("0.0.0.0", 8080, A1);
        assert_eq!(seen(Some(&world.other), A1, 80), OTHER);
        assert_eq!(seen(Some(&world.other), HOST, 8080), "-");
        world
            .firewall
            .unpublish(&[rule(Protocol::Tcp, "0.0.0.0", 8080, A1)])
            .expect("allowed");
        assert_eq!(seen(Some(&world.other), A1, 80), "-");
    });
}

#[test]
fn published_ports_are_reached_by_the_containers_own_address_from_where_it_is_allowed() {
    world(Setting::default(), |world| {
        let mut network = world.a.clone();
        for (direct, expected) in [
            (Direct::Nowhere, "-"),
            (Direct::Everywhere, OTHER),
            (Direct::From(vec!["elsewhere".to_owned()]), "-"),
            (Direct::From(vec!["elsewhere".to_owned(), "lan0".to_owned()]), OTHER),
        ] {
            network.direct = direct;
            world.firewall.add_network(&network).expect("allowed");
            assert_eq!(seen(Some(&world.other), A1, 80), "-", "it is not published");
            world.publish("0.0.0.0", 8080, A1);
            assert_eq!(seen(Some(&world.other), A1, 80), expected, "{:?}", network.direct);
            assert_eq!(seen(Some(&world.other), HOST, 8080), OTHER);
            let port = rule(Protocol::Tcp, "0.0.0.0", 8080, A1);
            world.firewall.unpublish(&[port]).expect("allowed");
        }
    });
}

#[test]
fn the_operators_rules_come_first_and_stay() {
    world(Setting::default(), |world| {
        world.publish("0.0.0.0", 8080, A1);
        world.publish("0.0.0.0", 8081, B1);
        for rule in [
            "add chain inet corten user-more",
            "add rule inet corten user-more tcp dport { 80, 90 } ct original proto-dst 8080 drop",
            "add rule inet corten user jump user-more",
        ] {
            run(&["nft", rule]);
        }
        for _ in 0..2 {
            assert_eq!(seen(Some(&world.other), HOST, 8080), "-");
            assert_eq!(seen(Some(&world.other), HOST, 8081), OTHER);
            let ports = [
                rule(Protocol::Tcp, "0.0.0.0", 8080, A1),
                rule(Protocol::Tcp, "0.0.0.0", 8081, B1),
            ];
            world
                .firewall
                .rebuild(&[world.a.clone(), world.b.clone()], &ports)
                .expect("allowed");
        }
        let table = run(&["nft", "list", "table", "inet", "corten"]);
        assert!(
            table.contains("jump user-more") && table.contains("{ 80, 90 } ct original proto-dst 8080 drop"),
            "{table}"
        );
    });
}

#[test]
fn connections_survive_a_rebuild() {
    world(Setting::default(), |world| {
        let networks = [world.a.clone(), world.b.clone()];
        let port = rule(Protocol::Tcp, "0.0.0.0", 8080, A1);
        world.firewall.publish(&[port]).expect("free");
        let (mut published, _) = at(&world.other, || connect(HOST, 8080)).expect("published");
        let (mut masqueraded, _) = at(&world.a1, || connect(OTHER, 80)).expect("masqueraded");
        let (mut local, _) = connect("127.0.0.1", 8080).expect("published");
        for _ in 0..3 {
            // As after a restart of the daemon: nobody knows what the kernel has.
            let firewall = Firewall::open("corten");
            firewall.rebuild(&networks, &[port]).expect("allowed");
            for stream in [&mut published, &mut masqueraded, &mut local] {
                assert!(echoes(stream));
            }
        }
    });
}

#[test]
fn a_table_that_somebody_removed_comes_back_by_itself() {
    alone(|| {
        let firewall = Arc::new(Firewall::open("corten"));
        let keeper = Keeper::start(Arc::clone(&firewall)).expect("threads");
        let networks = [BridgeRules::new("br-a", vec!["10.8.0.0/24".parse().expect("a subnet")])];
        let ports = [rule(Protocol::Tcp, "0.0.0.0", 8080, A1)];
        firewall.rebuild(&networks, &ports).expect("allowed");
        let list = || run(&["nft", "list", "ruleset"]);
        let whole = list();
        // The second time only the operator's chain is there, as an operator's file would make it.
        for command in [
            "flush ruleset",
            "flush ruleset; add table inet corten; add chain inet corten user",
        ] {
            run(&["nft", command]);
            assert_ne!(list(), whole);
            for _ in 0..200 {
                if sorted(&list()) == sorted(&whole) {
                    break;
                }
                thread::sleep(Duration::from_millis(20));
            }
            assert_eq!(sorted(&list()), sorted(&whole));
        }
        drop(keeper);
    });
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_table_that_somebody_removed_comes_back_with_the_next_change() {
    world(Setting::default(), |world| {
        world.publish("0.0.0.0", 8080, A1);
        run(&["nft", "flush", "ruleset"]);
        assert_eq!(seen(Some(&world.other), HOST, 8080), "-");
        world.publish("0.0.0.0", 8081, B1);
        assert_eq!(seen(Some(&world.other), HOST, 8080), OTHER);
        assert_eq!(seen(Some(&world.other), HOST, 8081), OTHER);
        run(&["nft", "delete", "table", "inet", "corten"]);
        world.firewall.remove_network("br-b").expect("allowed");
        assert_eq!(seen(Some(&world.other), HOST, 8080), OTHER);
    });
}

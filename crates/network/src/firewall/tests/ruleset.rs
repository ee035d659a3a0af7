//! What `nft` says that the table is.
use super::world::{A1, A1_6, B1, HOST, Setting, rule, run, world};
use crate::{
    firewall::model::{GatewayMode, Opened},
    model::Protocol,
    testing::alone,
};

fn list() -> String {
    run(&["nft", "list", "table", "inet", "corten"])
}

/// A chain's or a map's lines.
fn lines(kind: &str, name: &str) -> Vec<String> {
    let text = run(&["nft", "list", kind, "inet", "corten", name]);
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.ends_with('{') && !line.ends_with('}') && *line != "}")
        .map(str::to_owned)
        .collect()
}

fn elements(kind: &str, name: &str) -> String {
    let text = run(&["nft", "list", kind, "inet", "corten", name]);
    let words: Vec<_> = text.split_whitespace().collect();
    let text = words.join(" ");
    let elements = text
        .split_once("elements = { ")
        .and_then(|(_, rest)| rest.split_once(" }"));
    elements.map_or_else(String::new, |(elements, _)| elements.to_owned())
}

#[test]
fn the_skeleton_is_what_the_documentation_says() {
    alone(|| {
        let firewall = crate::firewall::table::Firewall::open("corten");
        firewall.rebuild(&[], &[]).expect("allowed");
        let chain = |name| lines("chain", name);
        let hooked = |kind, hook, priority| format!("type {kind} hook {hook} priority {priority}; policy accept;");
        assert!(chain("user").is_empty() && chain("inner").is_empty());
        assert_eq!(
            chain("guard"),
            [
                &*hooked("filter", "prerouting", "raw"),
                "ip daddr 127.0.0.0/8 iifname != \"lo\" drop"
            ]
        );
        assert_eq!(
            chain("prerouting"),
            [
                &*hooked("nat", "prerouting", "dstnat"),
                "fib daddr type local jump ports"
            ]
        );
        assert_eq!(
            chain("output"),
            [&*hooked("nat", "output", "-100"), "fib daddr type local jump ports"]
        );
        assert_eq!(
            chain("ports"),
            [
                "iifname @proxied return",
                "dnat ip to ip daddr . meta l4proto . th dport map @one4",
                "meta nfproto ipv4 dnat ip to meta l4proto . th dport map @any4",
                "ip6 daddr ::1 return",
                "ip6 daddr fe80::/10 return",
                "dnat ip6 to ip6 daddr . meta l4proto . th dport map @one6",
                "meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @any6",
            ]
        );
        assert_eq!(
            chain("forward"),
            [
                &*hooked("filter", "forward", "filter"),
                "jump user",
                "jump inner",
                "ct state established,related jump settled",
                "oifname vmap @to",
                "iifname @bridges accept",
                "jump strangers",
            ]
        );
        assert_eq!(
            chain("postrouting"),
            [
                &*hooked("nat", "postrouting", "srcnat"),
                "iifname vmap @leave",
                "oifname vmap @arrive"
            ]
        );
    });
}

#[test]
fn a_network_is_a_few_chains() {
    world(Setting::default(), |world| {
        let mut network = world.a.clone();
        network.icc = false;
        network.mode6 = GatewayMode::Routed;
        network.source4 = Some("192.0.2.9".parse().expect("an address"));
        world.firewall.add_network(&network).expect("allowed");
        assert_eq!(
            lines("chain", "to-br-a"),
            [
                "iifname \"br-a\" ip saddr . ip daddr . meta l4proto . th dport @links4 accept",
                "iifname \"br-a\" ip6 saddr . ip6 daddr . meta l4proto . th dport @links6 accept",
                "ct status dnat accept",
                "ip6 daddr . meta l4proto . th dport @open6 accept",
                "iifname != \"br-a\" meta l4proto ipv6-icmp accept",
                "drop",
            ]
        );
        assert_eq!(
            lines("chain", "leave-br-a"),
            ["oifname \"br-a\" return", "ip saddr 10.8.0.0/24 snat ip to 192.0.2.9"]
        );
        assert_eq!(
            lines("chain", "arrive-br-a"),
            [
                "ip saddr 127.0.0.0/8 masquerade",
                "ip saddr 10.8.0.0/24 ct status dnat masquerade",
                "ip6 saddr fd00:8::/64 ct status dnat masquerade",
            ]
        );
        assert_eq!(elements("set", "proxied"), "\"br-a\"");
        assert_eq!(elements("set", "bridges"), "\"br-a\", \"br-b\"");
        assert_eq!(
            elements("map", "to"),
            "\"br-a\" : jump to-br-a, \"br-b\" : jump to-br-b"
        );
        network.internal = true;
        world.firewall.add_network(&network).expect("allowed");
        assert_eq!(lines("chain", "from-br-a"), ["oifname != \"br-a\" drop"]);
        assert_eq!(lines("chain", "into-br-a"), ["drop"]);
        assert_eq!(lines("chain", "inner"), ["iifname vmap @from", "oifname vmap @into"]);
        assert_eq!(elements("map", "to"), "\"br-b\" : jump to-br-b");
        assert_eq!(elements("map", "leave"), "\"br-b\" : jump leave-br-b");
        assert_eq!(elements("set", "proxied"), "");
    });
}

#[test]
fn of_a_family_that_is_switched_off_the_table_does_not_say_a_word() {
    use crate::firewall::{model::Switched, table::Firewall};
    world(Setting::default(), |world| {
        world.firewall.destroy().expect("allowed");
        let ports = [
            rule(Protocol::Tcp, "0.0.0.0", 80, A1),
            rule(Protocol::Tcp, "::", 80, A1_6),
        ];
        let only4 = Switched {
            ipv4: true,
            ipv6: false,
        };
        let firewall = Firewall::open_for("corten", only4);
        firewall.rebuild(std::slice::from_ref(&world.a), &[]).expect("allowed");
        firewall.publish(&ports).expect("free");
        assert_eq!(elements("map", "any4"), "tcp . 80 : 10.8.0.2 . 80");
        assert_eq!(elements("map", "any6"), "");
        assert_eq!(lines("chain", "to-br-a")[0], "meta nfproto ipv6 accept");
        assert!(!list().contains("fd00:8"));
        firewall.unpublish(&ports).expect("allowed");
        assert_eq!(elements("map", "any4"), "");
        let neither = Switched {
            ipv4: false,
            ipv6: false,
        };
        let firewall = Firewall::open_for("corten", neither);
        firewall
            .rebuild(std::slice::from_ref(&world.a), &ports)
            .expect("allowed");
        firewall.add_network(&world.b).expect("nothing to do");
        firewall.unpublish(&ports).expect("nothing to do");
        firewall.mend().expect("nothing to do");
        assert_eq!(run(&["nft", "list", "ruleset"]), "");
    });
}

#[test]
fn ports_of_every_protocol_and_family_are_elements() {
    world(Setting::default(), |world| {
        let ports = [
            rule(Protocol::Sctp, "0.0.0.0", 80, A1),
            rule(Protocol::Udp, "::", 81, A1_6),
            rule(Protocol::Tcp, HOST, 82, A1),
            rule(Protocol::Tcp, "2001:db8::1", 83, A1_6),
            // For the proxy.
            rule(Protocol::Tcp, "::", 84, A1),
        ];
        world.firewall.publish(&ports).expect("free");
        assert_eq!(elements("map", "any4"), "sctp . 80 : 10.8.0.2 . 80");
        assert_eq!(elements("map", "any6"), "udp . 81 : fd00:8::2 . 80");
        assert_eq!(elements("map", "one4"), "192.0.2.1 . tcp . 82 : 10.8.0.2 . 80");
        assert_eq!(elements("map", "one6"), "2001:db8::1 . tcp . 83 : fd00:8::2 . 80");
        world.firewall.unpublish(&ports[..3]).expect("allowed");
        assert_eq!(elements("map", "any4") + &elements("map", "one4"), "");
    });
}

#[test]
fn a_range_of_a_thousand_ports_is_one_change() {
    world(Setting::default(), |world| {
        let ports: Vec<_> = (2000..3000)
            .map(|port| rule(Protocol::Tcp, "0.0.0.0", port, A1))
            .collect();
        world.firewall.publish(&ports).expect("free");
        assert_eq!(elements("map", "any4").split(", ").count(), 1000);
        // One of them is somebody else's: none of the others is published.
        let mut clash: Vec<_> = (3000..4000)
            .map(|port| rule(Protocol::Tcp, "0.0.0.0", port, A1))
            .collect();
        clash.push(rule(Protocol::Tcp, "0.0.0.0", 2500, B1));
        world.firewall.publish(&clash).expect_err("taken");
        assert_eq!(elements("map", "any4").split(", ").count(), 1000);
        world.firewall.unpublish(&clash).expect("nothing to do");
        world.firewall.unpublish(&ports).expect("allowed");
        assert_eq!(elements("map", "any4"), "");
    });
}

#[test]
fn nothing_is_left_of_networks_and_ports_that_are_gone() {
    world(Setting::default(), |world| {
        world.firewall.rebuild(&[], &[]).expect("allowed");
        let empty = list();
        let ports = [rule(Protocol::Tcp, "0.0.0.0", 80, A1)];
        for internal in [false, true] {
            let mut network = world.a.clone();
            network.internal = internal;
            network.icc = internal;
            world.firewall.add_network(&network).expect("allowed");
            world.firewall.publish(&ports).expect("allowed");
            world.firewall.unpublish(&ports).expect("allowed");
            world.firewall.unpublish(&ports).expect("nothing to do");
            world.firewall.remove_network("br-a").expect("allowed");
            world.firewall.remove_network("br-a").expect("nothing to do");
            assert_eq!(list(), empty);
        }
        // What an earlier version left, or somebody else put there.
        run(&[
            "nft",
            "add chain inet corten relict { type filter hook input priority 0; policy drop; }",
        ]);
        run(&[
            "nft",
            "add set inet corten relict { type ipv4_addr; elements = { 1.2.3.4 } ; }",
        ]);
        run(&[
            "nft",
            "add rule inet corten relict ip saddr @relict tcp dport { 1, 2 } jump strangers",
        ]);
        world.firewall.rebuild(&[], &[]).expect("allowed");
        assert_eq!(list(), empty);
        world.firewall.destroy().expect("allowed");
        world.firewall.destroy().expect("nothing to do");
        assert_eq!(run(&["nft", "list", "ruleset"]), "");
    });
}

#[test]
fn what_was_opened_is_remembered_across_rebuilds_and_restarts() {
    world(Setting::default(), |world| {
        let opened = Opened {
            ipv4: vec!["eth0".to_owned(), "wlan0".to_owned()],
            ipv6: vec!["eth0".to_owned()],
        };
        assert_eq!(world.firewall.opened().expect("allowed"), Opened::default());
        world.firewall.set_opened(&opened).expect("allowed");
        let rules = || lines("chain", "strangers");
        let guard = |family| {
            format!(
                "meta nfproto {family} iifname @uplinks{}",
                if family == "ipv4" { 4 } else { 6 }
            )
        };
        for _ in 0..2 {
            let restarted = crate::firewall::table::Firewall::open("corten");
            let mut known = restarted.opened().expect("allowed");
            known.ipv4.sort();
            assert_eq!(known, opened);
            restarted.rebuild(&[], &[]).expect("allowed");
            assert_eq!(rules().len(), 2);
            assert!(rules()[0].starts_with(&guard("ipv4")) && rules()[1].starts_with(&guard("ipv6")));
        }
        run(&["nft", "flush", "ruleset"]);
        world.firewall.rebuild(&[], &[]).expect("allowed");
        assert_eq!(rules().len(), 2);
        world.firewall.set_opened(&Opened::default()).expect("allowed");
        assert!(rules().is_empty());
    });
}

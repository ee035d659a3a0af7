//! Firewalls of others, made by the programs that people make them with.
use std::{fs, process::Command};

use super::*;
use crate::{
    bridge::{self, BridgeSpec},
    firewall::model::BridgeRules,
    testing::{alone, run},
};

/// Newer kernels may be built without the older iptables.
fn has_legacy() -> bool {
    let loads = "iptables-legacy -L -n && ip6tables-legacy -L -n";
    let has = alone(|| {
        let mut command = Command::new("sh");
        command.args(["-c", loads]).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.output().expect("a shell").status.success()
    });
    if !has {
        eprintln!("skipped: this kernel has no legacy iptables");
    }
    has
}

/// The beginnings of all warnings after a command.
fn after(command: &str) -> Vec<String> {
    alone(|| {
        let subnet = "10.8.0.1/24".parse().expect("a subnet");
        let spec = BridgeSpec {
            name: "br-a",
            owner: "corten-test",
            mtu: None,
            mac: None,
            addresses: &[subnet],
            route_localnet: false,
        };
        bridge::create(&spec).expect("root");
        sysctl::write("ipv4/conf/br-a/forwarding", "1").expect("root");
        sysctl::write_if_there("bridge/bridge-nf-call-iptables", "0").expect("root");
        let firewall = Firewall::open("corten");
        firewall
            .rebuild(&[BridgeRules::new("br-a", vec![subnet.trunc()])], &[])
            .expect("allowed");
        run(command);
        let warnings = warnings(&firewall);
        assert!(
            warnings.iter().all(|warning| warning.0.contains("Help: ")),
            "{warnings:?}"
        );
        let beginning = |warning: Warning| warning.0.split(". Help").next().unwrap_or_default().to_owned();
        warnings.into_iter().map(beginning).collect()
    })
}

#[test]
fn a_host_without_obstacles_has_no_warnings() {
    assert_eq!(after("true"), [""; 0]);
    assert_eq!(
        after("nft add table inet mine; nft 'add chain inet mine f { type filter hook forward priority 0; }'"),
        [""; 0]
    );
    assert_eq!(
        after("nft 'add table inet mine; add chain inet mine i { type filter hook input priority 0; policy drop; }'"),
        [""; 0]
    );
    if has_legacy() {
        assert_eq!(
            after("iptables-legacy -A FORWARD -j ACCEPT; ip6tables-legacy -L >/dev/null"),
            [""; 0]
        );
    }
}

#[test]
fn chains_that_drop_what_is_forwarded_are_named() {
    assert_eq!(
        after("nft 'add table inet mine; add chain inet mine f { type filter hook forward priority 5; policy drop; }'"),
        ["the nftables chain inet mine f drops what none of its rules accepts"]
    );
    let dropping = |command: &str| format!("the FORWARD chain of {command} drops what none of its rules accepts");
    for variant in ["nft", "legacy"] {
        if variant == "legacy" && !has_legacy() {
            continue;
        }
        assert_eq!(
            after(&format!(
                "iptables-{variant} -P FORWARD DROP; ip6tables-{variant} -P FORWARD DROP"
            )),
            [dropping("iptables"), dropping("ip6tables")]
        );
        assert_eq!(
            after(&format!(
                "iptables-{variant} -N ufw-before-forward; iptables-{variant} -A FORWARD -j ufw-before-forward; \
                 iptables-{variant} -P FORWARD DROP"
            )),
            ["ufw drops what is forwarded to and from containers"]
        );
    }
    assert_eq!(
        after(
            "nft 'add table inet firewalld; add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; }'"
        ),
        ["firewalld rejects what is forwarded to and from interfaces that no zone of it trusts"]
    );
}

#[test]
fn a_last_rule_is_as_good_as_a_policy() {
    let chain = "nft 'add table inet mine; add chain inet mine f { type filter hook forward priority 5; }";
    let mine = ["the nftables chain inet mine f drops what none of its rules accepts"];
    for (rule, expected) in [
        ("counter log drop", &mine[..]),
        ("reject", &mine),
        ("ip saddr 10.9.9.9 drop", &[]),
        ("limit rate 5/second drop", &[]),
        ("jump other; add rule inet mine other drop", &[]),
    ] {
        let other = "add chain inet mine other;";
        assert_eq!(
            after(&format!("{chain}; {other} add rule inet mine f {rule}'")),
            expected,
            "{rule}"
        );
    }
    for variant in ["nft", "legacy"] {
        if variant == "legacy" && !has_legacy() {
            continue;
        }
        let dropping = |command: &str| format!("the FORWARD chain of {command} drops what none of its rules accepts");
        for command in ["iptables", "ip6tables"] {
            let append = format!("{command}-{variant} -A FORWARD");
            assert_eq!(after(&format!("{append} -j REJECT")), [dropping(command)], "{variant}");
            assert_eq!(after(&format!("{append} -j DROP")), [dropping(command)], "{variant}");
            assert_eq!(after(&format!("{append} -i eth9 -j DROP")), [""; 0], "{variant}");
            assert_eq!(
                after(&format!("{append} -p tcp --dport 25 -j DROP")),
                [""; 0],
                "{variant}"
            );
            let elsewhere = format!("{command}-{variant} -A INPUT -j DROP");
            assert_eq!(after(&elsewhere), [""; 0], "{variant}");
        }
    }
}

#[test]
fn who_has_rules_about_a_bridge_is_not_told_of_it() {
    let chain = "nft 'add table inet mine; add chain inet mine f { type filter hook forward priority 5; policy drop; }";
    for (rule, helps) in [
        ("iifname \"br-a\" accept", true),
        ("oifname br-* accept", true),
        ("iifname { \"eth0\", \"br-a\" } accept", true),
        ("iifname \"br-ab\" accept", false),
        ("iifname != \"br-a\" drop", false),
        ("ip daddr 10.8.0.0/24 accept", false),
    ] {
        let warnings = after(&format!("{chain}; add rule inet mine f {rule}'"));
        assert_eq!(warnings.is_empty(), helps, "{rule}: {warnings:?}");
    }
    let firewalld = "nft 'add table inet firewalld; add chain inet firewalld trusted; \
                     add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; }; \
                     add rule inet firewalld filter_FORWARD iifname br-a goto trusted'";
    assert_eq!(after(firewalld), [""; 0]);
    for variant in ["nft", "legacy"] {
        if variant == "legacy" && !has_legacy() {
            continue;
        }
        for command in ["iptables", "ip6tables"] {
            let command = format!("{command}-{variant}");
            for (rule, helps) in [("-i br-a", true), ("-o br-+", true), ("-i br", false)] {
                let rules = format!("{command} -P FORWARD DROP; {command} -I FORWARD {rule} -j ACCEPT");
                let warnings = after(&rules);
                assert_eq!(warnings.is_empty(), helps, "{rules}: {warnings:?}");
            }
        }
    }
}

#[test]
fn bridges_that_pass_a_dropping_firewall_or_do_not_forward_are_told() {
    let found = after("iptables -P FORWARD DROP; echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[1].starts_with("bridge-nf-call-iptables is 1"));
    assert_eq!(
        after("echo 0 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv4/conf/br-a/forwarding"),
        ["packets from br-a are not forwarded (net.ipv4.conf.br-a.forwarding is 0)"]
    );
}

#[test]
fn looking_does_not_load_what_is_not_there() {
    let names = || fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default();
    alone(|| {
        assert_eq!(iptables::forward(iptables::Family::Ipv4).expect("root"), None);
        assert_eq!(names(), "");
    });
}

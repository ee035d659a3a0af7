//! When established connections may pass by a flow table, and from where. That they do is shown where the kernel has one:
//! `network_flows.rs` of the binary's tests.
use corten_linux::netlink::{
    nft::list,
    route::list::links,
    socket::{Protocol, Socket},
};

use crate::{
    firewall::{
        model::{BridgeRules, Switched},
        offload::{Interfaces, choose, may_watch, watcher},
        table::Firewall,
    },
    testing::{alone, run},
};

fn network() -> BridgeRules {
    BridgeRules::new("br-a", vec!["10.7.0.0/24".parse().expect("a subnet")])
}

/// Who looks at forwarded packets after a command, on a host with a table of ours.
fn looking_after(command: &str) -> Option<String> {
    alone(|| {
        let firewall = Firewall::open("corten");
        firewall.rebuild(&[network()], &[]).expect("root");
        run(command);
        let chains = list::chains(&mut Socket::open(Protocol::Netfilter).expect("root")).expect("root");
        watcher(&chains, "corten").expect("/proc")
    })
}

#[test]
fn only_who_decides_about_every_packet_on_its_way_counts() {
    let nobody = [
        "true",
        // What is translated once stays so.
        "nft 'add table ip t; add chain ip t c { type nat hook prerouting priority -100; }; add rule ip t c accept'",
        "nft 'add table ip t; add chain ip t c { type filter hook input priority 0; policy drop; }'",
        "nft 'add table ip t; add chain ip t c { type filter hook forward priority 0; }'",
        "nft 'add table ip t; add chain ip t called; add rule ip t called drop'",
        "nft add chain inet corten user-more",
    ];
    for command in nobody {
        assert_eq!(looking_after(command), None, "{command}");
    }
    let somebody = [
        ("nft add rule inet corten user counter", "the chain inet corten user"),
        (
            "nft 'add chain inet corten user-own { type filter hook forward priority 5; }; add rule inet corten user-own counter'",
            "the chain inet corten user-own",
        ),
        (
            "nft 'add table ip t; add chain ip t c { type filter hook forward priority 0; policy drop; }'",
            "the chain ip t c",
        ),
        (
            "nft 'add table ip6 t; add chain ip6 t c { type filter hook postrouting priority 0; }; add rule ip6 t c counter'",
            "the chain ip6 t c",
        ),
        (
            "nft 'add table bridge t; add chain bridge t c { type filter hook input priority 0; }; add rule bridge t c counter'",
            "the chain bridge t c",
        ),
        ("iptables-nft -A FORWARD -j ACCEPT", "the chain ip filter FORWARD"),
    ];
    for (command, who) in somebody {
        assert_eq!(looking_after(command).as_deref(), Some(who), "{command}");
    }
}

#[test]
fn news_of_our_own_rules_is_none() {
    let inet = 1;
    assert!(!may_watch(inet, "corten", "to-br-a", "corten"));
    assert!(may_watch(inet, "corten", "user", "corten"));
    assert!(may_watch(inet, "corten", "user-own", "corten"));
    assert!(may_watch(inet, "other", "forward", "corten"));
    assert!(may_watch(2, "corten", "forward", "corten"));
}

#[test]
fn packets_come_in_at_bridges_their_ports_and_what_leads_out() {
    alone(|| {
        run(
            "ip link add br-a type bridge; ip link add br-b type bridge; ip link set br-b up
             ip link add port type veth peer name port-peer; ip link set port master br-a up
             ip link add idle type veth peer name idle-peer; ip link set idle master br-a
             ip link add other type veth peer name other-peer; ip link set other master br-b up
             ip link add way type veth peer name way-peer; ip link set way up
             ip link add ours type veth peer name ours-peer; ip link set ours alias corten up
             ip link set lo up",
        );
        let links = links(&mut Socket::open(Protocol::Route).expect("root")).expect("root");
        let all: Vec<_> = links.iter().collect();
        let names = |interfaces: &Interfaces| {
            let mut names: Vec<_> = interfaces.values().cloned().collect();
            names.sort();
            names.join(" ")
        };
        let chosen = choose(Interfaces::new(), &all, &["br-a"], "corten");
        assert_eq!(names(&chosen), "br-a br-b port way");
        // A port that comes later is known by the bridge that is known.
        let of = |name: &str| links.iter().find(|link| link.name == name).expect("it was made");
        let mut known = chosen;
        known.remove(&of("port").index);
        let news = [of("port"), of("other"), of("idle")];
        assert_eq!(names(&choose(known, &news, &["br-a"], "corten")), "br-a br-b port way");
    });
}

#[test]
fn a_kernel_without_flow_tables_is_asked_once_and_works() {
    alone(|| {
        run("ip link add br-a type bridge");
        let firewall = Firewall::open("corten").with_flows();
        assert_eq!(firewall.described_flows(), "not in use: there is no bridge network");
        firewall.rebuild(&[network()], &[]).expect("root");
        let described = firewall.described_flows();
        assert!(
            ["in use", "not in use: this kernel has no nf_flow_table"].contains(&described.as_str()),
            "{described}"
        );
        firewall.remove_network("br-a").expect("root");
        firewall.add_network(&network()).expect("root");
        assert_eq!(firewall.described_flows(), described);
        firewall.end_flows();
        firewall.tend_flows();
        assert!(!firewall.has_flows());
    });
}

#[test]
fn without_a_table_of_ours_there_is_no_flow_table() {
    alone(|| {
        run("ip link add br-a type bridge");
        let neither = Switched {
            ipv4: false,
            ipv6: false,
        };
        let firewall = Firewall::open_for("corten", neither).with_flows();
        firewall.rebuild(&[network()], &[]).expect("root");
        firewall.tend_flows();
        assert_eq!(firewall.described_flows(), "not in use: there is no bridge network");
        assert_eq!(
            list::tables(&mut Socket::open(Protocol::Netfilter).expect("root")).expect("root"),
            []
        );
    });
}

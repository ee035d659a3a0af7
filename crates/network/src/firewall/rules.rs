//! The ruleset: what is in the table always, and what each network adds.
//!
//! Chains and sets whose names begin with `user` are the operator's: we make `user` and call it first for every packet
//! that is forwarded, and touch none of them again. As text, with one network `br0`:
//!
//! ```text
//! forward:     jump user; jump inner; established: jump settled; oifname vmap @to; iifname @bridges accept; jump strangers
//! settled:     where there is a flow table: of TCP, to or from a bridge: flow add @flows; accept
//! inner:       while there are internal networks: iifname vmap @from; oifname vmap @into
//! to-br0:      same bridge: accept, without icc only links; translated by us: accept; drop
//! prerouting, output:  to an address of this host: jump ports → destination translated by map
//! postrouting: iifname vmap @leave; oifname vmap @arrive
//! leave-br0:   of the subnet and not to br0: masquerade
//! arrive-br0:  from 127/8: masquerade; of the subnet and translated (hairpin): masquerade
//! ```
//!
//! Nearly every packet is one of an established connection: what stands before `established` in `forward` is paid for each of
//! them, as is `guard`, whose first look is at the address.
//!
//! With `bridge-nf-call-iptables` frames between ports of one bridge pass these chains too. They have no input
//! interface in postrouting, therefore hairpins are known by their source address.
use std::net::{IpAddr, Ipv6Addr};

use corten_linux::netlink::nft::{
    expression::{Address, Verdict, interface},
    set::{Element, Field, Set, Value, Values},
    transaction::{Base, ChainKind, Family, Hook, Transaction},
};
use ipnet::IpNet;

use crate::firewall::{
    model::{BridgeRules, Direct, GatewayMode, Opened, Switched},
    offload::write_settled,
    phrases::{
        Phrase, accept, back, destination_in, discard, established, family, from, from_any, from_map, jump, leave_as,
        loopback, masquerade, not_established, not_from, not_published, not_to, protocol, published, rule, to, to_map,
        to_this_host, translate_any, translate_one, way_in, within,
    },
};

pub(super) const USER: &str = "user";
pub(super) const FORWARD: &str = "forward";
pub(super) const UPLINKS4: &str = "uplinks4";
pub(super) const UPLINKS6: &str = "uplinks6";

/// Destinations of published ports: on every address, or on one.
pub(super) const ANY4: &str = "any4";
pub(super) const ANY6: &str = "any6";
pub(super) const ONE4: &str = "one4";
pub(super) const ONE6: &str = "one6";
/// Ports of containers that are reached by the containers' own addresses.
pub(super) const OPEN4: &str = "open4";
pub(super) const OPEN6: &str = "open6";

/// Who reaches which port of whom on a network whose containers do not reach each other.
pub(super) const LINKS4: &str = "links4";
pub(super) const LINKS6: &str = "links6";

/// Which chains of a network packets are sent through, by interface.
const DISPATCH: [&str; 5] = ["from", "into", "to", "leave", "arrive"];

use Field::{Interface, Ipv4, Ipv6, Protocol, Service};

/// Our bridges.
pub(super) const BRIDGES: &str = "bridges";
/// Bridges whose containers reach published ports by the proxy.
const PROXIED: &str = "proxied";
/// The chain for what is neither to nor from a network of ours.
const STRANGERS: &str = "strangers";
/// The chain for what belongs to a connection that was let through. See `offload.rs`.
pub(super) const SETTLED: &str = "settled";
/// The chain for what is to or from internal networks, where even an established connection goes nowhere else.
const INNER: &str = "inner";

const SETS: [Set<'static>; 17] = [
    map(ANY4, &[Protocol, Service], &[Ipv4, Service]),
    map(ANY6, &[Protocol, Service], &[Ipv6, Service]),
    map(ONE4, &[Ipv4, Protocol, Service], &[Ipv4, Service]),
    map(ONE6, &[Ipv6, Protocol, Service], &[Ipv6, Service]),
    set(OPEN4, &[Ipv4, Protocol, Service]),
    set(OPEN6, &[Ipv6, Protocol, Service]),
    set(LINKS4, &[Ipv4, Ipv4, Protocol, Service]),
    set(LINKS6, &[Ipv6, Ipv6, Protocol, Service]),
    set(UPLINKS4, &[Interface]),
    set(UPLINKS6, &[Interface]),
    set(BRIDGES, &[Interface]),
    set(PROXIED, &[Interface]),
    dispatch(DISPATCH[0]),
    dispatch(DISPATCH[1]),
    dispatch(DISPATCH[2]),
    dispatch(DISPATCH[3]),
    dispatch(DISPATCH[4]),
];

const fn set<'a>(name: &'a str, key: &'a [Field]) -> Set<'a> {
    Set {
        name,
        key,
        values: Values::None,
    }
}

const fn map<'a>(name: &'a str, key: &'a [Field], values: &'a [Field]) -> Set<'a> {
    Set {
        name,
        key,
        values: Values::Fields(values),
    }
}

const fn dispatch(name: &str) -> Set<'_> {
    Set {
        name,
        key: &[Interface],
        values: Values::Verdicts,
    }
}

/// Is a chain or a set of the table kept by a rebuild? The operator's, and what only the kernel remembers.
pub(super) fn kept(name: &str) -> bool {
    name.starts_with(USER) || name == UPLINKS4 || name == UPLINKS6
}

/// Everything that does not depend on networks. Nothing of it may be there but what is [`kept`].
pub(super) fn write_skeleton(change: &mut Transaction, switched: Switched) {
    for set in &SETS {
        change.set(set);
    }
    change.chain(USER, None);
    change.chain("ports", None);
    write_ports(change);
    let base = |kind, hook, priority| Some(Base { kind, hook, priority });
    change.chain("guard", base(ChainKind::Filter, Hook::Prerouting, -300));
    if switched.ipv4 {
        change.rule(
            "guard",
            &rule([loopback(Address::Destination), not_from("lo"), discard()]),
        );
    }
    change.chain("prerouting", base(ChainKind::Nat, Hook::Prerouting, -100));
    change.rule("prerouting", &rule([to_this_host(), jump("ports")]));
    change.chain("output", base(ChainKind::Nat, Hook::Output, -100));
    change.rule("output", &rule([to_this_host(), jump("ports")]));
    change.chain("postrouting", base(ChainKind::Nat, Hook::Postrouting, 100));
    change.rule("postrouting", &from_map("leave"));
    change.rule("postrouting", &to_map("arrive"));
    change.chain(FORWARD, base(ChainKind::Filter, Hook::Forward, 0));
    write_forward(change);
}

fn write_ports(change: &mut Transaction) {
    change.rule("ports", &rule([from_any(PROXIED), back()]));
    change.rule("ports", &translate_one(Family::Ipv4, ONE4));
    change.rule("ports", &translate_any(Family::Ipv4, ANY4));
    // From ::1 and from link-local addresses nothing can be routed: that is for the proxy.
    let unroutable = [
        IpNet::from(IpAddr::from(Ipv6Addr::LOCALHOST)),
        IpNet::new(IpAddr::from(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10).expect("a prefix of IPv6"),
    ];
    for network in unroutable {
        change.rule("ports", &rule([within(Address::Destination, network), back()]));
    }
    change.rule("ports", &translate_one(Family::Ipv6, ONE6));
    change.rule("ports", &translate_any(Family::Ipv6, ANY6));
}

fn write_forward(change: &mut Transaction) {
    change.chain(STRANGERS, None);
    change.chain(INNER, None);
    change.chain(SETTLED, None);
    write_settled(change, false);
    change.rule(FORWARD, &jump(USER));
    change.rule(FORWARD, &jump(INNER));
    change.rule(FORWARD, &rule([established(), jump(SETTLED)]));
    change.rule(FORWARD, &to_map("to"));
    change.rule(FORWARD, &rule([from_any(BRIDGES), accept()]));
    change.rule(FORWARD, &jump(STRANGERS));
}

/// Packets are sent through the chains of internal networks while there are any.
pub(super) fn write_inner(change: &mut Transaction, networks: &[BridgeRules]) {
    change.flush_chain(INNER);
    if networks.iter().any(|network| network.internal) {
        change.rule(INNER, &from_map("from"));
        change.rule(INNER, &to_map("into"));
    }
}

/// What we made forward must not become a router. What somebody else has translated is wanted by somebody else, and what
/// belongs to a connection that was let through from its other side as well.
pub(super) fn write_strangers(change: &mut Transaction, opened: &Opened, switched: Switched) {
    change.flush_chain(STRANGERS);
    for (number, uplinks, names, on) in [
        (Family::Ipv4, UPLINKS4, &opened.ipv4, switched.ipv4),
        (Family::Ipv6, UPLINKS6, &opened.ipv6, switched.ipv6),
    ] {
        change.flush_set(uplinks);
        let elements: Vec<_> = names.iter().map(|name| Element::key(interface(name))).collect();
        change.add(uplinks, &elements);
        if !names.is_empty() && on {
            let phrases = [
                family(number),
                from_any(uplinks),
                not_published(),
                not_established(),
                discard(),
            ];
            change.rule(STRANGERS, &rule(phrases));
        }
    }
}

/// A network's chains, by what they are dispatched for.
fn chains(network: &BridgeRules, switched: Switched) -> Vec<(&'static str, Vec<Phrase>)> {
    let filter = |mut rules: Vec<Phrase>| {
        for (number, on) in [(Family::Ipv4, switched.ipv4), (Family::Ipv6, switched.ipv6)] {
            if !on {
                rules.insert(0, rule([family(number), accept()]));
            }
        }
        rules
    };
    if network.internal {
        return vec![
            ("from", filter(from_internal(network))),
            ("into", filter(into_internal(network))),
        ];
    }
    vec![
        ("to", filter(to_network(network))),
        ("leave", leave(network, switched)),
        ("arrive", arrive(network, switched)),
    ]
}

fn from_internal(network: &BridgeRules) -> Vec<Phrase> {
    vec![rule([not_to(&network.bridge), discard()])]
}

fn into_internal(network: &BridgeRules) -> Vec<Phrase> {
    let mut rules = Vec::new();
    if network.icc {
        rules.push(rule([from(&network.bridge), accept()]));
    }
    rules.push(discard());
    rules
}

fn to_network(network: &BridgeRules) -> Vec<Phrase> {
    let mut rules = Vec::new();
    if network.icc {
        rules.push(rule([from(&network.bridge), accept()]));
    } else {
        let links = [(Family::Ipv4, LINKS4), (Family::Ipv6, LINKS6)];
        rules.extend(links.map(|(number, set)| rule([from(&network.bridge), way_in(number, set), accept()])));
    }
    rules.push(rule([published(), accept()]));
    let families = [
        (Family::Ipv4, network.mode4, OPEN4, 1),
        (Family::Ipv6, network.mode6, OPEN6, 58),
    ];
    for (number, mode, open, icmp) in families {
        match mode {
            GatewayMode::Nat => match &network.direct {
                Direct::Nowhere => {}
                Direct::Everywhere => rules.push(rule([destination_in(number, open), accept()])),
                Direct::From(interfaces) => {
                    let trusted = interfaces.iter();
                    rules.extend(trusted.map(|name| rule([from(name), destination_in(number, open), accept()])));
                }
            },
            GatewayMode::Isolated => {}
            GatewayMode::NatUnprotected => rules.push(rule([family(number), not_from(&network.bridge), accept()])),
            GatewayMode::Routed => {
                rules.push(rule([destination_in(number, open), accept()]));
                rules.push(rule([
                    family(number),
                    not_from(&network.bridge),
                    protocol(icmp),
                    accept(),
                ]));
            }
        }
    }
    rules.push(discard());
    rules
}

fn leave(network: &BridgeRules, switched: Switched) -> Vec<Phrase> {
    let mut rules = vec![rule([to(&network.bridge), back()])];
    for subnet in network.subnets.iter().filter(|subnet| switched.has(subnet.addr())) {
        let (masquerades, source) = match subnet {
            IpNet::V4(_) => (network.masquerade4, network.source4),
            IpNet::V6(_) => (network.masquerade6, network.source6),
        };
        if masquerades && network.mode(subnet.addr()) != GatewayMode::Routed {
            let translated = source.map_or_else(masquerade, leave_as);
            rules.push(rule([within(Address::Source, *subnet), translated]));
        }
    }
    rules
}

fn arrive(network: &BridgeRules, switched: Switched) -> Vec<Phrase> {
    let mut rules = Vec::new();
    if switched.ipv4 {
        rules.push(rule([loopback(Address::Source), masquerade()]));
    }
    for subnet in network.subnets.iter().filter(|subnet| switched.has(subnet.addr())) {
        rules.push(rule([within(Address::Source, *subnet), published(), masquerade()]));
    }
    rules
}

fn chain_name(dispatch: &str, bridge: &str) -> String {
    format!("{dispatch}-{bridge}")
}

/// Which sets a network's bridge is in.
fn memberships(network: &BridgeRules) -> impl Iterator<Item = &'static str> {
    let proxied = network.leaves_ports_to_sockets().then_some(PROXIED);
    [BRIDGES].into_iter().chain(proxied)
}

/// Adds a network, or replaces what it had.
pub(super) fn write_network(change: &mut Transaction, network: &BridgeRules, switched: Switched) {
    for set in memberships(network) {
        change.add(set, &[Element::key(interface(&network.bridge))]);
    }
    for (dispatch, rules) in chains(network, switched) {
        let name = chain_name(dispatch, &network.bridge);
        change.chain(&name, None);
        change.flush_chain(&name);
        for rule in &rules {
            change.rule(&name, rule);
        }
        change.add(
            dispatch,
            &[Element {
                key: interface(&network.bridge),
                value: Value::Verdict(Verdict::Jump(name)),
            }],
        );
    }
}

/// Removes what [`write_network`] added.
pub(super) fn erase_network(change: &mut Transaction, network: &BridgeRules) {
    for set in memberships(network) {
        change.remove(set, &[Element::key(interface(&network.bridge))]);
    }
    for (dispatch, _) in chains(network, Switched::ON) {
        change.remove(dispatch, &[Element::key(interface(&network.bridge))]);
        let name = chain_name(dispatch, &network.bridge);
        change.flush_chain(&name);
        change.delete_chain(&name);
    }
}

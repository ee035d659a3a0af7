//! Elements of published ports: one for each rule, in one of the maps by family and by whether the host address is named.
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use corten_linux::netlink::nft::{
    expression::octets,
    set::{Element, Value, concatenate},
    transaction::Transaction,
};

use crate::firewall::{
    model::{BridgeRules, GatewayMode, PortRule},
    rules::{ANY4, ANY6, ONE4, ONE6, OPEN4, OPEN6},
};

fn translated(rule: &PortRule) -> Option<(&'static str, Element)> {
    let port = rule.host_port.to_be_bytes();
    let protocol = [rule.protocol.number()];
    let map = match (rule.host, rule.target) {
        (IpAddr::V4(host), SocketAddr::V4(_)) if host.is_unspecified() => ANY4,
        (IpAddr::V6(host), SocketAddr::V6(_)) if host.is_unspecified() => ANY6,
        (IpAddr::V4(_), SocketAddr::V4(_)) => ONE4,
        (IpAddr::V6(_), SocketAddr::V6(_)) => ONE6,
        _ => return None,
    };
    let key = if rule.host.is_unspecified() {
        concatenate(&[&protocol, &port])
    } else {
        concatenate(&[&octets(rule.host), &protocol, &port])
    };
    let value = concatenate(&[&octets(rule.target.ip()), &rule.target.port().to_be_bytes()]);
    let element = Element {
        key,
        value: Value::Data(value),
    };
    Some((map, element))
}

/// Where a container's own port is open, it is so whatever the host's address and port are.
fn opened(rule: &PortRule) -> (&'static str, Element) {
    let set = if rule.target.is_ipv4() { OPEN4 } else { OPEN6 };
    let key = concatenate(&[
        &octets(rule.target.ip()),
        &[rule.protocol.number()],
        &rule.target.port().to_be_bytes(),
    ]);
    (set, Element::key(key))
}

/// What rules are in the kernel: elements by set.
pub(super) fn elements(networks: &[BridgeRules], rules: &[PortRule]) -> BTreeMap<&'static str, Vec<Element>> {
    let mut elements: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for rule in rules {
        let target = rule.target.ip();
        let network = networks.iter().find(|network| network.contains(target));
        let is_routed = network.is_some_and(|network| network.mode(target) == GatewayMode::Routed);
        let is_open = network.is_some_and(|network| network.opens_ports(target));
        let translated = (!is_routed).then(|| translated(rule)).flatten();
        for (set, element) in translated.into_iter().chain(is_open.then(|| opened(rule))) {
            elements.entry(set).or_default().push(element);
        }
    }
    for element in elements.values_mut() {
        element.sort_by(|one, other| one.key.cmp(&other.key));
        element.dedup();
    }
    elements
}

pub(super) fn write_ports(change: &mut Transaction, networks: &[BridgeRules], rules: &[PortRule]) {
    for (set, elements) in elements(networks, rules) {
        change.add(set, &elements);
    }
}

pub(super) fn erase_ports(change: &mut Transaction, networks: &[BridgeRules], rules: &[PortRule]) {
    for (set, elements) in elements(networks, rules) {
        let keys: Vec<_> = elements.into_iter().map(|element| Element::key(element.key)).collect();
        change.remove(set, &keys);
    }
}

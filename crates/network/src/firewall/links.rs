//! Elements of links: one for each port that one container reaches of another on a network whose containers do not reach
//! each other.
use std::net::IpAddr;

use corten_linux::netlink::nft::{
    expression::octets,
    set::{Element, concatenate},
    transaction::Transaction,
};

use crate::{
    firewall::rules::{LINKS4, LINKS6},
    model::LinkedPort,
};

fn element(port: &LinkedPort) -> Element {
    Element::key(concatenate(&[
        &octets(port.source),
        &octets(port.target),
        &[port.protocol.number()],
        &port.port.to_be_bytes(),
    ]))
}

/// By set.
fn elements<'a>(ports: impl Iterator<Item = &'a LinkedPort>) -> [(&'static str, Vec<Element>); 2] {
    let (four, six): (Vec<_>, Vec<_>) = ports.partition(|port| matches!(port.source, IpAddr::V4(_)));
    [(LINKS4, four), (LINKS6, six)].map(|(set, ports)| (set, ports.into_iter().map(element).collect()))
}

pub(super) fn write_links<'a>(change: &mut Transaction, ports: impl Iterator<Item = &'a LinkedPort>) {
    for (set, elements) in elements(ports) {
        change.add(set, &elements);
    }
}

pub(super) fn erase_links<'a>(change: &mut Transaction, ports: impl Iterator<Item = &'a LinkedPort>) {
    for (set, elements) in elements(ports) {
        change.remove(set, &elements);
    }
}

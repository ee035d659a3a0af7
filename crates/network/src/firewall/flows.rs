//! UDP flows at the moment when ports are published or taken back.
//!
//! Translation is decided by a flow's first packet. Without this, a client that talks all the time would go on to the
//! container that had the port before, or to the host after the port was published.
use std::collections::HashMap;

use corten_linux::netlink::{
    conntrack::{Flow, forget_udp},
    socket::Socket,
};

use crate::{firewall::model::PortRule, model::Protocol};

type Ports<'a> = HashMap<u16, Vec<&'a PortRule>>;

fn udp(rules: &[PortRule]) -> Ports<'_> {
    let mut ports = Ports::new();
    for rule in rules.iter().filter(|rule| rule.protocol == Protocol::Udp) {
        ports.entry(rule.host_port).or_default().push(rule);
    }
    ports
}

/// Forgets what the host itself answered on ports that are a container's now.
pub(super) fn published(socket: &mut Socket, rules: &[PortRule]) {
    forget(socket, &udp(rules), |rule, flow| {
        let here = rule.host.is_unspecified() || rule.host == flow.destination.ip();
        let untouched = flow.reply_source == flow.destination && flow.reply_destination == flow.source;
        here && untouched
    });
}

/// Forgets what went to containers by ports that are theirs no more.
pub(super) fn unpublished(socket: &mut Socket, rules: &[PortRule]) {
    forget(socket, &udp(rules), |rule, flow| flow.reply_source == rule.target);
}

fn forget(socket: &mut Socket, ports: &Ports, chosen: impl Fn(&PortRule, &Flow) -> bool) {
    if ports.is_empty() {
        return;
    }
    let result = forget_udp(socket, |flow| {
        let rules = ports.get(&flow.destination.port());
        rules.is_some_and(|rules| rules.iter().any(|rule| chosen(rule, flow)))
    });
    if let Err(refusal) = result {
        tracing::warn!("UDP flows of changed ports keep their way for a while: {refusal}");
    }
}

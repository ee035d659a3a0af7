//! Foreign firewalls: what about the host keeps our networks from working, and what helps.
//!
//! Every chain that a packet meets has to accept it: what ours accepts, another one may still drop. That is the operator's
//! will as far as we know, so nothing is changed, only said.
use std::{collections::HashSet, io};

use corten_linux::{
    iptables,
    netlink::{
        nft::{
            list::{self, Chain},
            rule::Rule,
            transaction::{Family, Hook},
        },
        socket::{Protocol, Socket},
    },
};

use crate::{firewall::table::Firewall, model::Warning, sysctl};

/// Looks at the calling thread's network namespace.
pub fn warnings(firewall: &Firewall) -> Vec<Warning> {
    let bridges = firewall.bridges();
    if bridges.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    match obstacles(firewall.table()) {
        Ok(obstacles) => {
            for Obstructed { by, about } in &obstacles {
                // Whoever wrote rules about a bridge knows of it.
                let stopped = bridges
                    .iter()
                    .find(|bridge| !about.iter().any(|name| names(name, bridge)));
                found.extend(stopped.map(|bridge| by.sentence(bridge)));
            }
        }
        Err(error) => tracing::debug!("cannot look at the host's firewalls: {error}"),
    }
    // ufw has two families, iptables may be there twice.
    let mut told = HashSet::new();
    found.retain(|sentence: &String| told.insert(sentence.clone()));
    if !found.is_empty() && switch("bridge/bridge-nf-call-iptables") == Some(1) {
        found.push(
            "bridge-nf-call-iptables is 1: these firewalls may drop packets between containers of one network too. Help: \
             sysctl -w net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0"
                .to_owned(),
        );
    }
    found.extend(bridges.iter().filter_map(|bridge| not_forwarding(bridge)));
    found.into_iter().map(Warning).collect()
}

/// Is this an interface's name, or a beginning of it (`br-*`)?
fn names(pattern: &str, interface: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => interface.starts_with(beginning),
        None => pattern == interface,
    }
}

/// A firewall that drops what its rules do not let through, and the interfaces that it has rules about.
#[derive(Debug)]
struct Obstructed {
    by: Obstacle,
    about: Vec<String>,
}

/// Who drops forwarded packets.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Obstacle {
    Ufw,
    Firewalld,
    /// The FORWARD chain of iptables (`true`: ip6tables), by nftables or by itself; and whether it has Docker's chain.
    Iptables {
        ipv6: bool,
        docker: bool,
    },
    /// Any other chain, as `nft` names it.
    Chain(String),
}

impl Obstacle {
    fn sentence(&self, bridge: &str) -> String {
        match self {
            Obstacle::Ufw => {
                "ufw drops what is forwarded to and from containers. Help: DEFAULT_FORWARD_POLICY=\"ACCEPT\" in \
                              /etc/default/ufw and `ufw reload`, or `ufw route allow` for each network"
                    .to_owned()
            }
            Obstacle::Firewalld => format!(
                "firewalld rejects what is forwarded to and from interfaces that no zone of it trusts. Help: `firewall-cmd \
                 --permanent --zone=trusted --add-interface={bridge}` for each network's bridge, and `firewall-cmd --reload`"
            ),
            Obstacle::Iptables { ipv6, docker } => {
                let command = if *ipv6 { "ip6tables" } else { "iptables" };
                let chain = if *docker { "DOCKER-USER" } else { "FORWARD" };
                format!(
                    "the FORWARD chain of {command} drops what none of its rules accepts. Help: `{command} -I {chain} -i \
                     {bridge} -j ACCEPT` and `{command} -I {chain} -o {bridge} -j ACCEPT` for each network's bridge, or \
                     `{command} -P FORWARD ACCEPT`"
                )
            }
            Obstacle::Chain(name) => format!(
                "the nftables chain {name} drops what none of its rules accepts. Help: let it accept what comes from and \
                 goes to each network's bridge: `iifname {bridge} accept`, `oifname {bridge} accept`"
            ),
        }
    }
}

fn obstacles(table: &str) -> io::Result<Vec<Obstructed>> {
    let mut socket = Socket::open(Protocol::Netfilter)?;
    let chains = list::chains(&mut socket).map_err(io::Error::from)?;
    let mut found = Vec::new();
    for chain in chains
        .iter()
        .filter(|chain| chain.table != table && sees_forwarded(chain))
    {
        let rules = list::rules(&mut socket, chain.family, &chain.table).map_err(io::Error::from)?;
        let drops = |rule: &Rule| rule.chain == chain.name && rule.drops_everything;
        let closed = chain.base.as_ref().is_some_and(|base| base.drops) || rules.iter().any(drops);
        if let Some(by) = obstacle(chain, closed, &chains) {
            let about = rules.into_iter().flat_map(|rule| rule.interfaces).collect();
            found.push(Obstructed { by, about });
        }
    }
    for (family, ipv6) in [(iptables::Family::Ipv4, false), (iptables::Family::Ipv6, true)] {
        match iptables::forward(family) {
            Ok(Some(forward)) if forward.drops => found.push(Obstructed {
                by: dropping_iptables(&forward.chains, ipv6),
                about: forward.interfaces,
            }),
            Ok(_) => {}
            Err(error) => tracing::debug!("cannot look at iptables: {error}"),
        }
    }
    Ok(found)
}

fn sees_forwarded(chain: &Chain) -> bool {
    let base = chain.base.as_ref();
    base.is_some_and(|base| base.hook == Hook::Forward as u32 && base.kind == "filter")
}

fn dropping_iptables<T: AsRef<str>>(chains: &[T], ipv6: bool) -> Obstacle {
    let has = |beginning: &str| chains.iter().any(|chain| chain.as_ref().starts_with(beginning));
    if has("ufw-") || has("ufw6-") {
        return Obstacle::Ufw;
    }
    Obstacle::Iptables {
        ipv6,
        docker: has("DOCKER-USER"),
    }
}

/// `closed`: it lets nothing past that its rules do not accept.
fn obstacle(chain: &Chain, closed: bool, all: &[Chain]) -> Option<Obstacle> {
    let family = chain.family;
    let seen = [Family::Inet, Family::Ipv4, Family::Ipv6, Family::Bridge];
    if !seen.iter().any(|known| *known as u8 == family) {
        return None;
    }
    let family_name = Family::name_of(family);
    // It drops in another chain.
    if chain.table == "firewalld" {
        return Some(Obstacle::Firewalld);
    }
    if !closed {
        return None;
    }
    if (chain.table.as_str(), chain.name.as_str()) == ("filter", "FORWARD") && family_name != "inet" {
        let siblings: Vec<_> = all
            .iter()
            .filter(|other| (other.family, &other.table) == (family, &chain.table))
            .map(|other| other.name.as_str())
            .collect();
        return Some(dropping_iptables(&siblings, family_name == "ip6"));
    }
    Some(Obstacle::Chain(format!("{family_name} {} {}", chain.table, chain.name)))
}

/// A bridge whose packets the kernel does not forward, though we told it to: somebody switched it off again.
fn not_forwarding(bridge: &str) -> Option<String> {
    // Not read by name through /proc/sys where the interface is gone.
    (switch(&format!("ipv4/conf/{bridge}/forwarding"))? == 0).then(|| {
        format!(
            "packets from {bridge} are not forwarded (net.ipv4.conf.{bridge}.forwarding is 0). Help: sysctl -w \
             net.ipv4.ip_forward=1"
        )
    })
}

fn switch(path: &str) -> Option<i64> {
    sysctl::read(path).ok().flatten()
}

#[cfg(test)]
mod tests;

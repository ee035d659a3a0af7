//! What a container may know: its networks' names and its links, and what of them answers a question.
//!
//! Names with dots are names too: `a.b` is first somebody called `a.b`, then `a` on the network `b`.
use std::net::IpAddr;

use domain::base::iana::{Rcode, Rtype};

use crate::{
    dns::{
        message::Query,
        names::{Holder, Names, Network},
    },
    model::Link,
};

/// The names that one container sees, and where its other questions go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The ids of its networks; of equal names those of the first network count.
    pub networks: Vec<String>,
    pub links: Vec<Link>,
    /// Asked from inside the container's namespace. When empty the host's resolvers are asked, by the host.
    pub servers: Vec<IpAddr>,
    /// Has it a way out? The host's resolvers are asked only for those who do.
    pub forward: bool,
}

/// The answer from what is known here; `None` when others must be asked. `turn` rotates several addresses.
pub fn answer(names: &Names, view: &View, query: &Query, limit: usize, turn: usize) -> Option<Vec<u8>> {
    if !query.of_internet() {
        return None;
    }
    let name = query.name.as_deref()?;
    match query.kind {
        Rtype::PTR => {
            let address = reverse(name)?;
            let networks = names.read();
            let target = view.networks.iter().find_map(|id| networks.get(id)?.pointer(address))?;
            query.pointer(target, limit)
        }
        kind => {
            let mut addresses = addresses(names, view, name, kind)?;
            if addresses.is_empty() && !settles(kind, name) {
                return None;
            }
            if !addresses.is_empty() {
                let first = turn % addresses.len();
                addresses.rotate_left(first);
            }
            Some(query.addresses(&addresses, limit))
        }
    }
}

/// Is "no such record" our answer for somebody whom we know? Of names that look public, others may know more.
fn settles(kind: Rtype, name: &str) -> bool {
    matches!(
        kind,
        Rtype::A | Rtype::AAAA | Rtype::MX | Rtype::HTTPS | Rtype::SVCB | Rtype::ANY
    ) || !name.contains('.')
}

/// The addresses of a kind that a name has; `None` when nobody is called so.
fn addresses(names: &Names, view: &View, name: &str, kind: Rtype) -> Option<Vec<IpAddr>> {
    let networks = names.read();
    let mut known = false;
    for (name, of) in readings(name) {
        let seen = view.networks.iter().filter_map(|id| networks.get(id));
        for network in seen.filter(|network| of.is_none_or(|of| network.name() == of)) {
            let mut found = Vec::new();
            for holder in holders(network, view, name) {
                known = true;
                found.extend(address(holder, kind));
            }
            if !found.is_empty() {
                found.dedup();
                return Some(found);
            }
        }
        if known {
            break;
        }
    }
    known.then(Vec::new)
}

/// A name as a whole, and as `name.network` in every way that its dots allow.
fn readings(name: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let split = name
        .rmatch_indices('.')
        .map(|(dot, _)| (&name[..dot], Some(&name[dot + 1..])));
    std::iter::once((name, None)).chain(split)
}

/// Those whom a link means, else those who have the name.
fn holders<'a>(network: &'a Network, view: &View, name: &str) -> &'a [Holder] {
    view.links
        .iter()
        .filter(|link| link.alias.eq_ignore_ascii_case(name))
        .map(|link| network.holders(&link.target.to_ascii_lowercase()))
        .find(|holders| !holders.is_empty())
        .unwrap_or_else(|| network.holders(name))
}

fn address(holder: &Holder, kind: Rtype) -> Option<IpAddr> {
    match kind {
        Rtype::A => holder.ipv4.map(IpAddr::V4),
        Rtype::AAAA => holder.ipv6.map(IpAddr::V6),
        _ => None,
    }
}

/// The address in `2.0.18.172.in-addr.arpa`, and in 32 nibbles and `ip6.arpa` (RFC 3596, 2.5).
fn reverse(name: &str) -> Option<IpAddr> {
    if let Some(labels) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = [0; 4];
        let mut parts = labels.split('.');
        for octet in octets.iter_mut().rev() {
            *octet = parts.next()?.parse().ok()?;
        }
        return parts.next().is_none().then(|| octets.into());
    }
    let mut octets = [0; 16];
    let mut nibbles = name.strip_suffix(".ip6.arpa")?.split('.');
    for octet in octets.iter_mut().rev() {
        for shift in [0, 4] {
            let nibble = nibbles.next().filter(|nibble| nibble.len() == 1)?;
            *octet |= u8::from_str_radix(nibble, 16).ok()? << shift;
        }
    }
    nibbles.next().is_none().then(|| octets.into())
}

/// What a container hears whose question nobody took.
pub fn refused(query: &Query) -> Vec<u8> {
    query.failure(Rcode::REFUSED)
}

/// What a container hears when nobody had an answer.
pub fn failed(query: &Query) -> Vec<u8> {
    query.failure(Rcode::SERVFAIL)
}

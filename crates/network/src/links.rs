//! Links on a default network whose containers do not reach each other (`--icc=false`).
//!
//! Ports of its bridge are isolated from each other and not from the host. While there are links, the host answers with
//! its own hardware address whoever looks for a neighbour's, routes what then comes back to the bridge, and the firewall
//! lets through what the links allow.
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    sync::Arc,
};

use corten_linux::netlink::{
    message::Batch,
    route::{link, neighbour},
    socket::{Protocol, Socket},
};

use crate::{
    controller::Controller,
    error::{Error, Result},
    mend::Known,
    model::{Endpoint, LinkedPort},
    networks::Live,
    sysctl,
};

/// What running containers reach by their links, by the container's id.
pub(crate) type Links = BTreeMap<String, Vec<LinkedPort>>;

impl Controller {
    /// Says what a running container reaches by its links, all of it. Connections that exist go on. Nothing is to be done
    /// where containers reach each other anyway, and nothing can be where there is no firewall to let only links through.
    pub fn link(&self, container: &str, mut ports: Vec<LinkedPort>) -> Result<()> {
        ports.retain(|port| self.firewall.switched().has(port.source));
        self.change_links(|links| {
            links.remove(container);
            if !ports.is_empty() {
                links.insert(container.to_owned(), ports);
            }
        })
    }

    /// A container has left a network: it reaches nobody there, and nobody reaches it.
    pub(crate) fn unlink(&self, endpoint: &Endpoint) {
        let own = |address: IpAddr| {
            endpoint.ipv4.is_some_and(|own| address == own.addr())
                || endpoint.ipv6.is_some_and(|own| address == own.addr())
        };
        let unlinked = self.change_links(|links| {
            for ports in links.values_mut() {
                ports.retain(|port| !own(port.source) && !own(port.target));
            }
            links.retain(|_, ports| !ports.is_empty());
        });
        if let Err(error) = unlinked {
            tracing::error!(%error, "links of a container that is gone still lead to its address");
        }
    }

    /// After a start of the daemon, before the firewall is built.
    pub(crate) fn take_over_links(&self, running: impl Iterator<Item = (String, Vec<LinkedPort>)>) {
        if self.known.linked_network().is_some() {
            let mut links = self.known.links.lock().expect("no panic while locked");
            let guarded = running.map(|(container, mut ports)| {
                ports.retain(|port| self.firewall.switched().has(port.source));
                (container, ports)
            });
            links.extend(guarded.filter(|(_, ports)| !ports.is_empty()));
            let all: Vec<_> = all(&links).into_iter().collect();
            // It has no table yet, and only remembers.
            let _ = self.firewall.link(&[], &all);
        }
    }

    fn change_links(&self, change: impl FnOnce(&mut Links)) -> Result<()> {
        let Some(live) = self.known.linked_network() else {
            return Ok(());
        };
        let mut links = self.known.links.lock().expect("no panic while locked");
        let before = all(&links);
        change(&mut links);
        let after = all(&links);
        if before == after {
            return Ok(());
        }
        let old: Vec<_> = before.difference(&after).copied().collect();
        let new: Vec<_> = after.difference(&before).copied().collect();
        self.firewall.link(&old, &new)?;
        answer(&live.network.interface, &after)
    }
}

impl Known {
    /// The default network, where links need help.
    fn linked_network(&self) -> Option<Arc<Live>> {
        let networks = self.networks.read().expect("no panic while locked");
        let needs_help = |live: &&Arc<Live>| {
            let options = live.bridge().filter(|options| !options.icc);
            live.network.default_bridge && !live.network.internal && options.is_some()
        };
        networks.values().find(needs_help).cloned()
    }

    /// Makes the host answer on a bridge that was made anew, or that an earlier daemon left.
    pub fn answer_for_linked(&self) -> Result<()> {
        let Some(live) = self.linked_network() else {
            return Ok(());
        };
        let links = all(&self.links.lock().expect("no panic while locked"));
        if links.is_empty() && live.network.adopted {
            return Ok(());
        }
        answer(&live.network.interface, &links)
    }
}

fn all(links: &Links) -> BTreeSet<LinkedPort> {
    links.values().flatten().copied().collect()
}

/// Makes the host answer for everybody on a bridge with whom links have to do. IPv4 has a switch for a whole bridge; in
/// IPv6 addresses are named one by one.
pub(crate) fn answer(bridge: &str, links: &BTreeSet<LinkedPort>) -> Result<()> {
    let ends = links.iter().flat_map(|port| [port.source, port.target]);
    let (four, six): (BTreeSet<_>, BTreeSet<_>) = ends.partition(IpAddr::is_ipv4);
    let answered = switch(bridge, !four.is_empty(), !six.is_empty()).and_then(|()| answer6(bridge, &six));
    answered.map_err(|error| Error::system(format!("cannot lead links over bridge {bridge}")).because(error))
}

fn switch(bridge: &str, ipv4: bool, ipv6: bool) -> io::Result<()> {
    let number = |on| if on { "1" } else { "0" };
    sysctl::write_if_there(&format!("ipv4/conf/{bridge}/proxy_arp_pvlan"), number(ipv4))?;
    sysctl::write_if_there(&format!("ipv6/conf/{bridge}/proxy_ndp"), number(ipv6))?;
    if ipv6 {
        // Who does not route does not answer for others either, `force_forwarding` or not. It stays: the bridge is ours.
        sysctl::write_if_there(&format!("ipv6/conf/{bridge}/forwarding"), "1")?;
    }
    // At once, and not after up to 0.8 s, which leaves a real neighbour the time to answer first.
    for (family, on) in [("ipv4", ipv4), ("ipv6", ipv6)] {
        if on {
            sysctl::write_if_there(&format!("{family}/neigh/{bridge}/proxy_delay"), "0")?;
        }
    }
    Ok(())
}

fn answer6(bridge: &str, wanted: &BTreeSet<IpAddr>) -> io::Result<()> {
    let mut socket = Socket::open(Protocol::Route)?;
    let Some(index) = link::index(&socket, bridge)? else {
        return Ok(());
    };
    if !sysctl::has_ipv6() {
        return Ok(());
    }
    let there: BTreeSet<IpAddr> = neighbour::proxies6(&mut socket, index)?.into_iter().collect();
    let mut batch = Batch::new();
    for address in there.difference(wanted) {
        neighbour::remove_proxy(&mut batch, index, *address);
    }
    for address in wanted.difference(&there) {
        neighbour::add_proxy(&mut batch, index, *address);
    }
    if !batch.is_empty() {
        socket.transact(&mut batch)?;
    }
    Ok(())
}

//! Interfaces of running containers after a crash of the daemon.
//!
//! A join or a leave that was cut short has changed the container and is not written down: the record counts. What the
//! container lacks is made again; what it has beyond the record goes with the litter, and default routes that had moved
//! there come back.
use std::os::fd::BorrowedFd;

use corten_linux::netlink::{
    route::list::{self, Link},
    socket::{Protocol, Socket},
};

use crate::{
    attach::set_routes,
    bridge::Litter,
    error::{Error, Result},
    held::Held,
    model::Endpoint,
    namespace::inside,
    wire,
    wiring::{self, Defaults},
};

/// What a running container's interfaces and its record differ in.
#[derive(Debug, Default)]
pub struct Damage {
    /// Networks (ids) whose interface it lacks.
    lost: Vec<String>,
    /// It is about to lose an interface that its record does not know.
    surplus: bool,
}

/// Compares; `litter` is what the host is about to be cleared of.
pub fn damage(held: &Held, namespace: BorrowedFd, litter: &Litter) -> Result<Damage> {
    let links = inside(namespace, || {
        let mut socket = Socket::open(Protocol::Route)?;
        Ok(list::links(&mut socket)?)
    })
    .map_err(|error| Error::system("cannot list the container's interfaces").because(error))?;
    let lacks = |endpoint: &Endpoint| {
        // The container may have given it another name.
        let is_it = |link: &Link| {
            link.name == endpoint.interface || link.mac.is_some() && link.mac == endpoint.mac.map(|mac| mac.0)
        };
        !endpoint.interface.is_empty() && !links.iter().any(is_it)
    };
    let lost = held.networks.iter().filter(|(_, endpoint)| lacks(endpoint));
    let is_surplus = |link: &Link| {
        let peer = link.parent.filter(|_| link.kind.as_deref() == Some("veth"));
        peer.is_some_and(|peer| litter.wires.contains_key(&peer))
    };
    Ok(Damage {
        lost: lost.map(|(live, _)| live.id().to_owned()).collect(),
        surplus: links.iter().any(is_surplus),
    })
}

/// Makes what is lacking, once the litter is gone and the bridges are there.
pub fn rewire(held: &Held, namespace: BorrowedFd, damage: &Damage) -> Result<()> {
    if damage.lost.is_empty() && !damage.surplus {
        return Ok(());
    }
    let nothing = Defaults { ipv4: None, ipv6: None };
    let hairpin = !held.attachment.ports.is_empty() && wiring::needs_hairpin();
    let mut wires = Vec::with_capacity(damage.lost.len());
    for (live, endpoint) in &held.networks {
        if damage.lost.iter().any(|id| id == live.id()) {
            wires.extend(wiring::wire(live, endpoint, nothing, hairpin)?);
        }
    }
    wire::connect(namespace, &wires)?;
    set_routes(&held.attachment, &held.networks, namespace)
}

//! What the host has that a new network must not meet.
use std::{collections::HashMap, io};

use corten_linux::netlink::{
    route::list,
    socket::{Protocol, Socket},
};
use ipnet::IpNet;

use crate::{
    error::{Error, Result},
    plan::Host,
};

/// Looks at the calling thread's network namespace. `owner` is what our own interfaces are marked with.
pub fn look(owner: &str) -> Result<Host> {
    look_about(owner).map_err(|error| Error::system("cannot list the host's interfaces and routes").because(error))
}

fn look_about(owner: &str) -> io::Result<Host> {
    let mut socket = Socket::open(Protocol::Route)?;
    let links = list::links(&mut socket)?;
    let names: HashMap<u32, &str> = links.iter().map(|link| (link.index, link.name.as_str())).collect();
    let named = |index: u32, net: IpNet| (names.get(&index).copied().unwrap_or_default().to_owned(), net);
    let mut host = Host {
        interfaces: links
            .iter()
            .filter(|link| link.alias.as_deref() != Some(owner))
            .map(|link| link.name.clone())
            .collect(),
        ..Host::default()
    };
    for address in list::addresses(&mut socket)? {
        if let Ok(net) = IpNet::new(address.address, address.prefix) {
            host.addresses.push(named(address.interface, net));
        }
    }
    for route in list::routes(&mut socket)? {
        let (destination, prefix) = route.destination;
        // Default routes lead everywhere, and mean nothing in particular.
        let Some(net) = IpNet::new(destination, prefix).ok().filter(|_| prefix > 0) else {
            continue;
        };
        match (route.interface, route.gateway) {
            (Some(interface), None) => host.connected.push(named(interface, net)),
            _ => host.routed.push(net),
        }
    }
    Ok(host)
}

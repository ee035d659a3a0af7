//! `--link` on the default bridge: another container's address and environment, under a name of one's own.
//!
//! The other container is remembered by its id, so it may be renamed; it must run when this one starts. On users'
//! networks a link is only a name, which the resolver answers: see [`endpoints`](super::endpoints).
use std::{net::IpAddr, sync::Arc};

use corten_network::model::{Attachment, LinkedPort, Protocol};

use crate::{
    container::{
        endpoints::parse_link,
        etc::LinkTarget,
        handle::{Command, Snapshot},
        mode::{DEFAULT_NETWORK, NetworkMode},
        ports,
        record::{ContainerLink, Record},
        supervised::Supervised,
        table::Table,
    },
    error::{Error, Kind, Result},
};

/// What a container gets of a linked one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linked {
    pub target: LinkTarget,
    pub environment: Vec<String>,
}

/// At create: whom the links mean.
pub fn resolve(record: &Record, table: &Table) -> Result<Vec<ContainerLink>> {
    if NetworkMode::of(&record.config, &record.host_config) != NetworkMode::Bridge {
        return Ok(Vec::new());
    }
    let mut links: Vec<ContainerLink> = Vec::new();
    for text in record.host_config.links.iter().flatten() {
        let (name, alias) = parse_link(text)?;
        let found = table.find(&name).map_err(|error| match error.kind() {
            // "Not found" would make clients look for the image.
            Kind::NotFound => Error::invalid(format!("could not get container for {name}")).because(error),
            _ => error,
        });
        let mut other = found?.record();
        while let NetworkMode::Container(next) = NetworkMode::of(&other.config, &other.host_config) {
            other = table.find(next)?.record();
        }
        if NetworkMode::of(&other.config, &other.host_config) == NetworkMode::Host {
            return Err(Error::invalid(
                "conflicting options: host type networking can't be used with links. This would result in undefined \
                 behavior",
            ));
        }
        if let Some(taken) = links
            .iter()
            .find(|link| link.alias == alias && link.container != other.id)
        {
            return Err(Error::conflict(format!(
                "Conflict. The name \"/{}/{alias}\" is already in use by container \"{}\". You have to remove (or \
                 rename) that container to be able to reuse that name.",
                record.name, taken.container
            )));
        }
        links.push(ContainerLink {
            container: other.id.clone(),
            alias,
        });
    }
    Ok(links)
}

/// At start: the linked containers as they are now. One that was removed is no link any more.
pub fn linked(record: &Record, table: &Table) -> Result<Vec<Linked>> {
    let mut all = Vec::new();
    for link in &record.links {
        let Ok(other) = table.find(&link.container) else {
            continue;
        };
        let other = other.snapshot();
        if !other.state.phase.is_running() {
            return Err(Error::system(format!(
                "Cannot link to a non running container: /{} AS /{}/{}",
                other.record.name, record.name, link.alias
            )));
        }
        let addresses = default_addresses(&other);
        let Some(address) = addresses.first() else {
            return Err(Error::system(format!(
                "Cannot link to /{}, as it does not belong to the default network",
                other.record.name
            )));
        };
        let mut ports = ports::all_exposed(&other.record.config).unwrap_or_default();
        ports.sort_unstable();
        all.push(Linked {
            environment: environment(&record.name, &link.alias, *address, &ports, &other.record.config.env),
            target: target(link, &other),
        });
    }
    Ok(all)
}

/// The same of a container that runs already: its links that still lead somewhere.
pub fn targets(record: &Record, table: &Table) -> Vec<LinkTarget> {
    let found = record.links.iter().filter_map(|link| {
        let other = table.find(&link.container).ok()?.snapshot();
        Some(target(link, &other))
    });
    found.collect()
}

/// What a running container reaches by its links even where containers do not reach each other: the exposed ports of
/// those that run. `find` knows these, by id.
pub fn reach(
    record: &Record,
    attachment: Option<&Attachment>,
    find: impl Fn(&str) -> Option<(Arc<Record>, Attachment)>,
) -> Vec<LinkedPort> {
    let own = attachment.map(addresses_on_default).unwrap_or_default();
    let mut all = Vec::new();
    for (other, attachment) in record.links.iter().filter_map(|link| find(&link.container)) {
        let exposed = ports::all_exposed(&other.config).unwrap_or_default();
        for target in addresses_on_default(&attachment) {
            for source in own.iter().filter(|source| source.is_ipv4() == target.is_ipv4()) {
                all.extend(exposed.iter().map(|&(protocol, port)| LinkedPort {
                    source: *source,
                    target,
                    protocol,
                    port,
                }));
            }
        }
    }
    all
}

/// For [`reach`]: containers that run, as they are in the table.
pub fn running(table: &Table) -> impl Fn(&str) -> Option<(Arc<Record>, Attachment)> {
    |id| {
        let other = table.find(id).ok()?.snapshot();
        Some((other.record, other.state.attachment.clone()?))
    }
}

fn target(link: &ContainerLink, other: &Snapshot) -> LinkTarget {
    LinkTarget {
        alias: link.alias.clone(),
        hostname: other.record.config.hostname.clone(),
        name: other.record.name.clone(),
        addresses: default_addresses(other),
    }
}

/// Of a running container on the default bridge; IPv4 first.
fn default_addresses(container: &Snapshot) -> Vec<IpAddr> {
    container
        .state
        .attachment
        .as_ref()
        .map(addresses_on_default)
        .unwrap_or_default()
}

fn addresses_on_default(attachment: &Attachment) -> Vec<IpAddr> {
    let mut endpoints = attachment.endpoints.iter();
    let on_default = endpoints.find(|endpoint| endpoint.network_name == DEFAULT_NETWORK);
    on_default.map_or_else(Vec::new, |endpoint| {
        let four = endpoint.ipv4.map(|address| IpAddr::from(address.addr()));
        let six = endpoint.ipv6.map(|address| IpAddr::from(address.addr()));
        four.into_iter().chain(six).collect()
    })
}

/// The variables that Docker sets: `DB_PORT`, `DB_PORT_5432_TCP_ADDR`, `DB_NAME`, `DB_ENV_…`.
fn environment(
    parent: &str,
    alias: &str,
    address: IpAddr,
    ports: &[(Protocol, u16)],
    variables: &[String],
) -> Vec<String> {
    let prefix = alias.to_uppercase().replace('-', "_");
    let host = match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let mut lines = Vec::new();
    if let Some((protocol, port)) = ports.first() {
        lines.push(format!("{prefix}_PORT={}://{host}:{port}", protocol.name()));
    }
    for (protocol, first, last) in segments(ports).into_iter().filter(|(_, first, last)| first < last) {
        let (lower, upper) = (protocol.name(), protocol.name().to_uppercase());
        let key = format!("{prefix}_PORT_{first}_{upper}");
        lines.push(format!("{key}_START={lower}://{host}:{first}"));
        lines.push(format!("{key}_ADDR={address}"));
        lines.push(format!("{key}_PROTO={lower}"));
        lines.push(format!("{key}_PORT_START={first}"));
        lines.push(format!("{key}_PORT_END={last}"));
    }
    for (protocol, port) in ports {
        let (lower, upper) = (protocol.name(), protocol.name().to_uppercase());
        let key = format!("{prefix}_PORT_{port}_{upper}");
        lines.push(format!("{key}={lower}://{host}:{port}"));
        lines.push(format!("{key}_ADDR={address}"));
        lines.push(format!("{key}_PORT={port}"));
        lines.push(format!("{key}_PROTO={lower}"));
    }
    lines.push(format!("{prefix}_NAME=/{parent}/{alias}"));
    for variable in variables {
        match variable.split_once('=') {
            // Of every image, and nobody else's business.
            None | Some(("HOME" | "PATH", _)) => {}
            Some((name, value)) => lines.push(format!("{prefix}_ENV_{name}={value}")),
        }
    }
    lines
}

/// Ports that follow each other.
fn segments(ports: &[(Protocol, u16)]) -> Vec<(Protocol, u16, u16)> {
    let mut all: Vec<(Protocol, u16, u16)> = Vec::new();
    for (protocol, port) in ports {
        match all.last_mut() {
            Some((known, _, last)) if known == protocol && last.checked_add(1) == Some(*port) => *last = *port,
            _ => all.push((*protocol, *port, *port)),
        }
    }
    all
}

impl Supervised {
    /// Forgets a link, now and for the next start. A program that runs keeps the environment that it was started with.
    pub fn unlink(&mut self, alias: &str) -> Result<()> {
        let mut record = self.record.as_ref().clone();
        record.links.retain(|link| link.alias != alias);
        if let Some(texts) = &mut record.host_config.links {
            texts.retain(|text| parse_link(text).is_ok_and(|(_, own)| own != alias));
        }
        let before = std::mem::replace(&mut self.record, record.into());
        if let Err(error) = self.save() {
            self.record = before;
            return Err(error);
        }
        self.refresh_links();
        self.show();
        Ok(())
    }

    /// Containers that have a link to this one learn its new address.
    pub fn tell_who_links_here(&self) {
        for other in self.table.linking_to(&self.record.id) {
            // Not waited for: its supervisor may be waiting for ours.
            tokio::spawn(async move {
                let _ = other.ask(|reply| Command::RefreshLinks { reply }).await;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_dockers() {
        let ports = [(Protocol::Tcp, 80), (Protocol::Tcp, 81), (Protocol::Udp, 53)];
        let variables = ["PATH=/bin", "A=1", "B"].map(str::to_owned);
        let address = "172.17.0.2".parse().expect("an address");
        let lines = environment("web", "my-db", address, &ports, &variables);
        assert_eq!(lines[0], "MY_DB_PORT=tcp://172.17.0.2:80");
        for line in [
            "MY_DB_PORT_80_TCP_START=tcp://172.17.0.2:80",
            "MY_DB_PORT_80_TCP_PORT_END=81",
            "MY_DB_PORT_81_TCP=tcp://172.17.0.2:81",
            "MY_DB_PORT_53_UDP_ADDR=172.17.0.2",
            "MY_DB_PORT_53_UDP_PROTO=udp",
            "MY_DB_NAME=/web/my-db",
            "MY_DB_ENV_A=1",
        ] {
            assert!(lines.iter().any(|known| known == line), "{line} in {lines:?}");
        }
        assert!(!lines.iter().any(|line| line.contains("PATH") || line.contains("ENV_B")));
    }
}

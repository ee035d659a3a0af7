//! A container's wishes for networks, and what they ask of the controller.
//!
//! The record's `networking` holds one entry for each network that the container is on, running or not, by the network's
//! name: its keys are put right at create, and change with connect and disconnect.
use corten_api::types::network::EndpointSettings;
use corten_network::model::{AttachRequest, DnsRequest, Driver, EndpointRequest, Link};

use crate::{
    container::{etc, interface_sysctls, mode::NetworkMode, ports, record::Record},
    context::Context,
    error::{Error, Kind, Result},
    names,
    network::record::NetworkRecord,
};

/// Is the container, running or not, on this network?
pub fn uses(record: &Record, network: &NetworkRecord) -> bool {
    let wished = |name: &String| *name == network.network.name || *name == network.network.id;
    record.networking.endpoints_config.keys().any(wished)
}

/// What a start asks of the controller. Absent for a container that never has interfaces of its own.
pub fn attach_request(record: &Record, context: &Context) -> Result<Option<AttachRequest>> {
    let mode = NetworkMode::of(&record.config, &record.host_config);
    if !mode.has_endpoints() {
        return Ok(None);
    }
    let mut endpoints = Vec::new();
    for (name, wish) in in_order(record, mode) {
        let network = context.network_records.find(name)?;
        refuse_configuration(&network)?;
        if !matches!(network.network.driver, Driver::Host | Driver::Null) {
            endpoints.push(endpoint_request(record, &network, &wish.clone().unwrap_or_default())?);
        }
    }
    interface_sysctls::hand_over(&record.host_config, &mut endpoints);
    Ok(Some(AttachRequest {
        container: record.id.clone(),
        endpoints,
        ports: ports::published(&record.host_config)?,
        dns: DnsRequest {
            servers: etc::dns_servers(record, &context.config.network),
        },
        publish_all: ports::published_at_random(&record.config, &record.host_config)?,
    }))
}

/// Nobody is on a network that is only a configuration.
pub fn refuse_configuration(network: &NetworkRecord) -> Result<()> {
    match network.config_only {
        true => Err(Error::new(
            Kind::Forbidden,
            "cannot create endpoint on configuration-only network",
        )),
        false => Ok(()),
    }
}

/// The network that the container was made for comes first, then the others by name.
fn in_order<'a>(
    record: &'a Record,
    mode: NetworkMode<'_>,
) -> impl Iterator<Item = (&'a String, &'a Option<EndpointSettings>)> {
    let main = mode.network().unwrap_or_default().to_owned();
    let wishes = &record.networking.endpoints_config;
    let first = wishes.get_key_value(&main);
    first
        .into_iter()
        .chain(wishes.iter().filter(move |(name, _)| **name != main))
}

/// One endpoint, from what the user wrote.
pub fn endpoint_request(record: &Record, network: &NetworkRecord, wish: &EndpointSettings) -> Result<EndpointRequest> {
    let model = &network.network;
    let ipam = wish.ipam_config.clone().unwrap_or_default();
    let mac = match wish.mac_address.as_str() {
        "" => None,
        text => Some(
            text.parse()
                .map_err(|_| Error::invalid(format!("invalid MAC address {text}")))?,
        ),
    };
    let mut links = Vec::new();
    if !model.default_bridge {
        for link in wish.links.iter().flatten() {
            let (target, alias) = parse_link(link)?;
            links.push(Link { alias, target });
        }
    }
    let link_local = ipam.link_local_ips.iter().flatten();
    Ok(EndpointRequest {
        network: model.id.clone(),
        ipv4: address(&ipam.ipv4_address, "IPv4")?.filter(|_| model.ipv4),
        ipv6: address(&ipam.ipv6_address, "IPv6")?.filter(|_| model.ipv6),
        link_local: link_local
            .map(|text| required(text, "link-local IP"))
            .collect::<Result<_>>()?,
        mac,
        names: if model.default_bridge {
            Vec::new()
        } else {
            dns_names(record, wish)
        },
        links,
        options: wish.driver_opts.clone().unwrap_or_default(),
        gateway_priority: wish.gw_priority,
    })
}

/// What a container answers to on a user's network: its name, aliases, short id and host name, each once.
pub fn dns_names(record: &Record, wish: &EndpointSettings) -> Vec<String> {
    let mut all = Vec::new();
    let aliases = wish.aliases.iter().flatten().map(String::as_str);
    let own = [names::short(&record.id), &record.config.hostname];
    for name in [record.name.as_str()].into_iter().chain(aliases).chain(own) {
        if !name.is_empty() && !all.iter().any(|known| known == name) {
            all.push(name.to_owned());
        }
    }
    all
}

/// `name` or `name:alias`; `/name:/other/alias`, as inspect shows it, too.
pub fn parse_link(text: &str) -> Result<(String, String)> {
    let last = |part: &str| part.rsplit('/').next().unwrap_or_default().to_owned();
    let mut parts = text.split(':');
    let (name, alias, more) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    if text.is_empty() {
        return Err(Error::invalid("empty string specified for links"));
    }
    let name = last(name);
    let alias = alias.map_or_else(|| name.clone(), last);
    if more.is_some() || name.is_empty() || alias.is_empty() {
        return Err(Error::invalid(format!("bad format for links: {text}")));
    }
    Ok((name, alias))
}

fn address<A: std::str::FromStr>(text: &str, what: &str) -> Result<Option<A>> {
    match text {
        "" => Ok(None),
        text => required(text, what).map(Some),
    }
}

fn required<A: std::str::FromStr>(text: &str, what: &str) -> Result<A> {
    text.parse()
        .map_err(|_| Error::invalid(format!("invalid {what} address: {text}")))
}

//! What a create request says about networks: checked, and its endpoints put under the networks' names.
use std::collections::BTreeMap;

use corten_api::types::{
    container::{ContainerConfig, HostConfig},
    network::EndpointSettings,
};
use corten_network::model::Mac;

use crate::{
    container::{endpoints::parse_link, mode::NetworkMode, ports, table::Table, view::CreateOptions},
    error::{Error, Kind, Result},
    network::{networks::Networks, record::NetworkRecord},
};

const NO_SUBNET: &str =
    "user specified IP address is supported only when connecting to networks with user configured subnets";

/// All that can be said without knowing which networks and containers there are.
pub fn check(config: &ContainerConfig, host: &HostConfig) -> Result<Vec<String>> {
    let mode = NetworkMode::parse(&host.network_mode);
    conflicts(mode, config, host)?;
    let published = ports::published(host)?;
    ports::all_exposed(config)?;
    for link in host.links.iter().flatten() {
        parse_link(link)?;
    }
    if let Some(mac) = config.mac_address.as_deref().filter(|mac| !mac.is_empty()) {
        check_mac(mac)?;
    }
    let mut warnings = Vec::new();
    if mode == NetworkMode::Host && !published.is_empty() {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    Ok(warnings)
}

/// What contradicts sharing a network with the host or with another container.
fn conflicts(mode: NetworkMode<'_>, config: &ContainerConfig, host: &HostConfig) -> Result<()> {
    let filled = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let mac = config.mac_address.as_ref().is_some_and(|mac| !mac.is_empty());
    let shared = matches!(mode, NetworkMode::Container(_));
    if mode == NetworkMode::Container("") {
        return Err(Error::invalid(
            "Invalid network mode: invalid container format container:<name|id>",
        ));
    }
    let published = host.publish_all_ports || host.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty());
    let exposed = config.exposed_ports.as_ref().is_some_and(|ports| !ports.is_empty());
    let conflicts = [
        (shared && !config.hostname.is_empty(), "hostname and the network mode"),
        (
            shared && filled(&host.links),
            "container type network can't be used with links. This would result in undefined behavior",
        ),
        (
            mode == NetworkMode::Host && filled(&host.links),
            "host type networking can't be used with links. This would result in undefined behavior",
        ),
        (shared && filled(&host.dns), "dns and the network mode"),
        (
            shared && filled(&host.extra_hosts),
            "custom host-to-IP mapping and the network mode",
        ),
        (
            mac && (shared || mode == NetworkMode::Host),
            "mac-address and the network mode",
        ),
        (
            shared && published,
            "port publishing and the container type network mode",
        ),
        (shared && exposed, "port exposing and the container type network mode"),
    ];
    match conflicts.into_iter().find(|(found, _)| *found) {
        Some((_, what)) => Err(Error::invalid(format!("conflicting options: {what}"))),
        None => Ok(()),
    }
}

/// Checks wishes against the networks that there are, and gives every network of the container an entry under its name.
/// A network that does not exist (yet) keeps the name that the user gave it: a start will look again.
pub fn complete(options: &mut CreateOptions, networks: &Networks, table: &Table) -> Result<()> {
    let mode_text = options.host_config.network_mode.clone();
    let mode = NetworkMode::of(&options.config, &options.host_config);
    let given = std::mem::take(&mut options.networking.endpoints_config);
    if let NetworkMode::Container(reference) = mode {
        // By its id, which a rename does not change.
        if let Ok(other) = table.find(reference) {
            options.host_config.network_mode = crate::container::mode::of_container(&other.id);
        }
        if given.keys().any(|name| *name != mode_text) {
            return Err(Error::invalid(SHARED_NETWORK));
        }
        return Ok(());
    }
    let main = mode.network().unwrap_or_default();
    let main = networks
        .find(main)
        .map_or(main.to_owned(), |record| record.network.name.clone());
    let mut wishes = BTreeMap::new();
    for (key, wish) in given {
        let (name, network) = resolve(&key, networks)?;
        let wish = wish.unwrap_or_default();
        check_endpoint(network.as_deref(), &name, &wish)?;
        wishes.insert(name, Some(wish));
    }
    if wishes.is_empty() {
        wishes.insert(main.clone(), Some(EndpointSettings::default()));
    }
    conflicts_between(&wishes)?;
    container_wide(&mut wishes, &main, &options.config, &options.host_config)?;
    options.networking.endpoints_config = wishes;
    Ok(())
}

pub const SHARED_NETWORK: &str =
    "container sharing network namespace with another container or host cannot be connected to any other network";
pub const NO_NETWORK: &str =
    "container cannot be connected to multiple networks with one of the networks in private (none) mode";
pub const HOST_NETWORK: &str = "container cannot be disconnected from host network or connected to host network";

/// `host` and `none` go with no other network.
fn conflicts_between(wishes: &BTreeMap<String, Option<EndpointSettings>>) -> Result<()> {
    if wishes.len() > 1 {
        if wishes.contains_key("host") {
            return Err(Error::invalid(SHARED_NETWORK));
        }
        if wishes.contains_key("none") {
            return Err(Error::invalid(NO_NETWORK));
        }
    }
    Ok(())
}

/// `--mac-address` of the container and `--link` on a user's network are its main endpoint's.
fn container_wide(
    wishes: &mut BTreeMap<String, Option<EndpointSettings>>,
    main: &str,
    config: &ContainerConfig,
    host: &HostConfig,
) -> Result<()> {
    let Some(wish) = wishes.get_mut(main) else {
        return Ok(());
    };
    let wish = wish.get_or_insert_default();
    if let Some(mac) = config.mac_address.as_deref().filter(|mac| !mac.is_empty()) {
        if wish.mac_address.is_empty() {
            wish.mac_address = mac.to_owned();
        } else if wish.mac_address != mac {
            return Err(Error::invalid(
                "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or \
                 be left empty",
            ));
        }
    }
    if matches!(NetworkMode::parse(&host.network_mode), NetworkMode::Network(_)) && wish.links.is_none() {
        wish.links = host.links.clone().filter(|links| !links.is_empty());
    }
    Ok(())
}

fn resolve(key: &str, networks: &Networks) -> Result<(String, Option<std::sync::Arc<NetworkRecord>>)> {
    let reference = if matches!(key, "" | "default") { "bridge" } else { key };
    match networks.find(reference) {
        Ok(record) => Ok((record.network.name.clone(), Some(record))),
        Err(error) if error.kind() == Kind::NotFound => Ok((reference.to_owned(), None)),
        Err(error) => Err(error),
    }
}

/// A wish for one endpoint, in Docker's frame; all that is wrong with it at once.
pub fn check_endpoint(network: Option<&NetworkRecord>, name: &str, wish: &EndpointSettings) -> Result<()> {
    let ipam = wish.ipam_config.clone().unwrap_or_default();
    let has_addresses = !ipam.ipv4_address.is_empty() || !ipam.ipv6_address.is_empty();
    let mut wrong = Vec::new();
    if !matches!(NetworkMode::parse(name), NetworkMode::Network(_)) {
        if has_addresses {
            wrong.push("user specified IP address is supported on user defined networks only".to_owned());
        }
        if wish.aliases.as_ref().is_some_and(|aliases| !aliases.is_empty()) {
            wrong.push("network-scoped alias is supported only for containers in user defined networks".to_owned());
        }
    }
    let addresses = [(&ipam.ipv4_address, false), (&ipam.ipv6_address, true)];
    for (text, six) in addresses.into_iter().filter(|(text, _)| !text.is_empty()) {
        match text.parse::<std::net::IpAddr>() {
            Ok(address) if address.is_ipv6() == six => {
                wrong.extend(network.and_then(|network| outside(network, address)));
            }
            _ => wrong.push(format!("invalid IPv{} address: {text}", if six { 6 } else { 4 })),
        }
    }
    for text in ipam.link_local_ips.iter().flatten() {
        if text.parse::<std::net::IpAddr>().is_err() {
            wrong.push(format!("invalid link-local IP address: {text}"));
        }
    }
    if !wrong.is_empty() {
        let listed = match wrong.as_slice() {
            [one] => one.clone(),
            several => format!("* {}", several.join("\n* ")),
        };
        return Err(Error::invalid(format!("invalid endpoint settings:\n{listed}")));
    }
    if !wish.mac_address.is_empty() {
        check_mac(&wish.mac_address)?;
    }
    wish.links
        .iter()
        .flatten()
        .try_for_each(|link| parse_link(link).map(drop))
}

/// Why an address cannot be had on a network. Subnets that the user did not choose may be others tomorrow.
fn outside(network: &NetworkRecord, address: std::net::IpAddr) -> Option<String> {
    if !network.has_chosen_subnet(address.is_ipv6()) {
        return Some(NO_SUBNET.to_owned());
    }
    // Also those of a family that is off: Docker takes such a wish, and no address comes of it.
    let chosen = network.configured.iter().flat_map(|request| &request.subnets);
    let chosen = chosen.filter_map(|subnet| subnet.subnet);
    let mut subnets = network.network.subnets.iter().map(|subnet| subnet.subnet).chain(chosen);
    let inside = subnets.any(|subnet| subnet.contains(&address));
    (!inside).then(|| format!("no configured subnet or ip-range contain the IP address {address}"))
}

fn check_mac(text: &str) -> Result<()> {
    match text.parse::<Mac>() {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::invalid(format!("invalid MAC address {text}"))),
    }
}

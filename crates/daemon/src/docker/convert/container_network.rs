//! A container's networks as the Engine API shows them: addresses, published ports, names.
//!
//! While it runs, the attachment says what is; before and after, only what was wished for is left.
use std::collections::BTreeMap;

use corten_api::types::{
    container::PortBinding,
    container_answers::{NetworkSettings, PortSummary},
    network::EndpointSettings,
};
use corten_engine::{container::view::ContainerView, network::record::NetworkView};
use corten_network::model::{Attachment, Endpoint};

use crate::docker::convert::network;

/// Names and ids of the networks that exist.
#[derive(Debug, Clone, Default)]
pub struct Networks {
    by_name: BTreeMap<String, String>,
    by_id: BTreeMap<String, String>,
}

impl Networks {
    pub fn new(views: &[NetworkView]) -> Networks {
        let pairs = || views.iter().map(|view| &view.record.network);
        Networks {
            by_name: pairs().map(|one| (one.name.clone(), one.id.clone())).collect(),
            by_id: pairs().map(|one| (one.id.clone(), one.name.clone())).collect(),
        }
    }

    fn id(&self, name: &str) -> String {
        self.by_name.get(name).cloned().unwrap_or_default()
    }

    /// The name of what may be a name or an id.
    fn name<'a>(&'a self, reference: &'a str) -> &'a str {
        match self.by_id.get(reference) {
            Some(name) if !self.by_name.contains_key(reference) => name,
            _ => reference,
        }
    }
}

/// What `HostConfig.NetworkMode` means.
pub fn mode(asked: &str) -> &str {
    match asked {
        "" | "default" => "bridge",
        mode => mode,
    }
}

/// Networks that a user made: names resolve there.
pub fn is_user_defined(mode: &str) -> bool {
    !matches!(mode, "" | "default" | "bridge" | "host" | "none") && !mode.starts_with("container:")
}

/// `NetworkSettings` of an inspection.
pub fn settings(view: &ContainerView, known: &Networks) -> NetworkSettings {
    let networks = endpoints(view, known);
    let running = view.state.phase.is_running();
    let mode = mode(&view.record.host_config.network_mode);
    let own = running && !mode.starts_with("container:");
    let attachment = attachment(view);
    let mut settings = NetworkSettings {
        ports: ports_by_key(view),
        ..NetworkSettings::default()
    };
    if own {
        settings.sandbox_id = match attachment {
            Some(attachment) if !attachment.sandbox.is_empty() => attachment.sandbox.clone(),
            _ => network::identifier(&[&view.record.id, &view.state.pid.to_string()]),
        };
        // The namespace has no name in the file system: it is its process's.
        settings.sandbox_key = format!("/proc/{}/ns/net", view.state.pid);
    }
    // Clients of the time before there were several networks look here.
    if let Some(bridge) = networks.get("bridge") {
        settings.endpoint_id.clone_from(&bridge.endpoint_id);
        settings.gateway.clone_from(&bridge.gateway);
        settings.ip_address.clone_from(&bridge.ip_address);
        settings.ip_prefix_len = bridge.ip_prefix_len;
        settings.ipv6_gateway.clone_from(&bridge.ipv6_gateway);
        settings.global_ipv6_address.clone_from(&bridge.global_ipv6_address);
        settings.global_ipv6_prefix_len = bridge.global_ipv6_prefix_len;
        settings.mac_address.clone_from(&bridge.mac_address);
    }
    settings.networks = networks;
    settings
}

fn attachment(view: &ContainerView) -> Option<&Attachment> {
    view.state.attachment.as_ref().filter(|_| view.state.phase.is_running())
}

/// The container's ends of networks, by network name.
pub fn endpoints(view: &ContainerView, known: &Networks) -> BTreeMap<String, EndpointSettings> {
    let record = &view.record;
    let mode = mode(&record.host_config.network_mode);
    if mode.starts_with("container:") {
        return BTreeMap::new();
    }
    let wishes = &record.networking.endpoints_config;
    let mut found: BTreeMap<String, EndpointSettings> = BTreeMap::new();
    for (name, wish) in wishes {
        let name = if name == "default" { "bridge" } else { known.name(name) };
        let wish = wish.clone().unwrap_or_default();
        found.insert(name.to_owned(), at_rest(view, name, wish, known));
    }
    let main = known.name(mode);
    if !found.contains_key(main) && (found.is_empty() || attachment(view).is_none()) {
        found.insert(main.to_owned(), at_rest(view, main, EndpointSettings::default(), known));
    }
    for endpoint in attachment(view)
        .into_iter()
        .flat_map(|attachment| &attachment.endpoints)
    {
        let settings = found.entry(endpoint.network_name.clone()).or_default();
        fill(settings, endpoint);
    }
    found
}

/// What was wished for, and what stays known of a container that is not in the network now.
fn at_rest(view: &ContainerView, name: &str, wish: EndpointSettings, known: &Networks) -> EndpointSettings {
    let started = view.state.started_at.is_some();
    let running = view.state.phase.is_running();
    let network_id = if started { known.id(name) } else { String::new() };
    // `host` and `none` have no endpoints that anybody keeps.
    let endpoint_id = match matches!(name, "host" | "none") && running {
        true => network::endpoint_id(&network_id, &view.record.id),
        false => String::new(),
    };
    let dns_names = match is_user_defined(name) && started {
        true => Some(dns_names(view, &wish)),
        false => None,
    };
    EndpointSettings {
        ipam_config: wish.ipam_config,
        links: wish.links,
        aliases: wish.aliases,
        mac_address: if started { String::new() } else { wish.mac_address },
        driver_opts: wish.driver_opts,
        gw_priority: wish.gw_priority,
        network_id,
        endpoint_id,
        dns_names,
        ..EndpointSettings::default()
    }
}

fn dns_names(view: &ContainerView, wish: &EndpointSettings) -> Vec<String> {
    let record = &view.record;
    let short_id = record.id.get(..12).unwrap_or(&record.id).to_owned();
    let mut names = vec![record.name.clone()];
    let others = wish.aliases.iter().flatten().cloned();
    for name in others.chain([short_id, record.config.hostname.clone()]) {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn fill(settings: &mut EndpointSettings, endpoint: &Endpoint) {
    let text = |address: Option<&dyn std::fmt::Display>| address.map(ToString::to_string).unwrap_or_default();
    settings.network_id.clone_from(&endpoint.network);
    settings.endpoint_id.clone_from(&endpoint.id);
    settings.mac_address = endpoint.mac.map(|mac| mac.to_string()).unwrap_or_default();
    settings.gateway = text(endpoint.gateway4.as_ref().map(|gateway| gateway as _));
    settings.ipv6_gateway = text(endpoint.gateway6.as_ref().map(|gateway| gateway as _));
    if let Some(address) = endpoint.ipv4 {
        settings.ip_address = address.addr().to_string();
        settings.ip_prefix_len = address.prefix_len().into();
    }
    if let Some(address) = endpoint.ipv6 {
        settings.global_ipv6_address = address.addr().to_string();
        settings.global_ipv6_prefix_len = address.prefix_len().into();
    }
    settings.gw_priority = endpoint.gateway_priority;
    if is_user_defined(&endpoint.network_name) && !endpoint.names.is_empty() {
        settings.dns_names = Some(endpoint.names.clone());
    }
}

/// Declared ports of a container that is on a bridge now: number and protocol.
fn exposed(view: &ContainerView) -> Vec<(u16, String)> {
    let on_bridge = attachment(view)
        .is_some_and(|attachment| attachment.endpoints.iter().any(|end| !end.host_interface.is_empty()));
    if !on_bridge {
        return Vec::new();
    }
    let keys = view.record.config.exposed_ports.iter().flat_map(|ports| ports.keys());
    let bound = view
        .record
        .host_config
        .port_bindings
        .iter()
        .flat_map(|ports| ports.keys());
    let mut found: Vec<(u16, String)> = keys.chain(bound).filter_map(|key| parse(key)).collect();
    found.sort();
    found.dedup();
    found
}

fn parse(key: &str) -> Option<(u16, String)> {
    let (number, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
    Some((number.parse().ok()?, protocol.to_lowercase()))
}

/// `Ports` of an inspection: declared ones too, with `null` where they are not published.
fn ports_by_key(view: &ContainerView) -> BTreeMap<String, Option<Vec<PortBinding>>> {
    let mut found: BTreeMap<String, Option<Vec<PortBinding>>> = exposed(view)
        .into_iter()
        .map(|(number, protocol)| (format!("{number}/{protocol}"), None))
        .collect();
    for port in attachment(view).into_iter().flat_map(|attachment| &attachment.ports) {
        let key = format!("{}/{}", port.container_port, port.protocol.name());
        found.entry(key).or_default().get_or_insert_default().push(PortBinding {
            host_ip: port.host_ip.to_string(),
            host_port: port.host_port.to_string(),
        });
    }
    found
}

/// `Ports` of a list's entry.
pub fn ports(view: &ContainerView) -> Vec<PortSummary> {
    let mut found = Vec::new();
    let published = attachment(view)
        .map(|attachment| attachment.ports.as_slice())
        .unwrap_or_default();
    for (number, protocol) in exposed(view) {
        let is_it = |port: &&corten_network::model::PublishedPort| {
            port.container_port == number && port.protocol.name() == protocol
        };
        if !published.iter().any(|port| is_it(&port)) {
            found.push(PortSummary {
                ip: None,
                private_port: number,
                public_port: None,
                protocol,
            });
        }
    }
    found.extend(published.iter().map(|port| PortSummary {
        ip: Some(port.host_ip.to_string()),
        private_port: port.container_port,
        public_port: Some(port.host_port),
        protocol: port.protocol.name().to_owned(),
    }));
    found.sort_by(|a, b| {
        (a.private_port, &a.protocol, &a.ip, a.public_port).cmp(&(b.private_port, &b.protocol, &b.ip, b.public_port))
    });
    found
}

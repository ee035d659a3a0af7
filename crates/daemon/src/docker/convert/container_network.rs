//! A container's networks as the Engine API shows them: addresses, published ports, names.
//!
//! While it runs, the attachment says what is; before and after, only what was wished for is left.
use std::{collections::BTreeMap, sync::Arc};

use corten_api::types::{
    container::PortBinding,
    container_answers::{NetworkSettings, PortSummary},
    network::EndpointSettings,
};
use corten_engine::{container::view::ContainerView, network::record::NetworkRecord};
use corten_network::model::{Attachment, Endpoint};

use crate::docker::convert::network;

/// Names and ids of the networks that exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks {
    by_name: BTreeMap<String, String>,
    by_id: BTreeMap<String, String>,
}

impl Networks {
    pub fn new(records: &[Arc<NetworkRecord>]) -> Networks {
        let pairs = || records.iter().map(|record| &record.network);
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

/// The hardware address that was asked for on the main network: `Config.MacAddress`, where older clients look.
pub fn asked_mac(view: &ContainerView) -> Option<String> {
    let record = &view.record;
    let wishes = &record.networking.endpoints_config;
    let wish = wishes.get(mode(&record.host_config.network_mode))?.as_ref()?;
    Some(wish.mac_address.clone()).filter(|mac| !mac.is_empty())
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
            // Empty where clients come to the container's own address (gateway mode `routed`).
            host_port: match port.is_routed() {
                true => String::new(),
                false => port.host_port.to_string(),
            },
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
        public_port: (!port.is_routed()).then_some(port.host_port),
        protocol: port.protocol.name().to_owned(),
    }));
    found.sort_by(|a, b| {
        (a.private_port, &a.protocol, &a.ip, a.public_port).cmp(&(b.private_port, &b.protocol, &b.ip, b.public_port))
    });
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use corten_api::types::container::{ContainerConfig, Empty, HostConfig, NetworkingConfig};
    use corten_engine::container::{
        record::Record,
        state::{Phase, State},
    };
    use corten_network::model::{Protocol, PublishedPort};
    use jiff::Timestamp;

    use super::*;

    const MAC: &str = "02:42:0a:01:00:02";

    fn endpoint(network: &str, names: &[&str]) -> Endpoint {
        Endpoint {
            id: "cd".repeat(32),
            network: format!("id-of-{network}"),
            network_name: network.to_owned(),
            interface: "eth0".to_owned(),
            host_interface: "veth1".to_owned(),
            mac: MAC.parse().ok(),
            ipv4: "10.1.0.2/16".parse().ok(),
            ipv6: "fd00::2/64".parse().ok(),
            link_local: Vec::new(),
            gateway4: "10.1.0.1".parse().ok(),
            gateway6: None,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            links: Vec::new(),
            options: BTreeMap::new(),
            gateway_priority: 3,
        }
    }

    fn published(container_port: u16, ip: &str, host_port: u16) -> PublishedPort {
        PublishedPort {
            container_port,
            protocol: Protocol::Tcp,
            host_ip: ip.parse().expect("an address"),
            host_port,
        }
    }

    /// A container whose main network is `mode`; `endpoints` while it runs.
    fn view(phase: Phase, mode: &str, endpoints: Vec<Endpoint>) -> ContainerView {
        let wish = EndpointSettings {
            aliases: Some(vec!["db".to_owned()]),
            mac_address: MAC.to_owned(),
            ..Default::default()
        };
        let ports = ["80/tcp", "443/tcp"].map(|key| (key.to_owned(), Empty {}));
        let record = Record {
            id: "ab".repeat(32),
            name: "web".to_owned(),
            created: Timestamp::UNIX_EPOCH,
            image_id: String::new(),
            platform: "linux".to_owned(),
            config: ContainerConfig {
                hostname: "abababababab".to_owned(),
                exposed_ports: Some(ports.into()),
                ..Default::default()
            },
            host_config: HostConfig {
                network_mode: mode.to_owned(),
                ..Default::default()
            },
            networking: NetworkingConfig {
                endpoints_config: BTreeMap::from([(mode.to_owned(), Some(wish))]),
            },
            links: Default::default(),
            mounts: Vec::new(),
            layers: Vec::new(),
            annotations: BTreeMap::new(),
        };
        let attachment = Attachment {
            container: record.id.clone(),
            sandbox: "ef".repeat(32),
            endpoints,
            ports: vec![published(80, "::", 8080), published(80, "0.0.0.0", 8080)],
            ..Default::default()
        };
        ContainerView {
            record: Arc::new(record),
            state: Arc::new(State {
                phase,
                pid: 7,
                started_at: (phase != Phase::Created).then_some(Timestamp::UNIX_EPOCH),
                attachment: (phase.is_running() && !attachment.endpoints.is_empty()).then_some(attachment),
                ..State::default()
            }),
            image_name: String::new(),
            places: Default::default(),
            size_rw: None,
            size_root_fs: None,
        }
    }

    fn known() -> Networks {
        let names = ["front", "host", "none", "bridge"].map(|name| (name.to_owned(), format!("id-of-{name}")));
        Networks {
            by_id: names.iter().map(|(name, id)| (id.clone(), name.clone())).collect(),
            by_name: names.into(),
        }
    }

    #[test]
    fn a_running_container_shows_its_addresses_names_and_ports() {
        let view = view(
            Phase::Running,
            "front",
            vec![endpoint("front", &["web", "db", "abababababab"])],
        );
        let settings = settings(&view, &known());
        assert_eq!(settings.sandbox_id, "ef".repeat(32));
        assert_eq!(settings.sandbox_key, "/proc/7/ns/net");
        let front = &settings.networks["front"];
        assert_eq!((front.ip_address.as_str(), front.ip_prefix_len), ("10.1.0.2", 16));
        assert_eq!(
            (front.global_ipv6_address.as_str(), front.global_ipv6_prefix_len),
            ("fd00::2", 64)
        );
        assert_eq!((front.gateway.as_str(), front.ipv6_gateway.as_str()), ("10.1.0.1", ""));
        assert_eq!((front.network_id.as_str(), front.gw_priority), ("id-of-front", 3));
        assert_eq!(front.aliases.as_deref(), Some(&["db".to_owned()][..]));
        assert_eq!(front.dns_names.as_ref().map(Vec::len), Some(3));
        // Only the default bridge's addresses are the container's too.
        assert_eq!(settings.ip_address, "");
        let value = serde_json::to_value(&settings.ports).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"443/tcp": null, "80/tcp": [{"HostIp": "::", "HostPort": "8080"},
                {"HostIp": "0.0.0.0", "HostPort": "8080"}]})
        );
        let listed: Vec<_> = ports(&view)
            .into_iter()
            .map(|port| (port.ip, port.private_port, port.public_port))
            .collect();
        let ip = |text: &str| Some(text.to_owned());
        assert_eq!(
            listed,
            [
                (ip("0.0.0.0"), 80, Some(8080)),
                (ip("::"), 80, Some(8080)),
                (None, 443, None)
            ]
        );
        assert_eq!(asked_mac(&view).as_deref(), Some(MAC));
    }

    #[test]
    fn the_default_bridge_is_the_container_s_own_address_too() {
        let view = view(Phase::Running, "bridge", vec![endpoint("bridge", &["web"])]);
        let settings = settings(&view, &known());
        assert_eq!((settings.ip_address.as_str(), settings.ip_prefix_len), ("10.1.0.2", 16));
        assert_eq!(settings.mac_address, MAC);
        assert_eq!(settings.networks["bridge"].dns_names, None);
    }

    #[test]
    fn before_and_after_only_wishes_are_left() {
        let created = settings(&view(Phase::Created, "front", Vec::new()), &known());
        let front = &created.networks["front"];
        assert_eq!((front.network_id.as_str(), front.mac_address.as_str()), ("", MAC));
        assert_eq!((&front.dns_names, created.sandbox_key.as_str()), (&None, ""));
        let exited = settings(&view(Phase::Exited, "front", Vec::new()), &known());
        let front = &exited.networks["front"];
        assert_eq!(
            (front.network_id.as_str(), front.endpoint_id.as_str()),
            ("id-of-front", "")
        );
        assert_eq!(front.dns_names.as_ref().unwrap(), &["web", "db", "abababababab"]);
        assert!(exited.ports.is_empty());
    }

    #[test]
    fn a_container_of_host_or_none_has_an_endpoint_without_addresses() {
        let host = settings(&view(Phase::Running, "host", Vec::new()), &known());
        assert_eq!(host.networks["host"].network_id, "id-of-host");
        assert_eq!(host.networks["host"].endpoint_id.len(), 64);
        assert!(host.ports.is_empty());
        let shared = settings(&view(Phase::Running, "container:other", Vec::new()), &known());
        assert!(shared.networks.is_empty() && shared.sandbox_id.is_empty());
    }

    #[test]
    fn a_network_joined_later_is_shown_as_well() {
        let ends = vec![endpoint("front", &[]), endpoint("back", &["web"])];
        let shown = endpoints(&view(Phase::Running, "front", ends), &known());
        assert_eq!(shown.keys().collect::<Vec<_>>(), ["back", "front"]);
    }
}

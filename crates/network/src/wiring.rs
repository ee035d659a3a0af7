//! From what was decided to what the kernel is told: bridges, wires, rules, names.
use std::net::{IpAddr, SocketAddr};

use corten_linux::netlink::route::link::Port;
use ipnet::IpNet;

use crate::{
    config::Config,
    dns::lookup::View,
    error::Result,
    firewall::model::{BridgeRules, Direct, GatewayMode, PortRule},
    model::{Attachment, Driver, Endpoint, PublishedPort},
    networks::{Live, Options},
    sysctl,
    wire::{self, Gateway, Plug, Wire},
};

/// The endpoint option with switches of its interface.
const SYSCTLS_OPTION: &str = "com.docker.network.endpoint.sysctls";

/// The bridge's own addresses.
pub fn bridge_addresses(live: &Live) -> Vec<IpNet> {
    let Some(options) = live.bridge() else {
        return Vec::new();
    };
    let has_one = |net: &IpNet| match net {
        IpNet::V4(_) => !options.inhibit_ipv4 && options.mode4 != GatewayMode::Isolated,
        IpNet::V6(_) => options.mode6 != GatewayMode::Isolated,
    };
    let subnets = live.network.subnets.iter().filter(|subnet| has_one(&subnet.subnet));
    subnets
        .filter_map(|subnet| IpNet::new(subnet.gateway?, subnet.subnet.prefix_len()).ok())
        .collect()
}

/// What the firewall is told of a network; nothing of those without a bridge.
pub fn bridge_rules(live: &Live, config: &Config) -> Option<BridgeRules> {
    let options = live.bridge()?;
    let network = &live.network;
    let subnets = network.subnets.iter().map(|subnet| subnet.subnet).collect();
    Some(BridgeRules {
        internal: network.internal,
        masquerade4: options.masquerade,
        masquerade6: options.masquerade,
        icc: options.icc,
        proxy: config.proxy,
        direct: match config.direct_routing {
            true => Direct::Everywhere,
            false if options.trusted.is_empty() => Direct::Nowhere,
            false => Direct::From(options.trusted.clone()),
        },
        mode4: options.mode4,
        mode6: options.mode6,
        source4: options.source4.map(IpAddr::V4),
        source6: options.source6.map(IpAddr::V6),
        ..BridgeRules::new(&network.interface, subnets)
    })
}

/// Which networks (ids) have a container's default routes.
#[derive(Debug, Clone, Copy)]
pub struct Defaults<'a> {
    pub ipv4: Option<&'a str>,
    pub ipv6: Option<&'a str>,
}

impl Defaults<'_> {
    pub fn of(attachment: &Attachment) -> Defaults<'_> {
        Defaults {
            ipv4: attachment.default_route4.as_deref(),
            ipv6: attachment.default_route6.as_deref(),
        }
    }
}

/// Where bridged packets go through the firewall as well, one that a container sends to its own published port is turned
/// round by the bridge itself.
pub fn needs_hairpin() -> bool {
    matches!(sysctl::read("bridge/bridge-nf-call-iptables"), Ok(Some(1)))
}

/// An endpoint's interface; `None` where it has none of its own.
/// `hairpin`: see [`needs_hairpin`].
pub fn wire<'a>(live: &'a Live, endpoint: &'a Endpoint, defaults: Defaults, hairpin: bool) -> Result<Option<Wire<'a>>> {
    let parent = &live.network.interface;
    let (plug, mtu) = match (&live.options, live.network.driver) {
        (Options::Bridge(options), _) => {
            let port = Port {
                isolated: !options.icc,
                hairpin,
            };
            let plug = Plug::Bridge {
                bridge: parent,
                host_interface: &endpoint.host_interface,
                port,
            };
            (plug, options.mtu)
        }
        (Options::Vlan(options), Driver::Macvlan) => {
            let mode = options.macvlan;
            (Plug::Macvlan { parent, mode }, options.mtu)
        }
        (Options::Vlan(options), _) => {
            let (mode, flag) = (options.ipvlan, options.flag);
            (Plug::Ipvlan { parent, mode, flag }, options.mtu)
        }
        (Options::None, _) => return Ok(None),
    };
    let ipv4 = defaults.ipv4 == Some(live.id());
    let ipv6 = defaults.ipv6 == Some(live.id());
    let sysctls = endpoint.options.get(SYSCTLS_OPTION).filter(|text| !text.is_empty());
    Ok(Some(Wire {
        network: &live.network.name,
        plug,
        interface: &endpoint.interface,
        mac: endpoint.mac,
        addresses: addresses(endpoint),
        defaults: [
            ipv4.then(|| gateway4(live, endpoint)),
            ipv6.then(|| gateway6(live, endpoint)),
        ]
        .into_iter()
        .flatten()
        .flatten()
        .collect(),
        mtu,
        sysctls: sysctls.map_or(Ok(Vec::new()), |text| wire::sysctls(text))?,
    }))
}

fn addresses(endpoint: &Endpoint) -> Vec<IpNet> {
    let single = |address: &IpAddr| match address {
        // As large as the range of such addresses.
        IpAddr::V4(_) => IpNet::new(*address, 16).ok(),
        IpAddr::V6(_) => IpNet::new(*address, 64).ok(),
    };
    let ipv4 = endpoint.ipv4.map(IpNet::V4);
    let ipv6 = endpoint.ipv6.map(IpNet::V6);
    let link_local = endpoint.link_local.iter().filter_map(single);
    ipv4.into_iter().chain(ipv6).chain(link_local).collect()
}

pub fn gateway4(live: &Live, endpoint: &Endpoint) -> Option<Gateway> {
    let by_interface = || (live.routes_by_interface() && endpoint.ipv4.is_some()).then_some(Gateway::OnLink4);
    let gateway = endpoint.gateway4.map(|gateway| Gateway::Via(gateway.into()));
    gateway.or_else(by_interface)
}

pub fn gateway6(live: &Live, endpoint: &Endpoint) -> Option<Gateway> {
    let by_interface = || (live.routes_by_interface() && endpoint.ipv6.is_some()).then_some(Gateway::OnLink6);
    let gateway = endpoint.gateway6.map(|gateway| Gateway::Via(gateway.into()));
    gateway.or_else(by_interface)
}

/// Where a container's published ports lead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Targets {
    pub ipv4: Option<IpAddr>,
    pub ipv6: Option<IpAddr>,
}

impl Targets {
    pub fn is_empty(self) -> bool {
        self.ipv4.is_none() && self.ipv6.is_none()
    }

    /// For the kernel's own translation. What it cannot do is left to the proxy.
    pub fn rules(self, ports: &[PublishedPort]) -> Vec<PortRule> {
        let rule = |port: &PublishedPort| {
            let target = if port.host_ip.is_ipv4() { self.ipv4 } else { self.ipv6 };
            Some(PortRule {
                protocol: port.protocol,
                host: port.host_ip,
                host_port: port.host_port,
                target: SocketAddr::new(target?, port.container_port),
            })
        };
        ports.iter().filter_map(rule).collect()
    }
}

/// What a container may know of names.
pub fn view(attachment: &Attachment, networks: &[(std::sync::Arc<Live>, Endpoint)]) -> View {
    let named = networks.iter().filter(|(live, _)| !live.network.default_bridge);
    View {
        networks: named.clone().map(|(live, _)| live.id().to_owned()).collect(),
        links: named.flat_map(|(_, endpoint)| endpoint.links.iter().cloned()).collect(),
        servers: attachment.dns.servers.clone(),
        forward: networks.iter().any(|(live, _)| !live.network.internal),
    }
}

//! What the firewall is told: networks and published ports.
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::model::Protocol;

/// How hosts outside reach a network's containers, for one family (`com.docker.network.bridge.gateway_mode_ipv4`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GatewayMode {
    /// By published ports only; what leaves is masqueraded.
    #[default]
    Nat,
    /// As `Nat`, and every port of a container by its own address too.
    NatUnprotected,
    /// By the container's own address, published ports only; nothing is translated.
    Routed,
    /// Not at all; not even the host has an address on the bridge.
    Isolated,
}

/// From where a container's published ports are reached by its own address as well, on a network that translates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Direct {
    /// From the host and from neighbours on the bridge.
    #[default]
    Nowhere,
    /// From these of the host's interfaces (`com.docker.network.bridge.trusted_host_interfaces`).
    From(Vec<String>),
    /// `--allow-direct-routing`
    Everywhere,
}

/// For which families rules are made (`--iptables`, `--ip6tables`). Of the others the table does not say a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switched {
    pub ipv4: bool,
    pub ipv6: bool,
}

impl Switched {
    pub const ON: Switched = Switched { ipv4: true, ipv6: true };

    pub fn has(self, address: IpAddr) -> bool {
        if address.is_ipv4() { self.ipv4 } else { self.ipv6 }
    }

    pub fn is_off(self) -> bool {
        !self.ipv4 && !self.ipv6
    }
}

/// A network of the bridge driver, as the firewall sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeRules {
    pub bridge: String,
    pub subnets: Vec<IpNet>,
    /// No way out and none in.
    pub internal: bool,
    /// What leaves has the host's address, by family.
    pub masquerade4: bool,
    pub masquerade6: bool,
    /// Containers of the network may talk to each other.
    pub icc: bool,
    /// What reaches the sockets of published ports is forwarded by a proxy. See [`BridgeRules::leaves_ports_to_sockets`].
    pub proxy: bool,
    pub mode4: GatewayMode,
    pub mode6: GatewayMode,
    pub direct: Direct,
    /// The host's address that leaving traffic has (`com.docker.network.host_ipv4`), instead of that of the interface.
    pub source4: Option<IpAddr>,
    pub source6: Option<IpAddr>,
}

impl BridgeRules {
    /// A network as it is without any options.
    pub fn new(bridge: impl Into<String>, subnets: Vec<IpNet>) -> BridgeRules {
        BridgeRules {
            bridge: bridge.into(),
            subnets,
            internal: false,
            masquerade4: true,
            masquerade6: true,
            icc: true,
            proxy: true,
            mode4: GatewayMode::Nat,
            mode6: GatewayMode::Nat,
            direct: Direct::Nowhere,
            source4: None,
            source6: None,
        }
    }

    /// Between isolated ports of a bridge the kernel cannot translate while `bridge-nf-call-iptables` is 1: the frame would
    /// stay on the bridge. The proxy makes two connections of one, and neither is between two ports.
    pub(super) fn leaves_ports_to_sockets(&self) -> bool {
        !self.icc && self.proxy && !self.internal
    }

    pub(super) fn mode(&self, address: IpAddr) -> GatewayMode {
        match address {
            IpAddr::V4(_) => self.mode4,
            IpAddr::V6(_) => self.mode6,
        }
    }

    /// Are published ports reached by the container's own address from elsewhere?
    pub(super) fn opens_ports(&self, address: IpAddr) -> bool {
        match self.mode(address) {
            GatewayMode::Routed => true,
            GatewayMode::Nat => self.direct != Direct::Nowhere,
            GatewayMode::NatUnprotected | GatewayMode::Isolated => false,
        }
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.subnets.iter().any(|subnet| subnet.contains(&address))
    }
}

/// A port of the host's that leads to a container. Where the two addresses are of different families the kernel cannot do
/// it: such a rule is accepted, and left to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRule {
    pub protocol: Protocol,
    /// `0.0.0.0` and `::` mean every address of the family.
    pub host: IpAddr,
    pub host_port: u16,
    pub target: SocketAddr,
}

/// What of the host forwards only because we made it: it may do so for our networks alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opened {
    /// Interfaces by name.
    pub ipv4: Vec<String>,
    pub ipv6: Vec<String>,
}

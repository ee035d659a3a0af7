//! What is said about networks: requests, and what they came to. Data only, all of it serializable.
//!
//! A *network* is what users create. An *endpoint* is a container's end of one. A container's endpoints and published
//! ports together, while it runs, are its *attachment*: the engine writes it down with the container's state.
use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// How a network is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    Bridge,
    Macvlan,
    Ipvlan,
    /// The host's own: no endpoint has an interface of its own.
    Host,
    /// Docker's `null`: only a loopback interface.
    Null,
}

impl Driver {
    /// As the API spells it.
    pub fn name(self) -> &'static str {
        match self {
            Driver::Bridge => "bridge",
            Driver::Macvlan => "macvlan",
            Driver::Ipvlan => "ipvlan",
            Driver::Host => "host",
            Driver::Null => "null",
        }
    }
}

/// One subnet as a user wishes it; what is absent is chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetRequest {
    pub subnet: Option<IpNet>,
    /// Addresses are handed out from this part of the subnet.
    pub range: Option<IpNet>,
    pub gateway: Option<IpAddr>,
    /// Addresses that others have, by name: never handed out.
    pub auxiliary: BTreeMap<String, IpAddr>,
}

/// A network as a user wishes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRequest {
    pub name: String,
    /// `bridge` when empty.
    pub driver: String,
    /// IPv4 unless `Some(false)`.
    pub ipv4: Option<bool>,
    /// IPv6 only with `Some(true)`.
    pub ipv6: Option<bool>,
    /// No way out and none in.
    pub internal: bool,
    pub subnets: Vec<SubnetRequest>,
    /// `com.docker.network.*` and `parent`, `macvlan_mode`, …, as given.
    pub options: BTreeMap<String, String>,
}

/// One subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    pub subnet: IpNet,
    pub range: Option<IpNet>,
    /// Of the bridge; for macvlan the router's. Absent on networks that have none.
    pub gateway: Option<IpAddr>,
    pub auxiliary: BTreeMap<String, IpAddr>,
}

/// A network as it was made: enough to make it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// 64 hexadecimal digits.
    pub id: String,
    pub name: String,
    pub driver: Driver,
    pub ipv4: bool,
    pub ipv6: bool,
    pub internal: bool,
    /// Resolved; IPv4 first. Empty for host and null.
    pub subnets: Vec<Subnet>,
    /// As given; the bridge's name is added to none of them.
    pub options: BTreeMap<String, String>,
    /// The interface on the host: the bridge's name, or the parent's for macvlan and ipvlan. Empty for host and null.
    pub interface: String,
    /// The bridge was there before the network, and stays when it goes.
    #[serde(default)]
    pub adopted: bool,
    /// The default bridge: no embedded names, links by /etc/hosts, options of the daemon's.
    pub default_bridge: bool,
}

/// A hardware address, `02:42:ac:11:00:02`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Mac, String> {
        let malformed = || format!("address {text}: invalid MAC address");
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(malformed)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| malformed())?;
        }
        if parts.next().is_some() {
            return Err(malformed());
        }
        Ok(Mac(bytes))
    }
}

impl TryFrom<String> for Mac {
    type Error = String;

    fn try_from(text: String) -> Result<Mac, String> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

/// A container's wish for one network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointRequest {
    /// The network's id.
    pub network: String,
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    pub link_local: Vec<IpAddr>,
    pub mac: Option<Mac>,
    /// What it answers to on this network: the container's name first, then aliases and the short id.
    pub names: Vec<String>,
    /// On user networks: a name that only this container knows, and whom it means.
    pub links: Vec<Link>,
    /// Driver options of the endpoint (`com.docker.network.endpoint.ifname`, `…sysctls`).
    pub options: BTreeMap<String, String>,
    /// The highest of a container's endpoints has the default route; then by network name.
    pub gateway_priority: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub alias: String,
    /// A container's name on the same network.
    pub target: String,
}

/// A container's end of a network, with its addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// 64 hexadecimal digits.
    pub id: String,
    /// The network's id, and its name.
    pub network: String,
    pub network_name: String,
    /// In the container: `eth0`.
    pub interface: String,
    /// On the host: the veth's other end. Empty for macvlan and ipvlan.
    pub host_interface: String,
    pub mac: Option<Mac>,
    pub ipv4: Option<Ipv4Net>,
    pub ipv6: Option<Ipv6Net>,
    pub link_local: Vec<IpAddr>,
    pub gateway4: Option<Ipv4Addr>,
    pub gateway6: Option<Ipv6Addr>,
    pub names: Vec<String>,
    pub links: Vec<Link>,
    pub options: BTreeMap<String, String>,
    pub gateway_priority: i64,
}

impl Endpoint {
    /// Those of its network's subnets.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let ipv4 = self.ipv4.map(|net| IpAddr::V4(net.addr()));
        let ipv6 = self.ipv6.map(|net| IpAddr::V6(net.addr()));
        ipv4.into_iter().chain(ipv6)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    /// The number in an IP header.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

/// A wish for one published port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRequest {
    pub protocol: Protocol,
    pub container_port: u16,
    /// Every address of both families when absent (or of one: `0.0.0.0`, `::`).
    pub host_ip: Option<IpAddr>,
    /// The first free one of these; of the ephemeral range when absent.
    pub host_ports: Option<RangeInclusive<u16>>,
}

/// One published port, as `docker port` lists it. A wish without an address becomes two: `0.0.0.0` and `::`.
/// `host_port` is 0 where the port is reached at the container's own address alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishedPort {
    pub container_port: u16,
    pub protocol: Protocol,
    pub host_ip: IpAddr,
    pub host_port: u16,
}

impl PublishedPort {
    /// Has it no port on the host?
    pub fn is_routed(&self) -> bool {
        self.host_port == 0
    }
}

/// A container's port that another one, which has a link to it, reaches though containers of their network do not reach
/// each other. Both addresses are of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkedPort {
    pub source: IpAddr,
    pub target: IpAddr,
    pub protocol: Protocol,
    pub port: u16,
}

/// How a container finds names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsRequest {
    /// `--dns`: asked from inside the container's namespace. The host's resolvers, asked by the host, when empty.
    pub servers: Vec<IpAddr>,
}

/// What a container asks of networks as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachRequest {
    /// The container's id.
    pub container: String,
    pub endpoints: Vec<EndpointRequest>,
    pub ports: Vec<PortRequest>,
    pub dns: DnsRequest,
    /// A random host port for each of these too (`--publish-all`).
    pub publish_all: Vec<(Protocol, u16)>,
}

/// A running container's networks: addresses and ports that are its own until it is released.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// The container's id.
    pub container: String,
    /// The sandbox's own id, 64 hexadecimal digits: new at each start.
    pub sandbox: String,
    /// In the order of their interfaces.
    pub endpoints: Vec<Endpoint>,
    pub ports: Vec<PublishedPort>,
    /// Ports that it wants to have published as soon as one of its networks leads out by the host.
    pub wishes: Vec<PortRequest>,
    pub dns: DnsRequest,
    /// Which networks (ids) have the default routes.
    pub default_route4: Option<String>,
    pub default_route6: Option<String>,
}

impl Attachment {
    /// Its end of a network, by the network's id.
    pub fn endpoint(&self, network: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.network == network)
    }
}

/// Something about the host that keeps networks from working, and what to do about it: shown by `info`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_read_and_written() {
        let mac: Mac = "02:42:AC-11:00:02".parse().expect("valid");
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        for malformed in [
            "",
            "02:42:ac:11:00",
            "02:42:ac:11:00:02:03",
            "2:42:ac:11:00:02",
            "zz:42:ac:11:00:02",
        ] {
            malformed.parse::<Mac>().expect_err(malformed);
        }
    }
}

//! What an operator decides about networks.
use std::{net::IpAddr, path::PathBuf};

use ipnet::IpNet;

use crate::firewall::model::Switched;

/// What an operator decides about networks.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the nftables table (family inet), and the prefix of everything else that could meet another daemon.
    pub table: String,
    /// Name of the default network's bridge.
    pub bridge: String,
    /// Where subnets are taken from: a pool, and the prefix length of each subnet. Docker's when empty.
    pub address_pools: Vec<(IpNet, u8)>,
    /// What tells this engine from every other on this host and elsewhere (its data root): local IPv6 prefixes derive
    /// from it.
    pub identity: String,
    /// Resolvers of containers that name none; the host's /etc/resolv.conf when empty.
    pub dns: Vec<IpAddr>,
    /// The host's resolver configuration.
    pub resolv_conf: PathBuf,
    /// Where ports are published that name no address.
    pub default_publish_address: Option<IpAddr>,
    /// For which families the firewall has rules. Without them published ports are the proxy's alone, and nothing is
    /// hidden behind the host's address.
    pub firewall: Switched,
    /// Let the host forward packets of containers (`--ip-forward`).
    pub forward: bool,
    /// Published ports are reached by the containers' own addresses from everywhere.
    pub direct_routing: bool,
    /// The default network's bridge is one that an administrator has made, and must be there.
    pub bridge_is_made: bool,
    /// Publish to 127.0.0.1 and [::1] too where the kernel alone cannot (`userland-proxy`).
    pub proxy: bool,
    /// Established connections pass by the kernel's flow table while nobody but us looks at what is forwarded
    /// (`--flow-offload`, an extra).
    pub flow_offload: bool,
}

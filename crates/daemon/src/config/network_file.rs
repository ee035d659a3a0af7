//! `daemon.json`'s keys about networks.
use std::collections::BTreeMap;

use serde::Deserialize;

/// As they stand in the file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct NetworkFile {
    pub bridge: Option<String>,
    pub bip: Option<String>,
    pub bip6: Option<String>,
    pub fixed_cidr: Option<String>,
    pub fixed_cidr_v6: Option<String>,
    pub default_gateway: Option<String>,
    pub default_gateway_v6: Option<String>,
    pub icc: Option<bool>,
    pub ip: Option<String>,
    pub ip_forward: Option<bool>,
    pub ip_masq: Option<bool>,
    pub iptables: Option<bool>,
    pub ip6tables: Option<bool>,
    pub flow_offload: Option<bool>,
    pub ipv6: Option<bool>,
    pub mtu: Option<i64>,
    pub userland_proxy: Option<bool>,
    pub default_address_pools: Vec<FilePool>,
    pub default_network_opts: BTreeMap<String, BTreeMap<String, String>>,
    pub dns: Vec<String>,
    pub dns_opts: Vec<String>,
    pub dns_search: Vec<String>,
    pub host_gateway_ip: Option<String>,
    pub host_gateway_ips: Vec<String>,
    pub allow_direct_routing: Option<bool>,
    pub firewall_backend: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct FilePool {
    pub base: String,
    pub size: i64,
}

/// The keys of [`NetworkFile`].
pub const KEYS: [&str; 26] = [
    "bridge",
    "bip",
    "bip6",
    "fixed-cidr",
    "fixed-cidr-v6",
    "default-gateway",
    "default-gateway-v6",
    "icc",
    "ip",
    "ip-forward",
    "ip-masq",
    "iptables",
    "ip6tables",
    "flow-offload",
    "ipv6",
    "mtu",
    "userland-proxy",
    "default-address-pools",
    "default-network-opts",
    "dns",
    "dns-opts",
    "dns-search",
    "host-gateway-ip",
    "host-gateway-ips",
    "allow-direct-routing",
    "firewall-backend",
];
/// Keys that are accepted and change nothing.
pub const IDLE_KEYS: [&str; 3] = ["userland-proxy-path", "ip-forward-no-drop", "network-control-plane-mtu"];

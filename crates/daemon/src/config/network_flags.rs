//! dockerd's flags about networks.
use clap::{ArgAction, Args};

use crate::config::value::{list, one};

/// The command line's part.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Networks")]
pub struct NetworkFlags {
    /// Bridge of the default network, made by somebody else; `none` for no default network
    #[arg(short = 'b', long, value_name = "NAME")]
    pub bridge: Option<String>,
    /// IPv4 address of the default bridge, with its prefix length
    #[arg(long, value_name = "CIDR")]
    pub bip: Option<String>,
    /// IPv6 address of the default bridge, with its prefix length
    #[arg(long, value_name = "CIDR")]
    pub bip6: Option<String>,
    /// IPv4 subnet that containers of the default bridge get addresses from
    #[arg(long, value_name = "CIDR")]
    pub fixed_cidr: Option<String>,
    /// IPv6 subnet that containers of the default bridge get addresses from
    #[arg(long, value_name = "CIDR")]
    pub fixed_cidr_v6: Option<String>,
    /// IPv4 gateway of the default bridge's containers
    #[arg(long, value_name = "IP")]
    pub default_gateway: Option<String>,
    /// IPv6 gateway of the default bridge's containers
    #[arg(long, value_name = "IP")]
    pub default_gateway_v6: Option<String>,
    /// Containers of the default bridge reach each other
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub icc: Option<bool>,
    /// Address that the default bridge's ports are published on
    #[arg(long, value_name = "IP")]
    pub ip: Option<String>,
    /// Let the kernel forward packets of containers
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub ip_forward: Option<bool>,
    /// The policy of other forwarding is never touched: accepted, changes nothing
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub ip_forward_no_drop: Option<bool>,
    /// Containers of the default bridge appear under the host's address outside
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub ip_masq: Option<bool>,
    /// Make firewall rules (of nftables); without them ports are published by the proxy alone
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub iptables: Option<bool>,
    /// Make firewall rules (of nftables) for IPv6
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub ip6tables: Option<bool>,
    /// Let established connections pass by the kernel's flow table while no other rules look at what is forwarded
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub flow_offload: Option<bool>,
    /// The default bridge has IPv6
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub ipv6: Option<bool>,
    /// MTU of the default bridge's containers
    #[arg(long, value_name = "BYTES")]
    pub mtu: Option<i64>,
    /// Publish to addresses that the kernel alone cannot serve
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub userland_proxy: Option<bool>,
    /// There is no program for it: accepted, changes nothing
    #[arg(long, value_name = "PATH")]
    pub userland_proxy_path: Option<String>,
    /// Where subnets are taken from: base=CIDR,size=BITS
    #[arg(long = "default-address-pool", value_name = "POOL")]
    pub default_address_pools: Vec<String>,
    /// Options of new networks: DRIVER=KEY=VALUE
    #[arg(long = "default-network-opt", value_name = "OPTION")]
    pub default_network_opts: Vec<String>,
    /// Name servers of containers
    #[arg(long, value_name = "IP")]
    pub dns: Vec<String>,
    /// Options of containers' resolvers
    #[arg(long = "dns-opt", alias = "dns-option", value_name = "OPTION")]
    pub dns_opts: Vec<String>,
    /// Domains that containers search names in
    #[arg(long, value_name = "DOMAIN")]
    pub dns_search: Vec<String>,
    /// What host-gateway means in --add-host
    #[arg(long = "host-gateway-ip", value_name = "IP")]
    pub host_gateway_ips: Vec<String>,
    /// Other hosts reach published ports by the containers' own addresses too
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub allow_direct_routing: Option<bool>,
    /// Firewall to use; only `nftables`
    #[arg(long, value_name = "NAME")]
    pub firewall_backend: Option<String>,
    /// There is no swarm: accepted, changes nothing
    #[arg(long, value_name = "BYTES", action = ArgAction::Set)]
    pub network_control_plane_mtu: Option<i64>,
}

impl NetworkFlags {
    /// The keys of `daemon.json` that the command line has decided, with what was given.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, String)> {
        let given = [
            ("bridge", one(&self.bridge)),
            ("bip", one(&self.bip)),
            ("bip6", one(&self.bip6)),
            ("fixed-cidr", one(&self.fixed_cidr)),
            ("fixed-cidr-v6", one(&self.fixed_cidr_v6)),
            ("default-gateway", one(&self.default_gateway)),
            ("default-gateway-v6", one(&self.default_gateway_v6)),
            ("icc", one(&self.icc)),
            ("ip", one(&self.ip)),
            ("ip-forward", one(&self.ip_forward)),
            ("ip-masq", one(&self.ip_masq)),
            ("iptables", one(&self.iptables)),
            ("ip6tables", one(&self.ip6tables)),
            ("flow-offload", one(&self.flow_offload)),
            ("ipv6", one(&self.ipv6)),
            ("mtu", one(&self.mtu)),
            ("userland-proxy", one(&self.userland_proxy)),
            ("default-address-pools", list(&self.default_address_pools)),
            ("default-network-opts", list(&self.default_network_opts)),
            ("dns", list(&self.dns)),
            ("dns-opts", list(&self.dns_opts)),
            ("dns-search", list(&self.dns_search)),
            ("host-gateway-ips", list(&self.host_gateway_ips)),
            ("host-gateway-ip", list(&self.host_gateway_ips)),
            ("allow-direct-routing", one(&self.allow_direct_routing)),
            ("firewall-backend", one(&self.firewall_backend)),
        ];
        given.into_iter().filter_map(|(key, value)| Some((key, value?)))
    }
}

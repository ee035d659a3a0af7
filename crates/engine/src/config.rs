//! What an operator decides about an engine.
use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use corten_api::types::container::Ulimit;
use corten_network::{controller, model::NetworkRequest};

#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// What must survive a reboot: `/var/lib/corten`.
    pub data_root: PathBuf,
    /// What must not: `/run/corten`.
    pub run_root: PathBuf,
    /// The cgroup above the containers' own; `/docker` when absent.
    pub cgroup_parent: Option<String>,
    /// `json-file`, `none`.
    pub log_driver: String,
    /// `max-size`, `max-file`, … of containers that do not say otherwise.
    pub log_options: BTreeMap<String, String>,
    /// Run an init as process 1 where the container does not say otherwise.
    pub init: bool,
    /// Of the daemon, as `/info` shows them.
    pub labels: Vec<String>,
    pub debug: bool,
    pub default_ulimits: Vec<Ulimit>,
    /// Bytes; 0 means 64 MiB.
    pub default_shm_size: i64,
    pub registry_mirrors: Vec<String>,
    pub insecure_registries: Vec<String>,
    pub network: NetworkConfig,
}

/// The operator's part of networks, beside what the network crate needs.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    pub controller: controller::Config,
    /// Subnet, gateway and options of the default `bridge` network (`--bip`, `--fixed-cidr`, `--icc`, `--mtu`, …).
    pub default_bridge: NetworkRequest,
    /// No default bridge at all (`--bridge none`).
    pub no_default_bridge: bool,
    /// Options of new networks that do not say otherwise, by driver.
    pub default_options: BTreeMap<String, BTreeMap<String, String>>,
    /// Search domains and options of containers that name none.
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
    /// What `host-gateway` means in `--add-host`; the default bridge's gateway when empty.
    pub host_gateway_ips: Vec<IpAddr>,
}

impl Default for EngineConfig {
    fn default() -> EngineConfig {
        EngineConfig {
            data_root: PathBuf::from("/var/lib/corten"),
            run_root: PathBuf::from("/run/corten"),
            cgroup_parent: None,
            log_driver: "json-file".to_owned(),
            log_options: BTreeMap::new(),
            init: false,
            labels: Vec::new(),
            debug: false,
            default_ulimits: Vec::new(),
            default_shm_size: 0,
            registry_mirrors: Vec::new(),
            insecure_registries: Vec::new(),
            network: NetworkConfig::default(),
        }
    }
}

impl Default for NetworkConfig {
    fn default() -> NetworkConfig {
        NetworkConfig {
            controller: controller::Config {
                table: "corten".to_owned(),
                bridge: "corten0".to_owned(),
                address_pools: Vec::new(),
                identity: String::new(),
                dns: Vec::new(),
                resolv_conf: PathBuf::from("/etc/resolv.conf"),
                default_publish_address: None,
                proxy: true,
            },
            default_bridge: NetworkRequest::default(),
            no_default_bridge: false,
            default_options: BTreeMap::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            host_gateway_ips: Vec::new(),
        }
    }
}

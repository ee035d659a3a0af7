//! What an operator decides about an engine.
use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use corten_api::types::container::Ulimit;
use corten_network::{config::Config, firewall::model::Switched, model::NetworkRequest};
pub use corten_runtime::cgroup::realtime::Share;

use crate::task::security::Seccomp;

#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// What must survive a reboot: `/var/lib/corten`.
    pub data_root: PathBuf,
    /// What must not: `/run/corten`.
    pub run_root: PathBuf,
    /// The cgroup above the containers' own; `/docker` when absent.
    pub cgroup_parent: Option<String>,
    /// `json-file`, `local`, `syslog`, …; `none` for no log.
    pub log_driver: String,
    /// `max-size`, `max-file`, … of containers that do not say otherwise.
    pub log_options: BTreeMap<String, String>,
    /// Bytes that a container may write where it does not say itself.
    pub default_size: Option<u64>,
    /// Run an init as process 1 where the container does not say otherwise.
    pub init: bool,
    pub default_ulimits: Vec<Ulimit>,
    /// Containers that do not say otherwise cannot gain privileges by executing a program.
    pub no_new_privileges: bool,
    /// The profile of containers that name none.
    pub seccomp: Seccomp,
    pub proxies: Proxies,
    /// `--userns-remap`: `default`, `user[:group]` or `uid[:gid]`. Containers are in user namespaces of their own then.
    pub userns_remap: Option<String>,
    pub network: NetworkConfig,
    /// Real-time processor time of all containers together, of cgroup v1.
    pub realtime: Share,
    /// Where descriptions of devices are (Container Device Interface), the most important last.
    pub cdi_spec_dirs: Vec<PathBuf>,
    /// What may change later, as it is at the start.
    pub live: Live,
}

/// What the engine's own traffic goes through; empty where the environment decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    pub http: String,
    pub https: String,
    /// Hosts that are reached without one.
    pub none: String,
}

/// What an operator may decide anew while the engine runs ([`crate::engine::Engine::reload`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    pub debug: bool,
    /// Of the daemon, as `/info` shows them.
    pub labels: Vec<String>,
    /// Containers go on when the engine closes.
    pub live_restore: bool,
    /// How long containers may take to stop where they do not go on; negative means for ever.
    pub shutdown_timeout_seconds: i64,
    /// Bytes; 0 means 64 MiB.
    pub default_shm_size: i64,
    /// `private` or `shareable`.
    pub default_ipc_mode: String,
    /// `private`, `host`, or empty for the default of the host's cgroup version.
    pub default_cgroupns_mode: String,
    pub registry_mirrors: Vec<String>,
    pub insecure_registries: Vec<String>,
    /// 0 means that nobody counts.
    pub max_concurrent_downloads: u32,
    pub max_concurrent_uploads: u32,
    pub max_download_attempts: u32,
    /// Named switches: `cdi`, which is on unless it is switched off; others are known to clients and mean nothing here.
    pub features: BTreeMap<String, bool>,
}

impl Default for Live {
    fn default() -> Live {
        Live {
            debug: false,
            labels: Vec::new(),
            live_restore: true,
            shutdown_timeout_seconds: 15,
            default_shm_size: 0,
            default_ipc_mode: "private".to_owned(),
            default_cgroupns_mode: String::new(),
            registry_mirrors: Vec::new(),
            insecure_registries: Vec::new(),
            max_concurrent_downloads: 3,
            max_concurrent_uploads: 5,
            max_download_attempts: 5,
            features: BTreeMap::new(),
        }
    }
}

impl Live {
    /// The attributes of the event `reload`, under the names of `daemon.json`.
    pub fn attributes(&self) -> BTreeMap<String, String> {
        let list = |items: &[String]| serde_json::to_string(items).expect("text always serializes");
        let values = [
            ("debug", self.debug.to_string()),
            ("labels", list(&self.labels)),
            ("live-restore", self.live_restore.to_string()),
            ("shutdown-timeout", self.shutdown_timeout_seconds.to_string()),
            ("default-shm-size", self.default_shm_size.to_string()),
            ("default-ipc-mode", self.default_ipc_mode.clone()),
            ("default-cgroupns-mode", self.default_cgroupns_mode.clone()),
            ("registry-mirrors", list(&self.registry_mirrors)),
            ("insecure-registries", list(&self.insecure_registries)),
            ("max-concurrent-downloads", self.max_concurrent_downloads.to_string()),
            ("max-concurrent-uploads", self.max_concurrent_uploads.to_string()),
            ("max-download-attempts", self.max_download_attempts.to_string()),
        ];
        let mut attributes: BTreeMap<_, _> = values
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        if !self.features.is_empty() {
            let features = serde_json::to_string(&self.features).expect("switches always serialize");
            attributes.insert("features".to_owned(), features);
        }
        attributes
    }
}

/// The operator's part of networks, beside what the network crate needs.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    pub controller: Config,
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
            default_size: None,
            init: false,
            default_ulimits: Vec::new(),
            no_new_privileges: false,
            seccomp: Seccomp::Default,
            proxies: Proxies::default(),
            userns_remap: None,
            network: NetworkConfig::default(),
            live: Live::default(),
            realtime: Share::default(),
            cdi_spec_dirs: ["/etc/cdi", "/var/run/cdi"].map(PathBuf::from).to_vec(),
        }
    }
}

impl Default for NetworkConfig {
    fn default() -> NetworkConfig {
        NetworkConfig {
            controller: Config {
                table: "corten".to_owned(),
                bridge: "corten0".to_owned(),
                address_pools: Vec::new(),
                identity: String::new(),
                dns: Vec::new(),
                resolv_conf: PathBuf::from("/etc/resolv.conf"),
                default_publish_address: None,
                firewall: Switched::ON,
                forward: true,
                direct_routing: false,
                bridge_is_made: false,
                proxy: true,
                flow_offload: true,
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

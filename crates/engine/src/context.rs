//! What every service needs, and where sync meets async.
//!
//! The store and the runtime are synchronous. What takes microseconds is called directly; what reads or writes more
//! than a record goes through [`blocking`].
use std::{path::PathBuf, sync::Arc};

use corten_network::controller::Controller;
use corten_runtime::launcher::Launcher;
use corten_store::store::Store;

use crate::{
    config::EngineConfig,
    error::{Error, Result},
    events::EventBus,
    host::Host,
    network::networks::Networks,
    task::profiles::Profiles,
    volume::volumes::Volumes,
};

pub struct Context {
    pub config: EngineConfig,
    pub host: Host,
    pub store: Arc<Store>,
    pub events: EventBus,
    pub launcher: Launcher,
    pub volumes: Volumes,
    /// What is live of networks: blocking, for [`blocking`].
    pub networks: Arc<Controller>,
    pub network_records: Networks,
    pub profiles: Profiles,
    /// Our own executable: a container's process 1 where an init is wanted.
    pub program: PathBuf,
}

impl Context {
    /// The cgroup of a container, from the hierarchy's root.
    pub fn cgroup(&self, parent: &str, id: &str) -> String {
        let parent = match (parent, &self.config.cgroup_parent) {
            ("", None) => "/docker",
            ("", Some(default)) => default,
            (own, _) => own,
        };
        format!("/{}/{id}", parent.trim_matches('/'))
    }
}

/// Runs what may wait for a disk, away from the threads that serve everybody.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::system("an operation of the engine's panicked").because(error)),
    }
}

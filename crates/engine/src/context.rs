//! What every service needs, and where sync meets async.
//!
//! The store and the runtime are synchronous. What takes microseconds is called directly; what reads or writes more
//! than a record goes through [`blocking`].
use std::{
    path::PathBuf,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use corten_network::controller::Controller;
use corten_runtime::{launcher::Launcher, rootfs::owners::IdMaps};
use corten_store::store::Store;

use crate::{
    config::{EngineConfig, Live},
    container::execs::Execs,
    error::{Error, Result},
    events::EventBus,
    host::Host,
    log::keeper::Keeper,
    network::networks::Networks,
    task::profiles::Profiles,
    volume::volumes::Volumes,
};

pub struct Context {
    pub config: EngineConfig,
    /// What is in force of the part that may change.
    pub live: RwLock<Arc<Live>>,
    /// The daemon ends and containers with it: policies start none any more.
    pub stopping: AtomicBool,
    pub host: Host,
    pub store: Arc<Store>,
    pub events: EventBus,
    pub launcher: Launcher,
    pub volumes: Volumes,
    /// What is live of networks: blocking, for [`blocking`].
    pub networks: Arc<Controller>,
    pub network_records: Networks,
    pub profiles: Profiles,
    /// What is done for logs that shims write.
    pub keeper: Keeper,
    pub execs: Execs,
    /// Who users of containers are on the host, where those have user namespaces of their own.
    pub remap: Option<IdMaps>,
    /// Our own executable: a container's process 1 where an init is wanted.
    pub program: PathBuf,
}

impl Context {
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Waits until what was removed is deleted from the disk too.
    pub async fn finish_deletions(self: &Arc<Self>) -> Result<()> {
        let context = Arc::clone(self);
        blocking(move || {
            context.store.finish_deletions();
            Ok(())
        })
        .await
    }

    /// What is in force at the moment.
    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live.read().expect("no panic while locked"))
    }

    /// The cgroup of a container, from the hierarchy's root.
    pub fn cgroup(&self, parent: &str, id: &str) -> String {
        format!("/{}/{id}", self.cgroup_parent(parent).trim_matches('/'))
    }

    /// Where descriptions of devices are; nowhere when the operator has switched them off.
    pub fn cdi_spec_dirs(&self) -> &[PathBuf] {
        match self.live().features.get("cdi") {
            Some(false) => &[],
            _ => &self.config.cdi_spec_dirs,
        }
    }

    /// The cgroup above a container's, which may ask for its own.
    pub fn cgroup_parent<'a>(&'a self, asked: &'a str) -> &'a str {
        match (asked, &self.config.cgroup_parent) {
            ("", None) => "/docker",
            ("", Some(default)) => default,
            (own, _) => own,
        }
    }
}

/// Runs what may wait for a disk, away from the threads that serve everybody.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::system("an operation of the engine's panicked").because(error)),
    }
}

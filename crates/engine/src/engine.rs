//! The engine: everything that one daemon has, opened and closed as one.
//!
//! `open` reconciles what the records say with what shims and the kernel say; `close` leaves containers running.
use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use corten_network::controller::Controller;
use corten_runtime::launcher::Launcher;
use corten_store::{layout::Layout, store::Store};
use tokio_util::sync::CancellationToken;

pub use crate::config::EngineConfig;
use crate::{
    config::Live,
    container::{restore, revive, service::ContainerService, shutdown, table::Table},
    context::{Context, blocking},
    error::{Error, Result},
    events::EventBus,
    host::Host,
    image::service::ImageService,
    log::keeper::Keeper,
    network::{open, service::NetworkService},
    remap::{self, Etc},
    system::{self, SystemView},
    volume::{service::VolumeService, volumes::Volumes},
};

/// Clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    context: Arc<Context>,
    table: Arc<Table>,
    containers: ContainerService,
    images: Arc<ImageService>,
    volumes: VolumeService,
    networks: NetworkService,
    closing: CancellationToken,
}

impl Engine {
    /// Opens the data root, finds the containers that run, and repairs what a crash left half-done.
    pub async fn open(config: EngineConfig) -> Result<Engine> {
        let events = EventBus::new();
        let context = {
            let events = events.clone();
            Arc::new(blocking(move || open_context(config, events)).await?)
        };
        let table = Arc::new(Table::default());
        let closing = CancellationToken::new();
        let images = Arc::new(ImageService::new(
            Arc::clone(&context.store),
            events,
            Arc::clone(&table) as Arc<_>,
        ));
        open::load(&context)?;
        restore::restore(&context, &table, &closing).await?;
        let containers = ContainerService::new(
            Arc::clone(&context),
            Arc::clone(&table),
            Arc::clone(&images),
            closing.clone(),
        );
        let volumes = VolumeService::new(Arc::clone(&context), Arc::clone(&table));
        let networks = NetworkService::new(Arc::clone(&context), Arc::clone(&table));
        tokio::spawn(revive::revive(Arc::clone(&table), closing.clone()));
        Ok(Engine {
            inner: Arc::new(Inner {
                context,
                table,
                containers,
                images,
                volumes,
                networks,
                closing,
            }),
        })
    }

    /// Stops all containers, for an end that they are not to outlive. None is started by its restart policy any more.
    pub async fn stop_containers(&self, timeout_seconds: i64) {
        self.inner.context.stopping.store(true, Ordering::SeqCst);
        shutdown::stop_all(&self.inner.table, timeout_seconds).await;
    }

    /// Lets go of everything; containers go on running.
    pub async fn close(&self) {
        self.inner.closing.cancel();
        self.inner.context.keeper.close();
    }

    pub fn config(&self) -> &EngineConfig {
        &self.inner.context.config
    }

    /// What is in force of the part that may change.
    pub fn live(&self) -> Arc<Live> {
        self.inner.context.live()
    }

    /// Puts decisions into force that may change while the engine runs, and tells everybody.
    pub fn reload(&self, live: Live) -> Result<()> {
        let context = &self.inner.context;
        let mut attributes = live.attributes();
        attributes.insert("name".to_owned(), system::host_name());
        *context.live.write().expect("no panic while locked") = Arc::new(live);
        context
            .events
            .publish("daemon", "reload", system::identity(context)?, attributes);
        Ok(())
    }

    pub fn containers(&self) -> &ContainerService {
        &self.inner.containers
    }

    pub fn images(&self) -> &ImageService {
        &self.inner.images
    }

    pub fn volumes(&self) -> &VolumeService {
        &self.inner.volumes
    }

    pub fn networks(&self) -> &NetworkService {
        &self.inner.networks
    }

    pub fn events(&self) -> &EventBus {
        &self.inner.context.events
    }

    /// What `/info` and `/version` tell.
    pub async fn info(&self) -> Result<SystemView> {
        let images = self
            .inner
            .images
            .list(false, &Default::default())
            .await
            .map_or(0, |images| images.len());
        let (context, table) = (Arc::clone(&self.inner.context), Arc::clone(&self.inner.table));
        blocking(move || system::view(&context, &table, images)).await
    }
}

fn open_context(config: EngineConfig, events: EventBus) -> Result<Context> {
    let remap = config.userns_remap.as_deref().filter(|value| !value.is_empty());
    let remap = remap.map(|value| remap::resolve(value, &Etc(Path::new("/etc")), &config.data_root));
    let remap = remap.transpose()?;
    make_run_root(&config.run_root)?;
    let layout = Layout::new(&config.data_root, &config.run_root);
    make_run_root(&layout.tasks())?;
    let failed = |error| Error::system("cannot open the data root").because(error);
    let store = Arc::new(Store::open(layout).map_err(failed)?);
    let launcher = Launcher::spawn().map_err(|error| Error::system("cannot start the launcher").because(error))?;
    // After the launcher, so that containers begin with the limit that the operator set.
    raise_open_files();
    let program =
        std::env::current_exe().map_err(|error| Error::system("cannot find our own program").because(error))?;
    let mut network = config.network.controller.clone();
    if network.identity.is_empty() {
        network.identity = config.data_root.to_string_lossy().into_owned();
    }
    let networks =
        Controller::open(network).map_err(|error| Error::system("cannot open the host's networks").because(error))?;
    Ok(Context {
        networks: Arc::new(networks),
        network_records: Default::default(),
        stopping: AtomicBool::new(false),
        host: Host::probe(),
        volumes: Volumes::open(Arc::clone(&store), events.clone())?,
        live: RwLock::new(Arc::new(config.live.clone())),
        config,
        store,
        events,
        launcher,
        profiles: Default::default(),
        keeper: Keeper::new().map_err(|error| Error::system("cannot watch logs").because(error))?,
        execs: Default::default(),
        remap,
        program,
    })
}

fn make_run_root(path: &Path) -> Result<()> {
    match fs::DirBuilder::new().recursive(true).mode(0o711).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::system(format!("cannot create {}", path.display())).because(error))
        }
        _ => Ok(()),
    }
}

/// Each container costs a few descriptors; the usual soft limit of 1024 is for programs that call select(2).
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

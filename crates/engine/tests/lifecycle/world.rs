//! A world of a test's own: data root, run root, cgroup parent, engine. All of it goes with the test.
use std::{
    path::Path,
    time::{Duration, Instant},
};

use corten_api::types::container::{ContainerConfig, HostConfig};
use corten_engine::{
    container::{
        create::Base,
        view::{CreateOptions, RemoveOptions, WaitCondition, WaitResult},
    },
    engine::{Engine, EngineConfig},
};
use tempfile::TempDir;

pub const BUSYBOX: &str = "/usr/bin/busybox";
/// Longer than anything takes on a loaded machine; only a failing test waits this long.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct World {
    pub directory: TempDir,
    pub engine: Option<Engine>,
}

pub fn unavailable() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root");
    }
    (!Path::new(BUSYBOX).exists()).then_some("needs a static busybox in /usr/bin")
}

/// Asks again and again until it is so.
pub async fn wait_until(what: &str, is_true: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Call it before any thread exists.
pub fn leave_the_hosts_network() {
    const CLONE_NEWNET: u64 = 0x4000_0000;
    corten_linux::namespace::unshare(CLONE_NEWNET).expect("a network namespace");
    corten_linux::namespace::bring_loopback_up().expect("a loopback");
}

impl World {
    pub async fn new() -> World {
        let directory = tempfile::tempdir().expect("a directory");
        let mut world = World {
            directory,
            engine: None,
        };
        world.open().await;
        world
    }

    /// Another daemon in place of the one before.
    pub async fn open(&mut self) {
        let config = config(self.directory.path(), &parent());
        self.open_with(config).await;
    }

    /// Another daemon, configured otherwise.
    pub async fn open_with(&mut self, config: EngineConfig) {
        self.close().await;
        // The data root's lock goes with the last supervisor of the engine before.
        let end = Instant::now() + PATIENCE;
        loop {
            match Engine::open(config.clone()).await {
                Ok(engine) => {
                    self.engine = Some(engine);
                    return;
                }
                Err(error) if error.to_string().contains("another daemon") && Instant::now() < end => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => panic!("cannot open the engine: {error}"),
            }
        }
    }

    pub async fn close(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.close().await;
        }
    }

    pub fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("open")
    }

    pub async fn create(&self, options: CreateOptions) -> String {
        self.engine()
            .containers()
            .create_on(Base::default(), options)
            .await
            .expect("created")
            .id
    }

    pub async fn start(&self, options: CreateOptions) -> String {
        let id = self.create(options).await;
        self.engine().containers().start(&id).await.expect("started");
        id
    }

    /// Runs to the end; answers with id and exit code.
    pub async fn run(&self, options: CreateOptions) -> (String, WaitResult) {
        let id = self.create(options).await;
        let containers = self.engine().containers();
        let end = containers.wait(&id, WaitCondition::NextExit).await.expect("waiting");
        containers.start(&id).await.expect("started");
        (id, end.await)
    }

    /// Waits until a container has printed `ready`: what its script did before that is done.
    pub async fn wait_for_ready(&self, id: &str) {
        let log = self
            .directory
            .path()
            .join(format!("data/containers/{id}/log/{id}-json.log"));
        wait_until("the container is ready", || {
            std::fs::read_to_string(&log).is_ok_and(|text| text.contains("ready"))
        })
        .await;
    }

    /// Waits until the end of a container is known, or is written down for the next daemon.
    pub async fn wait_for_end(&self, id: &str) {
        let task = self.directory.path().join("run/tasks").join(id);
        wait_until("the container ends", || {
            !task.exists() || corten_runtime::state::read_exit(&task).is_ok_and(|exit| exit.is_some())
        })
        .await;
    }

    pub async fn remove(&self, id: &str) {
        let options = RemoveOptions {
            force: true,
            volumes: true,
        };
        self.engine().containers().remove(id, options).await.expect("removed");
    }

    /// Names in one directory of the data root or run root.
    pub fn names(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.directory.path().join(path)).expect(path);
        entries
            .map(|entry| entry.expect(path).file_name().to_string_lossy().into_owned())
            .collect()
    }

    /// Nothing of any container is left.
    pub fn assert_clean(&self) {
        for path in ["data/active", "data/containers", "data/volumes", "run/tasks"] {
            assert_eq!(self.names(path), Vec::<String>::new(), "{path}");
        }
        assert_eq!(cgroups(), Vec::<String>::new());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Containers outlive engines: those of a test that failed must not outlive the test.
        for id in self.names("run/tasks") {
            let task = self.directory.path().join("run/tasks").join(id);
            corten_engine::task::launch::abandon(&task);
        }
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = std::fs::remove_dir(hierarchy.path().join(parent()));
        }
        let _ = std::fs::remove_dir(Path::new("/sys/fs/cgroup").join(parent()));
    }
}

pub fn config(directory: &Path, parent: &str) -> EngineConfig {
    EngineConfig {
        data_root: directory.join("data"),
        run_root: directory.join("run"),
        cgroup_parent: Some(format!("/{parent}")),
        ..EngineConfig::default()
    }
}

/// The cgroup above all containers of this process.
pub fn parent() -> String {
    format!("corten-test-{}-engine", std::process::id())
}

/// Cgroups of this test's containers, in any hierarchy.
pub fn cgroups() -> Vec<String> {
    let mut found = Vec::new();
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        let entries = std::fs::read_dir(hierarchy.path().join(parent()))
            .into_iter()
            .flatten()
            .flatten();
        let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        found.extend(directories.map(|entry| entry.path().to_string_lossy().into_owned()));
    }
    found
}

/// A container without an image: the host's busybox in an empty root.
pub fn shell(script: &str) -> CreateOptions {
    CreateOptions {
        config: ContainerConfig {
            image: "none".to_owned(),
            cmd: Some(["/bin/busybox", "sh", "-c", script].map(str::to_owned).to_vec()),
            attach_stdout: true,
            ..ContainerConfig::default()
        },
        host_config: HostConfig {
            network_mode: "none".to_owned(),
            binds: Some(vec![format!("{BUSYBOX}:/bin/busybox:ro")]),
            ..HostConfig::default()
        },
        ..CreateOptions::default()
    }
}

pub fn named(name: &str, mut options: CreateOptions) -> CreateOptions {
    options.name = Some(name.to_owned());
    options
}

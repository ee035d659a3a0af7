//! Containers outlive daemons, and daemons repair what others left.
use std::time::{Duration, Instant};

use corten_api::types::{container::PortBinding, network::EndpointSettings};
use corten_engine::{
    container::{
        create::Base,
        view::{AttachOptions, ContainerView, ListOptions, LogsOptions, RemoveOptions, WaitCondition},
    },
    engine::Engine,
    error::Kind,
    network::record::CreateNetwork,
};
use corten_network::model::NetworkRequest;
use futures_util::StreamExt;
use tokio::io::AsyncReadExt;

use crate::world::{PATIENCE, World, config, parent, shell, wait_until};

/// The argument that makes this executable a daemon to be killed.
pub const VICTIM: &str = "victim";

crate::tests![
    a_running_container_is_found_again,
    an_end_without_a_daemon_is_known_to_the_next,
    what_a_daemon_paused_and_did_not_say_goes_on,
    a_dead_shim_takes_its_container_with_it,
    what_a_crash_left_is_swept_up,
    a_daemon_may_be_killed_at_any_instant,
    networks_are_what_records_say_after_any_kill,
];

async fn a_running_container_is_found_again() {
    let mut world = World::new().await;
    let id = world.start(shell("while :; do echo tick; sleep 0.1; done")).await;
    let pid = world.engine().containers().inspect(&id).expect("known").state.pid;
    world.open().await;
    let state = world.engine().containers().inspect(&id).expect("known").state;
    assert_eq!((state.phase.status(), state.pid), ("running", pid));
    let options = AttachOptions {
        stdout: true,
        stream: true,
        ..AttachOptions::default()
    };
    let attachment = world
        .engine()
        .containers()
        .attach(&id, options)
        .await
        .expect("attached");
    let (mut client, server) = tokio::io::duplex(1 << 16);
    tokio::spawn(attachment.run(server, std::future::pending()));
    let mut frame = [0; 13];
    client.read_exact(&mut frame).await.expect("prints");
    assert_eq!(&frame[8..], b"tick\n");
    world.remove(&id).await;
    world.assert_clean();
}

/// Freezes a process's cgroup, or thaws it, behind the back of every daemon.
fn set_frozen(pid: i32, frozen: bool) {
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it lives");
    let path = |beginning: &str| {
        cgroups
            .lines()
            .find_map(|line| line.split_once(beginning))
            .map(|(_, path)| path)
    };
    let (file, word) = match path(":freezer:") {
        Some(path) => {
            let file = format!("/sys/fs/cgroup/freezer{path}/freezer.state");
            (file, if frozen { "FROZEN" } else { "THAWED" })
        }
        None => {
            let path = path("0::").expect("there is always one");
            (
                format!("/sys/fs/cgroup{path}/cgroup.freeze"),
                if frozen { "1" } else { "0" },
            )
        }
    };
    std::fs::write(&file, word).expect(&file);
}

async fn what_a_daemon_paused_and_did_not_say_goes_on() {
    let mut world = World::new().await;
    let options = || shell("trap 'exit 4' TERM; echo ready; while :; do sleep 0.01; done");
    let (unsaid, undone) = (world.start(options()).await, world.start(options()).await);
    for id in [&unsaid, &undone] {
        world.wait_for_ready(id).await;
    }
    let state = |world: &World, id: &str| world.engine().containers().inspect(id).expect("known").state;
    world.engine().containers().pause(&undone).await.expect("paused");
    let pids = [&unsaid, &undone].map(|id| state(&world, id).pid);
    world.close().await;
    set_frozen(pids[0], true);
    set_frozen(pids[1], false);
    world.open().await;
    for id in [&unsaid, &undone] {
        assert_eq!(state(&world, id).phase.status(), "running");
        world
            .engine()
            .containers()
            .stop(id, None, Some(10))
            .await
            .expect("stopped");
        assert_eq!(state(&world, id).exit_code, 4, "it was asked to end, and could");
        world.remove(id).await;
    }
    world.assert_clean();
}

async fn an_end_without_a_daemon_is_known_to_the_next() {
    let mut world = World::new().await;
    let id = world.start(shell("sleep 0.3; echo said; exit 9")).await;
    let mut gone = shell("sleep 0.3");
    gone.host_config.auto_remove = true;
    let gone = world.start(gone).await;
    world.close().await;
    for id in [&id, &gone] {
        world.wait_for_end(id).await;
    }
    world.open().await;
    let containers = world.engine().containers();
    let state = containers.inspect(&id).expect("known").state;
    assert_eq!((state.phase.status(), state.exit_code), ("exited", 9));
    assert!(containers.inspect(&gone).is_err());
    let both = LogsOptions {
        stdout: true,
        stderr: true,
        ..LogsOptions::default()
    };
    let mut logs = containers.logs(&id, both).await.expect("opened");
    let chunk = logs.next().await.expect("printed").expect("readable");
    assert_eq!(&chunk[8..], b"said\n");
    drop(logs);
    world.remove(&id).await;
    world.assert_clean();
}

async fn a_dead_shim_takes_its_container_with_it() {
    let world = World::new().await;
    let id = world.start(shell("sleep 100")).await;
    let containers = world.engine().containers();
    let end = containers.wait(&id, WaitCondition::NextExit).await.expect("waiting");
    let task = world.directory.path().join("run/tasks").join(&id);
    let shim = corten_runtime::state::read_state(&task)
        .expect("readable")
        .expect("there")
        .shim_pid;
    let pid = rustix::process::Pid::from_raw(shim).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
    assert_eq!(end.await.exit_code, 137);
    let state = containers.inspect(&id).expect("known").state;
    assert!(state.error.contains("shim died"), "{state:?}");
    world.remove(&id).await;
    world.assert_clean();
}

async fn what_a_crash_left_is_swept_up() {
    let mut world = World::new().await;
    let id = world.create(shell("true")).await;
    world.close().await;
    for path in [
        "data/active/litter/upper",
        "data/containers/litter",
        "data/volumes/litter/_data",
        "run/tasks/litter",
    ] {
        std::fs::create_dir_all(world.directory.path().join(path)).expect("made");
    }
    world.open().await;
    assert_eq!(world.names("data/active"), std::slice::from_ref(&id));
    world.remove(&id).await;
    world.assert_clean();
}

/// Containers of all kinds, until somebody kills this process.
pub async fn churn(directory: std::path::PathBuf, parent: String, networked: bool) {
    let engine = Engine::open(config(&directory, &parent)).await.expect("open");
    if networked {
        return churn_networks(&engine).await;
    }
    let mut tasks = Vec::new();
    for number in 0..3 {
        let engine = engine.clone();
        tasks.push(tokio::spawn(async move {
            for round in 0.. {
                let containers = engine.containers();
                let mut options = shell(if round % 3 == 0 {
                    "sleep 100"
                } else {
                    "echo said; exit 3"
                });
                options.host_config.auto_remove = round % 2 == 0;
                options.config.volumes = Some([("/data".to_owned(), Default::default())].into());
                let id = containers
                    .create_on(Base::default(), options)
                    .await
                    .expect("created")
                    .id;
                let _ = containers.start(&id).await;
                if round % 4 == 1 {
                    let _ = containers.pause(&id).await;
                }
                if (round + number) % 5 == 2 {
                    let options = RemoveOptions {
                        force: true,
                        volumes: true,
                    };
                    let _ = containers.remove(&id, options).await;
                }
            }
        }));
    }
    for task in tasks {
        task.await.expect("goes on");
    }
}

/// Containers with published ports, that come and go, join and leave.
async fn churn_networks(engine: &Engine) {
    let back = CreateNetwork {
        request: NetworkRequest {
            name: "back".to_owned(),
            ..NetworkRequest::default()
        },
        ..CreateNetwork::default()
    };
    let _ = engine.networks().create(back).await;
    let mut tasks = Vec::new();
    for number in 0..3_u16 {
        let engine = engine.clone();
        tasks.push(tokio::spawn(async move {
            for round in 0.. {
                let containers = engine.containers();
                let mut options = shell(if round % 3 == 0 { SERVER } else { "exit 3" });
                options.host_config.network_mode = if round % 2 == 0 { "bridge" } else { "back" }.to_owned();
                options.host_config.auto_remove = round % 2 == 0;
                let binding = PortBinding {
                    host_ip: String::new(),
                    host_port: (21_000 + number * 10 + round % 2).to_string(),
                };
                options.host_config.port_bindings = Some([("80/tcp".to_owned(), Some(vec![binding]))].into());
                let created = containers.create_on(Base::default(), options).await.expect("created");
                let id = created.id;
                let _ = containers.start(&id).await;
                let networks = engine.networks();
                if round % 4 == 0 {
                    let _ = networks.connect("back", &id, EndpointSettings::default()).await;
                    let _ = networks.disconnect("bridge", &id, false).await;
                }
                if round % 5 > 0 {
                    let options = RemoveOptions {
                        force: true,
                        volumes: true,
                    };
                    let _ = containers.remove(&id, options).await;
                }
            }
        }));
    }
    for task in tasks {
        task.await.expect("goes on");
    }
}

const SERVER: &str = "while :; do echo here | /bin/busybox nc -l -p 80; done";

async fn networks_are_what_records_say_after_any_kill() {
    let mut world = World::new().await;
    for round in 0..8_u64 {
        world.close().await;
        // The lock is released with the last supervisor.
        tokio::time::sleep(Duration::from_millis(100)).await;
        kill_a_daemon(&world, true, 300 + 41 * round).await;
        world.open().await;
        let containers = world.engine().containers();
        let views = everybody(&world).await;
        let mut addresses = std::collections::BTreeSet::new();
        for view in &views {
            let (id, state) = (&view.record.id, &view.state);
            let Some(attachment) = &state.attachment else {
                assert!(!state.phase.is_running(), "{id} runs without its addresses");
                continue;
            };
            assert!(state.phase.is_running(), "{id} has addresses and does not run");
            for address in attachment.endpoints.iter().filter_map(|endpoint| endpoint.ipv4) {
                assert!(addresses.insert(address), "{address} is had twice");
            }
            let serves = view.record.argv().last().is_some_and(|script| script == SERVER);
            for port in attachment.ports.iter().filter(|port| serves && port.host_ip.is_ipv4()) {
                crate::networks::hear((std::net::Ipv4Addr::LOCALHOST, port.host_port).into());
            }
        }
        for view in &views {
            let (id, phase) = (&view.record.id, view.state.phase);
            if phase.status() == "created" {
                // A start that was cut off kept nothing: neither ports nor addresses.
                let started = containers.start(id).await;
                let refused = started.err().map(|error| error.to_string()).unwrap_or_default();
                assert!(refused.is_empty() || refused.contains("already allocated"), "{refused}");
            }
            let options = RemoveOptions {
                force: true,
                volumes: true,
            };
            // One that ended by itself may be gone already.
            let _ = containers.remove(id, options).await;
        }
        world.assert_clean();
        nothing_is_plugged_in();
    }
    world.engine().networks().remove("back").await.expect("nobody is on it");
}

/// No container's interface is left, and no port leads anywhere.
fn nothing_is_plugged_in() {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // The kernel takes its time with namespaces that nobody has any more.
        let interfaces = std::fs::read_to_string("/proc/thread-self/net/dev").expect("readable");
        let names = interfaces
            .lines()
            .filter_map(|line| Some(line.split_once(':')?.0.trim()));
        let plugged: Vec<&str> = names.filter(|name| name.starts_with("veth")).collect();
        if plugged.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "{plugged:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let listed = std::process::Command::new("/usr/sbin/nft")
        .args(["list", "map", "inet", "corten", "any4"])
        .output();
    if let Ok(listed) = listed {
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert!(!text.contains("elements"), "{text}");
    }
}

/// Starts a daemon that is busy, and kills it after a while.
async fn kill_a_daemon(world: &World, networked: bool, after_milliseconds: u64) {
    let kind = if networked { "networks" } else { "containers" };
    let mut victim = std::process::Command::new(std::env::current_exe().expect("known"))
        .args([
            VICTIM.as_ref(),
            world.directory.path().as_os_str(),
            parent().as_ref(),
            kind.as_ref(),
        ])
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("started");
    tokio::time::sleep(Duration::from_millis(after_milliseconds)).await;
    victim.kill().expect("killed");
    victim.wait().expect("reaped");
}

async fn a_daemon_may_be_killed_at_any_instant() {
    let mut world = World::new().await;
    for round in 0..8_u64 {
        world.close().await;
        // The lock is released with the last supervisor.
        tokio::time::sleep(Duration::from_millis(100)).await;
        kill_a_daemon(&world, false, 250 + 37 * round).await;

        world.open().await;
        let containers = world.engine().containers();
        let end = Instant::now() + PATIENCE;
        let all = loop {
            let all = everybody(&world).await;
            let mut found: Vec<String> = all.iter().map(|view| view.record.id.clone()).collect();
            found.sort();
            // Directories and writable layers; one that ends at this moment may be on its way out.
            let [directories, layers] = ["data/containers", "data/active"].map(|path| {
                let mut names = world.names(path);
                names.sort();
                names
            });
            if directories == found && layers == found {
                break all;
            }
            assert!(
                Instant::now() < end,
                "{directories:?} and {layers:?} are not those of {found:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        for view in &all {
            let (id, phase) = (&view.record.id, view.state.phase);
            match phase.status() {
                "running" | "paused" => {
                    // One that was frozen on its way to its end has just gone on.
                    let lives = || std::path::Path::new(&format!("/proc/{}", view.state.pid)).exists();
                    let is_said_to = || containers.inspect(id).is_ok_and(|now| now.state.phase.is_running());
                    wait_until("what is said to run does so", || lives() || !is_said_to()).await;
                }
                "exited" => assert!([3, 137].contains(&view.state.exit_code), "{:?}", view.state),
                status => assert_eq!(status, "created"),
            }
            if phase.status() == "created" {
                // A container whose start was cut off can be started as if nothing had been.
                containers.start(id).await.expect("started");
            }
            let options = RemoveOptions {
                force: true,
                volumes: true,
            };
            // One that ended by itself may be gone already.
            if let Err(error) = containers.remove(id, options).await {
                assert_eq!(error.kind(), Kind::NotFound, "{error}");
            }
        }
        world.assert_clean();
    }
}

async fn everybody(world: &World) -> Vec<ContainerView> {
    let all = ListOptions {
        all: true,
        ..ListOptions::default()
    };
    world.engine().containers().list(all).await.expect("listed")
}

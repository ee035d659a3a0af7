//! Containers outlive daemons, and daemons repair what others left.
use corten_engine::container::view::{AttachOptions, LogsOptions, WaitCondition};
use futures_util::StreamExt;
use tokio::io::AsyncReadExt;

use crate::world::{World, shell};

crate::tests![
    a_running_container_is_found_again,
    an_end_without_a_daemon_is_known_to_the_next,
    a_dead_shim_takes_its_container_with_it,
    what_a_crash_left_is_swept_up,
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
    tokio::spawn(attachment.run(server));
    let mut frame = [0; 13];
    client.read_exact(&mut frame).await.expect("prints");
    assert_eq!(&frame[8..], b"tick\n");
    world.remove(&id).await;
    world.assert_clean();
}

async fn an_end_without_a_daemon_is_known_to_the_next() {
    let mut world = World::new().await;
    let id = world.start(shell("sleep 0.3; echo said; exit 9")).await;
    let mut gone = shell("sleep 0.3");
    gone.host_config.auto_remove = true;
    let gone = world.start(gone).await;
    world.close().await;
    tokio::time::sleep(std::time::Duration::from_millis(900)).await;
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

//! Daemons and shims that die at the wrong moment.
use std::{fs, os::fd::AsFd, path::Path};

use corten_runtime::{
    shim::{
        connection::{receive, reconnect, send},
        protocol::{FromShim, Reply, ToShim, level},
    },
    state::{clean_up, read_exit, read_state},
};
use rustix::process::{Pid, Signal, kill_process};

use super::{
    Test,
    world::{Container, World, launcher},
};

pub const TESTS: &[Test] = &[
    ("a_new_daemon_finds_the_shim", a_new_daemon_finds_the_shim),
    (
        "an_exit_without_a_daemon_is_written_down",
        an_exit_without_a_daemon_is_written_down,
    ),
    ("a_container_that_was_never_started_ends_with_its_daemon", never_started),
    (
        "a_killed_shim_can_be_cleared_up_after",
        a_killed_shim_can_be_cleared_up_after,
    ),
    (
        "a_killed_shim_takes_a_waiting_child_with_it",
        a_killed_shim_takes_a_waiting_child_with_it,
    ),
    ("a_killed_launcher_is_replaced", a_killed_launcher_is_replaced),
    ("shims_are_small", shims_are_small),
];

fn pid(number: i32) -> Pid {
    Pid::from_raw(number).unwrap()
}

/// Gone, or a zombie that nobody reaps here.
fn is_dead(number: i32) -> bool {
    match fs::read_to_string(format!("/proc/{number}/stat")) {
        Err(_) => true,
        Ok(stat) => stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'),
    }
}

fn wait_until(what: impl Fn() -> bool) {
    // A minute: longer than anything takes on a loaded machine.
    for _ in 0..6000 {
        if what() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("it did not happen");
}

fn a_new_daemon_finds_the_shim() {
    let world = World::new();
    let container = world
        .script("trap 'echo bye; exit 3' TERM; echo up; sleep 1000 & wait")
        .start()
        .unwrap();
    let state = container.state().clone();
    drop(container);
    wait_until(|| world.printed() == "up\n");
    assert!(read_state(&world.path("task")).unwrap().unwrap().started);
    let mut container = Container {
        connection: reconnect(&world.path("task")).unwrap(),
        pidfd: None,
        state: None,
        exit: None,
    };
    let reply = container.ask(ToShim::Hello, &[]).unwrap();
    let mut wanted = state;
    wanted.started = true;
    let level = level::PRESENT;
    assert_eq!(reply, Reply::HereAt { state: wanted, level });
    assert!(container.pidfd.is_some());
    container.signal(15);
    assert_eq!(container.wait().code, 3);
    assert_eq!(world.printed(), "up\nbye\n");
}

fn an_exit_without_a_daemon_is_written_down() {
    let world = World::new();
    let container = world.script("sleep 0.2; echo done; exit 9").start().unwrap();
    drop(container);
    wait_until(|| read_exit(&world.path("task")).unwrap().is_some());
    assert_eq!(read_exit(&world.path("task")).unwrap().unwrap().code, 9);
    assert_eq!(world.printed(), "done\n");
    world.assert_no_cgroup();
}

fn never_started() {
    let world = World::new();
    let container = world.create().unwrap();
    let (child, shim) = (container.state().pid, container.state().shim_pid);
    drop(container);
    wait_until(|| is_dead(child) && is_dead(shim));
    world.assert_nothing_left();
}

fn a_killed_shim_can_be_cleared_up_after() {
    let world = World::new();
    let container = world.script("sleep 1000 & sleep 1000").start().unwrap();
    let state = container.state().clone();
    kill_process(pid(state.shim_pid), Signal::KILL).unwrap();
    assert!(receive(container.connection.as_fd()).unwrap().is_none());
    assert!(!is_dead(state.pid));
    assert!(reconnect(&world.path("task")).is_err());
    let state = read_state(&world.path("task")).unwrap().unwrap();
    clean_up(&state).unwrap();
    wait_until(|| is_dead(state.pid));
    world.assert_no_cgroup();
    clean_up(&state).unwrap();
}

fn a_killed_shim_takes_a_waiting_child_with_it() {
    let world = World::new();
    let container = world.create().unwrap();
    let state = container.state().clone();
    kill_process(pid(state.shim_pid), Signal::KILL).unwrap();
    wait_until(|| is_dead(state.pid));
    clean_up(&state).unwrap();
    world.assert_no_cgroup();
}

fn a_killed_launcher_is_replaced() {
    let world = World::new();
    let mut container = world.arguments(&["sleep", "1000"]).start().unwrap();
    let first = launcher().pid();
    kill_process(pid(first as i32), Signal::KILL).unwrap();
    wait_until(|| is_dead(first as i32));
    assert_eq!(World::new().run().0, 0);
    assert_ne!(launcher().pid(), first);
    container.signal(9);
    assert_eq!(container.wait().code, 137);
}

fn shims_are_small() {
    let world = World::new();
    world.request(|request| request.stdio.open_stdin = true);
    let mut container = world.script("seq 100000; exec sleep 1000").start().unwrap();
    wait_until(|| world.printed().ends_with("100000\n"));
    let private = || {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", container.state().shim_pid)).unwrap();
        let field = |name: &str| -> u64 {
            let line = rollup.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
        };
        // Clean pages are the executable's, and shared as soon as there are two shims.
        field("Private_Dirty")
    };
    wait_until(|| private() <= 300);
    println!("    a resting shim has {} KiB of memory of its own", private());
    assert!(Path::new("/proc").exists());
    container.signal(9);
    container.wait();
    let message = send(container.connection.as_fd(), &ToShim::Hello, &[]);
    assert!(message.is_err() || !matches!(receive(container.connection.as_fd()), Ok(Some((FromShim::Reply(_), _)))));
}

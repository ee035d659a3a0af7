//! Black-box tests: the real binary, driven by the unmodified docker command line, on the real kernel, as root.
//!
//! A file per capability, each test a sentence. What they share is in `crates/testkit`.
use std::env;

use corten_testkit::{
    command::Output,
    daemon::{Arguments, Daemon, Setup},
    image,
};

mod access;
mod activation;
mod api;
mod attach_ws;
mod bollard;
mod cdi;
mod cgroup2;
mod commit;
mod compatibility;
mod compose;
mod compose_project;
mod contexts;
mod copy;
mod copy_hostile;
mod daemon;
mod daemon_reload;
mod devices;
mod diff_export;
mod events;
mod exec;
mod exec_hostile;
mod failures;
mod guest;
mod health;
mod hostile;
mod idmap;
mod images;
mod import_url;
mod leaks;
mod lifecycle;
mod log_drivers;
mod log_modes;
mod logs;
mod metrics;
mod mounts;
mod namespaces;
mod network;
mod network_api;
mod network_bridge;
mod network_cli;
mod network_errors;
mod network_flows;
mod network_links;
mod network_names;
mod network_operator;
mod network_ports;
mod network_recovery;
mod network_services;
mod network_user;
mod openapi;
mod own_cli;
mod python_sdk;
mod quota;
mod removal;
mod restart;
mod restart_order;
mod robust;
mod run;
mod run_isolation;
mod run_limits;
mod run_mounts;
mod run_user;
mod service;
mod shims;
mod stats;
mod streams;
mod survival;
mod tls;
mod tty;
mod update;
mod userns;
mod volume_cli;
mod volumes;

/// The program under test, or another one that has the same face.
fn setup() -> Setup {
    let other = env::var("CORTEN_TEST_BINARY").ok();
    Setup::new(other.as_deref().unwrap_or(env!("CARGO_BIN_EXE_corten")))
}

/// A daemon with `busybox:latest` in it.
fn daemon() -> Daemon {
    let daemon = setup().start();
    daemon.load(&image::busybox());
    daemon
}

/// `docker run --rm --network none OPTIONS busybox sh -c SCRIPT`.
#[track_caller]
fn sh(daemon: &Daemon, options: impl Arguments, script: &str) -> Output {
    busybox(daemon, "run --rm", options, script)
}

/// `docker run --network none OPTIONS busybox sh -c SCRIPT`: it is there when it has ended.
#[track_caller]
fn kept(daemon: &Daemon, options: impl Arguments, script: &str) -> Output {
    busybox(daemon, "run", options, script)
}

/// `docker run -d --network none OPTIONS busybox sh -c SCRIPT`; the id.
#[track_caller]
fn background(daemon: &Daemon, options: impl Arguments, script: &str) -> String {
    busybox(daemon, "run -d", options, script).ok()
}

/// `docker create --network none OPTIONS busybox sh -c SCRIPT`; the id.
#[track_caller]
fn create(daemon: &Daemon, options: impl Arguments, script: &str) -> String {
    busybox(daemon, "create", options, script).ok()
}

#[track_caller]
fn busybox(daemon: &Daemon, command: &str, options: impl Arguments, script: &str) -> Output {
    let mut words = format!("{command} --network none").words();
    words.extend(options.words());
    words.extend(["busybox", "sh", "-c", script].words());
    daemon.docker(words)
}

/// A script that reads the kernel's log, a device that no container has by itself. Who is about to read a record that the
/// kernel overwrites in that moment gets an error, and asks again.
fn read_kernel_log(path: &str) -> String {
    format!("for again in 1 2 3 4 5; do dd if={path} of=/dev/null bs=8192 count=1 && break; done")
}

/// A container that only waits, and ends at once when it is told to.
const WAIT: &str = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done";

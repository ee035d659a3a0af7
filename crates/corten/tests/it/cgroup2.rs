//! A host with nothing but cgroup2, on whatever host this is: a mount namespace with one hierarchy.
use std::fs;

use corten_testkit::{cgroup, daemon::Daemon, image, wait::wait_until};

use crate::{WAIT, background, read_kernel_log, setup, sh};

/// Where cgroup2 is mounted outside; its controllers may belong to v1.
const MOUNT: &str = "umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec \"$0\" \"$@\"";

fn daemon() -> Daemon {
    let daemon = setup()
        .wrapper(["unshare", "--mount", "--propagation", "private", "sh", "-c", MOUNT])
        .start();
    daemon.load(&image::busybox());
    daemon
}

fn has_controllers() -> bool {
    let lists = cgroup::hierarchies()
        .into_iter()
        .map(|path| path.join("cgroup.controllers"));
    lists
        .filter_map(|path| fs::read_to_string(path).ok())
        .any(|list| list.contains("memory"))
}

#[test]
fn containers_run_pause_and_die_on_cgroup2() {
    let daemon = daemon();
    assert_eq!(
        daemon
            .docker("run --rm --network none busybox cat /proc/self/cgroup")
            .ok()
            .lines()
            .last(),
        Some("0::/")
    );
    background(&daemon, "--name box", WAIT);
    daemon.docker("pause box").ok();
    assert_eq!(daemon.status("box"), "paused");
    daemon.docker("unpause box").ok();
    background(&daemon, "--name forks", "setsid sleep 1000 & sleep 0.1; exit 0");
    daemon.docker("wait forks").ok();
    daemon.docker("rm -f box forks").ok();
    wait_until("no cgroup is left", || {
        cgroup::directories(daemon.cgroup_parent())
            .iter()
            .all(|path| path.ends_with(daemon.cgroup_parent().trim_start_matches('/')))
    });
}

#[test]
fn devices_are_guarded_by_a_program_on_cgroup2() {
    let daemon = daemon();
    let output = sh(&daemon, "", "mknod /x c 1 11 && head -c 1 /x");
    assert!(
        output.clone().fails(1).contains("Operation not permitted"),
        "{output:?}"
    );
    sh(&daemon, "", "echo x >/dev/null && head -c 1 /dev/zero").ok();
    let script = read_kernel_log("/dev/kmsg");
    sh(&daemon, "--cap-add SYSLOG --device /dev/kmsg", &script).ok();
}

#[test]
fn a_limit_without_its_controller_is_said_and_never_silent() {
    let daemon = daemon();
    let output = daemon.docker("run --rm --network none --memory 64m busybox true");
    if has_controllers() {
        output.ok();
    } else {
        assert!(output.code == 125 || output.error().contains("memory"), "{output:?}");
    }
}

#[test]
fn containers_are_found_again_on_cgroup2() {
    let mut daemon = daemon();
    background(&daemon, "--name box", WAIT);
    daemon.wait_for_log("box", "ready");
    let pid = daemon.container_pid("box");
    daemon.kill_and_start();
    assert_eq!(daemon.container_pid("box"), pid);
    daemon.docker("stop box").ok();
    assert_eq!(daemon.inspect("box")["State"]["ExitCode"], 0);
}

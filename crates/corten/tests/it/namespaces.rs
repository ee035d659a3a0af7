//! Namespaces shared between containers, and with the host.
use corten_testkit::{daemon::Daemon, process, wait::wait_until};
use serde_json::json;

use crate::{WAIT, background, daemon, restart::within_a_pause, sh};

fn same(daemon: &Daemon, kind: &str, one: &str, other: &str) -> bool {
    let inode = |name| process::namespace(daemon.container_pid(name), kind).expect("it runs");
    inode(one) == inode(other)
}

#[test]
fn processes_of_another_container_are_seen_and_die_with_it() {
    let daemon = daemon();
    let id = background(&daemon, "--name donor", "exec sleep 4242");
    background(&daemon, "--name guest --pid container:donor", WAIT);
    assert!(same(&daemon, "pid", "donor", "guest") && !same(&daemon, "mnt", "donor", "guest"));
    let donor = daemon.container_pid("donor");
    wait_until("the shell has become sleep", || {
        process::command_line(donor) == ["sleep", "4242"]
    });
    let seen = sh(&daemon, "--pid container:donor", "ps -o args").ok();
    assert!(seen.contains("sleep 4242") && seen.contains("trap"), "{seen}");
    assert_eq!(
        sh(&daemon, "--pid container:donor", "tr '\\0' ' ' </proc/1/cmdline")
            .ok()
            .trim(),
        "sleep 4242"
    );
    // A rename changes nothing: the id is what was kept.
    assert_eq!(
        daemon.inspect("guest")["HostConfig"]["PidMode"],
        format!("container:{id}")
    );
    // A guest goes alone.
    background(&daemon, "--name other --pid container:donor", "sleep 1000 & sleep 1000");
    daemon.docker("rm -f other").ok();
    assert_eq!(
        (daemon.status("donor").as_str(), daemon.status("guest").as_str()),
        ("running", "running")
    );
    daemon.docker("kill donor").ok();
    daemon.wait_for_status("guest", "exited");
    assert_eq!(daemon.inspect("guest")["State"]["ExitCode"], 137);
    daemon.assert_nothing_runs();
}

#[test]
fn a_guest_of_a_pid_namespace_ends_with_all_its_processes() {
    let daemon = daemon();
    background(&daemon, "--name donor", WAIT);
    sh(&daemon, "--pid container:donor", "sleep 4243 & sleep 4243 & true").ok();
    wait_until("they are gone", || {
        !sh(&daemon, "--pid container:donor", "ps -o args")
            .ok()
            .contains("sleep 4243")
    });
}

#[test]
fn shared_memory_and_queues_of_a_shareable_container_are_shared() {
    let daemon = daemon();
    background(
        &daemon,
        "--name donor --ipc shareable --shm-size 1m",
        &format!("echo hello >/dev/shm/word; {WAIT}"),
    );
    daemon.wait_for_log("donor", "ready");
    background(
        &daemon,
        "--name guest --ipc container:donor",
        &format!("cat /dev/shm/word; {WAIT}"),
    );
    daemon.wait_for_log("guest", "hello");
    assert!(same(&daemon, "ipc", "donor", "guest"));
    let script =
        "echo back >/dev/shm/answer; df -k /dev/shm | tail -1 | awk '{print $2}'; grep -c ' /dev/shm ' /proc/mounts";
    assert_eq!(sh(&daemon, "--ipc container:guest", script).ok(), "1024\n1");
    assert_eq!(daemon.exec("donor", ["cat", "/dev/shm/answer"]).ok(), "back");
    let options = daemon.exec("guest", ["grep", " /dev/shm ", "/proc/mounts"]).ok();
    assert!(options.contains("nosuid,nodev,noexec"), "{options}");
    // Who leaves takes nothing away.
    daemon.docker("rm -f guest").ok();
    assert_eq!(daemon.exec("donor", ["cat", "/dev/shm/word"]).ok(), "hello");
}

#[test]
fn a_mount_of_the_users_own_at_the_shared_memory_holds() {
    let daemon = daemon();
    background(
        &daemon,
        "--name donor --ipc shareable",
        &format!("touch /dev/shm/theirs; {WAIT}"),
    );
    daemon.wait_for_log("donor", "ready");
    assert_eq!(
        sh(&daemon, "--ipc container:donor --tmpfs /dev/shm", "ls /dev/shm").ok(),
        ""
    );
}

#[test]
fn a_symbolic_link_instead_of_shared_memory_leads_nowhere() {
    let daemon = daemon();
    background(
        &daemon,
        "--name donor --ipc shareable --privileged",
        &format!("umount /dev/shm && rmdir /dev/shm && ln -s /proc/1/root /dev/shm && {WAIT}"),
    );
    daemon.wait_for_log("donor", "ready");
    let error = sh(&daemon, "--ipc container:donor", "ls /dev/shm").fails(125);
    assert!(error.contains("cannot share /dev/shm of another container"), "{error}");
    daemon.docker("rm -f donor").ok();
    wait_until("nothing is left", || daemon.docker("ps -aq").ok().lines().count() <= 1);
}

#[test]
fn who_does_not_share_or_does_not_run_cannot_be_joined() {
    let daemon = daemon();
    let private = background(&daemon, "--name private", WAIT);
    let none = background(&daemon, "--name none --ipc none", WAIT);
    let stopped = background(&daemon, "--name stopped --ipc shareable", "true");
    daemon.wait_for_status("stopped", "exited");
    let hint = "non-shareable IPC (hint: use IpcMode:shareable for the donor container)";
    for (option, message) in [
        (
            "--ipc container:private",
            format!("failed to join IPC namespace: container {private}: {hint}"),
        ),
        (
            "--ipc container:none",
            format!("failed to join IPC namespace: container {none}: {hint}"),
        ),
        (
            "--ipc container:stopped",
            format!("failed to join IPC namespace: container {stopped} is not running"),
        ),
        (
            "--pid container:stopped",
            format!("failed to join PID namespace: container {stopped} is not running"),
        ),
        ("--pid container:nobody", "No such container: nobody".to_owned()),
        ("--ipc container:nobody", "No such container: nobody".to_owned()),
    ] {
        let error = sh(&daemon, option, "true").fails(125);
        assert!(error.contains(&message), "{option}: {error}");
    }
    for (host_config, message) in [
        (json!({"PidMode": "container:"}), "invalid PID mode: container:"),
        (json!({"IpcMode": "often"}), "invalid IPC mode: often"),
        (
            json!({"UTSMode": "container:private"}),
            "invalid UTS mode: container:private",
        ),
        (
            json!({"CgroupnsMode": "container:private"}),
            "invalid cgroup namespace mode: container:private",
        ),
    ] {
        let body = json!({"Image": "busybox", "HostConfig": host_config});
        let refused = daemon.api().post("/containers/create", Some(&body)).expect(400);
        assert_eq!(refused.message(), message);
    }
}

#[test]
fn one_that_waits_for_its_restart_cannot_be_joined() {
    let daemon = daemon();
    let id = background(&daemon, "--name donor --restart always --ipc shareable", "exit 1");
    let wait = format!("Container {id} is restarting, wait until the container is running");
    for option in [
        "--pid container:donor",
        "--ipc container:donor",
        "--network container:donor",
    ] {
        let mut words = vec!["run", "--rm"];
        words.extend(option.split(' '));
        words.extend(["busybox", "true"]);
        let output = within_a_pause(&daemon, "donor", || daemon.docker(words.as_slice()));
        let error = output.fails(125);
        assert!(error.contains(&wait), "{option}: {error}");
    }
}

#[test]
fn namespaces_of_the_host_are_the_hosts() {
    let daemon = daemon();
    background(
        &daemon,
        "--name box --pid host --ipc host --uts host --cgroupns host",
        WAIT,
    );
    let (mine, theirs) = (std::process::id() as i32, daemon.container_pid("box"));
    for kind in ["pid", "ipc", "uts", "cgroup"] {
        assert_eq!(
            process::namespace(mine, kind),
            process::namespace(theirs, kind),
            "{kind}"
        );
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    assert_eq!(daemon.exec("box", ["hostname"]).ok(), host);
    let error = daemon
        .docker("run --rm --network none --uts host --hostname other busybox true")
        .fails(125);
    assert!(
        error.contains("conflicting options: hostname and the UTS mode"),
        "{error}"
    );
    daemon.docker("rm -f box").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn a_cgroup_namespace_of_its_own_hides_the_way_to_it() {
    let daemon = daemon();
    let paths = |mode: &str| sh(&daemon, ["--cgroupns", mode], "cut -d: -f3 /proc/self/cgroup | sort -u").ok();
    assert_eq!(paths("private"), "/");
    assert!(paths("host").contains(daemon.cgroup_parent()), "{}", paths("host"));
}

#[test]
fn guests_survive_the_death_of_the_daemon() {
    let mut daemon = daemon();
    background(&daemon, "--name donor --ipc shareable", WAIT);
    background(
        &daemon,
        "--name guest --pid container:donor --ipc container:donor",
        WAIT,
    );
    let pid = daemon.container_pid("guest");
    daemon.kill_and_start();
    assert_eq!(daemon.container_pid("guest"), pid);
    daemon.docker("restart guest").ok();
    assert!(same(&daemon, "pid", "donor", "guest") && same(&daemon, "ipc", "donor", "guest"));
    daemon.docker("rm -f guest donor").ok();
    daemon.assert_nothing_remains();
}

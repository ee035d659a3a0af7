//! A shim that is stopped, stuck or killed: bounded waits, clear errors, and nobody else is held up.
use corten_testkit::{process, wait::wait_until};
use rustix::process::Signal;

use crate::{WAIT, background, daemon};

#[test]
fn a_container_whose_shim_is_stopped_can_be_removed_and_others_do_not_notice() {
    let daemon = daemon();
    background(&daemon, "--name box", WAIT);
    let (pid, shim) = (daemon.container_pid("box"), daemon.shim_pid("box"));
    process::signal(shim, Signal::STOP);
    let mut attach = daemon.docker_command("attach --no-stdin box").spawn().unwrap();
    // What needs no shim works as ever, and so does everybody else.
    assert_eq!(daemon.status("box"), "running");
    daemon.docker("run --rm --network none busybox true").ok();
    daemon.docker("rm -f box").ok();
    wait_until("its processes and its shim are dead", || {
        !process::is_alive(pid) && !process::is_alive(shim)
    });
    let _ = attach.wait();
    daemon.assert_nothing_remains();
}

#[test]
fn what_only_a_stopped_shim_could_do_fails_in_bounded_time_with_the_remedy() {
    let daemon = daemon();
    background(&daemon, "--name box -t", WAIT);
    let shim = daemon.shim_pid("box");
    process::signal(shim, Signal::STOP);
    let refused = daemon
        .api()
        .post("/containers/box/resize?h=10&w=10", None)
        .expect(500)
        .message();
    assert!(
        refused.contains(&format!("(process {shim}) does not answer")),
        "{refused}"
    );
    process::signal(shim, Signal::CONT);
    // Its late answer confuses nobody.
    daemon.api().post("/containers/box/resize?h=11&w=12", None).expect(200);
    assert_eq!(
        daemon.exec("box", ["sh", "-c", "stty size </proc/1/fd/0"]).ok(),
        "11 12"
    );
    daemon.docker("stop -t 1 box").ok();
    daemon.docker("rm box").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn a_daemon_finds_a_container_whose_shim_is_stopped() {
    let mut daemon = daemon();
    background(&daemon, "--name box --restart unless-stopped", WAIT);
    background(&daemon, "--name other", WAIT);
    daemon.wait_for_log("box", "ready");
    let (pid, shim) = (daemon.container_pid("box"), daemon.shim_pid("box"));
    process::signal(shim, Signal::STOP);
    daemon.kill_and_start();
    assert_eq!(
        (daemon.status("box").as_str(), daemon.container_pid("box")),
        ("running", pid)
    );
    assert_eq!(daemon.status("other"), "running");
    process::signal(shim, Signal::CONT);
    daemon.docker("stop box").ok();
    assert_eq!(daemon.inspect("box")["State"]["ExitCode"], 0);
    daemon.docker("rm -f box other").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn a_paused_container_is_killed_and_removed_like_any_other() {
    let daemon = daemon();
    for verb in ["rm -f box", "kill box", "stop -t 1 box"] {
        background(&daemon, "--name box", WAIT);
        daemon.docker("pause box").ok();
        daemon.docker(verb).ok();
        if !verb.starts_with("rm") {
            daemon.wait_for_status("box", "exited");
            daemon.docker("rm box").ok();
        }
    }
    daemon.assert_nothing_remains();
}

#[test]
fn a_memory_kill_is_told_when_it_happens() {
    let daemon = daemon();
    background(
        &daemon,
        "--name box --memory 24m --memory-swap 24m",
        "tail /dev/zero; echo survived; while :; do sleep 0.05; done",
    );
    daemon.wait_for_log("box", "survived");
    wait_until("it is told", || {
        daemon.inspect("box")["State"]["OOMKilled"].as_bool() == Some(true)
    });
    assert_eq!(daemon.status("box"), "running");
    let told = daemon.events(&serde_json::json!({"event": ["oom"], "container": ["box"]}));
    assert_eq!(told.len(), 1);
    daemon.docker("kill box").ok();
    daemon.wait_for_status("box", "exited");
    assert_eq!(
        daemon.events(&serde_json::json!({"event": ["oom"]})).len(),
        1,
        "told once"
    );
}

//! A container's life: the ways between its states, and what is told about each.
use std::fs;

use corten_testkit::{image, process, wait::wait_until};
use serde_json::json;

use crate::{WAIT, background, create, daemon, kept};

#[test]
fn a_container_is_created_started_stopped_and_removed() {
    let daemon = daemon();
    create(&daemon, "--name box", WAIT);
    assert_eq!(daemon.status("box"), "created");
    assert_eq!(daemon.docker("start box").ok(), "box");
    assert_eq!(daemon.status("box"), "running");
    daemon.wait_for_log("box", "ready");
    assert_eq!(daemon.docker("stop box").ok(), "box");
    let state = &daemon.inspect("box")["State"];
    assert_eq!(
        (
            state["Status"].as_str(),
            state["ExitCode"].as_i64(),
            state["Pid"].as_i64()
        ),
        (Some("exited"), Some(0), Some(0))
    );
    daemon.assert_nothing_runs();
    assert_eq!(daemon.docker("rm box").ok(), "box");
    daemon.assert_nothing_remains();
}

#[test]
fn stop_waits_then_kills() {
    let daemon = daemon();
    background(
        &daemon,
        "--name deaf",
        "trap '' TERM; echo ready; while :; do sleep 0.05; done",
    );
    daemon.wait_for_log("deaf", "ready");
    daemon.docker("stop -t 1 deaf").ok();
    assert_eq!(daemon.inspect("deaf")["State"]["ExitCode"], 137);
    // Stopping what is stopped changes nothing.
    daemon.docker("stop deaf").ok();
    daemon.api().post("/containers/deaf/stop", None).expect(304);
}

#[test]
fn stop_sends_the_signal_of_the_image() {
    let daemon = daemon();
    daemon.load(&image::busybox().tagged("usr1:1").with("StopSignal", json!("SIGUSR1")));
    let script =
        "trap 'exit 11' USR1; trap 'exit 12' TERM; trap 'exit 13' HUP; echo ready; while :; do sleep 0.05; done";
    for (options, verb, code) in [
        (vec![], "stop", 11),
        (vec!["--stop-signal", "HUP"], "stop", 13),
        (vec![], "stop -s TERM", 12),
        (vec![], "kill -s USR1", 11),
    ] {
        let mut words = vec!["run", "-d", "--name", "box", "--network", "none"];
        words.extend(&options);
        words.extend(["usr1:1", "sh", "-c", script]);
        daemon.docker(words.as_slice()).ok();
        daemon.wait_for_log("box", "ready");
        daemon.docker(&format!("{verb} box")).ok();
        assert_eq!(daemon.docker("wait box").ok(), code.to_string(), "{options:?} {verb}");
        daemon.docker("rm box").ok();
    }
}

#[test]
fn stop_timeouts_of_the_container_are_kept() {
    let daemon = daemon();
    background(
        &daemon,
        "--name box --stop-timeout 0",
        "trap '' TERM; echo ready; while :; do sleep 0.05; done",
    );
    daemon.wait_for_log("box", "ready");
    daemon.docker("stop box").ok();
    assert_eq!(daemon.inspect("box")["State"]["ExitCode"], 137);
}

#[test]
fn kill_needs_something_to_kill() {
    let daemon = daemon();
    let id = background(&daemon, "--name box", WAIT);
    assert_eq!(daemon.docker("kill box").ok(), "box");
    assert_eq!(daemon.docker("wait box").ok(), "137");
    let error = daemon.docker("kill box").fails(1);
    let expected = format!("Error response from daemon: cannot kill container: box: container {id} is not running");
    assert_eq!(error, expected);
    let error = daemon.docker("kill nothing").fails(1);
    assert_eq!(
        error,
        "Error response from daemon: cannot kill container: nothing: No such container: nothing"
    );
    let error = daemon.docker("kill -s NO_SUCH c").fails(1);
    assert_eq!(
        error,
        "Error response from daemon: cannot kill container: c: invalid signal: NO_SUCH"
    );
}

#[test]
fn restart_keeps_the_container_and_its_files() {
    let daemon = daemon();
    let id = background(&daemon, "--name box", &format!("echo run >>/runs; cat /runs; {WAIT}"));
    daemon.wait_for_log("box", "ready");
    let first = daemon.container_pid("box");
    daemon.docker("restart box").ok();
    wait_until("the second run is ready", || {
        daemon.docker("logs box").ok().matches("ready").count() == 2
    });
    assert_ne!(daemon.container_pid("box"), first);
    assert_eq!(daemon.docker("logs box").ok(), "run\nready\nrun\nrun\nready");
    assert_eq!(daemon.inspect("box")["Id"].as_str().unwrap(), id);
    daemon.docker("stop box").ok();
    daemon.docker("restart box").ok();
    assert_eq!(daemon.status("box"), "running");
}

#[test]
fn a_paused_container_stands_still() {
    let daemon = daemon();
    background(
        &daemon,
        "--name box",
        "i=0; while :; do i=$((i+1)); echo $i | tee /count; sleep 0.01; done",
    );
    daemon.wait_for_log("box", "3");
    let count = format!("/proc/{}/root/count", daemon.container_pid("box"));
    daemon.docker("pause box").ok();
    let state = &daemon.inspect("box")["State"];
    assert_eq!(
        (
            state["Status"].as_str(),
            state["Paused"].as_bool(),
            state["Running"].as_bool()
        ),
        (Some("paused"), Some(true), Some(true))
    );
    // What it has printed may still be on its way into the log.
    let before = fs::read_to_string(&count).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(fs::read_to_string(&count).unwrap(), before);
    let id = daemon.inspect("box")["Id"].as_str().unwrap().to_owned();
    let error = daemon.docker("pause box").fails(1);
    assert!(error.contains(&format!("Container {id} is already paused")), "{error}");
    assert!(daemon.docker("ps").ok().contains("(Paused)"));
    daemon.docker("unpause box").ok();
    wait_until("it goes on", || fs::read_to_string(&count).unwrap() != before);
    let error = daemon.docker("unpause box").fails(1);
    assert!(error.contains("is not paused"), "{error}");
    // A paused container can be stopped, killed and removed.
    daemon.docker("pause box").ok();
    daemon.docker("rm -f box").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn a_paused_container_can_be_stopped() {
    let daemon = daemon();
    background(&daemon, "--name box", WAIT);
    daemon.wait_for_log("box", "ready");
    daemon.docker("pause box").ok();
    daemon.docker("stop -t 5 box").ok();
    assert_eq!(daemon.status("box"), "exited");
    daemon.assert_nothing_runs();
}

#[test]
fn names_change() {
    let daemon = daemon();
    daemon.docker("create --name one --network none busybox").ok();
    let two = daemon.docker("create --name two --network none busybox").ok();
    let error = daemon.docker("rename one two").fails(1);
    assert!(
        error.contains(&format!(
            "The container name \"/two\" is already in use by container \"{two}\""
        )),
        "{error}"
    );
    daemon.docker("rename one three").ok();
    assert_eq!(daemon.inspect("three")["Name"], "/three");
    assert!(
        daemon
            .docker("inspect one")
            .fails(1)
            .to_lowercase()
            .contains("no such object: one")
    );
    daemon.docker("create --name one --network none busybox").ok();
}

#[test]
fn containers_are_found_by_name_and_by_the_beginning_of_their_id() {
    let daemon = daemon();
    let id = daemon.docker("create --name web --network none busybox").ok();
    for reference in ["web", "/web", &id, &id[..12], &id[..3]] {
        assert_eq!(
            daemon.docker(["inspect", "-f", "{{.Id}}", reference]).ok(),
            id,
            "{reference}"
        );
    }
    let error = daemon.docker("start no-such").fails(1);
    assert!(error.contains("No such container: no-such"), "{error}");
}

#[test]
fn a_running_container_is_not_removed_unless_forced() {
    let daemon = daemon();
    background(&daemon, "--name box", WAIT);
    let error = daemon.docker("rm box").fails(1);
    assert!(error.to_lowercase().contains("stop the container before"), "{error}");
    daemon.docker("rm -f box").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn wait_gives_the_exit_code_to_everyone_who_asks() {
    let daemon = daemon();
    create(&daemon, "--name box", "exit 6");
    // Waiting for a container that does not run yet: `not-running` is true at once, `next-exit` is not.
    assert_eq!(daemon.docker("wait box").ok(), "0");
    let mut next = daemon.api().open();
    next.send("POST", "/containers/box/wait?condition=next-exit", None);
    assert_eq!(next.head().status, 200);
    let mut removed = daemon.api().open();
    removed.send("POST", "/containers/box/wait?condition=removed", None);
    assert_eq!(removed.head().status, 200);
    assert!(next.is_silent());
    daemon.docker("start box").ok();
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&next.chunk()).unwrap()["StatusCode"],
        6
    );
    assert_eq!(daemon.docker("wait box").ok(), "6");
    assert!(removed.is_silent());
    daemon.docker("rm box").ok();
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&removed.chunk()).unwrap()["StatusCode"],
        6
    );
    daemon.api().post("/containers/box/wait", None).expect(404);
    daemon.docker("create --name other --network none busybox").ok();
    let answer = daemon
        .api()
        .post("/containers/other/wait?condition=no-such", None)
        .expect(400);
    assert_eq!(answer.message(), "invalid condition: \"no-such\"");
}

#[test]
fn top_shows_the_processes_of_the_container_alone() {
    let daemon = daemon();
    background(&daemon, "--name box", "sleep 1000 & sleep 2000 & wait");
    // Until they have, their arguments are the shell's, which name both.
    wait_until("both sleep", || {
        let top = daemon.docker("top box").ok();
        let sleeps = |what: &str| top.lines().any(|line| line.ends_with(what));
        sleeps("sleep 1000") && sleeps("sleep 2000")
    });
    let top = daemon.docker("top box").ok();
    assert!(
        top.starts_with("UID") && top.contains("sleep 1000") && top.contains("sleep 2000"),
        "{top}"
    );
    assert_eq!(top.lines().count(), 4);
    let chosen = daemon.docker("top box -o pid,comm").ok();
    assert_eq!(chosen.lines().count(), 4, "{chosen}");
    assert!(chosen.contains(&daemon.container_pid("box").to_string()), "{chosen}");
    daemon.docker("kill box").ok();
    daemon.docker("wait box").ok();
    assert!(daemon.docker("top box").fails(1).contains("is not running"));
}

#[test]
fn pruning_takes_what_does_not_run() {
    let daemon = daemon();
    background(&daemon, "--name running", WAIT);
    daemon.docker("create --name made --network none busybox").ok();
    daemon.docker("run --name done --network none busybox true").ok();
    daemon
        .docker("create --name kept --label keep=yes --network none busybox")
        .ok();
    let said = daemon.docker("container prune -f --filter label!=keep").ok();
    assert!(
        said.contains("Deleted Containers:") && said.contains("Total reclaimed space:"),
        "{said}"
    );
    let mut left: Vec<_> = daemon
        .docker(["ps", "-a", "--format", "{{.Names}}"])
        .ok()
        .lines()
        .map(str::to_owned)
        .collect();
    left.sort_unstable();
    assert_eq!(left, ["kept", "running"]);
}

#[test]
fn lists_show_what_was_asked_for() {
    let daemon = daemon();
    background(&daemon, "--name running --label k=v", WAIT);
    kept(&daemon, "--name failed", "exit 3").fails(3);
    daemon.docker("create --name made --network none busybox echo x").ok();
    let names = |words: &str| {
        let list = daemon.docker(&format!("ps --format {{{{.Names}}}} {words}")).ok();
        list.lines().map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(""), "running");
    assert_eq!(names("-a"), "made failed running");
    assert_eq!(names("-n 2"), "made failed");
    assert_eq!(names("-l"), "made");
    assert_eq!(names("-a --filter status=exited"), "failed");
    assert_eq!(
        names("-a --filter status=created --filter status=exited"),
        "made failed"
    );
    assert_eq!(names("-a --filter exited=3"), "failed");
    assert_eq!(names("-a --filter label=k"), "running");
    assert_eq!(names("-a --filter label=k=v"), "running");
    assert_eq!(names("-a --filter name=ma"), "made");
    assert_eq!(names("-a --filter name=^made$"), "made");
    assert_eq!(names("-a --filter ancestor=busybox"), "made failed running");
    assert_eq!(names("-a --filter before=failed"), "running");
    assert_eq!(names("-a --filter since=failed"), "made");
    assert_eq!(names("-a --filter network=none"), "made failed running");
    let table = daemon.docker("ps -a --no-trunc").ok();
    assert!(
        table.contains("Exited (3)") && table.contains("Up ") && table.contains("Created"),
        "{table}"
    );
    let answer = daemon
        .api()
        .get("/containers/json?filters={\"no-such\":[\"x\"]}")
        .expect(400);
    assert!(answer.message().contains("no-such"), "{}", answer.message());
    assert!(daemon.docker("ps -as --format {{.Size}}").ok().contains("virtual"));
}

#[test]
fn inspect_tells_what_was_asked_for() {
    let daemon = daemon();
    let words = [
        "create",
        "--name",
        "box",
        "--network",
        "none",
        "-e",
        "A=b",
        "-w",
        "/w",
        "-u",
        "app",
        "--label",
        "k=v",
        "--entrypoint",
        "echo",
        "--memory",
        "64m",
        "--read-only",
        "--cap-add",
        "SYS_TIME",
        "--security-opt",
        "no-new-privileges",
        "--stop-signal",
        "HUP",
        "--tmpfs",
        "/t:size=1m",
        "--hostname",
        "h",
        "-t",
        "busybox",
        "one",
        "two",
    ];
    daemon.docker(words).ok();
    let inspected = daemon.inspect("box");
    let config = &inspected["Config"];
    assert_eq!(config["Hostname"], "h");
    assert_eq!(config["User"], "app");
    assert_eq!(config["Tty"], true);
    assert_eq!(config["Cmd"], json!(["one", "two"]));
    assert_eq!(config["Entrypoint"], json!(["echo"]));
    assert_eq!(config["Image"], "busybox");
    assert_eq!(config["WorkingDir"], "/w");
    assert_eq!(config["StopSignal"], "HUP");
    assert!(config["Env"].as_array().unwrap().contains(&json!("A=b")));
    let host = &inspected["HostConfig"];
    assert_eq!(host["NetworkMode"], "none");
    assert_eq!(host["ReadonlyRootfs"], true);
    // The client of Docker 28 spells capabilities out.
    assert!(
        host["CapAdd"] == json!(["CAP_SYS_TIME"]) || host["CapAdd"] == json!(["SYS_TIME"]),
        "{}",
        host["CapAdd"]
    );
    assert_eq!(host["Tmpfs"], json!({"/t": "size=1m"}));
    assert_eq!(inspected["Path"], "echo");
    assert_eq!(inspected["Args"], json!(["one", "two"]));
    assert_eq!(inspected["Image"], image::busybox().id());
    assert_eq!(inspected["Platform"], "linux");
    assert_eq!(inspected["State"]["StartedAt"], "0001-01-01T00:00:00Z");
}

#[test]
fn a_container_can_be_started_again_after_its_end() {
    let daemon = daemon();
    kept(&daemon, "--name box", "echo x >>/n; wc -l </n").ok();
    for count in 2..5 {
        assert_eq!(daemon.docker("start -a box").ok(), count.to_string());
    }
    daemon.docker("start box").ok();
    daemon.docker("wait box").ok();
}

#[test]
fn starting_what_runs_changes_nothing() {
    let daemon = daemon();
    background(&daemon, "--name box", WAIT);
    let pid = daemon.container_pid("box");
    daemon.api().post("/containers/box/start", None).expect(304);
    daemon.docker("start box").ok();
    assert_eq!(daemon.container_pid("box"), pid);
}

#[test]
fn many_verbs_at_once_do_not_trip_over_each_other() {
    let daemon = daemon();
    background(&daemon, "--name box", WAIT);
    std::thread::scope(|scope| {
        for verb in [
            "restart -t 0 box",
            "kill box",
            "pause box",
            "unpause box",
            "stop -t 0 box",
            "start box",
            "rename c box",
            "inspect box",
            "top box",
            "logs box",
        ] {
            let daemon = &daemon;
            scope.spawn(move || {
                for _ in 0..3 {
                    let _ = daemon.docker(verb);
                }
            });
        }
    });
    daemon.docker("rm -f box").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn everything_of_the_container_dies_with_its_first_process() {
    let daemon = daemon();
    let id = background(
        &daemon,
        "--name box",
        "setsid sleep 1000 & setsid sleep 2000 & sleep 0.2; exit 0",
    );
    daemon.docker("wait box").ok();
    for path in daemon.cgroups(&id) {
        assert!(corten_testkit::cgroup::processes(&path).is_empty());
    }
    daemon.assert_nothing_runs();
    // With the host's PID namespace nothing but the cgroup holds them together.
    let id = background(
        &daemon,
        "--name host --pid host",
        "setsid sleep 3000 & echo $!; sleep 0.2; exit 0",
    );
    daemon.docker("wait host").ok();
    let orphan: i32 = daemon.docker("logs host").ok().parse().unwrap();
    wait_until("the orphan is dead", || {
        !process::is_alive(orphan) || !process::command_line(orphan).contains(&"3000".to_owned())
    });
    assert!(daemon.cgroups(&id).is_empty());
}

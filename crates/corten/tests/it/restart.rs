//! Restart policies: who comes back, how often, and who stays where the user left it.
use std::fs;

use corten_testkit::{
    daemon::Daemon,
    image, process,
    wait::{wait_for, wait_until},
};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{WAIT, background, daemon, setup};

fn restarts(daemon: &Daemon, name: &str) -> u64 {
    daemon.inspect(name)["RestartCount"].as_u64().unwrap()
}

/// A container that fails at once, is started by its policy again and again, and now waits for its next try.
fn waiting(daemon: &Daemon, name: &str) {
    background(daemon, ["--name", name, "--restart", "always"], "exit 3");
    // The pauses are long enough by now to do something within one.
    wait_until("it has been restarted a few times", || restarts(daemon, name) >= 4);
    daemon.wait_for_status(name, "restarting");
}

/// What is seen of a container within one of its pauses: the next try may come before all was looked at, and then it is
/// looked at again, in a longer pause.
#[track_caller]
pub fn within_a_pause<T>(daemon: &Daemon, name: &str, look: impl Fn() -> T) -> T {
    let pause = || {
        let seen = daemon.inspect(name);
        (seen["State"]["Status"] == "restarting").then(|| seen["RestartCount"].as_u64())
    };
    wait_for("a pause that is long enough", || {
        let begun = pause()?;
        let seen = look();
        (pause()? == begun).then_some(seen)
    })
}

#[test]
fn a_failure_is_tried_again_as_often_as_was_asked() {
    let daemon = daemon();
    background(&daemon, "--name box --restart on-failure:3", "echo try; exit 3");
    wait_until("it has given up", || {
        daemon.status("box") == "exited" && restarts(&daemon, "box") == 3
    });
    assert_eq!(daemon.inspect("box")["State"]["ExitCode"], 3);
    assert_eq!(daemon.docker("logs box").ok(), "try\ntry\ntry\ntry");
    // A user's start begins to count anew.
    daemon.docker("start box").ok();
    wait_until("it has given up again", || {
        daemon.docker("logs box").ok().lines().count() == 8 && daemon.status("box") == "exited"
    });
    assert_eq!(restarts(&daemon, "box"), 3);
    daemon.assert_nothing_runs();
    daemon.docker("rm box").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn success_is_no_reason_to_try_again_unless_it_is_to_run_always() {
    let daemon = daemon();
    background(&daemon, "--name done --restart on-failure", "exit 0");
    background(&daemon, "--name always --restart always", "exit 0");
    wait_until("the one has been restarted", || restarts(&daemon, "always") >= 2);
    daemon.wait_for_status("done", "exited");
    assert_eq!(restarts(&daemon, "done"), 0);
}

#[test]
fn one_that_waits_for_its_next_try_says_so_everywhere() {
    let daemon = daemon();
    waiting(&daemon, "box");
    let (state, listed, info) = within_a_pause(&daemon, "box", || {
        (
            daemon.inspect("box")["State"].clone(),
            daemon.docker("ps --filter status=restarting --format {{.Names}}~{{.Status}}"),
            daemon.api().get("/info").expect(200).json(),
        )
    });
    assert_eq!(
        (
            &state["Running"],
            &state["Restarting"],
            &state["Pid"],
            &state["ExitCode"]
        ),
        (&json!(true), &json!(true), &json!(0), &json!(3))
    );
    let listed = listed.ok();
    assert!(listed.starts_with("box~Restarting (3) "), "{listed}");
    assert_eq!(
        (&info["ContainersRunning"], &info["ContainersStopped"]),
        (&json!(0), &json!(1))
    );
}

#[test]
fn what_cannot_be_done_between_two_runs_says_why() {
    let daemon = daemon();
    waiting(&daemon, "box");
    let id = daemon.inspect("box")["Id"].as_str().unwrap().to_owned();
    let post = |path: &str| daemon.api().post(&format!("/containers/box/{path}"), None);
    let (start, pause, top, removal) = within_a_pause(&daemon, "box", || {
        let top = daemon.api().get("/containers/box/top");
        (
            post("start"),
            post("pause"),
            top,
            daemon.api().delete("/containers/box"),
        )
    });
    start.expect(304);
    let wait = format!("Container {id} is restarting, wait until the container is running");
    assert_eq!(pause.expect(409).message(), wait);
    assert_eq!(top.expect(409).message(), wait);
    let refused = removal.expect(409).message();
    assert!(
        refused.contains("container is restarting: stop the container before removing or force remove"),
        "{refused}"
    );
}

#[test]
fn a_user_ends_the_waiting_with_stop_kill_or_removal() {
    let daemon = daemon();
    for verb in ["stop", "kill"] {
        waiting(&daemon, "box");
        daemon.docker([verb, "box"]).ok();
        // Whoever is killed within a try that had just begun takes a moment to end; who stops has waited for that.
        if verb == "kill" {
            daemon.wait_for_status("box", "exited");
        }
        assert_eq!(daemon.status("box"), "exited");
        let count = restarts(&daemon, "box");
        std::thread::sleep(std::time::Duration::from_millis(500));
        assert_eq!(
            (daemon.status("box").as_str(), restarts(&daemon, "box")),
            ("exited", count)
        );
        daemon.docker("rm box").ok();
    }
    waiting(&daemon, "box");
    daemon.docker("rm -f box").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn a_policy_that_allows_no_further_try_ends_the_waiting() {
    let daemon = daemon();
    for policy in ["no", "on-failure:3"] {
        waiting(&daemon, "box");
        wait_until("the fifth pause has begun", || restarts(&daemon, "box") >= 5);
        daemon.wait_for_status("box", "restarting");
        daemon.docker(["update", "--restart", policy, "box"]).ok();
        let count = restarts(&daemon, "box");
        assert_eq!(daemon.status("box"), "exited", "{policy}");
        assert_eq!(daemon.docker("wait box").ok().trim(), "3");
        // No try is on its way: the fifth pause is 1.6 s long.
        std::thread::sleep(std::time::Duration::from_secs(2));
        assert_eq!(
            (daemon.status("box").as_str(), restarts(&daemon, "box")),
            ("exited", count)
        );
        daemon.docker("rm box").ok();
    }
    daemon.assert_nothing_remains();
}

#[test]
fn a_policy_that_allows_the_next_try_leaves_it_where_it_is() {
    let daemon = daemon();
    waiting(&daemon, "box");
    // Other updates have nothing to do with it either.
    daemon.docker("update --memory 64m --memory-swap 64m box").ok();
    daemon.docker("update --restart on-failure:7 box").ok();
    wait_until("it has been tried seven times", || {
        daemon.status("box") == "exited" && restarts(&daemon, "box") == 7
    });
    background(&daemon, "--name well --restart always", "exit 0");
    wait_until("it has been restarted a few times", || restarts(&daemon, "well") >= 4);
    daemon.wait_for_status("well", "restarting");
    daemon.docker("update --restart on-failure well").ok();
    // Success is no failure.
    daemon.wait_for_status("well", "exited");
}

#[test]
fn restart_of_one_that_waits_starts_it_at_once_and_counts_anew() {
    let daemon = daemon();
    let go = daemon.root().join("go");
    fs::create_dir(&go).unwrap();
    let bind = format!("{}:/go", go.display());
    background(
        &daemon,
        ["--name", "box", "--restart", "always", "-v", &bind],
        &format!("[ -e /go/now ] || exit 1; {WAIT}"),
    );
    wait_until("it has been restarted a few times", || restarts(&daemon, "box") >= 3);
    fs::write(go.join("now"), "").unwrap();
    daemon.docker("restart box").ok();
    daemon.wait_for_log("box", "ready");
    assert_eq!(
        (daemon.status("box").as_str(), restarts(&daemon, "box")),
        ("running", 0)
    );
}

#[test]
fn what_a_user_stopped_stays_stopped_but_other_signals_are_no_stop() {
    let daemon = daemon();
    background(
        &daemon,
        "--name box --restart unless-stopped",
        "trap 'exit 4' USR1; echo ready; while :; do sleep 0.02; done",
    );
    let runs = |count| {
        wait_until("it is ready once more", || {
            daemon.docker("logs box").ok().matches("ready").count() == count
        });
    };
    runs(1);
    daemon.docker("kill -s USR1 box").ok();
    runs(2);
    assert_eq!(restarts(&daemon, "box"), 1);
    // A crash is none either.
    process::signal(daemon.container_pid("box"), Signal::KILL);
    runs(3);
    daemon.docker("kill box").ok();
    daemon.wait_for_status("box", "exited");
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!((daemon.status("box").as_str(), restarts(&daemon, "box")), ("exited", 2));
    daemon.assert_nothing_runs();
}

#[test]
fn wait_ends_with_every_end_and_with_a_stop_in_between() {
    let daemon = daemon();
    waiting(&daemon, "box");
    let mut next = daemon.api().open();
    next.send("POST", "/containers/box/wait?condition=next-exit", None);
    assert_eq!(next.head().status, 200);
    let ended: Value = serde_json::from_slice(&next.chunks()).unwrap();
    assert_eq!(ended["StatusCode"], 3);
    daemon.wait_for_status("box", "restarting");
    let mut rest = daemon.api().open();
    rest.send("POST", "/containers/box/wait", None);
    assert_eq!(rest.head().status, 200);
    daemon.docker("stop box").ok();
    let ended: Value = serde_json::from_slice(&rest.chunks()).unwrap();
    assert_eq!(ended["StatusCode"], 3);
}

#[test]
fn a_start_by_policy_that_fails_is_tried_again() {
    let daemon = daemon();
    let source = daemon.root().join("disk");
    fs::create_dir(&source).unwrap();
    // Not `-v`, whose source is made at every start.
    let bind = format!("type=bind,source={},target=/disk", source.display());
    background(
        &daemon,
        ["--name", "box", "--restart", "always", "--mount", &bind],
        &format!("echo ready; {WAIT}"),
    );
    daemon.wait_for_log("box", "ready");
    fs::remove_dir(&source).unwrap();
    process::signal(daemon.container_pid("box"), Signal::KILL);
    wait_until("its start has failed", || restarts(&daemon, "box") >= 2);
    let error = daemon.inspect("box")["State"]["Error"].as_str().unwrap().to_owned();
    assert!(error.contains("bind source path does not exist"), "{error}");
    fs::create_dir(&source).unwrap();
    daemon.wait_for_status("box", "running");
    assert_eq!(daemon.inspect("box")["State"]["Error"], "");
    // A user's start that fails is the user's to repeat.
    daemon
        .docker("run -d --name typo --restart always --network none busybox nonsense")
        .fails(127);
    assert_eq!(
        (daemon.status("typo").as_str(), restarts(&daemon, "typo")),
        ("created", 0)
    );
}

#[test]
fn policies_are_checked_at_the_door() {
    let daemon = daemon();
    for (policy, message) in [
        (
            json!({"Name": "always", "MaximumRetryCount": 2}),
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        ),
        (
            json!({"Name": "often"}),
            "invalid restart policy: unknown policy 'often'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
        ),
    ] {
        let body = json!({"Image": "busybox", "HostConfig": {"RestartPolicy": policy}});
        let refused = daemon.api().post("/containers/create", Some(&body)).expect(400);
        assert_eq!(refused.message(), message);
    }
    let body = json!({"Image": "busybox", "HostConfig": {"AutoRemove": true, "RestartPolicy": {"Name": "always"}}});
    let refused = daemon.api().post("/containers/create", Some(&body)).expect(400);
    assert_eq!(
        refused.message(),
        "can't create 'AutoRemove' container with restart policy"
    );
}

/// Containers of every kind, and what each is after the next daemon has started.
fn everybody(daemon: &Daemon) {
    for (name, policy) in [
        ("no", "no"),
        ("failure", "on-failure"),
        ("unless", "unless-stopped"),
        ("always", "always"),
    ] {
        for (suffix, script) in [("runs", WAIT), ("stopped", WAIT)] {
            let name = format!("{name}-{suffix}");
            background(daemon, ["--name", &name, "--restart", policy], script);
            daemon.wait_for_log(&name, "ready");
        }
        daemon.docker(["stop", &format!("{name}-stopped")]).ok();
    }
    daemon
        .docker("create --name fresh --restart always --network none busybox true")
        .ok();
}

#[test]
fn a_daemon_that_is_killed_leaves_all_as_it_is_and_the_next_brings_back_what_always_runs() {
    let mut daemon = daemon();
    everybody(&daemon);
    let pid = daemon.container_pid("unless-runs");
    daemon.kill_and_start();
    daemon.wait_for_status("always-stopped", "running");
    for name in ["no-runs", "failure-runs", "unless-runs", "always-runs"] {
        assert_eq!(
            (daemon.status(name).as_str(), restarts(&daemon, name)),
            ("running", 0),
            "{name}"
        );
    }
    assert_eq!(daemon.container_pid("unless-runs"), pid);
    for name in ["no-stopped", "failure-stopped", "unless-stopped"] {
        assert_eq!(daemon.status(name), "exited", "{name}");
    }
    assert_eq!(daemon.status("fresh"), "created");
}

#[test]
fn an_end_that_nobody_saw_counts_like_any_other() {
    let mut daemon = daemon();
    everybody(&daemon);
    let pids = ["no", "failure", "unless", "always"].map(|name| daemon.container_pid(&format!("{name}-runs")));
    daemon.kill();
    pids.into_iter().for_each(process::end_unseen);
    daemon.start_process();
    for name in ["failure-runs", "unless-runs", "always-runs"] {
        daemon.wait_for_status(name, "running");
        assert_eq!(restarts(&daemon, name), 1, "{name}");
    }
    assert_eq!(daemon.status("no-runs"), "exited");
}

#[test]
fn after_a_reboot_everyone_is_back_who_should_be() {
    let mut daemon = daemon();
    everybody(&daemon);
    waiting(&daemon, "broken");
    daemon.reboot();
    daemon.start_process();
    for name in ["failure-runs", "unless-runs", "always-runs", "always-stopped"] {
        daemon.wait_for_status(name, "running");
    }
    for name in ["no-runs", "no-stopped", "failure-stopped", "unless-stopped"] {
        assert_eq!(daemon.status(name), "exited", "{name}");
    }
    assert_eq!(daemon.inspect("no-runs")["State"]["ExitCode"], 255);
    let count = restarts(&daemon, "broken");
    wait_until("what fails is tried again", || restarts(&daemon, "broken") > count);
}

#[test]
fn a_stop_that_is_cut_off_by_the_death_of_the_daemon_is_a_stop() {
    let mut daemon = daemon();
    background(
        &daemon,
        "--name box --restart unless-stopped",
        "trap 'sleep 0.5; exit 0' TERM; echo ready; while :; do sleep 0.02; done",
    );
    daemon.wait_for_log("box", "ready");
    let shim = daemon.shim_pid("box");
    let mut client = daemon.docker_command("stop box").spawn().unwrap();
    wait_until("the signal is sent", || {
        !daemon.events(&json!({"event": ["kill"]})).is_empty()
    });
    daemon.kill();
    let _ = client.wait();
    wait_until("it has ended, and its shim has written that down", || {
        !process::is_alive(shim)
    });
    daemon.start_process();
    assert_eq!(daemon.status("box"), "exited");
}

#[test]
fn an_end_with_the_daemon_is_no_stop_by_a_user() {
    let mut daemon = setup().arguments("--live-restore=false").start();
    daemon.load(&image::busybox());
    everybody(&daemon);
    daemon.stop();
    daemon.start_process();
    for name in ["unless-runs", "always-runs", "always-stopped"] {
        daemon.wait_for_status(name, "running");
    }
    for name in ["no-runs", "no-stopped", "unless-stopped"] {
        assert_eq!(daemon.status(name), "exited", "{name}");
    }
}

#[test]
fn many_restarts_leave_nothing_behind() {
    let daemon = daemon();
    let before = process::open_files(daemon.pid());
    background(&daemon, "--name box --restart on-failure:5", "exit 1");
    wait_until("it has given up", || {
        daemon.status("box") == "exited" && restarts(&daemon, "box") == 5
    });
    daemon.assert_nothing_runs();
    daemon.docker("rm box").ok();
    daemon.assert_nothing_remains();
    wait_until("no descriptor is left", || process::open_files(daemon.pid()) <= before);
}

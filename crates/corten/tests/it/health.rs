//! Health checks: what an image or a user asks for, seen by everyone who looks.
use std::fs;

use corten_testkit::{daemon::Daemon, image, wait::wait_until};
use serde_json::{Value, json};

use crate::{WAIT, background, daemon};

/// A check that succeeds while the file is there.
const CHECK: &str = "test -e /tmp/well && echo fine";

/// `docker run -d` of `box` with these options, whose check is quick.
fn start(daemon: &Daemon, options: &[&str], script: &str) {
    let words = [
        &[
            "--name",
            "box",
            "--health-interval",
            "50ms",
            "--health-timeout",
            "5s",
            "--health-retries",
            "2",
        ],
        options,
    ]
    .concat();
    background(daemon, words.as_slice(), script);
}

fn health(daemon: &Daemon) -> Value {
    daemon.inspect("box")["State"]["Health"].clone()
}

#[track_caller]
fn wait_for(daemon: &Daemon, status: &str) {
    wait_until(&format!("it is {status}"), || health(daemon)["Status"] == status);
}

/// Actions of the past events of `box` that begin so.
fn told(daemon: &Daemon, action: &str) -> Vec<String> {
    let until = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 1;
    let answer = daemon.api().get(&format!("/events?since=0&until={until}"));
    let lines: Vec<Value> = answer
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let actions = lines.iter().filter_map(|event| event["Action"].as_str());
    actions
        .filter(|told| told.starts_with(action))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_container_becomes_healthy_and_unhealthy_and_everybody_sees_it() {
    let daemon = daemon();
    start(&daemon, &["--health-cmd", CHECK], WAIT);
    wait_for(&daemon, "unhealthy");
    let sick = health(&daemon);
    assert!(sick["FailingStreak"].as_i64().unwrap() >= 2, "{sick}");
    assert_eq!(sick["Log"][0]["ExitCode"], 1);
    assert!(daemon.docker("ps --format {{.Status}}").ok().contains("(unhealthy)"));
    daemon.docker("exec box touch /tmp/well").ok();
    wait_for(&daemon, "healthy");
    let well = health(&daemon);
    assert_eq!(well["FailingStreak"], 0);
    let log = well["Log"].as_array().unwrap();
    let last = log.last().unwrap();
    assert_eq!((&last["ExitCode"], &last["Output"]), (&json!(0), &json!("fine\n")));
    assert!(
        last["Start"].as_str().unwrap() <= last["End"].as_str().unwrap(),
        "{last}"
    );
    assert!(daemon.docker("ps --format {{.Status}}").ok().contains("(healthy)"));
    assert!(daemon.corten("ps").ok().contains("(healthy)"));
    let by = |status: &str| {
        daemon
            .docker(["ps", "-q", "--filter", &format!("health={status}")])
            .ok()
    };
    assert_ne!(by("healthy"), "");
    assert_eq!(
        (by("unhealthy"), by("none"), by("starting")),
        (String::new(), String::new(), String::new())
    );
    wait_until("five results are kept", || {
        health(&daemon)["Log"].as_array().unwrap().len() == 5
    });
    assert_eq!(
        told(&daemon, "health_status"),
        ["health_status: unhealthy", "health_status: healthy"]
    );
    // A check is an exec, and told of as one.
    assert!(told(&daemon, "exec_create").contains(&format!("exec_create: /bin/sh -c {CHECK}")));
    assert!(!told(&daemon, "exec_die").is_empty());
    daemon.docker("rm -f box").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn the_image_says_how_and_the_user_may_say_otherwise() {
    let daemon = daemon();
    let check = json!({"Test": ["CMD", "cat", "/etc/hostname"], "Interval": 50_000_000, "Retries": 7});
    daemon.load(&image::busybox().tagged("checked:1").with("Healthcheck", check));
    let run = |options: &[&str]| {
        let words = [
            &["run", "-d", "--name", "box", "--network", "none"],
            options,
            &["checked:1", "sleep", "1000"],
        ]
        .concat();
        daemon.docker(words.as_slice()).ok();
    };
    run(&[]);
    wait_for(&daemon, "healthy");
    daemon.docker("rm -f box").ok();
    // A part of it from the user, the rest from the image.
    run(&["--health-retries", "1", "--health-cmd", "exit 3"]);
    assert_eq!(
        daemon.inspect("box")["Config"]["Healthcheck"],
        json!({"Test": ["CMD-SHELL", "exit 3"], "Interval": 50_000_000, "Retries": 1})
    );
    wait_for(&daemon, "unhealthy");
    daemon.docker("rm -f box").ok();
    run(&["--no-healthcheck"]);
    assert_eq!(health(&daemon), Value::Null);
    assert!(!daemon.docker("ps --format {{.Status}}").ok().contains('('));
    assert_ne!(daemon.docker("ps -q --filter health=none").ok(), "");
}

#[test]
fn what_takes_too_long_or_cannot_be_executed_is_a_failure() {
    let daemon = daemon();
    start(
        &daemon,
        &[
            "--health-cmd",
            "echo before; sleep 1000",
            "--health-timeout",
            "1s",
            "--health-retries",
            "1",
        ],
        WAIT,
    );
    wait_for(&daemon, "unhealthy");
    let log = &health(&daemon)["Log"][0];
    assert_eq!(log["ExitCode"], -1);
    assert_eq!(log["Output"], "Health check exceeded timeout (1s): before\n");
    daemon.docker("rm -f box").ok();
    let api = daemon.api();
    let body = json!({
        "Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"},
        "Healthcheck": {"Test": ["CMD", "/none"], "Interval": 50_000_000, "Retries": 1},
    });
    api.post("/containers/create?name=box", Some(&body)).expect(201);
    api.post("/containers/box/start", None).expect(204);
    wait_for(&daemon, "unhealthy");
    let log = &health(&daemon)["Log"][0];
    assert_eq!(log["ExitCode"], -1);
    assert!(
        log["Output"].as_str().unwrap().contains("no such file or directory"),
        "{log}"
    );
}

#[test]
fn long_output_is_cut() {
    let daemon = daemon();
    start(&daemon, &["--health-cmd", "yes | head -c 100000"], WAIT);
    wait_for(&daemon, "healthy");
    let log = &health(&daemon)["Log"][0];
    let output = log["Output"].as_str().unwrap();
    assert_eq!((log["ExitCode"].as_i64(), output.len()), (Some(0), 4099));
    assert!(output.ends_with("..."));
}

#[test]
fn failures_while_it_starts_do_not_count() {
    let daemon = daemon();
    start(
        &daemon,
        &[
            "--health-cmd",
            CHECK,
            "--health-start-period",
            "1h",
            "--health-start-interval",
            "20ms",
            "--health-interval",
            "1h",
        ],
        WAIT,
    );
    wait_until("it was looked at often", || {
        health(&daemon)["Log"].as_array().unwrap().len() == 5
    });
    let starting = health(&daemon);
    assert_eq!(
        (&starting["Status"], &starting["FailingStreak"]),
        (&json!("starting"), &json!(0))
    );
    daemon.docker("exec box touch /tmp/well").ok();
    wait_for(&daemon, "healthy");
    // From now on the other interval holds: nobody looks for an hour.
    let seen = health(&daemon)["Log"].clone();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(health(&daemon)["Log"], seen);
}

#[test]
fn a_pause_pauses_the_checks_and_an_end_ends_them() {
    let daemon = daemon();
    start(&daemon, &["--health-cmd", "true"], WAIT);
    wait_for(&daemon, "healthy");
    daemon.docker("pause box").ok();
    let seen = health(&daemon);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(health(&daemon), seen);
    daemon.docker("unpause box").ok();
    wait_until("it is looked at again", || health(&daemon) != seen);
    daemon.docker("stop box").ok();
    // As with Docker: what does not run is not healthy.
    assert_eq!(health(&daemon)["Status"], "unhealthy");
    assert_eq!(told(&daemon, "health_status"), ["health_status: healthy"]);
    daemon.docker("start box").ok();
    assert_ne!(health(&daemon)["Status"], "unhealthy");
    wait_for(&daemon, "healthy");
}

#[test]
fn checks_go_on_when_the_daemon_was_restarted() {
    let mut daemon = daemon();
    start(&daemon, &["--health-cmd", CHECK], "touch /tmp/well; sleep 1000");
    wait_for(&daemon, "healthy");
    daemon.kill_and_start();
    assert_eq!(health(&daemon)["Status"], "healthy");
    daemon.docker("exec box rm /tmp/well").ok();
    wait_for(&daemon, "unhealthy");
    assert_eq!(told(&daemon, "health_status"), ["health_status: unhealthy"]);
}

#[test]
fn an_unhealthy_container_is_restarted_where_it_asks_for_that() {
    let daemon = daemon();
    // Well from its second life on.
    let script = "trap 'exit 0' TERM; [ -e /tmp/been ] && touch /tmp/well; touch /tmp/been; echo alive; \
                  while :; do sleep 0.05; done";
    let restarted = ["--health-interval", "200ms", "--label", "corten.restart-unhealthy=true"];
    start(&daemon, &[&["--health-cmd", CHECK], &restarted[..]].concat(), script);
    wait_until("it has a second life", || {
        daemon.docker("logs box").ok() == "alive\nalive"
    });
    wait_for(&daemon, "healthy");
    wait_until("that is told", || told(&daemon, "restart") == ["restart"]);
    // Without the wish nothing happens to it.
    daemon.docker("rm -f box").ok();
    start(&daemon, &["--health-cmd", "false"], script);
    wait_for(&daemon, "unhealthy");
    let first = daemon.container_pid("box");
    let probes = health(&daemon)["Log"].clone();
    wait_until("it was looked at again", || health(&daemon)["Log"] != probes);
    assert_eq!(daemon.container_pid("box"), first);
}

#[test]
fn times_that_make_no_sense_are_refused() {
    let daemon = daemon();
    let refused = |health: Value| {
        let body = json!({"Image": "busybox", "Healthcheck": health});
        daemon
            .api()
            .post("/containers/create", Some(&body))
            .expect(400)
            .message()
    };
    assert_eq!(
        refused(json!({"Test": ["CMD", "x"], "Interval": 10})),
        "Interval in Healthcheck cannot be less than 1ms"
    );
    assert_eq!(
        refused(json!({"Test": ["CMD", "x"], "Retries": -1})),
        "Retries in Healthcheck cannot be negative"
    );
    // An older client knows no start interval.
    let body = json!({"Image": "busybox", "Healthcheck": {"Test": ["CMD", "x"], "StartInterval": 10}});
    daemon.api().post("/v1.43/containers/create", Some(&body)).expect(201);
}

#[test]
fn nothing_piles_up() {
    let daemon = daemon();
    start(&daemon, &["--health-cmd", "true", "--health-interval", "1ms"], WAIT);
    wait_for(&daemon, "healthy");
    let descriptors = |pid: i32| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let shim = daemon.shim_pid("box");
    // Told as they come: what is remembered of the past has a bound.
    let mut ends = daemon.api().open();
    ends.send("GET", "/events?filters={\"event\":[\"exec_die\"]}", None);
    assert_eq!(ends.head().status, 200);
    let before = (descriptors(shim), descriptors(daemon.pid()));
    for _ in 0..100 {
        let end: Value = serde_json::from_slice(&ends.chunk()).unwrap();
        assert_eq!(end["Actor"]["Attributes"]["exitCode"], "0");
    }
    assert!(descriptors(shim) <= before.0 + 8, "{before:?} {}", descriptors(shim));
    assert!(
        descriptors(daemon.pid()) <= before.1 + 8,
        "{before:?} {}",
        descriptors(daemon.pid())
    );
}

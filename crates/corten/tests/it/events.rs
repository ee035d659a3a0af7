//! `docker events`: everything that happens, in order, to those who ask.
use corten_testkit::{daemon::Daemon, image};

use crate::{WAIT, background, daemon};

/// `ACTION` of the past events that pass a filter.
#[track_caller]
fn past(daemon: &Daemon, filters: &[&str]) -> Vec<String> {
    let mut words = vec![
        "events",
        "--since",
        "0",
        "--until",
        "now",
        "--format",
        "{{.Type}} {{.Action}}",
    ];
    for filter in filters {
        words.extend(["--filter", filter]);
    }
    // `now` has whole seconds for the client; the daemon's own clock does better.
    let until = format!("{}", std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 1);
    words[4] = &until;
    daemon
        .docker(words.as_slice())
        .ok()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_life_is_told_in_order() {
    let daemon = daemon();
    daemon.docker("run --rm --name box --network none busybox true").ok();
    let told = past(&daemon, &["type=container"]);
    let expected = [
        "container create",
        "container attach",
        "container start",
        "container die",
        "container destroy",
    ];
    assert_eq!(told, expected);
}

#[test]
fn stop_kill_pause_and_rename_are_told() {
    let daemon = daemon();
    background(&daemon, "--name box", WAIT);
    daemon.wait_for_log("box", "ready");
    for verb in ["pause box", "unpause box", "rename box other", "stop other", "rm other"] {
        daemon.docker(verb).ok();
    }
    let told = past(&daemon, &["type=container"]);
    let expected = [
        "create", "start", "pause", "unpause", "rename", "kill", "die", "stop", "destroy",
    ];
    let told: Vec<_> = told
        .iter()
        .map(|line| line.strip_prefix("container ").unwrap())
        .collect();
    assert_eq!(told, expected);
}

#[test]
fn events_carry_names_images_labels_and_exit_codes() {
    let daemon = daemon();
    daemon
        .docker([
            "run",
            "--name",
            "box",
            "--label",
            "a=b",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            "exit 3",
        ])
        .fails(3);
    let answer = daemon.api().get("/events?since=0&until=1&filters={}").expect(200);
    assert_eq!(answer.body, b"");
    let until = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 1;
    let answer = daemon.api().get(&format!("/events?since=1&until={until}")).expect(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let lines: Vec<serde_json::Value> = answer
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let die = lines.iter().find(|event| event["Action"] == "die").unwrap();
    assert_eq!(die["Type"], "container");
    assert_eq!(die["status"], "die");
    assert_eq!(die["id"], die["Actor"]["ID"]);
    assert_eq!(die["from"], "busybox");
    assert_eq!(die["scope"], "local");
    let attributes = &die["Actor"]["Attributes"];
    assert_eq!(attributes["exitCode"], "3");
    assert_eq!(attributes["name"], "box");
    assert_eq!(attributes["image"], "busybox");
    assert_eq!(attributes["a"], "b");
    assert!(die["timeNano"].as_i64().unwrap() / 1_000_000_000 == die["time"].as_i64().unwrap());
    assert!(
        lines
            .windows(2)
            .all(|pair| pair[0]["timeNano"].as_i64() < pair[1]["timeNano"].as_i64())
    );
}

#[test]
fn filters_choose() {
    let daemon = daemon();
    daemon
        .docker("run --name one --network none --label x=1 busybox true")
        .ok();
    daemon.docker("run --name two --network none busybox true").ok();
    assert_eq!(past(&daemon, &["container=one", "event=start"]), ["container start"]);
    assert_eq!(past(&daemon, &["label=x=1", "event=start"]).len(), 1);
    assert_eq!(past(&daemon, &["image=busybox", "event=start"]).len(), 2);
    assert_eq!(past(&daemon, &["event=start", "event=die"]).len(), 4);
    let answer = daemon
        .api()
        .get("/events?filters={\"no-such\":{\"x\":true}}")
        .expect(400);
    assert!(answer.message().contains("no-such"), "{}", answer.message());
}

#[test]
fn a_listener_hears_what_comes() {
    let daemon = daemon();
    let mut listener = daemon.api().open();
    listener.send("GET", "/events?filters={\"event\":{\"start\":true}}", None);
    // The headers come before the first event.
    assert_eq!(listener.head().status, 200);
    daemon.docker("run --rm --network none busybox true").ok();
    let event: serde_json::Value = serde_json::from_slice(&listener.chunk()).unwrap();
    assert_eq!(event["Action"], "start");
}

#[test]
fn images_are_told_of_too() {
    let daemon = daemon();
    daemon.docker("tag busybox other:1").ok();
    daemon.docker("rmi other:1").ok();
    daemon.load(&image::busybox().tagged("third:1"));
    let told = past(&daemon, &["type=image"]);
    assert_eq!(told, ["image load", "image tag", "image untag", "image load"]);
}

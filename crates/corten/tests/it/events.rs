//! `docker events`: everything that happens, in order, to those who ask.
use corten_testkit::{
    daemon::{Arguments, Daemon},
    image,
    wait::wait_until,
};
use serde_json::{Value, json};

use crate::{WAIT, background, daemon, kept};

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
    kept(&daemon, "--name box --label a=b", "exit 3").fails(3);
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

/// `TYPE ACTION` of everything so far, without what images tell.
fn told(daemon: &Daemon) -> Vec<String> {
    let events = daemon.events(&json!({"type": ["container", "network", "volume"]}));
    let word = |event: &Value, key: &str| event[key].as_str().unwrap().to_owned();
    events
        .iter()
        .map(|event| format!("{} {}", word(event, "Type"), word(event, "Action")))
        .collect()
}

#[test]
fn networks_and_volumes_are_told_where_docker_tells_them() {
    let daemon = daemon();
    daemon.docker("network create shop").ok();
    daemon.docker("volume create data").ok();
    daemon.docker("volume create data").ok();
    let mut run = "run -d --name box --network shop -v data:/data:ro -v /anonymous busybox sh -c".words();
    run.push(WAIT.to_owned());
    daemon.docker(run).ok();
    daemon.wait_for_log("box", "ready");
    daemon.docker("stop box").ok();
    daemon.docker("rm -v box").ok();
    daemon.docker("volume rm data").ok();
    daemon.docker("network rm shop").ok();
    let expected = [
        "network create",
        "volume create",
        "volume create",
        "container create",
        "network connect",
        "volume mount",
        "volume mount",
        "container start",
        "container kill",
        "network disconnect",
        "volume unmount",
        "volume unmount",
        "container die",
        "container stop",
        "volume destroy",
        "container destroy",
        "volume destroy",
        "network destroy",
    ];
    assert_eq!(told(&daemon), expected);
    let mounted = daemon.events(&json!({"event": ["mount"], "volume": ["data"]}));
    let mut attributes = mounted[0]["Actor"]["Attributes"].clone();
    assert_eq!(attributes["container"].as_str().map(str::len), Some(64));
    attributes["container"] = json!("");
    let expected =
        json!({"container": "", "destination": "/data", "driver": "local", "propagation": "", "read/write": "false"});
    assert_eq!(attributes, expected);
}

#[test]
fn a_restart_by_policy_is_an_end_and_a_start() {
    let daemon = daemon();
    background(&daemon, "--name box --restart on-failure:1", "exit 1");
    wait_until("it has given up", || {
        daemon.status("box") == "exited" && daemon.inspect("box")["RestartCount"] == 1
    });
    let expected = ["create", "start", "die", "start", "die"].map(|action| format!("container {action}"));
    assert_eq!(told(&daemon), expected);
}

#[test]
fn a_restart_by_a_user_is_told_last() {
    let daemon = daemon();
    background(&daemon, "--name box --rm", WAIT);
    daemon.wait_for_log("box", "ready");
    daemon.docker("restart box").ok();
    let expected =
        ["create", "start", "kill", "die", "stop", "start", "restart"].map(|action| format!("container {action}"));
    assert_eq!(told(&daemon), expected);
}

#[test]
fn the_beginning_of_a_name_or_an_id_is_enough() {
    let daemon = daemon();
    let id = background(&daemon, "--name web-1 --label tier=front", WAIT);
    background(&daemon, "--name db-1", WAIT);
    daemon.docker("network create web-net").ok();
    daemon.docker("volume create web-data").ok();
    let count = |filters: Value| daemon.events(&filters).len();
    for (filters, expected) in [
        (json!({"container": ["web"]}), 2),
        (json!({"container": [&id[..12]]}), 2),
        (json!({"container": ["web", "db"]}), 4),
        (json!({"container": ["eb-1"]}), 0),
        (json!({"container": ["web"], "event": ["start"]}), 1),
        (json!({"network": ["web"]}), 1),
        (json!({"volume": ["web"]}), 1),
        (json!({"type": ["network", "volume"]}), 2),
        (json!({"label": ["tier"]}), 2),
        (json!({"label": ["tier=back"]}), 0),
        (json!({"scope": ["swarm"]}), 0),
        (
            json!({"scope": ["local"], "image": ["busybox"], "type": ["container"]}),
            4,
        ),
    ] {
        assert_eq!(count(filters.clone()), expected, "{filters}");
    }
}

#[test]
fn since_and_until_bound_what_is_told() {
    let daemon = daemon();
    daemon.docker("volume create one").ok();
    daemon.docker("volume create two").ok();
    daemon.docker("volume create three").ok();
    let all = daemon.events(&json!({"type": ["volume"]}));
    let at = |index: usize| {
        let time = all[index]["timeNano"].as_i64().unwrap();
        format!("{}.{:09}", time / 1_000_000_000, time % 1_000_000_000)
    };
    let names = |query: &str| -> Vec<String> {
        let answer = daemon
            .api()
            .get(&format!("/events?{query}&filters={{\"type\":[\"volume\"]}}"))
            .expect(200);
        let lines = answer.text();
        let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events
            .map(|event| event["Actor"]["ID"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&format!("until={}", at(1))), ["one", "two"]);
    // Zero is a time as any other: all that is remembered, and what comes; nothing at all.
    let mut events = daemon.api().open();
    events.send("GET", "/events?since=0&filters={\"type\":[\"volume\"]}", None);
    events.head();
    for name in ["one", "two", "three"] {
        let event: Value = serde_json::from_slice(&events.chunk()).unwrap();
        assert_eq!(event["Actor"]["ID"], name);
    }
    assert_eq!(names("until=0"), [""; 0]);
    assert_eq!(names(&format!("since={}&until={}", at(1), at(2))), ["two", "three"]);
    let (late, early) = (at(2), at(0));
    let answer = daemon.api().get(&format!("/events?since={late}&until={early}"));
    let expected = format!("`since` time ({late}) cannot be after `until` time ({early})");
    assert_eq!(answer.expect(400).message(), expected);
}

#[test]
fn a_reader_that_does_not_read_holds_nobody_up() {
    let daemon = daemon();
    let mut deaf = daemon.api().open();
    deaf.send("GET", "/events", None);
    assert_eq!(deaf.head().status, 200);
    let mut listener = daemon.api().open();
    listener.send("GET", "/events?filters={\"event\":[\"rename\"]}", None);
    assert_eq!(listener.head().status, 200);
    daemon.docker("create --name box0 busybox true").ok();
    for number in 0..400 {
        let path = format!("/containers/box{number}/rename?name=box{}", number + 1);
        daemon.api().post(&path, None).expect(204);
    }
    for number in 0..400 {
        let event: Value = serde_json::from_slice(&listener.chunk()).unwrap();
        assert_eq!(event["Actor"]["Attributes"]["oldName"], format!("/box{number}"));
    }
}

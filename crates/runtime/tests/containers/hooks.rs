//! Hooks: each at its moment, in its namespaces, told the state; and one that fails leaves nothing.
use std::fs;

use corten_runtime::shim::protocol::FailureKind;
use serde_json::{Value, json};

use super::{Test, world::World};

pub const TESTS: &[Test] = &[
    ("hooks_run_in_their_order", hooks_run_in_their_order),
    ("hooks_run_in_their_namespaces", hooks_run_in_their_namespaces),
    ("hooks_are_told_the_state", hooks_are_told_the_state),
    ("a_hook_that_fails_leaves_nothing", a_hook_that_fails_leaves_nothing),
    ("hooks_without_a_bundle_are_refused", hooks_without_a_bundle_are_refused),
];

/// Hooks of the host's shell, by kind.
fn set(world: &World, hooks: &[(&str, &str)]) {
    let mut document = json!({});
    for (kind, script) in hooks {
        let hook = json!({
            "path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 10,
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", format!("W={}", world.path("").display())],
        });
        document[kind] = json!([hook]);
    }
    world.edit(|spec| spec["hooks"] = document);
}

fn read(world: &World, name: &str) -> String {
    fs::read_to_string(world.path(name))
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn hooks_run_in_their_order() {
    let world = World::new();
    set(
        &world,
        &[
            ("prestart", "echo prestart >>$W/story"),
            ("createRuntime", "echo createRuntime >>$W/story"),
            ("createContainer", "echo createContainer >>$W/story"),
            ("startContainer", "echo startContainer >/started"),
            ("poststart", "echo poststart >>$W/story"),
            ("poststop", "echo poststop >>$W/story"),
        ],
    );
    world.script("cat /started; sleep 0.3");
    assert_eq!(world.run(), (0, "startContainer\n".to_owned()));
    assert_eq!(
        read(&world, "story"),
        "prestart\ncreateRuntime\ncreateContainer\npoststart\npoststop"
    );
}

fn hooks_run_in_their_namespaces() {
    let world = World::new();
    let look = |file: &str| {
        format!("for kind in mnt net pid uts; do readlink /proc/self/ns/$kind; done >$W/{file}; hostname >>$W/{file}")
    };
    // The root file system is there already, at the place that the bundle tells, and the root has not changed yet.
    let inside = format!("{}; ls $W/task/bin/busybox /etc/passwd >/dev/null", look("inside"));
    let (outside, after) = (look("outside"), look("after"));
    set(
        &world,
        &[
            ("createRuntime", &outside),
            ("createContainer", &inside),
            ("poststop", &after),
        ],
    );
    world.edit(|spec| spec["hostname"] = json!("box"));
    assert_eq!(world.script("true").run().0, 0);
    let own = |kind: &str| {
        fs::read_link(format!("/proc/self/ns/{kind}"))
            .unwrap()
            .display()
            .to_string()
    };
    for file in ["outside", "after"] {
        let seen = read(&world, file);
        let kinds: Vec<_> = seen.lines().take(4).map(str::to_owned).collect();
        assert_eq!(kinds, ["mnt", "net", "pid", "uts"].map(own), "{file}");
    }
    let seen = read(&world, "inside");
    for kind in ["mnt", "net", "pid", "uts"] {
        assert!(!seen.contains(&own(kind)), "{kind}: {seen}");
    }
    assert_eq!(seen.lines().last(), Some("box"));
}

fn hooks_are_told_the_state() {
    let world = World::new();
    set(
        &world,
        &[
            ("createRuntime", "cat >$W/creating"),
            ("poststart", "cat >$W/running"),
            ("poststop", "cat >$W/stopped"),
        ],
    );
    world.edit(|spec| spec["annotations"] = json!({"a": "b"}));
    let mut container = world.script("sleep 0.2").start().unwrap();
    let pid = container.state.as_ref().unwrap().pid;
    container.wait();
    let state = |name: &str| -> Value { serde_json::from_str(&read(&world, name)).unwrap() };
    for status in ["creating", "running", "stopped"] {
        let told = state(status);
        assert_eq!(told["status"], status);
        assert_eq!(told["bundle"], world.path("").to_str().unwrap().trim_end_matches('/'));
        assert_eq!(told["annotations"], json!({"a": "b"}));
        assert_eq!(told["id"].as_str().unwrap().len(), 64);
        let expected = if status == "stopped" { Value::Null } else { json!(pid) };
        assert_eq!(told["pid"], expected, "{status}");
    }
}

fn a_hook_that_fails_leaves_nothing() {
    for kind in [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
    ] {
        let world = World::new();
        set(&world, &[(kind, "echo broken >&2; exit 7")]);
        let failure = world.script("sleep 1000").failure();
        assert_eq!(failure.kind, FailureKind::Invalid);
        let named = if kind == "prestart" { "createRuntime" } else { kind };
        assert_eq!(
            failure.message,
            format!("error running {named} hook /bin/sh: exit status 7: broken")
        );
        world.assert_nothing_left();
    }
}

fn hooks_without_a_bundle_are_refused() {
    let world = World::new();
    set(&world, &[("createRuntime", "true")]);
    world.request(|request| request.bundle = None);
    assert_eq!(world.failure().message, "hooks need a bundle to be told of");
    world.assert_nothing_left();
}

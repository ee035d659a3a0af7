//! How containers go: by `--rm`, by `rm` in every state, by `prune`; and who gets their names.
use std::{thread, time::Duration};

use corten_testkit::{
    archive::Tar,
    daemon::{Daemon, names_in},
    image, process,
    wait::wait_until,
};
use serde_json::{Value, json};

use crate::{WAIT, background, daemon, sh};

fn is_gone(daemon: &Daemon, name: &str) -> bool {
    daemon.api().get(&format!("/containers/{name}/json")).status == 404
}

#[test]
fn a_restart_is_no_end_for_one_that_goes_at_its_end() {
    let daemon = daemon();
    let id = background(&daemon, "--rm --name box", &format!("echo run >>/runs; {WAIT}"));
    daemon.wait_for_log("box", "ready");
    daemon.docker("restart box").ok();
    assert_eq!(daemon.inspect("box")["Id"].as_str(), Some(id.as_str()));
    wait_until("its files are still there", || {
        daemon.exec("box", ["cat", "/runs"]).ok() == "run\nrun"
    });
    daemon.docker("stop box").ok();
    wait_until("it is gone", || is_gone(&daemon, "box"));
    daemon.assert_nothing_remains();
}

#[test]
fn one_that_goes_at_its_end_is_remembered_by_the_next_daemon() {
    let mut daemon = daemon();
    background(&daemon, "--rm --name box -v /data", WAIT);
    daemon.wait_for_log("box", "ready");
    let pid = daemon.container_pid("box");
    daemon.kill_and_start();
    assert_eq!(daemon.container_pid("box"), pid);
    let mut wait = daemon.api().open();
    wait.send("POST", "/containers/box/wait?condition=removed", None);
    assert_eq!(wait.head().status, 200);
    daemon.docker("stop box").ok();
    let ended: Value = serde_json::from_slice(&wait.chunks()).unwrap();
    assert_eq!(ended["StatusCode"], 0);
    assert!(is_gone(&daemon, "box"));
    assert_eq!(
        daemon.api().get("/volumes").json()["Volumes"].as_array().map(Vec::len),
        Some(0)
    );
    daemon.assert_nothing_remains();
}

#[test]
fn after_a_reboot_nothing_is_left_of_those_that_go_at_their_end() {
    let mut daemon = daemon();
    background(&daemon, "--rm --name box", WAIT);
    daemon
        .docker("create --rm --name fresh --network none busybox true")
        .ok();
    daemon.reboot();
    daemon.start_process();
    wait_until("both are gone", || is_gone(&daemon, "box") && is_gone(&daemon, "fresh"));
    daemon.assert_nothing_remains();
}

#[test]
fn who_waits_for_the_removal_hears_of_it_when_the_name_is_free() {
    let daemon = daemon();
    for round in 0..10 {
        let body = json!({"Image": "busybox", "Cmd": ["sh", "-c", format!("exit {round}")],
            "HostConfig": {"NetworkMode": "none", "AutoRemove": round % 2 == 0}});
        daemon
            .api()
            .post("/containers/create?name=box", Some(&body))
            .expect(201);
        let mut waits = ["removed", "next-exit"].map(|condition| {
            let mut wait = daemon.api().open();
            wait.send("POST", &format!("/containers/box/wait?condition={condition}"), None);
            assert_eq!(wait.head().status, 200);
            wait
        });
        daemon.api().post("/containers/box/start", None).expect(204);
        let ended: Value = serde_json::from_slice(&waits[1].chunks()).unwrap();
        assert_eq!(ended["StatusCode"], round);
        if round % 2 == 1 {
            daemon.api().delete("/containers/box").expect(204);
        }
        let removed: Value = serde_json::from_slice(&waits[0].chunks()).unwrap();
        assert_eq!(removed["StatusCode"], round);
        assert!(is_gone(&daemon, "box"), "round {round}");
    }
    daemon.assert_nothing_remains();
}

#[test]
fn force_removes_in_every_state() {
    let daemon = daemon();
    let states: [(&str, &dyn Fn()); 5] = [
        ("created", &|| {
            drop(daemon.docker("create --name box --network none busybox true").ok())
        }),
        ("running", &|| drop(background(&daemon, "--name box", WAIT))),
        ("paused", &|| {
            background(&daemon, "--name box", WAIT);
            daemon.docker("pause box").ok();
        }),
        ("exited", &|| drop(background(&daemon, "--name box", "true"))),
        ("restarting", &|| {
            background(&daemon, "--name box --restart always", "false");
            wait_until("it has been restarted a few times", || {
                daemon.inspect("box")["RestartCount"].as_u64() >= Some(4)
            });
        }),
    ];
    for (state, make) in states {
        make();
        daemon.wait_for_status("box", state);
        daemon.docker("rm -f box").ok();
        assert!(is_gone(&daemon, "box"), "{state}");
        daemon.assert_nothing_remains();
    }
}

#[test]
fn force_wins_over_those_who_start_it_again() {
    let daemon = daemon();
    for _ in 0..10 {
        daemon
            .docker("create --name box --network none busybox sleep 1000")
            .ok();
        thread::scope(|scope| {
            for verb in ["start", "restart?t=0", "start", "restart?t=0"] {
                let daemon = &daemon;
                scope.spawn(move || while daemon.api().post(&format!("/containers/box/{verb}"), None).status != 404 {});
            }
            daemon.wait_for_status("box", "running");
            daemon.api().delete("/containers/box?force=1").expect(204);
        });
    }
    daemon.assert_nothing_remains();
}

#[test]
fn many_are_removed_at_once_by_everybody() {
    let daemon = daemon();
    for number in 0..24 {
        background(&daemon, ["--name", &format!("box{number}")], WAIT);
    }
    let api = daemon.api();
    thread::scope(|scope| {
        for worker in 0..4 {
            let api = &api;
            scope.spawn(move || {
                for number in 0..24 {
                    let answer = api.delete(&format!("/containers/box{}?force=1", (number + 6 * worker) % 24));
                    assert!(
                        matches!(answer.status, 204 | 404 | 409),
                        "{} {}",
                        answer.status,
                        answer.text()
                    );
                }
            });
        }
    });
    daemon.assert_nothing_remains();
}

#[test]
fn of_many_who_want_a_name_one_gets_it() {
    let daemon = daemon();
    let body = json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}});
    let api = daemon.api();
    let answers = thread::scope(|scope| {
        let workers: Vec<_> = (0..12)
            .map(|_| scope.spawn(|| api.post("/containers/create?name=box", Some(&body))))
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .collect::<Vec<_>>()
    });
    let (made, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 201);
    assert_eq!(made.len(), 1);
    let id = made[0].json()["Id"].as_str().unwrap().to_owned();
    for answer in refused {
        assert_eq!(
            answer.expect(409).message(),
            format!(
                "Conflict. The container name \"/box\" is already in use by container \"{id}\". You have to remove (or \
                 rename) that container to be able to reuse that name."
            )
        );
    }
    daemon
        .api()
        .post("/containers/create?name=other", Some(&body))
        .expect(201);
    let refused = daemon
        .api()
        .post("/containers/other/rename?name=box", None)
        .expect(409)
        .message();
    assert!(refused.contains("is already in use by container"), "{refused}");
    daemon.docker("rm box other").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn prune_takes_what_its_filters_name_and_never_what_will_run_again() {
    let daemon = daemon();
    background(&daemon, "--name waits --restart always", "false");
    for (name, label) in [("old", "keep=no"), ("kept", "keep=yes"), ("plain", "x=y")] {
        daemon
            .docker([
                "create",
                "--name",
                name,
                "--label",
                label,
                "--network",
                "none",
                "busybox",
                "true",
            ])
            .ok();
    }
    let prune = |filters: &Value| -> Vec<String> {
        let answer = daemon
            .api()
            .post(&format!("/containers/prune?filters={filters}"), None)
            .expect(200)
            .json();
        let deleted = answer["ContainersDeleted"].as_array().cloned().unwrap_or_default();
        deleted.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(prune(&json!({"until": ["1h"]})).len(), 0);
    assert_eq!(prune(&json!({"label": ["keep=no"]})).len(), 1);
    assert_eq!(prune(&json!({"label!": ["keep"]})).len(), 1);
    thread::sleep(Duration::from_millis(1100));
    assert_eq!(prune(&json!({"until": ["1s"]})).len(), 1);
    let refused = daemon
        .api()
        .post("/containers/prune?filters={\"until\":[\"soon\"]}", None)
        .expect(400);
    assert!(refused.message().contains("soon"), "{}", refused.message());
    assert_eq!(prune(&json!({})), Vec::<String>::new());
    assert!(!is_gone(&daemon, "waits"));
}

#[test]
fn a_daemon_that_dies_within_a_removal_leaves_nothing_half_removed() {
    let mut daemon = daemon();
    for round in 0..6 {
        let pids: Vec<_> = (0..4)
            .map(|number| {
                let name = format!("box{number}");
                background(&daemon, ["--name", &name], WAIT);
                daemon.container_pid(&name)
            })
            .collect();
        let mut client = daemon.docker_command("rm -f box0 box1 box2 box3").spawn().unwrap();
        thread::sleep(Duration::from_millis(12 + 3 * round));
        daemon.kill();
        let _ = client.kill();
        let _ = client.wait();
        daemon.start_process();
        let left = daemon.docker("ps -aq").ok();
        for id in left.lines() {
            daemon.docker(["rm", "-f", id]).ok();
        }
        assert!(pids.into_iter().all(|pid| !process::is_alive(pid)));
        daemon.assert_nothing_remains();
    }
}

#[test]
fn who_prunes_has_the_room_at_once() {
    let daemon = daemon();
    let trash = daemon.data_root().join("trash");
    let prune = |what: &str| {
        daemon.docker(what).ok();
        assert_eq!(names_in(&trash), Vec::<String>::new(), "{what}");
    };
    let fill = "mkdir -p /data; for number in $(seq 5000); do echo >/data/$number; done";
    daemon
        .docker(["run", "--network", "none", "busybox", "sh", "-c", fill])
        .ok();
    prune("container prune -f");
    sh(&daemon, "-v kept:/data", fill).ok();
    prune("volume prune -af");
    let layer = (0..5000).fold(Tar::new(), |layer, number| {
        layer.file(&number.to_string(), 0o644, b"content")
    });
    daemon.load(&image::busybox().tagged("full:1").layer(layer));
    prune("image prune -af");
    assert_eq!(daemon.docker("system df --format {{.Size}}").ok(), "0B\n0B\n0B\n0B");
}

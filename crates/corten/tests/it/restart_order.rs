//! After a reboot: who depends on others starts after them, and nobody waits for the whole of it.
use std::{collections::HashMap, fs};

use corten_testkit::{daemon::Daemon, wait::wait_until};
use serde_json::json;

use crate::{WAIT, background, daemon};

fn compose(daemon: &Daemon, service: &str, depends_on: &str) {
    compose_with(daemon, service, depends_on, &[]);
}

/// A service as Compose would start it, with a policy.
fn compose_with(daemon: &Daemon, service: &str, depends_on: &str, options: &[&str]) {
    let service_label = format!("com.docker.compose.service={service}");
    let depends_label = format!("com.docker.compose.depends_on={depends_on}");
    let words = [
        &["--name", service, "--restart", "always"],
        &[
            "--label",
            "com.docker.compose.project=shop",
            "--label",
            &service_label,
            "--label",
            &depends_label,
        ][..],
        options,
    ];
    background(daemon, words.concat().as_slice(), WAIT);
}

/// Names in the order of their starts.
fn started(daemon: &Daemon, count: usize) -> HashMap<String, usize> {
    let starts = || -> Vec<String> {
        let events = daemon.events(&json!({"event": ["start"]}));
        let names = events.iter().map(|event| event["Actor"]["Attributes"]["name"].as_str());
        names.map(|name| name.unwrap().to_owned()).collect()
    };
    wait_until("everybody is back", || starts().len() >= count);
    starts()
        .into_iter()
        .enumerate()
        .map(|(place, name)| (name, place))
        .collect()
}

#[test]
fn services_of_compose_start_after_those_that_they_depend_on() {
    let mut daemon = daemon();
    // Made in the wrong order, so that age does not give the right one.
    compose(&daemon, "proxy", "web:service_started:false");
    compose(&daemon, "web", "db:service_healthy:true,cache:service_started:false");
    compose(&daemon, "cache", "");
    compose(&daemon, "db", "disk:service_started:false");
    compose(&daemon, "disk", "");
    daemon.reboot();
    daemon.start_process();
    let place = started(&daemon, 5);
    assert!(place["disk"] < place["db"] && place["db"] < place["web"] && place["cache"] < place["web"]);
    assert!(place["web"] < place["proxy"]);
}

#[test]
fn who_needs_another_healthy_waits_for_its_health_check() {
    let mut daemon = daemon();
    // The check looks at what the test puts there.
    let sign = daemon.root().join("sign");
    fs::create_dir(&sign).unwrap();
    let well = sign.join("well");
    fs::write(&well, "").unwrap();
    let bind = format!("{}:/sign", sign.display());
    let options = [
        "-v",
        &bind,
        "--health-cmd",
        "test -e /sign/well",
        "--health-interval",
        "50ms",
    ];
    let options = [&options[..], &["--health-retries", "1000000"]].concat();
    compose_with(&daemon, "db", "", &options);
    compose(&daemon, "web", "db:service_healthy:true");
    compose(&daemon, "proxy", "web:service_started:false");
    compose(&daemon, "alone", "");
    let health = |daemon: &Daemon| daemon.inspect("db")["State"]["Health"].clone();
    wait_until("the first life is a healthy one", || {
        health(&daemon)["Status"] == "healthy"
    });

    daemon.reboot();
    fs::remove_file(&well).unwrap();
    daemon.start_process();
    daemon.wait_for_status("alone", "running");
    wait_until("it was looked at again and again", || {
        health(&daemon)["FailingStreak"]
            .as_u64()
            .is_some_and(|streak| streak >= 10)
    });
    assert_eq!(daemon.status("db"), "running");
    for name in ["web", "proxy"] {
        assert_eq!(daemon.status(name), "restarting", "{name}");
    }
    fs::write(&well, "").unwrap();
    daemon.wait_for_status("proxy", "running");
    let events = daemon.events(&json!({"type": ["container"], "event": ["start", "health_status"]}));
    let told: Vec<_> = events
        .iter()
        .map(|event| format!("{} {}", event["Actor"]["Attributes"]["name"], event["Action"]).replace('"', ""))
        .filter(|told| !told.starts_with("alone"))
        .collect();
    assert_eq!(
        told,
        ["db start", "db health_status: healthy", "web start", "proxy start"]
    );
}

#[test]
fn whoever_shares_a_namespace_or_has_a_link_starts_after_the_other() {
    let mut daemon = daemon();
    daemon
        .docker([
            "run",
            "-d",
            "--name",
            "base",
            "--restart",
            "always",
            "busybox",
            "sh",
            "-c",
            WAIT,
        ])
        .ok();
    for (name, option) in [("net", "--network=container:base"), ("link", "--link=base:b")] {
        daemon
            .docker([
                "run",
                "-d",
                "--name",
                name,
                "--restart",
                "always",
                option,
                "busybox",
                "sh",
                "-c",
                WAIT,
            ])
            .ok();
    }
    background(&daemon, "--name pid --restart always --pid container:base", WAIT);
    daemon.reboot();
    daemon.start_process();
    let place = started(&daemon, 4);
    for name in ["net", "link", "pid"] {
        assert!(place["base"] < place[name], "{name}");
        assert_eq!(daemon.inspect(name)["RestartCount"], 1, "{name} at its first try");
    }
}

#[test]
fn a_circle_of_dependencies_holds_nobody_up() {
    let mut daemon = daemon();
    compose(&daemon, "hen", "egg:service_started:false");
    compose(&daemon, "egg", "hen:service_healthy:false");
    compose(&daemon, "alone", "alone:service_started:false");
    daemon.reboot();
    daemon.start_process();
    for name in ["hen", "egg", "alone"] {
        daemon.wait_for_status(name, "running");
    }
}

#[test]
fn one_that_waits_for_its_turn_can_be_stopped_and_removed() {
    let mut daemon = daemon();
    // It is waited for to be done, which it never is.
    compose(&daemon, "migrate", "");
    compose(&daemon, "web", "migrate:service_completed_successfully:false");
    compose(&daemon, "worker", "migrate:service_completed_successfully:false");
    daemon.reboot();
    // The daemon answers although two are not back for a long time.
    daemon.start_process();
    daemon.wait_for_status("migrate", "running");
    assert_eq!(daemon.status("web"), "restarting");
    daemon.docker("stop web").ok();
    assert_eq!(daemon.status("web"), "exited");
    daemon.docker("rm -f worker").ok();
    // A daemon that dies meanwhile forgets nothing of it.
    daemon.kill_and_start();
    daemon.wait_for_status("web", "running");
}

//! The configuration is read again on SIGHUP, and the daemon ends as it says.
use std::{fs, path::PathBuf, process::Stdio};

use corten_testkit::{
    daemon::{Daemon, Setup},
    image, process,
    wait::wait_until,
};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{WAIT, background, setup};

/// A setup with a configuration file, and where that is.
fn with_file(content: &str) -> (Setup, PathBuf, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("daemon.json");
    fs::write(&file, content).unwrap();
    let setup = setup().arguments(["--config-file", file.to_str().unwrap()]);
    (setup, file, directory)
}

fn info(daemon: &Daemon) -> Value {
    daemon.api().get("/info").expect(200).json()
}

fn reloads(daemon: &Daemon) -> usize {
    daemon.log().matches("reloaded the configuration").count()
}

#[track_caller]
fn reload(daemon: &Daemon) {
    let before = reloads(daemon);
    process::signal(daemon.pid(), Signal::HUP);
    wait_until("the configuration is reloaded", || reloads(daemon) > before);
}

#[test]
fn a_reload_puts_the_file_into_force_and_tells_everybody() {
    let (setup, file, _directory) = with_file(r#"{"labels": ["room=cellar"]}"#);
    let daemon = setup.start();
    daemon.load(&image::busybox());
    background(&daemon, "--name box", WAIT);
    let new = r#"{"labels": ["room=attic"], "registry-mirrors": ["https://mirror.example"],
        "insecure-registries": ["10.0.0.0/8", "here:5000"], "default-shm-size": "1M", "live-restore": false,
        "shutdown-timeout": 5, "max-concurrent-downloads": 7, "max-concurrent-uploads": 8,
        "max-download-attempts": 9, "features": {"buildkit": true}, "default-ipc-mode": "shareable"}"#;
    fs::write(&file, new).unwrap();
    reload(&daemon);
    let shown = info(&daemon);
    assert_eq!(shown["Labels"][0], "room=attic");
    assert_eq!(shown["LiveRestoreEnabled"], false);
    assert_eq!(shown["RegistryConfig"]["Mirrors"][0], "https://mirror.example");
    assert_eq!(shown["RegistryConfig"]["InsecureRegistryCIDRs"][0], "10.0.0.0/8");
    daemon.docker("create --name small --network none busybox").ok();
    let host = &daemon.inspect("small")["HostConfig"];
    assert_eq!(
        (host["ShmSize"].as_i64(), host["IpcMode"].as_str()),
        (Some(1 << 20), Some("shareable"))
    );
    assert_eq!(daemon.status("box"), "running", "containers do not notice");

    let until = (std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 1).to_string();
    let words = [
        "events",
        "--since",
        "0",
        "--until",
        &until,
        "--filter",
        "event=reload",
        "--format",
        "{{json .}}",
    ];
    let told = daemon.docker(words).ok();
    let event: Value = serde_json::from_str(told.lines().next().expect("one event")).unwrap();
    assert_eq!(
        (event["Type"].as_str(), event["Action"].as_str()),
        (Some("daemon"), Some("reload"))
    );
    assert_eq!(event["Actor"]["ID"], info(&daemon)["ID"]);
    let attributes = &event["Actor"]["Attributes"];
    for (name, value) in [
        ("labels", "[\"room=attic\"]"),
        ("live-restore", "false"),
        ("max-concurrent-downloads", "7"),
        ("max-concurrent-uploads", "8"),
        ("max-download-attempts", "9"),
        ("shutdown-timeout", "5"),
        ("registry-mirrors", "[\"https://mirror.example\"]"),
        ("features", "{\"buildkit\":true}"),
    ] {
        assert_eq!(attributes[name], value, "{name} in {attributes}");
    }
    // What is not in the file any more is at its default.
    fs::write(&file, "{}").unwrap();
    reload(&daemon);
    let shown = info(&daemon);
    assert_eq!(
        (
            shown["Labels"].as_array().unwrap().len(),
            shown["LiveRestoreEnabled"].as_bool()
        ),
        (0, Some(true))
    );
}

#[test]
fn the_log_level_follows() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("daemon.json");
    fs::write(&file, "{}").unwrap();
    // The test daemon's own --debug would contradict the file.
    let script = "a=$1; shift; set -- \"$@\"; for word do shift; [ \"$word\" = --debug ] || set -- \"$@\" \"$word\"; done; \
        exec \"$a\" \"$@\"";
    let daemon = setup()
        .wrapper(["sh", "-c", script, "sh"])
        .arguments(["--config-file", file.to_str().unwrap()])
        .start();
    daemon.api().get("/_ping").expect(200);
    assert!(!daemon.log().contains("/_ping"));
    fs::write(&file, r#"{"debug": true}"#).unwrap();
    reload(&daemon);
    daemon.api().get("/_ping").expect(200);
    wait_until("requests are logged", || daemon.log().contains("/_ping"));
    assert_eq!(info(&daemon)["Debug"], true);
}

#[test]
fn a_file_that_is_no_good_changes_nothing() {
    let (setup, file, _directory) = with_file(r#"{"labels": ["room=cellar"]}"#);
    let daemon = setup.arguments("--max-concurrent-downloads 2").start();
    for (content, named) in [
        ("no JSON", "unable to configure the Docker daemon with file"),
        (
            r#"{"labels": ["room=attic"], "no-such-key": 1}"#,
            "don't match any configuration option: no-such-key",
        ),
        (r#"{"labels": ["nothing"]}"#, "bad attribute format: nothing"),
        (
            r#"{"max-concurrent-downloads": 5}"#,
            "max-concurrent-downloads: (from flag: 2, from file: 5)",
        ),
        (
            r#"{"default-runtime": "kata"}"#,
            "specified default runtime 'kata' does not exist",
        ),
    ] {
        fs::write(&file, content).unwrap();
        process::signal(daemon.pid(), Signal::HUP);
        wait_until("the daemon says what is wrong", || daemon.log().contains(named));
        assert_eq!(info(&daemon)["Labels"][0], "room=cellar");
    }
    let complaints = daemon.log().matches("the old one stays in force").count();
    assert_eq!(complaints, 5, "one clear error each");
    assert_eq!(reloads(&daemon), 0);
    fs::write(&file, r#"{"labels": ["room=attic"], "dns": ["192.0.2.1"]}"#).unwrap();
    reload(&daemon);
    assert!(daemon.log().contains("a new start is needed for changes of dns"));
    assert_eq!(info(&daemon)["Labels"][0], "room=attic");
}

#[test]
fn a_configuration_is_validated_without_a_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("daemon.json");
    let validate = |content: &str| {
        fs::write(&file, content).unwrap();
        let file = file.to_str().unwrap();
        setup().arguments(["--validate", "--config-file", file]).start_in_vain()
    };
    let good = validate(r#"{"labels": ["a=b"], "live-restore": false, "log-format": "json"}"#);
    assert_eq!((good.code, good.error().as_str()), (0, "configuration OK"));
    for (content, named) in [
        (r#"{"lables": []}"#, "don't match any configuration option: lables"),
        (r#"{"debug": false}"#, "debug: (from flag: true, from file: false)"),
        (r#"{"shutdown-timeout": "soon"}"#, "invalid type"),
        (
            r#"{"tlsverify": true, "tlscacert": "/no/ca", "tlscert": "/no/cert", "tlskey": "/no/key"}"#,
            "/no/cert",
        ),
        (r#"{"runtimes": {"kata": {"path": "/kata"}}}"#, "another OCI runtime"),
        (r#"{"registry-mirrors": ["mirror"]}"#, "invalid mirror"),
    ] {
        let error = validate(content).fails(1);
        assert!(error.contains(named), "{content}: {error}");
        assert!(
            !error.starts_with("failed to start daemon"),
            "dockerd has no such prefix here: {error}"
        );
    }
}

#[test]
fn log_lines_may_be_json() {
    let daemon = setup().arguments("--log-format json").start();
    let log = daemon.log();
    let first: Value = serde_json::from_str(log.lines().next().expect("a line")).expect("an object");
    assert!(
        first["msg"].is_string() && first["level"].is_string() && first["time"].is_string(),
        "{first}"
    );
}

#[test]
fn containers_outlive_the_daemon_unless_they_are_not_to() {
    let mut daemon = setup().start();
    daemon.load(&image::busybox());
    background(&daemon, "--name box", WAIT);
    let pid = daemon.container_pid("box");
    daemon.stop();
    assert!(process::is_alive(pid));
    daemon.start_process();
    assert_eq!(daemon.status("box"), "running");
    assert_eq!(daemon.container_pid("box"), pid);
}

#[test]
fn with_live_restore_off_containers_end_with_the_daemon_all_at_once() {
    let mut daemon = setup().arguments("--live-restore=false --shutdown-timeout 5").start();
    daemon.load(&image::busybox());
    assert_eq!(info(&daemon)["LiveRestoreEnabled"], false);
    background(&daemon, "--name obeys", WAIT);
    background(&daemon, "--name returns --restart always", WAIT);
    daemon.wait_for_log("returns", "ready");
    let stubborn = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
    // Each would take its ten minutes; the daemon's limit is five seconds for all of them.
    for number in 0..4 {
        background(
            &daemon,
            &format!("--name stubborn{number} --stop-timeout 600"),
            stubborn,
        );
        daemon.wait_for_log(&format!("stubborn{number}"), "ready");
    }
    daemon.wait_for_log("obeys", "ready");
    daemon.stop();
    assert!(daemon.cgroups("x").is_empty());
    wait_until("nothing runs", || daemon.processes().is_empty());
    daemon.start_process();
    daemon.wait_for_status("returns", "running");
    assert_eq!(daemon.inspect("obeys")["State"]["ExitCode"], 0);
    assert_eq!(daemon.inspect("stubborn3")["State"]["ExitCode"], 137);
    daemon.docker("start obeys").ok();
    assert_eq!(daemon.status("obeys"), "running");
}

#[test]
fn what_is_being_answered_gets_to_finish() {
    let mut daemon = setup().start();
    daemon.load(&image::busybox());
    let script = "trap 'echo told; sleep 3; exit 7' TERM; echo ready; while :; do sleep 0.05; done";
    background(&daemon, "--name slow", script);
    daemon.wait_for_log("slow", "ready");
    let mut stop = daemon.docker_command("stop slow");
    let stop = stop.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // An endless answer does not hold it up.
    let mut events = daemon.docker_command("events");
    let mut events = events.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    daemon.wait_for_log("slow", "told");
    daemon.stop();
    let output = stop.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "slow");
    let _ = events.kill();
    let _ = events.wait();
}

#[test]
fn a_second_signal_ends_the_daemon_at_once() {
    let mut daemon = setup().arguments("--live-restore=false --shutdown-timeout -1").start();
    daemon.load(&image::busybox());
    let stubborn = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
    background(&daemon, "--name stubborn --stop-timeout -1", stubborn);
    daemon.wait_for_log("stubborn", "ready");
    let pid = daemon.container_pid("stubborn");
    process::signal(daemon.pid(), Signal::TERM);
    wait_until("it stops containers", || daemon.log().contains("stopping containers"));
    assert!(process::is_alive(daemon.pid()), "it waits for the container, for ever");
    daemon.stop();
    assert!(daemon.log().contains("told twice to end"));
    assert!(process::is_alive(pid));
    daemon.start_process();
    assert_eq!(daemon.status("stubborn"), "running");
}

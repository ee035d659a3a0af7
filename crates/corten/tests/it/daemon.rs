//! The daemon itself: its flags, its files, its end.
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
};

use corten_testkit::{command::run, image, wait::wait_until};

use crate::{daemon, setup};

#[test]
fn two_daemons_live_side_by_side() {
    let one = daemon();
    let other = setup().start();
    assert_eq!(one.docker("images -q").ok().lines().count(), 1);
    assert_eq!(other.docker("images -q").ok(), "");
}

#[test]
fn a_second_daemon_on_the_same_data_root_is_refused() {
    let one = setup().start();
    let output = setup().data_root(&one.data_root()).start_in_vain();
    assert_ne!(output.code, 0);
    assert!(
        output.error().contains(&one.data_root().display().to_string()),
        "{output:?}"
    );
    one.docker("version").ok();
}

#[test]
fn the_pid_file_and_the_socket_go_away_with_the_daemon() {
    let mut daemon = setup().start();
    assert_eq!(
        fs::read_to_string(daemon.pid_file()).unwrap().trim(),
        daemon.pid().to_string()
    );
    daemon.stop();
    assert!(!daemon.pid_file().exists());
    assert!(!daemon.socket().exists());
    wait_until("the launcher is gone too", || daemon.processes().is_empty());
}

#[test]
fn the_configuration_file_is_dockers() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("daemon.json");
    fs::write(
        &file,
        r#"{"labels": ["room=cellar"], "log-opts": {"max-size": "10k", "max-file": "2"}, "init": true}"#,
    )
    .unwrap();
    let daemon = setup().arguments(["--config-file", file.to_str().unwrap()]).start();
    daemon.load(&image::busybox());
    let info = daemon.api().get("/info").expect(200).json();
    assert_eq!(info["Labels"][0], "room=cellar");
    daemon.docker("create --name box --network none busybox").ok();
    assert_eq!(
        daemon.inspect("box")["HostConfig"]["LogConfig"]["Config"]["max-size"],
        "10k"
    );
    let first = daemon.docker("run --rm --network none busybox cat /proc/1/comm").ok();
    assert_eq!(first, "docker-init");
}

#[test]
fn a_configuration_that_contradicts_itself_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("daemon.json");
    for (content, flags, named) in [
        (r#"{"no-such-key": 1}"#, "", "no-such-key"),
        (r#"{"labels": ["a=b"]}"#, "--label c=d", "label"),
        ("not JSON", "", file.to_str().unwrap()),
    ] {
        fs::write(&file, content).unwrap();
        let output = setup()
            .arguments(["--config-file", file.to_str().unwrap()])
            .arguments(flags)
            .start_in_vain();
        assert_eq!(output.code, 1, "{output:?}");
        assert!(output.error().contains(named), "{content}: {output:?}");
    }
    let output = setup().arguments("--no-such-flag").start_in_vain();
    assert_ne!(output.code, 0);
    assert!(output.error().contains("--no-such-flag"), "{output:?}");
}

#[test]
fn it_listens_on_tcp_too() {
    let daemon = setup().arguments("-H tcp://127.0.0.1:2375").start();
    let answer = daemon.in_network(|| {
        let mut stream = TcpStream::connect("127.0.0.1:2375").unwrap();
        stream
            .write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("OK"), "{answer}");
    let mut command = daemon.docker_command("-H tcp://127.0.0.1:2375 version");
    command.env_remove("DOCKER_HOST");
    daemon.in_network(|| run(&mut command)).ok();
}

#[test]
fn the_socket_is_for_root_and_its_group_alone() {
    let daemon = setup().arguments("--group root").start();
    let mode = fs::metadata(daemon.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let mode = fs::metadata(daemon.data_root()).unwrap().permissions().mode();
    assert_eq!(mode & 0o007, 0, "others cannot look into the data root");
}

#[test]
fn disk_usage_counts_what_images_share_once() {
    let daemon = daemon();
    let extra = |tag: &str, bytes: usize| {
        let layer = corten_testkit::archive::Tar::new().file(tag, 0o644, &vec![b'x'; bytes]);
        image::busybox().layer(layer).tagged(&format!("{tag}:1"))
    };
    daemon.load(&extra("one", 100_000));
    daemon.load(&extra("other", 300_000));
    let usage = daemon.api().get("/system/df").expect(200).json();
    let size = |reference: &str| {
        let image = usage["Images"].as_array().unwrap().iter();
        let tagged = |image: &&serde_json::Value| image["RepoTags"][0] == reference;
        let image = image
            .clone()
            .find(tagged)
            .unwrap_or_else(|| panic!("{reference} in {usage}"));
        (image["Size"].as_i64().unwrap(), image["SharedSize"].as_i64().unwrap())
    };
    let (base, base_shared) = size("busybox:latest");
    assert_eq!(base, base_shared, "all of it is in the others too");
    let ((one, one_shared), (other, other_shared)) = (size("one:1"), size("other:1"));
    assert_eq!((one_shared, other_shared), (base, base));
    assert_eq!(other - one, 200_000);
    assert_eq!(
        usage["LayersSize"].as_i64().unwrap(),
        base + (one - base) + (other - base)
    );
    // The docker command line subtracts what is shared.
    let table = daemon.docker("system df -v").ok();
    let unique = table
        .lines()
        .find(|line| line.starts_with("one "))
        .unwrap()
        .split_whitespace();
    assert!(unique.clone().any(|word| word == "100kB"), "{table}");
    // Lists tell it only when they are asked for it.
    let listed = |query: &str| daemon.api().get(&format!("/images/json{query}")).json()[0]["SharedSize"].clone();
    assert_eq!(listed(""), -1);
    assert_eq!(listed("?shared-size=1"), base);
    // One kind at a time.
    let only = daemon.api().get("/system/df?type=container").expect(200).json();
    assert_eq!(only["Images"].as_array().map(Vec::len), Some(0));
    let unknown = daemon.api().get("/system/df?type=spoon").expect(400).message();
    assert_eq!(unknown, "unknown object type: spoon");
}

#[test]
fn prunes_are_told() {
    let daemon = daemon();
    daemon.docker("system prune -af --volumes").ok();
    let until = (std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 1).to_string();
    let words = [
        "events",
        "--since",
        "0",
        "--until",
        &until,
        "--filter",
        "event=prune",
        "--format",
        "{{.Type}}",
    ];
    let mut told: Vec<_> = daemon.docker(words).ok().lines().map(str::to_owned).collect();
    told.sort();
    assert_eq!(told, ["container", "image", "network", "volume"]);
}

#[test]
fn what_needs_a_swarm_or_a_plugin_is_answered_as_docker_does_without() {
    let daemon = daemon();
    let api = daemon.api();
    let manager = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node \
                   to swarm and try again.";
    for (method, path) in [
        ("GET", "/swarm"),
        ("POST", "/swarm/update?version=1"),
        ("GET", "/swarm/unlockkey"),
        ("GET", "/nodes"),
        ("GET", "/nodes/one"),
        ("GET", "/services"),
        ("POST", "/services/create"),
        ("GET", "/services/one/logs"),
        ("GET", "/tasks"),
        ("POST", "/secrets/create"),
        ("DELETE", "/configs/one"),
    ] {
        assert_eq!(
            api.request(method, path, None).expect(503).message(),
            manager,
            "{method} {path}"
        );
    }
    assert_eq!(
        api.post("/swarm/leave", None).expect(503).message(),
        "This node is not part of a swarm"
    );
    let update = api
        .request("PUT", "/volumes/data?version=1", None)
        .expect(503)
        .message();
    assert_eq!(
        update,
        "volume update only valid for cluster volumes, but swarm is unavailable"
    );
    assert!(
        daemon
            .docker("node ls")
            .fails(1)
            .contains("This node is not a swarm manager")
    );
    let init = daemon.docker("swarm init").fails(1);
    assert!(init.contains("swarm mode is not implemented"), "{init:?}");
    assert_eq!(daemon.docker("plugin ls -q").ok(), "");
    assert!(
        daemon
            .docker("plugin rm one")
            .fails(1)
            .contains("plugin \"one\" not found")
    );
    for verb in ["enable", "disable", "push", "set"] {
        let message = api
            .post(&format!("/plugins/one/two:1/{verb}"), None)
            .expect(404)
            .message();
        assert_eq!(message, "plugin \"one/two:1\" not found");
    }
}

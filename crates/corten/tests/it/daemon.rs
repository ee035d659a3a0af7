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

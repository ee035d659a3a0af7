//! Real input: a Debian with redis-server in it, made from Debian's packages.
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
};

use corten_testkit::{
    daemon::Daemon,
    debian, process,
    wait::{wait_for, wait_until},
};

use crate::setup;

/// A daemon with `debian:redis` in it.
fn daemon() -> Daemon {
    let daemon = setup().start();
    let archive = debian::redis_archive();
    let words = [
        "import",
        "--change",
        "CMD [\"redis-server\", \"--save\", \"\"]",
        "--change",
        "USER redis",
        archive.to_str().unwrap(),
        "debian:redis",
    ];
    daemon.docker(words).ok();
    daemon
}

/// One command of redis, by the port of the daemon's network namespace.
fn redis(daemon: &Daemon, command: &str) -> Option<String> {
    daemon.in_network(|| {
        let mut stream = TcpStream::connect("127.0.0.1:6379").ok()?;
        write!(stream, "{command}\r\n").ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok()?;
        Some(line.trim_end().to_owned())
    })
}

#[track_caller]
fn wait_for_redis(daemon: &Daemon) {
    wait_until("redis answers", || redis(daemon, "PING").as_deref() == Some("+PONG"));
}

#[test]
fn redis_serves_within_limits_is_paused_resumed_and_stopped() {
    let daemon = daemon();
    let words = "run -d --name redis --network host --memory 128m --cpus 1 --pids-limit 64 debian:redis";
    let id = daemon.docker(words).ok();
    wait_for_redis(&daemon);
    assert_eq!(redis(&daemon, "SET key value").unwrap(), "+OK");
    let pid = daemon.container_pid("redis");
    assert_eq!(process::status_field(pid, "CapEff").unwrap(), "0000000000000000");
    assert_ne!(process::status_field(pid, "Uid").unwrap().split('\t').next(), Some("0"));
    assert!(daemon.docker("top redis").ok().contains("redis-server"));
    daemon.wait_for_log("redis", "Ready to accept connections");

    daemon.docker("pause redis").ok();
    let answered = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| redis(&daemon, "GET key"));
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(!waiting.is_finished(), "a paused redis answers");
        daemon.docker("unpause redis").ok();
        waiting.join().unwrap()
    });
    assert_eq!(answered.unwrap(), "$5");
    assert_eq!(redis(&daemon, "DBSIZE").unwrap(), ":1");

    daemon.docker("stop redis").ok();
    let state = &daemon.inspect("redis")["State"];
    assert_eq!(
        (state["ExitCode"].as_i64(), state["OOMKilled"].as_bool()),
        (Some(0), Some(false))
    );
    assert!(daemon.docker("logs redis").ok().contains("User requested shutdown"));
    assert!(redis(&daemon, "PING").is_none());
    assert!(daemon.cgroups(&id).is_empty());
    daemon.docker("rm redis").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn redis_that_takes_too_much_is_killed_and_reported() {
    let daemon = daemon();
    daemon
        .docker("run -d --name redis --network host --memory 24m --memory-swap 24m debian:redis")
        .ok();
    wait_for_redis(&daemon);
    // 64 values of one megabyte; the answer to one of them is the kernel's.
    for number in 0..64 {
        let value = "x".repeat(1 << 20);
        if redis(
            &daemon,
            &format!("*3\r\n$3\r\nSET\r\n$5\r\nkey{number:02}\r\n${}\r\n{value}", value.len()),
        )
        .is_none()
        {
            break;
        }
    }
    assert_eq!(daemon.docker("wait redis").ok(), "137");
    let state = &daemon.inspect("redis")["State"];
    assert_eq!(state["OOMKilled"], true);
    let until = (std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 1).to_string();
    let told = daemon
        .docker([
            "events",
            "--since",
            "0",
            "--until",
            &until,
            "--filter",
            "event=oom",
            "--format",
            "{{.Action}}",
        ])
        .ok();
    assert_eq!(told.lines().next(), Some("oom"));
    daemon.docker("start redis").ok();
    wait_for_redis(&daemon);
    assert_eq!(daemon.inspect("redis")["State"]["OOMKilled"], false);
    daemon.docker("rm -f redis").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn redis_survives_the_death_of_the_daemon() {
    let mut daemon = daemon();
    daemon.docker("run -d --name redis --network host debian:redis").ok();
    wait_for_redis(&daemon);
    redis(&daemon, "SET key kept").unwrap();
    daemon.kill();
    assert_eq!(redis(&daemon, "DBSIZE").unwrap(), ":1");
    daemon.start_process();
    assert_eq!(redis(&daemon, "STRLEN key").unwrap(), ":4");
    daemon.docker("stop redis").ok();
    assert_eq!(daemon.inspect("redis")["State"]["ExitCode"], 0);
}

#[test]
fn debian_is_whole_in_the_container() {
    let daemon = daemon();
    let run = |script: &str| {
        daemon.docker([
            "run",
            "--rm",
            "--network",
            "none",
            "-u",
            "root",
            "debian:redis",
            "bash",
            "-c",
            script,
        ])
    };
    assert!(run("cat /etc/os-release").ok().contains("Debian GNU/Linux 12"));
    // Packages know their files: what came through import is what dpkg installed.
    let verified =
        run("dpkg --verify 2>&1 | grep -v ' c /' | grep -v -E '/usr/share/(doc|man|locale|info)' | head").ok();
    assert_eq!(verified, "");
    assert_eq!(
        run("stat -c '%a %U %G' /usr/bin/passwd /tmp /var/mail").ok(),
        "4755 root root\n1777 root root\n2775 root mail"
    );
    assert_eq!(
        run("getent passwd redis | cut -d: -f1; su -s /bin/sh redis -c 'id -un'")
            .ok()
            .lines()
            .next(),
        Some("redis")
    );
    let size = wait_for("the size is known", || {
        daemon.api().get("/images/debian:redis/json").json()["Size"].as_u64()
    });
    assert!(size > fs::metadata(debian::redis_archive()).unwrap().len() / 2);
}

//! Logs under load and in trouble: daemons that die, remotes that go, come back or take nothing, files that rotate.
use std::{
    collections::BTreeSet,
    io::Read,
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use corten_testkit::{
    collector::Collector,
    daemon::Daemon,
    follower::Follower,
    wait::{wait_for, wait_until},
};

use crate::{background, daemon};

/// The numbers at the ends of lines, as they came.
fn numbers(text: &str) -> Vec<u32> {
    let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    lines
        .filter_map(|line| line.trim_end().rsplit(' ').next()?.parse().ok())
        .collect()
}

/// Starts `box` with driver syslog to a port of the daemon's own loopback.
#[track_caller]
fn syslog(daemon: &Daemon, port: u16, options: &[&str], script: &str) {
    let address = format!("syslog-address=tcp://127.0.0.1:{port}");
    let words = [
        "run",
        "-d",
        "--name=box",
        "--network=none",
        "--log-driver=syslog",
        "--log-opt",
        &address,
    ];
    let words = [&words[..], options, &["busybox", "sh", "-c", script]].concat();
    daemon.docker(&words[..]).ok();
}

#[test]
fn a_daemon_that_is_killed_loses_no_line_for_a_remote() {
    let mut daemon = daemon();
    let collector = Collector::tcp(daemon.network(), 0);
    let script = "i=0; while [ $i -lt 6000 ]; do i=$((i+1)); echo $i; [ $((i % 100)) != 0 ] || sleep 0.02; done";
    syslog(&daemon, collector.port, &[], script);
    for count in [500, 1500, 3000] {
        collector.wait_for("some lines", |_| {
            (numbers(&collector.text()).len() > count).then_some(())
        });
        daemon.kill();
        thread::sleep(Duration::from_millis(100));
        daemon.start_process();
    }
    daemon.docker("wait box").ok();
    let found = collector.wait_for("the last line", |_| {
        Some(numbers(&collector.text())).filter(|found| found.contains(&6000))
    });
    let distinct: BTreeSet<u32> = found.iter().copied().collect();
    assert!(distinct.iter().copied().eq(1..=6000), "{} of 6000", distinct.len());
    // What is sent twice is one batch each time, which is 32 KiB.
    let twice = found.len() - distinct.len();
    assert!(twice <= 3 * 3000, "{twice} lines twice");
}

#[test]
fn a_remote_that_comes_back_gets_what_was_printed_meanwhile() {
    let daemon = daemon();
    let collector = Collector::tcp(daemon.network(), 0);
    let port = collector.port;
    syslog(
        &daemon,
        port,
        &["-i"],
        "i=0; while read line; do i=$((i+1)); echo $i; done",
    );
    let mut input = daemon.api().open();
    assert_eq!(input.upgrade("/containers/box/attach?stream=1&stdin=1").status, 101);
    for _ in 0..3 {
        input.send_raw("x\n");
    }
    collector.wait_for("three", |_| (numbers(&collector.text()) == [1, 2, 3]).then_some(()));
    drop(collector);
    for _ in 0..5 {
        input.send_raw("x\n");
    }
    daemon.wait_for_log("box", "8");
    let collector = Collector::tcp(daemon.network(), port);
    input.send_raw("x\n");
    let found = collector.wait_for("nine", |_| {
        Some(numbers(&collector.text())).filter(|found| found.contains(&9))
    });
    assert_eq!(found, [4, 5, 6, 7, 8, 9]);
}

/// A server that takes connections and nothing else.
fn stuck(daemon: &Daemon) -> (TcpListener, u16) {
    let listener = daemon.in_network(|| TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Each line is 100 bytes; the last says so.
const FLOOD: &str = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); printf '%095d %d\\n' 0 $i; done; echo done 100001";
const SMALL: [&str; 2] = ["--log-opt=cache-max-size=1m", "--log-opt=cache-max-file=3"];

#[test]
fn a_stuck_remote_never_holds_a_container_that_does_not_block() {
    let daemon = daemon();
    let (_listener, port) = stuck(&daemon);
    syslog(
        &daemon,
        port,
        &[&SMALL[..], &["--log-opt=mode=non-blocking"]].concat(),
        FLOOD,
    );
    assert_eq!(daemon.docker("wait box").ok(), "0");
    assert_eq!(
        numbers(
            &daemon
                .docker("logs --tail 1 box")
                .ok()
                .replace("done 100001", "done 100001\n")
        ),
        [100_001]
    );
    daemon.docker("rm box").ok();
}

#[test]
fn a_remote_that_is_away_never_holds_a_container() {
    let daemon = daemon();
    let collector = Collector::tcp(daemon.network(), 0);
    let port = collector.port;
    syslog(&daemon, port, &SMALL, &format!("echo 0; sleep 0.3; {FLOOD}"));
    collector.wait_for("the first line", |_| {
        (!numbers(&collector.text()).is_empty()).then_some(())
    });
    drop(collector);
    assert_eq!(daemon.docker("wait box").ok(), "0");
}

#[test]
fn a_stuck_remote_holds_a_container_that_blocks_and_loses_nothing() {
    let daemon = daemon();
    let (listener, port) = stuck(&daemon);
    syslog(&daemon, port, &SMALL, FLOOD);
    let last = || daemon.docker("logs --tail 1 box").ok();
    // It comes to rest before its end, and stays there.
    let held = wait_for("the container waits", || {
        let before = last();
        thread::sleep(Duration::from_millis(500));
        Some(before.clone()).filter(|before| !before.is_empty() && *before == last())
    });
    assert_ne!(held, "done 100001");
    assert_eq!(daemon.status("box"), "running");
    // Now somebody takes it.
    let (mut stream, _): (TcpStream, _) = listener.accept().unwrap();
    let reader = thread::spawn(move || {
        let (mut text, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
        while !text.ends_with(b"done 100001\n") {
            let length = stream.read(&mut buffer).unwrap();
            assert_ne!(length, 0, "the driver does not hang up");
            text.extend_from_slice(&buffer[..length]);
        }
        String::from_utf8(text).unwrap()
    });
    assert_eq!(daemon.docker("wait box").ok(), "0");
    let found = numbers(&reader.join().unwrap());
    assert!(found.iter().copied().eq(1..=100_001), "{} lines", found.len());
}

#[test]
fn the_last_lines_of_a_container_that_is_removed_are_delivered() {
    let daemon = daemon();
    let collector = Collector::tcp(daemon.network(), 0);
    let address = format!("syslog-address=tcp://127.0.0.1:{}", collector.port);
    let words = [
        "run",
        "--rm",
        "--network=none",
        "--log-driver=syslog",
        "--log-opt",
        &address,
    ];
    for round in 1..=5u32 {
        let script = format!("for i in $(seq 2000); do echo {round}; done");
        let words = [&words[..], &["busybox", "sh", "-c", &script]].concat();
        daemon.docker(&words[..]).ok();
        collector.wait_for("all lines", |_| {
            let found = numbers(&collector.text());
            (found.iter().filter(|number| **number == round).count() == 2000).then_some(())
        });
    }
}

#[test]
fn followers_see_every_line_once_while_files_rotate_and_are_compressed() {
    let daemon = daemon();
    for (name, options) in [
        (
            "compact",
            "--log-driver local --log-opt max-size=200k --log-opt max-file=20",
        ),
        (
            "text",
            "--log-opt max-size=300k --log-opt max-file=20 --log-opt compress=true",
        ),
    ] {
        let script = "read go; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i; done";
        background(&daemon, &format!("--name {name} -i {options}"), script);
        let mut followers = [
            Follower::run(&mut daemon.docker_command(["logs", "-f", name])),
            Follower::run(&mut daemon.corten_command(["logs", "-f", name])),
        ];
        let mut input = daemon.api().open();
        assert_eq!(
            input
                .upgrade(&format!("/containers/{name}/attach?stream=1&stdin=1"))
                .status,
            101
        );
        input.send_raw("go\n");
        for number in 1..=20_000 {
            for follower in &mut followers {
                assert_eq!(follower.line(), format!("line {number}"));
            }
        }
    }
}

#[test]
fn a_reader_that_reads_nothing_holds_nobody() {
    let daemon = daemon();
    background(&daemon, "--name box -i", &format!("read go; {FLOOD}"));
    let mut sleeper = daemon.api().open();
    sleeper.send("GET", "/containers/box/logs?follow=1&stdout=1", None);
    let mut input = daemon.api().open();
    assert_eq!(input.upgrade("/containers/box/attach?stream=1&stdin=1").status, 101);
    input.send_raw("go\n");
    assert_eq!(daemon.docker("wait box").ok(), "0");
    daemon.docker("rm box").ok();
    wait_until("the container is gone", || daemon.docker("ps -aq").ok().is_empty());
}

#[test]
fn times_are_found_in_large_logs_that_rotate() {
    let daemon = daemon();
    let options = "--name box -i --log-driver local --log-opt max-size=300k --log-opt max-file=9";
    let script = "seq 1 20000; read go; echo middle; read go; seq 20001 40000";
    background(&daemon, options, script);
    let mut input = daemon.api().open();
    assert_eq!(input.upgrade("/containers/box/attach?stream=1&stdin=1").status, 101);
    for seen in ["20000", "middle"] {
        // A line's time is when it was read, so the next comes only then.
        wait_until("it is in the log", || daemon.docker("logs --tail 1 box").ok() == seen);
        input.send_raw("go\n");
    }
    daemon.docker("wait box").ok();
    let stamped = daemon.docker("logs -t box").ok();
    let middle = stamped
        .lines()
        .find(|line| line.ends_with(" middle"))
        .expect("it is kept");
    let time = middle.split_once(' ').unwrap().0;
    let since = daemon.docker(["logs", "--since", time, "box"]).ok();
    assert_eq!(
        (since.lines().next(), since.lines().last()),
        (Some("middle"), Some("40000"))
    );
    assert_eq!(since.lines().count(), 20_001);
    let until = daemon.docker(["logs", "--until", time, "box"]).ok();
    assert_eq!(until.lines().last(), Some("middle"));
    assert_eq!(
        daemon.docker(["logs", "--since", time, "--until", time, "box"]).ok(),
        "middle"
    );
}

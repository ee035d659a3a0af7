//! `docker logs`: what was printed, when, and by which stream.
use std::fs;

use corten_testkit::follower::Follower;

use crate::{background, daemon};

#[test]
fn logs_give_both_streams_in_their_own() {
    let daemon = daemon();
    background(&daemon, "--name box", "echo out; echo err >&2; printf 'no newline'");
    daemon.docker("wait box").ok();
    for output in [daemon.docker("logs box"), daemon.corten("logs box")] {
        assert_eq!(output.stdout, b"out\nno newline");
        assert_eq!(output.stderr, b"err\n");
    }
    let answer = daemon.api().get("/containers/box/logs?stderr=1").expect(200);
    assert_eq!(answer.body, b"\x02\0\0\0\0\0\0\x04err\n");
    assert_eq!(
        answer.header("content-type"),
        Some("application/vnd.docker.multiplexed-stream")
    );
    let old = daemon.api().get("/v1.41/containers/box/logs?stderr=1").expect(200);
    assert_eq!(old.header("content-type"), Some("application/vnd.docker.raw-stream"));
    let answer = daemon.api().get("/containers/box/logs").expect(400);
    assert_eq!(answer.message(), "Bad parameters: you must choose at least one stream");
}

#[test]
fn the_tail_is_the_last_lines() {
    let daemon = daemon();
    background(&daemon, "--name box", "seq 1 5000");
    daemon.docker("wait box").ok();
    assert_eq!(daemon.docker("logs --tail 3 box").ok(), "4998\n4999\n5000");
    assert_eq!(daemon.corten("logs --tail 2 box").ok(), "4999\n5000");
    assert_eq!(daemon.docker("logs --tail 0 box").ok(), "");
    assert_eq!(daemon.docker("logs --tail all box").ok().lines().count(), 5000);
    assert_eq!(daemon.docker("logs --tail 100000 box").ok().lines().count(), 5000);
    assert_eq!(daemon.docker("logs -n 1 box").ok(), "5000");
}

#[test]
fn following_ends_with_the_container() {
    let daemon = daemon();
    background(
        &daemon,
        "--name box -i",
        "echo one; while read line; do echo $line; done; echo end",
    );
    let mut follower = Follower::run(&mut daemon.docker_command("logs --follow box"));
    let mut own = Follower::run(&mut daemon.corten_command("logs -f box"));
    assert_eq!(follower.line(), "one");
    assert_eq!(own.line(), "one");
    let mut attached = daemon.api().open();
    assert_eq!(attached.upgrade("/containers/box/attach?stream=1&stdin=1").status, 101);
    attached.send_raw("two\n");
    assert_eq!(follower.line(), "two");
    assert_eq!(own.line(), "two");
    daemon.docker("kill box").ok();
    assert_eq!(follower.line(), "");
    assert_eq!(follower.wait(), 0);
    assert_eq!(own.wait(), 0);
}

#[test]
fn following_a_container_that_is_started_later_shows_it() {
    let daemon = daemon();
    daemon.docker("create --name box --network none busybox echo late").ok();
    let mut follower = daemon.api().open();
    follower.send("GET", "/containers/box/logs?follow=1&stdout=1", None);
    daemon.docker("start box").ok();
    daemon.docker("wait box").ok();
    assert!(daemon.docker("logs box").ok().contains("late"));
}

#[test]
fn timestamps_and_times_select_lines() {
    let daemon = daemon();
    background(&daemon, "--name box -i", "echo a; read go; echo b; read go; echo c");
    let mut input = daemon.api().open();
    assert_eq!(input.upgrade("/containers/box/attach?stream=1&stdin=1").status, 101);
    for seen in ["a", "b"] {
        // A line's time is when it was read, so the next comes only then.
        daemon.wait_for_log("box", seen);
        input.send_raw("go\n");
    }
    daemon.docker("wait box").ok();
    let lines = daemon.docker("logs -t box").ok();
    let lines: Vec<(&str, &str)> = lines.lines().map(|line| line.split_once(' ').unwrap()).collect();
    assert_eq!(lines.iter().map(|line| line.1).collect::<Vec<_>>(), ["a", "b", "c"]);
    for (time, _) in &lines {
        assert!(
            time.len() >= 25 && time.ends_with('Z'),
            "RFC 3339 with nanoseconds: {time}"
        );
    }
    let second = lines[1].0;
    assert_eq!(daemon.docker(["logs", "--since", second, "box"]).ok(), "b\nc");
    assert_eq!(
        daemon.docker(["logs", "--until", second, "box"]).ok().lines().next(),
        Some("a")
    );
    assert_eq!(
        daemon.docker(["logs", "--since", "2100-01-01T00:00:00Z", "box"]).ok(),
        ""
    );
    assert_eq!(daemon.docker("logs --since 10m box").ok(), "a\nb\nc");
}

#[test]
fn the_file_is_dockers_json_and_long_lines_are_split() {
    let daemon = daemon();
    let id = background(
        &daemon,
        "--name box",
        "head -c 40000 /dev/zero | tr '\\0' x; echo; printf '\"\\\\\\t\\001\\377é\\n'",
    );
    daemon.docker("wait box").ok();
    let path = daemon.inspect("box")["LogPath"].as_str().unwrap().to_owned();
    assert!(path.ends_with(&format!("{id}-json.log")), "{path}");
    let file = fs::read_to_string(path).unwrap();
    let lines: Vec<serde_json::Value> = file.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let sizes: Vec<_> = lines.iter().map(|line| line["log"].as_str().unwrap().len()).collect();
    assert_eq!(sizes[..3], [16384, 16384, 40000 - 2 * 16384 + 1]);
    assert_eq!(lines[3]["log"], "\"\\\t\u{1}\u{fffd}é\n");
    assert_eq!(lines[0]["stream"], "stdout");
    // Read back, the parts are one line again.
    let output = daemon.docker("logs box");
    assert_eq!(
        output.stdout[..40001].iter().filter(|&&byte| byte == b'x').count(),
        40000
    );
}

#[test]
fn logs_rotate_by_size_and_number() {
    let daemon = daemon();
    let options = "--name box --log-opt max-size=10k --log-opt max-file=3";
    background(&daemon, options, "seq 1 3000");
    daemon.docker("wait box").ok();
    let path = daemon.inspect("box")["LogPath"].as_str().unwrap().to_owned();
    for name in [path.clone(), format!("{path}.1"), format!("{path}.2")] {
        let size = fs::metadata(&name)
            .unwrap_or_else(|error| panic!("{name}: {error}"))
            .len();
        assert!(size <= 10_240 + 200, "{name}: {size}");
    }
    assert!(!fs::exists(format!("{path}.3")).unwrap());
    let kept = daemon.docker("logs box").ok();
    let numbers: Vec<u32> = kept.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(numbers.last(), Some(&3000));
    assert!(
        numbers.len() > 200 && numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{} lines",
        numbers.len()
    );
    assert_eq!(daemon.docker("logs --tail 2 box").ok(), "2999\n3000");
}

#[test]
fn a_follower_survives_rotation() {
    let daemon = daemon();
    let options = "--name box --log-opt max-size=10k --log-opt max-file=3 -i";
    // No more at a time than is kept, so that a slow follower misses nothing.
    let script = "while read last; do for i in $(seq $((last - 99)) $last); do echo line $i; done; done";
    background(&daemon, options, script);
    let mut follower = Follower::run(&mut daemon.docker_command("logs -f box"));
    let mut attached = daemon.api().open();
    assert_eq!(attached.upgrade("/containers/box/attach?stream=1&stdin=1").status, 101);
    for last in (100..=1000).step_by(100) {
        attached.send_raw(&format!("{last}\n"));
        for number in last - 99..=last {
            assert_eq!(follower.line(), format!("line {number}"));
        }
    }
}

#[test]
fn without_a_driver_there_is_no_log_and_unknown_ones_are_refused() {
    let daemon = daemon();
    background(&daemon, "--name silent --log-driver none", "echo x");
    daemon.docker("wait silent").ok();
    let error = daemon.docker("logs silent").fails(1);
    assert!(
        error.contains("configured logging driver does not support reading"),
        "{error}"
    );
    let error = daemon
        .docker("create --network none --log-driver no-such busybox")
        .fails(1);
    assert!(
        error.contains("logger: no log driver named 'no-such' is registered"),
        "{error}"
    );
    let error = daemon
        .docker("create --network none --log-opt no-such=1 busybox")
        .fails(1);
    assert!(
        error.contains("unknown log opt 'no-such' for json-file log driver"),
        "{error}"
    );
}

#[test]
fn each_run_of_a_container_adds_to_its_log() {
    let daemon = daemon();
    daemon.docker("run --name box --network none busybox echo again").ok();
    daemon.docker("start -a box").ok();
    assert_eq!(daemon.docker("logs box").ok(), "again\nagain");
}

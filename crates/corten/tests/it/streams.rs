//! Standard streams without a terminal: every byte, in its own stream, and every end of one.
use corten_testkit::{follower::Follower, image::digest};
use serde_json::json;

use crate::{WAIT, background, create, daemon, sh};

#[test]
fn output_and_errors_stay_apart() {
    let daemon = daemon();
    for output in [
        sh(&daemon, "", "echo out; echo err >&2; printf end"),
        daemon.corten([
            "run",
            "--rm",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            "echo out; echo err >&2; printf end",
        ]),
    ] {
        assert_eq!(output.stdout, b"out\nend");
        assert_eq!(output.stderr, b"err\n");
    }
}

/// 20 MB that no text encoding survives.
fn binary() -> Vec<u8> {
    let mut state = 1u64;
    let words = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 24) as u32
    });
    words.take(5 << 20).flat_map(u32::to_le_bytes).collect()
}

#[test]
fn twenty_megabytes_of_binary_input_arrive_whole() {
    let daemon = daemon();
    let input = binary();
    let expected = digest(&input).replace("sha256:", "");
    let arguments = "run --rm -i --network none busybox sha256sum";
    assert_eq!(
        daemon.docker_with_input(arguments, &input).ok(),
        format!("{expected}  -")
    );
    assert_eq!(
        daemon.corten_with_input(arguments, &input).ok(),
        format!("{expected}  -")
    );
}

#[test]
fn twenty_megabytes_go_through_and_come_back() {
    let daemon = daemon();
    let input = binary();
    for output in [
        daemon.docker_with_input("run --rm -i --network none --log-driver none busybox cat", &input),
        daemon.corten_with_input("run --rm -i --network none --log-driver none busybox cat", &input),
    ] {
        assert_eq!(output.code, 0);
        assert!(output.stdout == input, "{} bytes came back", output.stdout.len());
    }
}

#[test]
fn the_end_of_input_does_not_end_output() {
    let daemon = daemon();
    let script = [
        "run",
        "--rm",
        "-i",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "cat; sleep 0.2; echo after",
    ];
    assert_eq!(daemon.docker_with_input(script, b"before\n").ok(), "before\nafter");
    assert_eq!(daemon.corten_with_input(script, b"before\n").ok(), "before\nafter");
}

#[test]
fn without_i_standard_input_is_empty() {
    let daemon = daemon();
    assert_eq!(sh(&daemon, "", "wc -c; readlink /proc/self/fd/0").ok(), "0\n/dev/null");
}

#[test]
fn attach_sees_what_is_printed_from_then_on() {
    let daemon = daemon();
    background(
        &daemon,
        "-i --name echo",
        "echo first; while read line; do echo \"got $line\"; done",
    );
    daemon.wait_for_log("echo", "first");
    let mut attached = Follower::run(&mut daemon.docker_command("attach --no-stdin=false echo"));
    attached.write("one\n").unwrap();
    assert_eq!(attached.line(), "got one");
    let mut second = Follower::run(&mut daemon.corten_command("attach --no-stdin echo"));
    // Both see the same from now on; wait until the second is there by asking until it answers.
    let mut count = 0;
    std::thread::scope(|scope| {
        let seen = scope.spawn(|| second.line());
        while !seen.is_finished() {
            count += 1;
            attached.write(&format!("{count}\n")).unwrap();
            assert_eq!(attached.line(), format!("got {count}"));
        }
        assert!(seen.join().unwrap().starts_with("got "));
    });
    // Standard input was opened with -i -d: the end of one attacher's input is not the end of the container's.
    daemon.docker("kill echo").ok();
    assert_eq!(attached.wait(), 137);
}

#[test]
fn attach_forwards_signals() {
    let daemon = daemon();
    background(
        &daemon,
        "--name box",
        "trap 'echo got; exit 9' TERM; while :; do echo tick; sleep 0.05; done",
    );
    let mut attached = Follower::run(&mut daemon.docker_command("attach box"));
    // It has attached once it shows something, and only then does it forward.
    assert_eq!(attached.line(), "tick");
    attached.signal(rustix::process::Signal::TERM);
    assert_eq!(attached.wait(), 9);
    assert_eq!(daemon.inspect("box")["State"]["ExitCode"], 9);
}

#[test]
fn start_attaches_and_gives_the_exit_code() {
    let daemon = daemon();
    create(&daemon, "--name box", "echo again; exit 3");
    for _ in 0..2 {
        let output = daemon.docker("start -a box");
        assert_eq!((output.text().as_str(), output.code), ("again", 3));
    }
    let output = daemon.corten("start -a box");
    assert_eq!((output.text().as_str(), output.code), ("again", 3));
    daemon
        .docker(["create", "-i", "--name", "input", "--network", "none", "busybox", "cat"])
        .ok();
    assert_eq!(daemon.docker_with_input("start -ai input", b"through").ok(), "through");
}

#[test]
fn a_client_that_goes_away_does_not_disturb_the_container() {
    let daemon = daemon();
    create(&daemon, "-i --name box", "while :; do echo line; sleep 0.01; done");
    let mut connection = daemon.api().open();
    assert_eq!(
        connection
            .upgrade("/containers/box/attach?stream=1&stdout=1&stdin=1")
            .status,
        101
    );
    daemon.docker("start box").ok();
    // One line, or as many as came before the shim looked.
    let (stream, lines) = connection.frame();
    assert!(stream == 1 && lines.starts_with(b"line\n"), "{lines:?}");
    drop(connection);
    let before = daemon.docker("logs box").ok().lines().count();
    corten_testkit::wait::wait_until("the log goes on", || {
        daemon.docker("logs box").ok().lines().count() > before + 5
    });
    assert_eq!(daemon.status("box"), "running");
    daemon.docker("rm -f box").ok();
}

#[test]
fn a_slow_reader_does_not_stop_the_log() {
    let daemon = daemon();
    create(&daemon, "--name box", "yes 0123456789 | head -n 500000");
    let mut connection = daemon.api().open();
    assert_eq!(
        connection.upgrade("/containers/box/attach?stream=1&stdout=1").status,
        101
    );
    daemon.docker("start box").ok();
    // Nothing is read yet: the container must be able to wait for us without losing a byte.
    let mut seen = 0;
    let (stream, first) = connection.frame();
    assert_eq!(stream, 1);
    seen += first.len();
    while seen < 5_500_000 {
        seen += connection.frame().1.len();
    }
    assert_eq!(daemon.docker("wait box").ok(), "0");
    let logged = daemon.docker("logs box").ok();
    assert_eq!(logged.lines().filter(|line| *line == "0123456789").count(), 500_000);
}

#[test]
fn attach_on_a_created_container_waits_for_its_start() {
    let daemon = daemon();
    let api = daemon.api();
    let body = json!({"Image": "busybox", "Cmd": ["echo", "hi"], "HostConfig": {"NetworkMode": "none"}});
    let id = api.post("/containers/create", Some(&body)).expect(201).json()["Id"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut attached = api.open();
    let head = attached.upgrade(&format!("/containers/{id}/attach?stream=1&stdout=1&stderr=1"));
    assert_eq!((head.status, head.reason.as_str()), (101, "UPGRADED"));
    assert_eq!(
        head.header("content-type"),
        Some("application/vnd.docker.multiplexed-stream")
    );
    assert!(attached.is_silent());
    api.post(&format!("/containers/{id}/start"), None).expect(204);
    assert_eq!(attached.frame(), (1, b"hi\n".to_vec()));
    assert_eq!(attached.rest(), b"");
}

#[test]
fn attach_with_logs_gives_the_past_first() {
    let daemon = daemon();
    background(&daemon, "--name box", &format!("echo past; {WAIT}"));
    daemon.wait_for_log("box", "ready");
    let mut attached = daemon.api().open();
    attached.upgrade("/containers/box/attach?stream=1&logs=1&stdout=1");
    assert_eq!(attached.frame(), (1, b"past\n".to_vec()));
    assert_eq!(attached.frame(), (1, b"ready\n".to_vec()));
    daemon.docker("rm -f box").ok();
}

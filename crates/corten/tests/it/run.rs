//! `docker run`: what reaches the command, and what comes back from it.
use std::fs;

use corten_testkit::{image, process};
use serde_json::json;

use crate::{background, daemon, sh};

#[test]
fn run_prints_what_the_command_prints() {
    let daemon = daemon();
    assert_eq!(
        daemon.docker("run --rm --network none busybox echo hello").ok(),
        "hello"
    );
    assert_eq!(
        daemon.corten("run --rm --network none busybox echo hello").ok(),
        "hello"
    );
    daemon.assert_nothing_remains();
}

#[test]
fn run_ends_with_the_exit_code_of_the_command() {
    let daemon = daemon();
    for code in [0, 1, 2, 42, 125, 126, 127, 128, 200, 255] {
        assert_eq!(sh(&daemon, "", &format!("exit {code}")).code, code);
        let own = daemon.corten([
            "run",
            "--rm",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            &format!("exit {code}"),
        ]);
        assert_eq!(own.code, code);
    }
}

#[test]
fn a_command_killed_by_a_signal_ends_with_128_and_its_number() {
    let daemon = daemon();
    // The first process of a PID namespace cannot kill itself; with an init it is the second.
    for (signal, code) in [("TERM", 143), ("KILL", 137), ("SEGV", 139)] {
        let output = sh(&daemon, "--init", &format!("kill -{signal} $$"));
        assert_eq!(output.code, code, "{output:?}");
    }
}

#[test]
fn a_missing_command_is_127_and_names_it() {
    let daemon = daemon();
    for output in [
        daemon.docker("run --rm --network none busybox no-such-command"),
        daemon.corten("run --rm --network none busybox no-such-command"),
    ] {
        let error = output.fails(127);
        assert!(error.contains("no-such-command"), "{error}");
        assert!(error.contains("executable file not found in $PATH"), "{error}");
    }
    let error = daemon
        .docker("run --rm --network none busybox /no/such/path")
        .fails(127);
    assert!(
        error.contains("/no/such/path") && error.contains("no such file or directory"),
        "{error}"
    );
    daemon.assert_nothing_remains();
}

#[test]
fn a_command_that_cannot_be_executed_is_126_and_names_it() {
    let daemon = daemon();
    for (path, reason) in [("/etc/passwd", "permission denied"), ("/tmp", "is a directory")] {
        let error = daemon
            .docker(["run", "--rm", "--network", "none", "busybox", path])
            .fails(126);
        assert!(error.contains(path) && error.to_lowercase().contains(reason), "{error}");
        let error = daemon
            .corten(["run", "--rm", "--network", "none", "busybox", path])
            .fails(126);
        assert!(error.contains(path), "{error}");
    }
    daemon.assert_nothing_remains();
}

#[test]
fn what_the_daemon_refuses_is_125() {
    let daemon = daemon();
    let error = daemon
        .docker("run --rm --network none --memory 1 busybox true")
        .fails(125);
    assert!(error.contains("inimum memory limit allowed is 6MB"), "{error}");
    daemon.docker("run --no-such-flag busybox true").fails(125);
    daemon
        .corten("run --rm --network none --memory 1 busybox true")
        .fails(125);
    daemon.corten("run --no-such-flag busybox true").fails(125);
    for (options, words) in [
        // Were it 404, the client would look for the image elsewhere.
        ("--volumes-from nothing", "No such container: nothing"),
        ("--runtime kata", "unknown or invalid runtime name: kata"),
        (
            "--isolation hyperv",
            "Invalid isolation: \"hyperv\" - linux only supports 'default'",
        ),
    ] {
        let error = daemon
            .docker(&format!("create --network none {options} busybox true"))
            .fails(1);
        assert!(
            error.starts_with(&format!("Error response from daemon: {words}")),
            "{error}"
        );
    }
    daemon.assert_nothing_remains();
}

#[test]
fn an_image_that_is_not_there_is_named() {
    let daemon = daemon();
    let error = daemon
        .docker("run --rm --pull never --network none nothing:here true")
        .fails(125);
    assert!(error.contains("No such image: nothing:here"), "{error}");
}

#[test]
fn variables_come_from_the_image_the_command_line_and_files() {
    let daemon = daemon();
    daemon.load(
        &image::busybox()
            .tagged("env:1")
            .with("Env", json!(["PATH=/bin", "A=image", "B=image", "C=image"])),
    );
    let file = daemon.root().join("env");
    fs::write(&file, "# a comment\nB=file\nD=with spaces and = signs\nFROM_OUTSIDE\n").unwrap();
    let mut command = daemon.docker_command([
        "run",
        "--rm",
        "--network",
        "none",
        "--env-file",
        file.to_str().unwrap(),
        "-e",
        "C=line",
        "-e",
        "E=",
        "env:1",
        "env",
    ]);
    let printed = corten_testkit::command::run(command.env("FROM_OUTSIDE", "yes")).ok();
    let mut lines: Vec<_> = printed.lines().filter(|line| !line.starts_with("HOSTNAME=")).collect();
    lines.sort_unstable();
    let expected = [
        "A=image",
        "B=file",
        "C=line",
        "D=with spaces and = signs",
        "E=",
        "FROM_OUTSIDE=yes",
        "HOME=/root",
        "PATH=/bin",
    ];
    assert_eq!(lines, expected);
    let hostname = sh(&daemon, "--hostname web", "echo $HOSTNAME").ok();
    assert_eq!(hostname, "web");
}

#[test]
fn the_working_directory_is_made_when_it_is_missing() {
    let daemon = daemon();
    assert_eq!(sh(&daemon, "-w /a/b/c", "pwd").ok(), "/a/b/c");
    assert_eq!(sh(&daemon, "", "pwd").ok(), "/");
    let error = daemon
        .docker("run --rm --network none -w relative busybox pwd")
        .fails(125);
    assert!(error.contains("needs to be an absolute path"), "{error}");
}

#[test]
fn an_entry_point_takes_the_command_as_its_arguments() {
    let daemon = daemon();
    assert_eq!(
        daemon
            .docker("run --rm --network none --entrypoint echo busybox one two")
            .ok(),
        "one two"
    );
    let image = image::busybox()
        .tagged("entry:1")
        .with("Entrypoint", json!(["echo", "entry"]));
    daemon.load(&image.with("Cmd", json!(["default"])));
    assert_eq!(daemon.docker("run --rm --network none entry:1").ok(), "entry default");
    assert_eq!(daemon.docker("run --rm --network none entry:1 mine").ok(), "entry mine");
    // An entry point of the command line forgets the image's command.
    assert_eq!(
        daemon.docker("run --rm --network none --entrypoint echo entry:1").ok(),
        ""
    );
}

#[test]
fn the_host_name_is_the_short_id_unless_given() {
    let daemon = daemon();
    let id = background(&daemon, "--name plain", "hostname; cat /etc/hostname");
    daemon.docker("wait plain").ok();
    assert_eq!(daemon.docker("logs plain").ok(), format!("{0}\n{0}", &id[..12]));
    assert_eq!(
        sh(
            &daemon,
            "--hostname web --domainname example.org",
            "hostname; cat /etc/hosts"
        )
        .ok()
        .lines()
        .next(),
        Some("web")
    );
    assert!(sh(&daemon, "", "cat /etc/hosts").ok().contains("localhost"));
    assert!(
        sh(&daemon, "--add-host db:10.1.2.3", "cat /etc/hosts")
            .ok()
            .contains("10.1.2.3\tdb")
    );
}

#[test]
fn the_id_is_written_to_the_cidfile() {
    let daemon = daemon();
    let file = daemon.root().join("cid");
    let path = file.to_str().unwrap();
    let id = daemon
        .docker(["run", "-d", "--network", "none", "--cidfile", path, "busybox", "true"])
        .ok();
    assert_eq!(fs::read_to_string(&file).unwrap(), id);
    // An existing file stops the second.
    daemon
        .docker(["run", "-d", "--network", "none", "--cidfile", path, "busybox", "true"])
        .fails(125);
    fs::remove_file(&file).unwrap();
    let id = daemon
        .corten(["run", "-d", "--network", "none", "--cidfile", path, "busybox", "true"])
        .ok();
    assert_eq!(fs::read_to_string(&file).unwrap(), id);
}

#[test]
fn labels_of_image_and_command_line_are_merged() {
    let daemon = daemon();
    daemon.load(
        &image::busybox()
            .tagged("labels:1")
            .with("Labels", json!({"a": "image", "b": "image"})),
    );
    let file = daemon.root().join("labels");
    fs::write(&file, "c=file\n").unwrap();
    let words = [
        "create",
        "--name",
        "labelled",
        "--network",
        "none",
        "--label",
        "b=line",
        "--label-file",
        file.to_str().unwrap(),
        "labels:1",
    ];
    daemon.docker(words).ok();
    assert_eq!(
        daemon.inspect("labelled")["Config"]["Labels"],
        json!({"a": "image", "b": "line", "c": "file"})
    );
}

#[test]
fn an_init_reaps_and_forwards_signals() {
    let daemon = daemon();
    let first = sh(&daemon, "--init", "cat /proc/1/cmdline | tr '\\0' ' '").ok();
    assert!(first.starts_with("/sbin/docker-init"), "{first}");
    // An orphan is reaped: a zombie would stay in /proc.
    let script =
        "orphan=$(sleep 0.05 >/dev/null & echo $!); while [ -e /proc/$orphan ]; do sleep 0.01; done; echo reaped";
    assert_eq!(sh(&daemon, "--init", script).ok(), "reaped");
    background(
        &daemon,
        "--init --name init",
        "trap 'echo got; exit 7' TERM; echo ready; while :; do sleep 0.05; done",
    );
    daemon.wait_for_log("init", "ready");
    daemon.docker("stop init").ok();
    assert_eq!(daemon.inspect("init")["State"]["ExitCode"], 7);
}

#[test]
fn namespaces_of_the_host_are_shared_on_request() {
    let daemon = daemon();
    let host = process::namespace(daemon.pid(), "pid").unwrap();
    assert!(
        !sh(&daemon, "", "readlink /proc/self/ns/pid")
            .ok()
            .contains(&host.to_string())
    );
    for (flag, kind) in [
        ("--pid host", "pid"),
        ("--ipc host", "ipc"),
        ("--uts host", "uts"),
        ("--cgroupns host", "cgroup"),
    ] {
        let inode = process::namespace(daemon.pid(), kind).unwrap();
        let link = sh(&daemon, flag, &format!("readlink /proc/self/ns/{kind}")).ok();
        assert_eq!(link, format!("{kind}:[{inode}]"), "{flag}");
    }
    let inode = process::namespace(daemon.pid(), "net").unwrap();
    let link = daemon
        .docker("run --rm --network host busybox readlink /proc/self/ns/net")
        .ok();
    assert_eq!(link, format!("net:[{inode}]"));
}

#[test]
fn network_none_has_a_loopback_of_its_own_and_nothing_else() {
    let daemon = daemon();
    assert_eq!(sh(&daemon, "", "ls /sys/class/net").ok(), "lo");
    assert!(sh(&daemon, "", "ip addr show lo").ok().contains("inet 127.0.0.1/8"));
    sh(&daemon, "", "ping -c 1 127.0.0.1").ok();
}

#[test]
fn system_controls_are_set() {
    let daemon = daemon();
    assert_eq!(
        sh(
            &daemon,
            "--sysctl net.ipv4.ip_forward=1",
            "cat /proc/sys/net/ipv4/ip_forward"
        )
        .ok(),
        "1"
    );
    assert_eq!(
        sh(&daemon, "--sysctl kernel.msgmax=1234", "cat /proc/sys/kernel/msgmax").ok(),
        "1234"
    );
    // What is not of the container's own namespaces would change the host.
    sh(&daemon, "--sysctl vm.swappiness=1", "true").fails(125);
    sh(&daemon, "--uts host --sysctl kernel.domainname=x", "true").fails(125);
}

#[test]
fn fifty_quick_runs_lose_nothing() {
    let daemon = daemon();
    for number in 0..50 {
        let printed = daemon
            .docker([
                "run",
                "--rm",
                "--network",
                "none",
                "busybox",
                "echo",
                &number.to_string(),
            ])
            .ok();
        assert_eq!(printed, number.to_string());
    }
    daemon.assert_nothing_remains();
}

#[test]
fn a_container_can_be_named_and_the_name_is_taken() {
    let daemon = daemon();
    let id = daemon.docker("create --name web --network none busybox true").ok();
    let error = daemon.docker("create --name web --network none busybox true").fails(1);
    let expected = format!(
        "The container name \"/web\" is already in use by container \"{id}\". \
        You have to remove (or rename) that container to be able to reuse that name."
    );
    assert!(error.contains(&expected), "{error}");
    daemon.docker("create --name _bad --network none busybox true").fails(1);
    let generated = daemon.docker("create --network none busybox true").ok();
    let name = daemon.inspect(&generated)["Name"].as_str().unwrap().to_owned();
    assert!(name.len() > 4 && name.contains('_'), "{name}");
}

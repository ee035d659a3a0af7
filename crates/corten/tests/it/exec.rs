//! `docker exec`: further processes in a container, by both clients and by the API.
use std::{fs, path::PathBuf};

use corten_testkit::{
    api::Connection,
    daemon::{Daemon, names_in},
    follower::Follower,
    process,
    wait::wait_until,
};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{WAIT, background, daemon};

/// A daemon with a container `box` that waits.
fn with_box() -> Daemon {
    let daemon = daemon();
    background(&daemon, "--name box", WAIT);
    daemon.wait_for_log("box", "ready");
    daemon
}

/// The id of a new exec in `box`.
#[track_caller]
fn create(daemon: &Daemon, body: Value) -> String {
    let answer = daemon.api().post("/containers/box/exec", Some(&body)).expect(201);
    answer.json()["Id"].as_str().expect("an id").to_owned()
}

/// Started and attached.
#[track_caller]
fn start(daemon: &Daemon, body: Value) -> (String, Connection) {
    let id = create(daemon, body);
    let mut connection = daemon.api().open();
    let head = connection.upgrade_with(&format!("/exec/{id}/start"), &json!({}));
    assert_eq!((head.status, head.reason.as_str()), (101, "UPGRADED"));
    (id, connection)
}

#[track_caller]
fn inspect(daemon: &Daemon, id: &str) -> Value {
    daemon.api().get(&format!("/exec/{id}/json")).expect(200).json()
}

fn wait_for_end(daemon: &Daemon, id: &str) -> Value {
    wait_until("the exec ends", || inspect(daemon, id)["Running"] == false);
    inspect(daemon, id)
}

/// Descriptors of a process.
fn descriptors(pid: i32) -> usize {
    names_in(&PathBuf::from(format!("/proc/{pid}/fd"))).len()
}

#[test]
fn output_errors_and_the_exit_code_come_back() {
    let daemon = with_box();
    let words = ["exec", "box", "sh", "-c", "echo out; echo err >&2; exit 7"];
    for output in [daemon.docker(words), daemon.corten(words)] {
        assert_eq!(
            (output.text().as_str(), output.error().as_str(), output.code),
            ("out", "err", 7)
        );
    }
    assert_eq!(daemon.docker("exec box true").code, 0);
    let killed = daemon.docker(["exec", "box", "sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.code, 137);
}

#[test]
fn input_goes_in_and_its_end_with_it() {
    let daemon = with_box();
    let words = ["exec", "-i", "box", "sh", "-c", "cat; echo after"];
    for output in [
        daemon.docker_with_input(words, b"before\n"),
        daemon.corten_with_input(words, b"before\n"),
    ] {
        assert_eq!(output.ok(), "before\nafter");
    }
    // Without -i there is none.
    assert_eq!(daemon.docker_with_input("exec box cat", b"x").ok(), "");
    let input = vec![b'x'; 5 << 20];
    let count = daemon.docker_with_input("exec -i box wc -c", &input).ok();
    assert_eq!(count, (5 << 20).to_string());
}

#[test]
fn the_process_is_in_the_container_in_every_respect() {
    let daemon = daemon();
    background(&daemon, "--name box --hostname inside --memory 64m", WAIT);
    let own = "for kind in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$kind; done; hostname; \
               cat /proc/self/cgroup; grep -E 'Cap|Seccomp:|NoNewPrivs' /proc/self/status; readlink /proc/self/root; pwd";
    let container = daemon.docker(["exec", "box", "sh", "-c", own]).ok();
    let first = "for kind in cgroup ipc mnt net pid uts; do readlink /proc/1/ns/$kind; done; hostname; \
                 cat /proc/1/cgroup; grep -E 'Cap|Seccomp:|NoNewPrivs' /proc/1/status; readlink /proc/1/root; pwd";
    assert_eq!(container, daemon.docker(["exec", "box", "sh", "-c", first]).ok());
    assert!(container.contains("CapEff:\t00000000a80425fb"), "{container}");
    assert!(container.contains("Seccomp:\t2"), "{container}");
    assert!(container.contains("inside"), "{container}");
    // It is a child of nobody in there, and sees only what is in there.
    let ids = daemon
        .docker([
            "exec",
            "box",
            "sh",
            "-c",
            "grep PPid /proc/self/status; ls -d /proc/[0-9]* | wc -l",
        ])
        .ok();
    assert!(ids.starts_with("PPid:"), "{ids}");
    assert_eq!(daemon.docker("exec box ls /sys/firmware").ok(), "");
}

#[test]
fn user_groups_environment_and_directory_can_be_chosen() {
    let daemon = daemon();
    background(
        &daemon,
        [
            "--name",
            "box",
            "-e",
            "A=container",
            "-e",
            "B=kept",
            "-w",
            "/tmp",
            "--group-add",
            "games",
        ],
        WAIT,
    );
    let show = "id; echo $A $B $HOME; pwd";
    let cases: [(&[&str], &str); 4] = [
        (
            &[],
            "uid=0(root) gid=0(root) groups=0(root),60(games)\ncontainer kept /root\n/tmp",
        ),
        (
            &["-u", "app", "-e", "A=exec", "-w", "/etc"],
            "uid=1000(app) gid=1000(app) groups=29(audio),60(games),1000(app)\nexec kept /home/app\n/etc",
        ),
        (
            &["-u", "4000:29"],
            "uid=4000 gid=29(audio) groups=29(audio),60(games)\ncontainer kept /\n/tmp",
        ),
        (
            &["-e", "B"],
            "uid=0(root) gid=0(root) groups=0(root),60(games)\ncontainer /root\n/tmp",
        ),
    ];
    for (options, expected) in cases {
        let words = [&["exec"], options, &["box", "sh", "-c", show]].concat();
        for output in [daemon.docker(words.as_slice()), daemon.corten(words.as_slice())] {
            let shown = output.ok();
            let (id, rest) = shown.split_once('\n').unwrap();
            let (expected_id, expected_rest) = expected.split_once('\n').unwrap();
            assert_eq!(rest, expected_rest);
            let groups = |id: &str| {
                let mut groups: Vec<String> = id.rsplit('=').next().unwrap().split(',').map(str::to_owned).collect();
                groups.sort();
                groups
            };
            assert_eq!(groups(id), groups(expected_id), "{id}");
            assert_eq!(id.split(" groups").next(), expected_id.split(" groups").next());
        }
    }
    let file = daemon.root().join("variables");
    fs::write(&file, "FROM_FILE=yes\n# no\n").unwrap();
    let words = [
        "exec",
        "--env-file",
        file.to_str().unwrap(),
        "box",
        "sh",
        "-c",
        "echo $FROM_FILE",
    ];
    assert_eq!(daemon.docker(words).ok(), "yes");
    assert_eq!(daemon.corten(words).ok(), "yes");
}

#[test]
fn privileged_means_every_capability_and_the_same_filter() {
    let daemon = with_box();
    let caps = |options: &[&str]| {
        let words = [
            &["exec"],
            options,
            &["box", "grep", "-E", "CapEff|Seccomp:", "/proc/self/status"],
        ]
        .concat();
        daemon.docker(words.as_slice()).ok()
    };
    let plain = caps(&[]);
    let privileged = caps(&["--privileged"]);
    assert!(
        plain.contains("a80425fb") && !privileged.contains("a80425fb"),
        "{privileged}"
    );
    assert!(privileged.contains("Seccomp:\t2"), "{privileged}");
    assert_eq!(daemon.corten("exec --privileged box true").code, 0);
}

#[test]
fn limits_are_the_containers() {
    let daemon = daemon();
    background(
        &daemon,
        "--name box --ulimit nofile=123:456 --ulimit core=0 --oom-score-adj 300",
        WAIT,
    );
    let shown = daemon
        .docker([
            "exec",
            "box",
            "sh",
            "-c",
            "ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj",
        ])
        .ok();
    assert_eq!(shown, "123\n456\n300");
    // Without any of its own it begins as the container did, though its companion has raised its own limit.
    background(&daemon, "--name plain", WAIT);
    let own = daemon.docker(["exec", "plain", "sh", "-c", "ulimit -n"]).ok();
    let first = daemon
        .docker(["exec", "plain", "sh", "-c", "grep 'open files' /proc/1/limits"])
        .ok();
    assert_eq!(first.split_whitespace().nth(3), Some(own.as_str()));
}

#[test]
fn what_cannot_be_executed_says_why_and_has_its_exit_code() {
    let daemon = with_box();
    let cases: [(&[&str], &str, i32); 6] = [
        (
            &["box", "nosuch"],
            "exec failed: unable to start container process: exec: \"nosuch\": executable file not found in $PATH",
            127,
        ),
        (&["box", "/no/such"], "no such file or directory", 127),
        (&["box", "/etc"], "is a directory", 126),
        (&["box", "/etc/passwd"], "permission denied", 126),
        (
            &["-w", "/none", "box", "true"],
            "chdir to cwd (\"/none\") set in config.json failed: no such file or directory",
            127,
        ),
        (
            &["-u", "nobody-here", "box", "true"],
            "unable to find user nobody-here: no matching entries in passwd file",
            126,
        ),
    ];
    for (words, text, code) in cases {
        let words = [&["exec"], words].concat();
        for output in [daemon.docker(words.as_slice()), daemon.corten(words.as_slice())] {
            assert_eq!(output.code, code, "{output:?}");
            assert!(output.text().contains(text), "{output:?}");
        }
    }
    // What can be told from the request alone fails before there is a stream, so that the client shows why.
    for output in [
        daemon.docker("exec -w tmp box true"),
        daemon.corten("exec -w tmp box true"),
    ] {
        let error = output.fails(1);
        assert_eq!(
            error,
            "Error response from daemon: Cwd must be an absolute path: \"tmp\""
        );
    }
    // At a terminal too.
    let mut terminal = daemon.docker_terminal("exec -it box nosuch");
    terminal.wait_to_show("executable file not found in $PATH");
    assert_eq!(terminal.wait(), 127);
    let mut terminal = daemon.docker_terminal("exec -it -u nobody-here box sh");
    terminal.wait_to_show("no matching entries in passwd file");
    assert_eq!(terminal.wait(), 126);
    // Nobody reads the stream of a detached one: the request itself fails.
    let error = daemon.docker("exec -d box nosuch").fails(1);
    assert!(error.contains("executable file not found in $PATH"), "{error}");
    let error = daemon.corten("exec -d box nosuch").fails(1);
    assert!(error.contains("executable file not found in $PATH"), "{error}");
}

#[test]
fn only_a_running_container_has_execs() {
    let daemon = daemon();
    let id = background(&daemon, "--name box", WAIT);
    let api = daemon.api();
    let body = json!({"Cmd": ["true"]});
    let late = create(&daemon, body.clone());
    let refused = |path: &str, status| api.post(path, Some(&body)).expect(status).message();
    assert_eq!(refused("/containers/none/exec", 404), "No such container: none");
    assert_eq!(
        api.post("/containers/box/exec", Some(&json!({}))).expect(400).message(),
        "No exec command specified"
    );
    daemon.docker("pause box").ok();
    let paused = format!("Container {id} is paused, unpause the container before exec");
    assert_eq!(refused("/containers/box/exec", 409), paused);
    assert_eq!(refused(&format!("/exec/{late}/start"), 409), paused);
    assert!(daemon.docker("exec box true").fails(1).contains(&paused));
    daemon.docker("unpause box").ok();
    daemon.docker("stop box").ok();
    let stopped = format!("container {id} is not running");
    assert_eq!(refused("/containers/box/exec", 409), stopped);
    assert!(daemon.corten("exec box true").fails(1).contains(&stopped));
    // What was never started went with the container's end.
    assert_eq!(
        refused(&format!("/exec/{late}/start"), 404),
        format!("No such exec instance: {late}")
    );
    assert_eq!(
        api.get(&format!("/exec/{late}/json")).expect(404).message(),
        format!("No such exec instance: {late}")
    );
    api.post(&format!("/exec/{late}/resize?h=1&w=1"), None).expect(404);
}

#[test]
fn the_document_of_an_exec_is_dockers() {
    let daemon = with_box();
    let container = daemon.inspect("box")["Id"].as_str().unwrap().to_owned();
    let body = json!({
        "Cmd": ["sh", "-c", "read x; exit 4"], "AttachStdin": true, "AttachStdout": true, "User": "app", "Env": null, "DetachKeys": "ctrl-x",
    });
    let id = create(&daemon, body);
    let made = inspect(&daemon, &id);
    assert_eq!(
        made,
        json!({
            "ID": id, "Running": false, "ExitCode": null, "OpenStdin": true, "OpenStdout": true, "OpenStderr": false,
            "CanRemove": false, "ContainerID": container, "DetachKeys": "GA==", "Pid": 0,
            "ProcessConfig": {
                "tty": false, "entrypoint": "sh", "arguments": ["-c", "read x; exit 4"], "privileged": false,
                "user": "app",
            },
        })
    );
    assert_eq!(daemon.inspect("box")["ExecIDs"], json!([id]));
    let mut connection = daemon.api().open();
    let head = connection.upgrade_with(&format!("/exec/{id}/start"), &json!({"Detach": false, "Tty": false}));
    assert_eq!(
        head.header("content-type"),
        Some("application/vnd.docker.multiplexed-stream")
    );
    let running = inspect(&daemon, &id);
    let pid = running["Pid"].as_i64().unwrap() as i32;
    assert!(running["Running"] == true && process::is_alive(pid), "{running}");
    assert_eq!(process::parent(pid), Some(daemon.shim_pid("box")));
    let twice = daemon
        .api()
        .post(&format!("/exec/{id}/start"), Some(&json!({})))
        .expect(409);
    assert_eq!(twice.message(), format!("Error: Exec command {id} is already running"));
    connection.half_close();
    assert_eq!(connection.rest(), b"");
    // Whoever has seen the end of the stream finds the exit code.
    let ended = inspect(&daemon, &id);
    assert_eq!(
        (&ended["Running"], &ended["ExitCode"], &ended["Pid"]),
        (&json!(false), &json!(4), &json!(0))
    );
    assert_eq!(daemon.inspect("box")["ExecIDs"], Value::Null);
    let twice = daemon
        .api()
        .post(&format!("/exec/{id}/start"), Some(&json!({})))
        .expect(409);
    assert_eq!(twice.message(), format!("Error: Exec command {id} has already run"));
    daemon.docker("rm -f box").ok();
    daemon.api().get(&format!("/exec/{id}/json")).expect(404);
}

#[test]
fn a_detached_exec_goes_on_by_itself() {
    let daemon = with_box();
    for (client, file) in [("docker", "/tmp/one"), ("corten", "/tmp/two")] {
        let script = format!("echo lost; sleep 0.2; echo done > {file}");
        let words = ["exec", "-d", "box", "sh", "-c", &script];
        let output = if client == "docker" {
            daemon.docker(words)
        } else {
            daemon.corten(words)
        };
        assert_eq!(output.ok(), "");
        wait_until("it has done its work", || {
            daemon.docker(["exec", "box", "cat", file]).text() == "done"
        });
    }
}

#[test]
fn a_connection_without_an_upgrade_becomes_the_stream_all_the_same() {
    let daemon = with_box();
    let id = create(
        &daemon,
        json!({"Cmd": ["sh", "-c", "cat; echo end >&2"], "AttachStdin": true, "AttachStdout": true, "AttachStderr": true}),
    );
    let mut connection = daemon.api().open();
    connection.send("POST", &format!("/exec/{id}/start"), Some(&json!({})));
    let head = connection.head();
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-type"), Some("application/vnd.docker.raw-stream"));
    connection.send_raw("hello");
    assert_eq!(connection.frame(), (1, b"hello".to_vec()));
    connection.half_close();
    assert_eq!(connection.frame(), (2, b"end\n".to_vec()));
    assert_eq!(connection.rest(), b"");
}

#[test]
fn a_shell_at_a_terminal_has_its_size_and_its_job_control() {
    let daemon = with_box();
    for by in ["docker", "corten"] {
        let words = "exec -it -e PS1=>> box sh";
        let mut terminal = match by {
            "docker" => daemon.docker_terminal(words),
            _ => daemon.corten_terminal(words),
        };
        terminal.wait_to_show(">>");
        terminal.press("stty size; tty; echo TERM=$TERM\r");
        terminal.wait_to_show("24 80");
        terminal.wait_to_show("/dev/pts/");
        terminal.wait_to_show("TERM=xterm");
        terminal.press("trap 'echo resized' WINCH\r");
        terminal.resize(40, 132);
        wait_until("the new size arrives", || {
            terminal.press("stty size\r");
            terminal.shown().contains("40 132")
        });
        terminal.wait_to_show("resized");
        terminal.press("sleep 1000\r");
        wait_until("it sleeps", || daemon.docker("top box").text().contains("sleep 1000"));
        terminal.clear();
        terminal.press("\x03");
        terminal.wait_to_show(">>");
        terminal.press("exit 9\r");
        assert_eq!(terminal.wait(), 9);
    }
    // A user who is not root may open what it stands on.
    let output = daemon.docker([
        "exec",
        "-t",
        "-u",
        "app",
        "box",
        "sh",
        "-c",
        "echo through > /dev/stdout; ls -l $(tty)",
    ]);
    assert!(output.text().contains("through"), "{output:?}");
}

#[test]
fn a_terminal_is_resized_by_the_api_early_and_late() {
    let daemon = with_box();
    let body = json!({"Cmd": ["sh", "-c", "stty size; read x; stty size"], "Tty": true, "AttachStdin": true,
        "AttachStdout": true, "ConsoleSize": [11, 22]});
    let id = create(&daemon, body);
    let mut connection = daemon.api().open();
    let head = connection.upgrade_with(&format!("/exec/{id}/start"), &json!({"Tty": true}));
    assert_eq!(head.header("content-type"), Some("application/vnd.docker.raw-stream"));
    assert_eq!(connection.take(7), b"11 22\r\n");
    daemon
        .api()
        .post(&format!("/exec/{id}/resize?h=33&w=44"), None)
        .expect(200);
    connection.send_raw("\n");
    assert_eq!(String::from_utf8(connection.rest()).unwrap(), "\r\n33 44\r\n");
    let ended = daemon.api().post(&format!("/exec/{id}/resize?h=33&w=44"), None);
    assert_eq!(ended.status, 409);
    let bad = daemon
        .api()
        .post(&format!("/exec/{id}/resize?h=x&w=44"), None)
        .expect(400);
    assert_eq!(bad.message(), "invalid resize height \"x\": invalid syntax");
}

#[test]
fn detaching_leaves_the_process_running() {
    let daemon = with_box();
    let mut terminal = daemon.docker_terminal("exec -it box sh");
    terminal.wait_to_show("/ #");
    let id = daemon.inspect("box")["ExecIDs"][0].as_str().unwrap().to_owned();
    terminal.press("\x10\x11");
    terminal.wait();
    assert_eq!(inspect(&daemon, &id)["Running"], true);
    let mut terminal = daemon.corten_terminal("exec -it --detach-keys ctrl-x,y box sh");
    terminal.wait_to_show("/ #");
    terminal.press("\x18y");
    assert_eq!(terminal.wait(), 1);
    assert_eq!(daemon.inspect("box")["ExecIDs"].as_array().unwrap().len(), 2);
    // Both clients keep the keys to themselves; others leave them to the daemon.
    assert!(events(&daemon, "exec_detach").is_empty());
    let id = create(
        &daemon,
        json!({"Cmd": ["sh"], "Tty": true, "AttachStdin": true, "AttachStdout": true, "DetachKeys": "ctrl-x"}),
    );
    let mut connection = daemon.api().open();
    connection.upgrade_with(&format!("/exec/{id}/start"), &json!({"Tty": true}));
    connection.send_raw("\x18");
    connection.rest();
    assert_eq!(inspect(&daemon, &id)["Running"], true);
    assert_eq!(events(&daemon, "exec_detach")[0]["Actor"]["Attributes"]["execID"], id);
}

/// `ACTION` and attributes of past events of execs.
fn events(daemon: &Daemon, action: &str) -> Vec<Value> {
    let until = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 1;
    let filters = json!({"event": [action], "type": ["container"]})
        .to_string()
        .replace('"', "%22");
    let answer = daemon
        .api()
        .get(&format!("/events?since=0&until={until}&filters={filters}"));
    let lines = answer.text();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn execs_are_told_of() {
    let daemon = with_box();
    let (id, mut connection) = start(&daemon, json!({"Cmd": ["sh", "-c", "exit 3"], "AttachStdout": true}));
    connection.rest();
    wait_until("its end is told", || !events(&daemon, "exec_die").is_empty());
    for (action, told) in [
        ("exec_create", "exec_create: sh -c exit 3"),
        ("exec_start", "exec_start: sh -c exit 3"),
        ("exec_die", "exec_die"),
    ] {
        let event = &events(&daemon, action)[0];
        assert_eq!(event["Action"], told);
        assert_eq!(event["Actor"]["Attributes"]["execID"], id);
        assert_eq!(event["Actor"]["Attributes"]["name"], "box");
    }
    assert_eq!(events(&daemon, "exec_die")[0]["Actor"]["Attributes"]["exitCode"], "3");
}

#[test]
fn several_hundred_at_once() {
    let daemon = with_box();
    let shim = daemon.shim_pid("box");
    let before = descriptors(shim);
    let body = json!({"Cmd": ["sh", "-c", "read x; echo $x"], "AttachStdin": true, "AttachStdout": true});
    let mut all: Vec<_> = (0..300).map(|_| start(&daemon, body.clone())).collect();
    assert_eq!(daemon.inspect("box")["ExecIDs"].as_array().unwrap().len(), 300);
    for (number, (_, connection)) in all.iter_mut().enumerate() {
        connection.send_raw(&format!("{number}\n"));
    }
    for (number, (id, connection)) in all.iter_mut().enumerate() {
        assert_eq!(connection.frame(), (1, format!("{number}\n").into_bytes()));
        assert_eq!(connection.rest(), b"");
        assert_eq!(inspect(&daemon, id)["ExitCode"], 0);
    }
    wait_until("nothing of them is left", || descriptors(shim) <= before);
    assert_eq!(daemon.inspect("box")["ExecIDs"], Value::Null);
}

#[test]
fn execs_end_with_their_container() {
    let daemon = with_box();
    let (id, mut connection) = start(&daemon, json!({"Cmd": ["sleep", "1000"], "AttachStdout": true}));
    let pid = inspect(&daemon, &id)["Pid"].as_i64().unwrap() as i32;
    daemon.docker("kill box").ok();
    assert_eq!(connection.rest(), b"");
    wait_until("it is dead", || !process::is_alive(pid));
    assert_eq!(wait_for_end(&daemon, &id)["ExitCode"], 137);
    daemon.docker("rm box").ok();
    daemon.assert_nothing_remains();
    // Where the host's processes are the container's, nobody dies of the first one's death alone.
    background(&daemon, "--name box --pid host", WAIT);
    let (id, _) = start(&daemon, json!({"Cmd": ["sleep", "1000"]}));
    let pid = inspect(&daemon, &id)["Pid"].as_i64().unwrap() as i32;
    daemon.docker("rm -f box").ok();
    wait_until("it is dead", || !process::is_alive(pid));
    daemon.assert_nothing_remains();
}

#[test]
fn a_new_daemon_finds_execs_and_those_that_ended_meanwhile() {
    let mut daemon = with_box();
    let file = daemon.root().join("go");
    let pipe = json!({"Cmd": ["sh", "-c", "while [ ! -e /tmp/go ]; do sleep 0.02; done; exit 5"], "AttachStdout": true, "Tty": true, "User": "app"});
    let (waiting, _first) = start(&daemon, pipe);
    let (long, _second) = start(&daemon, json!({"Cmd": ["sleep", "1000"], "AttachStdout": true}));
    let idle = create(&daemon, json!({"Cmd": ["true"]}));
    let (before, ended) = (
        inspect(&daemon, &long),
        inspect(&daemon, &waiting)["Pid"].as_i64().unwrap() as i32,
    );
    let root = format!("/proc/{}/root/tmp/go", daemon.container_pid("box"));
    daemon.kill();
    fs::write(&root, "").unwrap();
    wait_until("the first ends", || !process::is_alive(ended));
    drop(file);
    daemon.start_process();
    assert_eq!(inspect(&daemon, &long), before);
    let after = inspect(&daemon, &waiting);
    assert_eq!((&after["Running"], &after["ExitCode"]), (&json!(false), &json!(5)));
    assert_eq!(after["ProcessConfig"]["user"], "app");
    assert_eq!(after["ProcessConfig"]["tty"], true);
    // What nobody had started was only a wish.
    daemon.api().get(&format!("/exec/{idle}/json")).expect(404);
    assert_eq!(daemon.inspect("box")["ExecIDs"], json!([long]));
    // And the new daemon hears of its end.
    process::signal(before["Pid"].as_i64().unwrap() as i32, Signal::TERM);
    assert_eq!(wait_for_end(&daemon, &long)["ExitCode"], 143);
    assert_eq!(daemon.docker("exec box echo on").ok(), "on");
}

#[test]
fn a_daemon_killed_at_any_moment_of_an_exec_leaves_nothing() {
    let mut daemon = with_box();
    let shim = daemon.shim_pid("box");
    assert_eq!(daemon.docker("exec box true").code, 0);
    wait_until("the shim is at rest", || descriptors(shim) < 20);
    let before = descriptors(shim);
    for delay in [0, 1, 2, 4, 8, 16, 32] {
        let id = create(&daemon, json!({"Cmd": ["true"], "AttachStdout": true}));
        let mut connection = daemon.api().open();
        connection.send("POST", &format!("/exec/{id}/start"), Some(&json!({})));
        std::thread::sleep(std::time::Duration::from_micros(delay * 100));
        daemon.kill_and_start();
        wait_until("nothing of it is left", || {
            daemon.inspect("box")["ExecIDs"] == Value::Null && descriptors(shim) <= before
        });
    }
    assert_eq!(daemon.docker("exec box echo on").ok(), "on");
    daemon.docker("rm -f box").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    let daemon = with_box();
    let shim = daemon.shim_pid("box");
    daemon.docker("exec box true").ok();
    wait_until("all is at rest", || descriptors(shim) < 20);
    let (of_shim, of_daemon) = (descriptors(shim), descriptors(daemon.pid()));
    // One that would have gone on typing: its end is the end of input.
    let (reading, connection) = start(
        &daemon,
        json!({"Cmd": ["cat"], "AttachStdin": true, "AttachStdout": true}),
    );
    drop(connection);
    wait_for_end(&daemon, &reading);
    // One that does not read: the process waits for room, and then for nobody.
    let body = json!({"Cmd": ["sh", "-c", "yes | head -c 3000000"], "AttachStdout": true});
    let (writing, mut connection) = start(&daemon, body);
    connection.frame();
    assert_eq!(inspect(&daemon, &writing)["Running"], true);
    drop(connection);
    assert_eq!(wait_for_end(&daemon, &writing)["ExitCode"], 0);
    // One that ends its side and then leaves without waiting for the answer.
    let body = json!({"Cmd": ["sh", "-c", "cat; sleep 0.3; echo late"], "AttachStdin": true, "AttachStdout": true});
    let (late, connection) = start(&daemon, body);
    connection.half_close();
    drop(connection);
    assert_eq!(wait_for_end(&daemon, &late)["ExitCode"], 0);
    // One that nobody waits for goes on, as with Docker; but nothing of its client stays.
    let (alone, connection) = start(&daemon, json!({"Cmd": ["sleep", "1000"], "AttachStdout": true}));
    drop(connection);
    wait_until("its client is forgotten", || descriptors(daemon.pid()) <= of_daemon);
    assert_eq!(inspect(&daemon, &alone)["Running"], true);
    process::signal(inspect(&daemon, &alone)["Pid"].as_i64().unwrap() as i32, Signal::KILL);
    wait_for_end(&daemon, &alone);
    wait_until("nothing is left", || {
        descriptors(shim) <= of_shim && descriptors(daemon.pid()) <= of_daemon
    });
    assert_eq!(
        process::all()
            .into_iter()
            .filter(|pid| process::parent(*pid) == Some(shim))
            .count(),
        1
    );
}

#[test]
fn a_slow_client_gets_everything_in_the_end() {
    let daemon = with_box();
    let body = json!({"Cmd": ["sh", "-c", "yes 0123456789 | head -c 4000000"], "AttachStdout": true});
    let (id, mut connection) = start(&daemon, body);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(inspect(&daemon, &id)["Running"], true);
    // Others are not held up by it.
    assert_eq!(daemon.docker("exec box echo quick").ok(), "quick");
    let mut seen = 0;
    while seen < 4_000_000 {
        seen += connection.frame().1.len();
    }
    assert_eq!(connection.rest(), b"");
    assert_eq!(inspect(&daemon, &id)["ExitCode"], 0);
}

#[test]
fn children_that_print_after_the_end_are_waited_for_a_little() {
    let daemon = with_box();
    let script = "(sleep 0.3; echo late) & echo now";
    assert_eq!(daemon.docker(["exec", "box", "sh", "-c", script]).ok(), "now\nlate");
    // But not for ever.
    let endless = ["exec", "box", "sh", "-c", "sleep 1000 & echo now"];
    assert_eq!(daemon.docker(endless).ok(), "now");
    assert!(daemon.docker("top box").text().contains("sleep 1000"));
}

#[test]
fn a_container_with_an_init_has_execs_and_no_zombies() {
    let daemon = daemon();
    background(&daemon, "--init --name box", WAIT);
    daemon.wait_for_log("box", "ready");
    assert_eq!(daemon.docker("exec box cat /proc/1/comm").ok(), "docker-init");
    daemon
        .docker(["exec", "box", "sh", "-c", "(sleep 0.1 & exec true) & sleep 0.01"])
        .ok();
    daemon
        .docker(["exec", "-d", "box", "sh", "-c", "sleep 0.1 & exit 0"])
        .ok();
    wait_until("orphans are reaped", || {
        let processes = daemon
            .docker(["exec", "box", "sh", "-c", "cat /proc/[0-9]*/stat"])
            .text();
        !processes.contains(" Z ") && !processes.contains("(sleep) S 1 1")
    });
    daemon.docker("stop -t 5 box").ok();
    assert_eq!(daemon.inspect("box")["State"]["ExitCode"], 0);
}

#[test]
fn the_commands_flags_are_checked_by_both_clients() {
    let daemon = with_box();
    for output in [
        daemon.docker_with_input("exec -it box sh", b"x"),
        daemon.corten_with_input("exec -it box sh", b"x"),
    ] {
        let error = output.fails(1);
        assert!(error.contains("the input device is not a TTY"), "{error}");
    }
    for output in [daemon.docker("exec box"), daemon.corten("exec box")] {
        let error = output.fails(1);
        assert!(error.contains("requires at least 2 arguments"), "{error}");
    }
    for output in [daemon.docker("exec none true"), daemon.corten("exec none true")] {
        assert_eq!(output.fails(1), "Error response from daemon: No such container: none");
    }
    let mut attached = Follower::run(&mut daemon.corten_command("exec -i box cat"));
    attached.write("one\n").unwrap();
    assert_eq!(attached.line(), "one");
    attached.close_input();
    assert_eq!(attached.wait(), 0);
}

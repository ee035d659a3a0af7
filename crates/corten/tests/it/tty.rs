//! Containers with a terminal, and a person at it.
use corten_testkit::{daemon::Daemon, terminal::Terminal, wait::wait_until};

use crate::{WAIT, background, daemon};

/// The same session by both clients.
fn both(name: &str, words: &str, session: impl Fn(&Daemon, &mut Terminal)) {
    let daemon = daemon();
    let words = format!("run -it --name {name} --network none {words}");
    session(&daemon, &mut daemon.docker_terminal(&words));
    daemon.docker(["rm", "-f", name]).ok();
    session(&daemon, &mut daemon.corten_terminal(&words));
}

#[test]
fn a_shell_at_a_terminal_answers_and_ends() {
    both("shell", "busybox sh", |_, terminal| {
        terminal.wait_to_show("/ # ");
        terminal.press("tty; echo answer=$((6*7))\r");
        terminal.wait_to_show("answer=42");
        terminal.wait_to_show("/dev/pts/0");
        terminal.press("exit 5\r");
        assert_eq!(terminal.wait(), 5);
    });
}

#[test]
fn the_size_of_the_terminal_reaches_the_container_and_follows() {
    both("size", "busybox sh", |_, terminal| {
        terminal.wait_to_show("/ # ");
        // The client sets the size after the start; a shell that is asked too early sees the default.
        for _ in 0..100 {
            terminal.press("stty size\r");
            std::thread::sleep(std::time::Duration::from_millis(50));
            if terminal.shown().contains("24 80") {
                break;
            }
        }
        terminal.wait_to_show("24 80");
        terminal.press("trap 'echo resized' WINCH; echo set $((6 * 7))\r");
        terminal.wait_to_show("set 42");
        terminal.resize(40, 132);
        for _ in 0..100 {
            terminal.press("stty size\r");
            std::thread::sleep(std::time::Duration::from_millis(50));
            if terminal.shown().contains("40 132") {
                break;
            }
        }
        terminal.wait_to_show("40 132");
        terminal.wait_to_show("resized");
        terminal.press("exit\r");
        assert_eq!(terminal.wait(), 0);
    });
}

#[test]
fn detaching_leaves_it_running_and_attaching_comes_back() {
    both("detach", "busybox sh", |daemon, terminal| {
        terminal.wait_to_show("/ # ");
        terminal.press("export KEPT=yes\r");
        terminal.wait_to_show("KEPT=yes");
        // ctrl-p ctrl-q
        terminal.press("\x10\x11");
        assert_eq!(terminal.wait(), 0);
        assert_eq!(daemon.status("detach"), "running");
        for mut back in [
            daemon.docker_terminal("attach detach"),
            daemon.corten_terminal("attach detach"),
        ] {
            back.press("\r");
            back.wait_to_show("/ # ");
            back.press("echo kept=$KEPT\r");
            back.wait_to_show("kept=yes");
            back.press("\x10\x11");
            back.wait();
            assert_eq!(daemon.status("detach"), "running");
        }
        let mut last = daemon.docker_terminal("attach detach");
        last.press("\r");
        last.wait_to_show("/ # ");
        last.press("exit 4\r");
        assert_eq!(last.wait(), 4);
    });
}

#[test]
fn detach_keys_can_be_chosen() {
    both("keys", "--detach-keys ctrl-x,y busybox sh", |daemon, terminal| {
        terminal.wait_to_show("/ # ");
        // The default keys mean nothing then.
        terminal.press("\x10\x11");
        terminal.press("echo still=$((1+1))\r");
        terminal.wait_to_show("still=2");
        terminal.press("\x18y");
        assert_eq!(terminal.wait(), 0);
        assert_eq!(daemon.status("keys"), "running");
    });
}

#[test]
fn ctrl_c_interrupts_the_program_in_the_container() {
    both("interrupt", "busybox sh", |daemon, terminal| {
        terminal.wait_to_show("/ # ");
        terminal.press("sleep 1000\r");
        wait_until("it sleeps", || {
            daemon.docker("top interrupt").text().contains("sleep 1000")
        });
        terminal.clear();
        terminal.press("\x03");
        terminal.wait_to_show("/ # ");
        terminal.press("echo back=$((1+1))\r");
        terminal.wait_to_show("back=2");
        terminal.press("exit 0\r");
        assert_eq!(terminal.wait(), 0);
    });
}

#[test]
fn a_terminal_without_a_person_is_refused_by_the_client() {
    let daemon = daemon();
    let error = daemon
        .docker_with_input("run -it --rm --network none busybox true", b"x")
        .fails(1);
    assert!(error.contains("not a TTY"), "{error}");
    let error = daemon
        .corten_with_input("run -it --rm --network none busybox true", b"x")
        .fails(1);
    assert!(error.contains("not a TTY"), "{error}");
    // With -t alone output goes through a terminal of the container: newlines become two bytes.
    assert_eq!(
        daemon.docker("run -t --rm --network none busybox echo x").stdout,
        b"x\r\n"
    );
    assert_eq!(
        daemon.corten("run -t --rm --network none busybox echo x").stdout,
        b"x\r\n"
    );
}

#[test]
fn the_log_of_a_terminal_is_raw() {
    let daemon = daemon();
    daemon
        .docker([
            "run",
            "-dt",
            "--name",
            "term",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            "echo out; echo err >&2",
        ])
        .ok();
    daemon.docker("wait term").ok();
    let output = daemon.docker("logs term");
    assert_eq!(output.stdout, b"out\r\nerr\r\n");
    let answer = daemon.api().get("/containers/term/logs?stdout=1").expect(200);
    assert_eq!(answer.header("content-type"), Some("application/vnd.docker.raw-stream"));
    assert_eq!(answer.body, b"out\r\nerr\r\n");
}

#[test]
fn resizing_what_does_not_run_is_an_error_and_without_a_terminal_it_is_nothing() {
    let daemon = daemon();
    background(&daemon, "--name plain", WAIT);
    daemon
        .api()
        .post("/containers/plain/resize?h=10&w=20", None)
        .expect(200);
    daemon.docker("create -t --name box --network none busybox true").ok();
    let api = daemon.api();
    assert!(api.post("/containers/box/resize?h=10&w=20", None).status >= 400);
    let answer = api.post("/containers/box/resize?h=&w=20", None).expect(400);
    assert_eq!(answer.message(), "invalid resize height \"\": invalid syntax");
    api.post("/containers/none/resize?h=10&w=20", None).expect(404);
}

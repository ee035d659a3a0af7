//! What outlives what: containers their daemon, records a crash, the host everything.
use std::{fs, thread, time::Duration};

use corten_testkit::{
    daemon::{Daemon, names_in},
    follower::Follower,
    process,
    wait::wait_until,
};
use rustix::process::Signal;

use crate::{WAIT, background, daemon};

#[test]
fn containers_go_on_without_their_daemon() {
    let mut daemon = daemon();
    let id = background(
        &daemon,
        "--name box -i",
        "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done",
    );
    daemon.wait_for_log("box", "3");
    let pid = daemon.container_pid("box");
    daemon.kill();
    assert!(process::is_alive(pid));
    thread::sleep(Duration::from_millis(300));
    daemon.start_process();
    assert_eq!(daemon.status("box"), "running");
    assert_eq!(daemon.container_pid("box"), pid);
    assert_eq!(daemon.inspect("box")["Id"].as_str().unwrap(), id);
    // Not one line is missing or doubled across the gap.
    let before: u32 = daemon.docker("logs --tail 1 box").ok().parse().unwrap();
    wait_until("the log goes on", || {
        daemon.docker("logs --tail 1 box").ok().parse::<u32>().unwrap() > before + 5
    });
    let logs = daemon.docker("logs box").ok();
    let numbers: Vec<u32> = logs.lines().map(|line| line.parse().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u32));
    // It can be driven as before.
    daemon.docker("pause box").ok();
    daemon.docker("unpause box").ok();
    let mut attached = Follower::run(&mut daemon.docker_command("attach --no-stdin box"));
    assert!(attached.line().parse::<u32>().is_ok());
    daemon.docker("kill box").ok();
    assert_eq!(daemon.docker("wait box").ok(), "137");
    daemon.docker("rm box").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn a_daemon_that_is_told_to_end_leaves_containers_running() {
    let mut daemon = daemon();
    background(&daemon, "--name box", WAIT);
    let pid = daemon.container_pid("box");
    daemon.stop();
    assert!(process::is_alive(pid));
    daemon.start_process();
    assert_eq!(daemon.container_pid("box"), pid);
}

#[test]
fn an_exit_code_that_came_meanwhile_is_known() {
    let mut daemon = daemon();
    let file = daemon.root().join("go");
    fs::create_dir(&file).unwrap();
    let bind = format!("{}:/go", file.display());
    let script = "while [ ! -e /go/now ]; do sleep 0.02; done; echo last words; exit 37";
    background(&daemon, ["--name", "box", "-v", &bind], script);
    let shim = daemon.shim_pid("box");
    daemon.kill();
    fs::write(file.join("now"), "").unwrap();
    wait_until("the container and its shim end", || !process::is_alive(shim));
    daemon.start_process();
    let state = &daemon.inspect("box")["State"];
    assert_eq!(
        (state["Status"].as_str(), state["ExitCode"].as_i64()),
        (Some("exited"), Some(37))
    );
    assert_eq!(daemon.docker("logs box").ok(), "last words");
    daemon.assert_nothing_runs();
    // It is not a ruin: it can be started again, and ends again.
    daemon.docker("start -a box").fails(37);
}

#[test]
fn a_container_of_rm_that_ended_meanwhile_is_removed() {
    let mut daemon = daemon();
    background(&daemon, "--rm --name box", WAIT);
    let pid = daemon.container_pid("box");
    daemon.kill();
    process::end_unseen(pid);
    daemon.start_process();
    wait_until("it is removed", || daemon.docker("ps -aq").ok().is_empty());
    daemon.assert_nothing_remains();
}

#[test]
fn a_paused_container_is_still_paused() {
    let mut daemon = daemon();
    background(&daemon, "--name box", WAIT);
    daemon.wait_for_log("box", "ready");
    daemon.docker("pause box").ok();
    daemon.kill_and_start();
    assert_eq!(daemon.status("box"), "paused");
    daemon.docker("unpause box").ok();
    daemon.docker("stop box").ok();
    assert_eq!(daemon.inspect("box")["State"]["ExitCode"], 0);
}

#[test]
fn a_memory_kill_that_came_meanwhile_is_known() {
    let mut daemon = daemon();
    let file = daemon.root().join("go");
    fs::create_dir(&file).unwrap();
    let bind = format!("{}:/go", file.display());
    let script = "while [ ! -e /go/now ]; do sleep 0.02; done; exec tail /dev/zero";
    background(
        &daemon,
        ["--name", "box", "--memory", "16m", "--memory-swap", "16m", "-v", &bind],
        script,
    );
    let shim = daemon.shim_pid("box");
    daemon.kill();
    fs::write(file.join("now"), "").unwrap();
    wait_until("the container and its shim end", || !process::is_alive(shim));
    daemon.start_process();
    let state = &daemon.inspect("box")["State"];
    assert_eq!(
        (
            state["Status"].as_str(),
            state["OOMKilled"].as_bool(),
            state["ExitCode"].as_i64()
        ),
        (Some("exited"), Some(true), Some(137))
    );
}

#[test]
fn the_death_of_a_shim_is_the_death_of_its_container() {
    let daemon = daemon();
    let id = background(&daemon, "--name box", WAIT);
    let pid = daemon.container_pid("box");
    process::signal(daemon.shim_pid("box"), Signal::KILL);
    daemon.wait_for_status("box", "exited");
    let state = &daemon.inspect("box")["State"];
    assert_eq!(state["ExitCode"], 137);
    assert!(state["Error"].as_str().unwrap().contains("shim"), "{state}");
    wait_until("its processes are dead", || !process::is_alive(pid));
    assert!(daemon.cgroups(&id).is_empty());
    daemon.assert_nothing_runs();
    daemon.docker("start box").ok();
    daemon.docker("rm -f box").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn a_shim_that_died_without_a_daemon_is_cleaned_up_by_the_next() {
    let mut daemon = daemon();
    background(&daemon, "--name box", WAIT);
    let (pid, shim) = (daemon.container_pid("box"), daemon.shim_pid("box"));
    daemon.kill();
    process::signal(shim, Signal::KILL);
    wait_until("the shim is dead", || !process::is_alive(shim));
    daemon.start_process();
    daemon.wait_for_status("box", "exited");
    assert_eq!(daemon.inspect("box")["State"]["ExitCode"], 137);
    wait_until("its processes are dead", || !process::is_alive(pid));
    daemon.assert_nothing_runs();
}

#[test]
fn the_death_of_the_launcher_is_mended() {
    let daemon = daemon();
    background(&daemon, "--name box", WAIT);
    let launcher = daemon
        .processes()
        .into_iter()
        .find(|&pid| process::parent(pid) == Some(daemon.pid()))
        .expect("there is a launcher");
    process::signal(launcher, Signal::KILL);
    wait_until("the launcher is dead", || !process::is_alive(launcher));
    assert_eq!(daemon.docker("run --rm --network none busybox echo fine").ok(), "fine");
    assert_eq!(daemon.status("box"), "running");
    daemon.docker("rm -f box").ok();
    daemon.assert_nothing_remains();
}

/// Kills the daemon after ever longer moments of a verb, and looks at what the next one makes of it.
fn kill_within(verb: &str, prepare: impl Fn(&Daemon), check: impl Fn(&Daemon)) {
    let mut daemon = daemon();
    for step in 0..12 {
        prepare(&daemon);
        let mut client = daemon.docker_command(verb);
        let mut client = client
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // From before the client has connected (its start takes 10 ms) to well after the verb is done.
        thread::sleep(Duration::from_millis(step * step / 2 + 10));
        daemon.kill();
        let _ = client.kill();
        let _ = client.wait();
        daemon.start_process();
        check(&daemon);
        let ids = daemon.docker("ps -aq").ok();
        for id in ids.lines() {
            daemon.docker(["rm", "-f", id]).ok();
        }
        daemon.assert_nothing_remains();
    }
}

/// Every container is in a state that makes sense, and can be told what it is. One that was told to end may still be on
/// its way there, and one of `--rm` on its way out.
fn sound(daemon: &Daemon) {
    for id in daemon.docker("ps -aq --no-trunc").ok().lines() {
        wait_until(&format!("{id} is what it is said to be"), || {
            let answer = daemon.api().get(&format!("/containers/{id}/json"));
            if answer.status == 404 {
                return true;
            }
            let inspected = answer.json();
            let (status, pid) = (
                inspected["State"]["Status"].as_str().unwrap(),
                inspected["State"]["Pid"].as_i64().unwrap(),
            );
            assert!(
                matches!(status, "created" | "running" | "exited" | "removing" | "dead"),
                "{status}"
            );
            assert_eq!(status == "running", pid > 0, "{inspected}");
            match pid > 0 {
                true => process::is_alive(pid as i32),
                false => daemon.cgroups(id).is_empty(),
            }
        });
    }
    wait_until("every directory has a record", || {
        let records = daemon.docker("ps -aq").ok().lines().count();
        names_in(&daemon.data_root().join("containers")).len() == records
    });
}

#[test]
fn a_kill_within_run_leaves_nothing_half_made() {
    kill_within("run -d --network none busybox sleep 1000", |_| (), sound);
}

#[test]
fn a_kill_within_a_short_run_leaves_nothing_half_made() {
    kill_within(
        "run --rm --network none busybox true",
        |_| (),
        |daemon| {
            wait_until("what was started has ended", || daemon.docker("ps -q").ok().is_empty());
            sound(daemon);
        },
    );
}

#[test]
fn a_kill_within_stop_leaves_nothing_half_made() {
    let prepare = |daemon: &Daemon| {
        background(daemon, "--name box", WAIT);
        daemon.wait_for_log("box", "ready");
    };
    kill_within("stop box", prepare, sound);
}

#[test]
fn a_kill_within_rm_leaves_nothing_half_made() {
    let prepare = |daemon: &Daemon| drop(background(daemon, "--name box", WAIT));
    kill_within("rm -f box", prepare, sound);
}

#[test]
fn a_kill_within_load_leaves_nothing_half_made() {
    use corten_testkit::{archive::Tar, image};
    let mut daemon = daemon();
    let archive = daemon.root().join("big.tar");
    let noise: Vec<u8> = (0..16u32 << 20)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let image = image::busybox()
        .tagged("big:1")
        .layer(Tar::new().file("noise", 0o644, &noise));
    fs::write(&archive, image.docker_archive()).unwrap();
    let layers = || names_in(&daemon.data_root().join("layers")).len();
    let before = layers();
    for step in 0..8 {
        let mut client = daemon.docker_command(["load", "-i", archive.to_str().unwrap()]);
        let mut client = client
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(15 + step * 15));
        daemon.kill();
        let _ = client.kill();
        let _ = client.wait();
        daemon.start_process();
        if daemon.docker("images -q big").ok().is_empty() {
            assert_eq!(
                names_in(&daemon.data_root().join("layers")).len(),
                before,
                "half-made layers"
            );
        } else {
            assert_eq!(
                daemon.docker("run --rm --network none big:1 stat -c %s /noise").ok(),
                noise.len().to_string()
            );
            daemon.docker("rmi big:1").ok();
        }
        assert_eq!(
            names_in(&daemon.data_root().join("content/ingest")),
            Vec::<String>::new()
        );
        assert_eq!(daemon.docker("run --rm --network none busybox echo fine").ok(), "fine");
    }
}

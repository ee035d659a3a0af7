//! Containers that lie in wait for whoever comes in by exec.
use std::fs;

use corten_testkit::{daemon::Daemon, process, wait::wait_until};
use serde_json::json;

use crate::{WAIT, background, daemon};

/// A daemon with a container `box` that does something and then waits.
fn with_box(options: &str, script: &str) -> Daemon {
    let daemon = daemon();
    background(
        &daemon,
        format!("--name box {options}").trim(),
        &format!("{script}; {WAIT}"),
    );
    daemon.wait_for_log("box", "ready");
    daemon
}

/// The program of the daemon, its launcher and its shims.
fn program(daemon: &Daemon) -> Vec<u8> {
    fs::read(format!("/proc/{}/exe", daemon.pid())).unwrap()
}

#[test]
fn a_program_that_is_the_companion_cannot_overwrite_it() {
    // CVE-2019-5736: a shell that makes whoever executes it execute itself, while others open what that is for writing.
    let script = "\
                  (while :; do for exe in /proc/[0-9]*/exe; do \
                     [ \"$exe\" = /proc/1/exe ] || (echo overwritten > $exe) 2>/dev/null; done; done) & \
                  sleep 0.1; printf '#!/proc/self/exe\\n' > /bin/trap-me; chmod 755 /bin/trap-me";
    for options in ["", "--privileged", "--cap-add SYS_PTRACE"] {
        let daemon = with_box(options, script);
        let before = program(&daemon);
        for _ in 0..20 {
            let _ = daemon.docker("exec box /bin/trap-me");
            let _ = daemon.docker("exec box true");
        }
        assert!(program(&daemon) == before, "the program has changed ({options})");
        assert_eq!(daemon.docker("exec box echo fine").code, 0);
    }
}

#[test]
fn no_directory_of_the_host_is_a_working_directory() {
    // CVE-2024-21626
    let daemon = with_box("", "true");
    for number in 0..32 {
        let directory = format!("/proc/self/fd/{number}");
        let output = daemon.docker(["exec", "-w", &directory, "box", "cat", "../../../../../../etc/hostname"]);
        assert_ne!(output.code, 0, "{directory}: {output:?}");
        let directory = format!("/proc/1/fd/{number}");
        assert_ne!(
            daemon.docker(["exec", "-w", &directory, "box", "pwd"]).code,
            0,
            "{directory}"
        );
    }
    // The same by a link of the container's own.
    daemon.docker("exec box ln -s /proc/self/fd/7 /seven").ok();
    assert_ne!(daemon.docker("exec -w /seven box pwd").code, 0);
}

#[test]
fn nothing_is_inherited_but_the_streams() {
    let daemon = with_box("", "true");
    let listed = daemon.docker(["exec", "box", "sh", "-c", "ls /proc/self/fd; ls -l /proc/self/fd >&2"]);
    // ls(1) opens the directory itself.
    assert_eq!(listed.text(), "0\n1\n2\n3", "{}", listed.error());
    let output = daemon.docker([
        "exec",
        "box",
        "grep",
        "-E",
        "Cap(Inh|Amb)|SigIgn|SigBlk",
        "/proc/self/status",
    ]);
    let zero = "0000000000000000";
    assert_eq!(
        output.ok(),
        format!("SigBlk:\t{zero}\nSigIgn:\t{zero}\nCapInh:\t{zero}\nCapAmb:\t{zero}")
    );
}

#[test]
fn nobody_in_the_container_looks_into_a_process_on_its_way() {
    // CVE-2016-9962: whatever shows up in /proc shows its descriptors, its memory and its program to nobody.
    let spy = "(while :; do for pid in /proc/[0-9]*; do \
                 [ $pid = /proc/1 ] || { readlink $pid/exe; ls -l $pid/fd; } 2>/dev/null; done; done \
               | grep -E 'corten|memfd|socket:|/sys/fs/cgroup|/run' > /tmp/seen) & sleep 0.1";
    let daemon = with_box("", spy);
    for _ in 0..50 {
        assert_eq!(daemon.docker("exec box true").code, 0);
    }
    assert_eq!(daemon.docker("exec box cat /tmp/seen").ok(), "");
}

#[test]
fn a_container_that_replaced_its_files_gets_only_its_own() {
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("secret"), "secret").unwrap();
    // Links that lead out of every root but its own.
    let script = format!(
        "rm /etc/passwd; ln -s ../../../../../../../..{0}/secret /etc/passwd; rm /etc/group; ln -s {0}/secret /etc/group; \
         rm -rf /home; ln -s {0} /home; mv /tmp /old-tmp; ln -s {0} /tmp",
        host.path().display()
    );
    let daemon = with_box("", &script);
    let output = daemon.docker("exec -u app box true");
    assert_eq!(output.code, 126);
    assert!(output.text().contains("unable to find user app"), "{output:?}");
    assert_eq!(daemon.docker("exec -u 1000 -w / box id -u").ok(), "1000");
    assert_ne!(daemon.docker("exec -w /home box true").code, 0);
    assert_ne!(daemon.docker("exec -w /tmp box true").code, 0);
    assert_eq!(fs::read_dir(host.path()).unwrap().count(), 1);
}

#[test]
fn a_terminal_is_only_ever_one_of_the_containers() {
    // A container that may mount puts something else where terminals come from.
    let script = "umount /dev/pts 2>/dev/null; mount -t tmpfs none /dev/pts && ln -s /dev/null /dev/pts/ptmx";
    let daemon = with_box("--privileged", script);
    let mut terminal = daemon.docker_terminal("exec -it box sh");
    terminal.wait_to_show("cannot make the container's terminal");
    assert_eq!(terminal.wait(), 126);
    assert_eq!(daemon.docker("exec box echo fine").ok(), "fine");
}

#[test]
fn a_first_process_that_hides_proc_does_not_matter() {
    let script = "mount -t tmpfs none /proc; mkdir -p /proc/self /proc/1/ns; echo x > /proc/self/oom_score_adj; \
                  mount -t tmpfs none /sys";
    let daemon = with_box("--privileged --oom-score-adj 100", script);
    assert_eq!(daemon.docker("exec box echo fine").ok(), "fine");
    assert_eq!(daemon.docker("exec box cat /proc/self/oom_score_adj").ok(), "x");
    let id = daemon
        .api()
        .post("/containers/box/exec", Some(&json!({"Cmd": ["sleep", "1000"]})))
        .expect(201);
    let id = id.json()["Id"].as_str().unwrap().to_owned();
    daemon
        .api()
        .post(&format!("/exec/{id}/start"), Some(&json!({"Detach": true})))
        .expect(200);
    let pid = daemon.api().get(&format!("/exec/{id}/json")).expect(200).json()["Pid"]
        .as_i64()
        .unwrap();
    assert_eq!(
        fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim(),
        "100"
    );
}

#[test]
fn a_file_that_never_answers_holds_up_one_exec_and_nothing_else() {
    // A named pipe as /etc/passwd: whoever opens it as a file would wait for ever.
    let daemon = with_box("", "rm /etc/passwd /etc/group; mkfifo /etc/passwd /etc/group");
    let uids = daemon.docker("exec -u 7 box grep Uid /proc/self/status").ok();
    assert_eq!(uids, "Uid:\t7\t7\t7\t7");
    assert_eq!(daemon.docker("exec -u app box true").code, 126);
    daemon.docker("rm -f box").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn a_name_that_is_not_quite_a_number_is_nobody() {
    let daemon = with_box("", "true");
    for user in [
        "1000foo",
        "-1",
        "+0",
        "0x0",
        "4294967296",
        "2147483648",
        "99999999999999999999",
        "0:4294967296",
    ] {
        let output = daemon.docker(["exec", &format!("--user={user}"), "box", "id"]);
        assert_eq!(output.code, 126, "{user}: {output:?}");
        assert!(!output.text().contains("uid="), "{user}: {output:?}");
    }
}

#[test]
fn a_container_that_forks_for_ever_cannot_keep_its_execs_alive() {
    let daemon = daemon();
    background(&daemon, "--name box --pids-limit 100 --pid host", WAIT);
    daemon
        .docker([
            "exec",
            "-d",
            "box",
            "sh",
            "-c",
            "while :; do (sleep 1001 &) ; sleep 0.01; done",
        ])
        .ok();
    let shim = daemon.shim_pid("box");
    // No other test's container sleeps as long.
    wait_until("it storms", || {
        process::all()
            .into_iter()
            .filter(|pid| process::command_line(*pid) == ["sleep", "1001"])
            .count()
            > 20
    });
    daemon.docker("rm -f box").ok();
    wait_until("its companion is gone", || !process::is_alive(shim));
    daemon.assert_nothing_remains();
}

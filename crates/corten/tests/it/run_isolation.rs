//! What a container cannot do, cannot see, and does not get unless it is asked for.
use std::fs;

use corten_testkit::process;

use crate::{WAIT, background, daemon, read_kernel_log, sh};

#[test]
fn capabilities_are_dockers_default_set() {
    let daemon = daemon();
    let status = sh(&daemon, "", "cat /proc/self/status").ok();
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert!(status.contains(&format!("{set}:\t00000000a80425fb")), "{status}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000")), "{status}");
    }
}

#[test]
fn capabilities_are_added_and_dropped() {
    let daemon = daemon();
    let effective = |options: &str| sh(&daemon, options, "grep CapEff /proc/self/status | cut -f2").ok();
    assert_eq!(effective("--cap-drop ALL"), "0000000000000000");
    assert_eq!(
        effective("--cap-drop ALL --cap-add NET_BIND_SERVICE"),
        "0000000000000400"
    );
    assert_eq!(effective("--cap-drop CAP_CHOWN"), "00000000a80425fa");
    assert_eq!(effective("--cap-add sys_time"), "00000000aa0425fb");
    sh(&daemon, "--cap-add ALL", "true").ok();
    let error = sh(&daemon, "--cap-add NO_SUCH", "true").fails(125);
    assert!(error.contains("NO_SUCH"), "{error}");
}

#[test]
fn the_seccomp_filter_is_on_and_bites() {
    let daemon = daemon();
    assert_eq!(sh(&daemon, "", "grep -w Seccomp /proc/self/status | cut -f2").ok(), "2");
    let unconfined = "--security-opt seccomp=unconfined";
    assert_eq!(
        sh(&daemon, unconfined, "grep -w Seccomp /proc/self/status | cut -f2").ok(),
        "0"
    );
    // unshare(2) needs CAP_SYS_ADMIN, and for a user namespace only the filter stands in the way.
    sh(&daemon, "", "unshare -U true").fails(1);
    sh(&daemon, "-u app", "unshare -U true").fails(1);
    sh(&daemon, unconfined, "unshare -U true").ok();
    sh(&daemon, "", "mount -t tmpfs none /tmp").fails(1);
}

#[test]
fn a_seccomp_profile_of_ones_own_replaces_the_default() {
    let daemon = daemon();
    let file = daemon.root().join("profile.json");
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_AARCH64"],
        "syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":30}]}"#;
    fs::write(&file, profile).unwrap();
    let option = format!("seccomp={}", file.display());
    let output = sh(&daemon, ["--security-opt", &option], "mkdir /tmp/x");
    assert!(output.clone().fails(1).contains("Read-only file system"), "{output:?}");
    fs::write(&file, "not a profile").unwrap();
    sh(&daemon, ["--security-opt", &option], "true").fails(125);
    daemon.assert_nothing_remains();
}

#[test]
fn no_new_privileges_is_set_on_request_only() {
    let daemon = daemon();
    let script = "grep NoNewPrivs /proc/self/status | cut -f2";
    assert_eq!(sh(&daemon, "", script).ok(), "0");
    assert_eq!(sh(&daemon, "--security-opt no-new-privileges", script).ok(), "1");
    let error = sh(&daemon, "--security-opt no-such-option=1", "true").fails(125);
    assert!(error.contains("no-such-option"), "{error}");
}

#[test]
fn programs_find_out_that_they_are_in_a_container() {
    let daemon = daemon();
    let script = "ls -l /.dockerenv | cut -c1-10; readlink /etc/mtab; mount >/dev/null && echo mounted";
    for options in ["", "--read-only", "-u 1000"] {
        assert_eq!(
            sh(&daemon, options, script).ok(),
            "-rwxr-xr-x\n/proc/mounts\nmounted",
            "{options}"
        );
    }
    // It is no change of the user's.
    daemon.docker("run --name box --network none busybox true").ok();
    assert_eq!(daemon.docker("diff box").ok(), "");
    assert_eq!(
        daemon.docker("ps -as --format {{.Size}}").ok().split(' ').next(),
        Some("0B")
    );
    daemon.docker("commit box made").ok();
    let image = daemon.docker("image inspect made").json()[0].clone();
    assert_eq!(
        image["RootFS"]["Layers"].as_array().unwrap().len(),
        1,
        "nothing to keep"
    );
}

#[test]
fn what_means_nothing_to_the_host_is_discarded_aloud() {
    let daemon = daemon();
    let output = sh(&daemon, "--security-opt label=type:some_t", "echo runs");
    assert_eq!(output.text(), "runs");
    assert!(
        output.error().contains("WARNING: SELinux label discarded"),
        "{output:?}"
    );
}

#[test]
fn secrets_of_the_kernel_are_masked() {
    let daemon = daemon();
    for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list"] {
        let script = format!("[ ! -e {path} ] || [ \"$(wc -c <{path})\" = 0 ]");
        sh(&daemon, "", &script).ok();
    }
    assert_eq!(
        sh(
            &daemon,
            "",
            "ls /proc/acpi /proc/scsi /sys/firmware 2>/dev/null | grep -v : | grep -v '^$'"
        )
        .text(),
        ""
    );
    for path in [
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/hostname",
        "/proc/irq/default_smp_affinity",
    ] {
        let output = sh(&daemon, "", &format!("[ ! -e {path} ] || echo x >{path}"));
        assert!(
            output.code != 0 || !std::path::Path::new(path).exists(),
            "{path}: {output:?}"
        );
    }
    let error = sh(
        &daemon,
        "",
        "echo 1 >/sys/kernel/mm/ksm/run || echo 1 >/sys/kernel/profiling",
    )
    .code;
    assert_ne!(error, 0, "/sys is read-only");
    assert!(sh(&daemon, "", "grep ' /sys ' /proc/mounts").ok().contains("ro,"));
}

#[test]
fn paths_can_be_unmasked() {
    let daemon = daemon();
    let script = "grep -c ' /proc/sys ' /proc/mounts";
    assert_eq!(sh(&daemon, "", script).text(), "1");
    assert_eq!(sh(&daemon, "--security-opt systempaths=unconfined", script).text(), "0");
}

#[test]
fn a_privileged_container_has_everything() {
    let daemon = daemon();
    let status = sh(&daemon, "--privileged", "cat /proc/self/status").ok();
    let mine = process::status_field(daemon.pid(), "CapBnd").unwrap();
    assert!(status.contains(&format!("CapEff:\t{mine}")), "{status}");
    assert!(status.contains("Seccomp:\t0"), "{status}");
    sh(&daemon, "--privileged", "mount -t tmpfs none /tmp && umount /tmp").ok();
    let host = fs::read_dir("/dev")
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().to_str() == Some("/dev/kmsg"))
        .count();
    let seen: usize = sh(&daemon, "--privileged", "ls /dev/kmsg 2>/dev/null | wc -l")
        .ok()
        .parse()
        .unwrap();
    assert_eq!(seen, host);
    assert!(
        sh(&daemon, "--privileged", "grep ' /sys ' /proc/mounts")
            .ok()
            .contains("rw,")
    );
}

#[test]
fn devices_are_dockers_default_set_and_no_others_can_be_opened() {
    let daemon = daemon();
    let names = sh(&daemon, "", "ls /dev").ok();
    // /dev/core is there where the kernel has a /proc/kcore.
    let names: Vec<_> = names.lines().filter(|&name| name != "core").collect();
    let expected = [
        "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom",
        "zero",
    ];
    assert_eq!(names, expected);
    sh(
        &daemon,
        "",
        "echo x >/dev/null && head -c 1 /dev/urandom && head -c 1 /dev/zero >/dev/null",
    )
    .ok();
    // mknod is allowed; what it makes cannot be opened: a disk (8:0), kmsg (1:11), mem (1:1).
    for node in ["b 8 0", "c 1 11", "c 1 1"] {
        let output = sh(
            &daemon,
            "--cap-add SYSLOG",
            &format!("mknod /dev/x {node} && head -c 1 /dev/x"),
        );
        assert!(
            output.clone().fails(1).contains("Operation not permitted"),
            "{output:?}"
        );
    }
}

#[test]
fn devices_are_given_by_name_with_rights() {
    let daemon = daemon();
    // kmsg is a device that every host has and no container gets.
    sh(
        &daemon,
        "--cap-add SYSLOG --device /dev/kmsg",
        &read_kernel_log("/dev/kmsg"),
    )
    .ok();
    sh(
        &daemon,
        "--cap-add SYSLOG --device /dev/kmsg:/dev/renamed",
        &read_kernel_log("/dev/renamed"),
    )
    .ok();
    sh(
        &daemon,
        "--cap-add SYSLOG --device /dev/kmsg:/dev/kmsg:r",
        "echo >/dev/kmsg",
    )
    .fails(1);
    let output = sh(&daemon, "--device /dev/no-such-device", "true");
    assert!(
        output.code >= 125 && output.error().contains("/dev/no-such-device"),
        "{output:?}"
    );
    sh(
        &daemon,
        ["--cap-add", "SYSLOG", "--device-cgroup-rule", "c 1:11 r"],
        &format!("mknod /dev/x c 1 11; {}", read_kernel_log("/dev/x")),
    )
    .ok();
    daemon.assert_nothing_remains();
}

#[test]
fn the_host_is_out_of_sight() {
    let daemon = daemon();
    background(&daemon, "--name box", WAIT);
    let pid = daemon.container_pid("box");
    for kind in ["pid", "mnt", "uts", "ipc", "net"] {
        assert_ne!(
            process::namespace(pid, kind),
            process::namespace(daemon.pid(), kind),
            "{kind}"
        );
    }
    let processes = sh(&daemon, "", "ls /proc | grep -c '^[0-9]'").ok();
    assert!(processes.parse::<u32>().unwrap() <= 4, "{processes}");
    let mounts = sh(&daemon, "", "cat /proc/self/mountinfo").ok();
    let data_root = daemon.data_root();
    // Only the overlay's own options may name the data root.
    for line in mounts.lines() {
        let target = line.split(' ').nth(4).unwrap();
        assert!(!target.contains(data_root.to_str().unwrap()), "{line}");
    }
    // The old root is not reachable: no more mounts beneath / than ours, and .. of / is /.
    assert_eq!(
        sh(
            &daemon,
            "",
            "[ -e /../../../etc/debian_version ] && echo host || echo own"
        )
        .ok(),
        "own"
    );
}

#[test]
fn open_files_of_the_engine_do_not_leak_into_the_container() {
    let daemon = daemon();
    let fds = sh(&daemon, "", "ls -l /proc/1/fd").ok();
    let count = fds.lines().filter(|line| line.contains("->")).count();
    assert_eq!(count, 3, "{fds}");
}

#[test]
fn shared_memory_has_the_size_that_was_asked_for() {
    let daemon = daemon();
    let size = "df -k /dev/shm | tail -n 1 | awk '{print $2}'";
    assert_eq!(sh(&daemon, "", size).ok(), "65536");
    assert_eq!(sh(&daemon, "--shm-size 16m", size).ok(), "16384");
}

#[test]
fn the_container_sees_the_root_of_its_own_cgroup() {
    let daemon = daemon();
    let paths = sh(&daemon, "--cgroupns private", "cat /proc/self/cgroup").ok();
    for line in paths.lines() {
        assert!(line.ends_with(":/"), "{paths}");
    }
}

//! `--device`, `--device-cgroup-rule` and `--privileged`: which of the host's devices a container has.
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::{daemon, read_kernel_log, sh};

/// A script that says whether the kernel's log can be read, and opened for writing.
fn try_log() -> String {
    let read = read_kernel_log("/dev/kernel-log");
    format!("{read} && echo read; sh -c ': >>/dev/kernel-log' && echo opened")
}

#[test]
fn letters_say_what_may_be_done_with_a_device() {
    let daemon = daemon();
    let run = |letters: &str| {
        let options = format!("--cap-add SYSLOG --device /dev/kmsg:/dev/kernel-log:{letters}");
        sh(&daemon, &options, &try_log()).text()
    };
    assert_eq!(run("rw"), "read\nopened");
    assert_eq!(run("r"), "read");
    assert_eq!(run("w"), "opened");
    let error = sh(&daemon, "--device /dev/kmsg:/dev/kernel-log:rx", "true").fails(125);
    assert!(error.contains("bad mode specified: rx"), "{error}");
}

#[test]
fn a_rule_lets_a_device_be_used_that_has_no_node() {
    let daemon = daemon();
    let script = format!("mknod /dev/kernel-log c 1 11; {}", try_log());
    let run = |rules: &[&str]| {
        let mut words = vec!["--cap-add", "SYSLOG"];
        for rule in rules {
            words.extend(["--device-cgroup-rule", rule]);
        }
        sh(&daemon, words.as_slice(), &script)
    };
    assert_eq!(run(&[]).text(), "");
    assert_eq!(run(&["c 1:11 r"]).text(), "read");
    assert_eq!(run(&["c 1:* rw"]).text(), "read\nopened");
    assert_eq!(run(&["c *:* w"]).text(), "opened");
    assert!(run(&["c 1:11"]).fails(125).contains("invalid device cgroup"));
}

#[test]
fn a_directory_stands_for_the_devices_in_it() {
    let daemon = daemon();
    let directory = daemon.root().join("things");
    std::fs::create_dir_all(directory.join("deep")).unwrap();
    let make = |name: &str, minor| {
        let node = directory.join(name);
        mknodat(
            CWD,
            node,
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o640),
            makedev(1, minor),
        )
        .unwrap();
    };
    make("zero", 5);
    make("deep/log", 11);
    std::fs::write(directory.join("a-file"), "not a device").unwrap();
    let mapping = format!("{}:/dev/things", directory.display());
    let script = format!(
        "head -c 2 /dev/things/zero | wc -c; ls /dev/things; ls -l /dev/things/deep/log | cut -c1-10; {} && echo read",
        read_kernel_log("/dev/things/deep/log")
    );
    let output = sh(&daemon, ["--cap-add", "SYSLOG", "--device", &mapping], &script);
    assert_eq!(output.ok(), "2\ndeep\nzero\ncrw-r-----\nread");
}

#[test]
fn what_is_no_device_is_refused_by_name_and_leaves_nothing() {
    let daemon = daemon();
    for (path, reason) in [
        ("/dev/none-such", "no such file or directory"),
        ("/etc/passwd", "not a device node"),
    ] {
        let output = sh(&daemon, ["--device", path], "true");
        let error = output.error();
        assert_ne!(output.code, 0);
        let expected = format!("error gathering device information while adding custom device \"{path}\": {reason}");
        assert!(error.contains(&expected), "{error}");
    }
    daemon.docker("container prune -f").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn a_privileged_container_has_all_that_the_host_has() {
    let daemon = daemon();
    let there = sh(
        &daemon,
        "--privileged",
        "[ -c /dev/kmsg ] && head -c 0 /dev/kmsg && echo there",
    );
    assert_eq!(there.ok(), "there");
    assert_eq!(sh(&daemon, "", "[ -e /dev/kmsg ] || echo missing").ok(), "missing");
    let disks = std::fs::read_dir("/dev").unwrap().flatten();
    let disk = disks.map(|entry| entry.path()).find(|path| is_block(path));
    if let Some(disk) = disk {
        let script = format!("[ -b {} ] && echo there", disk.display());
        assert_eq!(sh(&daemon, "--privileged", &script).ok(), "there");
    }
}

fn is_block(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device())
}

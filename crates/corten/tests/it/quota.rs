//! Sizes of containers and of volumes: project quotas where the file system has them, one clear error elsewhere.
use std::{fs::File, process::Command};

use corten_testkit::{daemon::names_in, image};
use serde_json::json;

use crate::{daemon, guest, setup};

/// Whether this test's own disk counts by project: then there is nothing to refuse.
fn counts_by_project(answer: &corten_testkit::command::Output) -> bool {
    answer.code == 0
}

#[test]
fn a_size_that_cannot_be_kept_is_refused_and_leaves_nothing() {
    let daemon = daemon();
    let answer = daemon.docker("create --network none --storage-opt size=10m -v store:/data busybox");
    if counts_by_project(&answer) {
        println!("skipped: the disk has project quotas");
        return;
    }
    let error = answer.fails(1);
    assert!(error.contains("storage option size: the size of"), "{error}");
    assert!(
        error.contains("has no project quotas (mount ext4 or xfs with prjquota)"),
        "{error}"
    );
    daemon.assert_nothing_remains();
    assert_eq!(daemon.docker("volume ls -q").ok(), "");
    let error = daemon.docker("volume create -o size=10m small").fails(1);
    assert!(
        error.contains("create small: quota size requested but no quota support"),
        "{error}"
    );
    assert_eq!(names_in(&daemon.data_root().join("volumes")), Vec::<String>::new());
}

#[test]
fn the_daemons_own_size_is_for_containers_that_say_nothing() {
    let daemon = setup().arguments("--storage-opt overlay2.size=10m").start();
    daemon.load(&image::busybox());
    let answer = daemon.docker("create --network none busybox");
    if counts_by_project(&answer) {
        println!("skipped: the disk has project quotas");
        return;
    }
    let error = answer.fails(1);
    assert!(error.contains("storage option size: the size of"), "{error}");
    daemon.assert_nothing_remains();
}

#[test]
fn what_is_no_size_is_refused() {
    let daemon = daemon();
    for (options, message) in [
        (json!({"size": "lots"}), "invalid size: 'lots'"),
        (json!({"colour": "red"}), "Unknown option colour"),
    ] {
        let body = json!({"Image": "busybox", "HostConfig": {"NetworkMode": "none", "StorageOpt": options}});
        let answer = daemon.api().post("/containers/create", Some(&body)).expect(400);
        assert_eq!(answer.message(), message);
    }
    let error = daemon.docker("volume create -o size=lots small").fails(1);
    assert!(error.contains("create small: invalid size: 'lots'"), "{error}");
}

#[test]
fn sizes_hold_on_ext4_with_project_quotas() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let disk = directory.path().join("disk");
    File::create(&disk)
        .and_then(|file| file.set_len(48 << 20))
        .expect("a sparse file");
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-O", "quota,project", "-E", "quotatype=prjquota"])
        .arg(&disk)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .status();
    if !made.as_ref().is_ok_and(std::process::ExitStatus::success) {
        println!("skipped: no mkfs.ext4 that makes project quotas: {made:?}");
        return;
    }
    let modules = "crc16 crc32c_generic mbcache jbd2 ext4 quota_tree quota_v2 loop";
    if let Some(said) = guest::run("disk.sh", &[&disk], &[("GUEST_MODULES", modules)]) {
        assert!(said.contains("ok   a container that is full"), "{said}");
    }
}

//! Binds that show other owners than the disk says: the host user's files belong to the container's user, and back.
use std::{
    fs,
    os::unix::fs::{MetadataExt, chown},
    path::PathBuf,
};

use corten_testkit::{daemon::Daemon, image};
use serde_json::json;

use crate::{daemon, sh};

/// A directory of the host's, owned by 1234:5678, with a file of its own and one of somebody else.
fn source(daemon: &Daemon) -> PathBuf {
    let source = daemon.root().join("source");
    fs::create_dir(&source).unwrap();
    for (name, owner, group) in [("mine", 1234, 5678), ("theirs", 4321, 8765), ("roots", 0, 0)] {
        fs::write(source.join(name), "").unwrap();
        chown(source.join(name), Some(owner), Some(group)).unwrap();
    }
    chown(&source, Some(1234), Some(5678)).unwrap();
    source
}

fn owner(path: PathBuf) -> (u32, u32) {
    let found = fs::metadata(path).unwrap();
    (found.uid(), found.gid())
}

#[test]
fn the_sources_owner_is_the_containers_user_and_what_it_makes_is_his() {
    let daemon = daemon();
    let source = source(&daemon);
    let bind = format!("{}:/data:idmap", source.display());
    let script = "stat -c '%u:%g' /data /data/mine /data/theirs /data/roots; touch /data/made";
    let seen = sh(&daemon, ["-v", &bind], script).ok();
    assert_eq!(seen, "0:0\n0:0\n4321:8765\n65534:65534");
    assert_eq!(owner(source.join("made")), (1234, 5678));
    assert_eq!(owner(source.join("roots")), (0, 0), "nothing is changed on the disk");

    // Another user of the container's: names are looked up in the image.
    let seen = sh(
        &daemon,
        ["-v", &bind, "-u", "33:34"],
        &script.replace("made", "made-by-33"),
    )
    .ok();
    assert_eq!(seen, "33:34\n33:34\n4321:8765\n0:0");
    assert_eq!(owner(source.join("made-by-33")), (1234, 5678));
    let seen = sh(&daemon, ["-v", &bind, "-u", "daemon"], "id -u; stat -c %u /data");
    let lines: Vec<_> = seen.text().lines().map(str::to_owned).collect();
    assert_eq!(lines[0], lines[1], "{seen:?}");
    daemon.assert_nothing_remains();
}

#[test]
fn nobody_becomes_the_owner_that_was_moved_away() {
    let daemon = daemon();
    let source = source(&daemon);
    fs::set_permissions(&source, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let bind = format!("{}:/data:idmap=match-user", source.display());
    // On the disk 1234 is the owner's alone: a user of the container with that number cannot leave files as him.
    let refused = sh(
        &daemon,
        ["-v", &bind],
        "chown 1234 /data/mine 2>&1; su -s /bin/sh -c true; touch /data/x; stat -c %u /data/x",
    );
    assert!(
        refused.text().contains("Invalid argument") || refused.text().contains("Value too large"),
        "{refused:?}"
    );
    assert_eq!(owner(source.join("mine")), (1234, 5678));
    assert_eq!(owner(source.join("x")), (1234, 5678));
}

#[test]
fn owners_are_shown_as_a_user_that_is_named() {
    let daemon = daemon();
    let source = source(&daemon);
    let body = |mapping: serde_json::Value| {
        json!({"Image": "busybox", "Cmd": ["stat", "-c", "%u:%g", "/data", "/data/mine"], "HostConfig": {
            "NetworkMode": "none",
            "Mounts": [{"Type": "bind", "Source": source, "Target": "/data", "ReadOnly": true,
                "BindOptions": {"IDMapping": mapping}}]}})
    };
    let api = daemon.api();
    api.post(
        "/containers/create?name=box",
        Some(&body(json!({"Source": "match-user", "User": "77:78"}))),
    )
    .expect(201);
    assert_eq!(daemon.docker("start -a box").ok(), "77:78\n77:78");
    let shown = &daemon.inspect("box")["HostConfig"]["Mounts"][0]["BindOptions"]["IDMapping"];
    assert_eq!(*shown, json!({"Source": "match-user", "User": "77:78"}));
    for (mapping, message) in [
        (json!({"Source": "sideways"}), "invalid IDMapping.Source \"sideways\""),
        (
            json!({"Source": "userns", "User": "1"}),
            "IDMapping.User needs IDMapping.Source",
        ),
        (json!({"Source": "userns"}), "userns-remap"),
    ] {
        let answer = api.post("/containers/create", Some(&body(mapping))).expect(400);
        assert!(answer.message().contains(message), "{}", answer.message());
    }
    let spec = format!("type=bind,src={},dst=/data,bind-idmap=match-user:7", source.display());
    let seen = daemon.corten([
        "run",
        "--rm",
        "--network",
        "none",
        "--mount",
        &spec,
        "busybox",
        "stat",
        "-c",
        "%u:%g",
        "/data",
    ]);
    assert_eq!(seen.ok(), "7:0");
    let error = daemon
        .corten([
            "run",
            "--rm",
            "--network",
            "none",
            "--mount",
            "type=bind,src=/,dst=/x,bind-idmap=else",
            "busybox",
        ])
        .fails(125);
    assert!(
        error.contains("must be \"match-user\", \"match-user:USER\", or \"userns\""),
        "{error}"
    );
}

#[test]
fn a_file_system_that_cannot_is_named() {
    let daemon = daemon();
    let error = sh(&daemon, "-v /proc/sys:/data:idmap -u 33", "true").fails(125);
    assert!(
        error.contains("cannot map the owners of the files at /data: proc, or one mounted beneath it, cannot be mounted with other owners on this kernel"),
        "{error}"
    );
    let source = source(&daemon);
    let bind = format!("{}:/data:idmap", source.display());
    let error = sh(&daemon, ["-v", &bind, "-u", "nobody-at-all"], "true").fails(125);
    assert!(error.contains("unable to find user nobody-at-all"), "{error}");
    daemon.assert_nothing_remains();
}

#[test]
fn names_come_from_the_containers_own_files_and_a_daemon_may_die_meanwhile() {
    let mut daemon = daemon();
    let source = source(&daemon);
    let layer = corten_testkit::archive::Tar::new().file(
        "etc/passwd",
        0o644,
        b"root:x:0:0::/:/bin/sh\nbuilder:x:501:502::/:/bin/sh\n",
    );
    daemon.load(
        &image::busybox()
            .tagged("named:1")
            .layer(layer)
            .with("User", json!("builder")),
    );
    let bind = format!("{}:/data:idmap", source.display());
    let script = "stat -c '%u:%g' /data; while :; do sleep 0.05; done";
    daemon
        .docker([
            "run",
            "-d",
            "--name",
            "box",
            "--network",
            "none",
            "-v",
            &bind,
            "named:1",
            "sh",
            "-c",
            script,
        ])
        .ok();
    daemon.kill_and_start();
    daemon.wait_for_log("box", "501:502");
    daemon.docker("kill box").ok();
    daemon.docker("start box").ok();
    daemon.docker("rm -f box").ok();
    daemon.assert_nothing_remains();
}

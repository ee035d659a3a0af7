//! Volumes by their own commands: made, listed, looked at, kept while they are used, removed.
use std::fs;

use corten_testkit::{archive::Tar, daemon::names_in, image, process};
use serde_json::json;

use crate::{WAIT, background, daemon, setup, sh};

#[test]
fn a_volume_is_made_once_and_found_by_its_filters() {
    let daemon = setup().start();
    assert_eq!(daemon.docker("volume create --label tier=db store").ok(), "store");
    assert_eq!(daemon.docker("volume create store").ok(), "store");
    daemon.docker("volume create other").ok();
    let list = |filter: &str| daemon.docker(["volume", "ls", "-q", "-f", filter]).ok();
    assert_eq!(list("name=sto"), "store");
    assert_eq!(list("label=tier=db"), "store");
    assert_eq!(list("dangling=false"), "");
    assert_eq!(list("driver=local"), "other\nstore");
    let document = daemon.api().get("/volumes/store").expect(200).json();
    assert_eq!(document["Driver"], "local");
    assert_eq!(document["Scope"], "local");
    assert_eq!(document["Labels"], json!({"tier": "db"}));
    let path = daemon.data_root().join("volumes/store/_data");
    assert_eq!(document["Mountpoint"].as_str(), path.to_str());
    assert!(path.is_dir());
}

#[test]
fn a_volume_stays_while_a_container_mentions_it() {
    let daemon = daemon();
    daemon
        .docker("run --name user --network none -v store:/data busybox touch /data/file")
        .ok();
    let answer = daemon.api().delete("/volumes/store").expect(409);
    assert!(
        answer.message().starts_with("remove store: volume is in use - ["),
        "{}",
        answer.message()
    );
    daemon.docker("volume prune -af").ok();
    assert!(daemon.data_root().join("volumes/store/_data/file").exists());
    daemon.docker("rm user").ok();
    daemon.api().delete("/volumes/store").expect(204);
    assert!(!daemon.data_root().join("volumes/store").exists());
}

#[test]
fn pruning_takes_nameless_volumes_first() {
    let daemon = setup().start();
    daemon.docker("volume create named").ok();
    let nameless = daemon.docker("volume create").ok();
    daemon.docker("volume prune -f").ok();
    assert_eq!(daemon.docker("volume ls -q").ok(), "named");
    daemon.api().get(&format!("/volumes/{nameless}")).expect(404);
    daemon.docker("volume prune -af").ok();
    assert_eq!(daemon.docker("volume ls -q").ok(), "");
}

#[test]
fn what_is_no_volume_is_refused() {
    let daemon = setup().start();
    let api = daemon.api();
    assert_eq!(
        api.get("/volumes/none").expect(404).message(),
        "get none: no such volume"
    );
    api.delete("/volumes/none").expect(404);
    api.delete("/volumes/none?force=1").expect(204);
    api.post("/volumes/create", Some(&json!({"Name": "../x"}))).expect(400);
    let refused = |body: serde_json::Value, status: u16| {
        let answer = api.post("/volumes/create", Some(&body)).expect(status);
        answer.message()
    };
    assert_eq!(
        refused(json!({"Name": "xx", "Driver": "nfs"}), 404),
        "create xx: error looking up volume plugin nfs: plugin \"nfs\" not found"
    );
    assert_eq!(
        refused(json!({"Name": "xx", "DriverOpts": {"type": "tmpfs"}}), 400),
        "create xx: missing required option: \"device\""
    );
    assert_eq!(
        refused(json!({"Name": "xx", "DriverOpts": {"colour": "red"}}), 400),
        "create xx: invalid option: \"colour\""
    );
    assert_eq!(
        refused(json!({"Name": "x"}), 400),
        "create x: volume name is too short, names should be at least two alphanumeric characters"
    );
    assert_eq!(
        api.get("/volumes?filters={\"colour\":[\"red\"]}").expect(400).message(),
        "invalid filter 'colour'"
    );
}

#[test]
fn a_volume_with_a_device_is_mounted_for_its_users_and_never_on_the_host() {
    let daemon = daemon();
    let create = "volume create -d local -o type=tmpfs -o device=tmpfs -o o=size=1m,uid=1000,mode=750 scratch";
    daemon.docker(create).ok();
    let document = daemon.api().get("/volumes/scratch").expect(200).json();
    let options = json!({"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=1000,mode=750"});
    assert_eq!(document["Options"], options);
    background(&daemon, "--name one -v scratch:/data", WAIT);
    background(&daemon, "--name two -v scratch:/data:ro", WAIT);
    daemon.wait_for_log("two", "ready");
    daemon.exec("one", ["sh", "-c", "echo shared >/data/file"]).ok();
    let seen = daemon.exec(
        "two",
        [
            "sh",
            "-c",
            "cat /data/file; stat -c '%u %a' /data; df -k /data | tail -n 1 | awk '{print $2}'; touch /data/x",
        ],
    );
    assert_eq!(seen.text().trim(), "shared\n1000 750\n1024");
    assert!(seen.error().contains("Read-only file system"), "{seen:?}");
    for pid in ["self".to_owned(), daemon.pid().to_string()] {
        assert_eq!(process::mounts_beneath(&pid, daemon.root()), Vec::<String>::new());
    }
    assert_eq!(
        names_in(&daemon.data_root().join("volumes/scratch/_data")),
        Vec::<String>::new()
    );
    // What is in memory is gone after the last use.
    daemon.docker("rm -f one two").ok();
    let seen = sh(&daemon, "-v scratch:/data", "ls /data; stat -c %u /data").ok();
    assert_eq!(seen, "1000");
    daemon.assert_nothing_remains();
}

#[test]
fn a_volume_with_a_device_outlives_daemons_with_its_users() {
    let mut daemon = daemon();
    daemon
        .docker("volume create -o type=tmpfs -o device=tmpfs scratch")
        .ok();
    background(
        &daemon,
        "--name one -v scratch:/data",
        "echo kept >/data/file; echo ready; while :; do sleep 0.05; done",
    );
    daemon.wait_for_log("one", "ready");
    daemon.kill_and_start();
    assert_eq!(
        sh(&daemon, "-v scratch:/data", "cat /data/file; echo more >/data/more").ok(),
        "kept"
    );
    daemon.kill_and_start();
    assert_eq!(daemon.exec("one", ["cat", "/data/more"]).ok(), "more");
    background(&daemon, "--name two -v scratch:/data", WAIT);
    daemon.kill();
    process::signal(daemon_container(&mut daemon, "one"), rustix::process::Signal::KILL);
    daemon.docker("rm -f one").ok();
    assert_eq!(daemon.exec("two", ["cat", "/data/more"]).ok(), "more");
    assert_eq!(sh(&daemon, "-v scratch:/data", "cat /data/more").ok(), "more");
    daemon.docker("rm -f two").ok();
    assert_eq!(sh(&daemon, "-v scratch:/data", "ls /data").ok(), "");
    daemon.docker("volume rm scratch").ok();
    daemon.assert_nothing_remains();
}

/// Starts the daemon again; the container's first process.
fn daemon_container(daemon: &mut corten_testkit::daemon::Daemon, name: &str) -> i32 {
    daemon.start_process();
    daemon.container_pid(name)
}

#[test]
fn binds_and_file_systems_of_a_device_are_volumes_too() {
    let daemon = daemon();
    let shared = daemon.root().join("shared");
    fs::create_dir(&shared).unwrap();
    let device = format!("device={}", shared.display());
    daemon
        .docker([
            "volume",
            "create",
            "-o",
            "type=none",
            "-o",
            "o=bind",
            "-o",
            &device,
            "bound",
        ])
        .ok();
    sh(&daemon, "-v bound:/data", "echo through >/data/file").ok();
    assert_eq!(fs::read_to_string(shared.join("file")).unwrap(), "through\n");
    // The removal of a volume takes nothing of what it was bound from.
    daemon.docker("volume rm bound").ok();
    assert!(shared.join("file").exists());

    let missing = format!("device={}/missing", daemon.root().display());
    daemon
        .docker([
            "volume",
            "create",
            "-o",
            "type=none",
            "-o",
            "o=bind",
            "-o",
            &missing,
            "nowhere",
        ])
        .ok();
    let error = sh(&daemon, "-v nowhere:/data", "true").fails(125);
    assert!(
        error.contains("error while mounting volume") && error.contains("failed to mount local volume: mount "),
        "{error}"
    );
    assert!(error.contains("No such file or directory"), "{error}");
    daemon.docker("volume rm nowhere").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn a_server_that_the_kernel_cannot_mount_is_a_clear_error() {
    let daemon = daemon();
    daemon
        .docker("volume create -o type=nfs -o o=addr=127.0.0.1,ro,soft -o device=:/export share")
        .ok();
    let error = sh(&daemon, "-v share:/data", "true").fails(125);
    assert!(
        error.contains("failed to mount local volume: mount :/export:"),
        "{error}"
    );
    assert!(error.contains("data: addr=127.0.0.1,soft"), "{error}");
    daemon
        .docker("volume create -o type=nfs -o o=addr=no-such-host.invalid -o device=:/export lost")
        .ok();
    let error = sh(&daemon, "-v lost:/data", "true").fails(125);
    assert!(
        error.contains("error resolving passed in network volume address"),
        "{error}"
    );
    daemon.assert_nothing_remains();
}

#[test]
fn an_empty_volume_with_a_device_takes_the_images_files_unless_told_not_to() {
    let daemon = daemon();
    let layer = Tar::new().directory("data/", 0o755).file("data/seed", 0o640, b"seed\n");
    daemon.load(&image::busybox().tagged("seed:1").layer(layer));
    daemon
        .docker("volume create -o type=tmpfs -o device=tmpfs scratch")
        .ok();
    let list = |mount: &str| {
        daemon
            .docker([
                "run",
                "--rm",
                "--network",
                "none",
                "--mount",
                mount,
                "seed:1",
                "ls",
                "/data",
            ])
            .ok()
    };
    assert_eq!(list("type=volume,src=scratch,dst=/data"), "seed");
    assert_eq!(list("type=volume,src=scratch,dst=/data,volume-nocopy"), "");
    assert_eq!(list("type=volume,src=plain,dst=/data,volume-nocopy"), "");
    assert_eq!(list("type=volume,src=plain,dst=/data"), "seed");
}

#[test]
fn a_mount_makes_the_volume_that_it_describes() {
    let daemon = daemon();
    let mount = "type=volume,src=made,dst=/data,volume-driver=local,volume-label=tier=db,volume-opt=type=tmpfs,\
                 volume-opt=device=tmpfs,\"volume-opt=o=size=1m,mode=700\"";
    sh(&daemon, ["--mount", mount], "touch /data/x").ok();
    let document = daemon.api().get("/volumes/made").expect(200).json();
    assert_eq!(document["Labels"], json!({"tier": "db"}));
    assert_eq!(document["Options"]["o"], "size=1m,mode=700");
    for host in [
        json!({"NetworkMode": "none", "VolumeDriver": "flocker", "Binds": ["other:/data"]}),
        json!({"NetworkMode": "none", "Mounts": [{"Type": "volume", "Source": "other", "Target": "/data",
            "VolumeOptions": {"DriverConfig": {"Name": "flocker"}}}]}),
    ] {
        let body = json!({"Image": "busybox", "HostConfig": host});
        let answer = daemon.api().post("/containers/create", Some(&body)).expect(404);
        assert_eq!(
            answer.message(),
            "error looking up volume plugin flocker: plugin \"flocker\" not found"
        );
    }
    daemon.api().get("/volumes/other").expect(404);
}

#[test]
fn containers_take_volumes_from_others_whether_those_run_or_not() {
    let daemon = daemon();
    let host = daemon.root().join("host");
    fs::create_dir(&host).unwrap();
    let bind = format!("{}:/bind:ro", host.display());
    daemon
        .docker([
            "create",
            "--name",
            "source",
            "--network",
            "none",
            "-v",
            "/anonymous",
            "-v",
            "named:/named",
            "-v",
            &bind,
            "--tmpfs",
            "/scratch",
            "busybox",
        ])
        .ok();
    let script = "echo x >/anonymous/x; echo x >/named/x; touch /bind/x; ls -d /scratch";
    let output = sh(&daemon, "--volumes-from source", script);
    assert!(output.error().contains("/bind/x: Read-only file system"), "{output:?}");
    assert!(output.error().contains("/scratch: No such file"), "{output:?}");
    let output = sh(
        &daemon,
        "--volumes-from source:ro -v other:/named",
        "cat /anonymous/x; ls /named; touch /anonymous/y",
    );
    assert_eq!(output.text().trim(), "x");
    assert!(output.error().contains("Read-only file system"), "{output:?}");
    for (wish, status, message) in [
        ("nobody", 400, "No such container: nobody"),
        ("source:rshared", 400, "invalid mode: rshared"),
        (":ro", 400, "volumes-from specification cannot be an empty string"),
    ] {
        let body = json!({"Image": "busybox", "HostConfig": {"NetworkMode": "none", "VolumesFrom": [wish]}});
        let answer = daemon.api().post("/containers/create", Some(&body)).expect(status);
        assert_eq!(answer.message(), message);
    }
    // The nameless one stays as long as anybody has it.
    daemon
        .docker("create --name heir --network none --volumes-from source busybox")
        .ok();
    daemon.docker("rm -v source").ok();
    assert_eq!(sh(&daemon, "--volumes-from heir", "cat /anonymous/x").ok(), "x");
    let mut daemon = daemon;
    daemon.kill_and_start();
    assert_eq!(sh(&daemon, "--volumes-from heir", "cat /anonymous/x").ok(), "x");
    daemon.docker("rm -v heir").ok();
    assert_eq!(daemon.docker("volume ls -q").ok(), "named\nother");
}

#[test]
fn volumes_in_use_are_counted_and_measured() {
    let daemon = daemon();
    daemon
        .docker("create --name one --network none -v store:/data busybox")
        .ok();
    daemon
        .docker("create --name two --network none -v store:/data busybox")
        .ok();
    sh(
        &daemon,
        "-v store:/data",
        "dd if=/dev/zero of=/data/file bs=64k count=4 2>/dev/null",
    )
    .ok();
    let usage = daemon.api().get("/system/df?type=volume").expect(200).json();
    let volume = &usage["Volumes"][0];
    assert_eq!(
        (volume["Name"].as_str(), &volume["UsageData"]["RefCount"]),
        (Some("store"), &json!(2))
    );
    assert_eq!(volume["UsageData"]["Size"], 256 << 10, "{volume}");
    let error = daemon.docker("volume rm store").fails(1);
    let (one, two) = (daemon.inspect("one")["Id"].clone(), daemon.inspect("two")["Id"].clone());
    assert!(error.contains("remove store: volume is in use - ["), "{error}");
    assert!(
        error.contains(one.as_str().unwrap()) && error.contains(two.as_str().unwrap()),
        "{error}"
    );
}

#[test]
fn what_happens_to_volumes_is_told() {
    let daemon = daemon();
    sh(&daemon, "--name box -v store:/data:ro", "true").ok();
    daemon.docker("volume rm store").ok();
    let until = (std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 1).to_string();
    let format = "{{.Type}} {{.Action}} {{.Actor.ID}} {{index .Actor.Attributes \"destination\"}} {{index .Actor.Attributes \"read/write\"}}";
    let told = daemon
        .docker([
            "events",
            "--since",
            "0",
            "--until",
            &until,
            "--filter",
            "type=volume",
            "--format",
            format,
        ])
        .ok();
    let told: Vec<&str> = told.lines().map(str::trim).collect();
    assert_eq!(
        told,
        [
            "volume create store",
            "volume mount store /data false",
            "volume unmount store",
            "volume destroy store"
        ]
    );
}

#[test]
fn a_volume_that_is_about_to_be_used_is_not_removed() {
    let daemon = daemon();
    let daemon = &daemon;
    std::thread::scope(|scope| {
        for turn in 0..2 {
            scope.spawn(move || {
                for number in 0..10 {
                    let name = format!("box-{turn}-{number}");
                    daemon
                        .docker([
                            "create",
                            "--name",
                            &name,
                            "--network",
                            "none",
                            "-v",
                            "contested:/data",
                            "busybox",
                        ])
                        .ok();
                    daemon.docker(["rm", &name]).ok();
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..40 {
                daemon.api().delete("/volumes/contested");
            }
        });
    });
    // Every container had a volume with a directory; what is left of it is consistent.
    daemon.docker("volume rm -f contested").ok();
    assert!(!daemon.data_root().join("volumes/contested").exists());
}

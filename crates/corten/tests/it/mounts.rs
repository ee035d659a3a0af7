//! Mounts beyond the plain ones: parts of volumes, images, recursion, propagation, and those who try to get out.
use std::{fs, os::unix::fs::symlink};

use corten_testkit::{archive::Tar, daemon::Daemon, image, wait::wait_until};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount};
use serde_json::json;

use crate::{background, daemon, setup, sh};

/// `--mount SPEC`, and what a script prints.
#[track_caller]
fn mounted(daemon: &Daemon, spec: &str, script: &str) -> corten_testkit::command::Output {
    sh(daemon, ["--mount", spec], script)
}

#[test]
fn a_part_of_a_volume_is_mounted_by_itself() {
    let daemon = daemon();
    sh(
        &daemon,
        "-v store:/all",
        "mkdir -p /all/a/b; echo inner >/all/a/b/file; ln -s a/b /all/link; echo top >/all/top",
    )
    .ok();
    let spec = |subpath: &str| format!("type=volume,src=store,dst=/part,volume-subpath={subpath}");
    assert_eq!(
        mounted(
            &daemon,
            &spec("a/b"),
            "cat /part/file; echo new >/part/new; ls /part/..| grep -c top"
        )
        .text()
        .trim(),
        "inner\n0"
    );
    assert_eq!(mounted(&daemon, &spec("link"), "cat /part/new").ok(), "new");
    assert_eq!(mounted(&daemon, &spec("top"), "cat /part").ok(), "top");
    let error = mounted(&daemon, &(spec("a") + ",readonly"), "touch /part/x").fails(1);
    assert!(error.contains("Read-only file system"), "{error}");
    let error = mounted(&daemon, &spec("missing"), "true").fails(125);
    assert!(
        error.contains("cannot access path") && error.contains("/missing"),
        "{error}"
    );
    for subpath in ["../store", "/a"] {
        let error = mounted(&daemon, &spec(subpath), "true").fails(125);
        assert!(
            error.contains("subpath must be a relative path within the volume"),
            "{error}"
        );
    }
    daemon.docker("volume create -o type=tmpfs -o device=tmpfs memory").ok();
    background(
        &daemon,
        "--name keeper -v memory:/all",
        "mkdir /all/d; echo kept >/all/d/f; while :; do sleep 0.05; done",
    );
    wait_until("the file is there", || {
        daemon.exec("keeper", ["cat", "/all/d/f"]).code == 0
    });
    let spec = "type=volume,src=memory,dst=/part,volume-subpath=d";
    assert_eq!(mounted(&daemon, spec, "cat /part/f").ok(), "kept");
    daemon.docker("rm -f keeper").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn a_part_of_a_volume_never_lies_outside_of_it() {
    let daemon = daemon();
    let canary = daemon.root().join("canary");
    fs::create_dir(&canary).unwrap();
    let data = daemon.data_root().join("volumes/store/_data");
    daemon.docker("volume create store").ok();
    symlink(&canary, data.join("absolute")).unwrap();
    symlink("../../../../../canary", data.join("upwards")).unwrap();
    symlink("/proc/self/root", data.join("magic")).unwrap();
    fs::create_dir(data.join("real")).unwrap();
    for subpath in ["absolute", "upwards", "magic", "upwards/../canary"] {
        let spec = format!("type=volume,src=store,dst=/part,volume-subpath={subpath}");
        let error = mounted(&daemon, &spec, "touch /part/escaped").fails(125);
        assert!(
            error.contains("escapes the base directory") || error.contains("cannot access path"),
            "{error}"
        );
    }
    // One container swaps a directory with a link to the outside for as long as others are started with it.
    let script = format!(
        "ln -s {} /data/evil; mkdir -p /data/good; cd /data; while :; do mv good real-good; mv evil good; mv good evil; mv \
         real-good good; done",
        canary.display()
    );
    background(&daemon, "--name swapper -v store:/data", &script);
    for _ in 0..40 {
        let spec = "type=volume,src=store,dst=/part,volume-subpath=good";
        mounted(&daemon, spec, "touch /part/escaped");
    }
    daemon.docker("rm -f swapper").ok();
    assert_eq!(fs::read_dir(&canary).unwrap().count(), 0);
    // Nor does the removal of a volume follow a link.
    fs::write(canary.join("keep"), "").unwrap();
    daemon.docker("volume rm store").ok();
    daemon.assert_nothing_remains();
    assert!(canary.join("keep").exists());
}

#[test]
fn an_image_is_mounted_read_only_and_outlives_its_name() {
    let daemon = daemon();
    let layer = Tar::new()
        .directory("tool/", 0o755)
        .file("tool/file", 0o644, b"of the image\n");
    let upper = Tar::new()
        .file("tool/more", 0o644, b"more\n")
        .file("tool/.wh.file", 0o644, b"");
    daemon.load(&image::Image::new("tools:1", layer.clone()));
    daemon.load(&image::Image::new("tools:2", layer).layer(upper));
    assert_eq!(
        mounted(&daemon, "type=image,src=tools:1,dst=/image", "cat /image/tool/file").ok(),
        "of the image"
    );
    assert_eq!(
        mounted(&daemon, "type=image,src=tools:2,dst=/image", "ls /image/tool").ok(),
        "more"
    );
    let subpath = "type=image,src=tools:2,dst=/image,image-subpath=tool";
    assert_eq!(mounted(&daemon, subpath, "cat /image/more").ok(), "more");
    for spec in ["type=image,src=tools:1,dst=/image", subpath] {
        let error = mounted(&daemon, spec, "touch /image/x").fails(1);
        assert!(error.contains("Read-only file system"), "{error}");
    }
    daemon
        .docker([
            "create",
            "--name",
            "box",
            "--network",
            "none",
            "--mount",
            subpath,
            "busybox",
            "cat",
            "/image/more",
        ])
        .ok();
    let point = &daemon.inspect("box")["Mounts"][0];
    assert_eq!(
        (point["Type"].as_str(), point["Source"].as_str(), &point["RW"]),
        (Some("image"), Some("tools:2"), &json!(false))
    );
    daemon.docker("rmi tools:2").ok();
    daemon.docker("image prune -af").ok();
    assert_eq!(daemon.docker("start -a box").ok(), "more");
    daemon.docker("rm box").ok();
    let body = json!({"Image": "busybox", "HostConfig": {"NetworkMode": "none",
        "Mounts": [{"Type": "image", "Source": "nothing:1", "Target": "/image"}]}});
    daemon.load(&image::busybox());
    let answer = daemon.api().post("/containers/create", Some(&body)).expect(404);
    assert_eq!(answer.message(), "No such image: nothing:1");
    daemon.assert_nothing_remains();
}

/// A directory of the host's with another file system in it, taken away with the value.
struct Nested(std::path::PathBuf);

impl Nested {
    fn new(daemon: &Daemon) -> Nested {
        let top = daemon.root().join("top");
        fs::create_dir_all(top.join("inner")).unwrap();
        mount_bind(&top, &top).unwrap();
        mount_change(&top, MountPropagationFlags::PRIVATE).unwrap();
        mount("none", top.join("inner"), "tmpfs", MountFlags::empty(), c"").unwrap();
        fs::write(top.join("inner/file"), "").unwrap();
        Nested(top)
    }

    fn spec(&self, options: &str) -> String {
        format!("type=bind,src={},dst=/top,{options}", self.0.display())
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        let _ = unmount(self.0.join("inner"), UnmountFlags::DETACH);
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn read_only_binds_are_so_to_the_bottom_unless_told_otherwise() {
    let daemon = daemon();
    let nested = Nested::new(&daemon);
    let script = "touch /top/x && echo top; touch /top/inner/x && echo inner; ls /top/inner | grep -c file";
    let writable = |options: &str| {
        mounted(&daemon, &nested.spec(options), script)
            .text()
            .trim()
            .replace('\n', " ")
    };
    assert_eq!(writable("bind-propagation=rprivate"), "top inner 1");
    assert_eq!(writable("readonly"), "1");
    assert_eq!(
        writable("readonly,bind-propagation=rprivate,bind-recursive=readonly"),
        "1"
    );
    assert_eq!(writable("readonly,bind-recursive=writable"), "inner 1");
    // Without recursion the directory beneath shows, and it is writable only where the mount is.
    assert_eq!(writable("bind-recursive=disabled"), "top inner 0");
    assert_eq!(writable("readonly,bind-recursive=disabled"), "0");
    let bind = format!("{}:/top:ro", nested.0.display());
    assert_eq!(sh(&daemon, ["-v", &bind], script).text().trim(), "1");
    // Clients before 1.44 knew of the top alone.
    let body = json!({"Image": "busybox", "Cmd": ["sh", "-c", "touch /top/inner/old"], "HostConfig": {"NetworkMode": "none",
        "Mounts": [{"Type": "bind", "Source": nested.0, "Target": "/top", "ReadOnly": true}]}});
    daemon
        .api()
        .post("/v1.43/containers/create?name=old", Some(&body))
        .expect(201);
    daemon.docker("start -a old").ok();
    assert!(nested.0.join("inner/old").exists());
}

#[test]
fn propagation_needs_a_source_that_can() {
    let daemon = daemon();
    let nested = Nested::new(&daemon);
    let error = mounted(&daemon, &nested.spec("bind-propagation=rshared"), "true").fails(125);
    let path = nested.0.display();
    assert!(
        error.contains(&format!(
            "path {path} is mounted on {path} but it is not a shared mount"
        )),
        "{error}"
    );
    let error = mounted(&daemon, &nested.spec("bind-propagation=slave"), "true").fails(125);
    assert!(error.contains("but it is not a shared or slave mount"), "{error}");
    let error = mounted(&daemon, &nested.spec("bind-propagation=sideways"), "true").fails(125);
    assert!(error.contains("invalid propagation mode: sideways"), "{error}");
    mount_change(&nested.0, MountPropagationFlags::SHARED).unwrap();
    let words = mounted(
        &daemon,
        &nested.spec("bind-propagation=rshared"),
        "grep ' /top' /proc/self/mountinfo",
    )
    .ok();
    assert!(words.lines().next().unwrap().contains(" shared:"), "{words}");
    let words = mounted(
        &daemon,
        &nested.spec("bind-propagation=slave"),
        "grep ' /top ' /proc/self/mountinfo",
    )
    .ok();
    assert!(words.contains(" master:") && !words.contains(" shared:"), "{words}");
    let words = mounted(
        &daemon,
        &nested.spec("bind-propagation=private"),
        "grep ' /top ' /proc/self/mountinfo",
    )
    .ok();
    assert!(!words.contains(" master:") && !words.contains(" shared:"), "{words}");
    drop(nested);
    daemon.assert_nothing_remains();
}

#[test]
fn a_source_is_made_when_that_is_asked_for_at_every_start() {
    let daemon = daemon();
    let made = daemon.root().join("made/deep");
    let spec = format!(
        r#"{{"Type": "bind", "Source": "{}", "Target": "/x", "BindOptions": {{"CreateMountpoint": true}}}}"#,
        made.display()
    );
    let body = json!({"Image": "busybox", "Cmd": ["touch", "/x/file"], "HostConfig": {"NetworkMode": "none",
        "Mounts": [serde_json::from_str::<serde_json::Value>(&spec).unwrap()]}});
    daemon
        .api()
        .post("/containers/create?name=box", Some(&body))
        .expect(201);
    daemon.docker("start -a box").ok();
    assert!(made.join("file").exists());
    fs::remove_dir_all(&made).unwrap();
    daemon.docker("start -a box").ok();
    assert!(made.join("file").exists());
}

#[test]
fn tmpfs_takes_its_own_options_and_no_others() {
    let daemon = daemon();
    let spec = "type=tmpfs,dst=/t,tmpfs-size=2m,tmpfs-mode=1750";
    let seen = mounted(
        &daemon,
        spec,
        "stat -c %a /t; df -k /t | tail -n 1 | awk '{print $2}'; grep ' /t ' /proc/mounts",
    )
    .ok();
    assert!(
        seen.starts_with("1750\n2048\n") && seen.contains("nosuid,nodev,noexec"),
        "{seen}"
    );
    let error = mounted(&daemon, "type=tmpfs,dst=/t,readonly", "touch /t/x").fails(1);
    assert!(error.contains("Read-only file system"), "{error}");
    let seen = sh(
        &daemon,
        "--tmpfs /t:exec,uid=33,gid=34,size=10%",
        "stat -c '%u %g' /t; grep ' /t ' /proc/mounts",
    )
    .ok();
    assert!(seen.starts_with("33 34\n") && !seen.contains("noexec"), "{seen}");
    let error = sh(&daemon, "--tmpfs /t:sizes=1m", "true").fails(125);
    assert!(error.contains("invalid tmpfs option \"sizes=1m\""), "{error}");
}

#[test]
fn both_clients_send_the_same_mounts() {
    let daemon = daemon();
    let layer = Tar::new().file("file", 0o644, b"");
    daemon.load(&image::Image::new("tools:1", layer));
    daemon.docker("volume create store").ok();
    let root = daemon.root().display().to_string();
    let words = |client: &str| -> Vec<String> {
        let flags = [
            "-v store:/a:ro,nocopy",
            "-v /nameless",
            "--tmpfs /t:size=1m",
            &format!(
                "--mount type=bind,src={root},dst=/b,ro,bind-recursive=writable,bind-propagation=rprivate,consistency=cached"
            ),
            "--mount type=volume,src=store,dst=/c,volume-subpath=x,volume-nocopy,volume-label=a=b",
            "--mount type=tmpfs,dst=/d,tmpfs-size=1m,tmpfs-mode=700",
            "--mount type=image,src=tools:1,dst=/e,image-subpath=file",
        ];
        let line = format!("create --name {client} --network none {} busybox", flags.join(" "));
        line.split(' ').map(str::to_owned).collect()
    };
    daemon.docker(words("docker")).ok();
    daemon.corten(words("corten")).ok();
    let (theirs, ours) = (daemon.inspect("docker"), daemon.inspect("corten"));
    for part in ["Binds", "Mounts", "Tmpfs", "VolumesFrom", "VolumeDriver"] {
        assert_eq!(theirs["HostConfig"][part], ours["HostConfig"][part], "{part}");
    }
    assert_eq!(theirs["Config"]["Volumes"], ours["Config"]["Volumes"]);
    daemon
        .corten("create --name taker --network none --volumes-from docker:ro --volume-driver local busybox")
        .ok();
    assert_eq!(
        daemon.inspect("taker")["HostConfig"]["VolumesFrom"],
        json!(["docker:ro"])
    );
}

#[test]
fn many_starts_leave_no_mount_and_no_descriptor_behind() {
    let daemon = setup().start();
    daemon.load(&image::busybox());
    daemon.load(&image::Image::new("tools:1", Tar::new().file("file", 0o644, b"")));
    daemon.docker("volume create -o type=tmpfs -o device=tmpfs memory").ok();
    sh(&daemon, "-v store:/all", "mkdir /all/part").ok();
    let start = || {
        let mounts = [
            "--mount",
            "type=image,src=tools:1,dst=/image",
            "--mount",
            "type=volume,src=store,dst=/part,volume-subpath=part",
            "-v",
            "memory:/memory",
        ];
        sh(&daemon, &mounts[..], "cat /image/file").ok();
        // One that cannot start.
        let broken = [
            "--mount",
            "type=volume,src=store,dst=/part,volume-subpath=none",
            "-v",
            "memory:/memory",
        ];
        sh(&daemon, &broken[..], "true").fails(125);
    };
    let open = || fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    start();
    daemon.assert_nothing_remains();
    let before = open();
    (0..5).for_each(|_| start());
    daemon.assert_nothing_remains();
    // The client's own connections come and go.
    wait_until("no descriptor is left", || open() <= before + 2);
}

//! What else is in a container's file system: binds, volumes, tmpfs, and a root that cannot be written.
use std::{fs, os::unix::fs::MetadataExt};

use corten_testkit::{
    archive::{Header, Tar},
    daemon::names_in,
    image, process,
    wait::wait_until,
};
use serde_json::json;

use crate::{WAIT, background, daemon, kept, sh};

#[test]
fn a_read_only_root_refuses_writes_but_tmpfs_takes_them() {
    let daemon = daemon();
    let error = sh(&daemon, "--read-only", "touch /x").fails(1);
    assert!(error.contains("Read-only file system"), "{error}");
    sh(
        &daemon,
        "--read-only --tmpfs /scratch",
        "touch /scratch/x && echo x >/dev/null",
    )
    .ok();
    let words = sh(
        &daemon,
        "--tmpfs /scratch:size=1m,mode=700,exec",
        "df -k /scratch | tail -n 1 | awk '{print $2}'; stat -c %a /scratch; grep ' /scratch ' /proc/mounts",
    )
    .ok();
    assert!(words.starts_with("1024\n700\n"), "{words}");
    assert!(!words.contains("noexec") && words.contains("nosuid"), "{words}");
    daemon.assert_nothing_remains();
}

#[test]
fn directories_of_the_host_are_bound() {
    let daemon = daemon();
    let shared = daemon.root().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("in"), "from the host").unwrap();
    let bind = format!("{}:/shared", shared.display());
    assert_eq!(
        sh(&daemon, ["-v", &bind], "cat /shared/in; echo from inside >/shared/out").ok(),
        "from the host"
    );
    assert_eq!(fs::read_to_string(shared.join("out")).unwrap(), "from inside\n");
    let error = sh(&daemon, ["-v", &format!("{bind}:ro")], "touch /shared/x").fails(1);
    assert!(error.contains("Read-only file system"), "{error}");
    let file = format!("{}:/etc/motd:ro", shared.join("in").display());
    assert_eq!(sh(&daemon, ["-v", &file], "cat /etc/motd").ok(), "from the host");
    let mount = format!("type=bind,source={},target=/deep/er", shared.display());
    assert_eq!(
        sh(&daemon, ["--mount", &mount], "cat /deep/er/in").ok(),
        "from the host"
    );
    daemon.assert_nothing_remains();
    assert_eq!(fs::read_to_string(shared.join("in")).unwrap(), "from the host");
}

#[test]
fn a_missing_source_is_made_for_v_and_refused_for_mount() {
    let daemon = daemon();
    let missing = daemon.root().join("missing");
    let error = sh(
        &daemon,
        ["--mount", &format!("type=bind,source={},target=/x", missing.display())],
        "true",
    )
    .fails(125);
    assert!(
        error.contains("bind source path does not exist") && error.contains(missing.to_str().unwrap()),
        "{error}"
    );
    sh(&daemon, ["-v", &format!("{}:/x", missing.display())], "touch /x/y").ok();
    assert!(missing.join("y").exists());
    daemon.assert_nothing_remains();
}

#[test]
fn mounts_that_contradict_each_other_are_refused() {
    let daemon = daemon();
    let error = daemon
        .docker("create --network none -v /tmp:/x -v /etc:/x busybox")
        .fails(1);
    assert!(error.contains("Duplicate mount point: /x"), "{error}");
    let error = daemon.docker("create --network none -v /tmp:/ busybox").fails(1);
    assert!(error.contains("destination can't be '/'"), "{error}");
    let error = daemon
        .docker("create --network none -v relative/path:/x busybox")
        .fails(1);
    assert!(
        error.contains("includes invalid characters for a local volume name"),
        "{error}"
    );
    assert_eq!(daemon.docker("ps -aq").ok(), "");
}

#[test]
fn a_bind_within_the_root_cannot_escape_through_a_symbolic_link() {
    let daemon = daemon();
    let outside = daemon.root().join("outside");
    fs::create_dir(&outside).unwrap();
    // The image's /data points out of the root; a mount there must stay beneath it.
    let escape = format!("/../../..{}", outside.display());
    daemon.load(
        &image::busybox()
            .tagged("escape:1")
            .layer(Tar::new().symlink("data", &escape)),
    );
    let bind = format!("{}:/data/made", daemon.root().join("docker").display());
    daemon.docker(["run", "--rm", "--network", "none", "-v", &bind, "escape:1", "true"]);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    daemon.assert_nothing_remains();
}

#[test]
fn a_named_volume_outlives_its_container_and_starts_with_the_images_files() {
    let daemon = daemon();
    let layer = Tar::new().directory("data/", 0o750).file("data/seed", 0o640, b"seed\n");
    daemon.load(&image::busybox().tagged("seed:1").layer(layer));
    let run = |script: &str| {
        daemon
            .docker([
                "run",
                "--rm",
                "--network",
                "none",
                "-v",
                "store:/data",
                "seed:1",
                "sh",
                "-c",
                script,
            ])
            .ok()
    };
    assert_eq!(
        run("cat /data/seed; stat -c %a /data; echo more >/data/more"),
        "seed\n750"
    );
    assert_eq!(run("cat /data/more; rm /data/seed"), "more");
    assert_eq!(run("ls /data"), "more");
    assert!(daemon.data_root().join("volumes/store/_data/more").exists());
}

#[test]
fn an_anonymous_volume_goes_away_with_a_container_of_rm() {
    let daemon = daemon();
    daemon.load(
        &image::busybox()
            .tagged("volume:1")
            .with("Volumes", json!({"/data": {}})),
    );
    daemon.docker("run --rm --network none volume:1 touch /data/x").ok();
    let volumes = daemon.data_root().join("volumes");
    let left = || names_in(&volumes);
    assert_eq!(left(), Vec::<String>::new());
    daemon
        .docker("run --name kept --network none volume:1 touch /data/x")
        .ok();
    assert_eq!(left().len(), 1);
    let mounts = &daemon.inspect("kept")["Mounts"];
    assert_eq!(mounts[0]["Type"], "volume");
    assert_eq!(mounts[0]["Destination"], "/data");
    daemon.docker("rm -v kept").ok();
    assert_eq!(left(), Vec::<String>::new());
}

#[test]
fn what_a_container_writes_stays_its_own() {
    let daemon = daemon();
    kept(&daemon, "--name one", "rm /etc/group; echo changed >/etc/passwd").ok();
    assert!(sh(&daemon, "", "cat /etc/passwd /etc/group").ok().contains("root:x:0"));
    daemon.docker("start one").ok();
    daemon.docker("wait one").ok();
}

#[test]
fn the_container_is_out_of_sight_of_the_host() {
    let daemon = daemon();
    background(&daemon, "--name box", WAIT);
    let before = process::mounts_beneath("self", daemon.root());
    assert!(before.is_empty(), "{before:?}");
    assert!(process::mounts_beneath(&daemon.pid().to_string(), daemon.root()).is_empty());
    daemon.docker("rm -f box").ok();
}

#[test]
fn a_shared_bind_shows_later_mounts_of_the_host() {
    let daemon = daemon();
    let shared = daemon.root().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::create_dir(shared.join("later")).unwrap();
    let bind = format!("{}:/shared:rslave", shared.display());
    let options = rustix::mount::MountPropagationFlags::SHARED;
    rustix::mount::mount_bind(&shared, &shared).unwrap();
    rustix::mount::mount_change(&shared, options).unwrap();
    background(
        &daemon,
        ["--name", "box", "-v", &bind],
        "while [ ! -e /shared/later/x ]; do sleep 0.05; done; echo seen",
    );
    let later = shared.join("later");
    rustix::mount::mount("none", &later, "tmpfs", rustix::mount::MountFlags::empty(), c"").unwrap();
    fs::write(later.join("x"), "").unwrap();
    assert_eq!(daemon.docker("wait box").ok(), "0");
    rustix::mount::unmount(&later, rustix::mount::UnmountFlags::DETACH).unwrap();
    rustix::mount::unmount(&shared, rustix::mount::UnmountFlags::DETACH).unwrap();
}

#[test]
fn files_keep_owners_modes_and_times_of_the_image() {
    let daemon = daemon();
    let header = Header::new(b'0', "opt-file", 0o4751).owner(1000, 29).size(2);
    let layer = Tar::new().entry(header, b"x\n").entry(
        Header::new(b'1', "opt-link", 0o4751).owner(1000, 29).link("opt-file"),
        b"",
    );
    daemon.load(&image::busybox().tagged("files:1").layer(layer));
    let script = [
        "run",
        "--rm",
        "--network",
        "none",
        "files:1",
        "stat",
        "-c",
        "%a %u %g %Y %h",
        "/opt-file",
        "/opt-link",
    ];
    assert_eq!(
        daemon.docker(script).ok(),
        "4751 1000 29 1700000000 2\n4751 1000 29 1700000000 2"
    );
}

#[test]
fn whiteouts_and_opaque_directories_hide_lower_layers() {
    let daemon = daemon();
    let tar = Tar::new;
    let lower = tar()
        .directory("a/", 0o755)
        .file("a/one", 0o644, b"1")
        .file("a/two", 0o644, b"2")
        .directory("b/", 0o755)
        .file("b/old", 0o644, b"o");
    let upper = tar()
        .directory("a/", 0o755)
        .file("a/.wh.one", 0o644, b"")
        .directory("b/", 0o755)
        .file("b/.wh..wh..opq", 0o644, b"")
        .file("b/new", 0o644, b"n");
    daemon.load(&image::busybox().tagged("white:1").layer(lower).layer(upper));
    let printed = daemon
        .docker([
            "run",
            "--rm",
            "--network",
            "none",
            "white:1",
            "sh",
            "-c",
            "cd /; find a b | sort",
        ])
        .ok();
    assert_eq!(printed, "a\na/two\nb\nb/new");
}

#[test]
fn the_working_root_is_removed_with_the_container() {
    let daemon = daemon();
    daemon.docker("run --name box --network none busybox touch /made").ok();
    let active = daemon.data_root().join("active");
    assert_eq!(names_in(&active).len(), 1);
    assert!(
        fs::metadata(&active).unwrap().mode() & 0o077 == 0
            || fs::metadata(daemon.data_root()).unwrap().mode() & 0o007 == 0
    );
    daemon.docker("rm box").ok();
    wait_until("the layer is deleted", || names_in(&active).is_empty());
}

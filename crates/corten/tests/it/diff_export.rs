//! `docker diff` and `docker export`: what a container changed, and its whole root file system.
use std::fs;

use corten_testkit::{archive::Tar, image};

use crate::{WAIT, background, copy::entries, daemon, sh};

#[test]
fn changes_are_told_running_and_stopped() {
    let daemon = daemon();
    let script = "echo x >/tmp/new; mkdir -p /srv/a/b; rm /etc/group; chmod 600 /etc/passwd; rm -r /home; echo x >>/bin/busybox.not";
    background(&daemon, "--name box", &format!("{script}; {WAIT}"));
    daemon.wait_for_log("box", "ready");
    let expected = "C /bin\nA /bin/busybox.not\nC /etc\nD /etc/group\nC /etc/passwd\nD /home\nA /srv\nA /srv/a\nA /srv/a/b\nC /tmp\n\
                    A /tmp/new";
    assert_eq!(daemon.docker("diff box").ok(), expected);
    assert_eq!(daemon.corten("diff box").ok(), expected);
    daemon.docker("stop box").ok();
    assert_eq!(daemon.docker("container diff box").ok(), expected);
    let changes = daemon.api().get("/containers/box/changes").expect(200).json();
    assert_eq!(changes[3], serde_json::json!({"Path": "/etc/group", "Kind": 2}));
}

#[test]
fn a_container_that_did_nothing_has_changed_nothing() {
    let daemon = daemon();
    background(&daemon, "--name box --init", WAIT);
    daemon.wait_for_log("box", "ready");
    assert_eq!(daemon.docker("diff box").ok(), "");
    daemon.docker("stop box").ok();
    assert_eq!(daemon.docker("diff box").ok(), "");
    daemon.docker("create --name fresh busybox").ok();
    assert_eq!(daemon.docker("diff fresh").ok(), "");
    assert_eq!(
        daemon.api().get("/containers/nobody/changes").expect(404).message(),
        "No such container: nobody"
    );
}

#[test]
fn volumes_show_where_they_were_mounted_and_nothing_of_theirs() {
    let daemon = daemon();
    daemon
        .docker("run --name box --network none -v vol:/data busybox touch /data/file")
        .ok();
    assert_eq!(daemon.docker("diff box").ok(), "A /data");
}

#[test]
fn an_export_imports_to_the_same_files() {
    let daemon = daemon();
    let layer = Tar::new().file("etc/lower", 0o644, b"1").directory("empty/", 0o1777);
    daemon.load(&image::busybox().tagged("two:1").layer(layer));
    let script =
        "echo 2 >/etc/own; rm /etc/group; ln /etc/own /etc/hard; ln -s own /etc/link; chown 7:8 /etc/own; mkfifo /fifo";
    let run = format!("{script}; {WAIT}");
    daemon
        .docker([
            "run",
            "-d",
            "--name",
            "box",
            "--network",
            "none",
            "-v",
            "vol:/data",
            "two:1",
            "sh",
            "-c",
            &run,
        ])
        .ok();
    daemon.wait_for_log("box", "ready");
    let running = daemon.docker("export box").stdout;
    daemon.docker("stop box").ok();
    let path = daemon.root().join("rootfs.tar");
    daemon.docker(["export", "-o", path.to_str().unwrap(), "box"]).ok();
    let stopped = fs::read(&path).unwrap();
    assert!(running == stopped, "the same archive in both states");
    let own = daemon.root().join("own.tar");
    daemon.corten(["export", "-o", own.to_str().unwrap(), "box"]).ok();
    assert!(fs::read(&own).unwrap() == stopped);
    assert!(daemon.corten("export box").stdout == stopped);
    let names: Vec<String> = entries(&stopped).into_iter().map(|(name, ..)| name).collect();
    assert!(names.contains(&"etc/lower".to_owned()) && !names.contains(&"etc/group".to_owned()));
    let inside = ["proc/", "sys/", "dev/", "data/"];
    let contents = |name: &&String| {
        inside
            .iter()
            .any(|place| name.starts_with(place) && name.as_str() != *place)
    };
    assert_eq!(names.iter().find(contents), None);
    daemon.docker(["import", path.to_str().unwrap(), "again:1"]).ok();
    let show = "cd /etc; cat own lower; stat -c '%h %u:%g' own; readlink link; test -p /fifo; stat -c %a /empty; ls group 2>&1";
    let printed = daemon.docker(["run", "--rm", "--network", "none", "again:1", "sh", "-c", show]);
    assert_eq!(
        printed.text(),
        "2\n12 7:8\nown\n1777\nls: group: No such file or directory"
    );
}

#[test]
fn exports_refuse_what_dockers_refuses() {
    let daemon = daemon();
    daemon.docker("create --name box busybox").ok();
    for words in [
        &["export", "-o", "/no/such/place/x.tar", "box"][..],
        &["export", "nobody"],
        &["export", "-o", "/dev/null", "box"],
        &["diff", "nobody"],
        &["commit", "nobody"],
    ] {
        let (own, dockers) = (daemon.corten(words), daemon.docker(words));
        assert_eq!((own.code, own.error()), (dockers.code, dockers.error()));
        assert_ne!(own.code, 0, "{words:?}");
    }
    assert!(sh(&daemon, "", "true").code == 0);
}

//! Containers and archives that want out through `cp`: nothing outside of the container is read, written or removed, and
//! nothing makes the daemon wait.
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use corten_testkit::{
    archive::{Header, Tar},
    daemon::Daemon,
    wait::wait_until,
};

use crate::{
    WAIT, background,
    copy::{entries, put},
    daemon, kept,
};

/// A file of the host's that nobody may reach, and its directory.
struct Secret {
    directory: tempfile::TempDir,
    /// Of the directory and of the file in it.
    modes: (u32, u32),
}

impl Secret {
    fn new() -> Secret {
        let directory = tempfile::Builder::new().prefix("secret-").tempdir().unwrap();
        fs::write(directory.path().join("key"), "the host's key").unwrap();
        let modes = modes(directory.path());
        Secret { directory, modes }
    }

    fn path(&self) -> String {
        self.directory.path().to_str().unwrap().to_owned()
    }

    fn key(&self) -> PathBuf {
        self.directory.path().join("key")
    }

    #[track_caller]
    fn assert_untouched(&self) {
        assert_eq!(fs::read_to_string(self.key()).unwrap(), "the host's key");
        let metadata = fs::metadata(self.key()).unwrap();
        assert_eq!((metadata.nlink(), metadata.uid()), (1, 0));
        assert_eq!(fs::metadata(self.directory.path()).unwrap().uid(), 0);
        assert_eq!(modes(self.directory.path()), self.modes);
        assert_eq!(fs::read_dir(self.directory.path()).unwrap().count(), 1);
    }
}

fn modes(directory: &Path) -> (u32, u32) {
    let mode = |path: &Path| fs::metadata(path).unwrap().mode();
    (mode(directory), mode(&directory.join("key")))
}

/// A running and a stopped container in which a script has run.
fn containers(daemon: &Daemon, script: &str) {
    background(daemon, "--name running --privileged", &format!("{script}; {WAIT}"));
    daemon.wait_for_log("running", "ready");
    kept(daemon, "--name ended --privileged", script).ok();
}

#[test]
fn links_of_a_container_lead_nowhere_else() {
    let (daemon, secret) = (daemon(), Secret::new());
    let path = secret.path();
    let script = format!(
        "cd /tmp; ln -s {path} absolute; ln -s ../../../../../../../../..{path} upwards; ln -s {path}/key key; \
         ln -s /proc/1/root/{path} proc; ln -s /proc/self/cwd/../../../..{path} cwd; ln -s /proc/self/root{path} root; \
         mkdir real; echo own >real/key"
    );
    containers(&daemon, &script);
    for name in ["running", "ended"] {
        for link in ["absolute", "upwards", "proc", "cwd", "root"] {
            for path in [format!("/tmp/{link}/key"), format!("/tmp/{link}/")] {
                let answer = daemon.api().get(&format!("/containers/{name}/archive?path={path}"));
                assert!(matches!(answer.status, 400 | 404), "{name} {path}: {answer:?}");
            }
            let archive = Tar::new().file("key", 0o600, b"replaced").finish();
            let answer = put(&daemon, name, &format!("path=/tmp/{link}"), &archive);
            assert!(matches!(answer.status, 400 | 403 | 404), "{name} {link}: {answer:?}");
            let archive = Tar::new().file(&format!("{link}/key"), 0o600, b"replaced").finish();
            let answer = put(&daemon, name, "path=/tmp", &archive);
            assert!(matches!(answer.status, 400 | 403), "{name} {link}: {answer:?}");
        }
        // The link itself is a link, also in the middle of a directory.
        let body = daemon
            .api()
            .get(&format!("/containers/{name}/archive?path=/tmp/"))
            .expect(200)
            .body;
        let found = entries(&body);
        assert!(found.iter().any(|(name, kind, _, link)| name == "tmp/key"
            && *kind == b'2'
            && String::from_utf8_lossy(link) == format!("{path}/key")));
        assert!(!body.windows(14).any(|window| window == b"the host's key"));
        let answer = put(
            &daemon,
            name,
            "path=/tmp",
            &Tar::new().file("key", 0o600, b"in its place").finish(),
        );
        assert_eq!(answer.status, 200);
    }
    secret.assert_untouched();
}

#[test]
fn names_of_an_archive_lead_nowhere_else() {
    let (daemon, secret) = (daemon(), Secret::new());
    let path = secret.path();
    containers(&daemon, "true");
    let climb = format!("../../../../../../../../../..{path}/key");
    for name in ["running", "ended"] {
        for archive in [
            Tar::new().file(&climb, 0o777, b"replaced"),
            Tar::new().file("a/../../../../b", 0o777, b"out"),
            Tar::new().hard_link("stolen", &climb),
            Tar::new().hard_link("stolen", &format!("{path}/key")),
            Tar::new().symlink("s", &path).hard_link("stolen", "s/key"),
            Tar::new().symlink("s", &path).file("s/key", 0o777, b"replaced"),
            Tar::new()
                .symlink("s", &format!("/proc/1/root{path}"))
                .file("s/key", 0o777, b"replaced"),
            Tar::new()
                .directory("d/", 0o755)
                .symlink("d/s", &climb)
                .directory("d/s/", 0o777)
                .file("d/s/x", 0o777, b"x"),
            Tar::new()
                .extended(&[("path", &climb)])
                .file("short", 0o777, b"replaced"),
            Tar::new()
                .extended(&[("linkpath", &climb)])
                .hard_link("stolen", "short"),
            Tar::new().entry(Header::new(b'9', "strange", 0o644), b""),
        ] {
            let answer = put(&daemon, name, "path=/tmp", &archive.finish());
            // A directory in a link's place is fine where kinds may change.
            assert!(matches!(answer.status, 200 | 400 | 403), "{answer:?}");
            assert!(
                daemon
                    .api()
                    .get(&format!("/containers/{name}/archive?path=/tmp/stolen"))
                    .status
                    == 404
            );
        }
    }
    secret.assert_untouched();
}

#[test]
fn links_swapped_while_copying_lead_nowhere_else() {
    let (daemon, secret) = (daemon(), Secret::new());
    let path = secret.path();
    // Directory, link out, link to the root of the host by way of procfs, a device, a FIFO: one after the other, for ever.
    let script = format!(
        "mkdir -p /race; cd /race; trap 'exit 0' TERM; echo ready; while :; do \
         mkdir d 2>/dev/null; echo own >d/key; rm -r d; ln -s {path} d; rm d; ln -s /proc/1/root{path} d; rm d; \
         mknod d b 7 0; rm d; mkfifo d; rm d; echo x >d; rm d; done"
    );
    background(&daemon, "--name race --cap-add MKNOD", &script);
    daemon.wait_for_log("race", "ready");
    let archive = Tar::new()
        .directory("d/", 0o777)
        .file("d/key", 0o777, b"replaced")
        .hard_link("d/stolen", "d/key")
        .entry(Header::new(b'5', "d/", 0o700).owner(1000, 1000), b"")
        .finish();
    for round in 0..300 {
        for path in ["/race", "/race/d", "/race/d/", "/race/d/key"] {
            let answer = daemon.api().get(&format!("/containers/race/archive?path={path}"));
            assert!(
                !answer.body.windows(14).any(|window| window == b"the host's key"),
                "round {round}: {path}"
            );
        }
        let query = if round % 2 == 0 {
            "path=/race"
        } else {
            "path=/race&noOverwriteDirNonDir=1"
        };
        let _ = put(&daemon, "race", query, &archive);
        let _ = put(
            &daemon,
            "race",
            "path=/race/d",
            &Tar::new().file("key", 0o777, b"replaced").finish(),
        );
    }
    secret.assert_untouched();
    daemon.docker("rm -f race").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn fifos_devices_and_kernel_interfaces_make_nobody_wait() {
    let daemon = daemon();
    // The loop device, the kernel's log, a terminal that never answers.
    let script = "mkdir /x; cd /x; mkfifo fifo; mknod loop b 7 0; mknod kmsg c 1 11; mknod tty c 5 0; mknod zero c 1 5; echo end >z";
    containers(&daemon, script);
    for name in ["running", "ended"] {
        let get = |path: &str| daemon.api().get(&format!("/containers/{name}/archive?path={path}"));
        let found = entries(&get("/x").expect(200).body);
        let kinds: String = found.iter().map(|(_, kind, ..)| char::from(*kind)).collect();
        assert_eq!(kinds, "5634303", "{found:?}");
        for path in ["/x/fifo", "/x/kmsg", "/x/zero", "/x/loop"] {
            assert_eq!(entries(&get(path).expect(200).body).len(), 1, "{path}");
        }
        for path in [
            "/proc/kmsg",
            "/proc/kcore",
            "/proc/1/mem",
            "/proc/self/environ",
            "/sys/kernel/uevent_helper",
        ] {
            get(path).expect(404);
        }
        // All of it: what is in /proc, /sys and /dev of a running container is left out.
        let root = entries(&get("/").expect(200).body);
        for (path, ..) in &root {
            let inside = ["/proc/", "/sys/", "/dev/"]
                .iter()
                .any(|place| path.starts_with(place) && path != place);
            assert!(!inside, "{path}");
        }
        assert!(root.iter().any(|(path, ..)| path == "/x/z"));
        // In a FIFO's or device's place, and not into it.
        let archive = Tar::new()
            .file("fifo", 0o644, b"a file")
            .file("zero", 0o644, b"a file")
            .finish();
        put(&daemon, name, "path=/x", &archive).expect(200);
        assert_eq!(entries(&get("/x/fifo").expect(200).body)[0].3, b"a file");
    }
}

#[test]
fn nothing_is_written_into_kernel_interfaces() {
    let daemon = daemon();
    background(&daemon, "--name box --privileged", WAIT);
    daemon.wait_for_log("box", "ready");
    let before = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let archive = Tar::new().file("core_pattern", 0o644, b"|/tmp/escape\n").finish();
    let answer = put(&daemon, "box", "path=/proc/sys/kernel", &archive);
    assert!(matches!(answer.status, 400 | 403 | 404), "{answer:?}");
    let archive = Tar::new()
        .file("proc/sys/kernel/core_pattern", 0o644, b"|/tmp/escape\n")
        .finish();
    let answer = put(&daemon, "box", "path=/", &archive);
    assert!(matches!(answer.status, 400 | 403), "{answer:?}");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);
}

#[test]
fn a_process_in_another_root_does_not_change_what_is_copied() {
    let daemon = daemon();
    let script = "mkdir -p /jail/bin /jail/etc; cp /bin/busybox /jail/bin/sh; echo jailed >/jail/etc/passwd; \
                  exec chroot /jail /bin/sh -c 'echo ready; while :; do sleep 1; done'";
    background(&daemon, "--name box", script);
    daemon.wait_for_log("box", "ready");
    let body = daemon
        .api()
        .get("/containers/box/archive?path=/etc/passwd")
        .expect(200)
        .body;
    assert!(String::from_utf8_lossy(&entries(&body)[0].3).contains("root:x:0:0"));
    put(
        &daemon,
        "box",
        "path=/",
        &Tar::new().file("outside", 0o644, b"x").finish(),
    )
    .expect(200);
    daemon.api().get("/containers/box/archive?path=/outside").expect(200);
    daemon
        .api()
        .get("/containers/box/archive?path=/jail/outside")
        .expect(404);
}

#[test]
fn an_archive_from_a_container_stays_beneath_its_destination() {
    let daemon = daemon();
    let script = "mkdir -p /d; cd /d; ln -s /escape-me a; ln -s .. b; mkdir c; echo x >c/f";
    kept(&daemon, "--name box", script).ok();
    let local = daemon.root().join("local");
    fs::create_dir(&local).unwrap();
    // What an earlier copy has left is what a later one could be led by.
    for _ in 0..2 {
        daemon.corten(["cp", "box:/d", local.to_str().unwrap()]).ok();
    }
    assert!(local.join("d/a").is_symlink() && local.join("d/c/f").exists());
    fs::remove_file(local.join("d/a")).unwrap();
    daemon.docker("rm box").ok();
    let outside = daemon.root().join("outside");
    fs::create_dir(&outside).unwrap();
    let script = "mkdir -p /d/trap; echo x >/d/trap/f";
    kept(&daemon, "--name box", script).ok();
    std::os::unix::fs::symlink(&outside, local.join("d/trap")).unwrap();
    let error = daemon.corten(["cp", "box:/d", local.to_str().unwrap()]).fails(1);
    assert!(error.contains("cannot overwrite non-directory"), "{error}");
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
}

#[test]
fn a_tree_without_end_is_refused_and_can_be_removed() {
    let daemon = daemon();
    let script = "cd /tmp; i=0; while [ $i -lt 700 ]; do mkdir d; cd d; i=$((i+1)); done";
    kept(&daemon, "--name box", script).ok();
    let mut connection = daemon.api().open();
    connection.send("GET", "/containers/box/archive?path=/tmp/d", None);
    connection.head();
    let body = connection.rest();
    assert!(!body.ends_with(b"\r\n0\r\n\r\n"), "half an archive does not look whole");
    let error = daemon.docker("commit box").fails(1);
    assert!(error.contains("nested too deeply"), "{error}");
    let archive = Tar::new().file("d", 0o644, b"instead").finish();
    put(&daemon, "box", "path=/tmp", &archive).expect(400);
    daemon.docker("rm box").ok();
    wait_until("it is gone", || {
        corten_testkit::daemon::names_in(&daemon.data_root().join("active")).is_empty()
    });
}

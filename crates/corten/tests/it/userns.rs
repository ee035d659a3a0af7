//! `--userns-remap`: the root of a container is nobody on the host, and whoever uses it notices nothing of that.
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use corten_testkit::{
    archive::{Header, Tar},
    command::Output,
    daemon::Daemon,
    image, process,
    wait::wait_until,
    world::OTHER,
};
use serde_json::json;

use crate::{
    WAIT, background,
    copy::put,
    daemon, guest,
    network::{serve, up, world_with},
    setup, sh,
};

fn remapped() -> Daemon {
    let daemon = setup().arguments("--userns-remap default").start();
    daemon.load(&image::busybox());
    daemon
}

/// Users and groups of a process, as `/proc/PID/uid_map` has them: inside, outside, count.
fn maps(pid: i32) -> [Vec<u32>; 2] {
    ["uid_map", "gid_map"].map(|name| {
        let text = fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
        text.split_ascii_whitespace()
            .map(|number| number.parse().unwrap())
            .collect()
    })
}

/// Who the container's root is on the host.
#[track_caller]
fn host_root(daemon: &Daemon, container: &str) -> u32 {
    let [users, groups] = maps(daemon.container_pid(container));
    assert_eq!(users, groups);
    assert_eq!((users[0], users[2], users.len()), (0, 65536, 3), "{users:?}");
    assert_ne!(users[1], 0);
    users[1]
}

fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let found = fs::symlink_metadata(path).unwrap();
    (found.uid(), found.gid())
}

#[track_caller]
fn exec(daemon: &Daemon, script: &str) -> Output {
    daemon.docker(["exec", "box", "sh", "-c", script])
}

/// Owners by name, of an archive whose headers have them.
fn owners(archive: &[u8]) -> BTreeMap<String, (u32, u32)> {
    let mut owners = BTreeMap::new();
    let mut rest = archive;
    while rest.len() >= 512 && rest[0] != 0 {
        let text = |from: usize, to: usize| {
            let text = String::from_utf8_lossy(&rest[from..to]).into_owned();
            text.trim_end_matches(['\0', ' ']).to_owned()
        };
        let number = |from, to| u32::from_str_radix(&text(from, to), 8).unwrap();
        owners.insert(text(0, 100), (number(108, 116), number(116, 124)));
        let size = number(124, 136) as usize;
        rest = &rest[512 + size.next_multiple_of(512)..];
    }
    owners
}

#[track_caller]
fn archive(daemon: &Daemon, path: &str) -> BTreeMap<String, (u32, u32)> {
    let path = format!("/containers/box/archive?path={path}");
    owners(&daemon.api().get(&path).expect(200).body)
}

#[test]
fn the_root_of_a_container_is_nobody_on_the_host() {
    let daemon = remapped();
    background(&daemon, "--name box", &format!("id -u; id -g; {WAIT}"));
    daemon.wait_for_log("box", "0\n0\nready");
    let root = host_root(&daemon, "box");
    let pid = daemon.container_pid("box");
    let expected = [root; 4].map(|id| id.to_string()).join("\t");
    for field in ["Uid", "Gid"] {
        assert_eq!(process::status_field(pid, field).as_deref(), Some(expected.as_str()));
    }
    let options = daemon.api().get("/info").json()["SecurityOptions"].clone();
    assert!(options.as_array().unwrap().contains(&json!("name=userns")), "{options}");
    let top = daemon.docker("top box").ok();
    assert!(
        top.lines().skip(1).all(|line| line.starts_with(&root.to_string())),
        "{top}"
    );

    background(&daemon, "--name user --user 1000:1001 --group-add 7", WAIT);
    let pid = daemon.container_pid("user");
    let first = |field| {
        let ids = process::status_field(pid, field).unwrap();
        ids.split_ascii_whitespace().next().unwrap().parse::<u32>().unwrap()
    };
    assert_eq!((first("Uid"), first("Gid")), (root + 1000, root + 1001));
    assert_eq!(first("Groups"), root + 7);
    let error = sh(&daemon, "--user 65536", "true").fails(125);
    assert!(error.contains("not in the container's user namespace"), "{error}");
    daemon.docker("rm -f box user").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn a_container_finds_everything_as_it_would_without() {
    let (strange, plain) = (remapped(), daemon());
    let look = "id; grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; \
                ls -ln /dev | grep -vE 'core|console' | awk '{print $1, $3, $4, $NF}'; \
                for path in / /etc/hosts /etc/hostname /etc/resolv.conf /dev/shm /dev/pts /dev/mqueue /tmp /t /proc/1 /sys/fs/cgroup; \
                do stat -c '%n %u:%g %a' $path; done; \
                cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax; \
                ls /sys/fs/cgroup; ls /sys/class/net; ls /proc/acpi /sys/firmware; \
                echo x > /proc/sys/kernel/hostname; echo written >> /etc/hosts && tail -n 1 /etc/hosts; \
                head -c 3 /dev/zero | od -c; echo lost > /dev/null; hostname; ulimit -n; cat /proc/self/oom_score_adj";
    let options = "--hostname box --tmpfs /t:uid=33,gid=34,mode=750 --sysctl net.ipv4.ip_forward=1 --sysctl kernel.msgmax=1234 \
                   --ulimit nofile=100:200 --oom-score-adj 5";
    let [seen, expected] = [&strange, &plain].map(|daemon| {
        let output = sh(daemon, options, &format!("({look}) 2>&1"));
        output.ok()
    });
    assert_eq!(seen, expected);
    // The kernel takes no group that is not there.
    let range = sh(&strange, "", "cat /proc/sys/net/ipv4/ping_group_range").ok();
    assert_eq!(range, "0\t65535");
    assert_eq!(
        sh(&strange, "--read-only", "touch /x 2>&1; touch /dev/shm/x && echo fine").ok(),
        "touch: /x: Read-only file system\nfine"
    );
    assert_eq!(
        sh(
            &strange,
            "--device /dev/zero:/dev/given",
            "head -c 2 /dev/given | wc -c"
        )
        .ok(),
        "2"
    );
    assert_eq!(sh(&strange, "--init", "cat /proc/1/comm").ok(), "docker-init");
}

#[test]
fn owners_in_layers_and_volumes_are_those_that_containers_know() {
    let daemon = remapped();
    let layer = Tar::new()
        .entry(Header::new(b'5', "data/", 0o750).owner(33, 34), b"")
        .entry(Header::new(b'0', "data/file", 0o640).owner(35, 36), b"");
    let image = image::busybox().tagged("filled:1").layer(layer);
    daemon.load(&image.with("Volumes", json!({"/data": {}})));
    let look =
        "stat -c '%n %u:%g' /data /data/file /etc; touch /data/new; chown 37:38 /data/new; stat -c %u:%g /data/new";
    let expected = "/data 33:34\n/data/file 35:36\n/etc 0:0\n37:38";
    for volume in ["/data", "named:/data"] {
        let words = [
            "run",
            "--name",
            "box",
            "--network",
            "none",
            "-v",
            volume,
            "filled:1",
            "sh",
            "-c",
            look,
        ];
        assert_eq!(daemon.docker(words).ok(), expected, "{volume}");
        let mount = daemon.inspect("box")["Mounts"][0]["Source"]
            .as_str()
            .unwrap()
            .to_owned();
        assert_eq!(owner(&mount), (33, 34));
        assert_eq!(owner(Path::new(&mount).join("new")), (37, 38));
        daemon.docker("rm -v box").ok();
    }
    // Whoever is in no user namespace sees the same.
    let words = "run --rm --network none --userns host -v named:/data filled:1 stat -c %u:%g /data/new";
    assert_eq!(daemon.docker(words).ok(), "37:38");

    let script = "touch /mine; chown 39:40 /mine; rm /data/file; rmdir /opt; ln -s x /link; chown -h 41:42 /link";
    let words = [
        "run",
        "--name",
        "box",
        "--network",
        "none",
        "filled:1",
        "sh",
        "-c",
        script,
    ];
    daemon.docker(words).ok();
    let changes = daemon.docker("diff box").ok();
    assert!(changes.contains("A /mine") && changes.contains("A /link"), "{changes}");
    daemon.docker("commit box made:1").ok();
    let words = "run --rm --network none made:1 stat -c %u:%g /mine /link";
    assert_eq!(daemon.docker(words).ok(), "39:40\n41:42");
    let words = "run --rm --network none --userns host made:1 stat -c %u:%g /mine /link";
    assert_eq!(daemon.docker(words).ok(), "39:40\n41:42");
    daemon.docker("rm -v box").ok();
    daemon.assert_nothing_remains();
}

/// A directory of the host's that is root's, with a file for everybody and one for root alone.
fn bound(daemon: &Daemon) -> PathBuf {
    let bound = daemon.root().join("bound");
    fs::create_dir(&bound).unwrap();
    for (name, mode) in [("open", 0o644), ("closed", 0o600)] {
        fs::write(bound.join(name), name).unwrap();
        fs::set_permissions(bound.join(name), PermissionsExt::from_mode(mode)).unwrap();
    }
    bound
}

#[test]
fn what_is_bound_belongs_to_whom_it_belongs_on_the_host() {
    let daemon = remapped();
    let bound = bound(&daemon);
    let bind = format!("{}:/data", bound.display());
    let script = "stat -c '%u:%g' /data /data/open; cat /data/open; echo; \
                  (cat /data/closed; echo x > /data/open; touch /data/x; chown 0 /data/open; chmod 777 /data/open) 2>&1; true";
    let seen = sh(&daemon, ["-v", &bind], script).ok();
    let denied = [
        "cat: can't open '/data/closed': Permission denied",
        "Permission denied",
        "Operation not permitted",
    ];
    assert!(seen.starts_with("65534:65534\n65534:65534\nopen\n"), "{seen}");
    assert!(denied.iter().all(|what| seen.contains(what)), "{seen}");
    assert_eq!(fs::read_to_string(bound.join("open")).unwrap(), "open");
    assert_eq!(owner(bound.join("open")), (0, 0));
    assert_eq!(fs::read_dir(&bound).unwrap().count(), 2);

    // What it is given belongs to it, and what it makes there is no other's: a program of root's is none.
    background(&daemon, ["--name", "box", "-v", &bind], WAIT);
    let root = host_root(&daemon, "box");
    chown(&bound, Some(root), Some(root)).unwrap();
    let script = "stat -c %u:%g /data; cp /bin/busybox /data/su; chown 0:0 /data/su; chmod 6755 /data/su; \
                  touch /data/u; chown 5:6 /data/u";
    assert_eq!(exec(&daemon, script).ok(), "0:0");
    assert_eq!(owner(bound.join("su")), (root, root));
    assert_eq!(owner(bound.join("u")), (root + 5, root + 6));
    daemon.docker("rm -f box").ok();

    // What the engine makes for it belongs to it, as with Docker.
    let made = daemon.root().join("deep/made");
    let bind = format!("{}:/data", made.display());
    assert_eq!(
        sh(&daemon, ["-v", &bind], "touch /data/x; stat -c %u /data /data/x").ok(),
        "0\n0"
    );
    for path in [made.clone(), made.join("x"), daemon.root().join("deep")] {
        assert_eq!(owner(path), (root, root));
    }
}

#[test]
fn a_bind_can_show_its_owners_as_they_are_or_as_the_user() {
    let daemon = remapped();
    let bound = bound(&daemon);
    chown(bound.join("closed"), Some(12), Some(13)).unwrap();
    let script = "stat -c %u:%g /data /data/closed; echo more >> /data/open; touch /data/new; chown 7 /data/new";
    let bind = format!("{}:/data:idmap=userns", bound.display());
    assert_eq!(sh(&daemon, ["-v", &bind], script).ok(), "0:0\n12:13");
    assert_eq!(owner(bound.join("new")), (7, 0));
    assert_eq!(fs::read_to_string(bound.join("open")).unwrap(), "openmore\n");
    fs::remove_file(bound.join("new")).unwrap();
    chown(&bound, Some(1234), Some(1235)).unwrap();
    let bind = format!("{}:/data:idmap", bound.display());
    let script = "stat -c %u:%g /data /data/closed; touch /data/new";
    assert_eq!(
        sh(&daemon, ["-v", &bind, "-u", "33:34"], script).ok(),
        "33:34\n65534:65534"
    );
    assert_eq!(owner(bound.join("new")), (1234, 1235));
    let error = sh(&daemon, ["-v", &bind, "-u", "70000"], "true").fails(125);
    assert!(error.contains("not in the container's user namespace"), "{error}");
    daemon.assert_nothing_remains();
}

#[test]
fn files_are_copied_with_the_owners_that_the_container_knows() {
    let daemon = remapped();
    let bound = bound(&daemon);
    let bind = format!("{}:/bound", bound.display());
    let script = format!("[ -e /own ] || {{ mkdir /own; touch /own/file; chown 33:34 /own/file; }}; {WAIT}");
    let mounts = [
        "-v",
        &bind,
        "-v",
        "named:/volume",
        "--tmpfs",
        "/memory",
        "--tmpfs",
        "/volume/memory",
    ];
    background(&daemon, [&["--name", "box"][..], &mounts].concat().as_slice(), &script);
    daemon.wait_for_log("box", "ready");
    let root = host_root(&daemon, "box");
    let sent = Tar::new()
        .entry(Header::new(b'0', "file", 0o644).owner(5, 6).size(4), b"sent")
        .entry(Header::new(b'2', "link", 0o777).link("file").owner(7, 8), b"")
        .entry(Header::new(b'5', "directory/", 0o755).owner(9, 10), b"")
        .entry(Header::new(b'0', "implied/file", 0o644), b"")
        .finish();
    let expected = "5:6\n7:8\n9:10\n0:0\n0:0";
    for running in [true, false] {
        for place in ["/own", "/volume", "/bound", "/memory"]
            .into_iter()
            .take(if running { 4 } else { 3 })
        {
            let answer = put(&daemon, "box", &format!("path={place}"), &sent);
            assert_eq!(answer.status, 200, "{place}: {}", answer.message());
            let got = archive(&daemon, place);
            let name = place.trim_start_matches('/');
            for (file, owner) in [
                ("file", (5, 6)),
                ("link", (7, 8)),
                ("directory/", (9, 10)),
                ("implied/", (0, 0)),
            ] {
                assert_eq!(
                    got[&format!("{name}/{file}")],
                    owner,
                    "{place}/{file}, running: {running}"
                );
            }
            if running {
                let files = ["file", "link", "directory", "implied", "implied/file"];
                let files = files.map(|file| format!("{place}/{file}")).join(" ");
                assert_eq!(
                    exec(&daemon, &format!("stat -c %u:%g {files}")).ok(),
                    expected,
                    "{place}"
                );
            }
        }
        // On the host: a bind's files are the host's, a volume's the container's.
        assert_eq!(owner(bound.join("file")), (root + 5, root + 6));
        assert_eq!(owner(bound.join("implied")), (root, root));
        let volume = daemon.data_root().join("volumes/named/_data");
        assert_eq!(owner(volume.join("file")), (5, 6));
        assert_eq!(archive(&daemon, "/own")["own/file"], (5, 6));
        assert_eq!(archive(&daemon, "/bound")["bound/open"], (65534, 65534));

        // A file that is mounted keeps its place, and its owner is still the container's.
        let hosts = Tar::new().file("hosts", 0o644, b"127.0.0.1 copied\n").finish();
        assert_eq!(put(&daemon, "box", "path=/etc", &hosts).status, 200);
        assert_eq!(archive(&daemon, "/etc/hosts")["hosts"], (0, 0));

        let stranger = Tar::new()
            .entry(Header::new(b'0', "x", 0o644).owner(65536, 0), b"")
            .finish();
        let answer = put(&daemon, "box", "path=/own", &stranger).expect(400);
        assert!(
            answer
                .message()
                .contains("its owner 65536:0 is not in the container's user namespace"),
            "{}",
            answer.message()
        );
        let exported = owners(&daemon.api().get("/containers/box/export").expect(200).body);
        assert_eq!((exported["own/file"], exported["bin/busybox"]), ((5, 6), (0, 0)));
        if running {
            assert!(exec(&daemon, "cat /etc/hosts").ok().contains("copied"));
            daemon.docker("stop -t 0 box").ok();
            // So that the next round makes everything anew.
            fs::remove_dir_all(bound.join("implied")).unwrap();
        }
    }
    daemon.docker("start box").ok();
    let files = "/own/file /own/link /own/directory /own/implied /own/implied/file";
    assert_eq!(exec(&daemon, &format!("stat -c %u:%g {files}")).ok(), expected);
    let files = files.replace("/own", "/bound");
    assert_eq!(exec(&daemon, &format!("stat -c %u:%g {files}")).ok(), expected);
    let local = daemon.root().join("local");
    fs::write(&local, "by the client").unwrap();
    daemon.docker(["cp", &local.to_string_lossy(), "box:/own/given"]).ok();
    assert_eq!(
        exec(&daemon, "cat /own/given; stat -c ' %u' /own/given").ok(),
        "by the client 0"
    );
    daemon
        .docker(["cp", "box:/own/given", &local.with_extension("back").to_string_lossy()])
        .ok();
    assert_eq!(
        fs::read_to_string(local.with_extension("back")).unwrap(),
        "by the client"
    );
}

#[test]
fn capabilities_of_files_hold_in_the_container_and_nowhere_else() {
    // CAP_CHOWN, permitted and effective.
    let capabilities = format!("\u{1}\0\0\u{2}\u{1}{}", "\0".repeat(15));
    let daemon = remapped();
    let bound = bound(&daemon);
    let bind = format!("{}:/bound", bound.display());
    background(&daemon, ["--name", "box", "-v", &bind], WAIT);
    let root = host_root(&daemon, "box");
    let local = daemon.root().join("busybox");
    daemon.docker(["cp", "box:/bin/busybox", &local.to_string_lossy()]).ok();
    let sent = Tar::new()
        .extended(&[("SCHILY.xattr.security.capability", &capabilities)])
        .file("busybox", 0o755, &fs::read(&local).unwrap())
        .finish();
    let record = format!("SCHILY.xattr.security.capability={capabilities}\n");
    for path in ["/opt", "/bound"] {
        exec(&daemon, &format!("mkdir -p {path}")).ok();
        put(&daemon, "box", &format!("path={path}"), &sent).expect(200);
        let program = format!("{path}/busybox");
        let words = [
            "exec",
            "-u",
            "33",
            "box",
            &program,
            "grep",
            "CapEff",
            "/proc/self/status",
        ];
        assert_eq!(daemon.docker(words).ok(), "CapEff:\t0000000000000001", "{path}");
        let body = daemon
            .api()
            .get(&format!("/containers/box/archive?path={program}"))
            .expect(200)
            .body;
        assert!(
            body.windows(record.len()).any(|window| window == record.as_bytes()),
            "{path}"
        );
    }
    // With the user namespace's root behind them: `struct vfs_ns_cap_data`.
    let mut found = [0; 64];
    let length = rustix::fs::getxattr(bound.join("busybox"), "security.capability", &mut found[..]).unwrap();
    assert_eq!((found[3], &found[20..length]), (3, &root.to_le_bytes()[..]));
}

#[test]
fn an_exec_is_in_the_containers_user_namespace_and_in_all_others() {
    let daemon = remapped();
    background(&daemon, "--name box", WAIT);
    let root = host_root(&daemon, "box");
    let look = "for kind in user mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$kind; done; id; \
                grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; cat /proc/self/uid_map";
    let inside = exec(&daemon, look).ok();
    assert_eq!(inside, exec(&daemon, &look.replace("/proc/self", "/proc/1")).ok());
    let namespace = fs::read_link(format!("/proc/{}/ns/user", daemon.container_pid("box"))).unwrap();
    assert_eq!(inside.lines().next(), namespace.to_str());

    daemon.docker("exec -d box sleep 1000").ok();
    let namespace = process::namespace(daemon.container_pid("box"), "user");
    let sleeps =
        |pid: &i32| process::command_line(*pid) == ["sleep", "1000"] && process::namespace(*pid, "user") == namespace;
    let find = || process::all().into_iter().find(sleeps);
    wait_until("it sleeps", || find().is_some());
    let pid = find().unwrap();
    assert!(
        process::status_field(pid, "Uid")
            .unwrap()
            .starts_with(&format!("{root}\t{root}"))
    );

    assert_eq!(daemon.docker("exec -u 33:34 box id").ok(), "uid=33 gid=34 groups=34");
    assert_eq!(daemon.docker("exec -u 70000 box id").code, 126);
    // Streams can be opened again, by root and by others.
    for user in ["0", "33"] {
        let script = "echo out > /dev/stdout; echo err > /dev/stderr; cat /dev/stdin";
        let words = ["exec", "-i", "-u", user, "box", "sh", "-c", script];
        let output = daemon.docker_with_input(words, b"in");
        assert_eq!(
            (output.error().as_str(), output.ok().as_str()),
            ("err", "out\nin"),
            "{user}"
        );
    }
    let words = [
        "run",
        "--rm",
        "-i",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "echo out > /dev/stdout; cat /dev/stdin",
    ];
    assert_eq!(daemon.docker_with_input(words, b"in").ok(), "out\nin");
    for (words, prompt) in [
        ("exec -it box sh", "/ # "),
        ("run -it --rm --network none busybox sh", "/ # "),
        ("exec -it -u 33 box sh", "/ $ "),
    ] {
        let mut terminal = daemon.docker_terminal(words);
        terminal.wait_to_show(prompt);
        terminal.press("stat -c 'owner=%u' $(tty); echo again=$((6*7)) > /dev/tty; exit 3\r");
        terminal.wait_to_show("again=42");
        terminal.wait_to_show(if words.contains("33") { "owner=33" } else { "owner=0" });
        assert_eq!(terminal.wait(), 3);
    }
    // All capabilities, over what is the container's.
    let script = "awk '/CapEff/ {print $2}' /proc/self/status; awk '{print $2}' /proc/self/uid_map";
    let privileged = daemon.docker(["exec", "--privileged", "box", "sh", "-c", script]).ok();
    let (capabilities, first) = privileged.split_once('\n').unwrap();
    const SYS_ADMIN: u64 = 1 << 21;
    assert_ne!(u64::from_str_radix(capabilities, 16).unwrap() & SYS_ADMIN, 0);
    assert_eq!(first, root.to_string());
    assert_eq!(daemon.docker("exec box nosuch").code, 127);
    daemon.docker("rm -f box").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn nobody_in_the_container_looks_into_an_exec_on_its_way() {
    let daemon = remapped();
    let spy = "(while :; do for pid in /proc/[0-9]*; do \
                 [ $pid = /proc/1 ] || { readlink $pid/exe; ls -l $pid/fd; } 2>/dev/null; done; done \
               | grep -E 'corten|memfd|socket:|/sys/fs/cgroup|/run' > /tmp/seen) & ";
    background(&daemon, "--name box --cap-add SYS_PTRACE", &format!("{spy} {WAIT}"));
    daemon.wait_for_log("box", "ready");
    for _ in 0..50 {
        assert_eq!(daemon.docker("exec box true").code, 0);
    }
    assert_eq!(exec(&daemon, "cat /tmp/seen").ok(), "");
}

#[test]
fn health_checks_run_in_the_user_namespace() {
    let daemon = remapped();
    let check = "[ $(id -u) = 0 ] && [ $(awk '{print $2}' /proc/self/uid_map) != 0 ] && echo fine > /tmp/checked";
    background(
        &daemon,
        ["--name", "box", "--health-interval", "50ms", "--health-cmd", check],
        WAIT,
    );
    wait_until("it is healthy", || {
        daemon.inspect("box")["State"]["Health"]["Status"] == "healthy"
    });
    assert_eq!(exec(&daemon, "stat -c %u /tmp/checked").ok(), "0");
}

#[test]
fn networks_reach_containers_and_containers_reach_networks() {
    let (world, daemon) = world_with(&["--userns-remap", "default"]);
    up(&daemon, "web", "-p 8080:80");
    let server = serve(&daemon, "web", 80);
    assert_eq!(
        world.other.ask(&format!("{}:8080", corten_testkit::world::HOST)),
        format!("web {OTHER}")
    );
    assert!(world.host.ask("127.0.0.1:8080").starts_with("web "));
    drop(server);
    daemon.docker("network create lane").ok();
    let options = json!({"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1"});
    let body = json!({"Image": "busybox", "Cmd": ["sh", "-c", WAIT], "HostConfig": {"NetworkMode": "lane"},
        "NetworkingConfig": {"EndpointsConfig": {"lane": {"DriverOpts": options}}}});
    daemon
        .api()
        .post("/containers/create?name=one", Some(&body))
        .expect(201);
    daemon.docker("start one").ok();
    up(&daemon, "two", "--network lane --user 1000");
    assert_eq!(daemon.docker("exec -u 0 two ping -c 1 one").code, 0);
    assert!(daemon.docker("exec two nslookup one").text().contains("127.0.0.11"));
    assert_eq!(
        daemon
            .docker("exec one cat /proc/sys/net/ipv4/conf/eth0/log_martians")
            .ok(),
        "1"
    );
    daemon.docker("network connect lane web").ok();
    assert_eq!(daemon.docker("exec -u 0 two ping -c 1 web").code, 0);
    assert_eq!(daemon.docker("stats --no-stream --format {{.Name}} one").ok(), "one");

    // The network belongs to another user namespace: it is used, and not administered.
    up(&daemon, "beside", "--network container:one --cap-add NET_ADMIN");
    assert_eq!(
        daemon.docker("exec beside cat /sys/class/net/eth0/address").ok(),
        daemon.docker("exec one cat /sys/class/net/eth0/address").ok()
    );
    assert!(daemon.docker("exec beside nslookup two").text().contains("127.0.0.11"));
    assert_ne!(daemon.docker("exec beside ip link set eth0 down").code, 0);
    daemon.docker("rm -f web one two beside").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn namespaces_of_other_containers_are_shared() {
    let daemon = remapped();
    background(
        &daemon,
        "--name box --ipc shareable",
        &format!("touch /dev/shm/shared; {WAIT}"),
    );
    daemon.wait_for_log("box", "ready");
    let seen = sh(
        &daemon,
        "--pid container:box",
        "tr '\\0' ' ' < /proc/1/cmdline; ls /proc/acpi; echo x 2>&1 > /proc/sys/kernel/domainname; true",
    );
    assert!(seen.text().contains("echo ready"), "{seen:?}");
    assert_eq!(
        sh(
            &daemon,
            "--ipc container:box",
            "stat -c '%n %u' /dev/shm/*; readlink /proc/self/ns/ipc"
        )
        .ok(),
        format!(
            "/dev/shm/shared 0\n{}",
            exec(&daemon, "readlink /proc/self/ns/ipc").ok()
        )
    );
    let look = "ls -lnd /dev/mqueue /dev/shm | awk '{print $1, $3, $4, $NF}'";
    let own = exec(&daemon, look).ok();
    assert_eq!(own, "drwxrwxrwt 0 0 /dev/mqueue\ndrwxrwxrwt 0 0 /dev/shm");
    assert_eq!(sh(&daemon, "--ipc container:box", look).ok(), own);
    let of_host = sh(&daemon, "--ipc host", look).ok();
    assert_eq!(of_host, own.replace("0 0", "65534 65534"));
    background(&daemon, "--name beside --pid container:box", WAIT);
    assert_eq!(
        daemon.docker("exec beside cat /proc/1/comm").ok(),
        exec(&daemon, "cat /proc/1/comm").ok()
    );
    assert_eq!(sh(&daemon, "--uts host", "true").code, 0);
    assert_eq!(sh(&daemon, "--ipc host", "true").code, 0);
    daemon.docker("rm -f box beside").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn what_needs_the_hosts_own_users_is_refused() {
    let daemon = remapped();
    for (options, message) in [
        ("--privileged", "privileged mode is incompatible with user namespaces"),
        (
            "--network host",
            "cannot share the host's network namespace when user namespaces are enabled",
        ),
        (
            "--pid host",
            "cannot share the host PID namespace when user namespaces are enabled",
        ),
    ] {
        let error = daemon.docker(format!("run {options} busybox true").as_str()).fails(125);
        assert!(error.contains(message), "{error}");
        let words = format!("run --rm --userns host {options} busybox awk");
        let mut words: Vec<&str> = words.split(' ').collect();
        words.extend(["{print $2}", "/proc/self/uid_map"]);
        assert_eq!(daemon.docker(words.as_slice()).ok(), "0", "{options}");
    }
    background(&daemon, "--name box --userns host", WAIT);
    assert_eq!(exec(&daemon, "awk '{print $2}' /proc/self/uid_map").ok(), "0");
    let pid = daemon.container_pid("box");
    assert_eq!(
        process::namespace(pid, "user"),
        process::namespace(std::process::id() as i32, "user")
    );
    assert_eq!(daemon.inspect("box")["HostConfig"]["UsernsMode"], "host");
    let refused = setup().arguments("--userns-remap nobody-at-all").start_in_vain();
    assert!(
        refused.error().contains("there is no \"nobody-at-all\" in /etc/passwd"),
        "{refused:?}"
    );
}

#[test]
fn the_hosts_users_may_be_asked_for_where_nobody_else_is_to_be_had() {
    let daemon = daemon();
    let map = sh(&daemon, "--userns host", "awk '{print $2}' /proc/self/uid_map").ok();
    assert_eq!(map, "0");
}

#[test]
fn a_container_can_do_nothing_to_the_host() {
    let daemon = remapped();
    background(
        &daemon,
        "--name box --cap-add ALL --security-opt seccomp=unconfined",
        WAIT,
    );
    // With all that there is within its user namespace; nothing of this would change the host if it could be done.
    for attempt in [
        "mknod /disk b 8 0",
        "mknod /kmsg c 1 11",
        "umount /proc/sys; cat /proc/sys/kernel/sysrq > /proc/sys/kernel/sysrq",
        "cat /proc/sys/kernel/printk > /proc/sys/kernel/printk",
        "cat /proc/sys/vm/swappiness > /proc/sys/vm/swappiness",
        "mount -o remount,rw /sys; cat /sys/kernel/mm/ksm/run > /sys/kernel/mm/ksm/run",
        "mount -t devtmpfs x /mnt",
        "echo -1000 > /proc/self/oom_score_adj",
    ] {
        let output = exec(&daemon, attempt);
        assert_ne!(output.code, 0, "{output:?}");
    }
    // A container beside it has the same users, and is out of reach all the same.
    background(&daemon, "--name other", &format!("echo secret > /secret; {WAIT}"));
    daemon.wait_for_log("other", "ready");
    let seen = exec(
        &daemon,
        "cat /proc/*/root/secret 2>/dev/null; ls /proc | grep -c '^[0-9]'",
    )
    .ok();
    assert!(!seen.contains("secret"), "{seen}");
    assert!(seen.parse::<u32>().unwrap() < 10, "{seen}");
}

#[test]
fn described_devices_are_given_and_the_hosts_programs_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let nodes = json!({"deviceNodes": [{"path": "/dev/card0", "hostPath": "/dev/zero"}]});
    let hooks = json!({"hooks": [{"hookName": "createContainer", "path": "/bin/true"}]});
    let devices = json!([{"name": "plain", "containerEdits": nodes}, {"name": "hooked", "containerEdits": hooks}]);
    let text = json!({"cdiVersion": "0.7.0", "kind": "vendor.com/card", "devices": devices}).to_string();
    fs::write(directory.path().join("vendor.json"), text).unwrap();
    let path = directory.path().to_str().unwrap();
    let daemon = setup()
        .arguments(["--userns-remap", "default", "--cdi-spec-dir", path])
        .start();
    daemon.load(&image::busybox());
    let script = "head -c 3 /dev/card0 | wc -c; stat -c %u:%g /dev/card0";
    assert_eq!(sh(&daemon, "--device vendor.com/card=plain", script).ok(), "3\n0:0");
    let error = sh(&daemon, "--device vendor.com/card=hooked", "true").fails(125);
    let expected = "a createContainer hook in a user namespace is not implemented yet";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_cgroup_that_may_be_written_to_is_the_containers() {
    let mount = "umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec \"$0\" \"$@\"";
    let daemon = setup()
        .arguments("--userns-remap default")
        .wrapper(["unshare", "--mount", "--propagation", "private", "sh", "-c", mount])
        .start();
    daemon.load(&image::busybox());
    let script = "mkdir /sys/fs/cgroup/own && echo $$ > /sys/fs/cgroup/own/cgroup.procs && cat /proc/self/cgroup; \
                  stat -c %u /sys/fs/cgroup /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/cgroup.events";
    let seen = sh(&daemon, "--security-opt writable-cgroups=true", script).ok();
    assert!(seen.contains("0::/own\n0\n0\n65534"), "{seen}");
    background(&daemon, "--name box", WAIT);
    // Not asked for, it is only shown.
    let script = "cat /proc/self/cgroup | tail -n 1; mkdir /sys/fs/cgroup/own 2>/dev/null || echo refused";
    assert_eq!(exec(&daemon, script).ok(), "0::/\nrefused");
}

#[test]
fn older_kernels_with_cgroup_v2_alone_have_them_too() {
    let directory = tempfile::tempdir().unwrap();
    let disk = directory.path().join("disk");
    fs::File::create(&disk).and_then(|file| file.set_len(48 << 20)).unwrap();
    let path = "/usr/sbin:/sbin:/usr/bin:/bin";
    let made = Command::new("mkfs.ext4")
        .arg("-q")
        .arg(&disk)
        .env("PATH", path)
        .status();
    if !made.as_ref().is_ok_and(std::process::ExitStatus::success) {
        println!("skipped: no mkfs.ext4: {made:?}");
        return;
    }
    let modules = "crc16 crc32c_generic mbcache jbd2 ext4 loop";
    if let Some(said) = guest::run("users.sh", &[&disk], &[("GUEST_MODULES", modules)]) {
        assert!(said.contains("ok   an exec"), "{said}");
    }
}

#[test]
fn containers_outlive_the_daemon_and_a_change_of_mind() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("daemon.json");
    let choose = |remap: &str| fs::write(&config, json!({"userns-remap": remap}).to_string()).unwrap();
    choose("default");
    let mut daemon = setup().arguments(["--config-file", &config.to_string_lossy()]).start();
    daemon.load(&image::busybox());
    let script = format!("touch /file; chown 33:34 /file; chown 33:34 /data; {WAIT}");
    background(
        &daemon,
        ["--name", "box", "-v", "named:/data", "--restart", "always"],
        &script,
    );
    daemon.wait_for_log("box", "ready");
    let root = host_root(&daemon, "box");
    daemon.kill_and_start();
    assert_eq!(host_root(&daemon, "box"), root);
    assert_eq!(
        exec(&daemon, "id -u; stat -c %u:%g /file /data").ok(),
        "0\n33:34\n33:34"
    );

    // A container that runs stays who it is, until it is started again.
    choose("");
    daemon.kill_and_start();
    assert_eq!(host_root(&daemon, "box"), root);
    assert_eq!(exec(&daemon, "id -u").ok(), "0");
    assert_eq!(archive(&daemon, "/file")["file"], (33, 34));
    daemon.docker("restart -t 0 box").ok();
    assert_eq!(maps(daemon.container_pid("box"))[0][..2], [0, 0]);
    assert_eq!(exec(&daemon, "stat -c %u:%g /file /data").ok(), "33:34\n33:34");
    let options = daemon.api().get("/info").json()["SecurityOptions"].to_string();
    assert!(!options.contains("userns"), "{options}");
    daemon.docker("create --name mighty --privileged busybox true").ok();

    choose("default");
    daemon.kill_and_start();
    assert_eq!(maps(daemon.container_pid("box"))[0][..2], [0, 0]);
    daemon.docker("restart -t 0 box").ok();
    assert_eq!(host_root(&daemon, "box"), root);
    assert_eq!(exec(&daemon, "stat -c %u:%g /file /data").ok(), "33:34\n33:34");
    let error = daemon.docker("start mighty").fails(1);
    assert!(
        error.contains("privileged mode is incompatible with user namespaces"),
        "{error}"
    );
    daemon.docker("rm -f box mighty").ok();
    daemon.assert_nothing_remains();
}

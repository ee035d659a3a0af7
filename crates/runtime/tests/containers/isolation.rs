//! What a container cannot see, reach or change.
use std::{fs, os::unix::fs::symlink};

use serde_json::json;

use super::{Test, world::World};

pub const TESTS: &[Test] = &[
    ("capabilities_are_those_asked_for", capabilities_are_those_asked_for),
    (
        "no_new_privileges_and_filters_apply",
        no_new_privileges_and_filters_apply,
    ),
    ("no_descriptor_leaks", no_descriptor_leaks),
    ("a_read_only_root_is_read_only", a_read_only_root_is_read_only),
    ("paths_are_masked", paths_are_masked),
    ("devices_are_there", devices_are_there),
    (
        "a_dev_null_of_the_image_is_not_used",
        a_dev_null_of_the_image_is_not_used,
    ),
    (
        "the_working_directory_cannot_leave_the_root",
        the_working_directory_cannot_leave_the_root,
    ),
    (
        "symbolic_links_for_system_directories_are_refused",
        symbolic_links_for_system_directories_are_refused,
    ),
    ("bind_targets_stay_in_the_root", bind_targets_stay_in_the_root),
    ("binds_keep_their_options", binds_keep_their_options),
    ("nothing_of_the_host_is_mounted", nothing_of_the_host_is_mounted),
    ("signals_are_as_in_a_fresh_process", signals_are_as_in_a_fresh_process),
    ("our_executable_cannot_be_written", our_executable_cannot_be_written),
    ("cgroups_are_read_only", cgroups_are_read_only),
];

fn capabilities_are_those_asked_for() {
    let script = "grep Cap /proc/self/status";
    let caps = |printed: String| printed.replace('\t', "").replace('\n', " ");
    let world = World::new();
    let docker = "00000000a80425fb";
    let none = "0000000000000000";
    assert_eq!(
        caps(world.script(script).run().1),
        format!("CapInh:{none} CapPrm:{docker} CapEff:{docker} CapBnd:{docker} CapAmb:{none} ")
    );
    let world = World::new();
    world.request(|request| request.user = "web".to_owned());
    assert_eq!(
        caps(world.script(script).run().1),
        format!("CapInh:{none} CapPrm:{none} CapEff:{none} CapBnd:{docker} CapAmb:{none} ")
    );
    let world = World::new();
    world.request(|request| request.user = "web".to_owned());
    world.edit(|document| {
        for set in ["permitted", "effective", "inheritable", "ambient"] {
            document["process"]["capabilities"][set] = json!(["CAP_NET_RAW"]);
        }
    });
    let raw = "0000000000002000";
    assert_eq!(
        caps(world.script(script).run().1),
        format!("CapInh:{raw} CapPrm:{raw} CapEff:{raw} CapBnd:{docker} CapAmb:{raw} ")
    );
}

fn no_new_privileges_and_filters_apply() {
    let show = "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status";
    let world = World::new();
    assert_eq!(world.script(show).run().1, "NoNewPrivs:\t0\nSeccomp:\t0\n");
    for no_new_privileges in [true, false] {
        let world = World::new();
        world.edit(|document| {
            document["process"]["noNewPrivileges"] = json!(no_new_privileges);
            document["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
            });
        });
        let script = format!("{show}; mkdir /tmp/x 2>&1; echo $?; grep CapEff /proc/self/status");
        let wanted = format!(
            "NoNewPrivs:\t{}\nSeccomp:\t2\nmkdir: can't create directory '/tmp/x': Operation not permitted\n1\n\
             CapEff:\t00000000a80425fb\n",
            u8::from(no_new_privileges)
        );
        assert_eq!(world.script(&script).run().1, wanted);
    }
}

fn no_descriptor_leaks() {
    let world = World::new();
    assert_eq!(
        world.arguments(&["ls", "/proc/self/fd"]).run().1,
        "0\n1\n2\n3\n",
        "3 is the listing's own"
    );
    let world = World::new();
    world.request(|request| request.stdio.terminal = Some((24, 80)));
    assert_eq!(
        world.arguments(&["ls", "-1", "/proc/self/fd"]).run().1,
        "0\r\n1\r\n2\r\n3\r\n"
    );
}

fn a_read_only_root_is_read_only() {
    let world = World::new();
    world.edit(|document| document["root"]["readonly"] = json!(true));
    let script = "touch /file 2>/dev/null; echo $?; touch /dev/shm/file; echo $?; touch /tmp/x 2>/dev/null; echo $?";
    assert_eq!(world.script(script).run().1, "1\n0\n1\n");
}

fn paths_are_masked() {
    let world = World::new();
    world.edit(|document| {
        document["linux"]["maskedPaths"]
            .as_array_mut()
            .unwrap()
            .push(json!("/etc/passwd"))
    });
    let script = "cat /proc/kcore /proc/keys /proc/timer_list /etc/passwd | wc -c; ls -A /sys/firmware | wc -l; \
                  touch /sys/firmware/x 2>/dev/null; echo $?; echo 1 2>/dev/null > /proc/sys/kernel/domainname; \
                  stat -c %t:%T /proc/keys; echo b 2>/dev/null > /proc/sysrq-trigger; echo alive";
    let (_, printed) = world.script(&format!("({script}) 2>/dev/null")).run();
    assert_eq!(printed, "0\n0\n1\n1:3\nalive\n");
}

fn devices_are_there() {
    let world = World::new();
    world.edit(|document| {
        document["linux"]["devices"] = json!([
            {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 33, "gid": 29},
            {"path": "/dev/deep/er/pipe", "type": "p", "fileMode": 0o600},
        ]);
    });
    let script = "cd /dev; stat -c '%n %F %a %u:%g %t:%T' null zero full random urandom tty fuse deep/er/pipe; \
                  for l in fd stdin stdout stderr ptmx; do readlink $l; done; echo x > null && head -c 4 zero | wc -c";
    let wanted = "null character special file 666 0:0 1:3\n\
                  zero character special file 666 0:0 1:5\n\
                  full character special file 666 0:0 1:7\n\
                  random character special file 666 0:0 1:8\n\
                  urandom character special file 666 0:0 1:9\n\
                  tty character special file 666 0:0 5:0\n\
                  fuse character special file 640 33:29 a:e5\n\
                  deep/er/pipe fifo 600 0:0 0:0\n\
                  /proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n4\n";
    assert_eq!(world.script(script).run().1, wanted);
}

/// CVE-2025-31133.
fn a_dev_null_of_the_image_is_not_used() {
    let world = World::new();
    world.edit(|document| {
        // Without a tmpfs the image's own /dev is what the container gets.
        document["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        document["linux"]["maskedPaths"] = json!(["/etc/group"]);
    });
    symlink("/etc/passwd", world.lower().join("dev/null")).unwrap();
    let script = "stat -c %t:%T /etc/group; stat -c '%F %t:%T' /dev/null; cat /etc/group | wc -c";
    assert_eq!(world.script(script).run().1, "1:3\ncharacter special file 1:3\n0\n");
}

/// CVE-2024-21626.
fn the_working_directory_cannot_leave_the_root() {
    for number in 3..24 {
        for path in [
            format!("/proc/self/fd/{number}"),
            format!("/proc/self/fd/{number}/../../../.."),
        ] {
            let world = World::new();
            world.edit(|document| document["process"]["cwd"] = json!(path));
            match world.start() {
                Err(failure) => assert!(failure.message.contains("working directory"), "{failure:?}"),
                Ok(_) => panic!("it started in {path}"),
            }
        }
    }
}

/// CVE-2025-54867, CVE-2026-41579 and their relatives.
fn symbolic_links_for_system_directories_are_refused() {
    for name in ["proc", "sys", "dev"] {
        let world = World::new();
        let outside = world.path("outside");
        fs::create_dir(&outside).unwrap();
        fs::remove_dir(world.lower().join(name)).unwrap();
        symlink(&outside, world.lower().join(name)).unwrap();
        let failure = world.failure();
        assert!(
            failure
                .message
                .contains(&format!("/{name} is not a directory of the image itself")),
            "{failure:?}"
        );
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        world.assert_nothing_left();
    }
}

/// CVE-2021-30465, CVE-2024-45310.
fn bind_targets_stay_in_the_root() {
    let world = World::new();
    let (outside, source) = (world.path("outside"), world.path("source"));
    fs::create_dir(&outside).unwrap();
    fs::create_dir(&source).unwrap();
    fs::write(source.join("mark"), "here").unwrap();
    symlink(&outside, world.lower().join("absolute")).unwrap();
    symlink("../../../../../../..", world.lower().join("upwards")).unwrap();
    for target in ["/absolute/a", "/upwards/b", "/upwards/../../c/d"] {
        world.mount(json!({"destination": target, "type": "bind", "source": source, "options": ["rbind", "ro"]}));
    }
    let script = "cat /absolute/a/mark /b/mark /c/d/mark";
    assert_eq!(world.script(script).run().1, "hereherehere");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

fn binds_keep_their_options() {
    let world = World::new();
    let source = world.path("source");
    fs::create_dir(&source).unwrap();
    fs::write(world.path("file"), "content").unwrap();
    for (target, options) in [("/a", vec!["rbind", "ro"]), ("/b", vec!["rbind", "noexec", "nosuid"])] {
        world.mount(json!({"destination": target, "type": "bind", "source": source, "options": options}));
    }
    let file = world.path("file");
    world.mount(json!({"destination": "/etc/hosts", "type": "bind", "source": file, "options": ["rbind"]}));
    world.mount(json!({
        "destination": "/run/x", "type": "tmpfs", "source": "tmpfs", "options": ["noexec", "size=1m", "mode=1770"]
    }));
    let script = "touch /a/x 2>/dev/null; echo $?; touch /b/x; echo $?; cp /bin/busybox /b/true 2>/dev/null; \
                  cat /bin/busybox > /b/true; chmod 755 /b/true; /b/true 2>/dev/null; echo $?; cat /etc/hosts; echo; \
                  stat -c %a /run/x; grep -c ' /run/x .*noexec.*size=1024k' /proc/self/mounts";
    assert_eq!(world.script(script).run().1, "1\n0\n126\ncontent\n1770\n1\n");
    assert!(source.join("x").exists());
}

fn nothing_of_the_host_is_mounted() {
    let world = World::new();
    let (_, printed) = world.arguments(&["cat", "/proc/self/mountinfo"]).run();
    let targets: Vec<_> = printed.lines().map(|line| line.split(' ').nth(4).unwrap()).collect();
    assert_eq!(targets[0], "/");
    let expected = |path: &str| {
        ["/", "/proc", "/sys", "/dev"]
            .iter()
            .any(|top| path == *top || path.starts_with(&format!("{top}/")))
    };
    assert!(targets.iter().all(|target| expected(target)), "{printed}");
    assert_eq!(targets.iter().filter(|target| **target == "/").count(), 1);
    assert!(
        !printed.contains(" shared:") && !printed.contains(" master:"),
        "{printed}"
    );
}

fn signals_are_as_in_a_fresh_process() {
    let world = World::new();
    let (_, printed) = world
        .arguments(&["grep", "-E", "SigBlk|SigIgn|SigCgt", "/proc/self/status"])
        .run();
    let zero = "0000000000000000";
    assert_eq!(printed, format!("SigBlk:\t{zero}\nSigIgn:\t{zero}\nSigCgt:\t{zero}\n"));
}

/// CVE-2019-5736: whoever opens the executable of a process of ours finds it on a read-only mount.
fn our_executable_cannot_be_written() {
    let world = World::new();
    let mut container = world.arguments(&["sleep", "1000"]).create().unwrap();
    let child = format!("/proc/{}/exe", container.state().pid);
    let shim = format!("/proc/{}/exe", container.state().shim_pid);
    for path in [child, shim] {
        let mount = rustix::fs::statvfs(&path).unwrap();
        assert!(mount.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY), "{path}");
        assert!(fs::OpenOptions::new().write(true).open(&path).is_err());
    }
    container.signal(9);
    container.wait();
}

/// CVE-2022-0492 and CVE-2023-25809.
fn cgroups_are_read_only() {
    let world = World::new();
    let script = "cd /sys/fs/cgroup; for d in . */; do touch $d/x 2>/dev/null && echo $d is writable; \
                  mkdir $d/x 2>/dev/null && echo $d is writable; done; grep -c 'cgroup' /proc/self/mounts; \
                  cat /proc/self/cgroup | grep -v ':/$'; true";
    let (_, printed) = world.script(script).run();
    let mounts: usize = printed.trim().parse().unwrap_or_else(|_| panic!("{printed}"));
    assert!(mounts >= 1);
}

//! Running and ending.
use std::{os::fd::AsRawFd, path::Path};

use corten_runtime::{
    process::task::Rootfs,
    shim::protocol::{FailureKind, ToShim},
    state::read_exit,
};
use serde_json::json;

use super::{
    Test,
    world::{World, launch},
};

pub const TESTS: &[Test] = &[
    ("starts_side_by_side", starts_side_by_side),
    ("an_init_forwards_signals_and_reaps", an_init_forwards_signals_and_reaps),
    ("true_runs", true_runs),
    (
        "exit_codes_and_signals_are_reported",
        exit_codes_and_signals_are_reported,
    ),
    ("real_time_signals_pass", real_time_signals_pass),
    (
        "two_hundred_short_lives_lose_no_exit",
        two_hundred_short_lives_lose_no_exit,
    ),
    ("a_directory_can_be_the_root", a_directory_can_be_the_root),
    ("a_killed_created_container_exits", a_killed_created_container_exits),
    ("a_second_start_is_refused", a_second_start_is_refused),
    ("users_come_from_the_image", users_come_from_the_image),
    (
        "the_working_directory_is_made_when_asked",
        the_working_directory_is_made_when_asked,
    ),
    ("limits_sysctls_and_names_apply", limits_sysctls_and_names_apply),
    ("namespaces_can_be_the_hosts", namespaces_can_be_the_hosts),
    ("a_network_namespace_can_be_joined", a_network_namespace_can_be_joined),
    (
        "leftovers_in_the_hosts_pid_namespace_are_killed",
        leftovers_in_the_hosts_pid_namespace_are_killed,
    ),
];

fn true_runs() {
    let world = World::new();
    assert_eq!(world.run(), (0, String::new()));
    assert_eq!(read_exit(&world.path("task")).unwrap().unwrap().code, 0);
    world.assert_no_cgroup();
}

fn exit_codes_and_signals_are_reported() {
    for (script, code) in [("exit 7", 7), ("exit 255", 255)] {
        let world = World::new();
        let (seen, printed) = world.script(script).run();
        assert_eq!(seen, code, "{script}: {printed}");
    }
    for (signal, code) in [(9, 137), (15, 128)] {
        let world = World::new();
        let mut container = world
            .script("trap 'exit 128' TERM; echo up; sleep 1000 & wait")
            .start()
            .unwrap();
        while world.printed().is_empty() {
            std::thread::yield_now();
        }
        container.signal(signal);
        assert_eq!(container.wait().code, code);
    }
}

fn real_time_signals_pass() {
    let world = World::new();
    let mut container = world
        .script("trap 'exit 44' 40; echo up; sleep 1000 & wait")
        .start()
        .unwrap();
    while world.printed().is_empty() {
        std::thread::yield_now();
    }
    container.signal(40);
    assert_eq!(container.wait().code, 44);
    assert!(container.state().pid > 0);
}

fn two_hundred_short_lives_lose_no_exit() {
    let world = World::new();
    for round in 0..200 {
        let world = if round % 50 == 0 { &World::new() } else { &world };
        for name in ["exit", "state", "shim.sock"] {
            let _ = std::fs::remove_file(world.path("task").join(name));
        }
        world.arguments(if round % 2 == 0 { &["true"] } else { &["false"] });
        let exit = world.start().unwrap().wait();
        assert_eq!(exit.code, round % 2);
        assert_eq!(exit.reason, None);
    }
}

fn a_directory_can_be_the_root() {
    let world = World::new();
    let lower = world.lower();
    world.request(|request| request.rootfs = Rootfs::Directory(lower.clone()));
    let (code, _) = world.script("echo made > /tmp/file").run();
    assert_eq!(code, 0);
    assert_eq!(std::fs::read_to_string(lower.join("tmp/file")).unwrap(), "made\n");
}

fn a_killed_created_container_exits() {
    let world = World::new();
    let mut container = world.create().unwrap();
    assert!(!container.state().started);
    container.signal(9);
    assert_eq!(container.wait().code, 137);
    world.assert_no_cgroup();
}

fn a_second_start_is_refused() {
    let world = World::new();
    let mut container = world.arguments(&["sleep", "1000"]).start().unwrap();
    let failure = container.start().unwrap_err();
    assert_eq!(failure.message, "the container has been started already");
    container.ask(ToShim::KillAll, &[]).unwrap();
    assert_eq!(container.wait().code, 137);
    // Nobody answers any more: the connection is closed, which is no panic of the shim's.
    assert!(container.connection.as_raw_fd() >= 0);
    let _ = FailureKind::Gone;
}

fn users_come_from_the_image() {
    let show = "id -u; id -g; id -G; echo $HOME";
    let as_user = |user: &str, groups: &[&str]| {
        let world = World::new();
        world.request(|request| {
            request.user = user.to_owned();
            request.additional_groups = groups.iter().map(|group| group.to_string()).collect();
        });
        world.script(show).run().1.replace('\n', "|")
    };
    assert_eq!(as_user("", &[]), "0|0|0|/root|");
    assert_eq!(as_user("web", &[]), "33|33|33 29|/var/www|");
    assert_eq!(as_user("33", &[]), "33|33|33 29|/var/www|");
    assert_eq!(as_user("web:staff", &["77"]), "33|50|50 77|/var/www|");
    assert_eq!(as_user("1234:5", &["audio"]), "1234|5|5 29|/|");
    let world = World::new();
    world.edit(|document| {
        document["process"]["env"]
            .as_array_mut()
            .unwrap()
            .push(json!("HOME=/elsewhere"))
    });
    assert_eq!(world.script("echo $HOME").run().1, "/elsewhere\n");
}

fn the_working_directory_is_made_when_asked() {
    let world = World::new();
    world.edit(|document| document["process"]["cwd"] = json!("/srv/app/here"));
    world.request(|request| request.create_working_directory = true);
    assert_eq!(
        world.script("pwd; umask").run(),
        (0, "/srv/app/here\n0022\n".to_owned())
    );
    let world = World::new();
    world.edit(|document| document["process"]["cwd"] = json!("/srv/app"));
    let failure = world.failure();
    assert!(
        failure.message.contains("working directory /srv/app: No such file"),
        "{}",
        failure.message
    );
}

fn limits_sysctls_and_names_apply() {
    let world = World::new();
    world.edit(|document| {
        document["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
        document["process"]["oomScoreAdj"] = json!(500);
        document["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "5000"});
        document["domainname"] = json!("example.test");
    });
    let script = "ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj /proc/sys/net/ipv4/ip_forward \
                  /proc/sys/kernel/msgmax /proc/sys/kernel/domainname; hostname; ip a | grep -c 'inet 127.0.0.1'";
    assert_eq!(
        world.script(script).run(),
        (0, "100\n200\n500\n1\n5000\nexample.test\ncorten-test\n1\n".to_owned())
    );
}

fn namespaces_can_be_the_hosts() {
    let world = World::new();
    world.edit(|document| {
        document["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "cgroup"}]);
        document.as_object_mut().unwrap().remove("hostname");
    });
    let script = "for n in pid net ipc uts mnt cgroup; do readlink /proc/self/ns/$n; done";
    let (code, printed) = world.script(script).run();
    assert_eq!(code, 0);
    let hosts = |name: &str| std::fs::read_link(Path::new("/proc/self/ns").join(name)).unwrap();
    let ours = ["pid", "net", "ipc", "uts", "mnt", "cgroup"].map(|name| hosts(name).to_str().unwrap().to_owned());
    let theirs: Vec<_> = printed.lines().collect();
    assert_eq!(theirs[..4], ours[..4]);
    assert_ne!(theirs[4], ours[4]);
    assert_ne!(theirs[5], ours[5]);
}

fn a_network_namespace_can_be_joined() {
    let first = World::new();
    let mut holder = first.arguments(&["sleep", "1000"]).start().unwrap();
    let path = format!("/proc/{}/ns/net", holder.state().pid);
    let expected = std::fs::read_link(&path).unwrap();
    let second = World::new();
    second.edit(|document| document["linux"]["namespaces"][1]["path"] = json!(path));
    assert_eq!(
        second.arguments(&["readlink", "/proc/self/ns/net"]).run().1.trim(),
        expected.to_str().unwrap()
    );
    holder.signal(9);
    holder.wait();
}

fn leftovers_in_the_hosts_pid_namespace_are_killed() {
    let world = World::new();
    world.edit(|document| {
        document["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .retain(|entry| entry["type"] != "pid");
    });
    let (code, printed) = world.script("sleep 1000 >/dev/null 2>&1 & echo $!").run();
    assert_eq!(code, 0);
    let left = std::fs::read_to_string(format!("/proc/{}/cmdline", printed.trim())).unwrap_or_default();
    assert!(!left.starts_with("sleep"), "{left}");
    world.assert_no_cgroup();
}

fn starts_side_by_side() {
    let plans: Vec<_> = (0..8)
        .map(|number| {
            let world = World::new();
            let plan = world.script(&format!("exit {number}")).plan().unwrap();
            (world, plan, number)
        })
        .collect();
    std::thread::scope(|scope| {
        for (world, plan, number) in &plans {
            let task = world.path("task");
            scope.spawn(move || {
                for _ in 0..10 {
                    let mut container = launch(plan).unwrap();
                    container.start().unwrap();
                    assert_eq!(container.wait().code, *number);
                    for name in ["exit", "state", "shim.sock"] {
                        std::fs::remove_file(task.join(name)).unwrap();
                    }
                }
            });
        }
    });
}

fn an_init_forwards_signals_and_reaps() {
    let world = World::new();
    let ours = std::env::current_exe().unwrap();
    world.mount(json!({"destination": "/sbin/docker-init", "type": "bind", "source": ours, "options": ["bind", "ro"]}));
    let script = "trap 'exit 5' TERM; (sleep 0.01 &); echo $$ up; sleep 1000 & wait";
    world.arguments(&["/sbin/docker-init", "--", "sh", "-c", script]);
    let mut container = world.start().unwrap();
    while world.printed().is_empty() {
        std::thread::yield_now();
    }
    assert_ne!(world.printed(), "1 up\n");
    container.signal(15);
    assert_eq!(container.wait().code, 5);
    for (program, code) in [
        (&["/no/such"][..], 127),
        (&["/etc/passwd"], 126),
        (&["sh", "-c", "kill -9 $$"], 137),
    ] {
        let world = World::new();
        world.mount(json!({"destination": "/sbin/docker-init", "type": "bind", "source": ours, "options": ["bind"]}));
        world.arguments(&[&["/sbin/docker-init", "--"], program].concat());
        assert_eq!(world.run().0, code);
    }
}

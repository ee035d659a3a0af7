//! Limits: written where the kernel looks, and effective.
use std::{fs, path::Path};

use corten_testkit::{daemon::Daemon, image};
use serde_json::json;

use crate::{WAIT, background, daemon, setup, sh};

/// A cgroup file of a container, by its name in v1 or in v2.
#[track_caller]
pub fn limit(daemon: &Daemon, id: &str, v1: &str, v2: &str) -> String {
    let directories = daemon.cgroups(id);
    let found = directories
        .iter()
        .flat_map(|path| [path.join(v1), path.join(v2)])
        .find(|path| path.is_file());
    let path = found.unwrap_or_else(|| panic!("neither {v1} nor {v2} in {directories:?}"));
    fs::read_to_string(&path).unwrap().trim().to_owned()
}

pub fn is_v2(daemon: &Daemon, id: &str) -> bool {
    daemon
        .cgroups(id)
        .iter()
        .all(|path| !path.starts_with("/sys/fs/cgroup/memory"))
}

#[test]
fn limits_are_written_to_the_cgroup() {
    let daemon = daemon();
    let options = "--memory 64m --memory-swap 128m --memory-reservation 32m --cpus 0.5 --cpu-shares 512 --cpuset-cpus 0 --pids-limit 50";
    let id = background(&daemon, options, WAIT);
    assert_eq!(
        limit(&daemon, &id, "memory.limit_in_bytes", "memory.max"),
        (64 << 20).to_string()
    );
    assert_eq!(
        limit(&daemon, &id, "memory.soft_limit_in_bytes", "memory.low"),
        (32 << 20).to_string()
    );
    assert_eq!(limit(&daemon, &id, "pids.max", "pids.max"), "50");
    assert_eq!(limit(&daemon, &id, "cpuset.cpus", "cpuset.cpus"), "0");
    if is_v2(&daemon, &id) {
        assert_eq!(limit(&daemon, &id, "-", "cpu.max"), "50000 100000");
    } else {
        assert_eq!(limit(&daemon, &id, "cpu.cfs_quota_us", "-"), "50000");
        assert_eq!(limit(&daemon, &id, "cpu.shares", "-"), "512");
    }
    let host = &daemon.inspect(&id)["HostConfig"];
    assert_eq!(host["Memory"], 64 << 20);
    assert_eq!(host["NanoCpus"], 500_000_000);
    assert_eq!(host["PidsLimit"], 50);
}

#[test]
fn huge_pages_of_a_size_are_limited() {
    let mut daemon = daemon();
    let words = "run -d --name box --network none --hugepages 2MB=4m busybox sleep 1000";
    let output = daemon.corten(words);
    if output.error().contains("huge pages cannot be limited") || output.error().contains("there are no huge pages") {
        eprintln!("skipped: {}", output.error());
        return;
    }
    let id = output.ok();
    let limits = |daemon: &Daemon| {
        let files = [
            ("hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max"),
            ("hugetlb.2MB.rsvd.limit_in_bytes", "hugetlb.2MB.rsvd.max"),
        ];
        files.map(|(v1, v2)| limit(daemon, &id, v1, v2))
    };
    assert_eq!(limits(&daemon), ["4194304", "4194304"]);
    daemon.corten("update --hugepages 2MB=8m box").ok();
    assert_eq!(limits(&daemon), ["8388608", "8388608"]);
    daemon.kill_and_start();
    let shown = &daemon.inspect("box")["HostConfig"]["HugepageLimits"];
    assert_eq!(*shown, json!([{"PageSize": "2MB", "Limit": 8 << 20}]));
    // What is asked for by another name is left alone.
    daemon.docker("update --cpu-shares 512 box").ok();
    assert_eq!(limits(&daemon), ["8388608", "8388608"]);
    daemon.corten("update --hugepages 2MB=-1 box").ok();
    assert_ne!(limits(&daemon), ["8388608", "8388608"]);
    for (asked, words) in [
        (
            json!([{"PageSize": "3MB", "Limit": 1}]),
            "there are no huge pages of \"3MB\" here, only of ",
        ),
        (
            json!([{"PageSize": "2MB", "Limit": -2}]),
            "invalid limit of 2MB huge pages: -2",
        ),
        (
            json!([{"PageSize": "2MB", "Limit": 1}, {"PageSize": "2MB", "Limit": 2}]),
            "two limits of 2MB huge pages",
        ),
    ] {
        let create = json!({"Image": "busybox", "HostConfig": {"HugepageLimits": asked}});
        let update = json!({"HugepageLimits": asked});
        for (path, body) in [("/containers/create", create), ("/containers/box/update", update)] {
            let message = daemon.api().post(path, Some(&body)).expect(400).message();
            assert!(message.contains(words), "{path}: {message}");
        }
    }
    assert!(daemon.corten("run --hugepages 2MB busybox true").code == 125);
}

#[test]
fn too_much_memory_gets_the_container_killed_and_reported() {
    let daemon = daemon();
    let output = daemon.docker("run --name hog --network none --memory 16m --memory-swap 16m busybox tail /dev/zero");
    assert_eq!(output.code, 137, "{output:?}");
    let state = &daemon.inspect("hog")["State"];
    assert_eq!(state["OOMKilled"], true);
    assert_eq!(state["ExitCode"], 137);
    assert!(daemon.log().len() < 1 << 20);
    // Ending by a signal of another kind is no such thing.
    background(&daemon, "--name victim", WAIT);
    daemon.docker("kill victim").ok();
    daemon.docker("wait victim").ok();
    assert_eq!(daemon.inspect("victim")["State"]["OOMKilled"], false);
}

#[test]
fn a_fork_bomb_stops_at_the_limit_of_processes() {
    let daemon = daemon();
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done; echo all";
    let output = sh(&daemon, "--pids-limit 8", script);
    assert!(output.error().contains("can't fork"), "{output:?}");
}

#[test]
fn the_affinity_follows_the_cpuset() {
    let daemon = daemon();
    assert_eq!(
        sh(
            &daemon,
            "--cpuset-cpus 0",
            "grep Cpus_allowed_list /proc/self/status | cut -f2"
        )
        .ok(),
        "0"
    );
    let error = sh(&daemon, "--cpuset-cpus 4000", "true").fails(125);
    assert!(error.contains("4000"), "{error}");
    daemon.assert_nothing_remains();
}

#[test]
fn ulimits_are_set_in_the_container_only() {
    let daemon = daemon();
    assert_eq!(
        sh(&daemon, "--ulimit nofile=123:456", "ulimit -Sn; ulimit -Hn").ok(),
        "123\n456"
    );
    assert_eq!(sh(&daemon, "--ulimit core=0", "ulimit -c").ok(), "0");
    let error = sh(&daemon, "--ulimit nofile=456:123", "true").fails(125);
    assert!(error.contains("nofile") || error.contains("ulimit"), "{error}");
    daemon.assert_nothing_remains();
}

#[test]
fn limits_that_cannot_be_are_refused() {
    let daemon = daemon();
    for (options, word) in [
        ("--memory 1", "inimum memory limit"),
        (
            "--memory 64m --memory-swap 32m",
            "Minimum memoryswap limit should be larger",
        ),
        (
            "--memory-swap 32m",
            "You should always set the Memory limit when using Memoryswap limit",
        ),
        ("--cpus 100000", "CPUs"),
        (
            "--memory 8m --memory-reservation 16m",
            "Minimum memory limit can not be less than memory reservation limit",
        ),
        ("--oom-score-adj 2000", "oom score"),
    ] {
        let error = sh(&daemon, options, "true").fails(125);
        assert!(error.contains(word), "{options}: {error}");
    }
    daemon.assert_nothing_remains();
}

#[test]
fn the_cgroup_goes_away_with_the_container() {
    let daemon = daemon();
    let id = background(&daemon, "", WAIT);
    let directories = daemon.cgroups(&id);
    assert!(!directories.is_empty());
    daemon.docker(["rm", "-f", &id]).ok();
    assert!(
        directories.iter().all(|path| !Path::new(path).exists()),
        "{directories:?}"
    );
}

#[test]
fn the_parent_of_the_cgroup_can_be_chosen() {
    let daemon = daemon();
    let parent = format!("{}/special", daemon.cgroup_parent());
    let id = background(&daemon, ["--cgroup-parent", &parent], WAIT);
    let directories = daemon.cgroups(&id);
    assert!(!directories.is_empty());
    assert!(
        directories
            .iter()
            .all(|path| path.parent().unwrap().ends_with("special")),
        "{directories:?}"
    );
    daemon.docker(["rm", "-f", &id]).ok();
}

#[test]
fn stats_show_what_a_container_uses() {
    let daemon = daemon();
    background(&daemon, "--name box --memory 64m --pids-limit 50", WAIT);
    let line = daemon
        .docker([
            "stats",
            "--no-stream",
            "--format",
            "{{.Name}} {{.MemUsage}} {{.PIDs}}",
            "box",
        ])
        .ok();
    assert!(line.starts_with("box ") && line.contains("/ 64MiB"), "{line}");
    let stats = daemon
        .api()
        .get("/containers/box/stats?stream=false")
        .expect(200)
        .json();
    assert_eq!(stats["memory_stats"]["limit"], 64 << 20);
    assert!(stats["memory_stats"]["usage"].as_u64().unwrap() > 0);
    assert!(stats["cpu_stats"]["cpu_usage"]["total_usage"].as_u64().unwrap() > 0);
    assert!(stats["pids_stats"]["current"].as_u64().unwrap() >= 1);
    assert!(stats["read"].as_str().unwrap() > stats["preread"].as_str().unwrap());
}

/// A disk, or whatever the kernel takes for one.
fn block_device() -> Option<(String, String)> {
    let disks = fs::read_dir("/sys/block").ok()?.flatten();
    disks.into_iter().find_map(|disk| {
        let number = fs::read_to_string(disk.path().join("dev")).ok()?.trim().to_owned();
        let node = Path::new("/dev").join(disk.file_name());
        node.exists().then(|| (node.display().to_string(), number))
    })
}

#[test]
fn rates_of_block_devices_are_written_to_the_cgroup() {
    let daemon = daemon();
    let Some((device, number)) = block_device() else {
        return println!("skipped: this host has no block device");
    };
    let options = format!(
        "--device-read-bps {device}:1mb --device-write-bps {device}:2mb --device-read-iops {device}:300 \
         --device-write-iops {device}:400"
    );
    let id = background(&daemon, &options, WAIT);
    if is_v2(&daemon, &id) {
        if daemon.inspect(&id)["HostConfig"]["BlkioDeviceReadBps"].is_null() {
            return println!("skipped: this host has no io controller");
        }
        let expected = format!("{number} rbps=1048576 wbps=2097152 riops=300 wiops=400");
        return assert_eq!(limit(&daemon, &id, "-", "io.max"), expected);
    }
    for (file, rate) in [
        ("read_bps", "1048576"),
        ("write_bps", "2097152"),
        ("read_iops", "300"),
        ("write_iops", "400"),
    ] {
        let file = format!("blkio.throttle.{file}_device");
        assert_eq!(limit(&daemon, &id, &file, "-"), format!("{number} {rate}"));
    }
    let error = sh(&daemon, "--device-read-bps /dev/null:1mb", "true").fails(125);
    assert!(error.contains("cannot limit /dev/null: not a block device"), "{error}");
}

#[test]
fn a_weight_of_block_io_is_written_or_warned_about() {
    let daemon = daemon();
    let output = daemon.docker([
        "run",
        "-d",
        "--network",
        "none",
        "--blkio-weight",
        "300",
        "busybox",
        "sh",
        "-c",
        WAIT,
    ]);
    let warned = output.error().contains("Your kernel does not support Block I/O weight");
    let id = output.ok();
    if warned {
        return assert_eq!(daemon.inspect(&id)["HostConfig"]["BlkioWeight"], 0);
    }
    let weight = limit(&daemon, &id, "blkio.bfq.weight", "io.bfq.weight");
    assert!(weight.contains("300"), "{weight}");
    daemon.docker(["update", "--blkio-weight", "400", &id]).ok();
    let weight = limit(&daemon, &id, "blkio.bfq.weight", "io.bfq.weight");
    assert!(weight.contains("400"), "{weight}");
}

#[test]
fn ulimits_that_cannot_be_raised_say_why() {
    let daemon = daemon();
    let output = sh(&daemon, "--ulimit nofile=2000000:2000000", "ulimit -Hn");
    if output.code == 0 {
        return assert_eq!(output.ok(), "2000000");
    }
    let error = output.fails(125);
    assert!(
        error.contains("ulimit nofile") && (error.contains("CAP_SYS_RESOURCE") || error.contains("permitted")),
        "{error}"
    );
    daemon.docker("container prune -f").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn the_score_for_the_oom_killer_is_set_or_refused_never_ignored() {
    let daemon = daemon();
    assert_eq!(
        sh(&daemon, "--oom-score-adj 500", "cat /proc/self/oom_score_adj").ok(),
        "500"
    );
    let lowered = sh(&daemon, "--oom-score-adj -500", "cat /proc/self/oom_score_adj");
    match lowered.code {
        0 => assert_eq!(lowered.ok(), "-500"),
        _ => {
            let error = lowered.fails(125);
            assert!(
                error.contains("oom_score_adj to -500") && error.contains("CAP_SYS_RESOURCE"),
                "{error}"
            );
        }
    }
}

#[test]
fn sysctls_of_the_containers_namespaces_are_set_and_others_refused() {
    let daemon = daemon();
    let script = "cat /proc/sys/kernel/shmmax /proc/sys/net/ipv4/ip_forward /proc/sys/fs/mqueue/msg_max";
    let options = "--sysctl kernel.shmmax=12345 --sysctl net.ipv4.ip_forward=0 --sysctl fs.mqueue.msg_max=77";
    assert_eq!(sh(&daemon, options, script).ok(), "12345\n0\n77");
    let error = daemon
        .docker("run --rm --network host --sysctl net.ipv4.ip_forward=0 busybox true")
        .fails(125);
    assert!(
        error.contains("sysctl 'net.ipv4.ip_forward' not allowed as host network namespace is used")
            || error.contains("not allowed in host network namespace"),
        "{error}"
    );
    let body = serde_json::json!({
        "Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": "none", "Sysctls": {"vm.swappiness": "1"}},
    });
    let api = daemon.api();
    let id = api.post("/containers/create", Some(&body)).expect(201).json()["Id"]
        .as_str()
        .unwrap()
        .to_owned();
    let refused = api.post(&format!("/containers/{id}/start"), None);
    assert!(
        refused
            .text()
            .contains("sysctl \\\"vm.swappiness\\\" is not in a separate kernel namespace"),
        "{}",
        refused.text()
    );
}

#[test]
fn low_ports_and_pings_need_no_privileges() {
    let daemon = daemon();
    let script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range";
    assert_eq!(sh(&daemon, "--user 1000", script).ok(), "0\n0\t2147483647");
    let own = "--sysctl net.ipv4.ip_unprivileged_port_start=1024";
    assert!(sh(&daemon, own, script).ok().starts_with("1024\n"));
}

#[test]
fn shared_memory_has_the_size_asked_for() {
    let daemon = daemon();
    let script = "df -k /dev/shm | tail -1 | awk '{print $2}'";
    assert_eq!(sh(&daemon, "--shm-size 8m", script).ok(), "8192");
    assert_eq!(sh(&daemon, "", script).ok(), "65536");
}

#[test]
fn the_cgroup_namespace_is_the_containers_or_the_hosts() {
    let daemon = daemon();
    let look = |mode: &str| sh(&daemon, ["--cgroupns", mode], "cat /proc/self/cgroup").ok();
    let inside = look("private");
    assert!(
        inside.lines().all(|line| !line.contains(daemon.cgroup_parent())),
        "{inside}"
    );
    let outside = look("host");
    assert!(outside.contains(daemon.cgroup_parent()), "{outside}");
}

#[test]
fn real_time_needs_a_share_that_the_daemon_was_given() {
    let share = setup()
        .arguments("--cpu-rt-period 1000000 --cpu-rt-runtime 50000")
        .start();
    share.load(&image::busybox());
    let options = "--cpu-rt-period 1000000 --cpu-rt-runtime 20000 --ulimit rtprio=0";
    let output = sh(&share, options, "true");
    let error = output.error();
    if error.contains("kernel does not support CPU real-time scheduler") {
        return println!("skipped: {error}");
    }
    let id = background(&share, "--cpu-rt-runtime 20000", WAIT);
    assert_eq!(limit(&share, &id, "cpu.rt_runtime_us", "-"), "20000");
    let daemon = daemon();
    let error = sh(&daemon, "--cpu-rt-runtime 20000", "true").fails(125);
    assert!(error.contains("--cpu-rt-runtime"), "{error}");
    let error = sh(&daemon, "--cpu-rt-period 1000 --cpu-rt-runtime 2000", "true").fails(125);
    assert!(
        error.contains("cpu real-time runtime cannot be higher than cpu real-time period"),
        "{error}"
    );
}

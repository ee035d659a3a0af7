//! Limits: written where the kernel looks, and effective.
use std::{fs, path::Path};

use corten_testkit::daemon::Daemon;

use crate::{WAIT, background, daemon, sh};

/// A cgroup file of a container, by its name in v1 or in v2.
#[track_caller]
fn limit(daemon: &Daemon, id: &str, v1: &str, v2: &str) -> String {
    let directories = daemon.cgroups(id);
    let found = directories
        .iter()
        .flat_map(|path| [path.join(v1), path.join(v2)])
        .find(|path| path.is_file());
    let path = found.unwrap_or_else(|| panic!("neither {v1} nor {v2} in {directories:?}"));
    fs::read_to_string(&path).unwrap().trim().to_owned()
}

fn is_v2(daemon: &Daemon, id: &str) -> bool {
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

//! `stats` and `top`: what `docker stats` shows is right, once and as it changes, however many watch.
use std::{fs, path::Path, time::Duration};

use corten_testkit::{daemon::Daemon, follower::Follower, wait::wait_until};
use serde_json::Value;

use crate::{WAIT, background, daemon, run_limits::is_v2, sh};

fn stats(daemon: &Daemon, name: &str, query: &str) -> Value {
    let path = format!("/containers/{name}/stats?{query}");
    daemon.api().get(&path).expect(200).json()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// Percent of one processor, as docker's client works it out.
fn processor_share(stats: &Value) -> f64 {
    let of = |part: &str| {
        let cpu = &stats[part];
        (
            number(&cpu["cpu_usage"]["total_usage"]),
            number(&cpu["system_cpu_usage"]),
        )
    };
    let ((own, all), (own_before, all_before)) = (of("cpu_stats"), of("precpu_stats"));
    let cpus = number(&stats["cpu_stats"]["online_cpus"]) as f64;
    (own - own_before) as f64 / (all - all_before) as f64 * cpus * 100.0
}

#[test]
fn a_quota_shows_in_the_share_of_processor_time() {
    let daemon = daemon();
    background(&daemon, "--name busy --cpus 0.2", "while :; do :; done");
    background(&daemon, "--name idle", "sleep 1000");
    // The kernel gives it at most 20 percent of every tenth of a second. Other tests may keep it from them for a while, so
    // that the shares of two tenths fall into one.
    let share = processor_share(&stats(&daemon, "busy", "stream=false"));
    assert!((1.0..60.0).contains(&share), "{share}");
    let idle = processor_share(&stats(&daemon, "idle", "stream=false"));
    assert!(idle < 1.0, "{idle}");
    let format = "{{.Name}} {{.CPUPerc}}";
    let lines = daemon.docker(["stats", "--no-stream", "--format", format]).ok();
    let shown = lines.lines().find_map(|line| line.strip_prefix("busy "));
    let shown: f64 = shown.unwrap().trim_end_matches('%').parse().unwrap();
    assert!((1.0..60.0).contains(&shown), "{lines}");
}

#[test]
fn memory_is_without_the_page_cache_that_could_be_given_back() {
    let daemon = daemon();
    // Holds 20 MiB of its own, and has written a file of 30 MiB.
    let script = "dd if=/dev/zero of=/file bs=1M count=30 2>/dev/null; \
                  head -c 20m /dev/zero | tail -c 20m | { sleep 1000; cat; }";
    let id = background(&daemon, "--name box --memory 200m", script);
    wait_until("it holds its memory", || {
        let memory = &stats(&daemon, "box", "stream=0&one-shot=1")["memory_stats"];
        number(&memory["usage"]) > 45 << 20
    });
    let memory = &stats(&daemon, "box", "stream=false")["memory_stats"];
    assert_eq!(number(&memory["limit"]), 200 << 20);
    let name = if is_v2(&daemon, &id) {
        "inactive_file"
    } else {
        "total_inactive_file"
    };
    assert!(number(&memory["stats"][name]) > 10 << 20, "{memory}");
    let shown = daemon.docker("stats --no-stream --format {{.MemUsage}} box").ok();
    let used: f64 = shown.split("MiB").next().unwrap().parse().unwrap();
    assert!((18.0..45.0).contains(&used), "{shown}");
    assert!(shown.ends_with("/ 200MiB"), "{shown}");
    let own = daemon.corten("stats --no-stream --format {{.MemUsage}} box").ok();
    assert!(own.ends_with("/ 200MiB"), "{own}");
}

#[test]
fn without_a_limit_the_hosts_memory_is_the_limit() {
    let daemon = daemon();
    background(&daemon, "--name box", WAIT);
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
    let total: u64 = total.trim().trim_end_matches(" kB").parse().unwrap();
    let memory = &stats(&daemon, "box", "stream=false")["memory_stats"];
    assert_eq!(number(&memory["limit"]), total << 10);
}

#[test]
fn block_io_and_processes_are_counted() {
    let daemon = daemon();
    // Not by way of the page cache: what the kernel writes back by itself is nobody's on cgroup v1.
    let script = "dd if=/dev/zero of=/file bs=1M count=8 oflag=direct 2>/dev/null; sleep 1000 & sleep 1000 & wait";
    background(&daemon, "--name box --pids-limit 30", script);
    wait_until("three processes live", || {
        number(&stats(&daemon, "box", "stream=0&one-shot=1")["pids_stats"]["current"]) == 3
    });
    let seen = stats(&daemon, "box", "stream=false");
    assert_eq!(number(&seen["pids_stats"]["limit"]), 30);
    let entries = seen["blkio_stats"]["io_service_bytes_recursive"].as_array().unwrap();
    let written = entries
        .iter()
        .filter(|entry| entry["op"].as_str().unwrap().eq_ignore_ascii_case("write"));
    let written: u64 = written.map(|entry| number(&entry["value"])).sum();
    // A file system in memory has no device.
    if Path::new("/sys/block")
        .read_dir()
        .is_ok_and(|mut disks| disks.next().is_some())
        && !entries.is_empty()
    {
        assert!(written >= 8 << 20, "{entries:?}");
    }
}

#[test]
fn every_interface_is_counted_and_the_hosts_are_not() {
    let daemon = daemon();
    daemon.docker("network create side").ok();
    daemon
        .docker(["run", "-d", "--name", "box", "busybox", "sh", "-c", WAIT])
        .ok();
    daemon.docker("network connect side box").ok();
    let networks = &stats(&daemon, "box", "stream=false")["networks"];
    let names: Vec<_> = networks.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["eth0", "eth1"]);
    daemon
        .docker([
            "run",
            "-d",
            "--name",
            "open",
            "--network",
            "host",
            "busybox",
            "sh",
            "-c",
            WAIT,
        ])
        .ok();
    assert_eq!(stats(&daemon, "open", "stream=false").get("networks"), None);
}

#[test]
fn a_container_that_does_not_run_uses_nothing() {
    let daemon = daemon();
    daemon.docker("create --name box --network none busybox true").ok();
    for query in ["stream=false", "stream=false&one-shot=true"] {
        let seen = stats(&daemon, "box", query);
        assert_eq!(seen["read"], "0001-01-01T00:00:00Z");
        assert_eq!(
            (number(&seen["pids_stats"]["current"]), &seen["name"]),
            (0, &"/box".into())
        );
    }
    let line = daemon
        .docker("stats --no-stream -a --format {{.Name}}:{{.CPUPerc}}:{{.PIDs}}")
        .ok();
    assert_eq!(line, "box:0.00%:0");
    assert_eq!(
        daemon
            .corten("stats --no-stream -a --format {{.Name}}:{{.CPUPerc}}:{{.PIDs}}")
            .ok(),
        line
    );
    assert_eq!(daemon.corten("stats --no-stream --format {{.Name}}").ok(), "");
    let error = daemon.corten("stats --no-stream none").fails(1);
    assert!(error.contains("No such container: none"), "{error}");
}

#[test]
fn one_shot_takes_one_sample_and_others_two() {
    let daemon = daemon();
    background(&daemon, "--name box", WAIT);
    let once = stats(&daemon, "box", "stream=false&one-shot=true");
    assert_eq!(once["preread"], "0001-01-01T00:00:00Z");
    assert_eq!(number(&once["precpu_stats"]["cpu_usage"]["total_usage"]), 0);
    let twice = stats(&daemon, "box", "stream=false");
    assert!(twice["read"].as_str() > twice["preread"].as_str());
    assert!(number(&twice["precpu_stats"]["system_cpu_usage"]) > 0);
    // Clients before 1.41 do not know of one sample.
    let path = "/v1.40/containers/box/stats?stream=false&one-shot=true";
    let old = daemon.api().get(path).expect(200).json();
    assert_ne!(old["preread"], "0001-01-01T00:00:00Z");
}

#[test]
fn a_stream_goes_on_over_stop_and_start_and_ends_with_the_container() {
    let daemon = daemon();
    background(&daemon, "--name box", WAIT);
    let mut connection = daemon.api().open();
    connection.send("GET", "/containers/box/stats", None);
    assert_eq!(connection.head().status, 200);
    let mut next = || -> Value { serde_json::from_slice(&connection.chunk()).unwrap_or_default() };
    let (first, second) = (next(), next());
    assert!(number(&first["memory_stats"]["usage"]) > 0);
    assert_eq!(second["preread"], first["read"]);
    daemon.docker("stop box").ok();
    while next()["read"] != "0001-01-01T00:00:00Z" {}
    daemon.docker("start box").ok();
    while number(&next()["pids_stats"]["current"]) == 0 {}
    daemon.docker("rm -f box").ok();
    // The end of the stream is an empty chunk.
    while next() != Value::Null {}
}

#[test]
fn watchers_come_and_go_and_leave_nothing_behind() {
    let daemon = daemon();
    for name in ["one", "two", "three"] {
        background(&daemon, ["--name", name], WAIT);
    }
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    let before = descriptors();
    let mut watchers = Vec::new();
    for round in 0..30 {
        let mut connection = daemon.api().open();
        let path = match round % 3 {
            0 => "/containers/one/stats",
            1 => "/containers/two/stats?stream=1",
            _ => "/corten/stats?stream=1",
        };
        connection.send("GET", path, None);
        assert_eq!(connection.head().status, 200);
        assert!(!connection.chunk().is_empty());
        watchers.push(connection);
    }
    drop(watchers);
    wait_until("their descriptors are closed", || descriptors() <= before + 2);
}

#[test]
fn one_answer_has_the_figures_of_all() {
    let daemon = daemon();
    for name in ["one", "two"] {
        background(&daemon, ["--name", name], WAIT);
    }
    daemon.docker("create --name rest --network none busybox true").ok();
    let names = |path: &str| -> Vec<String> {
        let list = daemon.api().get(path).expect(200).json();
        let names = list
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned());
        names.collect()
    };
    assert_eq!(names("/corten/stats"), ["/two", "/one"]);
    assert_eq!(names("/corten/stats?all=1"), ["/rest", "/two", "/one"]);
    assert_eq!(names("/corten/stats?container=one&container=rest"), ["/one", "/rest"]);
    assert_eq!(daemon.api().get("/corten/stats?container=none").status, 404);
    let mut connection = daemon.api().open();
    connection.send("GET", "/corten/stats?stream=1", None);
    connection.head();
    let mut next = || -> Vec<Value> { serde_json::from_slice(&connection.chunk()).unwrap() };
    assert_eq!(next().len(), 2);
    background(&daemon, "--name three", WAIT);
    while next().len() != 3 {}
    daemon.docker("rm -f one two").ok();
    while next().len() != 1 {}
}

#[test]
fn docker_stats_shows_containers_that_come_and_go() {
    let daemon = daemon();
    background(&daemon, "--name first", WAIT);
    let mut follower = Follower::run(&mut daemon.docker_command(["stats", "--format", "{{.Name}}={{.PIDs}}"]));
    let mut until = |what: &str| {
        for _ in 0..2000 {
            if follower.line().contains(what) {
                return;
            }
        }
        panic!("{what} is never shown");
    };
    until("first=");
    background(&daemon, "--name second", WAIT);
    until("second=");
    daemon.docker("rm -f first").ok();
    until("second=");
}

#[test]
fn our_own_stats_go_on_until_they_are_stopped() {
    let daemon = daemon();
    background(&daemon, "--name box", WAIT);
    let mut follower = Follower::run(&mut daemon.corten_command(["stats", "--format", "{{.Name}}={{.PIDs}}"]));
    for _ in 0..3 {
        while !follower.line().contains("box=") {}
    }
    follower.signal(rustix::process::Signal::INT);
    follower.wait();
}

#[test]
fn top_shows_every_process_in_the_columns_asked_for() {
    let daemon = daemon();
    let script = "for i in 1 2 3 4 5 6 7 8; do sleep 1234 & done; wait";
    background(&daemon, "--name box", script);
    let count = |output: &str| output.matches("sleep 1234").count();
    wait_until("all processes are there", || {
        // The shell has them in its script.
        count(&daemon.docker("top box").text()) == 9
    });
    let usual = daemon.docker("top box").ok();
    assert!(usual.starts_with("UID"), "{usual}");
    let titles: Vec<_> = usual.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(titles, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    let other = daemon.docker("top box -eo pid,ppid,args");
    if other.error().contains("must be installed") {
        return println!("skipped: this host has no ps");
    }
    let other = other.ok();
    assert_eq!(
        other.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["PID", "PPID", "COMMAND"]
    );
    // The shell of the container, with its script in its arguments, and eight that sleep.
    assert_eq!(other.lines().skip(1).count(), 9, "{other}");
    assert_eq!(daemon.corten("top box -eo pid,ppid,args").ok().lines().count(), 10);
    let error = daemon.docker("top box -o args").fails(1);
    assert!(error.contains("Couldn't find PID field in ps output"), "{error}");
    daemon.docker("create --name rest --network none busybox true").ok();
    assert!(daemon.docker("top rest").fails(1).contains("is not running"));
    assert_eq!(sh(&daemon, "", "true").code, 0);
}

#[test]
fn figures_are_never_kept_for_long() {
    let daemon = daemon();
    background(
        &daemon,
        "--name box",
        "sleep 1; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; sleep 1000",
    );
    let first = stats(&daemon, "box", "stream=false");
    std::thread::sleep(Duration::from_millis(300));
    let second = stats(&daemon, "box", "stream=false");
    // Compared with the reading before, not with one of its own.
    assert_eq!(second["preread"], first["read"]);
    std::thread::sleep(Duration::from_millis(2300));
    let third = stats(&daemon, "box", "stream=false");
    assert!(third["preread"].as_str() > second["read"].as_str());
}

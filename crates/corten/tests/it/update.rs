//! `update`: limits that change while a container runs, and a restart policy; all of a request, or nothing of it.
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use corten_testkit::{command, wait::wait_until};
use serde_json::json;

use crate::{
    WAIT, background, create, daemon,
    run_limits::{is_v2, limit},
    sh,
};

#[test]
fn limits_of_a_running_container_change_at_once() {
    let daemon = daemon();
    let id = background(&daemon, "--name box --memory 64m --cpus 0.5 --pids-limit 50", WAIT);
    let output = daemon.docker(
        "update --memory 96m --memory-swap 160m --memory-reservation 48m --cpus 1.5 --cpu-shares 512 --cpuset-cpus 1 \
         --pids-limit 60 box",
    );
    assert_eq!(output.ok(), "box");
    let memory = limit(&daemon, &id, "memory.limit_in_bytes", "memory.max");
    assert_eq!(memory, (96 << 20).to_string());
    let reservation = limit(&daemon, &id, "memory.soft_limit_in_bytes", "memory.low");
    assert_eq!(reservation, (48 << 20).to_string());
    assert_eq!(limit(&daemon, &id, "pids.max", "pids.max"), "60");
    assert_eq!(limit(&daemon, &id, "cpuset.cpus", "cpuset.cpus"), "1");
    if is_v2(&daemon, &id) {
        assert_eq!(limit(&daemon, &id, "-", "cpu.max"), "150000 100000");
        assert_eq!(limit(&daemon, &id, "-", "cpu.weight"), "59");
    } else {
        assert_eq!(limit(&daemon, &id, "cpu.cfs_quota_us", "-"), "150000");
        assert_eq!(limit(&daemon, &id, "cpu.shares", "-"), "512");
        let both = limit(&daemon, &id, "memory.memsw.limit_in_bytes", "-");
        assert_eq!(both, (160 << 20).to_string());
    }
    let host = &daemon.inspect("box")["HostConfig"];
    assert_eq!(
        (&host["Memory"], &host["MemorySwap"]),
        (&json!(96 << 20), &json!(160 << 20))
    );
    assert_eq!(
        (&host["NanoCpus"], &host["PidsLimit"]),
        (&json!(1_500_000_000), &json!(60))
    );
    // Lower than what is there, and without what was there.
    daemon
        .docker("update --memory 32m --memory-swap 40m --memory-reservation 16m --pids-limit -1 box")
        .ok();
    let memory = limit(&daemon, &id, "memory.limit_in_bytes", "memory.max");
    assert_eq!(memory, (32 << 20).to_string());
    assert_eq!(limit(&daemon, &id, "pids.max", "pids.max"), "max");
}

#[test]
fn what_is_updated_at_rest_holds_from_the_next_start_on() {
    let daemon = daemon();
    let id = create(&daemon, "--name box", WAIT);
    assert_eq!(
        daemon
            .corten("update -m 64m --memory-swap 64m --pids-limit 40 box")
            .ok(),
        "box"
    );
    daemon.docker("start box").ok();
    assert_eq!(
        limit(&daemon, &id, "memory.limit_in_bytes", "memory.max"),
        (64 << 20).to_string()
    );
    assert_eq!(limit(&daemon, &id, "pids.max", "pids.max"), "40");
    daemon.docker("restart -t 1 box").ok();
    assert_eq!(limit(&daemon, &id, "pids.max", "pids.max"), "40");
}

#[test]
fn a_paused_container_can_be_updated() {
    let daemon = daemon();
    let id = background(&daemon, "--name box", WAIT);
    daemon.docker("pause box").ok();
    daemon.docker("update --pids-limit 33 box").ok();
    assert_eq!(limit(&daemon, &id, "pids.max", "pids.max"), "33");
    assert_eq!(daemon.status("box"), "paused");
}

#[test]
fn contradictions_are_refused_in_dockers_words() {
    let daemon = daemon();
    let id = background(&daemon, "--name box --memory 64m --cpus 0.5", WAIT);
    let refused = |body: serde_json::Value, status: u16| {
        let answer = daemon.api().post("/containers/box/update", Some(&body));
        answer.expect(status).message()
    };
    assert_eq!(
        refused(json!({"Memory": 256 << 20}), 409),
        format!(
            "Cannot update container {id}: Memory limit should be smaller than already set memoryswap limit, update the \
             memoryswap at the same time"
        )
    );
    assert_eq!(
        refused(json!({"CpuQuota": 50_000}), 409),
        format!(
            "Cannot update container {id}: Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been \
             set"
        )
    );
    assert_eq!(
        refused(json!({"Memory": 4096}), 400),
        "Minimum memory limit allowed is 6MB"
    );
    let unknown = refused(json!({"RestartPolicy": {"Name": "sometimes"}}), 400);
    assert!(
        unknown.starts_with("invalid restart policy: unknown policy 'sometimes'"),
        "{unknown}"
    );
    let cpus = refused(json!({"CpusetCpus": "0,4000"}), 400);
    assert!(
        cpus.starts_with("Requested CPUs are not available - requested 0,4000, available: 0"),
        "{cpus}"
    );
    let missing = daemon
        .api()
        .post("/containers/none/update", Some(&json!({"PidsLimit": 5})));
    assert_eq!(missing.expect(404).message(), "No such container: none");
    assert!(daemon.docker("update box").fails(1).contains("one or more flags"));
    assert!(
        daemon
            .corten("update box")
            .fails(1)
            .contains("you must provide one or more flags")
    );
    assert_eq!(daemon.inspect("box")["HostConfig"]["Memory"], 64 << 20);
}

/// Of v1 alone: there a limit below what is in use is refused, where v2 kills.
#[test]
fn a_limit_that_the_kernel_refuses_takes_the_others_back() {
    let daemon = daemon();
    let script = "head -c 40m /dev/zero | tail -c 40m | { sleep 1000; cat; }";
    let id = background(
        &daemon,
        "--name box --memory 100m --memory-swap 100m --pids-limit 50",
        script,
    );
    if is_v2(&daemon, &id) {
        return println!("skipped: this host has cgroup v2");
    }
    let used = || {
        limit(&daemon, &id, "memory.usage_in_bytes", "-")
            .parse::<u64>()
            .unwrap()
    };
    wait_until("the container holds its memory", || used() > 35 << 20);
    let output =
        daemon.docker("update --memory 8m --memory-swap 8m --cpu-shares 77 --cpuset-cpus 1 --pids-limit 7 box");
    let error = output.fails(1);
    assert!(
        error.contains("Cannot update container") && error.contains("memory limit") && error.contains("busy"),
        "{error}"
    );
    assert_eq!(
        limit(&daemon, &id, "memory.limit_in_bytes", "-"),
        (100 << 20).to_string()
    );
    assert_eq!(
        limit(&daemon, &id, "memory.memsw.limit_in_bytes", "-"),
        (100 << 20).to_string()
    );
    assert_eq!(limit(&daemon, &id, "cpu.shares", "-"), "1024");
    assert_eq!(limit(&daemon, &id, "pids.max", "-"), "50");
    let cpus = limit(&daemon, &id, "cpuset.cpus", "-");
    assert_ne!(cpus, "1");
    let host = &daemon.inspect("box")["HostConfig"];
    assert_eq!((&host["Memory"], &host["PidsLimit"]), (&json!(100 << 20), &json!(50)));
    assert_eq!((&host["CpuShares"], &host["CpusetCpus"]), (&json!(0), &json!("")));
}

#[test]
fn a_restart_policy_is_written_down_and_an_event_tells_of_it() {
    let daemon = daemon();
    background(&daemon, "--name box", WAIT);
    daemon.docker("update --restart on-failure:4 box").ok();
    let policy = daemon.inspect("box")["HostConfig"]["RestartPolicy"].clone();
    assert_eq!(policy, json!({"Name": "on-failure", "MaximumRetryCount": 4}));
    let until = (std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 1).to_string();
    let format = "{{.Action}} {{.Actor.Attributes.name}}";
    let mut words = vec!["events", "--since", "0", "--until", &until];
    words.extend(["--filter", "event=update", "--format", format]);
    let events = daemon.docker(words.as_slice());
    assert_eq!(events.ok(), "update box");
    background(&daemon, "--rm --name gone", WAIT);
    let error = daemon.docker("update --restart always gone").fails(1);
    assert!(
        error.contains("Restart policy cannot be updated because AutoRemove is enabled"),
        "{error}"
    );
}

#[test]
fn older_clients_are_heard_as_they_were() {
    let daemon = daemon();
    let id = background(&daemon, "--name box --pids-limit 50", WAIT);
    let update = |path: &str, body: serde_json::Value| {
        let answer = daemon.api().post(&format!("{path}/containers/box/update"), Some(&body));
        answer.expect(200).json()
    };
    assert_eq!(
        update("/v1.39", json!({"PidsLimit": 5, "CpuShares": 300})),
        json!({"Warnings": null})
    );
    assert_eq!(limit(&daemon, &id, "pids.max", "pids.max"), "50");
    let warnings = update("/v1.41", json!({"KernelMemory": 8 << 20, "PidsLimit": 0}));
    assert!(
        warnings["Warnings"][0]
            .as_str()
            .unwrap()
            .starts_with("Your kernel does not support kernel memory limit"),
        "{warnings}"
    );
    assert_eq!(limit(&daemon, &id, "pids.max", "pids.max"), "max");
    assert_eq!(update("", json!({"KernelMemory": 8 << 20})), json!({"Warnings": null}));
    // Not yet known to any version that is served: devices keep their limits.
    update(
        "",
        json!({"BlkioDeviceReadBps": [{"Path": "/dev/none-such", "Rate": 1}], "PidsLimit": 44}),
    );
    assert_eq!(limit(&daemon, &id, "pids.max", "pids.max"), "44");
}

/// The instant between record and cgroup, made by hand: the daemon is dead, the record is ahead.
#[test]
fn an_update_that_a_daemon_died_in_is_finished_by_the_next() {
    let mut daemon = daemon();
    let id = background(&daemon, "--name box --memory 64m --pids-limit 50", WAIT);
    daemon.kill();
    let script = r#"
import json, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
for table, in database.execute("select name from sqlite_master where type = 'table'").fetchall():
    columns = [row[1] for row in database.execute(f"pragma table_info({table})")]
    for column in columns:
        for text, in database.execute(f"select {column} from {table}").fetchall():
            if isinstance(text, str) and text.startswith('{"record"'):
                document = json.loads(text)
                host = document["record"]["host_config"]
                document["state"]["former_limits"] = dict(host)
                host["PidsLimit"] = 77
                host["Memory"] = 96 << 20
                database.execute(f"update {table} set {column} = ? where {column} = ?", (json.dumps(document), text))
database.commit()
"#;
    let path = daemon.data_root().join("corten.db");
    let mut python = std::process::Command::new("python3");
    command::run(python.args(["-c", script]).arg(path)).ok();
    assert_eq!(limit(&daemon, &id, "pids.max", "pids.max"), "50");
    daemon.start_process();
    assert_eq!(limit(&daemon, &id, "pids.max", "pids.max"), "77");
    let memory = limit(&daemon, &id, "memory.limit_in_bytes", "memory.max");
    assert_eq!(memory, (96 << 20).to_string());
    assert_eq!(daemon.inspect("box")["HostConfig"]["PidsLimit"], 77);
    daemon.kill_and_start();
    assert_eq!(limit(&daemon, &id, "pids.max", "pids.max"), "77");
}

#[test]
fn record_and_cgroup_agree_whenever_the_daemon_is_killed() {
    let mut daemon = daemon();
    let id = background(&daemon, "--name box --pids-limit 100", WAIT);
    for round in 0..8u64 {
        let stop = AtomicBool::new(false);
        let socket = daemon.socket();
        thread::scope(|scope| {
            scope.spawn(|| {
                let body = |limit: u64| json!({"PidsLimit": limit, "CpuShares": 2 + limit}).to_string();
                for number in 0.. {
                    use std::io::{Read, Write};
                    let Ok(mut stream) = std::os::unix::net::UnixStream::connect(&socket) else { break };
                    let body = body(101 + number % 50);
                    let head = "POST /containers/box/update HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nConnection: close";
                    let _ = write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                    let _ = stream.read_to_end(&mut Vec::new());
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            thread::sleep(Duration::from_millis(20 + 7 * round));
            daemon.kill();
            stop.store(true, Ordering::Relaxed);
        });
        daemon.start_process();
        let recorded = daemon.inspect("box")["HostConfig"]["PidsLimit"].to_string();
        assert_eq!(limit(&daemon, &id, "pids.max", "pids.max"), recorded, "round {round}");
    }
}

#[test]
fn a_busy_container_feels_its_new_quota() {
    let daemon = daemon();
    // Nothing to be measured but that the kernel counts periods in which it was held back.
    let id = background(&daemon, "--name box", "while :; do :; done");
    daemon.docker("update --cpu-period 10000 --cpu-quota 2000 box").ok();
    let throttled = || {
        let text = limit(&daemon, &id, "cpu.stat", "cpu.stat");
        let line = text.lines().find_map(|line| line.strip_prefix("nr_throttled "));
        line.and_then(|count| count.parse::<u64>().ok()).unwrap_or(0)
    };
    wait_until("it was throttled", || throttled() > 3);
    assert_eq!(sh(&daemon, "", "echo others go on").ok(), "others go on");
}

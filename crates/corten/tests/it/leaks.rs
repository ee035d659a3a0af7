//! Containers that come and go leave nothing: descriptors, memory, processes, mounts, cgroups, rows, files.
//!
//! `CORTEN_TEST_CYCLES` says how often (60); 10,000 is the long run.
use std::{collections::BTreeMap, env, path::Path};

use corten_testkit::{
    daemon::{Daemon, names_in},
    process,
    wait::wait_until,
};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use crate::daemon;

/// What a daemon may keep for itself however many have come and gone: caches, and what the allocator holds back.
const KEPT_KIB: u64 = 12 * 1024;

fn cycles() -> u64 {
    let asked = env::var("CORTEN_TEST_CYCLES").ok();
    asked.map_or(60, |text| text.parse().expect("CORTEN_TEST_CYCLES is a number"))
}

/// One container's whole life, of a kind that goes with its number.
fn live(daemon: &Daemon, number: u64) {
    let api = daemon.api();
    let mut body = json!({"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"}});
    match number % 6 {
        0 => body["HostConfig"] = json!({"PortBindings": {"80/tcp": [{"HostPort": ""}]}}),
        1 => body["Volumes"] = json!({"/data": {}}),
        2 => body["HostConfig"]["Memory"] = json!(32 << 20),
        3 => body["Tty"] = json!(true),
        4 => {
            body["Cmd"] = json!(["true"]);
            body["HostConfig"]["AutoRemove"] = json!(true);
        }
        _ => {
            body["Cmd"] = json!(["false"]);
            body["HostConfig"]["RestartPolicy"] = json!({"Name": "always"});
        }
    }
    let created: Value = api.post("/containers/create", Some(&body)).expect(201).json();
    let path = format!("/containers/{}", created["Id"].as_str().unwrap());
    api.post(&format!("{path}/start"), None).expect(204);
    let removed = api.delete(&format!("{path}?force=1&v=1"));
    // `--rm` may have been faster, or be about it.
    assert!(
        removed.status == 204 || number % 6 == 4 && matches!(removed.status, 404 | 409),
        "{} {}",
        removed.status,
        removed.text()
    );
}

/// Everything that could grow, by name.
fn holdings(daemon: &Daemon) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::from([
        ("descriptors".to_owned(), process::open_files(daemon.pid())),
        ("processes".to_owned(), daemon.processes().len()),
        (
            "mounts".to_owned(),
            process::mounts_beneath(&daemon.pid().to_string(), Path::new("/")).len(),
        ),
        ("interfaces".to_owned(), daemon.network().interfaces().len()),
    ]);
    for room in ["containers", "active", "volumes", "layers"] {
        found.insert(room.to_owned(), names_in(&daemon.data_root().join(room)).len());
    }
    for room in ["tasks", ""] {
        found.insert(format!("run/{room}"), names_in(&daemon.run_root().join(room)).len());
    }
    let path = daemon.data_root().join("corten.db");
    let database = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the database opens");
    let rows = database.query_row("SELECT count(*) FROM records", [], |row| row.get::<_, u32>(0));
    found.insert("rows".to_owned(), rows.expect("the records are counted") as usize);
    found
}

fn resident_kib(pid: i32) -> u64 {
    let text = process::status_field(pid, "VmRSS").expect("it runs");
    text.trim_end_matches(" kB").parse().expect("a number of KiB")
}

#[test]
fn containers_that_come_and_go_leave_nothing() {
    let daemon = daemon();
    let cycles = cycles();
    let first = (cycles / 5).clamp(12, 600);
    (0..first).for_each(|number| live(&daemon, number));
    daemon.assert_nothing_remains();
    let (before, kept) = (holdings(&daemon), resident_kib(daemon.pid()));
    (first..cycles.max(first + 6)).for_each(|number| live(&daemon, number));
    daemon.assert_nothing_remains();
    wait_until("nothing is left of them", || {
        let now = holdings(&daemon);
        before.iter().all(|(what, count)| now[what] <= *count)
    });
    let now = resident_kib(daemon.pid());
    assert!(
        now <= kept + KEPT_KIB,
        "{kept} KiB after {first} containers, {now} KiB after {cycles}"
    );
    println!(
        "{cycles} cycles: {kept} KiB resident, then {now} KiB; {:?}",
        holdings(&daemon)
    );
}

#[test]
fn containers_that_come_and_go_at_once_leave_nothing() {
    let daemon = daemon();
    let round = || {
        std::thread::scope(|scope| {
            for worker in 0..6 {
                let daemon = &daemon;
                // Each kind at the same time as every other.
                let numbers = move |number| 6 * number + (number + worker) % 6;
                scope.spawn(move || (0..cycles() / 6).for_each(|number| live(daemon, numbers(number))));
            }
        });
        daemon.assert_nothing_remains();
    };
    // What a daemon opens for its first containers it keeps.
    round();
    let before = holdings(&daemon);
    round();
    wait_until("nothing is left of them", || {
        let now = holdings(&daemon);
        // The launcher's shims in waiting come when they can.
        let grown = before.iter().filter(|(what, count)| now[*what] > **count);
        grown.into_iter().all(|(what, _)| what == "processes")
    });
}

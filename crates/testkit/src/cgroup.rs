//! The cgroups that a daemon under test made: all beneath one parent, in every hierarchy that this host has.
use std::{
    fs,
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

use rustix::process::Signal;

use crate::process;

/// Where hierarchies are mounted on this host.
pub fn hierarchies() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mounts").expect("/proc is mounted");
    let mounts = table.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (target, kind) = (fields.nth(1)?, fields.next()?);
        matches!(kind, "cgroup" | "cgroup2").then(|| PathBuf::from(target))
    });
    mounts.collect()
}

/// Every directory of a parent (`/corten-test-1`) that exists, deepest first.
pub fn directories(parent: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for hierarchy in hierarchies() {
        collect(&hierarchy.join(parent.trim_start_matches('/')), &mut found);
    }
    found
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), found);
        }
    }
    found.push(directory.to_owned());
}

/// The processes in a directory, not those beneath it.
pub fn processes(directory: &Path) -> Vec<i32> {
    let list = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    list.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Kills what runs beneath a parent, and removes its directories.
pub fn destroy(parent: &str) {
    for _ in 0..200 {
        let directories = directories(parent);
        for directory in &directories {
            let _ = fs::write(directory.join("freezer.state"), "THAWED");
            let _ = fs::write(directory.join("cgroup.freeze"), "0");
            for pid in processes(directory) {
                process::signal(pid, Signal::KILL);
            }
            let _ = fs::remove_dir(directory);
        }
        if directories.is_empty() {
            return;
        }
        sleep(Duration::from_millis(10));
    }
    eprintln!("cgroups remain: {:?}", directories(parent));
}

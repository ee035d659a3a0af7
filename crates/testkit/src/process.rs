//! Processes of this machine, as /proc shows them.
use std::{fs, os::unix::fs::MetadataExt, path::Path};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::wait_until;

/// Every process there is.
pub fn all() -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted");
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// The inode that identifies a namespace (`net`, `mnt`, …) of a process.
pub fn namespace(pid: i32, kind: &str) -> Option<u64> {
    Some(fs::metadata(format!("/proc/{pid}/ns/{kind}")).ok()?.ino())
}

/// The processes of a network namespace.
pub fn in_network(inode: u64) -> Vec<i32> {
    all()
        .into_iter()
        .filter(|&pid| namespace(pid, "net") == Some(inode))
        .collect()
}

/// The words of a process's command line; none for a kernel thread or a zombie.
pub fn command_line(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = bytes.split(|&byte| byte == 0).filter(|word| !word.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// A field of /proc/PID/status, such as `CapEff` or `Seccomp`.
pub fn status_field(pid: i32, field: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// The parent of a process.
pub fn parent(pid: i32) -> Option<i32> {
    status_field(pid, "PPid")?.parse().ok()
}

/// Whether it runs: a zombie does not.
pub fn is_alive(pid: i32) -> bool {
    status_field(pid, "State").is_some_and(|state| !state.starts_with('Z'))
}

/// How many file descriptors a process has open.
pub fn open_files(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

pub fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

/// Kills the first process of a container while no daemon watches. Its shim has written the end down, and is gone, when
/// this returns: before that, the next daemon rightly finds a container that runs.
#[track_caller]
pub fn end_unseen(first: i32) {
    let shim = parent(first).expect("the container runs");
    signal(first, Signal::KILL);
    wait_until("its shim has written the end down", || !is_alive(shim));
}

/// The targets of a process's mounts that lie beneath a directory.
pub fn mounts_beneath(pid: &str, directory: &Path) -> Vec<String> {
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let targets = table.lines().filter_map(|line| line.split(' ').nth(4));
    targets
        .filter(|target| Path::new(target).starts_with(directory))
        .map(str::to_owned)
        .collect()
}

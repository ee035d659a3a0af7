//! Control groups against the real kernel: limits that limit, processes that stand still, nothing left behind.
//!
//! Needs root. Every test works in a directory of its own below each hierarchy's root.
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use corten_runtime::cgroup::hierarchy::{Controller, Hierarchies};
use corten_runtime::cgroup::manager::{self, Cgroup, CgroupPlan};
use corten_runtime::cgroup::plan;
use oci_spec::runtime::{LinuxDeviceType, LinuxResources};
use serde_json::json;

/// A cgroup of the test's own, emptied and removed at the end, with the parent that it is in.
struct Scratch {
    cgroup: Cgroup,
    parent: String,
    host: Hierarchies,
}

fn resources(json: serde_json::Value) -> LinuxResources {
    serde_json::from_value(json).unwrap()
}

fn path_of(name: &str) -> String {
    format!("/corten-test-{}-{name}/leaf", std::process::id())
}

fn plan_for(name: &str, limits: serde_json::Value, host: &Hierarchies) -> CgroupPlan {
    plan::compile(&path_of(name), &resources(limits), host).unwrap()
}

fn scratch(name: &str, limits: serde_json::Value) -> Scratch {
    scratch_on(name, limits, Hierarchies::detect().unwrap())
}

fn scratch_on(name: &str, limits: serde_json::Value, host: Hierarchies) -> Scratch {
    let cgroup = manager::create(&plan_for(name, limits, &host)).unwrap();
    Scratch {
        cgroup,
        parent: path_of(name).trim_end_matches("/leaf").to_owned(),
        host,
    }
}

fn mounts(host: &Hierarchies) -> impl Iterator<Item = &PathBuf> {
    host.legacy
        .iter()
        .map(|l| &l.mount)
        .chain(host.unified.iter().map(|u| &u.mount))
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = self.cgroup.kill_all();
        self.cgroup.delete().unwrap();
        for mount in mounts(&self.host) {
            let _ = std::fs::remove_dir(mount.join(self.parent.trim_start_matches('/')));
        }
    }
}

impl Scratch {
    fn file(&self, controller: Controller, file: &str) -> PathBuf {
        let record = self.cgroup.record();
        let legacy = record
            .legacy
            .iter()
            .find(|(n, _)| n.split(',').any(|n| n == controller.legacy_name()));
        let directory = legacy.map(|(_, path)| path.clone()).or(record.unified).unwrap();
        Path::new(&directory).join(file)
    }

    fn read(&self, controller: Controller, file: &str) -> String {
        std::fs::read_to_string(self.file(controller, file))
            .unwrap()
            .trim()
            .to_owned()
    }

    /// A shell in the cgroup. It starts on `script` only once it is inside.
    fn shell(&self, script: &str) -> Child {
        let mut child = Command::new("sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.cgroup.enter(child.id() as i32).unwrap();
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        child
    }
}

fn has(host: &Hierarchies, controller: Controller) -> bool {
    let there = host.place(controller).is_some();
    if !there {
        eprintln!("skipped: this host has no {} controller", controller.name());
    }
    there
}

fn is_v1(host: &Hierarchies, controller: Controller) -> bool {
    matches!(
        host.place(controller),
        Some(corten_runtime::cgroup::hierarchy::Place::Legacy(_))
    )
}

#[test]
fn limits_are_what_was_asked_for_and_nothing_is_left_behind() {
    let host = Hierarchies::detect().unwrap();
    if ![
        Controller::Memory,
        Controller::Cpu,
        Controller::Pids,
        Controller::Cpuset,
    ]
    .iter()
    .all(|c| has(&host, *c))
    {
        return;
    }
    let limits = json!({
        "memory": { "limit": 64 << 20, "swap": 64 << 20, "reservation": 32 << 20 },
        "cpu": { "shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0" },
        "pids": { "limit": 20 },
    });
    let scratch = scratch("limits", limits);
    let expected = if is_v1(&host, Controller::Memory) {
        [
            ("memory.limit_in_bytes", "67108864"),
            ("memory.memsw.limit_in_bytes", "67108864"),
        ]
    } else {
        [("memory.max", "67108864"), ("memory.swap.max", "0")]
    };
    for (file, value) in expected {
        assert_eq!(scratch.read(Controller::Memory, file), value, "{file}");
    }
    if is_v1(&host, Controller::Cpu) {
        assert_eq!(scratch.read(Controller::Cpu, "cpu.shares"), "512");
        assert_eq!(scratch.read(Controller::Cpu, "cpu.cfs_quota_us"), "50000");
    } else {
        assert_eq!(scratch.read(Controller::Cpu, "cpu.weight"), "59");
        assert_eq!(scratch.read(Controller::Cpu, "cpu.max"), "50000 100000");
    }
    assert_eq!(scratch.read(Controller::Pids, "pids.max"), "20");
    assert_eq!(scratch.read(Controller::Cpuset, "cpuset.cpus"), "0");

    let child = scratch.shell("sleep 1000");
    let pids = scratch.cgroup.pids().unwrap();
    assert!(pids.contains(&(child.id() as i32)), "{pids:?}");
    let record = scratch.cgroup.record();
    drop(scratch);
    assert!(!child.wait_with_output().unwrap().status.success());
    for path in record.legacy.iter().map(|(_, path)| path).chain(&record.unified) {
        assert!(!Path::new(path).parent().unwrap().exists(), "{path}");
    }
}

#[test]
fn a_process_that_takes_too_much_memory_is_killed_and_counted() {
    let host = Hierarchies::detect().unwrap();
    if !has(&host, Controller::Memory) {
        return;
    }
    let scratch = scratch("oom", json!({ "memory": { "limit": 16 << 20, "swap": 16 << 20 } }));
    assert_eq!(scratch.cgroup.oom_kills().unwrap(), 0);
    // tail keeps its last line, and zeroes have no end of line. The kernel may kill the shell as well.
    scratch
        .shell("head -c 100000000 /dev/zero | tail >/dev/null")
        .wait_with_output()
        .unwrap();
    assert!(scratch.cgroup.oom_kills().unwrap() >= 1);
    let memory = scratch.cgroup.stats().unwrap().memory.unwrap();
    assert_eq!(memory.limit_bytes, Some(16 << 20));
    assert!(memory.stat.len() > 10);
}

#[test]
fn no_more_processes_than_the_limit() {
    let host = Hierarchies::detect().unwrap();
    if !has(&host, Controller::Pids) {
        return;
    }
    let scratch = scratch("pids", json!({ "pids": { "limit": 4 } }));
    let mut child =
        scratch.shell("for i in 1 2 3 4 5 6; do sleep 1000 </dev/null >/dev/null & done; echo all; sleep 1000");
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "", "the shell gives up at the first refused fork");
    assert!(!child.wait().unwrap().success());
    assert_eq!(scratch.cgroup.pids().unwrap().len(), 3, "the shell was the fourth");
    assert_eq!(scratch.cgroup.stats().unwrap().pids.unwrap().limit, Some(4));
}

#[test]
fn only_listed_devices_can_be_opened() {
    let scratch = scratch("devices", device_rules());
    check_devices(&scratch);
}

fn device_rules() -> serde_json::Value {
    assert_eq!(serde_json::to_value(LinuxDeviceType::C).unwrap(), json!("c"));
    json!({ "devices": [
        { "allow": false, "type": "a", "access": "rwm" },
        { "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm" },
        { "allow": true, "type": "c", "major": 1, "minor": 5, "access": "r" },
    ]})
}

fn check_devices(scratch: &Scratch) {
    let script = "try() { if eval \"$1\" 2>/dev/null; then echo yes; else echo no; fi; }
        try 'true </dev/zero'; try 'true >/dev/zero'; try 'true >/dev/null'; try 'true </dev/full'";
    // `:` is special: a redirection that fails ends the shell. `true` is not.
    let output = scratch.shell(script).wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout)
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["yes", "no", "yes", "no"]
    );
}

#[test]
fn a_frozen_container_uses_no_time_and_a_thawed_one_does() {
    check_freezing(&scratch("freeze", json!({})));
}

fn check_freezing(scratch: &Scratch) {
    let mut child = scratch.shell("echo on; while :; do :; done");
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let used = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let fields: Vec<_> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .map(String::from)
            .collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    assert!(!scratch.cgroup.is_frozen().unwrap());
    scratch.cgroup.freeze().unwrap();
    assert!(scratch.cgroup.is_frozen().unwrap());
    // The last bit of time before is accounted a little after.
    std::thread::sleep(Duration::from_millis(100));
    let before = used();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(used(), before);
    scratch.cgroup.thaw().unwrap();
    assert!(!scratch.cgroup.is_frozen().unwrap());
    while used() == before {
        std::thread::sleep(Duration::from_millis(5));
    }
    scratch.cgroup.freeze().unwrap();
    scratch.cgroup.kill_all().unwrap();
    assert!(!child.wait().unwrap().success(), "killed although frozen");
    scratch.cgroup.thaw().unwrap();
}

#[test]
fn everything_dies_even_what_forks_all_the_time() {
    check_killing(&scratch("kill", json!({})));
}

fn check_killing(scratch: &Scratch) {
    let script = "f() { while :; do (sleep 0.01) </dev/null >/dev/null & done; }; f & f & echo on; wait";
    let mut child = scratch.shell(script);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    std::thread::sleep(Duration::from_millis(30));
    scratch.cgroup.kill_all().unwrap();
    assert!(!child.wait().unwrap().success());
    scratch.cgroup.delete().unwrap();
    assert!(scratch.cgroup.pids().unwrap().is_empty());
    assert_eq!(scratch.cgroup.oom_kills().unwrap(), 0, "gone is no error");
    assert_eq!(scratch.cgroup.stats().unwrap(), Default::default());
}

#[test]
fn a_refused_limit_is_named_and_undone() {
    let host = Hierarchies::detect().unwrap();
    if !has(&host, Controller::Pids) {
        return;
    }
    let plan = plan_for("refused", json!({ "pids": { "limit": 1_000_000_000_000i64 } }), &host);
    let error = manager::create(&plan).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot set the pids limit to \"1000000000000\""),
        "{error}"
    );
    let parent = path_of("refused")
        .trim_end_matches("/leaf")
        .trim_start_matches('/')
        .to_owned();
    for mount in mounts(&host) {
        assert!(!mount.join(&parent).exists(), "{}", mount.display());
    }
}

#[test]
fn a_leftover_is_replaced_unless_somebody_lives_in_it() {
    let scratch = scratch("leftover", json!({}));
    let plan = plan_for("leftover", json!({}), &scratch.host);
    let inner = scratch.file(Controller::Freezer, "inner");
    std::fs::create_dir(&inner).unwrap();
    manager::create(&plan).unwrap();
    assert!(!inner.exists());
    let mut child = scratch.shell("sleep 1000");
    let error = manager::create(&plan).unwrap_err().to_string();
    assert!(error.ends_with("is in use by processes that are not ours"), "{error}");
    scratch.cgroup.kill_all().unwrap();
    child.wait().unwrap();
}

#[test]
fn cgroups_that_the_container_made_are_seen_killed_and_removed() {
    let scratch = scratch("nested", json!({}));
    let inner = scratch.file(Controller::Freezer, "a/b");
    std::fs::create_dir_all(&inner).unwrap();
    let mut child = scratch.shell("exec sleep 1000");
    std::fs::write(inner.join("cgroup.procs"), child.id().to_string()).unwrap();
    assert_eq!(scratch.cgroup.pids().unwrap(), [child.id() as i32]);
    let again = Cgroup::open(&scratch.cgroup.record()).unwrap();
    again.kill_all().unwrap();
    child.wait().unwrap();
    again.delete().unwrap();
    assert!(!inner.exists());
}

#[test]
fn limits_can_be_raised_and_lowered_while_it_runs() {
    let host = Hierarchies::detect().unwrap();
    if !has(&host, Controller::Memory) || !has(&host, Controller::Cpu) {
        return;
    }
    let scratch = scratch("update", json!({ "memory": { "limit": 64 << 20, "swap": 64 << 20 } }));
    for size in [256u64 << 20, 32 << 20] {
        let limits = json!({ "memory": { "limit": size, "swap": size }, "cpu": { "quota": 20_000, "period": 40_000 } });
        scratch
            .cgroup
            .update(&LinuxResources::default(), &resources(limits))
            .unwrap();
        assert_eq!(scratch.cgroup.stats().unwrap().memory.unwrap().limit_bytes, Some(size));
    }
    let unlimited = json!({ "memory": { "limit": -1, "swap": -1 }, "cpu": { "quota": -1 } });
    scratch
        .cgroup
        .update(&LinuxResources::default(), &resources(unlimited))
        .unwrap();
    assert_eq!(scratch.cgroup.stats().unwrap().memory.unwrap().limit_bytes, None);
}

#[test]
fn an_update_that_the_kernel_refuses_changes_nothing() {
    let host = Hierarchies::detect().unwrap();
    if !has(&host, Controller::Memory) || !has(&host, Controller::Io) {
        return;
    }
    let before = json!({ "memory": { "limit": 64 << 20, "swap": 64 << 20 } });
    let scratch = scratch("refusal", before);
    // No such device: the kernel only says so when the memory has been changed.
    let rate = json!([{ "major": 251, "minor": 77, "rate": 1000 }]);
    let after = json!({
        "memory": { "limit": 128 << 20, "swap": 128 << 20 }, "blockIO": { "throttleReadBpsDevice": rate },
    });
    let refused = scratch.cgroup.update(&LinuxResources::default(), &resources(after));
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("rate"), "{error}");
    assert_eq!(
        scratch.cgroup.stats().unwrap().memory.unwrap().limit_bytes,
        Some(64 << 20)
    );
}

#[test]
fn figures_of_a_running_container() {
    let scratch = scratch("figures", json!({}));
    let mut child = scratch.shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 1000 & echo done; wait");
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let stats = scratch.cgroup.stats().unwrap();
    if has(&scratch.host, Controller::Cpuacct) {
        assert!(stats.cpu.unwrap().total_nanoseconds > 0);
    }
    if has(&scratch.host, Controller::Memory) {
        assert!(stats.memory.unwrap().usage_bytes > 0);
    }
    if has(&scratch.host, Controller::Pids) {
        assert_eq!(stats.pids.unwrap().current, 2, "the shell and its sleep");
    }
    scratch.cgroup.kill_all().unwrap();
    child.wait().unwrap();
}

/// A thread of its own, so that the mount namespace is the thread's own.
fn on_bare_v2(test: impl FnOnce(Hierarchies) + Send + 'static) {
    let run = move || {
        let mount = |arguments: &[&str]| assert!(Command::new("mount").args(arguments).status().unwrap().success());
        // SAFETY: only the mount namespace changes; the thread keeps sharing memory and descriptors.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
        mount(&["--make-rprivate", "/"]);
        if !Hierarchies::detect().unwrap().is_pure_v2() {
            mount(&["-t", "cgroup2", "none", "/sys/fs/cgroup"]);
        }
        test(Hierarchies::detect().unwrap());
    };
    std::thread::spawn(run).join().unwrap();
}

#[test]
fn v2_alone_needs_no_controllers_to_hold_freeze_and_kill() {
    on_bare_v2(|host| {
        assert!(host.is_pure_v2());
        let scratch = scratch_on("bare", device_rules(), host.clone());
        assert!(
            scratch
                .cgroup
                .unified_fd()
                .is_some_and(|fd| rustix::fs::fstat(fd.as_fd()).is_ok())
        );
        assert!(scratch.cgroup.record().legacy.is_empty());
        check_devices(&scratch);
        check_freezing(&scratch);
        check_killing(&scratch);
        drop(scratch);
        if host.place(Controller::Memory).is_none() {
            let limits = resources(json!({ "memory": { "limit": 64 << 20 } }));
            let error = plan::compile(&path_of("bare"), &limits, &host).unwrap_err().to_string();
            assert_eq!(
                error,
                "cannot set the memory limit: this host has no memory cgroup controller"
            );
        }
    });
}

/// For what only a whole v2 can do: `ci/guest/run` has one.
fn whole_v2() -> Option<Hierarchies> {
    let host = Hierarchies::detect().unwrap();
    if host.is_pure_v2() && host.place(Controller::Memory).is_some() {
        return Some(host);
    }
    eprintln!("skipped: this host's controllers are not in cgroup v2");
    None
}

#[test]
fn v2_limits_nothing_below_a_cgroup_with_processes_and_says_so() {
    let Some(host) = whole_v2() else { return };
    let outer = scratch("occupied", json!({}));
    let mut child = outer.shell("exec sleep 1000");
    let path = format!("{}/inner", path_of("occupied"));
    let refused = |limits: serde_json::Value| {
        let plan = plan::compile(&path, &resources(limits), &host).unwrap();
        manager::create(&plan).unwrap_err().to_string()
    };
    for (controller, limits) in [
        ("memory", json!({ "memory": { "limit": 64 << 20 } })),
        ("pids", json!({ "pids": { "limit": 9 } })),
    ] {
        let error = refused(limits);
        assert!(
            error.starts_with(&format!("cannot enable the {controller} cgroup controller in")),
            "{error}"
        );
        assert!(error.contains("processes live in it"), "{error}");
    }
    assert_eq!(
        outer.read(Controller::Pids, "cgroup.subtree_control"),
        "",
        "it is left as it was"
    );
    assert_eq!(outer.read(Controller::Pids, "cgroup.type"), "domain");
    assert!(!outer.file(Controller::Pids, "inner").exists());
    outer.cgroup.kill_all().unwrap();
    child.wait().unwrap();
}

#[test]
fn v2_takes_settings_by_their_own_names() {
    let Some(host) = whole_v2() else { return };
    let limits = json!({ "unified": { "memory.high": "33554432" }, "cpu": { "idle": 1, "shares": 1024 } });
    let scratch = scratch_on("unified", limits, host.clone());
    assert_eq!(scratch.read(Controller::Memory, "memory.high"), "33554432");
    assert_eq!(scratch.read(Controller::Cpu, "cpu.idle"), "1");
    for bad in [json!({ "cgroup.procs": "1" }), json!({ "../memory.max": "1" })] {
        let limits = resources(json!({ "unified": bad }));
        assert!(plan::compile(&path_of("unified"), &limits, &host).is_err());
    }
    let unknown = plan_for("unknown", json!({ "unified": { "memory.no_such": "1" } }), &host);
    let error = manager::create(&unknown).unwrap_err().to_string();
    assert_eq!(
        error,
        "cannot set the memory.no_such setting: this kernel has no memory.no_such"
    );
}

#[test]
fn v2_says_that_a_threaded_parent_limits_no_memory() {
    let Some(host) = whole_v2() else { return };
    let outer = scratch("threaded", json!({}));
    let inner = outer.file(Controller::Freezer, "threads");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(inner.join("cgroup.type"), "threaded").unwrap();
    let path = format!("{}/threads/inner", path_of("threaded"));
    let plan = plan::compile(&path, &resources(json!({ "memory": { "limit": 64 << 20 } })), &host).unwrap();
    let error = manager::create(&plan).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot enable the memory cgroup controller"),
        "{error}"
    );
}

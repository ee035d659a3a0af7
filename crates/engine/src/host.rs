//! Facts about the host that do not change while the daemon runs, gathered once.
use std::{
    fs, io,
    path::{Path, PathBuf},
};

#[derive(Debug, Clone)]
pub struct Host {
    pub cpus: usize,
    /// The processors that exist for us, as the kernel lists them: `0-3`.
    pub cpu_list: String,
    pub memory_nodes: String,
    /// Bytes.
    pub memory: u64,
    /// `/sys/fs/cgroup` is cgroup2 itself. A hybrid host counts as version 1: its limits are there.
    pub cgroup_v2: bool,
    pub limits: Limits,
    /// `amd64`, `arm64`: Go's name, which images use.
    pub architecture: &'static str,
}

/// What the cgroup hierarchies of this host offer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    pub memory: bool,
    pub swap: bool,
    pub oom_kill_disable: bool,
    pub cpu_shares: bool,
    pub cpu_quota: bool,
    pub cpuset: bool,
    pub pids: bool,
    pub blkio: bool,
}

impl Host {
    pub fn probe() -> Host {
        let cgroup_v2 = is_cgroup2(Path::new("/sys/fs/cgroup"));
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Host {
            cpus,
            cpu_list: read("/sys/devices/system/cpu/online").unwrap_or_else(|_| format!("0-{}", cpus - 1)),
            memory_nodes: read("/sys/devices/system/node/online").unwrap_or_else(|_| "0".to_owned()),
            memory: memory_total(),
            cgroup_v2,
            limits: if cgroup_v2 { limits_v2() } else { limits_v1() },
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            },
        }
    }
}

/// One line of a file of the kernel's.
pub fn read(path: impl AsRef<Path>) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.trim_end().to_owned())
}

fn is_cgroup2(path: &Path) -> bool {
    const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;
    rustix::fs::statfs(path).is_ok_and(|info| u64::try_from(info.f_type) == Ok(CGROUP2_SUPER_MAGIC))
}

fn memory_total() -> u64 {
    let kibibytes = read("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    });
    kibibytes.unwrap_or_default() << 10
}

fn limits_v2() -> Limits {
    let controllers = read("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let has = |name: &str| controllers.split(' ').any(|controller| controller == name);
    Limits {
        memory: has("memory"),
        swap: has("memory") && Path::new("/proc/swaps").exists(),
        // The newer interface cannot switch the killer off.
        oom_kill_disable: false,
        cpu_shares: has("cpu"),
        cpu_quota: has("cpu"),
        cpuset: has("cpuset"),
        pids: has("pids"),
        blkio: has("io"),
    }
}

fn limits_v1() -> Limits {
    let has = |controller: &str, file: &str| {
        legacy_mount(controller).is_some_and(|mount| file.is_empty() || mount.join(file).exists())
    };
    Limits {
        memory: has("memory", "memory.limit_in_bytes"),
        swap: has("memory", "memory.memsw.limit_in_bytes"),
        oom_kill_disable: has("memory", "memory.oom_control"),
        cpu_shares: has("cpu", "cpu.shares"),
        // The root has no quota file; whether groups have one shows in any of them, so the controller must do.
        cpu_quota: has("cpu", ""),
        cpuset: has("cpuset", ""),
        pids: has("pids", ""),
        blkio: has("blkio", ""),
    }
}

/// Where a controller of the older interface is mounted.
fn legacy_mount(controller: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        let mut back = back.split(' ');
        let (kind, _source, options) = (back.next()?, back.next()?, back.next()?);
        let found = kind == "cgroup" && options.split(',').any(|option| option == controller);
        found.then(|| front.split(' ').nth(4).map(PathBuf::from))?
    })
}

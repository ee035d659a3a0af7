//! Facts about the host that do not change while the daemon runs, gathered once.
use std::{fs, io, path::Path};

use corten_runtime::cgroup::hierarchy::{Hierarchies, Support};

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
    pub swappiness: bool,
    pub kernel_memory_tcp: bool,
    pub oom_kill_disable: bool,
    pub cpu_shares: bool,
    pub cpu_quota: bool,
    pub cpu_realtime: bool,
    pub cpuset: bool,
    pub pids: bool,
    /// Rates by device.
    pub blkio: bool,
    pub blkio_weight: bool,
    pub hugepages: bool,
}

impl Limits {
    fn of(support: &Support) -> Limits {
        Limits {
            memory: support.memory_limit,
            swap: support.swap_limit && Path::new("/proc/swaps").exists(),
            swappiness: support.memory_swappiness,
            kernel_memory_tcp: support.kernel_memory_tcp,
            oom_kill_disable: support.oom_kill_disable,
            cpu_shares: support.cpu_shares,
            cpu_quota: support.cpu_quota,
            cpu_realtime: support.cpu_realtime,
            cpuset: support.cpuset,
            pids: support.pids_limit,
            blkio: support.io_throttle,
            blkio_weight: support.io_weight,
            hugepages: support.hugepages,
        }
    }

    /// A host that lacks nothing.
    #[cfg(test)]
    pub fn all() -> Limits {
        Limits {
            memory: true,
            swap: true,
            swappiness: true,
            kernel_memory_tcp: true,
            oom_kill_disable: true,
            cpu_shares: true,
            cpu_quota: true,
            cpu_realtime: true,
            cpuset: true,
            pids: true,
            blkio: true,
            blkio_weight: true,
            hugepages: true,
        }
    }
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
            limits: Hierarchies::of_host().map_or_else(|_| Limits::default(), |host| Limits::of(&host.support())),
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

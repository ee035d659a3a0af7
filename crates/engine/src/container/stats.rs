//! `stats`: one sample of what a container uses.
use jiff::Timestamp;

/// All zeroes for a container that does not run.
#[derive(Debug, Clone, Default)]
pub struct StatsSample {
    pub id: String,
    /// Without a slash.
    pub name: String,
    /// Absent when the container does not run.
    pub read: Option<Timestamp>,
    pub cpu: CpuSample,
    pub memory: MemorySample,
    /// Processes and threads now.
    pub pids: u64,
    /// 0 means no limit.
    pub pids_limit: u64,
    pub io: Vec<IoSample>,
}

#[derive(Debug, Clone, Default)]
pub struct CpuSample {
    /// Nanoseconds.
    pub total: u64,
    pub user: u64,
    pub system: u64,
    /// By processor, where the host counts that (cgroup v1).
    pub per_cpu: Vec<u64>,
    /// Nanoseconds of the whole host, all processors.
    pub host_total: u64,
    pub online_cpus: u32,
    pub throttled_periods: u64,
    pub periods: u64,
    pub throttled_nanoseconds: u64,
}

#[derive(Debug, Clone, Default)]
pub struct MemorySample {
    /// Bytes.
    pub usage: u64,
    /// The highest usage seen (cgroup v1).
    pub max_usage: Option<u64>,
    /// The limit, at most what the host has.
    pub limit: u64,
    pub failures: u64,
    /// The kernel's own names (`total_inactive_file`, `anon`, …).
    pub counters: Vec<(String, u64)>,
}

/// Bytes and operations of one block device.
#[derive(Debug, Clone, Default)]
pub struct IoSample {
    pub major: u64,
    pub minor: u64,
    pub read_bytes: u64,
    pub write_bytes: u64,
    pub read_operations: u64,
    pub write_operations: u64,
}

//! What a container has used so far, in the units of the kernel's newer interface (nanoseconds, bytes).
//!
//! The two hierarchies count different things under different names; [`MemoryStats::stat`] keeps the kernel's own
//! names, because clients look for those.
use std::collections::BTreeMap;

/// One reading. A part whose controller is missing is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    pub cpu: Option<CpuStats>,
    pub memory: Option<MemoryStats>,
    pub pids: Option<PidsStats>,
    pub io: Option<IoStats>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuStats {
    pub total_nanoseconds: u64,
    pub user_nanoseconds: u64,
    pub system_nanoseconds: u64,
    /// v1 only; empty on v2, as with Docker.
    pub per_cpu_nanoseconds: Vec<u64>,
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_nanoseconds: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryStats {
    pub usage_bytes: u64,
    /// The highest usage so far, where the kernel keeps it.
    pub peak_bytes: Option<u64>,
    /// `None`: unlimited.
    pub limit_bytes: Option<u64>,
    /// How often the limit was hit (v1), how often that ended in the OOM killer (v2).
    pub fail_count: u64,
    /// `memory.stat`, with the kernel's names.
    pub stat: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PidsStats {
    pub current: u64,
    /// `None`: unlimited.
    pub limit: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IoStats {
    pub service_bytes: Vec<IoEntry>,
    pub serviced: Vec<IoEntry>,
}

/// One counter of one block device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IoEntry {
    pub major: u64,
    pub minor: u64,
    /// `Read`, `Write`, `Sync`, `Async`, `Discard`, `Total` on v1; `read`, `write` on v2.
    pub operation: String,
    pub value: u64,
}

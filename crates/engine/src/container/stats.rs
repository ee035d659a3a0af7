//! `stats`: one sample of what a container uses.
use std::{collections::BTreeMap, fs};

use corten_runtime::cgroup::stats::{CpuStats, IoEntry, IoStats, MemoryStats, Stats};
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
    /// Absent for a container on the host's network, which has no interfaces of its own.
    pub interfaces: Option<Vec<InterfaceSample>>,
}

/// What went through one interface, as the container counts it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceSample {
    pub name: String,
    pub received: TrafficSample,
    pub sent: TrafficSample,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrafficSample {
    pub bytes: u64,
    pub packets: u64,
    pub errors: u64,
    pub dropped: u64,
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

/// Processor time at an earlier moment: what a sample is compared with.
#[derive(Debug, Clone)]
pub struct Earlier {
    pub read: Timestamp,
    pub cpu: CpuSample,
}

/// What figures are wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Now, and compared with nothing.
    OneShot,
    /// Now, and compared with an earlier moment, which may take one.
    Once,
    /// One of many looks: what somebody else read a moment ago will do.
    Watch,
}

/// A sample, and what it is to be compared with.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    pub sample: StatsSample,
    pub earlier: Option<Earlier>,
}

impl StatsSample {
    /// Of a container that does not run.
    pub fn of(id: &str, name: &str) -> StatsSample {
        StatsSample {
            id: id.to_owned(),
            name: name.to_owned(),
            ..StatsSample::default()
        }
    }

    /// Puts in what the container's cgroup counted, but for processor time.
    pub fn fill(&mut self, stats: Stats, host_memory: u64) {
        self.memory = stats
            .memory
            .map(|memory| memory_sample(memory, host_memory))
            .unwrap_or_default();
        let pids = stats.pids.unwrap_or_default();
        (self.pids, self.pids_limit) = (pids.current, pids.limit.unwrap_or_default());
        self.io = stats.io.map(io_samples).unwrap_or_default();
    }

    /// For the comparison with the next one.
    pub fn earlier(&self) -> Option<Earlier> {
        Some(Earlier {
            read: self.read?,
            cpu: self.cpu.clone(),
        })
    }
}

impl CpuSample {
    pub fn of(stats: CpuStats, cpus: usize) -> CpuSample {
        CpuSample {
            total: stats.total_nanoseconds,
            user: stats.user_nanoseconds,
            system: stats.system_nanoseconds,
            per_cpu: stats.per_cpu_nanoseconds,
            host_total: host_nanoseconds(cpus),
            online_cpus: u32::try_from(cpus).unwrap_or(1),
            throttled_periods: stats.throttled_periods,
            periods: stats.periods,
            throttled_nanoseconds: stats.throttled_nanoseconds,
        }
    }
}

fn memory_sample(stats: MemoryStats, host_memory: u64) -> MemorySample {
    MemorySample {
        usage: stats.usage_bytes,
        max_usage: stats.peak_bytes,
        limit: stats.limit_bytes.map_or(host_memory, |limit| limit.min(host_memory)),
        failures: stats.fail_count,
        counters: stats.stat.into_iter().collect(),
    }
}

/// One row for each device, whatever the kernel's names for its counters.
fn io_samples(stats: IoStats) -> Vec<IoSample> {
    let mut devices: BTreeMap<(u64, u64), IoSample> = BTreeMap::new();
    let mut add = |entries: Vec<IoEntry>, counters: fn(&mut IoSample) -> (&mut u64, &mut u64)| {
        for entry in entries {
            let device = devices.entry((entry.major, entry.minor)).or_default();
            (device.major, device.minor) = (entry.major, entry.minor);
            let (read, write) = counters(device);
            match entry.operation.as_str() {
                "Read" | "read" => *read += entry.value,
                "Write" | "write" => *write += entry.value,
                _ => {}
            }
        }
    };
    add(stats.service_bytes, |device| {
        (&mut device.read_bytes, &mut device.write_bytes)
    });
    add(stats.serviced, |device| {
        (&mut device.read_operations, &mut device.write_operations)
    });
    devices.into_values().collect()
}

/// The interfaces of a process's network namespace, without the loopback.
pub fn interfaces(pid: i32) -> Option<Vec<InterfaceSample>> {
    fs::read_to_string(format!("/proc/{pid}/net/dev"))
        .ok()
        .map(|text| parse_interfaces(&text))
}

/// proc_net(5): eight columns of what was received, then eight of what was sent.
fn parse_interfaces(text: &str) -> Vec<InterfaceSample> {
    let lines = text.lines().filter_map(|line| {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> = counters
            .split_whitespace()
            .map_while(|word| word.parse().ok())
            .collect();
        let traffic = |columns: &[u64]| TrafficSample {
            bytes: columns[0],
            packets: columns[1],
            errors: columns[2],
            dropped: columns[3],
        };
        Some(InterfaceSample {
            name: name.trim().to_owned(),
            received: traffic(counters.get(..4)?),
            sent: traffic(counters.get(8..12)?),
        })
    });
    lines.filter(|interface| interface.name != "lo").collect()
}

/// What the processors of the host have worked and rested so far: all of the time that has passed, on each of them.
///
/// /proc/stat says the same in hundredths of a second, which is too coarse to compare with a moment later.
fn host_nanoseconds(cpus: usize) -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let nanoseconds = now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs();
    nanoseconds * cpus as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_and_the_loopback_is_left_out() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo \
                    colls carrier compressed\n    lo:  10 1 0 0 0 0 0 0 10 1 0 0 0 0 0 0\n  \
                    eth0: 1500 7 1 2 0 0 0 0 42 3 0 4 0 0 0 0\n";
        let found = parse_interfaces(text);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name, "eth0");
        assert_eq!((found[0].received.bytes, found[0].received.dropped), (1500, 2));
        assert_eq!(
            (found[0].sent.bytes, found[0].sent.packets, found[0].sent.dropped),
            (42, 3, 4)
        );
    }
}

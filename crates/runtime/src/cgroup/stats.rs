//! What a container has used so far, in the units of the kernel's newer interface (nanoseconds, bytes).
//!
//! The two hierarchies count different things under different names; [`MemoryStats::stat`] keeps the kernel's own
//! names, because clients look for those.
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::error::Error;
use super::files;
use super::manager::legacy_path;
use crate::shim::protocol::CgroupRecord;

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

/// v1's "unlimited" is the largest multiple of the page size, whatever the page size: nobody has an exbibyte.
const UNLIMITED: u64 = 1 << 60;

/// `/proc` counts CPU time in hundredths of a second on every architecture.
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

/// The directory with a controller's files, and whether it is one of v2.
fn pick<'r>(record: &'r CgroupRecord, controller: &str) -> Option<(&'r Path, bool)> {
    let legacy = legacy_path(record, controller).map(|path| (path, false));
    legacy.or_else(|| Some((Path::new(record.unified.as_deref()?), true)))
}

/// Reads what there is. A controller that the container does not have leaves its part `None`.
pub(super) fn read(record: &CgroupRecord) -> Result<Stats, Error> {
    Ok(Stats {
        cpu: read_cpu(record)?,
        ..read_others(record)?
    })
}

/// Processor time alone; `None` when the cgroup is gone. All zeroes where nobody counts.
pub(super) fn read_cpu(record: &CgroupRecord) -> Result<Option<CpuStats>, Error> {
    let Some((path, is_v2)) = pick(record, "cpuacct") else {
        return Ok(Some(CpuStats::default()));
    };
    let throttling = legacy_path(record, "cpu");
    let read = if is_v2 { cpu_v2(path) } else { cpu_v1(path, throttling) };
    there(path, read)
}

/// Everything but processor time.
pub(super) fn read_others(record: &CgroupRecord) -> Result<Stats, Error> {
    let pick = |controller: &str| pick(record, controller);
    let mut stats = Stats::default();
    if let Some((path, is_v2)) = pick("memory") {
        stats.memory = there(path, if is_v2 { memory_v2(path) } else { memory_v1(path) })?;
    }
    if let Some((path, _)) = pick("pids") {
        stats.pids = there(path, pids(path))?;
    }
    if let Some((path, is_v2)) = pick("blkio") {
        stats.io = there(path, if is_v2 { io_v2(path) } else { io_v1(path) })?;
    }
    Ok(stats)
}

/// A container that ends while it is read has no figures; that is no error.
fn there<T>(path: &Path, result: io::Result<T>) -> Result<Option<T>, Error> {
    files::if_there(result).map_err(|e| Error::io("read figures of", path, e))
}

fn number(path: &Path, file: &str) -> io::Result<u64> {
    Ok(files::read_number(&path.join(file))?.unwrap_or(u64::MAX))
}

fn cpu_v1(path: &Path, throttling: Option<&Path>) -> io::Result<CpuStats> {
    let mut cpu = CpuStats {
        total_nanoseconds: number(path, "cpuacct.usage")?,
        ..CpuStats::default()
    };
    let per_cpu = files::read(&path.join("cpuacct.usage_percpu"))?;
    cpu.per_cpu_nanoseconds = per_cpu
        .split_ascii_whitespace()
        .filter_map(|n| n.parse().ok())
        .collect();
    for (name, ticks) in files::pairs(&files::read(&path.join("cpuacct.stat"))?) {
        match name {
            "user" => cpu.user_nanoseconds = ticks * NANOSECONDS_PER_TICK,
            "system" => cpu.system_nanoseconds = ticks * NANOSECONDS_PER_TICK,
            _ => {}
        }
    }
    if let Some(path) = throttling {
        for (name, value) in files::pairs(&files::read(&path.join("cpu.stat"))?) {
            match name {
                "nr_periods" => cpu.periods = value,
                "nr_throttled" => cpu.throttled_periods = value,
                "throttled_time" => cpu.throttled_nanoseconds = value,
                _ => {}
            }
        }
    }
    Ok(cpu)
}

fn cpu_v2(path: &Path) -> io::Result<CpuStats> {
    let mut cpu = CpuStats::default();
    for (name, value) in files::pairs(&files::read(&path.join("cpu.stat"))?) {
        match name {
            "usage_usec" => cpu.total_nanoseconds = value * 1000,
            "user_usec" => cpu.user_nanoseconds = value * 1000,
            "system_usec" => cpu.system_nanoseconds = value * 1000,
            "nr_periods" => cpu.periods = value,
            "nr_throttled" => cpu.throttled_periods = value,
            "throttled_usec" => cpu.throttled_nanoseconds = value * 1000,
            _ => {}
        }
    }
    Ok(cpu)
}

fn memory_stat(path: &Path) -> io::Result<BTreeMap<String, u64>> {
    let text = files::read(&path.join("memory.stat"))?;
    Ok(files::pairs(&text)
        .map(|(name, value)| (name.to_owned(), value))
        .collect())
}

fn memory_v1(path: &Path) -> io::Result<MemoryStats> {
    Ok(MemoryStats {
        usage_bytes: number(path, "memory.usage_in_bytes")?,
        peak_bytes: Some(number(path, "memory.max_usage_in_bytes")?),
        limit_bytes: Some(number(path, "memory.limit_in_bytes")?).filter(|limit| *limit < UNLIMITED),
        fail_count: number(path, "memory.failcnt")?,
        stat: memory_stat(path)?,
    })
}

fn memory_v2(path: &Path) -> io::Result<MemoryStats> {
    let events = files::read(&path.join("memory.events"))?;
    Ok(MemoryStats {
        usage_bytes: number(path, "memory.current")?,
        // Linux 5.19.
        peak_bytes: files::if_there(number(path, "memory.peak"))?,
        limit_bytes: files::read_number(&path.join("memory.max"))?,
        fail_count: files::pairs(&events)
            .find(|(name, _)| *name == "oom")
            .map_or(0, |(_, count)| count),
        stat: memory_stat(path)?,
    })
}

fn pids(path: &Path) -> io::Result<PidsStats> {
    Ok(PidsStats {
        current: number(path, "pids.current")?,
        limit: files::read_number(&path.join("pids.max"))?,
    })
}

fn io_v1(path: &Path) -> io::Result<IoStats> {
    let read = |file: String| -> io::Result<Vec<IoEntry>> {
        Ok(files::read(&path.join(file))?.lines().filter_map(io_line).collect())
    };
    // With the BFQ scheduler the block layer's own counters stay empty.
    let both = |kind: &str| -> io::Result<Vec<IoEntry>> {
        let entries = read(format!("blkio.throttle.{kind}_recursive"))?;
        let bfq = || Ok(files::if_there(read(format!("blkio.bfq.{kind}_recursive")))?.unwrap_or_default());
        if entries.is_empty() { bfq() } else { Ok(entries) }
    };
    Ok(IoStats {
        service_bytes: both("io_service_bytes")?,
        serviced: both("io_serviced")?,
    })
}

/// `8:0 Read 4096`; the last line, `Total 4096`, is nobody's.
fn io_line(line: &str) -> Option<IoEntry> {
    let mut words = line.split_ascii_whitespace();
    let (major, minor) = words.next()?.split_once(':')?;
    let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
    let operation = words.next()?.to_owned();
    Some(IoEntry {
        major,
        minor,
        operation,
        value: words.next()?.parse().ok()?,
    })
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`, one line per device.
fn io_v2(path: &Path) -> io::Result<IoStats> {
    let mut stats = IoStats::default();
    for line in files::read(&path.join("io.stat"))?.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else {
            continue;
        };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, operation) = match key {
                "rbytes" => (&mut stats.service_bytes, "read"),
                "wbytes" => (&mut stats.service_bytes, "write"),
                "rios" => (&mut stats.serviced, "read"),
                "wios" => (&mut stats.serviced, "write"),
                _ => continue,
            };
            let value = value.parse().unwrap_or(0);
            list.push(IoEntry {
                major,
                minor,
                operation: operation.to_owned(),
                value,
            });
        }
    }
    Ok(stats)
}

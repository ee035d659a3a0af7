//! Limits in the words of cgroup v2.
//!
//! The specification speaks v1: shares become weights, memory+swap becomes swap alone, and what v2 cannot say at all
//! (swappiness, switching the OOM killer off) is refused by name.
use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::error::Error;
use super::hierarchy::Controller;
use super::plan::Write;
use super::v1;

/// What limits `controller` in `resources` asks for.
pub fn writes(controller: Controller, resources: &LinuxResources) -> Result<Vec<Write>, Error> {
    let mut writes = Vec::new();
    match controller {
        Controller::Memory => resources
            .memory()
            .iter()
            .try_for_each(|memory| self::memory(memory, &mut writes))?,
        Controller::Cpu => resources.cpu().iter().try_for_each(|cpu| self::cpu(cpu, &mut writes))?,
        Controller::Cpuset => resources.cpu().iter().for_each(|cpu| cpuset(cpu, &mut writes)),
        Controller::Pids => writes.extend(resources.pids().iter().map(|pids| v1::pids_limit(pids.limit()))),
        Controller::Io => resources.block_io().iter().for_each(|io| self::io(io, &mut writes)),
        Controller::Hugetlb => {
            for limit in resources.hugepage_limits().iter().flatten() {
                let (size, bytes) = (limit.page_size(), limit.limit());
                let value = if bytes < 0 { "max".to_owned() } else { bytes.to_string() };
                // What is mapped, and what is in use.
                for file in ["rsvd.max", "max"] {
                    let file = format!("hugetlb.{size}.{file}");
                    writes.push(Write::new(format!("{size} huge page limit"), file, &value));
                }
            }
        }
        Controller::Rdma => writes = v1::rdma(resources),
        Controller::Devices | Controller::Cpuacct | Controller::Freezer => {}
    }
    Ok(writes)
}

fn unsupported<T>(limit: &str) -> Result<T, Error> {
    Err(Error::Unsupported {
        limit: limit.to_owned(),
        reason: "cgroup v2 does not have it".to_owned(),
    })
}

/// -1 is `max`.
fn or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

fn memory(memory: &LinuxMemory, writes: &mut Vec<Write>) -> Result<(), Error> {
    if memory.swappiness().is_some() {
        return unsupported("memory swappiness");
    }
    if memory.disable_oom_killer() == Some(true) {
        return unsupported("OOM killer switch");
    }
    if memory.kernel_tcp().is_some_and(|limit| limit > 0) {
        return unsupported("kernel TCP memory limit");
    }
    let set = |value: Option<i64>| value.filter(|value| *value != 0);
    let (limit, swap) = (set(memory.limit()), set(memory.swap()));
    if let Some(swap) = swap {
        // v1's figure includes memory; v2's does not.
        let alone = if swap < 0 {
            swap
        } else {
            swap.saturating_sub(limit.unwrap_or(0).max(0))
        };
        writes.push(Write::new("memory+swap limit", "memory.swap.max", or_max(alone)));
    } else if limit.is_some_and(|limit| limit < 0) {
        // Unlimited memory with limited swap makes no sense to v1 either.
        writes.push(Write::new("memory+swap limit", "memory.swap.max", "max"));
    }
    if let Some(limit) = limit {
        writes.push(Write::new("memory limit", "memory.max", or_max(limit)));
    }
    if let Some(reservation) = set(memory.reservation()) {
        writes.push(Write::new("memory reservation", "memory.low", or_max(reservation)));
    }
    Ok(())
}

fn cpu(cpu: &LinuxCpu, writes: &mut Vec<Write>) -> Result<(), Error> {
    if cpu.realtime_runtime().is_some_and(|runtime| runtime != 0) || cpu.realtime_period().is_some_and(|p| p != 0) {
        return unsupported("CPU real-time limit");
    }
    // An idle group has no weight: the kernel refuses one.
    if let Some(idle) = cpu.idle() {
        writes.push(Write::new("CPU idle switch", "cpu.idle", idle));
    }
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0 && cpu.idle() != Some(1)) {
        writes.push(Write::new("CPU shares", "cpu.weight", weight_of_shares(shares)));
    }
    let quota = cpu.quota().filter(|quota| *quota != 0);
    let period = cpu.period().filter(|period| *period != 0);
    if quota.is_some() || period.is_some() {
        let quota = or_max(quota.unwrap_or(-1));
        writes.push(Write::new(
            "CPU quota",
            "cpu.max",
            format!("{quota} {}", period.unwrap_or(100_000)),
        ));
    }
    if let Some(burst) = cpu.burst() {
        writes.push(Write::new("CPU burst", "cpu.max.burst", burst));
    }
    Ok(())
}

/// v1's 2..=262144 with 1024 for "normal" to v2's 1..=10000 with 100 for "normal": the curve through those three
/// points that the OCI runtimes agreed on, so that a container keeps its place among the host's services.
pub fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            // The tiny step back keeps the exact points exact.
            (10f64.powf(exponent) - 1e-9).ceil() as u64
        }
    }
}

fn cpuset(cpu: &LinuxCpu, writes: &mut Vec<Write>) {
    if let Some(cpus) = cpu.cpus().as_deref().filter(|list| !list.is_empty()) {
        writes.push(Write::new("CPU list", "cpuset.cpus", cpus));
    }
    if let Some(mems) = cpu.mems().as_deref().filter(|list| !list.is_empty()) {
        writes.push(Write::new("memory node list", "cpuset.mems", mems));
    }
}

/// BFQ takes v1's figures (its file is there only when it is built in), the others 1..=10000.
fn weight_write(limit: &'static str, device: &str, weight: u16) -> Write {
    let general = 1 + (u64::from(weight).clamp(10, 1000) - 10) * 9999 / 990;
    let name = if device.is_empty() { "default " } else { device };
    Write {
        instead: Some(("io.weight".into(), format!("{name}{general}"))),
        ..Write::new(limit, "io.bfq.weight", format!("{name}{weight}"))
    }
}

fn io(io: &LinuxBlockIo, writes: &mut Vec<Write>) {
    if let Some(weight) = io.weight().filter(|weight| *weight != 0) {
        writes.push(weight_write("blkio weight", "", weight));
    }
    for device in io.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            let name = format!("{}:{} ", device.major(), device.minor());
            writes.push(weight_write("blkio device weight", &name, weight));
        }
    }
    // One line per device: the kernel takes them together.
    let mut lines: BTreeMap<(i64, i64), String> = BTreeMap::new();
    let mut throttle = |key: &str, devices: &Option<Vec<LinuxThrottleDevice>>| {
        for device in devices.iter().flatten() {
            let line = lines.entry((device.major(), device.minor())).or_default();
            // Zero lifts the limit, as on v1.
            let rate = if device.rate() == 0 {
                "max".to_owned()
            } else {
                device.rate().to_string()
            };
            line.push_str(&format!(" {key}={rate}"));
        }
    };
    throttle("rbps", io.throttle_read_bps_device());
    throttle("wbps", io.throttle_write_bps_device());
    throttle("riops", io.throttle_read_iops_device());
    throttle("wiops", io.throttle_write_iops_device());
    for ((major, minor), line) in lines {
        writes.push(Write::new(
            "device rate limit",
            "io.max",
            format!("{major}:{minor}{line}"),
        ));
    }
}

/// One entry of the specification's `unified` map: a file of the cgroup and what to write into it.
pub fn raw(file: &str, value: &str, pure_v2: bool) -> Result<Write, Error> {
    let limit = format!("{file} setting");
    if !pure_v2 {
        return Err(Error::Unsupported {
            limit,
            reason: "this host uses cgroup v1".to_owned(),
        });
    }
    if file.contains('/') || !file.contains('.') || file.starts_with("cgroup.") {
        return Err(Error::Invalid {
            limit,
            reason: "it is not a controller's file".to_owned(),
        });
    }
    Ok(Write::new(limit, file.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::{
        LinuxBlockIoBuilder, LinuxCpuBuilder, LinuxMemoryBuilder, LinuxResourcesBuilder, LinuxThrottleDeviceBuilder,
    };

    fn lines(writes: &[Write]) -> Vec<String> {
        writes.iter().map(|w| format!("{}={}", w.file, w.value)).collect()
    }

    #[test]
    fn shares_keep_their_meaning() {
        for (shares, weight) in [(2, 1), (1024, 100), (262_144, 10_000), (512, 59), (2048, 174)] {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
    }

    #[test]
    fn swap_is_told_without_memory() {
        let of = |limit: i64, swap: i64| {
            let memory = LinuxMemoryBuilder::default().limit(limit).swap(swap).build().unwrap();
            lines(
                &writes(
                    Controller::Memory,
                    &LinuxResourcesBuilder::default().memory(memory).build().unwrap(),
                )
                .unwrap(),
            )
        };
        assert_eq!(of(100, 300), ["memory.swap.max=200", "memory.max=100"]);
        assert_eq!(of(100, 100), ["memory.swap.max=0", "memory.max=100"]);
        assert_eq!(of(100, -1), ["memory.swap.max=max", "memory.max=100"]);
        assert_eq!(of(100, 0), ["memory.max=100"]);
        assert_eq!(of(-1, -1), ["memory.swap.max=max", "memory.max=max"]);
    }

    #[test]
    fn a_quota_goes_with_its_period() {
        let of = |cpu: LinuxCpuBuilder| {
            let resources = LinuxResourcesBuilder::default()
                .cpu(cpu.build().unwrap())
                .build()
                .unwrap();
            lines(&writes(Controller::Cpu, &resources).unwrap())
        };
        assert_eq!(
            of(LinuxCpuBuilder::default().quota(50_000i64)),
            ["cpu.max=50000 100000"]
        );
        assert_eq!(
            of(LinuxCpuBuilder::default().quota(-1i64).period(20_000u64)),
            ["cpu.max=max 20000"]
        );
        assert_eq!(of(LinuxCpuBuilder::default().shares(1024u64)), ["cpu.weight=100"]);
        assert_eq!(
            of(LinuxCpuBuilder::default().shares(1024u64).idle(1i64)),
            ["cpu.idle=1"]
        );
    }

    #[test]
    fn device_rates_become_one_line_per_device() {
        let device = |rate: u64| {
            vec![
                LinuxThrottleDeviceBuilder::default()
                    .major(8i64)
                    .minor(0i64)
                    .rate(rate)
                    .build()
                    .unwrap(),
            ]
        };
        let io = LinuxBlockIoBuilder::default()
            .weight(500u16)
            .throttle_read_bps_device(device(1000))
            .throttle_write_iops_device(device(7))
            .build()
            .unwrap();
        let writes = writes(
            Controller::Io,
            &LinuxResourcesBuilder::default().block_io(io).build().unwrap(),
        )
        .unwrap();
        assert_eq!(
            lines(&writes),
            ["io.bfq.weight=default 500", "io.max=8:0 rbps=1000 wiops=7"]
        );
        assert_eq!(writes[0].instead, Some(("io.weight".into(), "default 4950".to_owned())));
    }

    #[test]
    fn what_v2_cannot_say_is_refused_by_name() {
        let memory = LinuxMemoryBuilder::default().swappiness(10u64).build().unwrap();
        let resources = LinuxResourcesBuilder::default().memory(memory).build().unwrap();
        let error = writes(Controller::Memory, &resources).unwrap_err().to_string();
        assert_eq!(error, "cannot set the memory swappiness: cgroup v2 does not have it");
    }
}

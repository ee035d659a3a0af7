//! Limits in the words of cgroup v1.
//!
//! Order matters: a new group is unlimited, so the memory limit is set before memory+swap, which may not be below it.
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::devices;
use super::error::Error;
use super::hierarchy::Controller;
use super::plan::Write;

/// What limits `controller` in `resources` asks for.
pub fn writes(controller: Controller, resources: &LinuxResources) -> Result<Vec<Write>, Error> {
    let mut writes = Vec::new();
    match controller {
        Controller::Memory => resources
            .memory()
            .iter()
            .for_each(|memory| self::memory(memory, &mut writes)),
        Controller::Cpu => resources.cpu().iter().for_each(|cpu| self::cpu(cpu, &mut writes)),
        Controller::Cpuset => resources.cpu().iter().for_each(|cpu| cpuset(cpu, &mut writes)),
        Controller::Pids => writes.extend(resources.pids().iter().map(|pids| pids_limit(pids.limit()))),
        Controller::Io => resources.block_io().iter().for_each(|io| self::io(io, &mut writes)),
        Controller::Devices => writes = devices::legacy_writes(resources.devices().as_deref().unwrap_or_default())?,
        Controller::Hugetlb => {
            for limit in resources.hugepage_limits().iter().flatten() {
                let size = limit.page_size();
                // What is mapped, and what is in use.
                for file in ["rsvd.limit_in_bytes", "limit_in_bytes"] {
                    let file = format!("hugetlb.{size}.{file}");
                    writes.push(Write::new(format!("{size} huge page limit"), file, limit.limit()));
                }
            }
        }
        Controller::Rdma => writes = rdma(resources),
        Controller::Cpuacct | Controller::Freezer => {}
    }
    Ok(writes)
}

fn memory(memory: &LinuxMemory, writes: &mut Vec<Write>) {
    // Zero means "not set" in the specification and in Docker's API.
    let set = |value: Option<i64>| value.filter(|value| *value != 0).map(|value| value.max(-1));
    if let Some(limit) = set(memory.limit()) {
        writes.push(Write::new("memory limit", "memory.limit_in_bytes", limit));
    }
    if let Some(swap) = set(memory.swap()) {
        writes.push(Write::new("memory+swap limit", "memory.memsw.limit_in_bytes", swap));
    }
    if let Some(reservation) = set(memory.reservation()) {
        writes.push(Write::new(
            "memory reservation",
            "memory.soft_limit_in_bytes",
            reservation,
        ));
    }
    if let Some(limit) = set(memory.kernel_tcp()) {
        writes.push(Write::new(
            "kernel TCP memory limit",
            "memory.kmem.tcp.limit_in_bytes",
            limit,
        ));
    }
    if let Some(swappiness) = memory.swappiness() {
        writes.push(Write::new("memory swappiness", "memory.swappiness", swappiness));
    }
    if memory.disable_oom_killer() == Some(true) {
        writes.push(Write::new("OOM killer switch", "memory.oom_control", 1));
    }
}

fn cpu(cpu: &LinuxCpu, writes: &mut Vec<Write>) {
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        writes.push(Write::new("CPU shares", "cpu.shares", shares));
    }
    if let Some(period) = cpu.period().filter(|period| *period != 0) {
        writes.push(Write::new("CPU period", "cpu.cfs_period_us", period));
    }
    if let Some(quota) = cpu.quota().filter(|quota| *quota != 0) {
        writes.push(Write::new("CPU quota", "cpu.cfs_quota_us", quota.max(-1)));
    }
    if let Some(burst) = cpu.burst() {
        writes.push(Write::new("CPU burst", "cpu.cfs_burst_us", burst));
    }
    if let Some(period) = cpu.realtime_period().filter(|period| *period != 0) {
        writes.push(Write::new("CPU real-time period", "cpu.rt_period_us", period));
    }
    if let Some(runtime) = cpu.realtime_runtime().filter(|runtime| *runtime != 0) {
        writes.push(Write::new("CPU real-time runtime", "cpu.rt_runtime_us", runtime));
    }
    if let Some(idle) = cpu.idle() {
        writes.push(Write::new("CPU idle switch", "cpu.idle", idle));
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

/// The same file on v1 and v2. Not positive: unlimited.
pub(super) fn pids_limit(limit: i64) -> Write {
    let value = if limit > 0 { limit.to_string() } else { "max".to_owned() };
    Write::new("pids limit", "pids.max", value)
}

fn io(io: &LinuxBlockIo, writes: &mut Vec<Write>) {
    if let Some(weight) = io.weight().filter(|weight| *weight != 0) {
        writes.push(weight_write(
            "blkio weight",
            "blkio.bfq.weight",
            "blkio.weight",
            weight.to_string(),
        ));
    }
    for device in io.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            let value = format!("{}:{} {weight}", device.major(), device.minor());
            writes.push(weight_write(
                "blkio device weight",
                "blkio.bfq.weight_device",
                "blkio.weight_device",
                value,
            ));
        }
    }
    let mut throttle = |limit: &'static str, file: &'static str, devices: &Option<Vec<LinuxThrottleDevice>>| {
        for device in devices.iter().flatten() {
            let value = format!("{}:{} {}", device.major(), device.minor(), device.rate());
            writes.push(Write::new(limit, file, value));
        }
    };
    throttle(
        "device read rate",
        "blkio.throttle.read_bps_device",
        io.throttle_read_bps_device(),
    );
    throttle(
        "device write rate",
        "blkio.throttle.write_bps_device",
        io.throttle_write_bps_device(),
    );
    throttle(
        "device read operations rate",
        "blkio.throttle.read_iops_device",
        io.throttle_read_iops_device(),
    );
    throttle(
        "device write operations rate",
        "blkio.throttle.write_iops_device",
        io.throttle_write_iops_device(),
    );
}

fn weight_write(limit: &'static str, file: &'static str, instead: &'static str, value: String) -> Write {
    Write {
        instead: Some((instead.into(), value.clone())),
        ..Write::new(limit, file, value)
    }
}

/// The same file on v1 and v2.
pub(super) fn rdma(resources: &LinuxResources) -> Vec<Write> {
    let mut writes = Vec::new();
    for (device, limit) in resources.rdma().iter().flatten() {
        let mut value = device.clone();
        let parts = [("hca_handle", limit.hca_handles()), ("hca_object", limit.hca_objects())];
        for (name, number) in parts.into_iter().filter_map(|(name, number)| Some((name, number?))) {
            value.push_str(&format!(" {name}={number}"));
        }
        writes.push(Write::new(format!("RDMA limit of {device}"), "rdma.max", value));
    }
    writes
}

//! Limits and device rules: Docker's words in, the OCI specification's out.
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use corten_api::types::container::{HostConfig, HugepageLimit, ThrottleDevice, Ulimit, WeightDevice};
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxHugepageLimit, LinuxHugepageLimitBuilder,
    LinuxMemory, LinuxPids, LinuxResources, LinuxThrottleDevice, LinuxThrottleDeviceBuilder, LinuxWeightDevice,
    LinuxWeightDeviceBuilder, PosixRlimit, PosixRlimitBuilder, PosixRlimitType,
};

use crate::error::{Error, Result};

/// Length of a scheduling period when only processors are asked for, in microseconds.
const CPU_PERIOD: i64 = 100_000;

/// Everything but the device rules.
pub fn limits(host: &HostConfig) -> Result<LinuxResources> {
    let mut resources = LinuxResources::default();
    resources.set_devices(None);
    resources.set_memory(memory(host));
    resources.set_cpu(cpu(host));
    resources.set_pids(host.pids_limit.filter(|limit| *limit > 0).map(|limit| {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        pids
    }));
    resources.set_block_io(block_io(host)?);
    resources.set_hugepage_limits(hugepages(host)?);
    Ok(resources)
}

fn memory(host: &HostConfig) -> Option<LinuxMemory> {
    let swappiness = host.memory_swappiness.and_then(|value| u64::try_from(value).ok());
    let asked = host.memory != 0
        || host.memory_reservation != 0
        || host.memory_swap != 0
        || swappiness.is_some()
        || host.oom_kill_disable == Some(true);
    asked.then(|| {
        let mut memory = LinuxMemory::default();
        memory.set_limit(positive(host.memory));
        memory.set_reservation(positive(host.memory_reservation));
        memory.set_swap((host.memory_swap != 0).then_some(host.memory_swap));
        memory.set_swappiness(swappiness);
        memory.set_disable_oom_killer(host.oom_kill_disable.filter(|disable| *disable));
        memory
    })
}

fn cpu(host: &HostConfig) -> Option<LinuxCpu> {
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(unsigned(host.cpu_shares));
    let (quota, period) = if host.nano_cpus > 0 {
        (host.nano_cpus / (1_000_000_000 / CPU_PERIOD), CPU_PERIOD)
    } else {
        (host.cpu_quota, host.cpu_period)
    };
    cpu.set_quota((quota != 0).then_some(quota));
    cpu.set_period(unsigned(period));
    cpu.set_realtime_runtime(positive(host.cpu_realtime_runtime));
    cpu.set_realtime_period(unsigned(host.cpu_realtime_period));
    cpu.set_cpus(text(&host.cpuset_cpus));
    cpu.set_mems(text(&host.cpuset_mems));
    (cpu != LinuxCpu::default()).then_some(cpu)
}

fn block_io(host: &HostConfig) -> Result<Option<LinuxBlockIo>> {
    let mut io = LinuxBlockIo::default();
    io.set_weight((host.blkio_weight != 0).then_some(host.blkio_weight));
    io.set_weight_device(weights(host.blkio_weight_device.as_deref())?);
    io.set_throttle_read_bps_device(throttles(host.blkio_device_read_bps.as_deref())?);
    io.set_throttle_write_bps_device(throttles(host.blkio_device_write_bps.as_deref())?);
    io.set_throttle_read_iops_device(throttles(host.blkio_device_read_iops.as_deref())?);
    io.set_throttle_write_iops_device(throttles(host.blkio_device_write_iops.as_deref())?);
    Ok((io != LinuxBlockIo::default()).then_some(io))
}

fn hugepages(host: &HostConfig) -> Result<Option<Vec<LinuxHugepageLimit>>> {
    let limit = |limit: &HugepageLimit| {
        LinuxHugepageLimitBuilder::default()
            .page_size(limit.page_size.clone())
            .limit(limit.limit)
            .build()
            .map_err(|error| Error::invalid("cannot limit huge pages").because(error))
    };
    match host.hugepage_limits.as_deref() {
        None | Some([]) => Ok(None),
        Some(limits) => limits.iter().map(limit).collect::<Result<Vec<_>>>().map(Some),
    }
}

fn weights(devices: Option<&[WeightDevice]>) -> Result<Option<Vec<LinuxWeightDevice>>> {
    let weight = |device: &WeightDevice| {
        let (major, minor) = block_device(&device.path)?;
        LinuxWeightDeviceBuilder::default()
            .major(major)
            .minor(minor)
            .weight(device.weight)
            .build()
            .map_err(|error| Error::invalid("cannot weigh a device").because(error))
    };
    match devices {
        None | Some([]) => Ok(None),
        Some(devices) => devices.iter().map(weight).collect::<Result<Vec<_>>>().map(Some),
    }
}

fn throttles(devices: Option<&[ThrottleDevice]>) -> Result<Option<Vec<LinuxThrottleDevice>>> {
    let throttle = |device: &ThrottleDevice| {
        let (major, minor) = block_device(&device.path)?;
        LinuxThrottleDeviceBuilder::default()
            .major(major)
            .minor(minor)
            .rate(device.rate)
            .build()
            .map_err(|error| Error::invalid("cannot limit a device").because(error))
    };
    match devices {
        None | Some([]) => Ok(None),
        Some(devices) => devices.iter().map(throttle).collect::<Result<Vec<_>>>().map(Some),
    }
}

/// Major and minor number.
fn block_device(path: &str) -> Result<(i64, i64)> {
    let metadata = std::fs::metadata(path)
        .map_err(|error| Error::invalid(format!("cannot limit device {path}")).because(error))?;
    if !metadata.file_type().is_block_device() {
        return Err(Error::invalid(format!("cannot limit {path}: not a block device")));
    }
    let number = metadata.rdev();
    Ok((
        i64::from(rustix::fs::major(number)),
        i64::from(rustix::fs::minor(number)),
    ))
}

/// Docker's names for resource limits, to the kernel's.
pub fn ulimit(ulimit: &Ulimit) -> Result<PosixRlimit> {
    let kind = match ulimit.name.as_str() {
        "core" => PosixRlimitType::RlimitCore,
        "cpu" => PosixRlimitType::RlimitCpu,
        "data" => PosixRlimitType::RlimitData,
        "fsize" => PosixRlimitType::RlimitFsize,
        "locks" => PosixRlimitType::RlimitLocks,
        "memlock" => PosixRlimitType::RlimitMemlock,
        "msgqueue" => PosixRlimitType::RlimitMsgqueue,
        "nice" => PosixRlimitType::RlimitNice,
        "nofile" => PosixRlimitType::RlimitNofile,
        "nproc" => PosixRlimitType::RlimitNproc,
        "rss" => PosixRlimitType::RlimitRss,
        "rtprio" => PosixRlimitType::RlimitRtprio,
        "rttime" => PosixRlimitType::RlimitRttime,
        "sigpending" => PosixRlimitType::RlimitSigpending,
        "stack" => PosixRlimitType::RlimitStack,
        name => return Err(Error::invalid(format!("invalid ulimit type: {name}"))),
    };
    // -1 is the kernel's "no limit" as well, in two's complement.
    let (soft, hard) = (ulimit.soft.cast_unsigned(), ulimit.hard.cast_unsigned());
    if soft > hard {
        return Err(Error::invalid(format!(
            "ulimit soft limit must be less than or equal to hard limit: {} > {}",
            ulimit.soft, ulimit.hard
        )));
    }
    PosixRlimitBuilder::default()
        .typ(kind)
        .soft(soft)
        .hard(hard)
        .build()
        .map_err(|error| Error::invalid("invalid ulimit").because(error))
}

/// What every container may use, and no other device.
pub fn default_devices() -> Vec<LinuxDeviceCgroup> {
    let character = |major, minor| rule(true, LinuxDeviceType::C, major, minor, "rwm");
    vec![
        rule(false, LinuxDeviceType::A, None, None, "rwm"),
        rule(true, LinuxDeviceType::C, None, None, "m"),
        rule(true, LinuxDeviceType::B, None, None, "m"),
        character(Some(1), Some(3)), // null
        character(Some(1), Some(5)), // zero
        character(Some(1), Some(7)), // full
        character(Some(1), Some(8)), // random
        character(Some(1), Some(9)), // urandom
        character(Some(5), Some(0)), // tty
        character(Some(5), Some(1)), // console
        character(Some(5), Some(2)), // ptmx
        character(Some(136), None),  // terminals of devpts
    ]
}

/// Everything, for privileged containers.
pub fn all_devices() -> Vec<LinuxDeviceCgroup> {
    vec![rule(true, LinuxDeviceType::A, None, None, "rwm")]
}

pub fn rule(
    allow: bool,
    kind: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow);
    rule.set_typ(Some(kind));
    rule.set_major(major);
    rule.set_minor(minor);
    rule.set_access(Some(access.to_owned()));
    rule
}

/// `--device-cgroup-rule`: `c 42:* rwm`.
pub fn parse_rule(text: &str) -> Result<LinuxDeviceCgroup> {
    let refused = || Error::invalid(format!("invalid device cgroup rule format: '{text}'"));
    let words: Vec<&str> = text.split(' ').collect();
    let &[kind, numbers, access] = words.as_slice() else {
        return Err(refused());
    };
    let kind = match kind {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return Err(refused()),
    };
    let number = |text: &str| match text {
        "*" => Ok(None),
        digits => digits
            .parse::<u32>()
            .map(|number| Some(i64::from(number)))
            .map_err(|_| refused()),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(refused)?;
    if access.is_empty() || !access.bytes().all(|letter| b"rwm".contains(&letter)) {
        return Err(refused());
    }
    Ok(rule(true, kind, number(major)?, number(minor)?, access))
}

fn positive(value: i64) -> Option<i64> {
    (value > 0).then_some(value)
}

fn unsigned(value: i64) -> Option<u64> {
    u64::try_from(value).ok().filter(|value| *value != 0)
}

fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_become_a_quota() {
        let host = HostConfig {
            nano_cpus: 1_500_000_000,
            ..HostConfig::default()
        };
        let cpu = limits(&host).expect("resolves").cpu().clone().expect("limited");
        assert_eq!((cpu.quota(), cpu.period()), (Some(150_000), Some(100_000)));
    }

    #[test]
    fn no_limit_is_no_resource() {
        let resources = limits(&HostConfig::default()).expect("resolves");
        assert!(resources.memory().is_none() && resources.cpu().is_none() && resources.pids().is_none());
    }

    #[test]
    fn device_rules_have_one_grammar() {
        assert!(parse_rule("c 42:* rwm").is_ok());
        for bad in ["", "c 42 rwm", "x 1:2 r", "c 1:2 q", "c a:b r", "c 1:2"] {
            assert!(parse_rule(bad).is_err(), "{bad}");
        }
    }
}

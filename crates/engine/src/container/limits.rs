//! Limits as a user asks for them: what cannot be, and what this host cannot do, in Docker's words.
//!
//! What contradicts itself is refused. What the kernel lacks is taken out of the request and warned about, as Docker does;
//! so whatever is left can be planned.
use corten_api::types::container::HostConfig;

use crate::{
    error::{Error, Result},
    host::{Host, Limits},
};

const MINIMUM_MEMORY: i64 = 6 << 20;

/// Checks and completes the limits of a new container (`MemorySwap`, what is discarded).
pub fn check(asked: &mut HostConfig, host: &Host, warnings: &mut Vec<String>) -> Result<()> {
    if asked.memory == 0 && asked.memory_swap > 0 {
        return Err(Error::invalid(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ));
    }
    check_change(asked, host, warnings)?;
    if asked.memory > 0 && asked.memory_swap == 0 {
        asked.memory_swap = asked.memory.saturating_mul(2);
    }
    Ok(())
}

/// Checks limits that are to replace others, where zero leaves what is there.
pub fn check_change(asked: &mut HostConfig, host: &Host, warnings: &mut Vec<String>) -> Result<()> {
    check_memory(asked, &host.limits, warnings)?;
    check_oom_killer(asked, &host.limits, warnings);
    if asked.pids_limit.is_some() && !host.limits.pids {
        if asked.pids_limit.is_some_and(|limit| limit > 0) {
            warnings.push(unsupported("PIDs limit capabilities", "PIDs limit discarded."));
        }
        asked.pids_limit = None;
    }
    check_processors(asked, host, warnings)?;
    check_real_time(asked, &host.limits)?;
    check_cpusets(asked, host, warnings)?;
    check_hugepages(asked, &host.limits)?;
    check_block_io(asked, &host.limits, warnings)
}

fn unsupported(what: &str, so: &str) -> String {
    format!("Your kernel does not support {what} or the cgroup is not mounted. {so}")
}

fn check_memory(asked: &mut HostConfig, limits: &Limits, warnings: &mut Vec<String>) -> Result<()> {
    if asked.memory != 0 && asked.memory < MINIMUM_MEMORY {
        return Err(Error::invalid("Minimum memory limit allowed is 6MB"));
    }
    if asked.memory > 0 && !limits.memory {
        warnings.push(unsupported("memory limit capabilities", "Limitation discarded."));
        (asked.memory, asked.memory_swap) = (0, -1);
    }
    if asked.memory > 0 && asked.memory_swap != -1 && !limits.swap {
        warnings.push(unsupported("swap limit capabilities", "Memory limited without swap."));
        asked.memory_swap = -1;
    }
    if asked.memory > 0 && asked.memory_swap > 0 && asked.memory_swap < asked.memory {
        return Err(Error::invalid(
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ));
    }
    // -1 is how clients say "leave it".
    asked.memory_swappiness = asked.memory_swappiness.filter(|swappiness| *swappiness != -1);
    if asked.memory_swappiness.is_some() && !limits.swappiness {
        warnings.push(unsupported(
            "memory swappiness capabilities",
            "Memory swappiness discarded.",
        ));
        asked.memory_swappiness = None;
    }
    if let Some(swappiness) = asked.memory_swappiness.filter(|value| !(0..=100).contains(value)) {
        return Err(Error::invalid(format!(
            "Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        )));
    }
    if asked.memory_reservation > 0 && !limits.memory {
        warnings.push(unsupported("memory soft limit capabilities", "Limitation discarded."));
        asked.memory_reservation = 0;
    }
    if asked.memory_reservation > 0 && asked.memory_reservation < MINIMUM_MEMORY {
        return Err(Error::invalid("Minimum memory reservation allowed is 6MB"));
    }
    if asked.memory > 0 && asked.memory_reservation > 0 && asked.memory < asked.memory_reservation {
        return Err(Error::invalid(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ));
    }
    Ok(())
}

/// An extension, which has no warnings: what cannot be is refused.
fn check_hugepages(asked: &HostConfig, limits: &Limits) -> Result<()> {
    let wanted = asked.hugepage_limits.as_deref().unwrap_or_default();
    if !wanted.is_empty() && !limits.hugepages {
        return Err(Error::invalid(
            "huge pages cannot be limited: this kernel has no cgroup controller hugetlb, or it is not mounted",
        ));
    }
    let known = hugepage_sizes();
    for (index, limit) in wanted.iter().enumerate() {
        let size = &limit.page_size;
        if !known.contains(size) {
            return Err(Error::invalid(format!(
                "there are no huge pages of {size:?} here, only of {}",
                known.join(", ")
            )));
        }
        if limit.limit < -1 {
            return Err(Error::invalid(format!(
                "invalid limit of {size} huge pages: {}",
                limit.limit
            )));
        }
        if wanted[..index].iter().any(|other| other.page_size == *size) {
            return Err(Error::invalid(format!("two limits of {size} huge pages")));
        }
    }
    Ok(())
}

/// As cgroups call them: `2MB`, `1GB`.
fn hugepage_sizes() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages")
        .into_iter()
        .flatten()
        .flatten();
    let mut kilobytes: Vec<u64> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()
        })
        .collect();
    kilobytes.sort_unstable();
    let named = |kilobytes: u64| match kilobytes {
        gigabytes if gigabytes >= 1 << 20 => format!("{}GB", gigabytes >> 20),
        megabytes if megabytes >= 1 << 10 => format!("{}MB", megabytes >> 10),
        kilobytes => format!("{kilobytes}KB"),
    };
    kilobytes.into_iter().map(named).collect()
}

fn check_oom_killer(asked: &mut HostConfig, limits: &Limits, warnings: &mut Vec<String>) {
    if asked.oom_kill_disable.is_some() && !limits.oom_kill_disable {
        if asked.oom_kill_disable == Some(true) {
            warnings.push("Your kernel does not support OomKillDisable. OomKillDisable discarded.".to_owned());
        }
        asked.oom_kill_disable = None;
    }
    if asked.oom_kill_disable == Some(true) && asked.memory == 0 {
        warnings.push(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system \
             running out of resources."
                .to_owned(),
        );
    }
}

fn check_processors(asked: &mut HostConfig, host: &Host, warnings: &mut Vec<String>) -> Result<()> {
    if asked.nano_cpus > 0 {
        for (value, name) in [(asked.cpu_period, "Period"), (asked.cpu_quota, "Quota")] {
            if value > 0 {
                return Err(Error::invalid(format!(
                    "Conflicting options: Nano CPUs and CPU {name} cannot both be set."
                )));
            }
        }
        if !host.limits.cpu_quota {
            return Err(Error::invalid(
                "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted",
            ));
        }
    }
    let most = i64::try_from(host.cpus)
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000_000_000);
    if asked.nano_cpus != 0 && !(10_000_000..=most).contains(&asked.nano_cpus) {
        let cpus = host.cpus;
        return Err(Error::invalid(format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        )));
    }
    if asked.cpu_shares < 0 {
        return Err(Error::invalid(format!(
            "invalid CPU shares ({}): value must be a positive integer",
            asked.cpu_shares
        )));
    }
    if asked.cpu_shares > 0 && !host.limits.cpu_shares {
        warnings.push(unsupported("CPU shares", "Shares discarded."));
        asked.cpu_shares = 0;
    }
    if (asked.cpu_period != 0 || asked.cpu_quota != 0) && !host.limits.cpu_quota {
        warnings.push("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.".to_owned());
        (asked.cpu_period, asked.cpu_quota) = (0, 0);
    }
    if asked.cpu_period != 0 && !(1_000..=1_000_000).contains(&asked.cpu_period) {
        return Err(Error::invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ));
    }
    if asked.cpu_quota > 0 && asked.cpu_quota < 1_000 {
        return Err(Error::invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)"));
    }
    if asked.cpu_count > 0 {
        warnings.push("linux does not support CPU count. Count discarded.".to_owned());
        asked.cpu_count = 0;
    }
    if asked.cpu_percent > 0 {
        warnings.push("linux does not support CPU percent. Percent discarded.".to_owned());
        asked.cpu_percent = 0;
    }
    Ok(())
}

fn check_real_time(asked: &HostConfig, limits: &Limits) -> Result<()> {
    let (period, runtime) = (asked.cpu_realtime_period, asked.cpu_realtime_runtime);
    if (period != 0 || runtime != 0) && !limits.cpu_realtime {
        return Err(Error::invalid("kernel does not support CPU real-time scheduler"));
    }
    if period != 0 && runtime > period {
        return Err(Error::invalid(
            "cpu real-time runtime cannot be higher than cpu real-time period",
        ));
    }
    if period < 0 || runtime < 0 {
        return Err(Error::invalid("cpu real-time period and runtime cannot be negative"));
    }
    Ok(())
}

fn check_cpusets(asked: &mut HostConfig, host: &Host, warnings: &mut Vec<String>) -> Result<()> {
    let asked_for = !asked.cpuset_cpus.is_empty() || !asked.cpuset_mems.is_empty();
    if asked_for && !host.limits.cpuset {
        warnings.push(unsupported("cpuset", "Cpuset discarded."));
        asked.cpuset_cpus.clear();
        asked.cpuset_mems.clear();
    }
    for (list, available, what, one) in [
        (&asked.cpuset_cpus, &host.cpu_list, "CPUs", "cpuset cpus"),
        (&asked.cpuset_mems, &host.memory_nodes, "memory nodes", "cpuset mems"),
    ] {
        let wanted = numbers(list).ok_or_else(|| Error::invalid(format!("Invalid value {list} for {one}")))?;
        let present = numbers(available).unwrap_or_default();
        if wanted.iter().any(|number| !present.contains(number)) {
            return Err(Error::invalid(format!(
                "Requested {what} are not available - requested {list}, available: {available}"
            )));
        }
    }
    Ok(())
}

fn check_block_io(asked: &mut HostConfig, limits: &Limits, warnings: &mut Vec<String>) -> Result<()> {
    if asked.blkio_weight > 0 && !limits.blkio_weight {
        warnings.push(unsupported("Block I/O weight", "Weight discarded."));
        asked.blkio_weight = 0;
    }
    if asked.blkio_weight > 0 && !(10..=1000).contains(&asked.blkio_weight) {
        return Err(Error::invalid("Range of blkio weight is from 10 to 1000"));
    }
    if asked.io_maximum_bandwidth != 0 || asked.io_maximum_iops != 0 {
        return Err(Error::invalid(
            "Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps",
        ));
    }
    if filled(&asked.blkio_weight_device) && !limits.blkio_weight {
        warnings.push(unsupported("Block I/O weight_device", "Weight-device discarded."));
        asked.blkio_weight_device = None;
    }
    for device in asked.blkio_weight_device.iter().flatten() {
        if device.weight != 0 && !(10..=1000).contains(&device.weight) {
            return Err(Error::invalid(format!(
                "Range of blkio weight is from 10 to 1000: {} of {}",
                device.weight, device.path
            )));
        }
    }
    if limits.blkio {
        return Ok(());
    }
    for (rates, what, so) in [
        (
            &mut asked.blkio_device_read_bps,
            "BPS Block I/O read limit",
            "Block I/O BPS read limit discarded.",
        ),
        (
            &mut asked.blkio_device_write_bps,
            "BPS Block I/O write limit",
            "Block I/O BPS write limit discarded.",
        ),
        (
            &mut asked.blkio_device_read_iops,
            "IOPS Block read limit",
            "Block I/O IOPS read limit discarded.",
        ),
        (
            &mut asked.blkio_device_write_iops,
            "IOPS Block write limit",
            "Block I/O IOPS write limit discarded.",
        ),
    ] {
        if filled(rates) {
            warnings.push(unsupported(what, so));
            *rates = None;
        }
    }
    Ok(())
}

fn filled<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_some_and(|list| !list.is_empty())
}

/// `0-2,4`: the numbers of a list as the kernel writes it. Absent when it is malformed.
fn numbers(list: &str) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for part in list.split(',').filter(|_| !list.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?);
        if first > last || last > 8191 {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use corten_api::types::container::{HugepageLimit, ThrottleDevice, WeightDevice};

    use super::*;

    fn host(limits: Limits) -> Host {
        Host {
            cpus: 2,
            cpu_list: "0-1".to_owned(),
            memory_nodes: "0".to_owned(),
            memory: 1 << 30,
            cgroup_v2: false,
            limits,
            architecture: "amd64",
        }
    }

    fn refusal(change: impl Fn(&mut HostConfig)) -> String {
        let mut asked = HostConfig::default();
        change(&mut asked);
        check(&mut asked, &host(Limits::all()), &mut Vec::new())
            .expect_err("refused")
            .to_string()
    }

    #[test]
    fn limits_are_refused_in_dockers_words() {
        assert_eq!(refusal(|host| host.memory = 1), "Minimum memory limit allowed is 6MB");
        assert_eq!(refusal(|host| host.memory = -1), "Minimum memory limit allowed is 6MB");
        assert_eq!(
            refusal(|host| host.nano_cpus = 3_000_000_000),
            "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"
        );
        assert_eq!(
            refusal(|host| (host.memory, host.memory_swap) = (64 << 20, 32 << 20)),
            "Minimum memoryswap limit should be larger than memory limit, see usage"
        );
        assert_eq!(
            refusal(|host| host.cpuset_cpus = "0,7".to_owned()),
            "Requested CPUs are not available - requested 0,7, available: 0-1"
        );
        assert_eq!(
            refusal(|host| host.cpuset_cpus = "x".to_owned()),
            "Invalid value x for cpuset cpus"
        );
        assert_eq!(
            refusal(|host| host.blkio_weight = 5),
            "Range of blkio weight is from 10 to 1000"
        );
        assert_eq!(
            refusal(|host| (host.cpu_realtime_period, host.cpu_realtime_runtime) = (1000, 2000)),
            "cpu real-time runtime cannot be higher than cpu real-time period"
        );
        assert_eq!(
            refusal(|host| host.io_maximum_iops = 1),
            "Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps"
        );
    }

    #[test]
    fn memory_alone_gets_as_much_swap() {
        let mut asked = HostConfig {
            memory: 64 << 20,
            ..HostConfig::default()
        };
        let mut warnings = Vec::new();
        check(&mut asked, &host(Limits::all()), &mut warnings).expect("valid");
        assert_eq!((asked.memory_swap, warnings.len()), (128 << 20, 0));
        // But a change leaves the other as it is.
        asked.memory_swap = 0;
        check_change(&mut asked, &host(Limits::all()), &mut warnings).expect("valid");
        assert_eq!(asked.memory_swap, 0);
    }

    #[test]
    fn what_the_kernel_lacks_is_discarded_and_said() {
        let rate = |path: &str| {
            Some(vec![ThrottleDevice {
                path: path.to_owned(),
                rate: 1,
            }])
        };
        let mut asked = HostConfig {
            memory: 64 << 20,
            memory_reservation: 32 << 20,
            memory_swappiness: Some(10),
            oom_kill_disable: Some(true),
            pids_limit: Some(5),
            cpu_shares: 5,
            cpu_quota: 5000,
            cpuset_cpus: "0".to_owned(),
            blkio_weight: 100,
            blkio_weight_device: Some(vec![WeightDevice::default()]),
            blkio_device_read_bps: rate("/dev/a"),
            blkio_device_write_iops: rate("/dev/a"),
            ..HostConfig::default()
        };
        let mut warnings = Vec::new();
        check(&mut asked, &host(Limits::default()), &mut warnings).expect("nothing is left to refuse");
        let expected = HostConfig {
            memory_swap: -1,
            ..HostConfig::default()
        };
        assert_eq!(asked, expected);
        assert_eq!(
            warnings,
            [
                "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation \
                 discarded.",
                "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory \
                 swappiness discarded.",
                "Your kernel does not support memory soft limit capabilities or the cgroup is not mounted. Limitation \
                 discarded.",
                "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
                "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.",
                "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.",
                "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.",
                "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.",
                "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.",
                "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device \
                 discarded.",
                "Your kernel does not support BPS Block I/O read limit or the cgroup is not mounted. Block I/O BPS read \
                 limit discarded.",
                "Your kernel does not support IOPS Block write limit or the cgroup is not mounted. Block I/O IOPS write \
                 limit discarded.",
            ]
        );
    }

    #[test]
    fn what_cannot_be_done_without_the_kernel_is_refused() {
        let refused = |asked: HostConfig| {
            check(&mut asked.clone(), &host(Limits::default()), &mut Vec::new())
                .expect_err("refused")
                .to_string()
        };
        assert_eq!(
            refused(HostConfig {
                cpu_realtime_runtime: 1000,
                ..HostConfig::default()
            }),
            "kernel does not support CPU real-time scheduler"
        );
        let hugepages = HostConfig {
            hugepage_limits: Some(vec![HugepageLimit::default()]),
            ..HostConfig::default()
        };
        assert!(refused(hugepages).starts_with("huge pages cannot be limited"));
        assert!(
            refused(HostConfig {
                nano_cpus: 1_000_000_000,
                ..HostConfig::default()
            })
            .starts_with("NanoCPUs can not be set")
        );
    }
}

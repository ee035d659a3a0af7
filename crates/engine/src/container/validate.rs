//! What a create request may ask for, in Docker's words; and what this version does not have yet.
//!
//! Nothing that is asked for is silently ignored: it is done, warned about as Docker warns, or refused.
use corten_api::types::container::{ContainerConfig, HostConfig};

use crate::{
    container::{health_check, namespaces, networking, restart, view::CreateOptions},
    error::{Error, Result},
    host::Host,
    names, signal,
    task::{capabilities, resources, security},
};

const MINIMUM_MEMORY: i64 = 6 << 20;

/// Checks and completes (`MemorySwap`, discarded limits) a request; answers with warnings.
pub fn check(options: &mut CreateOptions, host: &Host) -> Result<Vec<String>> {
    if let Some(name) = &options.name {
        names::check("container", name)?;
    }
    absent(options)?;
    check_config(&options.config)?;
    let mut warnings = networking::check(&options.config, &options.host_config)?;
    let asked = &mut options.host_config;
    check_modes(asked)?;
    check_memory(asked, host, &mut warnings)?;
    check_processors(asked, host, &mut warnings)?;
    check_others(asked, host, &mut warnings)?;
    capabilities::resolve(
        asked.privileged,
        asked.cap_add.as_deref().unwrap_or_default(),
        asked.cap_drop.as_deref().unwrap_or_default(),
    )?;
    security::parse(asked.security_opt.as_deref().unwrap_or_default())?;
    for limit in asked.ulimits.iter().flatten() {
        resources::ulimit(limit)?;
    }
    for rule in asked.device_cgroup_rules.iter().flatten() {
        resources::parse_rule(rule)?;
    }
    Ok(warnings)
}

/// Capabilities of later versions.
fn absent(options: &CreateOptions) -> Result<()> {
    let host = &options.host_config;
    let runtime = host.runtime.as_deref().unwrap_or_default();
    let missing = [
        (filled(&host.volumes_from), "taking volumes from other containers"),
        (filled(&host.device_requests), "requesting devices from a driver"),
        (filled(&host.blkio_weight_device), "a block IO weight by device"),
        (!matches!(host.volume_driver.as_str(), "" | "local"), "a volume driver"),
        (
            host.storage_opt.as_ref().is_some_and(|options| !options.is_empty()),
            "storage options",
        ),
        (
            !matches!(runtime, "" | "runc" | "corten" | "io.containerd.runc.v2"),
            "another runtime",
        ),
        (
            !matches!(host.isolation.as_str(), "" | "default"),
            "isolation technologies",
        ),
        (!matches!(host.userns_mode.as_str(), "" | "host"), "user namespaces"),
        (!host.cgroup.is_empty(), "sharing a cgroup"),
        (
            host.cpu_count != 0 || host.cpu_percent != 0,
            "counting processors as Windows does",
        ),
        (
            host.io_maximum_iops != 0 || host.io_maximum_bandwidth != 0,
            "limiting IO as Windows does",
        ),
    ];
    match missing.into_iter().find(|(asked, _)| *asked) {
        Some((_, what)) => Err(Error::not_implemented(what)),
        None => Ok(()),
    }
}

fn filled<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_some_and(|list| !list.is_empty())
}

pub fn check_config(config: &ContainerConfig) -> Result<()> {
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(Error::invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    for variable in &config.env {
        if variable.is_empty() || variable.starts_with('=') {
            return Err(Error::invalid(format!("invalid environment variable: {variable}")));
        }
    }
    let words = config
        .env
        .iter()
        .chain(config.cmd.iter().flatten())
        .chain(config.entrypoint.iter().flatten());
    if words.into_iter().any(|word| word.contains('\0')) {
        return Err(Error::invalid(
            "invalid command line or environment: it contains a NUL byte",
        ));
    }
    if let Some(health) = &config.healthcheck {
        health_check::validate(health)?;
    }
    if let Some(name) = config.stop_signal.as_deref().filter(|name| !name.is_empty()) {
        signal::parse(name)?;
    }
    // The kernel's limit, which it would only tell at start.
    if config.hostname.len() > 63 || config.domainname.len() > 63 {
        return Err(Error::invalid(format!(
            "invalid hostname format: {} (at most 63 bytes)",
            config.hostname
        )));
    }
    Ok(())
}

fn check_modes(host: &HostConfig) -> Result<()> {
    let check = |what: &str, mode: &str, known: &[&str]| {
        let shares = matches!(what, "PID" | "IPC") && namespaces::other(mode).is_some_and(|other| !other.is_empty());
        if known.contains(&mode) || shares {
            Ok(())
        } else {
            Err(Error::invalid(format!("invalid {what} mode: {mode}")))
        }
    };
    check("PID", &host.pid_mode, &["", "private", "host"])?;
    check("IPC", &host.ipc_mode, &["", "private", "shareable", "host", "none"])?;
    check("UTS", &host.uts_mode, &["", "private", "host"])?;
    check("cgroup namespace", &host.cgroupns_mode, &["", "private", "host"])?;
    restart::check(&host.restart_policy)?;
    if host.auto_remove && !matches!(host.restart_policy.name.as_str(), "" | "no") {
        return Err(Error::invalid(
            "can't create 'AutoRemove' container with restart policy",
        ));
    }
    Ok(())
}

fn check_memory(asked: &mut HostConfig, host: &Host, warnings: &mut Vec<String>) -> Result<()> {
    if asked.memory != 0 && asked.memory < MINIMUM_MEMORY {
        return Err(Error::invalid("Minimum memory limit allowed is 6MB"));
    }
    if asked.memory > 0 && !host.limits.memory {
        warnings.push(
            "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded."
                .to_owned(),
        );
        (asked.memory, asked.memory_swap) = (0, -1);
    }
    if asked.memory > 0 && asked.memory_swap != -1 && !host.limits.swap {
        warnings.push(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without \
             swap."
                .to_owned(),
        );
        asked.memory_swap = -1;
    }
    if asked.memory > 0 && asked.memory_swap > 0 && asked.memory_swap < asked.memory {
        return Err(Error::invalid(
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ));
    }
    if asked.memory == 0 && asked.memory_swap > 0 {
        return Err(Error::invalid(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ));
    }
    if asked.memory > 0 && asked.memory_swap == 0 {
        asked.memory_swap = asked.memory.saturating_mul(2);
    }
    // -1 is how clients say "leave it".
    asked.memory_swappiness = asked.memory_swappiness.filter(|swappiness| *swappiness != -1);
    if let Some(swappiness) = asked.memory_swappiness {
        if !(0..=100).contains(&swappiness) {
            return Err(Error::invalid(format!(
                "Invalid value: {swappiness}, valid memory swappiness range is 0-100"
            )));
        }
        if host.cgroup_v2 {
            warnings.push("Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.".to_owned());
            asked.memory_swappiness = None;
        }
    }
    if asked.memory_reservation > 0 && asked.memory_reservation < MINIMUM_MEMORY {
        return Err(Error::invalid("Minimum memory reservation allowed is 6MB"));
    }
    if asked.memory > 0 && asked.memory_reservation > 0 && asked.memory < asked.memory_reservation {
        return Err(Error::invalid(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ));
    }
    if asked.oom_kill_disable == Some(true) {
        if !host.limits.oom_kill_disable {
            warnings.push("Your kernel does not support OomKillDisable. OomKillDisable discarded.".to_owned());
            asked.oom_kill_disable = None;
        } else if asked.memory == 0 {
            warnings.push(
                "OOM killer is disabled for the container, but no memory limit is set, this can result in the system \
                 running out of resources."
                    .to_owned(),
            );
        }
    }
    Ok(())
}

fn check_processors(asked: &mut HostConfig, host: &Host, warnings: &mut Vec<String>) -> Result<()> {
    if asked.nano_cpus != 0 {
        for (value, name) in [(asked.cpu_period, "Period"), (asked.cpu_quota, "Quota")] {
            if value > 0 {
                return Err(Error::invalid(format!(
                    "Conflicting options: Nano CPUs and CPU {name} cannot both be set."
                )));
            }
        }
        let most = i64::try_from(host.cpus)
            .unwrap_or(i64::MAX)
            .saturating_mul(1_000_000_000);
        if !(10_000_000..=most).contains(&asked.nano_cpus) {
            let cpus = host.cpus;
            return Err(Error::invalid(format!(
                "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
            )));
        }
    }
    if asked.cpu_period != 0 && !(1_000..=1_000_000).contains(&asked.cpu_period) {
        return Err(Error::invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ));
    }
    if asked.cpu_quota > 0 && asked.cpu_quota < 1_000 {
        return Err(Error::invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)"));
    }
    if asked.cpu_shares < 0 {
        return Err(Error::invalid(format!(
            "invalid CPU shares ({}): value must be a positive integer",
            asked.cpu_shares
        )));
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
    if asked.nano_cpus > 0 && !host.limits.cpu_quota {
        warnings.push("Your kernel does not support CPU CFS scheduler. CPU limit discarded.".to_owned());
        asked.nano_cpus = 0;
    }
    Ok(())
}

fn check_others(asked: &mut HostConfig, host: &Host, warnings: &mut Vec<String>) -> Result<()> {
    if !(-1000..=1000).contains(&asked.oom_score_adj) {
        return Err(Error::invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            asked.oom_score_adj
        )));
    }
    if asked.shm_size < 0 {
        return Err(Error::invalid("SHM size can not be less than 0"));
    }
    if asked.blkio_weight != 0 && !(10..=1000).contains(&asked.blkio_weight) {
        return Err(Error::invalid("Range of blkio weight is from 10 to 1000"));
    }
    if asked.pids_limit.is_some_and(|limit| limit > 0) && !host.limits.pids {
        warnings.push(
            "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded."
                .to_owned(),
        );
        asked.pids_limit = None;
    }
    if asked.cgroup_parent.split('/').any(|part| part == "..") {
        return Err(Error::invalid(format!(
            "invalid cgroup parent: {}",
            asked.cgroup_parent
        )));
    }
    for (key, value) in asked.sysctls.iter().flatten() {
        if key.is_empty() || value.contains('\n') || key.contains(['\n', '=', '+']) || key.contains("..") {
            return Err(Error::invalid(format!("invalid sysctl: {key}={value}")));
        }
        if key.starts_with("net.") && asked.network_mode == "host" {
            return Err(Error::invalid(format!(
                "sysctl '{key}' not allowed as host network namespace is used"
            )));
        }
    }
    Ok(())
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
    use super::*;
    use crate::host::Limits;

    fn host() -> Host {
        Host {
            cpus: 2,
            cpu_list: "0-1".to_owned(),
            memory_nodes: "0".to_owned(),
            memory: 1 << 30,
            cgroup_v2: false,
            limits: Limits {
                memory: true,
                swap: true,
                oom_kill_disable: true,
                cpu_shares: true,
                cpu_quota: true,
                cpuset: true,
                pids: true,
                blkio: true,
            },
            architecture: "amd64",
        }
    }

    fn refusal(change: impl Fn(&mut HostConfig)) -> String {
        let mut options = CreateOptions::default();
        options.host_config.network_mode = "none".to_owned();
        change(&mut options.host_config);
        check(&mut options, &host()).expect_err("refused").to_string()
    }

    #[test]
    fn limits_are_refused_in_dockers_words() {
        assert_eq!(refusal(|host| host.memory = 1), "Minimum memory limit allowed is 6MB");
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
    }

    #[test]
    fn memory_alone_gets_as_much_swap() {
        let mut options = CreateOptions::default();
        options.host_config.network_mode = "none".to_owned();
        options.host_config.memory = 64 << 20;
        assert!(check(&mut options, &host()).expect("valid").is_empty());
        assert_eq!(options.host_config.memory_swap, 128 << 20);
    }

    #[test]
    fn what_is_missing_says_what_works_today() {
        assert!(refusal(|host| host.pid_mode = "container:x".to_owned()).contains("PID namespace"));
    }
}

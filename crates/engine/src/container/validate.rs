//! What a create request may ask for, in Docker's words; and what this version does not have yet.
//!
//! Nothing that is asked for is silently ignored: it is done, warned about as Docker warns, or refused.
use corten_api::types::container::{ContainerConfig, HostConfig};

use crate::{
    container::{health_check, limits, namespaces, networking, restart, view::CreateOptions},
    error::{Error, Result},
    host::Host,
    names, signal,
    task::{capabilities, resources, security},
    volume::options::bytes,
};

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
    limits::check(asked, host, &mut warnings)?;
    check_others(asked)?;
    capabilities::resolve(
        asked.privileged,
        asked.cap_add.as_deref().unwrap_or_default(),
        asked.cap_drop.as_deref().unwrap_or_default(),
    )?;
    let security = security::parse(asked.security_opt.as_deref().unwrap_or_default())?;
    let discarded = security.discarded.iter();
    warnings
        .extend(discarded.map(|what| format!("{what} discarded: it means nothing to this host's kernel or daemon")));
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
    if !matches!(runtime, "" | "runc" | "corten" | "io.containerd.runc.v2") {
        return Err(Error::invalid(format!("unknown or invalid runtime name: {runtime}")));
    }
    if !matches!(host.isolation.as_str(), "" | "default") {
        return Err(Error::invalid(format!(
            "Invalid isolation: {:?} - linux only supports 'default'",
            host.isolation
        )));
    }
    match host.cgroup.is_empty() {
        true => Ok(()),
        false => Err(Error::not_implemented("sharing a cgroup")),
    }
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
    if !matches!(host.userns_mode.as_str(), "" | "host") {
        return Err(Error::invalid(format!(
            "invalid user namespace mode: {}",
            host.userns_mode
        )));
    }
    check("cgroup namespace", &host.cgroupns_mode, &["", "private", "host"])?;
    restart::check(&host.restart_policy)?;
    if host.auto_remove && !matches!(host.restart_policy.name.as_str(), "" | "no") {
        return Err(Error::invalid(
            "can't create 'AutoRemove' container with restart policy",
        ));
    }
    Ok(())
}

fn check_others(asked: &HostConfig) -> Result<()> {
    if !(-1000..=1000).contains(&asked.oom_score_adj) {
        return Err(Error::invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            asked.oom_score_adj
        )));
    }
    if asked.shm_size < 0 {
        return Err(Error::invalid("SHM size can not be less than 0"));
    }
    if asked.cgroup_parent.split('/').any(|part| part == "..") {
        return Err(Error::invalid(format!(
            "invalid cgroup parent: {}",
            asked.cgroup_parent
        )));
    }
    for (key, value) in asked.storage_opt.iter().flatten() {
        if !key.eq_ignore_ascii_case("size") {
            return Err(Error::invalid(format!("Unknown option {key}")));
        }
        if bytes(value).is_none() {
            return Err(Error::invalid(format!("invalid size: '{value}'")));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl Fn(&mut HostConfig)) -> String {
        let mut options = CreateOptions::default();
        options.host_config.network_mode = "none".to_owned();
        change(&mut options.host_config);
        check(&mut options, &Host::probe()).expect_err("refused").to_string()
    }

    #[test]
    fn what_is_missing_says_what_works_today() {
        assert!(
            refusal(|host| host.runtime = Some("kata".to_owned())).contains("unknown or invalid runtime name: kata")
        );
    }
}

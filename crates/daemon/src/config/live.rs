//! The part of the configuration that may change while the daemon runs: what `SIGHUP` reads anew.
use std::collections::{BTreeMap, BTreeSet};

use corten_engine::config::Live;
use serde_json::Value;

use crate::config::{
    error::{ConfigError, invalid},
    file::File,
    flags::Flags,
    load::either,
    value::{pair, size},
};

/// No setting is in both: whichever is there is meant. What neither says is at its default.
pub fn join(flags: &Flags, file: &File) -> Result<Live, ConfigError> {
    let default = Live::default();
    let text = |flag: &Option<String>, file: &Option<String>, default: &str| {
        let chosen = flag.as_ref().or(file.as_ref()).filter(|text| !text.is_empty());
        chosen.map_or_else(|| default.to_owned(), Clone::clone)
    };
    let shm = flags.default_shm_size.clone().map(Value::from);
    let shm = shm.or_else(|| file.default_shm_size.clone());
    let labels = either(&flags.labels, &file.labels);
    check_labels(&labels)?;
    let registry_mirrors = either(&flags.registry_mirrors, &file.registry_mirrors);
    registry_mirrors.iter().try_for_each(|mirror| check_mirror(mirror))?;
    let ipc = text(
        &flags.default_ipc_mode,
        &file.default_ipc_mode,
        &default.default_ipc_mode,
    );
    if !matches!(ipc.as_str(), "private" | "shareable") {
        return Err(invalid(
            "default-ipc-mode",
            format!("\"{ipc}\" is neither private nor shareable"),
        ));
    }
    let cgroupns = text(&flags.default_cgroupns_mode, &file.default_cgroupns_mode, "");
    if !matches!(cgroupns.as_str(), "" | "private" | "host") {
        let reason = format!("default cgroup namespace mode ({cgroupns}) is invalid; use \"host\" or \"private\"");
        return Err(invalid("default-cgroupns-mode", reason));
    }
    Ok(Live {
        debug: flags.debug.or(file.debug).unwrap_or(default.debug),
        labels,
        live_restore: flags.live_restore.or(file.live_restore).unwrap_or(default.live_restore),
        shutdown_timeout_seconds: flags
            .shutdown_timeout
            .or(file.shutdown_timeout)
            .unwrap_or(default.shutdown_timeout_seconds),
        default_shm_size: shm.as_ref().map(size).transpose()?.unwrap_or_default(),
        default_ipc_mode: ipc,
        default_cgroupns_mode: cgroupns,
        registry_mirrors,
        insecure_registries: either(&flags.insecure_registries, &file.insecure_registries),
        max_concurrent_downloads: count(
            "max-concurrent-downloads",
            0,
            flags.max_concurrent_downloads.or(file.max_concurrent_downloads),
            default.max_concurrent_downloads,
        )?,
        max_concurrent_uploads: count(
            "max-concurrent-uploads",
            0,
            flags.max_concurrent_uploads.or(file.max_concurrent_uploads),
            default.max_concurrent_uploads,
        )?,
        max_download_attempts: count(
            "max-download-attempts",
            1,
            flags.max_download_attempts.or(file.max_download_attempts),
            default.max_download_attempts,
        )?,
        features: features(&flags.features, &file.features)?,
    })
}

fn check_labels(labels: &[String]) -> Result<(), ConfigError> {
    let mut seen = BTreeSet::new();
    for label in labels {
        let (key, _) = pair("label", label)?;
        if !seen.insert(key.clone()) {
            return Err(invalid(
                "label",
                format!("conflict labels for {key}: it is given twice"),
            ));
        }
    }
    Ok(())
}

fn check_mirror(mirror: &str) -> Result<(), ConfigError> {
    let rest = mirror
        .strip_prefix("https://")
        .or_else(|| mirror.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.trim_matches('/').is_empty() && !rest.contains(['?', '#', '@']) => Ok(()),
        _ => Err(invalid(
            "registry-mirror",
            format!("invalid mirror: \"{mirror}\" is no URL of the form https://HOST[:PORT]"),
        )),
    }
}

/// A number that must not be below `least`, in dockerd's words; absent means the default.
fn count(name: &'static str, least: i64, given: Option<i64>, default: u32) -> Result<u32, ConfigError> {
    let Some(number) = given else {
        return Ok(default);
    };
    let checked = u32::try_from(number).ok().filter(|_| number >= least);
    checked.ok_or_else(|| invalid(name, format!("invalid {}: {number}", name.replace('-', " "))))
}

fn features(flags: &[String], file: &BTreeMap<String, bool>) -> Result<BTreeMap<String, bool>, ConfigError> {
    let mut features = file.clone();
    for text in flags {
        let (name, value) = text.split_once('=').unwrap_or((text, "true"));
        let on = match value {
            "true" | "1" => true,
            "false" | "0" => false,
            _ => return Err(invalid("feature", format!("\"{text}\" is not NAME=true or NAME=false"))),
        };
        features.insert(name.to_owned(), on);
    }
    Ok(features)
}

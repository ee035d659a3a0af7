//! `daemon.json`: its keys, and what contradicts the command line.
//!
//! As with dockerd, one setting comes from one place: a setting that both give is an error, and so is a key that nobody
//! knows. Lists that are only ever added to (`labels`, `insecure-registries`, …) are no exception.
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use corten_api::types::container::Ulimit;
use serde::Deserialize;
use serde_json::Value;

use crate::config::{
    error::ConfigError,
    flags::Flags,
    network_file::{self, NetworkFile},
    value::shown,
};

pub const DEFAULT_CONFIG_FILE: &str = "/etc/docker/daemon.json";

/// The file's content.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct File {
    pub hosts: Vec<String>,
    pub data_root: Option<PathBuf>,
    pub exec_root: Option<PathBuf>,
    pub pidfile: Option<PathBuf>,
    pub debug: Option<bool>,
    pub log_level: Option<String>,
    pub log_format: Option<String>,
    pub raw_logs: Option<bool>,
    pub group: Option<String>,
    pub cgroup_parent: Option<String>,
    pub default_ulimits: BTreeMap<String, FileUlimit>,
    pub default_shm_size: Option<Value>,
    pub default_ipc_mode: Option<String>,
    pub default_cgroupns_mode: Option<String>,
    pub default_runtime: Option<String>,
    pub runtimes: BTreeMap<String, Value>,
    pub init: Option<bool>,
    pub no_new_privileges: Option<bool>,
    pub seccomp_profile: Option<String>,
    pub selinux_enabled: Option<bool>,
    pub log_driver: Option<String>,
    pub log_opts: BTreeMap<String, String>,
    pub labels: Vec<String>,
    pub insecure_registries: Vec<String>,
    pub registry_mirrors: Vec<String>,
    pub max_concurrent_downloads: Option<i64>,
    pub max_concurrent_uploads: Option<i64>,
    pub max_download_attempts: Option<i64>,
    pub proxies: Proxies,
    pub exec_opts: Vec<String>,
    pub storage_driver: Option<String>,
    pub storage_opts: Vec<String>,
    pub userns_remap: Option<String>,
    pub live_restore: Option<bool>,
    pub shutdown_timeout: Option<i64>,
    pub features: BTreeMap<String, bool>,
    pub cdi_spec_dirs: Option<Vec<PathBuf>>,
    pub cpu_rt_period: u64,
    pub cpu_rt_runtime: u64,
    pub metrics_addr: Option<String>,
    pub tls: Option<bool>,
    pub tlsverify: Option<bool>,
    pub tlscacert: Option<PathBuf>,
    pub tlscert: Option<PathBuf>,
    pub tlskey: Option<PathBuf>,
    pub api_max_connections: Option<usize>,
    pub api_header_timeout: Option<u64>,
    #[serde(flatten)]
    pub network: NetworkFile,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FileUlimit {
    name: String,
    soft: i64,
    hard: i64,
}

/// What the daemon's own traffic goes through.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Proxies {
    pub http_proxy: String,
    pub https_proxy: String,
    pub no_proxy: String,
}

/// The keys of [`File`]; those about networks are in `network_file`.
const KNOWN_KEYS: [&str; 48] = [
    "hosts",
    "data-root",
    "exec-root",
    "pidfile",
    "debug",
    "log-level",
    "log-format",
    "raw-logs",
    "group",
    "cgroup-parent",
    "default-ulimits",
    "default-shm-size",
    "default-ipc-mode",
    "default-cgroupns-mode",
    "default-runtime",
    "runtimes",
    "init",
    "no-new-privileges",
    "seccomp-profile",
    "selinux-enabled",
    "log-driver",
    "log-opts",
    "labels",
    "insecure-registries",
    "registry-mirrors",
    "max-concurrent-downloads",
    "max-concurrent-uploads",
    "max-download-attempts",
    "proxies",
    "exec-opts",
    "storage-driver",
    "storage-opts",
    "userns-remap",
    "live-restore",
    "shutdown-timeout",
    "features",
    "cdi-spec-dirs",
    "cpu-rt-period",
    "cpu-rt-runtime",
    "metrics-addr",
    "tls",
    "tlsverify",
    "tlscacert",
    "tlscert",
    "tlskey",
    "api-max-connections",
    "api-header-timeout",
    "validate",
];
/// Keys that are accepted and change nothing, because what they are about does not exist here or is always so.
const IDLE_KEYS: [&str; 10] = [
    "containerd",
    "containerd-namespace",
    "containerd-plugin-namespace",
    "experimental",
    "builder",
    "init-path",
    "swarm-default-advertise-addr",
    "network-diagnostic-port",
    "node-generic-resources",
    // The oldest version is served anyway.
    "min-api-version",
];
/// Keys of dockerd's whose absence an operator would miss.
const ABSENT_KEYS: [&str; 1] = ["authorization-plugins"];
/// Keys that a reload puts into force; of others it says that they need a new start.
const LIVE_KEYS: [&str; 17] = [
    "debug",
    "log-level",
    "labels",
    "live-restore",
    "shutdown-timeout",
    "default-shm-size",
    "default-ipc-mode",
    "default-cgroupns-mode",
    "default-runtime",
    "runtimes",
    "features",
    "registry-mirrors",
    "insecure-registries",
    "max-concurrent-downloads",
    "max-concurrent-uploads",
    "max-download-attempts",
    "validate",
];

/// A file as it was read.
#[derive(Debug, Clone, Default)]
pub struct Read {
    pub file: File,
    /// Its members, for comparing it with its successor.
    pub given: BTreeMap<String, Value>,
}

/// The file that the flags name, or the usual one. Only a file that was asked for has to be there.
pub fn load(flags: &Flags) -> Result<Read, ConfigError> {
    let path = flags
        .config_file
        .clone()
        .unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG_FILE));
    match fs::read_to_string(&path) {
        Ok(text) => read(&path, &text, flags),
        Err(error) if error.kind() == io::ErrorKind::NotFound && flags.config_file.is_none() => Ok(Read::default()),
        Err(source) => Err(ConfigError::Read {
            path: path.display().to_string(),
            source,
        }),
    }
}

pub fn read(path: &Path, text: &str, flags: &Flags) -> Result<Read, ConfigError> {
    if text.trim().is_empty() {
        return Ok(Read::default());
    }
    let path = path.display().to_string();
    let malformed = |error: serde_json::Error| ConfigError::File {
        path: path.clone(),
        reason: error.to_string(),
    };
    let given: BTreeMap<String, Value> = serde_json::from_str(text).map_err(malformed)?;
    check_keys(&path, &given)?;
    check_conflicts(&path, &given, flags)?;
    let file = serde_json::from_str(text).map_err(malformed)?;
    Ok(Read { file, given })
}

fn check_keys(path: &str, given: &BTreeMap<String, Value>) -> Result<(), ConfigError> {
    let rooms: [&[&str]; 4] = [&KNOWN_KEYS, &IDLE_KEYS, &network_file::KEYS, &network_file::IDLE_KEYS];
    let strange = given
        .keys()
        .map(String::as_str)
        .filter(|key| !rooms.iter().any(|room| room.contains(key)));
    let (absent, unknown): (Vec<_>, Vec<_>) = strange.partition(|key| ABSENT_KEYS.contains(key));
    if !unknown.is_empty() {
        return Err(ConfigError::UnknownKeys {
            path: path.to_owned(),
            names: unknown.join(", "),
        });
    }
    if !absent.is_empty() {
        return Err(ConfigError::NotImplemented(format!("{} in {path}", absent.join(", "))));
    }
    Ok(())
}

fn check_conflicts(path: &str, given: &BTreeMap<String, Value>, flags: &Flags) -> Result<(), ConfigError> {
    let both: Vec<_> = flags
        .given()
        .filter_map(|(key, flag)| Some((key, flag, given.get(key)?)))
        .map(|(key, flag, value)| format!("{key}: (from flag: {flag}, from file: {})", shown(value)))
        .collect();
    if both.is_empty() {
        return Ok(());
    }
    Err(ConfigError::Conflict {
        path: path.to_owned(),
        names: both.join(", "),
    })
}

/// Which keys differ and cannot change while the daemon runs.
pub fn need_restart(old: &BTreeMap<String, Value>, new: &BTreeMap<String, Value>) -> Vec<String> {
    let keys = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key)));
    let changed = keys.filter(|key| !LIVE_KEYS.contains(&key.as_str()) && old.get(*key) != new.get(*key));
    changed.cloned().collect()
}

impl File {
    pub fn ulimits(&self) -> Vec<Ulimit> {
        let named = self.default_ulimits.iter().map(|(key, limit)| Ulimit {
            name: if limit.name.is_empty() {
                key.clone()
            } else {
                limit.name.clone()
            },
            soft: limit.soft,
            hard: limit.hard,
        });
        named.collect()
    }
}

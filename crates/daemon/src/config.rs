//! What an operator decided, from the command line and `daemon.json` together.
//!
//! As with dockerd, one setting comes from one place: a setting that both give is an error, and so is a key that nobody
//! knows. Lists that are only ever added to (`labels`, `insecure-registries`, …) are no exception.
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use corten_api::types::container::Ulimit;
use corten_engine::engine::EngineConfig;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    flags::Flags,
    network_config::{self, NetworkFile},
};

pub const DEFAULT_CONFIG_FILE: &str = "/etc/docker/daemon.json";
const DEFAULT_DATA_ROOT: &str = "/var/lib/corten";
const DEFAULT_RUN_ROOT: &str = "/run/corten";

/// Why a configuration is none.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("unable to configure the daemon with file {path}: {reason}")]
    File { path: String, reason: String },
    #[error("cannot read {path}")]
    Read {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "unable to configure the daemon with file {path}: the following directives are specified both as a flag and in \
         the configuration file: {names}"
    )]
    Conflict { path: String, names: String },
    #[error(
        "unable to configure the daemon with file {path}: the following directives don't match any configuration \
         option: {names}"
    )]
    UnknownKeys { path: String, names: String },
    #[error("invalid value for {name}: {reason}")]
    Value { name: &'static str, reason: String },
    #[error("{0} is not implemented yet (see docs/compatibility.md)")]
    NotImplemented(String),
}

/// Everything decided.
#[derive(Debug, Clone)]
pub struct Config {
    pub engine: EngineConfig,
    /// As given; empty means the default sockets.
    pub hosts: Vec<String>,
    pub pidfile: PathBuf,
    /// Who may use unix sockets besides root; absent means `docker` where that group exists.
    pub group: Option<String>,
    pub level: tracing::Level,
}

/// `daemon.json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    hosts: Vec<String>,
    data_root: Option<PathBuf>,
    exec_root: Option<PathBuf>,
    pidfile: Option<PathBuf>,
    debug: bool,
    log_level: Option<String>,
    group: Option<String>,
    cgroup_parent: Option<String>,
    default_ulimits: BTreeMap<String, FileUlimit>,
    default_shm_size: Option<Value>,
    init: bool,
    log_driver: Option<String>,
    log_opts: BTreeMap<String, String>,
    labels: Vec<String>,
    insecure_registries: Vec<String>,
    registry_mirrors: Vec<String>,
    exec_opts: Vec<String>,
    storage_driver: Option<String>,
    #[serde(flatten)]
    network: NetworkFile,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct FileUlimit {
    name: String,
    soft: i64,
    hard: i64,
}

/// Keys that mean something here.
const KNOWN_KEYS: [&str; 18] = [
    "hosts",
    "data-root",
    "exec-root",
    "pidfile",
    "debug",
    "log-level",
    "group",
    "cgroup-parent",
    "default-ulimits",
    "default-shm-size",
    "init",
    "log-driver",
    "log-opts",
    "labels",
    "insecure-registries",
    "registry-mirrors",
    "exec-opts",
    "storage-driver",
];
/// Keys that are accepted and change nothing, because what they are about does not exist here or is always so.
const IDLE_KEYS: [&str; 12] = [
    "live-restore",
    "containerd",
    "containerd-namespace",
    "containerd-plugin-namespace",
    "features",
    "experimental",
    "builder",
    "max-concurrent-downloads",
    "max-concurrent-uploads",
    "max-download-attempts",
    "shutdown-timeout",
    "storage-opts",
];
/// Keys of dockerd's whose absence an operator would miss.
const ABSENT_KEYS: [&str; 19] = [
    "tls",
    "tlsverify",
    "tlscacert",
    "tlscert",
    "tlskey",
    "authorization-plugins",
    "userns-remap",
    "default-runtime",
    "runtimes",
    "seccomp-profile",
    "selinux-enabled",
    "no-new-privileges",
    "metrics-addr",
    "swarm-default-advertise-addr",
    "default-ipc-mode",
    "default-cgroupns-mode",
    "log-format",
    "raw-logs",
    "proxies",
];

impl Config {
    /// Reads the file and joins it with the flags.
    pub fn load(flags: &Flags) -> Result<Config, ConfigError> {
        refuse_absent_flags(flags)?;
        let path = flags
            .config_file
            .clone()
            .unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG_FILE));
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            // Only a file that was asked for has to be there.
            Err(error) if error.kind() == io::ErrorKind::NotFound && flags.config_file.is_none() => String::new(),
            Err(source) => {
                return Err(ConfigError::Read {
                    path: path.display().to_string(),
                    source,
                });
            }
        };
        let file = read_file(&path, &text, flags)?;
        join(flags, file)
    }
}

fn refuse_absent_flags(flags: &Flags) -> Result<(), ConfigError> {
    let tls = flags.tls == Some(true) || flags.tlsverify == Some(true);
    if tls || flags.tlscacert.is_some() || flags.tlscert.is_some() || flags.tlskey.is_some() {
        return Err(ConfigError::NotImplemented(
            "TLS (--tls, --tlsverify, --tlscacert, --tlscert, --tlskey)".to_owned(),
        ));
    }
    Ok(())
}

fn read_file(path: &Path, text: &str, flags: &Flags) -> Result<File, ConfigError> {
    if text.trim().is_empty() {
        return Ok(File::default());
    }
    let path = path.display().to_string();
    let malformed = |error: serde_json::Error| ConfigError::File {
        path: path.clone(),
        reason: error.to_string(),
    };
    let value: BTreeMap<String, Value> = serde_json::from_str(text).map_err(malformed)?;
    let unknown = value.keys().map(String::as_str);
    let known = [
        &KNOWN_KEYS[..],
        &IDLE_KEYS,
        &network_config::KEYS,
        &network_config::IDLE_KEYS,
    ]
    .concat();
    let unknown = unknown.filter(|key| !known.contains(key));
    let (absent, unknown): (Vec<_>, Vec<_>) = unknown.partition(|key| ABSENT_KEYS.contains(key));
    if !unknown.is_empty() {
        return Err(ConfigError::UnknownKeys {
            path,
            names: unknown.join(", "),
        });
    }
    if !absent.is_empty() {
        return Err(ConfigError::NotImplemented(format!("{} in {path}", absent.join(", "))));
    }
    let given = given_as_flags(flags);
    let both: Vec<_> = value
        .keys()
        .map(String::as_str)
        .filter(|key| given.contains(key))
        .collect();
    if !both.is_empty() {
        return Err(ConfigError::Conflict {
            path,
            names: both.join(", "),
        });
    }
    serde_json::from_str(text).map_err(malformed)
}

/// The keys of `daemon.json` that the command line has decided already.
fn given_as_flags(flags: &Flags) -> BTreeSet<&'static str> {
    let given = [
        ("hosts", !flags.hosts.is_empty()),
        ("data-root", flags.data_root.is_some()),
        ("exec-root", flags.exec_root.is_some()),
        ("pidfile", flags.pidfile.is_some()),
        ("debug", flags.debug),
        ("log-level", flags.log_level.is_some()),
        ("group", flags.group.is_some()),
        ("cgroup-parent", flags.cgroup_parent.is_some()),
        ("default-ulimits", !flags.default_ulimits.is_empty()),
        ("default-shm-size", flags.default_shm_size.is_some()),
        ("init", flags.init),
        ("log-driver", flags.log_driver.is_some()),
        ("log-opts", !flags.log_opts.is_empty()),
        ("labels", !flags.labels.is_empty()),
        ("insecure-registries", !flags.insecure_registries.is_empty()),
        ("registry-mirrors", !flags.registry_mirrors.is_empty()),
        ("exec-opts", !flags.exec_opts.is_empty()),
        ("storage-driver", flags.storage_driver.is_some()),
        ("live-restore", flags.live_restore),
    ];
    let given = given.into_iter().filter(|(_, given)| *given).map(|(key, _)| key);
    given.chain(flags.network.given()).collect()
}

/// No setting is in both: whichever is there is meant.
fn join(flags: &Flags, file: File) -> Result<Config, ConfigError> {
    let path = |flag: &Option<PathBuf>, file: Option<PathBuf>, default: &str| {
        flag.clone().or(file).unwrap_or_else(|| PathBuf::from(default))
    };
    let either = |flag: &[String], file: Vec<String>| if flag.is_empty() { file } else { flag.to_vec() };
    let data_root = absolute("data-root", path(&flags.data_root, file.data_root, DEFAULT_DATA_ROOT))?;
    let run_root = absolute("exec-root", path(&flags.exec_root, file.exec_root, DEFAULT_RUN_ROOT))?;
    check_storage_driver(flags.storage_driver.as_deref().or(file.storage_driver.as_deref()))?;
    check_exec_options(&either(&flags.exec_opts, file.exec_opts))?;
    let debug = flags.debug || file.debug;
    let level = level(flags.log_level.as_deref().or(file.log_level.as_deref()), debug)?;
    let log_driver = flags
        .log_driver
        .clone()
        .or(file.log_driver)
        .unwrap_or_else(|| "json-file".to_owned());
    if !matches!(log_driver.as_str(), "json-file" | "none") {
        return Err(ConfigError::NotImplemented(format!(
            "log driver {log_driver} (use json-file or none)"
        )));
    }
    let mut log_options = file.log_opts;
    for option in &flags.log_opts {
        let (key, value) = pair("log-opt", option)?;
        log_options.insert(key, value);
    }
    let mut default_ulimits = file_ulimits(file.default_ulimits);
    for text in &flags.default_ulimits {
        default_ulimits.push(ulimit(text)?);
    }
    let labels = either(&flags.labels, file.labels);
    for label in &labels {
        pair("label", label)?;
    }
    let shm = flags
        .default_shm_size
        .clone()
        .map(Value::from)
        .or(file.default_shm_size);
    let pidfile = flags
        .pidfile
        .clone()
        .or(file.pidfile)
        .unwrap_or_else(|| run_root.join("corten.pid"));
    Ok(Config {
        hosts: either(&flags.hosts, file.hosts),
        pidfile: absolute("pidfile", pidfile)?,
        group: flags.group.clone().or(file.group),
        level,
        engine: EngineConfig {
            network: network_config::join(&flags.network, file.network, &data_root, &run_root)?,
            data_root,
            run_root,
            cgroup_parent: flags
                .cgroup_parent
                .clone()
                .or(file.cgroup_parent)
                .filter(|parent| !parent.is_empty()),
            log_driver,
            log_options,
            init: flags.init || file.init,
            labels,
            debug,
            default_ulimits,
            default_shm_size: shm.as_ref().map(size).transpose()?.unwrap_or_default(),
            registry_mirrors: either(&flags.registry_mirrors, file.registry_mirrors),
            insecure_registries: either(&flags.insecure_registries, file.insecure_registries),
        },
    })
}

fn absolute(name: &'static str, path: PathBuf) -> Result<PathBuf, ConfigError> {
    std::path::absolute(&path).map_err(|error| ConfigError::Value {
        name,
        reason: format!("{}: {error}", path.display()),
    })
}

fn check_storage_driver(driver: Option<&str>) -> Result<(), ConfigError> {
    match driver {
        None | Some("" | "overlay2" | "overlayfs") => Ok(()),
        Some(other) => Err(ConfigError::NotImplemented(format!(
            "storage driver {other} (use overlay2)"
        ))),
    }
}

fn check_exec_options(options: &[String]) -> Result<(), ConfigError> {
    for option in options {
        match pair("exec-opt", option)? {
            (key, value) if key == "native.cgroupdriver" && value == "cgroupfs" => {}
            (key, value) if key == "native.cgroupdriver" => {
                return Err(ConfigError::NotImplemented(format!(
                    "cgroup driver {value} (use cgroupfs)"
                )));
            }
            (key, _) => {
                return Err(ConfigError::Value {
                    name: "exec-opt",
                    reason: format!("unknown option {key}"),
                });
            }
        }
    }
    Ok(())
}

fn level(text: Option<&str>, debug: bool) -> Result<tracing::Level, ConfigError> {
    Ok(match text.unwrap_or("info") {
        _ if debug => tracing::Level::DEBUG,
        "trace" => tracing::Level::TRACE,
        "debug" => tracing::Level::DEBUG,
        "info" => tracing::Level::INFO,
        "warn" | "warning" => tracing::Level::WARN,
        "error" | "fatal" | "panic" => tracing::Level::ERROR,
        other => {
            return Err(ConfigError::Value {
                name: "log-level",
                reason: format!("\"{other}\" is no logging level"),
            });
        }
    })
}

fn pair(name: &'static str, text: &str) -> Result<(String, String), ConfigError> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(ConfigError::Value {
            name,
            reason: format!("\"{text}\" is not KEY=VALUE"),
        }),
    }
}

fn file_ulimits(ulimits: BTreeMap<String, FileUlimit>) -> Vec<Ulimit> {
    let named = ulimits.into_iter().map(|(key, limit)| Ulimit {
        name: if limit.name.is_empty() { key } else { limit.name },
        soft: limit.soft,
        hard: limit.hard,
    });
    named.collect()
}

/// `nofile=1024:2048`; without a hard limit both are the same.
fn ulimit(text: &str) -> Result<Ulimit, ConfigError> {
    let (name, limits) = pair("default-ulimit", text)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((&limits, &limits));
    let number = |text: &str| match text {
        "unlimited" => Ok(-1),
        _ => text.parse().map_err(|_| ConfigError::Value {
            name: "default-ulimit",
            reason: format!("\"{text}\" is no limit"),
        }),
    };
    let (soft, hard) = (number(soft)?, number(hard)?);
    if hard != -1 && (soft > hard || soft == -1) {
        let reason = format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}");
        return Err(ConfigError::Value {
            name: "default-ulimit",
            reason,
        });
    }
    Ok(Ulimit { name, soft, hard })
}

/// A number of bytes, or one with a unit (`64M`, `1gb`).
fn size(value: &Value) -> Result<i64, ConfigError> {
    let refused = || ConfigError::Value {
        name: "default-shm-size",
        reason: format!("{value} is no size"),
    };
    if let Some(bytes) = value.as_i64() {
        return Ok(bytes);
    }
    let text = value.as_str().ok_or_else(refused)?.trim().to_ascii_lowercase();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: i64 = text[..digits].parse().map_err(|_| refused())?;
    let shift = match text[digits..].trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(refused()),
    };
    number.checked_mul(1 << shift).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn load(arguments: &[&str], file: &str) -> Result<Config, ConfigError> {
        let flags = Flags::try_parse_from(["dockerd"].iter().chain(arguments)).expect("good flags");
        refuse_absent_flags(&flags)?;
        join(&flags, read_file(Path::new("daemon.json"), file, &flags)?)
    }

    fn refusal(arguments: &[&str], file: &str) -> String {
        load(arguments, file).expect_err("refused").to_string()
    }

    #[test]
    fn defaults_are_corten_s_own_places() {
        let config = load(&[], "").unwrap();
        assert_eq!(config.engine.data_root, Path::new("/var/lib/corten"));
        assert_eq!(config.engine.run_root, Path::new("/run/corten"));
        assert_eq!(config.pidfile, Path::new("/run/corten/corten.pid"));
        assert_eq!(config.engine.log_driver, "json-file");
        assert_eq!(config.level, tracing::Level::INFO);
    }

    #[test]
    fn flags_and_file_add_up() {
        let config = load(
            &[
                "-H",
                "unix:///a",
                "-H",
                "tcp://127.0.0.1:1",
                "-D",
                "--exec-opt",
                "native.cgroupdriver=cgroupfs",
            ],
            r#"{"data-root": "/data", "log-opts": {"max-size": "1m"}, "default-shm-size": "1G", "live-restore": true,
                "default-ulimits": {"core": {"Name": "core", "Soft": 0, "Hard": -1}}}"#,
        )
        .unwrap();
        assert_eq!(config.hosts.len(), 2);
        assert_eq!(config.engine.data_root, Path::new("/data"));
        assert_eq!(config.engine.log_options["max-size"], "1m");
        assert_eq!(config.engine.default_shm_size, 1 << 30);
        assert_eq!(config.engine.default_ulimits[0].hard, -1);
        let limited = load(&["--default-ulimit", "nofile=10:20"], "").unwrap();
        assert_eq!(limited.engine.default_ulimits[0].hard, 20);
        assert_eq!(config.level, tracing::Level::DEBUG);
    }

    #[test]
    fn one_setting_comes_from_one_place() {
        let message = refusal(&["--debug", "--label", "a=b"], r#"{"debug": true, "labels": ["c=d"]}"#);
        assert!(
            message.ends_with("both as a flag and in the configuration file: debug, labels"),
            "{message}"
        );
    }

    #[test]
    fn what_nobody_knows_and_what_is_not_there_is_refused() {
        let message = refusal(&[], r#"{"debgu": true}"#);
        assert!(
            message.ends_with("don't match any configuration option: debgu"),
            "{message}"
        );
        assert!(
            refusal(&[], r#"{"userns-remap": "default"}"#).contains("userns-remap in daemon.json is not implemented")
        );
        assert!(refusal(&["--tlsverify"], "").contains("not implemented"));
        assert!(refusal(&["--log-driver", "syslog"], "").contains("log driver syslog"));
        assert!(refusal(&["--storage-driver", "zfs"], "").contains("storage driver zfs"));
        assert!(refusal(&["--exec-opt", "native.cgroupdriver=systemd"], "").contains("cgroup driver systemd"));
        assert!(refusal(&[], "{").contains("unable to configure the daemon with file daemon.json"));
    }

    #[test]
    fn values_are_checked() {
        assert!(refusal(&["--default-ulimit", "nofile=20:10"], "").contains("20 > 10"));
        assert!(refusal(&["--label", "x"], "").contains("KEY=VALUE"));
        assert!(refusal(&["-l", "loud"], "").contains("loud"));
        assert!(refusal(&[], r#"{"default-shm-size": "1x"}"#).contains("no size"));
    }
}

//! What an operator decided, from the command line and `daemon.json` together.
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use corten_engine::{
    config::{EngineConfig, Live, Share},
    log::options,
    task::security::Seccomp,
    volume::options::bytes,
};
use serde_json::Value;

use crate::config::{
    error::{ConfigError, invalid},
    file::{self, File, Read},
    flags::Flags,
    live, network,
    tls::{self, TlsFiles},
    value::{level, pair, ulimit},
};

const DEFAULT_DATA_ROOT: &str = "/var/lib/corten";
const DEFAULT_RUN_ROOT: &str = "/run/corten";
const MAX_CONNECTIONS: usize = 4096;
const HEADER_TIMEOUT_SECONDS: u64 = 300;

/// Everything decided.
#[derive(Debug, Clone)]
pub struct Config {
    pub engine: EngineConfig,
    pub doors: Doors,
    pub pidfile: PathBuf,
    pub log: Log,
    /// `host:port` of `/metrics`.
    pub metrics_address: Option<String>,
    /// The file's members, for comparing it with its successor.
    pub given: BTreeMap<String, Value>,
}

/// How clients come in.
#[derive(Debug, Clone)]
pub struct Doors {
    /// As given; empty means the default sockets.
    pub hosts: Vec<String>,
    /// Who may use unix sockets besides root; absent means `docker` where that group exists.
    pub group: Option<String>,
    /// For TCP.
    pub tls: Option<TlsFiles>,
    pub limits: Limits,
}

/// What one door lets happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub connections: usize,
    /// For a request's head, and for the silence before it.
    pub header_timeout: Duration,
}

/// What the daemon says about itself on standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub level: tracing::Level,
    pub json: bool,
    /// No colours, even at a terminal.
    pub raw: bool,
}

impl Config {
    /// Reads the file and joins it with the flags.
    pub fn load(flags: &Flags) -> Result<Config, ConfigError> {
        join(flags, file::load(flags)?)
    }
}

/// No setting is in both: whichever is there is meant.
fn join(flags: &Flags, read: Read) -> Result<Config, ConfigError> {
    let Read { file, given } = read;
    refuse_absent(flags, &file)?;
    let live = live::join(flags, &file)?;
    let log = log(flags, &file, &live)?;
    let run_root = path("exec-root", &flags.exec_root, &file.exec_root, DEFAULT_RUN_ROOT)?;
    let pidfile = path("pidfile", &flags.pidfile, &file.pidfile, run_root.join("corten.pid"))?;
    let limits = Limits {
        connections: flags
            .api_max_connections
            .or(file.api_max_connections)
            .unwrap_or(MAX_CONNECTIONS),
        header_timeout: Duration::from_secs(
            flags
                .api_header_timeout
                .or(file.api_header_timeout)
                .unwrap_or(HEADER_TIMEOUT_SECONDS),
        ),
    };
    if limits.connections == 0 {
        return Err(invalid("api-max-connections", "0 lets nobody in"));
    }
    if limits.header_timeout.is_zero() {
        return Err(invalid(
            "api-header-timeout",
            "0 seconds are not enough for any request",
        ));
    }
    Ok(Config {
        doors: Doors {
            hosts: either(&flags.hosts, &file.hosts),
            group: flags.group.clone().or_else(|| file.group.clone()),
            tls: tls::join(&flags.tls, &file),
            limits,
        },
        pidfile,
        log,
        metrics_address: flags
            .metrics_addr
            .clone()
            .or_else(|| file.metrics_addr.clone())
            .filter(|address| !address.is_empty()),
        engine: engine(flags, file, live, run_root)?,
        given,
    })
}

fn engine(flags: &Flags, file: File, live: Live, run_root: PathBuf) -> Result<EngineConfig, ConfigError> {
    let data_root = path("data-root", &flags.data_root, &file.data_root, DEFAULT_DATA_ROOT)?;
    check_storage_driver(flags.storage_driver.as_deref().or(file.storage_driver.as_deref()))?;
    check_exec_options(&either(&flags.exec_opts, &file.exec_opts))?;
    let log_driver = flags.log_driver.clone().or_else(|| file.log_driver.clone());
    let log_driver = log_driver.unwrap_or_else(|| "json-file".to_owned());
    let mut log_options = file.log_opts.clone();
    for option in &flags.log_opts {
        let (key, value) = pair("log-opt", option)?;
        log_options.insert(key, value);
    }
    options::validate(&log_driver, &log_options)
        .map_err(|error| invalid("log-driver or log-opts", error.to_string()))?;
    let mut default_ulimits = file.ulimits();
    for text in &flags.default_ulimits {
        default_ulimits.push(ulimit(text)?);
    }
    let cgroup_parent = flags.cgroup_parent.clone().or_else(|| file.cgroup_parent.clone());
    let proxy = |flag: &Option<String>, file: &str| flag.clone().unwrap_or_else(|| file.to_owned());
    Ok(EngineConfig {
        cgroup_parent: cgroup_parent.filter(|parent| !parent.is_empty()),
        log_driver,
        log_options,
        default_size: default_size(&either(&flags.storage_opts, &file.storage_opts))?,
        init: flags.init.or(file.init).unwrap_or(false),
        default_ulimits,
        no_new_privileges: flags.no_new_privileges.or(file.no_new_privileges).unwrap_or(false),
        userns_remap: flags.userns_remap.clone().or(file.userns_remap.clone()),
        seccomp: seccomp(flags.seccomp_profile.as_deref().or(file.seccomp_profile.as_deref()))?,
        proxies: corten_engine::config::Proxies {
            http: proxy(&flags.http_proxy, &file.proxies.http_proxy),
            https: proxy(&flags.https_proxy, &file.proxies.https_proxy),
            none: proxy(&flags.no_proxy, &file.proxies.no_proxy),
        },
        realtime: Share {
            period: flags.cpu_rt_period.unwrap_or(file.cpu_rt_period),
            runtime: flags.cpu_rt_runtime.unwrap_or(file.cpu_rt_runtime),
        },
        cdi_spec_dirs: match flags.cdi_spec_dirs.as_slice() {
            [] => file
                .cdi_spec_dirs
                .unwrap_or_else(|| EngineConfig::default().cdi_spec_dirs),
            given => given.iter().map(PathBuf::from).collect(),
        },
        network: network::join(&flags.network, file.network, &data_root, &run_root)?,
        data_root,
        run_root,
        live,
    })
}

pub fn either(flag: &[String], file: &[String]) -> Vec<String> {
    if flag.is_empty() { file } else { flag }.to_vec()
}

fn path(
    name: &'static str,
    flag: &Option<PathBuf>,
    file: &Option<PathBuf>,
    default: impl AsRef<Path>,
) -> Result<PathBuf, ConfigError> {
    let chosen = flag.as_deref().or(file.as_deref()).unwrap_or(default.as_ref());
    std::path::absolute(chosen).map_err(|error| invalid(name, format!("{}: {error}", chosen.display())))
}

/// What an operator who asks for it would miss.
fn refuse_absent(flags: &Flags, file: &File) -> Result<(), ConfigError> {
    let absent = |what: &str| Err(ConfigError::NotImplemented(what.to_owned()));
    if !flags.authorization_plugins.is_empty() {
        return absent(
            "--authorization-plugin (who may do what is decided by socket: -H unix:///PATH?access=read&allow=UID)",
        );
    }
    if flags.selinux_enabled.or(file.selinux_enabled) == Some(true) {
        return absent("SELinux (--selinux-enabled)");
    }
    if !flags.add_runtimes.is_empty() || !file.runtimes.is_empty() {
        return absent("another OCI runtime than the built-in one (runtimes, --add-runtime)");
    }
    match flags.default_runtime.as_deref().or(file.default_runtime.as_deref()) {
        None | Some("" | "corten" | "runc" | "io.containerd.runc.v2") => Ok(()),
        Some(other) => Err(invalid(
            "default-runtime",
            format!("specified default runtime '{other}' does not exist"),
        )),
    }
}

fn log(flags: &Flags, file: &File, live: &Live) -> Result<Log, ConfigError> {
    let text = flags.log_level.as_deref().or(file.log_level.as_deref());
    let json = match flags.log_format.as_deref().or(file.log_format.as_deref()) {
        None | Some("" | "text") => false,
        Some("json") => true,
        Some(other) => return Err(invalid("log-format", format!("\"{other}\" is neither text nor json"))),
    };
    Ok(Log {
        level: level(text, live.debug)?,
        json,
        raw: flags.raw_logs.or(file.raw_logs).unwrap_or(false),
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
            (key, _) => return Err(invalid("exec-opt", format!("unknown option {key}"))),
        }
    }
    Ok(())
}

/// Bytes that a container may write where it does not say itself.
fn default_size(options: &[String]) -> Result<Option<u64>, ConfigError> {
    let mut size = None;
    for option in options {
        match pair("storage-opt", option)? {
            (key, value) if key == "overlay2.size" => {
                let bytes = bytes(&value).filter(|bytes| *bytes > 0);
                size = Some(bytes.ok_or_else(|| invalid("storage-opt", format!("invalid size: '{value}'")))?);
            }
            (key, _) if key == "overlay2.override_kernel_check" => {}
            (key, _) => return Err(invalid("storage-opt", format!("overlay2: unknown option {key}"))),
        }
    }
    Ok(size)
}

fn seccomp(profile: Option<&str>) -> Result<Seccomp, ConfigError> {
    match profile {
        None | Some("" | "builtin") => Ok(Seccomp::Default),
        Some("unconfined") => Ok(Seccomp::Unconfined),
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
                path: path.to_owned(),
                source,
            })?;
            let is_object = serde_json::from_str::<Value>(&text).is_ok_and(|profile| profile.is_object());
            match is_object {
                true => Ok(Seccomp::Profile(text)),
                false => Err(invalid("seccomp-profile", format!("{path} holds no JSON object"))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn load(arguments: &[&str], file: &str) -> Result<Config, ConfigError> {
        let flags = Flags::try_parse_from(["dockerd"].iter().chain(arguments)).expect("good flags");
        join(&flags, file::read(Path::new("daemon.json"), file, &flags)?)
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
        assert_eq!(config.log.level, tracing::Level::INFO);
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
        assert_eq!(config.doors.hosts.len(), 2);
        assert_eq!(config.engine.data_root, Path::new("/data"));
        assert_eq!(config.engine.log_options["max-size"], "1m");
        assert_eq!(config.engine.live.default_shm_size, 1 << 30);
        assert_eq!(config.engine.default_ulimits[0].hard, -1);
        let limited = load(&["--default-ulimit", "nofile=10:20"], "").unwrap();
        assert_eq!(limited.engine.default_ulimits[0].hard, 20);
        assert_eq!(config.log.level, tracing::Level::DEBUG);
    }

    #[test]
    fn options_of_the_storage_driver_are_its_own() {
        let size = |arguments: &[&str], file: &str| load(arguments, file).unwrap().engine.default_size;
        assert_eq!(size(&[], ""), None);
        assert_eq!(size(&["--storage-opt", "overlay2.size=10M"], ""), Some(10 << 20));
        assert_eq!(size(&[], r#"{"storage-opts": ["overlay2.size=1G"]}"#), Some(1 << 30));
        assert!(refusal(&["--storage-opt", "overlay2.size=big"], "").contains("invalid size: 'big'"));
        assert!(refusal(&["--storage-opt", "dm.fs=xfs"], "").contains("overlay2: unknown option dm.fs"));
    }

    #[test]
    fn devices_are_described_where_the_operator_says() {
        let directories = |arguments: &[&str], file: &str| load(arguments, file).unwrap().engine.cdi_spec_dirs;
        assert_eq!(directories(&[], ""), [Path::new("/etc/cdi"), Path::new("/var/run/cdi")]);
        assert_eq!(directories(&[], r#"{"cdi-spec-dirs": ["/a"]}"#), [Path::new("/a")]);
        assert_eq!(directories(&["--cdi-spec-dir", "/b"], ""), [Path::new("/b")]);
        let share = load(&["--cpu-rt-runtime", "5"], r#"{"cpu-rt-period": 9}"#)
            .unwrap()
            .engine
            .realtime;
        assert_eq!((share.period, share.runtime), (9, 5));
    }

    #[test]
    fn what_may_change_has_dockerds_defaults() {
        let live = load(&[], "").unwrap().engine.live;
        assert_eq!(live, Live::default());
        let by_flags = [
            "--live-restore=false",
            "--shutdown-timeout",
            "-1",
            "--max-concurrent-uploads",
            "9",
            "--feature",
            "a",
            "--feature",
            "b=false",
            "--default-ipc-mode",
            "shareable",
        ];
        let by_file = r#"{"live-restore": false, "shutdown-timeout": -1, "max-concurrent-uploads": 9,
            "features": {"a": true, "b": false}, "default-ipc-mode": "shareable"}"#;
        for live in [load(&by_flags, "").unwrap(), load(&[], by_file).unwrap()].map(|config| config.engine.live) {
            assert!(!live.live_restore && live.features["a"] && !live.features["b"]);
            assert_eq!((live.shutdown_timeout_seconds, live.max_concurrent_uploads), (-1, 9));
            assert_eq!(live.default_ipc_mode, "shareable");
        }
    }

    #[test]
    fn tls_has_dockerds_files() {
        assert_eq!(load(&[], "").unwrap().doors.tls, None);
        assert_eq!(load(&["--tlsverify=false"], "").unwrap().doors.tls, None);
        let tls = load(&["--tls", "--tlscert", "/c"], "").unwrap().doors.tls.unwrap();
        assert_eq!(
            (tls.certificate.as_path(), tls.client_authority),
            (Path::new("/c"), None)
        );
        assert!(tls.key.ends_with("key.pem"));
        let tls = load(&[], r#"{"tlsverify": true, "tlscacert": "/ca"}"#)
            .unwrap()
            .doors
            .tls;
        assert_eq!(tls.unwrap().client_authority, Some("/ca".into()));
    }

    #[test]
    fn keys_that_need_a_new_start_are_named() {
        let given = |text: &str| load(&[], text).unwrap().given;
        let old = given(r#"{"labels": ["a=b"], "data-root": "/a", "group": "docker"}"#);
        let new = given(r#"{"labels": ["c=d"], "data-root": "/b", "dns": ["1.1.1.1"]}"#);
        assert_eq!(file::need_restart(&old, &new), ["data-root", "group", "dns"]);
    }

    #[test]
    fn one_setting_comes_from_one_place() {
        let message = refusal(&["--debug", "--label", "a=b"], r#"{"debug": true, "labels": ["c=d"]}"#);
        assert!(
            message.ends_with(
                "both as a flag and in the configuration file: debug: (from flag: true, from file: true), labels: (from \
                 flag: [a=b], from file: [c=d])"
            ),
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
            refusal(&[], r#"{"authorization-plugins": ["x"]}"#)
                .contains("authorization-plugins in daemon.json is not implemented")
        );
        assert!(refusal(&["--authorization-plugin", "x"], "").contains("?access=read"));
        assert!(refusal(&["--selinux-enabled"], "").contains("SELinux"));
        assert!(refusal(&[], r#"{"runtimes": {"kata": {}}}"#).contains("another OCI runtime"));
        assert!(
            refusal(&["--default-runtime", "kata"], "").contains("specified default runtime 'kata' does not exist")
        );
        assert!(refusal(&["--log-driver", "pigeon"], "").contains("no log driver named 'pigeon' is registered"));
        assert!(refusal(&["--log-opt", "color=red"], "").contains("unknown log opt 'color' for json-file log driver"));
        assert!(refusal(&["--storage-driver", "zfs"], "").contains("storage driver zfs"));
        assert!(refusal(&["--exec-opt", "native.cgroupdriver=systemd"], "").contains("cgroup driver systemd"));
        assert!(refusal(&[], "{").contains("unable to configure the Docker daemon with file daemon.json"));
    }

    #[test]
    fn values_are_checked() {
        assert!(refusal(&["--default-ulimit", "nofile=20:10"], "").contains("20 > 10"));
        assert!(refusal(&["--label", "x"], "").contains("KEY=VALUE"));
        assert!(refusal(&["-l", "loud"], "").contains("loud"));
        assert!(refusal(&["--log-format", "xml"], "").contains("neither text nor json"));
        assert!(refusal(&["--label", "a=1", "--label", "a=2"], "").contains("conflict labels for a"));
        assert!(refusal(&["--registry-mirror", "mirror"], "").contains("invalid mirror"));
        assert!(refusal(&[], r#"{"max-concurrent-downloads": -1}"#).contains("invalid max concurrent downloads: -1"));
        assert!(refusal(&[], r#"{"max-download-attempts": 0}"#).contains("invalid max download attempts: 0"));
        assert!(refusal(&["--label", "x"], "").contains("bad attribute format: x"));
        assert!(refusal(&["--default-ipc-mode", "host"], "").contains("neither private nor shareable"));
        assert!(refusal(&["--default-cgroupns-mode", "x"], "").contains("use \"host\" or \"private\""));
        assert!(refusal(&["--api-max-connections", "0"], "").contains("lets nobody in"));
        assert!(refusal(&["--seccomp-profile", "/no/such"], "").contains("cannot read /no/such"));
        assert!(refusal(&["--feature", "a=b"], "").contains("NAME=true"));
        assert!(refusal(&[], r#"{"default-shm-size": "1x"}"#).contains("no size"));
    }
}

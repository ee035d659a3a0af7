//! dockerd's command line, as far as it has a meaning here.
//!
//! What is accepted and does nothing says so in its help; what would be missed is refused when it is used.
use std::path::PathBuf;

use clap::{ArgAction, Parser};

use crate::config::{
    network_flags::NetworkFlags,
    tls::TlsFlags,
    value::{list, one},
};

/// A container engine that speaks the Docker Engine API.
#[derive(Debug, Clone, Default, Parser)]
#[command(name = "dockerd", disable_version_flag = true)]
pub struct Flags {
    /// Daemon socket(s) to connect to: unix://PATH, tcp://HOST:PORT, fd://; with ?access=read for one that changes
    /// nothing, and ?group=, ?mode=, ?allow= (see docs/daemon.md)
    #[arg(short = 'H', long = "host", value_name = "ADDRESS")]
    pub hosts: Vec<String>,
    /// Root directory of persistent state
    #[arg(short = 'g', long, value_name = "PATH")]
    pub data_root: Option<PathBuf>,
    /// Root directory for execution state files
    #[arg(long, value_name = "PATH")]
    pub exec_root: Option<PathBuf>,
    /// Path to use for daemon PID file
    #[arg(short = 'p', long, value_name = "PATH")]
    pub pidfile: Option<PathBuf>,
    /// Daemon configuration file
    #[arg(long, value_name = "PATH")]
    pub config_file: Option<PathBuf>,
    /// Enable debug mode
    #[arg(short = 'D', long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub debug: Option<bool>,
    /// Set the logging level: debug, info, warn, error, fatal
    #[arg(short = 'l', long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Set the logging format: text, json
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Full timestamps without ANSI coloring
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub raw_logs: Option<bool>,
    /// Group for the unix socket
    #[arg(short = 'G', long, value_name = "NAME")]
    pub group: Option<String>,
    /// Set parent cgroup for all containers
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<String>,
    /// Default ulimits for containers: NAME=SOFT[:HARD]
    #[arg(long = "default-ulimit", value_name = "ULIMIT")]
    pub default_ulimits: Vec<String>,
    /// Default shm size for containers, as 64M
    #[arg(long, value_name = "BYTES")]
    pub default_shm_size: Option<String>,
    /// Default mode for containers' ipc: shareable, private
    #[arg(long, value_name = "MODE")]
    pub default_ipc_mode: Option<String>,
    /// Default mode for containers' cgroup namespace: host, private
    #[arg(long, value_name = "MODE")]
    pub default_cgroupns_mode: Option<String>,
    /// Default OCI runtime for containers; only the built-in one
    #[arg(long, value_name = "NAME")]
    pub default_runtime: Option<String>,
    /// Run an init in the container to forward signals and reap processes
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub init: Option<bool>,
    /// Set no-new-privileges by default for new containers
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub no_new_privileges: Option<bool>,
    /// Path to seccomp profile, or builtin, or unconfined
    #[arg(long, value_name = "PROFILE")]
    pub seccomp_profile: Option<String>,
    /// Default driver for container logs: fluentd, gelf, journald, json-file, local, none, syslog
    #[arg(long, value_name = "NAME")]
    pub log_driver: Option<String>,
    /// Default log driver options for containers: KEY=VALUE
    #[arg(long = "log-opt", value_name = "OPTION")]
    pub log_opts: Vec<String>,
    /// Set key=value labels to the daemon
    #[arg(long = "label", value_name = "LABEL")]
    pub labels: Vec<String>,
    /// Enable insecure registry communication
    #[arg(long = "insecure-registry", value_name = "REGISTRY")]
    pub insecure_registries: Vec<String>,
    /// Preferred registry mirror
    #[arg(long = "registry-mirror", value_name = "URL")]
    pub registry_mirrors: Vec<String>,
    /// Set the max concurrent downloads
    #[arg(long, value_name = "COUNT")]
    pub max_concurrent_downloads: Option<i64>,
    /// Set the max concurrent uploads
    #[arg(long, value_name = "COUNT")]
    pub max_concurrent_uploads: Option<i64>,
    /// Set the max download attempts for each pull
    #[arg(long, value_name = "COUNT")]
    pub max_download_attempts: Option<i64>,
    /// HTTP proxy URL to use for outgoing traffic
    #[arg(long, value_name = "URL")]
    pub http_proxy: Option<String>,
    /// HTTPS proxy URL to use for outgoing traffic
    #[arg(long, value_name = "URL")]
    pub https_proxy: Option<String>,
    /// Comma-separated list of hosts or IP addresses for which the proxy is skipped
    #[arg(long, value_name = "HOSTS")]
    pub no_proxy: Option<String>,
    /// Runtime execution options: native.cgroupdriver=cgroupfs
    #[arg(long = "exec-opt", value_name = "OPTION")]
    pub exec_opts: Vec<String>,
    /// Limit the CPU real-time period in microseconds for the parent cgroup of all containers (not on cgroup v2)
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_rt_period: Option<u64>,
    /// Limit the CPU real-time runtime in microseconds for the parent cgroup of all containers (not on cgroup v2)
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_rt_runtime: Option<u64>,
    /// CDI specification directories to use
    #[arg(long = "cdi-spec-dir", value_name = "PATH")]
    pub cdi_spec_dirs: Vec<String>,
    /// Storage driver to use: overlay2
    #[arg(short = 's', long, value_name = "NAME")]
    pub storage_driver: Option<String>,
    /// User or group for user namespaces of containers: default, USER[:GROUP], UID[:GID]
    #[arg(long, value_name = "USER")]
    pub userns_remap: Option<String>,
    /// Containers outlive the daemon, which is the default: with =false they are stopped when it ends
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub live_restore: Option<bool>,
    /// How long containers may take to stop when the daemon ends and they do not outlive it; -1 means for ever
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub shutdown_timeout: Option<i64>,
    /// Enable feature in the daemon: NAME[=BOOL]
    #[arg(long = "feature", value_name = "FEATURE")]
    pub features: Vec<String>,
    /// Set address and port to serve the metrics API on
    #[arg(long, value_name = "ADDRESS")]
    pub metrics_addr: Option<String>,
    /// How many clients each door lets in at once
    #[arg(long, value_name = "COUNT")]
    pub api_max_connections: Option<usize>,
    /// How long a client may take to send a request's head, and may stay without sending one
    #[arg(long, value_name = "SECONDS")]
    pub api_header_timeout: Option<u64>,
    /// Validate daemon configuration and exit
    #[arg(long)]
    pub validate: bool,
    /// Print version information and quit
    #[arg(short = 'v', long, action = ArgAction::SetTrue)]
    pub version: bool,

    /// There is no containerd: accepted, changes nothing
    #[arg(long, value_name = "PATH")]
    pub containerd: Option<String>,
    /// There is no containerd: accepted, changes nothing
    #[arg(long, value_name = "NAME")]
    pub containerd_namespace: Option<String>,
    /// There is no containerd: accepted, changes nothing
    #[arg(long, value_name = "NAME")]
    pub containerd_plugins_namespace: Option<String>,
    /// The init is built in: accepted, changes nothing
    #[arg(long, value_name = "PATH")]
    pub init_path: Option<String>,
    /// Option of the storage driver: overlay2.size=SIZE, for containers that say nothing of their size
    #[arg(long = "storage-opt", value_name = "OPTION")]
    pub storage_opts: Vec<String>,
    /// There are no experimental features to switch: accepted, changes nothing
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub experimental: Option<bool>,
    /// There is no swarm: accepted, changes nothing
    #[arg(long, value_name = "ADDRESS")]
    pub swarm_default_advertise_addr: Option<String>,

    #[command(flatten)]
    pub tls: TlsFlags,
    #[command(flatten)]
    pub network: NetworkFlags,

    #[arg(long = "authorization-plugin", hide = true)]
    pub authorization_plugins: Vec<String>,
    #[arg(long = "add-runtime", hide = true)]
    pub add_runtimes: Vec<String>,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub selinux_enabled: Option<bool>,
}

impl Flags {
    /// The keys of `daemon.json` that the command line has decided, with what was given.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, String)> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let given = [
            ("hosts", list(&self.hosts)),
            ("data-root", path(&self.data_root)),
            ("exec-root", path(&self.exec_root)),
            ("pidfile", path(&self.pidfile)),
            ("debug", one(&self.debug)),
            ("log-level", one(&self.log_level)),
            ("log-format", one(&self.log_format)),
            ("raw-logs", one(&self.raw_logs)),
            ("group", one(&self.group)),
            ("cgroup-parent", one(&self.cgroup_parent)),
            ("default-ulimits", list(&self.default_ulimits)),
            ("default-shm-size", one(&self.default_shm_size)),
            ("default-ipc-mode", one(&self.default_ipc_mode)),
            ("default-cgroupns-mode", one(&self.default_cgroupns_mode)),
            ("default-runtime", one(&self.default_runtime)),
            ("runtimes", list(&self.add_runtimes)),
            ("init", one(&self.init)),
            ("no-new-privileges", one(&self.no_new_privileges)),
            ("seccomp-profile", one(&self.seccomp_profile)),
            ("selinux-enabled", one(&self.selinux_enabled)),
            ("log-driver", one(&self.log_driver)),
            ("log-opts", list(&self.log_opts)),
            ("labels", list(&self.labels)),
            ("insecure-registries", list(&self.insecure_registries)),
            ("registry-mirrors", list(&self.registry_mirrors)),
            ("max-concurrent-downloads", one(&self.max_concurrent_downloads)),
            ("max-concurrent-uploads", one(&self.max_concurrent_uploads)),
            ("max-download-attempts", one(&self.max_download_attempts)),
            ("exec-opts", list(&self.exec_opts)),
            ("cpu-rt-period", one(&self.cpu_rt_period)),
            ("cpu-rt-runtime", one(&self.cpu_rt_runtime)),
            ("cdi-spec-dirs", list(&self.cdi_spec_dirs)),
            ("storage-driver", one(&self.storage_driver)),
            ("storage-opts", list(&self.storage_opts)),
            ("userns-remap", one(&self.userns_remap)),
            ("live-restore", one(&self.live_restore)),
            ("shutdown-timeout", one(&self.shutdown_timeout)),
            ("features", list(&self.features)),
            ("metrics-addr", one(&self.metrics_addr)),
            ("api-max-connections", one(&self.api_max_connections)),
            ("api-header-timeout", one(&self.api_header_timeout)),
        ];
        let given = given.into_iter().filter_map(|(key, value)| Some((key, value?)));
        given.chain(self.tls.given()).chain(self.network.given())
    }
}

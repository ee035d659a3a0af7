//! dockerd's command line, as far as it has a meaning here.
//!
//! What is accepted and does nothing says so in its help; what would be missed is refused when it is used.
use std::path::PathBuf;

use clap::{ArgAction, Parser};

use crate::network_config::NetworkFlags;

/// A container engine that speaks the Docker Engine API.
#[derive(Debug, Clone, Default, Parser)]
#[command(name = "dockerd", disable_version_flag = true)]
pub struct Flags {
    /// Daemon socket(s) to connect to: unix://PATH, tcp://HOST:PORT, fd://
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
    #[arg(short = 'D', long)]
    pub debug: bool,
    /// Set the logging level: debug, info, warn, error, fatal
    #[arg(short = 'l', long, value_name = "LEVEL")]
    pub log_level: Option<String>,
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
    /// Run an init in the container to forward signals and reap processes
    #[arg(long)]
    pub init: bool,
    /// Default driver for container logs: json-file, none
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
    /// Runtime execution options: native.cgroupdriver=cgroupfs
    #[arg(long = "exec-opt", value_name = "OPTION")]
    pub exec_opts: Vec<String>,
    /// Storage driver to use: overlay2
    #[arg(short = 's', long, value_name = "NAME")]
    pub storage_driver: Option<String>,
    /// Containers always outlive the daemon: accepted, changes nothing
    #[arg(long)]
    pub live_restore: bool,
    /// Validate daemon configuration and exit
    #[arg(long)]
    pub validate: bool,
    /// Print version information and quit
    #[arg(short = 'v', long, action = ArgAction::SetTrue)]
    pub version: bool,

    /// There is no containerd: accepted, changes nothing
    #[arg(long, value_name = "PATH")]
    pub containerd: Option<String>,
    /// There are no experimental features to switch: accepted, changes nothing
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub experimental: Option<bool>,

    #[command(flatten)]
    pub network: NetworkFlags,

    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub tls: Option<bool>,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub tlsverify: Option<bool>,
    #[arg(long, hide = true)]
    pub tlscacert: Option<String>,
    #[arg(long, hide = true)]
    pub tlscert: Option<String>,
    #[arg(long, hide = true)]
    pub tlskey: Option<String>,
}

//! What the host is and what the engine makes of it: the facts behind `/info` and `/version`.
use jiff::Timestamp;

#[derive(Debug, Clone)]
pub struct SystemView {
    /// Stable for one data root: a UUID.
    pub id: String,
    /// The host's name.
    pub name: String,
    /// `6.18.0-…`.
    pub kernel_version: String,
    /// `Debian GNU/Linux 12 (bookworm)`.
    pub operating_system: String,
    /// `12`; empty where os-release has none.
    pub os_version: String,
    /// `x86_64`, as the kernel says it.
    pub architecture: String,
    pub cpus: usize,
    /// Bytes.
    pub memory: u64,
    /// `cgroupfs`.
    pub cgroup_driver: String,
    /// `1` or `2`.
    pub cgroup_version: String,
    /// `name=seccomp,profile=builtin`, …
    pub security_options: Vec<String>,
    pub containers: usize,
    pub containers_running: usize,
    pub containers_paused: usize,
    pub containers_stopped: usize,
    pub images: usize,
    /// `overlay2`, and what there is to say about it (`Backing Filesystem`, …).
    pub storage_driver: String,
    pub storage_status: Vec<(String, String)>,
    pub data_root: String,
    pub log_driver: String,
    /// Which limits this host can enforce.
    pub limits: Limits,
    pub ipv4_forwarding: bool,
    pub open_files: usize,
    pub tasks: usize,
    pub event_listeners: usize,
    pub system_time: Timestamp,
    pub debug: bool,
    pub labels: Vec<String>,
    pub init: bool,
    pub registry_mirrors: Vec<String>,
    pub insecure_registries: Vec<String>,
    /// Full sentences: `WARNING: No swap limit support`.
    pub warnings: Vec<String>,
}

/// What the cgroup hierarchies of this host offer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    pub memory: bool,
    pub swap: bool,
    pub oom_kill_disable: bool,
    pub cpu_shares: bool,
    pub cpu_quota: bool,
    pub cpuset: bool,
    pub pids: bool,
    pub blkio: bool,
}

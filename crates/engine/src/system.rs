//! What the host is and what the engine makes of it: the facts behind `/info` and `/version`.
use std::{fs, path::Path};

use corten_network::model::Warning;
use jiff::Timestamp;

use crate::{
    cdi::registry::Registry,
    config::EngineConfig,
    container::{state::Phase, table::Table},
    context::Context,
    error::{Error, Result},
    host::{Limits, read},
    names,
    task::security::Seccomp,
};

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
    /// Of the firewall: `in use`, or why not.
    pub flow_table: String,
    pub open_files: usize,
    pub tasks: usize,
    pub event_listeners: usize,
    pub system_time: Timestamp,
    pub debug: bool,
    pub labels: Vec<String>,
    pub init: bool,
    pub live_restore: bool,
    pub registry_mirrors: Vec<String>,
    pub insecure_registries: Vec<String>,
    pub cdi_spec_dirs: Vec<String>,
    /// Qualified names of devices that CDI specifications describe.
    pub cdi_devices: Vec<String>,
    /// Full sentences: `WARNING: No swap limit support`.
    pub warnings: Vec<String>,
}

pub fn view(context: &Context, table: &Table, images: usize) -> Result<SystemView> {
    let (config, live, host) = (&context.config, context.live(), &context.host);
    let uname = rustix::system::uname();
    let release = os_release();
    let count = |wanted: &[Phase]| {
        table
            .handles()
            .iter()
            .filter(|handle| wanted.contains(&handle.snapshot().state.phase))
            .count()
    };
    let running = count(&[Phase::Running]);
    let cdi_spec_dirs = context.cdi_spec_dirs();
    let devices = Registry::scan(cdi_spec_dirs);
    let mut warnings = warnings(&host.limits, host.cgroup_v2, context.networks.warnings());
    warnings.extend(
        devices
            .problems
            .iter()
            .map(|problem| format!("WARNING: CDI: {problem}")),
    );
    Ok(SystemView {
        id: identity(context)?,
        name: host_name(),
        kernel_version: uname.release().to_string_lossy().into_owned(),
        operating_system: release.pretty_name,
        os_version: release.version_id,
        architecture: uname.machine().to_string_lossy().into_owned(),
        cpus: host.cpus,
        memory: host.memory,
        cgroup_driver: "cgroupfs".to_owned(),
        cgroup_version: if host.cgroup_v2 { "2" } else { "1" }.to_owned(),
        security_options: security_options(config, host.cgroup_v2, context.remap.is_some()),
        containers: table.handles().len(),
        containers_running: running,
        containers_paused: count(&[Phase::Paused]),
        containers_stopped: count(&[Phase::Created, Phase::Exited, Phase::Dead, Phase::Restarting]),
        images,
        storage_driver: context.store.driver().to_owned(),
        storage_status: storage_status(&config.data_root),
        data_root: config.data_root.to_string_lossy().into_owned(),
        log_driver: config.log_driver.clone(),
        limits: host.limits,
        ipv4_forwarding: read("/proc/sys/net/ipv4/ip_forward").is_ok_and(|value| value == "1"),
        flow_table: context.networks.described_flows(),
        open_files: fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        tasks: fs::read_dir("/proc/self/task").map_or(0, Iterator::count),
        event_listeners: context.events.listeners(),
        system_time: Timestamp::now(),
        debug: live.debug,
        labels: live.labels.clone(),
        init: config.init,
        live_restore: live.live_restore,
        registry_mirrors: live.registry_mirrors.clone(),
        insecure_registries: live.insecure_registries.clone(),
        cdi_spec_dirs: cdi_spec_dirs
            .iter()
            .map(|path| path.to_string_lossy().into_owned())
            .collect(),
        cdi_devices: devices.names().map(str::to_owned).collect(),
        warnings,
    })
}

/// The host's name.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Made once for a data root, in the form of a UUID.
pub fn identity(context: &Context) -> Result<String> {
    const KIND: &str = "engine";
    let failed = |error| Error::system("cannot read the engine's identity").because(error);
    if let Some((id, _)) = context.store.records(KIND).map_err(failed)?.into_iter().next() {
        return Ok(id);
    }
    let mut bytes = names::random::<16>();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let id = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
    context.store.put_record(KIND, &id, None, "{}").map_err(failed)?;
    Ok(id)
}

struct Release {
    pretty_name: String,
    version_id: String,
}

fn os_release() -> Release {
    let text = fs::read_to_string("/etc/os-release").or_else(|_| fs::read_to_string("/usr/lib/os-release"));
    let text = text.unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
    };
    let pretty_name = match value("PRETTY_NAME") {
        empty if empty.is_empty() => "Linux".to_owned(),
        name => name,
    };
    Release {
        pretty_name,
        version_id: value("VERSION_ID"),
    }
}

fn security_options(config: &EngineConfig, cgroup_v2: bool, remapped: bool) -> Vec<String> {
    let profile = match &config.seccomp {
        Seccomp::Default => "builtin",
        Seccomp::Unconfined => "unconfined",
        // Docker names the file here; of a container's profile only the content is known.
        Seccomp::Profile(_) => "custom",
    };
    let mut options = vec![format!("name=seccomp,profile={profile}")];
    if config.no_new_privileges {
        options.push("name=no-new-privileges".to_owned());
    }
    if cgroup_v2 {
        options.push("name=cgroupns".to_owned());
    }
    if remapped {
        options.push("name=userns".to_owned());
    }
    options
}

fn storage_status(data_root: &Path) -> Vec<(String, String)> {
    let file_system = rustix::fs::statfs(data_root).map_or("unknown", |info| match info.f_type as u64 {
        0xef53 => "extfs",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlayfs",
        0x2fc1_2fc1 => "zfs",
        0xf2f5_2010 => "f2fs",
        _ => "unknown",
    });
    [
        ("Backing Filesystem", file_system),
        ("Supports d_type", "true"),
        ("Native Overlay Diff", "true"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .to_vec()
}

/// In Docker's words and order. There is nothing to be done about a weight of block IO on cgroup v1: that is not said.
fn warnings(limits: &Limits, cgroup_v2: bool, networks: Vec<Warning>) -> Vec<String> {
    let of_limits = [
        (limits.memory, "No memory limit support"),
        (limits.swap, "No swap limit support"),
        (
            limits.kernel_memory_tcp || cgroup_v2,
            "No kernel memory TCP limit support",
        ),
        (limits.oom_kill_disable || cgroup_v2, "No oom kill disable support"),
        (limits.cpu_quota, "No cpu cfs quota support"),
        (limits.cpu_quota, "No cpu cfs period support"),
        (limits.cpu_shares, "No cpu shares support"),
        (limits.cpuset, "No cpuset support"),
        (limits.pids, "No pids limit support"),
        (limits.blkio_weight || !cgroup_v2, "No io.weight support"),
        (limits.blkio_weight || !cgroup_v2, "No io.weight (per device) support"),
        (limits.blkio || !cgroup_v2, "No io.max (rbps) support"),
        (limits.blkio || !cgroup_v2, "No io.max (wbps) support"),
        (limits.blkio || !cgroup_v2, "No io.max (riops) support"),
        (limits.blkio || !cgroup_v2, "No io.max (wiops) support"),
        (limits.blkio || cgroup_v2, "No blkio throttle.read_bps_device support"),
        (limits.blkio || cgroup_v2, "No blkio throttle.write_bps_device support"),
        (limits.blkio || cgroup_v2, "No blkio throttle.read_iops_device support"),
        (limits.blkio || cgroup_v2, "No blkio throttle.write_iops_device support"),
    ];
    let missing = of_limits
        .into_iter()
        .filter(|(there, _)| !there)
        .map(|(_, what)| what.to_owned());
    let of_networks = networks.into_iter().map(|Warning(text)| text);
    missing
        .chain(of_networks)
        .map(|text| format!("WARNING: {text}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_lacks_is_said_as_docker_says_it() {
        assert!(warnings(&Limits::all(), true, Vec::new()).is_empty());
        let lacking = Limits {
            cpuset: false,
            blkio: false,
            blkio_weight: false,
            kernel_memory_tcp: false,
            ..Limits::all()
        };
        let v2 = warnings(&lacking, true, Vec::new());
        assert_eq!(
            v2[..2],
            ["WARNING: No cpuset support", "WARNING: No io.weight support"].map(str::to_owned)
        );
        assert_eq!(
            v2.last().map(String::as_str),
            Some("WARNING: No io.max (wiops) support")
        );
        let v1 = warnings(&lacking, false, vec![Warning("bridges are missing".to_owned())]);
        assert_eq!(v1.len(), 7);
        assert_eq!(v1[0], "WARNING: No kernel memory TCP limit support");
        assert_eq!(v1[2], "WARNING: No blkio throttle.read_bps_device support");
        assert_eq!(v1[6], "WARNING: bridges are missing");
    }
}

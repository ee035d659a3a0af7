//! What is mounted in a container: Docker's default set, the files that the engine writes, and what the user asked for.
//!
//! A mount of the user replaces a default one with the same target. The user's mounts come last, shallow ones first, so
//! that a deep one is never hidden by its parent.
use std::path::{Path, PathBuf};

use corten_api::types::container::HostConfig;
use oci_spec::runtime::Mount;

use crate::container::record::{MountPoint, Record};

/// Of /dev/shm where nothing else is said.
pub const DEFAULT_SHM_BYTES: i64 = 64 << 20;

/// The files in `containers/<id>/` that stand in for the image's.
#[derive(Debug, Clone)]
pub struct EtcFiles {
    pub hosts: PathBuf,
    pub hostname: PathBuf,
    pub resolv_conf: PathBuf,
}

/// Where they are in a container.
pub const WRITTEN: [&str; 3] = ["/etc/resolv.conf", "/etc/hostname", "/etc/hosts"];

/// All mounts, in the order of mounting. `init` is the program to run as process 1, where one is wanted.
pub fn all(record: &Record, files: &EtcFiles, writable_cgroups: bool, init: Option<&Path>) -> Vec<Mount> {
    let host = &record.host_config;
    let taken = |target: &str| record.mounts.iter().any(|mount| mount.destination == target);
    let mut mounts = defaults(host, writable_cgroups);
    mounts.retain(|mount| !taken(&mount.destination().to_string_lossy()));
    let mut later = Vec::new();
    for (source, target) in [&files.resolv_conf, &files.hostname, &files.hosts]
        .into_iter()
        .zip(WRITTEN)
    {
        if !taken(target) {
            later.push(bind(source, target, &["rbind", "rprivate"]));
        }
    }
    if let Some(program) = init {
        later.push(bind(program, "/sbin/docker-init", &["bind", "ro", "rprivate"]));
    }
    later.extend(record.mounts.iter().map(asked));
    later.sort_by_key(|mount| mount.destination().components().count());
    mounts.extend(later);
    mounts
}

fn defaults(host: &HostConfig, writable_cgroups: bool) -> Vec<Mount> {
    let writable = if host.privileged { "rw" } else { "ro" };
    let cgroups = if host.privileged || writable_cgroups {
        "rw"
    } else {
        "ro"
    };
    let mut mounts = vec![
        mount("proc", "proc", "/proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "tmpfs",
            "tmpfs",
            "/dev",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "devpts",
            "devpts",
            "/dev/pts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("sysfs", "sysfs", "/sys", &["nosuid", "noexec", "nodev", writable]),
        mount(
            "cgroup",
            "cgroup",
            "/sys/fs/cgroup",
            &[cgroups, "nosuid", "noexec", "nodev"],
        ),
        mount("mqueue", "mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev"]),
    ];
    match host.ipc_mode.as_str() {
        "none" => {}
        // Another container's, which the runtime fetches.
        mode if mode.starts_with("container:") => {}
        "host" => {
            // A message queue mount shows the IPC namespace that it is made in: the host's, whether or not the host has
            // it mounted.
            mounts.push(bind(
                Path::new("/dev/shm"),
                "/dev/shm",
                &["rbind", "nosuid", "noexec", "nodev"],
            ));
        }
        _ => {
            let bytes = if host.shm_size > 0 {
                host.shm_size
            } else {
                DEFAULT_SHM_BYTES
            };
            let size = format!("size={bytes}");
            mounts.push(mount(
                "tmpfs",
                "shm",
                "/dev/shm",
                &["nosuid", "noexec", "nodev", "mode=1777", &size],
            ));
        }
    }
    mounts
}

/// A mount of the user's.
fn asked(point: &MountPoint) -> Mount {
    if point.kind == "tmpfs" {
        let options: Vec<&str> = point.options.iter().map(String::as_str).collect();
        return mount("tmpfs", "tmpfs", &point.destination, &options);
    }
    // Where it comes from is not looked up again: it is handed over.
    let source = if point.kind == "image" { "/" } else { &point.source };
    let has = |option: &str| point.options.iter().any(|known| known == option);
    let mut options = vec![if has("nonrecursive") { "bind" } else { "rbind" }];
    options.push(if point.propagation.is_empty() {
        "rprivate"
    } else {
        &point.propagation
    });
    if !point.writable {
        let top_only = has("ro-nonrecursive") || has("nonrecursive");
        options.push(if top_only && !has("ro-force-recursive") {
            "ro"
        } else {
            "rro"
        });
    }
    bind(Path::new(source), &point.destination, &options)
}

fn bind(source: &Path, target: &str, options: &[&str]) -> Mount {
    mount("bind", source, target, options)
}

fn mount(kind: &str, source: impl AsRef<Path>, target: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount.set_typ(Some(kind.to_owned()));
    mount.set_source(Some(source.as_ref().to_owned()));
    mount.set_destination(PathBuf::from(target));
    mount.set_options(Some(options.iter().map(|&option| option.to_owned()).collect()));
    mount
}

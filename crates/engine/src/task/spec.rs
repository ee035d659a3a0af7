//! A record as an OCI specification: what Docker's defaults, the image and the user come to.
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use corten_api::types::container::Ulimit;
use corten_runtime::rootfs::owners::{IdMaps, IdRange};
use oci_spec::runtime::{
    Capabilities, Linux, LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType, PosixRlimit,
    Process, Root, Spec,
};

use crate::{
    container::{interface_sysctls, mode::NetworkMode, record::Record},
    error::Result,
    task::{
        capabilities, devices,
        mounts::{self, EtcFiles},
        resources,
        security::{self, Seccomp},
    },
};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What nobody but a privileged container may see, where it does not say otherwise.
pub const MASKED: [&str; 13] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/sys/devices/system/cpu/cpu0/thermal_throttle",
];
/// As the kernel counts groups.
const LAST_GROUP: u32 = 2_147_483_647;
/// What nobody but a privileged container may write to.
pub const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Docker's `MaskedPaths` of a container that is not privileged.
pub fn masked_paths() -> Vec<String> {
    MASKED.map(str::to_owned).to_vec()
}

/// Docker's `ReadonlyPaths` of such a container.
pub fn readonly_paths() -> Vec<String> {
    READ_ONLY.map(str::to_owned).to_vec()
}

/// What a specification depends on besides the record.
pub struct Surroundings<'a> {
    pub files: &'a EtcFiles,
    /// Of linked containers.
    pub environment: &'a [String],
    /// Another container's, which this one joins.
    pub network_namespace: Option<PathBuf>,
    pub pid_namespace: Option<PathBuf>,
    pub ipc_namespace: Option<PathBuf>,
    /// The container's own, from the hierarchy's root: `/docker/<id>`.
    pub cgroup: String,
    /// Containers have a cgroup namespace of their own unless told otherwise (as on cgroup v2).
    pub private_cgroup_namespace: bool,
    /// Our own program, when it runs as process 1.
    pub init: Option<&'a Path>,
    pub default_ulimits: &'a [Ulimit],
    /// Of containers that do not say.
    pub no_new_privileges: bool,
    /// Who is who in the container's own user namespace.
    pub user: Option<&'a IdMaps>,
}

pub fn build(record: &Record, surroundings: &Surroundings<'_>) -> Result<Spec> {
    let host = &record.host_config;
    let security = security::parse(host.security_opt.as_deref().unwrap_or_default())?;
    let capabilities = capabilities_of(record)?;
    let mut process = process(record, surroundings, &capabilities)?;
    process.set_no_new_privileges(Some(
        security.no_new_privileges.unwrap_or(surroundings.no_new_privileges),
    ));

    let mut root = Root::default();
    root.set_readonly(Some(host.readonly_rootfs));
    let linux = linux(record, surroundings)?;

    let mut spec = Spec::default();
    let own_uts = host.uts_mode != "host";
    spec.set_root(Some(root));
    spec.set_process(Some(process));
    spec.set_hostname(own_uts.then(|| record.config.hostname.clone()));
    spec.set_domainname((own_uts && !record.config.domainname.is_empty()).then(|| record.config.domainname.clone()));
    spec.set_mounts(Some(mounts::all(
        record,
        surroundings.files,
        security.writable_cgroups,
        surroundings.init,
    )));
    spec.set_linux(Some(linux));
    spec.set_annotations((!record.annotations.is_empty()).then(|| {
        record
            .annotations
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }));
    Ok(spec)
}

/// The seccomp profile, and the capabilities that its conditions depend on. The filter is compiled apart from the
/// specification, once for many containers.
///
/// `default` is the profile of containers that name none.
pub fn confinement(record: &Record, default: &Seccomp) -> Result<(Seccomp, Capabilities)> {
    let host = &record.host_config;
    let security = security::parse(host.security_opt.as_deref().unwrap_or_default())?;
    let profile = match (host.privileged, security.seccomp) {
        (true, Seccomp::Default) => Seccomp::Unconfined,
        (false, Seccomp::Default) if !security.named_seccomp => default.clone(),
        (_, asked) => asked,
    };
    Ok((profile, capabilities_of(record)?))
}

fn capabilities_of(record: &Record) -> Result<Capabilities> {
    let host = &record.host_config;
    capabilities::resolve(
        host.privileged,
        host.cap_add.as_deref().unwrap_or_default(),
        host.cap_drop.as_deref().unwrap_or_default(),
    )
}

fn process(record: &Record, surroundings: &Surroundings<'_>, capabilities: &Capabilities) -> Result<Process> {
    let (config, host) = (&record.config, &record.host_config);
    let mut argv = record.argv();
    if surroundings.init.is_some() {
        argv.splice(0..0, ["/sbin/docker-init".to_owned(), "--".to_owned()]);
    }
    let rlimits = rlimits(record, surroundings.default_ulimits)?;
    let directory = match config.working_dir.as_str() {
        "" => "/",
        directory => directory,
    };
    let mut process = Process::default();
    process.set_terminal(Some(config.tty));
    process.set_args(Some(argv));
    process.set_env(Some(environment(record, surroundings.environment, config.tty)));
    process.set_cwd(directory.into());
    process.set_capabilities(Some(capabilities::specify(capabilities)));
    process.set_rlimits((!rlimits.is_empty()).then_some(rlimits));
    process.set_oom_score_adj((host.oom_score_adj != 0).then_some(host.oom_score_adj));
    Ok(process)
}

/// Those of the container, and the daemon's for what it does not limit itself.
pub fn rlimits(record: &Record, defaults: &[Ulimit]) -> Result<Vec<PosixRlimit>> {
    let ulimits = record.host_config.ulimits.as_deref().unwrap_or_default();
    let inherited = defaults.iter().filter(|default| {
        // Of two limits on the same resource the container's own holds.
        !ulimits.iter().any(|ulimit| ulimit.name == default.name)
    });
    ulimits.iter().chain(inherited).map(resources::ulimit).collect()
}

/// Ours first, then those of links; a variable of the container's replaces it in place.
pub fn environment(record: &Record, links: &[String], tty: bool) -> Vec<String> {
    let mut variables = vec![PATH.to_owned(), format!("HOSTNAME={}", record.config.hostname)];
    if tty {
        variables.push("TERM=xterm".to_owned());
    }
    variables.extend_from_slice(links);
    replace_variables(&mut variables, &record.config.env);
    variables
}

/// Sets variables over others, in their places; a bare name takes one away.
pub fn replace_variables(variables: &mut Vec<String>, others: &[String]) {
    for variable in others {
        let Some((name, _)) = variable.split_once('=') else {
            variables.retain(|known| known.split('=').next() != Some(variable));
            continue;
        };
        match variables.iter_mut().find(|known| known.split('=').next() == Some(name)) {
            Some(known) => known.clone_from(variable),
            None => variables.push(variable.clone()),
        }
    }
}

fn linux(record: &Record, surroundings: &Surroundings<'_>) -> Result<Linux> {
    let host = &record.host_config;
    let mut resources = resources::limits(host)?;
    let (nodes, rules) = if host.privileged {
        (devices::all()?, resources::all_devices())
    } else {
        let (nodes, mut asked) = devices::mapped(host.devices.as_deref().unwrap_or_default())?;
        let mut rules = resources::default_devices();
        rules.append(&mut asked);
        for rule in host.device_cgroup_rules.iter().flatten() {
            rules.push(resources::parse_rule(rule)?);
        }
        (nodes, rules)
    };
    resources.set_devices(Some(rules));

    let mut linux = Linux::default();
    linux.set_sysctl(sysctls(record, surroundings));
    linux.set_resources(Some(resources));
    linux.set_cgroups_path(Some(surroundings.cgroup.clone().into()));
    linux.set_namespaces(Some(namespaces(record, surroundings)));
    linux.set_uid_mappings(surroundings.user.map(|maps| mappings(&maps.users)));
    linux.set_gid_mappings(surroundings.user.map(|maps| mappings(&maps.groups)));
    linux.set_devices((!nodes.is_empty()).then_some(nodes));
    linux.set_masked_paths(paths(host.privileged, host.masked_paths.as_ref(), &MASKED));
    linux.set_readonly_paths(paths(host.privileged, host.readonly_paths.as_ref(), &READ_ONLY));
    Ok(linux)
}

/// The last that there is in a user namespace: the kernel takes no other for a bound.
fn last_group(maps: &IdMaps) -> u32 {
    let last = maps.groups.iter().map(|range| range.inside + (range.count - 1)).max();
    last.unwrap_or_default()
}

/// Those that do not wait for an interface; where there will be none, the kernel shall say so. In a network of its own a
/// container's user needs no capability to ping, nor to listen at a low port.
fn sysctls(record: &Record, surroundings: &Surroundings<'_>) -> Option<HashMap<String, String>> {
    let has_interfaces = NetworkMode::of(&record.config, &record.host_config).has_endpoints();
    let all = record.host_config.sysctls.iter().flatten();
    let own = all.filter(|(key, _)| !has_interfaces || interface_sysctls::split(key).is_none());
    let mut own: HashMap<_, _> = own.map(|(key, value)| (key.clone(), value.clone())).collect();
    if record.host_config.network_mode != "host" && surroundings.network_namespace.is_none() {
        let last_group = surroundings.user.map_or(LAST_GROUP, last_group);
        let unprivileged = [
            ("net.ipv4.ping_group_range", format!("0 {last_group}")),
            ("net.ipv4.ip_unprivileged_port_start", "0".to_owned()),
        ];
        for (key, value) in unprivileged {
            // Kernels without IPv4 have none of them.
            if !own.contains_key(key) && Path::new("/proc/sys").join(key.replace('.', "/")).exists() {
                own.insert(key.to_owned(), value);
            }
        }
    }
    (!own.is_empty()).then_some(own)
}

fn paths(privileged: bool, asked: Option<&Vec<String>>, default: &[&str]) -> Option<Vec<String>> {
    match asked {
        Some(paths) => Some(paths.clone()),
        None if privileged => None,
        None => Some(default.iter().map(|&path| path.to_owned()).collect()),
    }
}

fn mappings(ranges: &[IdRange]) -> Vec<LinuxIdMapping> {
    let mapping = |range: &IdRange| {
        LinuxIdMappingBuilder::default()
            .container_id(range.inside)
            .host_id(range.outside)
            .size(range.count)
            .build()
            .expect("all fields are there")
    };
    ranges.iter().map(mapping).collect()
}

fn namespaces(record: &Record, surroundings: &Surroundings<'_>) -> Vec<LinuxNamespace> {
    let host = &record.host_config;
    let own_cgroup_namespace = match host.cgroupns_mode.as_str() {
        "private" => true,
        "host" => false,
        _ => surroundings.private_cgroup_namespace,
    };
    let mut kinds = vec![LinuxNamespaceType::Mount];
    if surroundings.user.is_some() {
        kinds.push(LinuxNamespaceType::User);
    }
    for (kind, own) in [
        (LinuxNamespaceType::Pid, host.pid_mode != "host"),
        (LinuxNamespaceType::Ipc, host.ipc_mode != "host"),
        (LinuxNamespaceType::Uts, host.uts_mode != "host"),
        (LinuxNamespaceType::Network, host.network_mode != "host"),
        (LinuxNamespaceType::Cgroup, own_cgroup_namespace),
    ] {
        if own {
            kinds.push(kind);
        }
    }
    let namespace = |kind| {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(kind);
        namespace.set_path(match kind {
            LinuxNamespaceType::Network => surroundings.network_namespace.clone(),
            LinuxNamespaceType::Pid => surroundings.pid_namespace.clone(),
            LinuxNamespaceType::Ipc => surroundings.ipc_namespace.clone(),
            _ => None,
        });
        namespace
    };
    kinds.into_iter().map(namespace).collect()
}

#[cfg(test)]
mod tests {
    use corten_api::types::container::{ContainerConfig, HostConfig, NetworkingConfig};

    use super::*;
    use crate::container::record::MountPoint;

    fn record() -> Record {
        Record {
            id: "1".repeat(64),
            name: "web".to_owned(),
            created: jiff::Timestamp::UNIX_EPOCH,
            image_id: String::new(),
            platform: "linux".to_owned(),
            config: ContainerConfig {
                hostname: "box".to_owned(),
                env: vec!["A=1".to_owned(), "HOSTNAME=mine".to_owned()],
                entrypoint: Some(vec!["/bin/sh".to_owned()]),
                cmd: Some(vec!["-c".to_owned(), "true".to_owned()]),
                ..ContainerConfig::default()
            },
            host_config: HostConfig {
                network_mode: "none".to_owned(),
                ..HostConfig::default()
            },
            networking: NetworkingConfig::default(),
            mounts: Vec::new(),
            layers: Vec::new(),
            annotations: Default::default(),
            links: Vec::new(),
        }
    }

    fn specify(record: &Record, init: Option<&Path>) -> Spec {
        let files = files();
        build(record, &surroundings(&files, init)).expect("valid")
    }

    fn files() -> EtcFiles {
        let directory = PathBuf::from("/data/containers/1");
        EtcFiles {
            hosts: directory.join("hosts"),
            hostname: directory.join("hostname"),
            resolv_conf: directory.join("resolv.conf"),
        }
    }

    fn surroundings<'a>(files: &'a EtcFiles, init: Option<&'a Path>) -> Surroundings<'a> {
        Surroundings {
            files,
            environment: &[],
            network_namespace: None,
            pid_namespace: None,
            ipc_namespace: None,
            cgroup: "/docker/1".to_owned(),
            private_cgroup_namespace: true,
            init,
            default_ulimits: &[],
            no_new_privileges: false,
            user: None,
        }
    }

    #[test]
    fn the_container_decides_its_environment_and_ours_comes_first() {
        let spec = specify(&record(), None);
        let process = spec.process().as_ref().expect("given");
        assert_eq!(
            process.env().as_ref().expect("given")[..],
            [PATH, "HOSTNAME=mine", "A=1"].map(str::to_owned)
        );
        assert_eq!(
            process.args().as_ref().expect("given")[..],
            ["/bin/sh", "-c", "true"].map(str::to_owned)
        );
    }

    #[test]
    fn an_init_is_put_before_the_command() {
        let spec = specify(&record(), Some(Path::new("/usr/bin/corten")));
        let process = spec.process().as_ref().expect("given");
        let args = process.args().as_ref().expect("given");
        assert_eq!(args[..3], ["/sbin/docker-init", "--", "/bin/sh"].map(str::to_owned));
        let mounts = spec.mounts().as_ref().expect("given");
        assert!(
            mounts
                .iter()
                .any(|mount| mount.destination() == Path::new("/sbin/docker-init"))
        );
    }

    #[test]
    fn a_mount_of_the_user_replaces_a_default_one_and_parents_come_first() {
        let mut record = record();
        let point = |destination: &str| MountPoint {
            kind: "tmpfs".to_owned(),
            destination: destination.to_owned(),
            writable: true,
            ..MountPoint::default()
        };
        record.mounts = vec![point("/a/b/c"), point("/a"), point("/dev/shm")];
        let spec = specify(&record, None);
        let targets: Vec<_> = spec
            .mounts()
            .iter()
            .flatten()
            .map(|mount| mount.destination().clone())
            .collect();
        let position = |path: &str| targets.iter().position(|target| target == Path::new(path)).expect(path);
        assert!(position("/a") < position("/a/b/c"));
        assert_eq!(
            targets.iter().filter(|target| *target == Path::new("/dev/shm")).count(),
            1
        );
    }

    #[test]
    fn privileged_means_no_masks_and_every_device() {
        let mut record = record();
        record.host_config.privileged = true;
        let spec = specify(&record, None);
        let linux = spec.linux().as_ref().expect("given");
        assert!(linux.masked_paths().is_none() && linux.readonly_paths().is_none());
        assert!(linux.devices().as_ref().is_some_and(|devices| devices.len() > 5));
        record.host_config.privileged = false;
        let spec = specify(&record, None);
        let linux = spec.linux().as_ref().expect("given");
        assert_eq!(linux.masked_paths().as_ref().expect("given").len(), MASKED.len());
        assert!(linux.devices().is_none());
    }

    #[test]
    fn host_namespaces_are_left_out() {
        let mut record = record();
        let kinds = |record: &Record| {
            namespaces(record, &surroundings(&files(), None))
                .iter()
                .map(LinuxNamespace::typ)
                .collect::<Vec<_>>()
        };
        assert_eq!(kinds(&record).len(), 6);
        for mode in [
            &mut record.host_config.pid_mode,
            &mut record.host_config.ipc_mode,
            &mut record.host_config.uts_mode,
            &mut record.host_config.network_mode,
            &mut record.host_config.cgroupns_mode,
        ] {
            *mode = "host".to_owned();
        }
        assert_eq!(kinds(&record), [LinuxNamespaceType::Mount]);
    }
}

//! The plan: all that stands around a process, compiled in the daemon from an OCI specification.
//!
//! Compiling parses, checks and looks nothing up in the container: names of users and paths of the image are resolved
//! by the child, in the container's own files. The shim decodes its own part only, which keeps it small.
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{
    Linux, LinuxDevice, LinuxDeviceType, LinuxIdMapping, LinuxNamespaceType, Mount, PosixRlimit, PosixRlimitType,
    Process, Spec,
};
use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use crate::{
    cgroup::manager::{self, CgroupPlan},
    error::Error,
    hooks::{self, ContainerHooks, RuntimeHooks},
    process::task::{LogFormat, Rootfs, TaskRequest},
    rootfs::{
        cgroups,
        options::Options,
        owners::{IdMaps, IdRange, Owners},
    },
    security::filter::{self, Filter},
};

/// Everything that one start needs, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub(crate) shim: ShimPlan,
    pub(crate) child: ChildPlan,
}

impl Plan {
    /// A filter that was compiled before, in place of compiling the specification's profile again for each container.
    pub fn set_filter(&mut self, filter: Filter) {
        self.child.filter = Some(filter);
    }
}

/// What the shim does: cgroup, clone, streams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShimPlan {
    pub directory: PathBuf,
    pub cgroup: CgroupPlan,
    /// `CLONE_NEW*` for clone3.
    pub namespaces: u64,
    /// Joined by the shim, because it takes effect on children only.
    pub pid_namespace: Option<PathBuf>,
    pub terminal: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    pub log: Option<LogPlan>,
    pub hooks: RuntimeHooks,
    /// How many mounts come with the plan; descriptors beyond them are only held.
    pub handed: u32,
    /// Who is who in the container's own user namespace.
    pub user: Option<IdMaps>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogPlan {
    pub path: PathBuf,
    pub format: LogFormat,
    pub max_bytes: Option<u64>,
    pub max_files: u32,
    pub hold: bool,
}

/// What the child does, in this order but for what a comment says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChildPlan {
    /// (`CLONE_NEW*`, path).
    pub join: Vec<(u64, PathBuf)>,
    pub new_cgroup_namespace: bool,
    pub new_mount_namespace: bool,
    /// Then the shim does what a process there may not: see `process::introduce`.
    pub user_namespace: bool,
    /// `CLONE_NEW*` of those namespaces that are not the container's own.
    pub foreign: u64,
    pub loopback: bool,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    pub oom_score_adj: Option<i32>,
    /// Paths beneath /proc/sys.
    pub sysctls: Vec<(String, String)>,
    pub rlimits: Vec<(u8, u64, u64)>,
    pub rootfs: RootfsPlan,
    /// The rootfs is put here, in the child's own mount namespace, until it becomes the root.
    pub stage: PathBuf,
    pub mounts: Vec<MountPlan>,
    pub devices: Vec<DevicePlan>,
    /// False when the container brings the host's own /dev.
    pub default_devices: bool,
    /// Rows, columns.
    pub terminal: Option<(u16, u16)>,
    pub masked: Vec<PathBuf>,
    pub read_only: Vec<PathBuf>,
    pub read_only_root: bool,
    pub traces: bool,
    pub user: String,
    pub additional_groups: Vec<String>,
    pub working_directory: PathBuf,
    pub create_working_directory: bool,
    pub umask: u32,
    pub capabilities: Capabilities,
    pub no_new_privileges: bool,
    pub filter: Option<Filter>,
    pub arguments: Vec<String>,
    pub environment: Vec<String>,
    pub hooks: ContainerHooks,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RootfsPlan {
    Directory(PathBuf),
    Overlay {
        lowers: Vec<PathBuf>,
        upper: PathBuf,
        work: PathBuf,
        volatile: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MountPlan {
    pub target: PathBuf,
    pub what: MountSource,
    pub options: Options,
    pub owners: Option<Owners>,
}

impl MountPlan {
    /// Does it bring what is mounted beneath its source?
    pub fn recursive(&self) -> bool {
        match self.what {
            MountSource::Bind { recursive, .. } => recursive,
            _ => self.options.bind.unwrap_or(true),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MountSource {
    Bind {
        path: PathBuf,
        recursive: bool,
    },
    Filesystem {
        kind: String,
        source: Option<String>,
    },
    /// A mount that came with the plan, the nth of them.
    Handed(u32),
    /// The container's view of the cgroup hierarchies that the host has.
    Cgroups(cgroups::View),
    /// What is mounted at the target in another mount namespace.
    Namespace(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DevicePlan {
    pub path: PathBuf,
    pub kind: DeviceKind,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DeviceKind {
    Block,
    Character,
    Fifo,
}

/// Bit n is capability n.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Capabilities {
    pub bounding: u64,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub ambient: u64,
}

const NEWNS: u64 = 0x0002_0000;
const NEWCGROUP: u64 = 0x0200_0000;
const NEWUTS: u64 = 0x0400_0000;
pub(crate) const NEWIPC: u64 = 0x0800_0000;
pub(crate) const NEWUSER: u64 = 0x1000_0000;
pub(crate) const NEWPID: u64 = 0x2000_0000;
pub(crate) const NEWNET: u64 = 0x4000_0000;

/// Docker's, and every shell's.
pub(crate) const UMASK: u32 = 0o022;

/// Parses, checks and flattens a request.
pub fn compile(request: &TaskRequest) -> Result<Plan, Error> {
    let spec = &request.spec;
    refuse_unsupported(spec)?;
    let process = spec
        .process()
        .as_ref()
        .ok_or_else(|| Error::invalid("the specification has no process"))?;
    let linux = spec.linux().clone().unwrap_or_default();
    let namespaces = Namespaces::of(&linux)?;
    let mut shim = shim_plan(request, &linux, &namespaces)?;
    let mut child = child_plan(request, process, &linux, namespaces, &shim.cgroup)?;
    (shim.hooks, child.hooks) = hooks::compile(spec, &request.id, request.bundle.as_ref())?;
    if child.user_namespace && !child.hooks.create.is_empty() {
        // They are the host's programs, and would run as nobody who may read what they are told of.
        return Err(Error::not_implemented("a createContainer hook in a user namespace"));
    }
    Ok(Plan { shim, child })
}

fn refuse_unsupported(spec: &Spec) -> Result<(), Error> {
    let Some(linux) = spec.linux() else { return Ok(()) };
    let label = |label: &Option<String>| label.as_ref().is_some_and(|label| !label.is_empty());
    let process = spec.process().as_ref();
    let asked = |has: fn(&oci_spec::runtime::Process) -> bool| process.is_some_and(has);
    let refused = [
        (
            "apparmorProfile",
            process.is_some_and(|process| label(process.apparmor_profile())),
        ),
        (
            "selinuxLabel",
            process.is_some_and(|process| label(process.selinux_label())),
        ),
        ("ioPriority", asked(|process| process.io_priority().is_some())),
        ("scheduler", asked(|process| process.scheduler().is_some())),
        (
            "execCPUAffinity",
            asked(|process| process.exec_cpu_affinity().is_some()),
        ),
        ("intelRdt", linux.intel_rdt().is_some()),
        ("mountLabel", label(linux.mount_label())),
        ("personality", linux.personality().is_some()),
        ("time offsets", linux.time_offsets().is_some()),
        ("memoryPolicy", linux.memory_policy().is_some()),
        ("netDevices", linux.net_devices().is_some()),
    ];
    match refused.into_iter().find(|(_, asked)| *asked) {
        Some((what, _)) => Err(Error::not_implemented(what)),
        None => Ok(()),
    }
}

/// Which namespaces are new, joined, or the host's.
#[derive(Default)]
struct Namespaces {
    new: u64,
    join: Vec<(u64, PathBuf)>,
    pid: Option<PathBuf>,
}

impl Namespaces {
    fn of(linux: &Linux) -> Result<Namespaces, Error> {
        let mut namespaces = Namespaces::default();
        for namespace in linux.namespaces().iter().flatten() {
            let kind = match namespace.typ() {
                LinuxNamespaceType::Mount => NEWNS,
                LinuxNamespaceType::Cgroup => NEWCGROUP,
                LinuxNamespaceType::Uts => NEWUTS,
                LinuxNamespaceType::Ipc => NEWIPC,
                LinuxNamespaceType::Pid => NEWPID,
                LinuxNamespaceType::Network => NEWNET,
                LinuxNamespaceType::User if namespace.path().is_some() => {
                    return Err(Error::not_implemented("joining a user namespace"));
                }
                LinuxNamespaceType::User => NEWUSER,
                LinuxNamespaceType::Time => return Err(Error::not_implemented("a time namespace")),
            };
            match namespace.path() {
                None => namespaces.new |= kind,
                Some(path) if kind == NEWPID => namespaces.pid = Some(path.clone()),
                Some(_) if kind == NEWNS => return Err(Error::not_implemented("joining a mount namespace")),
                Some(path) => namespaces.join.push((kind, path.clone())),
            }
        }
        if namespaces.new & NEWNS == 0 {
            return Err(Error::invalid("a container needs a mount namespace of its own"));
        }
        Ok(namespaces)
    }

    fn owns(&self, kind: u64) -> bool {
        self.new & kind != 0 || self.join.iter().any(|(joined, _)| *joined == kind)
    }
}

fn shim_plan(request: &TaskRequest, linux: &Linux, namespaces: &Namespaces) -> Result<ShimPlan, Error> {
    let path = match linux.cgroups_path() {
        Some(path) => text(path)?,
        None => format!("/corten/{}", request.id),
    };
    let resources = linux.resources().clone().unwrap_or_default();
    let cgroup =
        manager::plan(&path, &resources).map_err(|error| Error::invalid("cannot plan the cgroup").because(error))?;
    let log = request.stdio.log.as_ref().map(|log| LogPlan {
        path: log.path.clone(),
        format: log.format.clone(),
        max_bytes: log.max_bytes,
        max_files: log.max_files.max(1),
        hold: log.hold,
    });
    Ok(ShimPlan {
        directory: request.directory.clone(),
        cgroup,
        namespaces: namespaces.new & !NEWCGROUP,
        pid_namespace: namespaces.pid.clone(),
        terminal: request.stdio.terminal.is_some(),
        open_stdin: request.stdio.open_stdin,
        stdin_once: request.stdio.stdin_once,
        log,
        hooks: RuntimeHooks::default(),
        handed: u32::try_from(request.handed.len()).unwrap_or(u32::MAX),
        user: user_maps(linux, namespaces)?,
    })
}

fn user_maps(linux: &Linux, namespaces: &Namespaces) -> Result<Option<IdMaps>, Error> {
    let maps = IdMaps {
        users: ranges(linux.uid_mappings()),
        groups: ranges(linux.gid_mappings()),
    };
    match (namespaces.owns(NEWUSER), maps.users.is_empty(), maps.groups.is_empty()) {
        (true, false, false) if maps.host_user(0).zip(maps.host_group(0)).is_none() => {
            Err(Error::invalid("a user namespace needs a user 0 and a group 0"))
        }
        (true, false, false) => Ok(Some(maps)),
        (true, ..) => Err(Error::invalid("a user namespace needs mappings of users and of groups")),
        (false, true, true) => Ok(None),
        (false, ..) => Err(Error::invalid("mappings of users and groups need a user namespace")),
    }
}

fn ranges(mappings: &Option<Vec<LinuxIdMapping>>) -> Vec<IdRange> {
    let range = |mapping: &LinuxIdMapping| IdRange {
        inside: mapping.container_id(),
        outside: mapping.host_id(),
        count: mapping.size(),
    };
    mappings.iter().flatten().map(range).collect()
}

fn child_plan(
    request: &TaskRequest,
    process: &Process,
    linux: &Linux,
    namespaces: Namespaces,
    cgroup: &CgroupPlan,
) -> Result<ChildPlan, Error> {
    let spec = &request.spec;
    let arguments = process.args().clone().unwrap_or_default();
    let environment = process.env().clone().unwrap_or_default();
    check_strings(&arguments, &environment)?;
    let mut mounts = mounts(request, &namespaces, cgroup)?;
    if let Some(namespace) = &request.shared_memory {
        mounts.push(MountPlan {
            target: PathBuf::from("/dev/shm"),
            what: MountSource::Namespace(namespace.clone()),
            options: Options::default(),
            owners: None,
        });
    }
    let devices = linux.devices().iter().flatten().map(device).collect::<Result<_, _>>()?;
    let default_devices = !mounts
        .iter()
        .any(|mount| is_bind(mount) && mount.target == Path::new("/dev"));
    let filter = match linux.seccomp() {
        Some(profile) => Some(filter::compile(profile).map_err(|error| Error::invalid(error.to_string()))?),
        None => None,
    };
    if !process.cwd().is_absolute() {
        return Err(Error::invalid(format!(
            "the working directory {:?} is not an absolute path",
            process.cwd()
        )));
    }
    Ok(ChildPlan {
        new_cgroup_namespace: namespaces.new & NEWCGROUP != 0,
        new_mount_namespace: namespaces.new & NEWNS != 0,
        user_namespace: namespaces.new & NEWUSER != 0,
        foreign: (NEWPID | NEWNET | NEWIPC) & !namespaces.new,
        loopback: namespaces.new & NEWNET != 0,
        hostname: uts_name(spec.hostname(), &namespaces, "hostname")?,
        domainname: uts_name(spec.domainname(), &namespaces, "domain name")?,
        oom_score_adj: process.oom_score_adj(),
        sysctls: sysctls(linux, &namespaces)?,
        rlimits: process
            .rlimits()
            .iter()
            .flatten()
            .map(rlimit)
            .collect::<Result<_, _>>()?,
        rootfs: rootfs(&request.rootfs)?,
        stage: request.directory.clone(),
        mounts,
        devices,
        default_devices,
        terminal: request.stdio.terminal,
        masked: linux.masked_paths().iter().flatten().map(PathBuf::from).collect(),
        read_only: linux.readonly_paths().iter().flatten().map(PathBuf::from).collect(),
        read_only_root: spec
            .root()
            .as_ref()
            .is_some_and(|root| root.readonly().unwrap_or(false)),
        traces: request.traces,
        user: request.user.clone(),
        additional_groups: request.additional_groups.clone(),
        working_directory: process.cwd().clone(),
        create_working_directory: request.create_working_directory,
        umask: process.user().umask().unwrap_or(UMASK),
        capabilities: capabilities(process)?,
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        filter,
        arguments,
        environment,
        join: namespaces.join,
        hooks: ContainerHooks::default(),
    })
}

pub(crate) fn check_strings(arguments: &[String], environment: &[String]) -> Result<(), Error> {
    if arguments.is_empty() {
        return Err(Error::invalid("no command specified"));
    }
    match arguments.iter().chain(environment).find(|string| string.contains('\0')) {
        Some(string) => Err(Error::invalid(format!("{string:?} contains a NUL byte"))),
        None => Ok(()),
    }
}

fn uts_name(name: &Option<String>, namespaces: &Namespaces, what: &str) -> Result<Option<String>, Error> {
    match name {
        Some(name) if name.is_empty() => Ok(None),
        Some(_) if !namespaces.owns(NEWUTS) => Err(Error::invalid(format!(
            "a {what} needs a UTS namespace of the container's own"
        ))),
        other => Ok(other.clone()),
    }
}

fn text(path: &Path) -> Result<String, Error> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::invalid(format!("the path {path:?} is not UTF-8")))
}

fn rootfs(rootfs: &Rootfs) -> Result<RootfsPlan, Error> {
    match rootfs {
        Rootfs::Directory(path) => Ok(RootfsPlan::Directory(path.clone())),
        Rootfs::Overlay {
            lowers,
            upper,
            work,
            volatile,
        } => {
            if lowers.is_empty() {
                return Err(Error::invalid("an overlay needs at least one lower directory"));
            }
            let (lowers, upper, work) = (lowers.clone(), upper.clone(), work.clone());
            Ok(RootfsPlan::Overlay {
                lowers,
                upper,
                work,
                volatile: *volatile,
            })
        }
    }
}

fn is_bind(mount: &MountPlan) -> bool {
    matches!(mount.what, MountSource::Bind { .. } | MountSource::Handed(_))
}

fn mounts(request: &TaskRequest, namespaces: &Namespaces, cgroup: &CgroupPlan) -> Result<Vec<MountPlan>, Error> {
    let mut plans = Vec::new();
    for mount in request.spec.mounts().iter().flatten() {
        let handed = request.handed.iter().position(|target| target == mount.destination());
        let handed = handed.and_then(|number| u32::try_from(number).ok());
        let mut plan = mount_plan(mount, handed, namespaces, cgroup)?;
        if let Some((_, owners)) = request.owners.iter().find(|(target, _)| *target == plan.target) {
            plan.owners = Some(owners.clone());
        }
        if plan.owners.is_some() && !is_bind(&plan) {
            return Err(Error::invalid(format!(
                "only binds can show other owners, {:?} is none",
                plan.target
            )));
        }
        plans.push(plan);
    }
    Ok(plans)
}

/// The maps of an OCI mount, which say the same as those of a user namespace.
fn owners(mount: &Mount) -> Option<Owners> {
    let maps = IdMaps {
        users: ranges(mount.uid_mappings()),
        groups: ranges(mount.gid_mappings()),
    };
    (!maps.users.is_empty() || !maps.groups.is_empty()).then_some(Owners::Maps(maps))
}

fn mount_plan(
    mount: &Mount,
    handed: Option<u32>,
    namespaces: &Namespaces,
    cgroup: &CgroupPlan,
) -> Result<MountPlan, Error> {
    let target = mount.destination().clone();
    if !target.is_absolute() || target.components().all(|part| part == Component::RootDir) {
        return Err(Error::invalid(format!("invalid mount destination {target:?}")));
    }
    let options = Options::parse(mount.options().as_deref().unwrap_or_default());
    let kind = mount.typ().as_deref().unwrap_or_default();
    let what = match (options.bind, kind) {
        (Some(_), _) if let Some(number) = handed => MountSource::Handed(number),
        (Some(_), _) | (None, "bind") => {
            let path = mount
                .source()
                .clone()
                .ok_or_else(|| Error::invalid(format!("{target:?} has no source")))?;
            if !path.is_absolute() {
                return Err(Error::invalid(format!(
                    "the source {path:?} of {target:?} is not an absolute path"
                )));
            }
            if let Some((word, _)) = options.data.first() {
                return Err(Error::invalid(format!(
                    "unknown option {word:?} of the bind mount {target:?}"
                )));
            }
            MountSource::Bind {
                path,
                recursive: options.bind.unwrap_or(true),
            }
        }
        (None, "cgroup" | "cgroup2") => MountSource::Cgroups(cgroups::View::of(cgroup, namespaces.owns(NEWCGROUP))),
        (None, "") => return Err(Error::invalid(format!("the mount {target:?} has no type"))),
        (None, kind) => {
            let source = mount.source().as_deref().map(text).transpose()?;
            MountSource::Filesystem {
                kind: kind.to_owned(),
                source,
            }
        }
    };
    Ok(MountPlan {
        owners: owners(mount),
        target,
        what,
        options,
    })
}

fn device(device: &LinuxDevice) -> Result<DevicePlan, Error> {
    let path = device.path().clone();
    let kind = match device.typ() {
        LinuxDeviceType::B => DeviceKind::Block,
        LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Character,
        LinuxDeviceType::P => DeviceKind::Fifo,
        LinuxDeviceType::A => return Err(Error::invalid(format!("the device {path:?} has no type"))),
    };
    let number = |number: i64| {
        let message = || Error::invalid(format!("{number} is not a device number ({path:?})"));
        if kind == DeviceKind::Fifo {
            Ok(0)
        } else {
            u32::try_from(number).map_err(|_| message())
        }
    };
    let (major, minor) = (number(device.major())?, number(device.minor())?);
    Ok(DevicePlan {
        kind,
        major,
        minor,
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
        path,
    })
}

/// Only those that belong to a namespace of the container's own: the others would change the host.
fn sysctls(linux: &Linux, namespaces: &Namespaces) -> Result<Vec<(String, String)>, Error> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let mut writes = Vec::new();
    for (name, value) in linux.sysctl().iter().flatten() {
        let path = sysctl_path(name);
        let dotted = path.replace('/', ".");
        let needed = match dotted.as_str() {
            name if IPC.contains(&name) || name.starts_with("fs.mqueue.") => NEWIPC,
            name if name.starts_with("net.") => NEWNET,
            "kernel.domainname" => NEWUTS,
            _ => {
                return Err(Error::invalid(format!(
                    "sysctl {name:?} is not in a separate kernel namespace"
                )));
            }
        };
        if !namespaces.owns(needed) {
            return Err(Error::invalid(format!(
                "sysctl {name:?} is not allowed in the host's namespace"
            )));
        }
        let sane = |text: &str| text.chars().all(|c| c.is_ascii_graphic() && c != '+' && c != '=');
        if !sane(&path)
            || path
                .split('/')
                .any(|part| part.is_empty() || part == "." || part == "..")
        {
            return Err(Error::invalid(format!("invalid sysctl {name:?}")));
        }
        if value.contains(['\n', '\0']) {
            return Err(Error::invalid(format!("invalid value of sysctl {name:?}")));
        }
        writes.push((path, value.clone()));
    }
    writes.sort();
    Ok(writes)
}

/// As sysctl(8) reads it: the first separator decides which of the two separates.
fn sysctl_path(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(first) if name[first..].starts_with('.') => {
            let swap = |c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            };
            name.chars().map(swap).collect()
        }
        _ => name.to_owned(),
    }
}

pub(crate) fn rlimit(limit: &PosixRlimit) -> Result<(u8, u64, u64), Error> {
    if limit.soft() > limit.hard() {
        let (soft, hard) = (limit.soft(), limit.hard());
        return Err(Error::invalid(format!(
            "{}: the soft limit {soft} exceeds the hard limit {hard}",
            limit.typ()
        )));
    }
    let number = match limit.typ() {
        PosixRlimitType::RlimitCpu => 0,
        PosixRlimitType::RlimitFsize => 1,
        PosixRlimitType::RlimitData => 2,
        PosixRlimitType::RlimitStack => 3,
        PosixRlimitType::RlimitCore => 4,
        PosixRlimitType::RlimitRss => 5,
        PosixRlimitType::RlimitNproc => 6,
        PosixRlimitType::RlimitNofile => 7,
        PosixRlimitType::RlimitMemlock => 8,
        PosixRlimitType::RlimitAs => 9,
        PosixRlimitType::RlimitLocks => 10,
        PosixRlimitType::RlimitSigpending => 11,
        PosixRlimitType::RlimitMsgqueue => 12,
        PosixRlimitType::RlimitNice => 13,
        PosixRlimitType::RlimitRtprio => 14,
        PosixRlimitType::RlimitRttime => 15,
    };
    Ok((number, limit.soft(), limit.hard()))
}

pub(crate) fn capabilities(process: &Process) -> Result<Capabilities, Error> {
    let Some(sets) = process.capabilities() else {
        return Ok(Capabilities::default());
    };
    let bits = |set: &Option<oci_spec::runtime::Capabilities>| -> Result<u64, Error> {
        let mut bits = 0;
        for capability in set.iter().flatten() {
            let name = capability.to_string();
            let known = CapabilitySet::from_name(name.strip_prefix("CAP_").unwrap_or(&name));
            bits |= known
                .ok_or_else(|| Error::invalid(format!("unknown capability {name}")))?
                .bits();
        }
        Ok(bits)
    };
    Ok(Capabilities {
        bounding: bits(sets.bounding())?,
        effective: bits(sets.effective())?,
        permitted: bits(sets.permitted())?,
        inheritable: bits(sets.inheritable())?,
        ambient: bits(sets.ambient())?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::process::task::Stdio;

    fn request(spec: serde_json::Value) -> TaskRequest {
        TaskRequest {
            shared_memory: None,
            id: "0".repeat(64),
            directory: PathBuf::from("/run/corten/tasks/0"),
            spec: serde_json::from_value(spec).unwrap(),
            rootfs: Rootfs::Directory(PathBuf::from("/srv")),
            bundle: None,
            user: "web".to_owned(),
            additional_groups: Vec::new(),
            create_working_directory: false,
            traces: false,
            handed: Vec::new(),
            owners: Vec::new(),
            stdio: Stdio::default(),
        }
    }

    fn spec() -> serde_json::Value {
        json!({
            "ociVersion": "1.2.0",
            "root": {"path": "unused", "readonly": true},
            "process": {"args": ["sh"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
            "linux": {"cgroupsPath": "/corten-test", "namespaces": [{"type": "mount"}, {"type": "network"}]},
        })
    }

    #[test]
    fn a_plan_survives_its_file() {
        let plan = compile(&request(spec())).unwrap();
        let bytes = postcard::to_allocvec(&plan).unwrap();
        assert_eq!(postcard::from_bytes::<Plan>(&bytes).unwrap(), plan);
        assert!(plan.child.loopback && plan.child.read_only_root && !plan.child.new_cgroup_namespace);
        assert_eq!(plan.shim.namespaces, NEWNS | NEWNET);
        assert_eq!((plan.child.user.as_str(), plan.child.umask), ("web", 0o022));
    }

    #[test]
    fn mounts_are_told_apart() {
        let mut spec = spec();
        spec["mounts"] = json!([
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/data", "type": "bind", "source": "/srv/data", "options": ["rbind", "ro", "rslave"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
        ]);
        let mounts = compile(&request(spec)).unwrap().child.mounts;
        assert_eq!(
            mounts[0].what,
            MountSource::Filesystem {
                kind: "proc".into(),
                source: Some("proc".into())
            }
        );
        assert_eq!(
            mounts[1].what,
            MountSource::Bind {
                path: "/srv/data".into(),
                recursive: true
            }
        );
        assert!(matches!(&mounts[2].what, MountSource::Cgroups(view) if !view.own_namespace));
    }

    #[test]
    fn capabilities_become_bits() {
        let mut spec = spec();
        spec["process"]["capabilities"] = json!({"bounding": ["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"]});
        let capabilities = compile(&request(spec)).unwrap().child.capabilities;
        assert_eq!(
            capabilities,
            Capabilities {
                bounding: 1 | 1 << 40,
                ..Capabilities::default()
            }
        );
    }

    #[test]
    fn both_spellings_of_sysctls() {
        let mut spec = spec();
        spec["linux"]["sysctl"] = json!({"net.ipv4.conf.eth0/1.rp_filter": "1", "net/ipv4/ip_forward": "0"});
        let sysctls = compile(&request(spec.clone())).unwrap().child.sysctls;
        let paths: Vec<_> = sysctls.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["net/ipv4/conf/eth0.1/rp_filter", "net/ipv4/ip_forward"]);
        spec["linux"]["namespaces"] = json!([{"type": "mount"}]);
        let message = compile(&request(spec)).unwrap_err().to_string();
        assert!(message.ends_with("is not allowed in the host's namespace"), "{message}");
    }

    #[test]
    fn a_user_namespace_has_a_root_and_no_programs_of_the_host() {
        let mut spec = spec();
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({"type": "user"}));
        let from = |first: u32| json!([{"containerID": first, "hostID": 100_000, "size": 10}]);
        (spec["linux"]["uidMappings"], spec["linux"]["gidMappings"]) = (from(0), from(0));
        let plan = compile(&request(spec.clone())).unwrap();
        assert_eq!(plan.shim.user.unwrap().root(), (100_000, 100_000));
        let refused = |spec: serde_json::Value| {
            let request = TaskRequest {
                bundle: Some(PathBuf::from("/bundle")),
                ..request(spec)
            };
            compile(&request).unwrap_err().to_string()
        };
        let hooks = json!({"createContainer": [{"path": "/bin/true"}]});
        spec["hooks"] = hooks;
        let message = refused(spec.clone());
        assert_eq!(
            message,
            "a createContainer hook in a user namespace is not implemented yet"
        );
        spec["linux"]["gidMappings"] = from(1);
        assert_eq!(refused(spec), "a user namespace needs a user 0 and a group 0");
    }

    #[test]
    fn what_is_not_implemented_is_refused() {
        for (namespace, message) in [
            ("user", "a user namespace needs mappings of users and of groups"),
            ("time", "a time namespace is not implemented yet"),
        ] {
            let mut spec = spec();
            spec["linux"]["namespaces"]
                .as_array_mut()
                .unwrap()
                .push(json!({"type": namespace}));
            assert_eq!(compile(&request(spec)).unwrap_err().to_string(), message);
        }
        let mut spec = spec();
        spec["linux"]["namespaces"] = json!([]);
        assert!(
            compile(&request(spec))
                .unwrap_err()
                .to_string()
                .contains("mount namespace")
        );
    }
}

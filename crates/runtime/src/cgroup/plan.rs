//! A cgroup as flat data: which directories, and what to write into which file of each.
//!
//! Made in the daemon, where parsing and looking around cost nothing to the container's start; carried out by
//! [`super::manager::create`] in a shim, which looks at nothing.
use std::borrow::Cow;
use std::path::Path;

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::hierarchy::{Controller, Hierarchies, Place};
use super::{devices, files, v1, v2};

/// Everything that `create` will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupPlan {
    /// `docker/<id>`: the same beneath each mount point.
    pub path: String,
    pub legacy: Vec<LegacyPlan>,
    pub unified: Option<UnifiedPlan>,
}

/// The directory in one v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegacyPlan {
    /// `memory`, or `cpu,cpuacct`.
    pub controllers: String,
    pub mount: String,
    /// A new v1 cpuset is empty and nobody can join it: the parents' CPUs and memory nodes, unless inherited.
    pub seed: Option<Seed>,
    pub writes: Vec<Write>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    pub cpus: String,
    pub mems: String,
}

/// The directory in the v2 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnifiedPlan {
    pub mount: String,
    /// Controllers to switch on in every ancestor; empty when that is so already.
    pub enable: Vec<String>,
    /// Those of them without which a limit could not be applied.
    pub needed: Vec<String>,
    pub writes: Vec<Write>,
    /// An eBPF program that decides over devices; `None`: every device.
    pub devices: Option<Vec<u64>>,
}

/// One value for one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    pub file: Cow<'static, str>,
    pub value: String,
    /// What the user calls it, for errors: `memory limit`.
    pub limit: Cow<'static, str>,
    /// What to write where a kernel does not have `file`: schedulers name their knobs differently.
    pub instead: Option<(Cow<'static, str>, String)>,
}

impl Write {
    pub fn new(limit: impl Into<Cow<'static, str>>, file: impl Into<Cow<'static, str>>, value: impl ToString) -> Write {
        Write {
            file: file.into(),
            value: value.to_string(),
            limit: limit.into(),
            instead: None,
        }
    }
}

/// Plans the cgroup `path` (`/docker/<id>`) on a host with these hierarchies.
pub fn compile(path: &str, resources: &LinuxResources, host: &Hierarchies) -> Result<CgroupPlan, Error> {
    let path = checked_path(path)?;
    let compiled = limits(resources, host)?;
    let legacy = compiled
        .legacy
        .into_iter()
        .map(|(index, writes)| legacy_plan(path, host, index, writes));
    let unified = match &host.unified {
        Some(unified) if compiled.uses_unified => {
            let mount = unified.mount.to_string_lossy().into_owned();
            let enable = missing_controllers(path, &unified.mount, &compiled.to_enable);
            let (needed, writes) = (compiled.needed, compiled.unified);
            Some(UnifiedPlan {
                mount,
                enable,
                needed,
                writes,
                devices: compiled.device_program,
            })
        }
        _ => None,
    };
    Ok(CgroupPlan {
        path: path.to_owned(),
        legacy: legacy.collect(),
        unified,
    })
}

/// The limits in `resources`, sorted by where this host applies them.
#[derive(Default)]
pub(super) struct Limits {
    /// By index of the hierarchy, each that a container joins.
    pub legacy: Vec<(usize, Vec<Write>)>,
    pub unified: Vec<Write>,
    pub device_program: Option<Vec<u64>>,
    uses_unified: bool,
    to_enable: Vec<&'static str>,
    needed: Vec<String>,
}

impl Limits {
    fn legacy_writes(&mut self, index: usize) -> &mut Vec<Write> {
        let position = self
            .legacy
            .iter()
            .position(|(known, _)| *known == index)
            .unwrap_or_else(|| {
                self.legacy.push((index, Vec::new()));
                self.legacy.len() - 1
            });
        &mut self.legacy[position].1
    }
}

pub(super) fn limits(resources: &LinuxResources, host: &Hierarchies) -> Result<Limits, Error> {
    check(resources, host)?;
    let mut limits = Limits {
        uses_unified: host.legacy.is_empty(),
        ..Limits::default()
    };
    for controller in Controller::ALL {
        match host.place(controller) {
            Some(Place::Legacy(index)) => {
                let writes = v1::writes(controller, resources)?;
                if controller.always_joined() || !writes.is_empty() {
                    limits.legacy_writes(index).extend(writes);
                }
            }
            Some(Place::Unified) => add_unified(&mut limits, controller, resources)?,
            None => {
                if let Some(write) = v2::writes(controller, resources)?.into_iter().next() {
                    let controller = controller.name().to_owned();
                    return Err(Error::NoController {
                        limit: write.limit.into_owned(),
                        controller,
                    });
                }
            }
        }
    }
    let raw = resources.unified().iter().flatten();
    for (file, value) in raw {
        limits.unified.push(v2::raw(file, value, host.is_pure_v2())?);
    }
    Ok(limits)
}

fn add_unified(limits: &mut Limits, controller: Controller, resources: &LinuxResources) -> Result<(), Error> {
    match controller {
        Controller::Devices => {
            limits.device_program = devices::program(resources.devices().as_deref().unwrap_or_default())?;
            limits.uses_unified |= limits.device_program.is_some();
        }
        // Needs nothing in the hierarchy's files.
        Controller::Cpuacct => {}
        Controller::Freezer => limits.uses_unified = true,
        _ => {
            let writes = v2::writes(controller, resources)?;
            if controller.always_joined() || !writes.is_empty() {
                limits.to_enable.push(controller.name());
                limits.uses_unified = true;
            }
            if !writes.is_empty() {
                limits.needed.push(controller.name().to_owned());
            }
            limits.unified.extend(writes);
        }
    }
    Ok(())
}

fn legacy_plan(path: &str, host: &Hierarchies, index: usize, writes: Vec<Write>) -> LegacyPlan {
    let hierarchy = &host.legacy[index];
    let cpuset = hierarchy.controllers.iter().any(|name| name == "cpuset");
    LegacyPlan {
        controllers: hierarchy.controllers.join(","),
        mount: hierarchy.mount.to_string_lossy().into_owned(),
        seed: if cpuset { seed(path, &hierarchy.mount) } else { None },
        writes,
    }
}

/// What a new cpuset must be filled with. `None` when the parent does so itself, as those that we make do: the two
/// writes would cost more than all the rest of the hierarchy.
fn seed(path: &str, mount: &Path) -> Option<Seed> {
    let parent = mount.join(path).parent()?.to_owned();
    if files::read(&parent.join("cgroup.clone_children")).is_ok_and(|text| text.trim() == "1") {
        return None;
    }
    let nearest = |file: &str| {
        parent
            .ancestors()
            .take_while(|a| a.starts_with(mount))
            .find_map(|ancestor| {
                let text = files::read(&ancestor.join(file)).ok()?;
                Some(text.trim().to_owned()).filter(|text| !text.is_empty())
            })
    };
    Some(Seed {
        cpus: nearest("cpuset.cpus")?,
        mems: nearest("cpuset.mems")?,
    })
}

/// All of `wanted` when the parent lacks one: whichever ancestor lacks it is found by `create`.
fn missing_controllers(path: &str, mount: &Path, wanted: &[&'static str]) -> Vec<String> {
    let parent = mount
        .join(path)
        .parent()
        .unwrap_or(mount)
        .join("cgroup.subtree_control");
    let enabled = files::read(&parent).unwrap_or_default();
    let missing = wanted
        .iter()
        .any(|name| !enabled.split_ascii_whitespace().any(|e| e == *name));
    if missing {
        wanted.iter().map(|name| (*name).to_owned()).collect()
    } else {
        Vec::new()
    }
}

fn checked_path(path: &str) -> Result<&str, Error> {
    let refuse = |reason| {
        Err(Error::Path {
            path: path.to_owned(),
            reason,
        })
    };
    let relative = path.trim_matches('/');
    if relative.is_empty() {
        return refuse("it is empty");
    }
    if relative
        .split('/')
        .any(|part| part.is_empty() || part == "." || part == "..")
    {
        return refuse("it has empty, '.' or '..' components");
    }
    if relative.bytes().any(|b| b == 0 || b == b'\n') {
        return refuse("it has control characters");
    }
    Ok(relative)
}

fn invalid<T>(limit: &str, reason: impl Into<String>) -> Result<T, Error> {
    Err(Error::Invalid {
        limit: limit.to_owned(),
        reason: reason.into(),
    })
}

/// What contradicts itself, whatever the host.
fn check(resources: &LinuxResources, host: &Hierarchies) -> Result<(), Error> {
    if let Some(memory) = resources.memory() {
        check_memory(memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        check_cpu(cpu, host)?;
    }
    if resources
        .network()
        .as_ref()
        .is_some_and(|n| n.class_id().is_some() || n.priorities().is_some())
    {
        return Err(Error::NotImplemented("network class and priority limits"));
    }
    Ok(())
}

fn check_memory(memory: &LinuxMemory) -> Result<(), Error> {
    let limit = memory.limit().filter(|limit| *limit > 0);
    let swap = memory.swap().filter(|swap| *swap > 0);
    match (limit, swap) {
        (None, Some(_)) => return invalid("memory+swap limit", "it needs a memory limit beside it"),
        (Some(limit), Some(swap)) if swap < limit => {
            return invalid("memory+swap limit", "it is smaller than the memory limit");
        }
        _ => {}
    }
    let reservation = memory.reservation().filter(|reservation| *reservation > 0);
    if let (Some(limit), Some(reservation)) = (limit, reservation)
        && reservation > limit
    {
        return invalid("memory reservation", "it is larger than the memory limit");
    }
    match memory.swappiness() {
        Some(swappiness) if swappiness > 100 => invalid("memory swappiness", "it is not between 0 and 100"),
        _ => Ok(()),
    }
}

fn check_cpu(cpu: &LinuxCpu, host: &Hierarchies) -> Result<(), Error> {
    if cpu
        .shares()
        .is_some_and(|shares| shares != 0 && !(2..=262_144).contains(&shares))
    {
        return invalid("CPU shares", "they are not between 2 and 262144");
    }
    if cpu
        .period()
        .is_some_and(|period| period != 0 && !(1000..=1_000_000).contains(&period))
    {
        return invalid("CPU period", "it is not between 1 ms and 1 s");
    }
    if cpu.quota().is_some_and(|quota| quota > 0 && quota < 1000) {
        return invalid("CPU quota", "it is below 1 ms");
    }
    for (limit, list, available) in [("CPU list", cpu.cpus(), 0), ("memory node list", cpu.mems(), 1)] {
        let Some(list) = list.as_deref().filter(|list| !list.is_empty()) else {
            continue;
        };
        let Some(asked) = parse_list(list) else {
            return invalid(limit, format!("{list:?} is not a list like 0-2,4"));
        };
        let host = host.available_cpus_and_nodes();
        let host = host.as_ref().map(|both| if available == 0 { &both.0 } else { &both.1 });
        if let Some(host) = host.filter(|h| !h.is_empty())
            && let Some(there) = parse_list(host)
            && !asked
                .iter()
                .all(|range| range.clone().all(|n| there.iter().any(|t| t.contains(&n))))
        {
            return invalid(limit, format!("requested {list}, available {host}"));
        }
    }
    Ok(())
}

/// `0-2,4`, as cpusets are written.
fn parse_list(list: &str) -> Option<Vec<std::ops::RangeInclusive<u32>>> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        // The kernel's own limit is far below: this keeps a walk over the range short.
        (first <= last && last < 65_536).then_some(first..=last)
    };
    list.split(',').map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::hierarchy::{Legacy, Unified};
    use oci_spec::runtime::{LinuxCpuBuilder, LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResourcesBuilder};

    fn no_controllers() -> Hierarchies {
        let unified = Unified {
            mount: "/nowhere".into(),
            controllers: Vec::new(),
        };
        Hierarchies {
            legacy: Vec::new(),
            unified: Some(unified),
        }
    }

    fn all_on_v2() -> Hierarchies {
        let controllers = ["cpu", "cpuset", "memory", "io", "pids", "hugetlb"]
            .map(String::from)
            .to_vec();
        Hierarchies {
            legacy: Vec::new(),
            unified: Some(Unified {
                mount: "/nowhere".into(),
                controllers,
            }),
        }
    }

    fn with_memory(limit: i64) -> LinuxResources {
        LinuxResourcesBuilder::default()
            .memory(LinuxMemoryBuilder::default().limit(limit).build().unwrap())
            .build()
            .unwrap()
    }

    #[test]
    fn a_limit_without_its_controller_is_named_in_the_error() {
        let error = compile("/docker/a", &with_memory(64 << 20), &no_controllers()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot set the memory limit: this host has no memory cgroup controller"
        );
        let pids = LinuxPidsBuilder::default().limit(5).build().unwrap();
        let resources = LinuxResourcesBuilder::default().pids(pids).build().unwrap();
        let error = compile("/docker/a", &resources, &no_controllers()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot set the pids limit: this host has no pids cgroup controller"
        );
    }

    #[test]
    fn without_limits_no_controller_is_needed() {
        let plan = compile("/docker/a", &LinuxResources::default(), &no_controllers()).unwrap();
        let unified = plan.unified.unwrap();
        assert_eq!(
            (unified.enable.len(), unified.writes.len(), unified.devices),
            (0, 0, None)
        );
    }

    #[test]
    fn a_plan_for_v2_enables_what_it_limits_and_what_it_counts() {
        let plan = compile("/docker/a", &with_memory(64 << 20), &all_on_v2()).unwrap();
        let unified = plan.unified.unwrap();
        assert_eq!(unified.enable, ["cpu", "cpuset", "memory", "io", "pids"]);
        assert_eq!(unified.needed, ["memory"]);
        assert_eq!(unified.writes, [Write::new("memory limit", "memory.max", 64 << 20)]);
        assert_eq!(plan.path, "docker/a");
    }

    #[test]
    fn a_v1_hierarchy_that_only_counts_is_joined_and_one_that_is_not_used_is_not() {
        let legacy = |name: &str| Legacy {
            mount: "/nowhere".into(),
            controllers: vec![name.to_owned()],
        };
        let host = Hierarchies {
            legacy: vec![legacy("cpuacct"), legacy("rdma"), legacy("freezer")],
            unified: None,
        };
        let plan = compile("/a", &LinuxResources::default(), &host).unwrap();
        let joined: Vec<_> = plan.legacy.iter().map(|l| l.controllers.as_str()).collect();
        assert_eq!(joined, ["cpuacct", "freezer"]);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let memory = |limit, swap| LinuxMemoryBuilder::default().limit(limit).swap(swap).build().unwrap();
        let refused = |resources: LinuxResources| compile("/a", &resources, &all_on_v2()).unwrap_err().to_string();
        let with = |memory| LinuxResourcesBuilder::default().memory(memory).build().unwrap();
        assert!(refused(with(memory(0i64, 5i64))).contains("needs a memory limit"));
        assert!(refused(with(memory(50i64, 5i64))).contains("smaller than the memory limit"));
        let cpu = |cpu: LinuxCpuBuilder| {
            LinuxResourcesBuilder::default()
                .cpu(cpu.build().unwrap())
                .build()
                .unwrap()
        };
        assert!(refused(cpu(LinuxCpuBuilder::default().shares(1u64))).contains("between 2 and"));
        assert!(refused(cpu(LinuxCpuBuilder::default().period(10u64))).contains("1 ms"));
        assert!(refused(cpu(LinuxCpuBuilder::default().cpus("0-"))).contains("not a list"));
        assert!(refused(cpu(LinuxCpuBuilder::default().cpus("3-1"))).contains("not a list"));
    }

    #[test]
    fn a_path_cannot_leave_the_hierarchy() {
        for bad in ["", "/", "/a/../b", "a//b", "/a\n", "/./a"] {
            assert!(
                compile(bad, &LinuxResources::default(), &no_controllers()).is_err(),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn cpus_that_the_host_lacks_are_named() {
        let host = Hierarchies::of_host().unwrap();
        if host.available_cpus_and_nodes().is_none() {
            eprintln!("skipped: this host has no cpuset controller");
            return;
        }
        let cpu = LinuxCpuBuilder::default().cpus("60000").build().unwrap();
        let resources = LinuxResourcesBuilder::default().cpu(cpu).build().unwrap();
        let error = compile("/a", &resources, host).unwrap_err().to_string();
        assert!(
            error.starts_with("invalid CPU list: requested 60000, available 0"),
            "{error}"
        );
    }
}

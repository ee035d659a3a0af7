//! What this host has: which controller is in which mounted hierarchy.
//!
//! A host is v1, v2 or a mixture, controller by controller; nothing else in Corten asks for "the version". A mount that
//! is listed may be covered by a later one, so each is looked at before it is believed.
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::statfs;

use super::error::Error;
use super::files;

const V1_MAGIC: i64 = 0x0027_e0eb;
const V2_MAGIC: i64 = 0x6367_7270;

/// The controllers that Corten uses, with their v1 names where those differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Controller {
    Cpu,
    Cpuacct,
    Cpuset,
    Memory,
    Devices,
    Freezer,
    /// `blkio` on v1.
    Io,
    Pids,
    Hugetlb,
    Rdma,
}

impl Controller {
    /// In the order in which a plan applies them.
    pub const ALL: [Controller; 10] = [
        Controller::Cpu,
        Controller::Cpuacct,
        Controller::Cpuset,
        Controller::Memory,
        Controller::Devices,
        Controller::Freezer,
        Controller::Io,
        Controller::Pids,
        Controller::Hugetlb,
        Controller::Rdma,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::Cpuacct => "cpuacct",
            Controller::Cpuset => "cpuset",
            Controller::Memory => "memory",
            Controller::Devices => "devices",
            Controller::Freezer => "freezer",
            Controller::Io => "io",
            Controller::Pids => "pids",
            Controller::Hugetlb => "hugetlb",
            Controller::Rdma => "rdma",
        }
    }

    pub fn legacy_name(self) -> &'static str {
        if self == Controller::Io { "blkio" } else { self.name() }
    }

    /// Joined by every container, for its figures and for later updates; the others only when they limit something.
    pub fn always_joined(self) -> bool {
        !matches!(self, Controller::Hugetlb | Controller::Rdma)
    }
}

/// One v1 hierarchy: a mount with one controller or several (`cpu,cpuacct`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Legacy {
    pub mount: PathBuf,
    /// As the kernel names them.
    pub controllers: Vec<String>,
}

/// The v2 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unified {
    pub mount: PathBuf,
    /// `cgroup.controllers` of its root: those that no v1 hierarchy holds.
    pub controllers: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hierarchies {
    pub legacy: Vec<Legacy>,
    pub unified: Option<Unified>,
}

/// Where one controller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Index into [`Hierarchies::legacy`].
    Legacy(usize),
    Unified,
}

impl Hierarchies {
    /// Looked at once: hierarchies do not move while a host runs.
    pub fn of_host() -> Result<&'static Hierarchies, Error> {
        static HOST: OnceLock<Hierarchies> = OnceLock::new();
        if let Some(known) = HOST.get() {
            return Ok(known);
        }
        let found = Hierarchies::detect()?;
        Ok(HOST.get_or_init(|| found))
    }

    /// Looks now, in this process's mount namespace.
    pub fn detect() -> Result<Hierarchies, Error> {
        let path = Path::new("/proc/thread-self/mountinfo");
        let text = files::read(path).map_err(|e| Error::io("read", path, e))?;
        let found = Hierarchies::from_mountinfo(&text, |path| statfs(path).ok().map(|s| s.f_type));
        if found.legacy.is_empty() && found.unified.is_none() {
            Err(Error::NoHierarchy)
        } else {
            Ok(found)
        }
    }

    /// `magic` tells what file system is really seen at a path.
    fn from_mountinfo(text: &str, magic: impl Fn(&Path) -> Option<i64>) -> Hierarchies {
        let mut found = Hierarchies::default();
        for mount in text.lines().filter_map(parse_mount) {
            match mount.kind {
                "cgroup2" if found.unified.is_none() && magic(&mount.point) == Some(V2_MAGIC) => {
                    let list = files::read(&mount.point.join("cgroup.controllers")).unwrap_or_default();
                    let controllers = list.split_ascii_whitespace().map(String::from).collect();
                    found.unified = Some(Unified {
                        mount: mount.point,
                        controllers,
                    });
                }
                "cgroup" if magic(&mount.point) == Some(V1_MAGIC) => found.add_legacy(mount),
                _ => {}
            }
        }
        found
    }

    fn add_legacy(&mut self, mount: Mount) {
        let known = |name: &&str| Controller::ALL.iter().any(|c| c.legacy_name() == *name);
        let controllers: Vec<String> = mount.options.split(',').filter(known).map(String::from).collect();
        let again = self.legacy.iter().any(|l| l.controllers == controllers);
        if !controllers.is_empty() && !again {
            self.legacy.push(Legacy {
                mount: mount.point,
                controllers,
            });
        }
    }

    pub fn place(&self, controller: Controller) -> Option<Place> {
        let legacy = |l: &Legacy| l.controllers.iter().any(|name| name == controller.legacy_name());
        if let Some(index) = self.legacy.iter().position(legacy) {
            return Some(Place::Legacy(index));
        }
        let unified = self.unified.as_ref()?;
        let built_in = match controller {
            // Not controllers of v2: an eBPF hook, and a feature of every cgroup.
            Controller::Devices | Controller::Freezer => true,
            // v2 counts CPU time in every cgroup.
            Controller::Cpuacct => true,
            _ => unified.controllers.iter().any(|name| name == controller.name()),
        };
        built_in.then_some(Place::Unified)
    }

    /// Nothing but v2.
    pub fn is_pure_v2(&self) -> bool {
        self.legacy.is_empty() && self.unified.is_some()
    }

    /// What can be limited here, for `docker info` and for warnings at create.
    pub fn support(&self) -> Support {
        let has = |controller| self.place(controller).is_some();
        let memory = self.place(Controller::Memory);
        let legacy_file = |controller, file: &str| match self.place(controller) {
            Some(Place::Legacy(index)) => self.legacy[index].mount.join(file).exists(),
            _ => false,
        };
        let on_v2 = |controller| self.place(controller) == Some(Place::Unified);
        Support {
            version: if self.is_pure_v2() { 2 } else { 1 },
            memory_limit: memory.is_some(),
            swap_limit: on_v2(Controller::Memory) || legacy_file(Controller::Memory, "memory.memsw.limit_in_bytes"),
            memory_swappiness: legacy_file(Controller::Memory, "memory.swappiness"),
            kernel_memory_tcp: legacy_file(Controller::Memory, "memory.kmem.tcp.limit_in_bytes"),
            oom_kill_disable: legacy_file(Controller::Memory, "memory.oom_control"),
            cpu_shares: has(Controller::Cpu),
            cpu_quota: on_v2(Controller::Cpu) || legacy_file(Controller::Cpu, "cpu.cfs_quota_us"),
            cpu_realtime: legacy_file(Controller::Cpu, "cpu.rt_runtime_us"),
            cpuset: has(Controller::Cpuset),
            pids_limit: has(Controller::Pids),
            io_throttle: on_v2(Controller::Io) || legacy_file(Controller::Io, "blkio.throttle.read_bps_device"),
            io_weight: on_v2(Controller::Io) || legacy_file(Controller::Io, "blkio.bfq.io_service_bytes"),
            hugepages: has(Controller::Hugetlb),
        }
    }

    /// The CPUs and memory nodes that a container may be pinned to, as `0-3`; `None` without a cpuset controller.
    pub fn available_cpus_and_nodes(&self) -> Option<(String, String)> {
        let (mount, cpus, mems) = match self.place(Controller::Cpuset)? {
            Place::Legacy(index) => (&self.legacy[index].mount, "cpuset.cpus", "cpuset.mems"),
            Place::Unified => (
                &self.unified.as_ref()?.mount,
                "cpuset.cpus.effective",
                "cpuset.mems.effective",
            ),
        };
        let text = |file| files::read(&mount.join(file)).ok().map(|t| t.trim().to_owned());
        Some((text(cpus)?, text(mems)?))
    }
}

/// What can be limited on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Support {
    /// 1 also for the hybrid of both: what `docker info` says.
    pub version: u32,
    pub memory_limit: bool,
    pub swap_limit: bool,
    pub memory_swappiness: bool,
    pub kernel_memory_tcp: bool,
    pub oom_kill_disable: bool,
    pub cpu_shares: bool,
    pub cpu_quota: bool,
    pub cpu_realtime: bool,
    pub cpuset: bool,
    pub pids_limit: bool,
    pub io_throttle: bool,
    pub io_weight: bool,
    pub hugepages: bool,
}

struct Mount<'t> {
    point: PathBuf,
    kind: &'t str,
    options: &'t str,
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_mount(line: &str) -> Option<Mount<'_>> {
    let (left, right) = line.split_once(" - ")?;
    let mut right = right.split(' ');
    let (kind, options) = (right.next()?, right.nth(1)?);
    let point = left.split(' ').nth(4)?;
    kind.starts_with("cgroup").then(|| Mount {
        point: unescape(point),
        kind,
        options,
    })
}

/// Blanks in mount points come as `\040`.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let octal = tail
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|d| std::str::from_utf8(d).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
38 31 0:35 / /sys/fs/cgroup/blk\\040io rw,relatime - cgroup cgroup rw,blkio
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    fn magic_by_name(path: &Path) -> Option<i64> {
        Some(if path.ends_with("unified") { V2_MAGIC } else { V1_MAGIC })
    }

    #[test]
    fn a_hybrid_host_has_each_controller_in_its_own_place() {
        let found = Hierarchies::from_mountinfo(HYBRID, magic_by_name);
        assert_eq!(found.place(Controller::Cpu), Some(Place::Legacy(0)));
        assert_eq!(found.place(Controller::Cpuacct), Some(Place::Legacy(0)));
        assert_eq!(found.place(Controller::Memory), Some(Place::Legacy(1)));
        assert_eq!(found.legacy[2].mount, Path::new("/sys/fs/cgroup/blk io"));
        assert_eq!(found.place(Controller::Io), Some(Place::Legacy(2)));
        assert_eq!(found.place(Controller::Devices), Some(Place::Unified));
        assert_eq!(found.place(Controller::Pids), None);
        assert_eq!(
            found.legacy.len(),
            3,
            "a named hierarchy without controllers is nobody's place"
        );
        assert!(!found.is_pure_v2());
    }

    #[test]
    fn a_mount_that_is_covered_by_another_is_not_believed() {
        let covered = format!("{HYBRID}50 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        let magic = |path: &Path| (path == Path::new("/sys/fs/cgroup")).then_some(V2_MAGIC);
        let found = Hierarchies::from_mountinfo(&covered, magic);
        assert!(found.is_pure_v2());
        assert_eq!(found.unified.as_ref().unwrap().mount, Path::new("/sys/fs/cgroup"));
    }

    #[test]
    fn the_host_of_the_tests_has_cgroups() {
        let host = Hierarchies::of_host().unwrap();
        assert!(host.support().version == 1 || host.is_pure_v2());
    }
}

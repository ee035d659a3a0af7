//! The one door to control groups: plan in the daemon, create and enter in the shim, observe from both.
//!
//! A container's cgroup is one directory on v2 and one in each hierarchy on v1. [`Cgroup`] is a handle, not an owner:
//! dropping it removes nothing, because a shim and the daemon hold one at the same time.
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxResources;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use super::error::Error;
use super::files;
use super::hierarchy::Hierarchies;
use super::knobs::{apply, open_directory};
pub use super::plan::CgroupPlan;
use super::plan::{self, LegacyPlan, Seed, UnifiedPlan, Write};
use super::stats::{self, CpuStats, Stats};
use super::update;
use crate::shim::protocol::CgroupRecord;

/// How long dying processes may hold their cgroup.
const PATIENCE: Duration = Duration::from_secs(10);

/// Compiles `resources` for the cgroup `path` (`/docker/<id>`, beneath each hierarchy's mount point).
pub fn plan(path: &str, resources: &LinuxResources) -> Result<CgroupPlan, Error> {
    plan::compile(path, resources, Hierarchies::of_host()?)
}

/// Makes the directories and applies the limits; leaves nothing behind when it fails.
pub fn create(plan: &CgroupPlan) -> Result<Cgroup, Error> {
    let mut made = Made::default();
    let mut record = CgroupRecord::default();
    for legacy in &plan.legacy {
        let path = create_legacy(legacy, &plan.path, &mut made)?;
        record.legacy.push((legacy.controllers.clone(), path));
    }
    let mut unified = None;
    if let Some(unified_plan) = &plan.unified {
        let (path, directory) = create_unified(unified_plan, &plan.path, &mut made)?;
        record.unified = Some(path);
        unified = Some(directory);
    }
    made.0.clear();
    Ok(Cgroup { record, unified })
}

/// Directories to remove, last first, unless everything succeeds.
#[derive(Default)]
struct Made(Vec<PathBuf>);

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            // A parent that another container uses by now stays: that is what the error says.
            let _ = rustix::fs::rmdir(path);
        }
    }
}

impl Made {
    /// Makes the leaf, and its parents as far as they are missing; `new_parent` is called for each of those.
    fn make(&mut self, mount: &Path, path: &Path, new_parent: impl Fn(&Path)) -> Result<(), Error> {
        for _ in 0..3 {
            match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
                Ok(()) => {
                    self.0.push(path.to_owned());
                    return Ok(());
                }
                Err(Errno::NOENT) => self.make_parents(mount, path, &new_parent)?,
                // Left by a crash: it may be replaced when nothing lives in it.
                Err(Errno::EXIST) => match files::remove_tree(path, Duration::ZERO) {
                    Ok(()) => {}
                    Err(_) => return Err(Error::InUse { path: path.to_owned() }),
                },
                Err(e) => return Err(Error::io("make cgroup", path, e)),
            }
        }
        Err(Error::InUse { path: path.to_owned() })
    }

    fn make_parents(&mut self, mount: &Path, path: &Path, new_parent: &impl Fn(&Path)) -> Result<(), Error> {
        for parent in ancestors_below(mount, path) {
            match rustix::fs::mkdir(&parent, Mode::from_raw_mode(0o755)) {
                Ok(()) => {
                    new_parent(&parent);
                    self.0.push(parent);
                }
                Err(Errno::EXIST) => {}
                Err(e) => return Err(Error::io("make cgroup", parent, e)),
            }
        }
        Ok(())
    }
}

/// The directories between `mount` and `path`, topmost first, neither of the two included.
fn ancestors_below(mount: &Path, path: &Path) -> Vec<PathBuf> {
    let above = path
        .ancestors()
        .skip(1)
        .take_while(|a| *a != mount && a.starts_with(mount));
    let mut list: Vec<_> = above.map(Path::to_owned).collect();
    list.reverse();
    list
}

fn create_legacy(plan: &LegacyPlan, path: &str, made: &mut Made) -> Result<String, Error> {
    let mount = Path::new(&plan.mount);
    let leaf = mount.join(path);
    let seed = plan.seed.as_ref();
    made.make(mount, &leaf, |parent| {
        if let Some(seed) = seed {
            sow(parent, seed);
        }
    })?;
    if let Some(seed) = seed {
        match fill(&leaf, seed, &plan.writes) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
                // Another container's start made a parent a moment ago, and has not filled all of it yet.
                for ancestor in ancestors_below(mount, &leaf) {
                    sow(&ancestor, seed);
                }
                fill(&leaf, seed, &plan.writes)?;
            }
            filled => filled?,
        }
    }
    if !plan.writes.is_empty() {
        let directory = open_directory(&leaf).map_err(|e| Error::io("open cgroup", &leaf, e))?;
        apply(directory.as_fd(), &leaf, &plan.writes)?;
    }
    Ok(leaf.to_string_lossy().into_owned())
}

/// Gives a container's cpuset what it is not asked to have otherwise. The kernel refuses what its parent does not have.
fn fill(leaf: &Path, seed: &Seed, asked: &[Write]) -> Result<(), Error> {
    // Before the user's own choice, which may leave one of the two unset.
    for (file, value) in [("cpuset.cpus", &seed.cpus), ("cpuset.mems", &seed.mems)] {
        let file = leaf.join(file);
        if !asked.iter().any(|write| file.ends_with(&*write.file)) {
            files::write(&file, value).map_err(|e| Error::io("fill in", file, e))?;
        }
    }
    Ok(())
}

/// Gives a new directory of the cpuset hierarchy what its children need. They inherit it by themselves then, which is much
/// cheaper than writing.
fn sow(directory: &Path, seed: &Seed) {
    let values = [
        ("cpuset.cpus", &*seed.cpus),
        ("cpuset.mems", &*seed.mems),
        ("cgroup.clone_children", "1"),
    ];
    for (file, value) in values {
        // Joining the leaf fails with a clear error when this did.
        let _ = files::write(&directory.join(file), value);
    }
}

fn create_unified(plan: &UnifiedPlan, path: &str, made: &mut Made) -> Result<(String, OwnedFd), Error> {
    let mount = Path::new(&plan.mount);
    let leaf = mount.join(path);
    if !plan.enable.is_empty() {
        made.make_parents(mount, &leaf, &|_: &Path| {})?;
        enable_controllers(plan, mount)?;
        for ancestor in ancestors_below(mount, &leaf) {
            enable_controllers(plan, &ancestor)?;
        }
    }
    made.make(mount, &leaf, |_| {})?;
    if !plan.enable.is_empty() {
        check_domain(&leaf)?;
    }
    let directory = open_directory(&leaf).map_err(|e| Error::io("open cgroup", &leaf, e))?;
    apply(directory.as_fd(), &leaf, &plan.writes)?;
    if let Some(program) = &plan.devices {
        attach_devices(directory.as_fd(), program)?;
    }
    Ok((leaf.to_string_lossy().into_owned(), directory))
}

/// A parent that passes all controllers on is in order, so this is only asked where one did not.
fn check_domain(path: &Path) -> Result<(), Error> {
    let file = path.join("cgroup.type");
    let kind = files::read(&file).map_err(|e| Error::io("read", file, e))?;
    match kind.trim() {
        "domain" => Ok(()),
        kind => Err(Error::NotADomain {
            path: path.to_owned(),
            kind: kind.to_owned(),
        }),
    }
}

fn attach_devices(directory: BorrowedFd, program: &[u64]) -> Result<(), Error> {
    let error = |action| move |source| Error::DeviceFilter { action, source };
    let program = corten_linux::bpf::load_device_program(program).map_err(error("load"))?;
    corten_linux::bpf::attach_device_program(directory, program.as_fd()).map_err(error("attach"))
}

/// Switches controllers on for the children of `ancestor`.
fn enable_controllers(plan: &UnifiedPlan, ancestor: &Path) -> Result<(), Error> {
    let path = ancestor.join("cgroup.subtree_control");
    let all: String = plan.enable.iter().map(|name| format!("+{name} ")).collect();
    let Err(source) = files::write(&path, all.trim_end()) else {
        return Ok(());
    };
    if let Some(Errno::BUSY | Errno::OPNOTSUPP) = Errno::from_io_error(&source) {
        // Some controllers could still be had, one by one. That would turn a cgroup that holds processes of somebody
        // else into a threaded one, whose children hold no container: better nothing, where nothing is asked for.
        return match plan.needed.is_empty() {
            true => Ok(()),
            false => {
                let (controllers, hint) = (plan.needed.join(", "), enable_hint(&source));
                Err(Error::Enable {
                    controllers,
                    path,
                    hint,
                    source,
                })
            }
        };
    }
    // One that cannot be had (a real-time process, a parent that withholds it) must not cost the others.
    for name in &plan.enable {
        let result = files::write(&path, &format!("+{name}"));
        if let Err(source) = result
            && plan.needed.contains(name)
        {
            return Err(Error::Enable {
                controllers: name.clone(),
                path,
                hint: enable_hint(&source),
                source,
            });
        }
    }
    Ok(())
}

fn enable_hint(error: &std::io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::BUSY) => " (processes live in it: v2 limits only the children of a cgroup without processes)",
        Some(Errno::OPNOTSUPP) => " (it is threaded: v2 limits only threads there)",
        Some(Errno::NOENT) => " (the cgroup above it does not pass the controller on)",
        _ => "",
    }
}

/// A container's control group, in every hierarchy that it has one in.
#[derive(Debug)]
pub struct Cgroup {
    record: CgroupRecord,
    /// Only where [`create`] made it.
    unified: Option<OwnedFd>,
}

impl Cgroup {
    /// Where it is, for [`Cgroup::open`] in another process.
    pub fn record(&self) -> CgroupRecord {
        self.record.clone()
    }

    /// A handle to what [`create`] made earlier. It is no error when the directories are gone meanwhile.
    pub fn open(record: &CgroupRecord) -> Result<Cgroup, Error> {
        Ok(Cgroup {
            record: record.clone(),
            unified: None,
        })
    }

    /// Moves a process into every hierarchy.
    ///
    /// 0 is the caller, which must be single-threaded. That way is the fast one on v1: moving another process takes
    /// a lock that can wait for an RCU grace period in every hierarchy (10 ms and more were seen, against 0.3 ms).
    pub fn enter(&self, pid: i32) -> Result<(), Error> {
        self.enter_legacy(pid)?;
        match &self.record.unified {
            Some(path) => join(&Path::new(path).join("cgroup.procs"), pid),
            None => Ok(()),
        }
    }

    /// The same without v2: for a process that `CLONE_INTO_CGROUP` has put there already.
    pub fn enter_legacy(&self, pid: i32) -> Result<(), Error> {
        let file = if pid == 0 { "tasks" } else { "cgroup.procs" };
        self.record
            .legacy
            .iter()
            .try_for_each(|(_, path)| join(&Path::new(path).join(file), pid))
    }

    /// For `CLONE_INTO_CGROUP`; `None` on a v1 host, and for a handle that was only opened.
    pub fn unified_fd(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(|fd| fd.as_fd())
    }

    /// Where in it a process lives, on v2: the container may have made cgroups of its own, and then no process may live
    /// above those. For `CLONE_INTO_CGROUP`.
    pub fn directory_of_process(&self, pid: i32) -> Result<OwnedFd, Error> {
        let file = PathBuf::from(format!("/proc/{pid}/cgroup"));
        let text = files::read(&file).map_err(|e| Error::io("read", &file, e))?;
        let inside = text
            .lines()
            .find_map(|line| line.strip_prefix("0::/"))
            .unwrap_or_default();
        let own = Path::new(self.record.unified.as_deref().unwrap_or_default());
        let path =
            beneath(own, Path::new(inside)).ok_or_else(|| Error::io("find the process in", own, Errno::NOENT))?;
        open_directory(&path).map_err(|e| Error::io("open cgroup", path, e))
    }

    /// SIGKILL to every process in it, also while frozen, and to those forked meanwhile. They are dying when this
    /// returns; [`Cgroup::delete`] waits for their end.
    pub fn kill_all(&self) -> Result<(), Error> {
        let pids = self.pids()?;
        if pids.is_empty() {
            return Ok(());
        }
        if let Some(path) = &self.record.unified {
            let path = Path::new(path).join("cgroup.kill");
            // Linux 5.14. It takes the whole tree at once, frozen or not.
            if files::if_there(files::write(&path, "1"))
                .map_err(|e| Error::io("write", path, e))?
                .is_some()
            {
                return Ok(());
            }
        }
        self.kill_one_by_one(pids)
    }

    /// Frozen processes cannot fork, and their numbers cannot be reused: kill, then thaw, until nobody is left.
    fn kill_one_by_one(&self, mut pids: Vec<i32>) -> Result<(), Error> {
        let started = Instant::now();
        while !pids.is_empty() {
            // Not fatal: a process in uninterruptible sleep cannot be frozen, and dies when it wakes up.
            let frozen = self.set_frozen(true, Duration::from_millis(100));
            let list = if frozen.is_ok() { self.pids() } else { Ok(pids) };
            for pid in list
                .as_ref()
                .into_iter()
                .flatten()
                .filter_map(|pid| Pid::from_raw(*pid))
            {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
            self.thaw()?;
            list?;
            std::thread::sleep(Duration::from_millis(1));
            pids = self.pids()?;
            if !pids.is_empty() && started.elapsed() > PATIENCE {
                return Err(Error::Timeout {
                    path: self.main_path().to_owned(),
                    what: "die",
                });
            }
        }
        Ok(())
    }

    /// Stops every process until [`Cgroup::thaw`]; returns when all of them stand still.
    pub fn freeze(&self) -> Result<(), Error> {
        let result = self.set_frozen(true, PATIENCE);
        if result.is_err() {
            let _ = self.thaw();
        }
        result
    }

    pub fn thaw(&self) -> Result<(), Error> {
        match self.set_frozen(false, PATIENCE) {
            // What was thawed to die may be gone, with its cgroup, before it is seen to be thawed.
            Err(error) if error.is_gone() => Ok(()),
            thawed => thawed,
        }
    }

    /// Has somebody asked for its processes to be frozen? They may not be yet; and what is above it does not count.
    pub fn is_frozen(&self) -> Result<bool, Error> {
        let file = match (self.legacy("freezer"), &self.record.unified) {
            (Some(path), _) => path.join("freezer.self_freezing"),
            (None, Some(path)) => Path::new(path).join("cgroup.freeze"),
            (None, None) => return Ok(false),
        };
        let text = files::if_there(files::read(&file)).map_err(|e| Error::io("read", file, e))?;
        Ok(text.is_some_and(|text| text.trim() == "1"))
    }

    fn set_frozen(&self, frozen: bool, patience: Duration) -> Result<(), Error> {
        if let Some(path) = self.legacy("freezer") {
            return freeze_legacy(path, frozen, patience);
        }
        match &self.record.unified {
            Some(path) => freeze_unified(Path::new(path), frozen, patience),
            None => Err(Error::Unsupported {
                limit: "state of the processes".to_owned(),
                reason: "this host has no freezer cgroup controller".to_owned(),
            }),
        }
    }

    /// Every process in it and in the cgroups that the container made beneath it, in the reader's PID namespace.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        let path = self.main_path();
        let mut pids = Vec::new();
        for directory in files::tree(path).map_err(|e| Error::io("list", path, e))? {
            let file = directory.join("cgroup.procs");
            let text = files::if_there(files::read(&file)).map_err(|e| Error::io("read", file, e))?;
            pids.extend(
                text.unwrap_or_default()
                    .lines()
                    .filter_map(|line| line.parse::<i32>().ok()),
            );
        }
        Ok(pids)
    }

    /// Where its memory is counted, and whether that is v1.
    pub(super) fn memory_directory(&self) -> Option<(&Path, bool)> {
        let legacy = self.legacy("memory").map(|path| (path, true));
        legacy.or_else(|| self.record.unified.as_deref().map(|path| (Path::new(path), false)))
    }

    /// How many processes the kernel has killed in it for want of memory; 0 where nobody counts.
    pub fn oom_kills(&self) -> Result<u64, Error> {
        let path = match self.memory_directory() {
            Some((path, true)) => path.join("memory.oom_control"),
            Some((path, false)) => path.join("memory.events"),
            None => return Ok(0),
        };
        let text = files::if_there(files::read(&path)).map_err(|e| Error::io("read", path, e))?;
        let text = text.unwrap_or_default();
        Ok(files::pairs(&text)
            .find(|(name, _)| *name == "oom_kill")
            .map_or(0, |(_, count)| count))
    }

    pub fn stats(&self) -> Result<Stats, Error> {
        stats::read(&self.record)
    }

    /// Its processor time alone; `None` when it is gone.
    pub fn processor_time(&self) -> Result<Option<CpuStats>, Error> {
        stats::read_cpu(&self.record)
    }

    /// Everything but processor time.
    pub fn other_stats(&self) -> Result<Stats, Error> {
        stats::read_others(&self.record)
    }

    /// Makes the limits those of `after`, where `before` says otherwise. When one cannot be had, none is changed.
    pub fn update(&self, before: &LinuxResources, after: &LinuxResources) -> Result<(), Error> {
        update::update(&self.record, before, after)
    }

    /// Removes it and what was made beneath it; waits for processes that are just dying.
    pub fn delete(&self) -> Result<(), Error> {
        let legacy = self.record.legacy.iter().map(|(_, path)| path);
        let mut result = Ok(());
        for path in legacy.chain(&self.record.unified) {
            // The rest goes even when one stays.
            result = result.and(files::remove_tree(Path::new(path), PATIENCE));
        }
        result
    }

    fn legacy(&self, controller: &str) -> Option<&Path> {
        legacy_path(&self.record, controller)
    }

    /// The directory whose processes are "all processes": the freezer's on v1, because killing needs both.
    fn main_path(&self) -> &Path {
        let any = || {
            self.record
                .legacy
                .first()
                .map_or(Path::new(""), |(_, path)| Path::new(path))
        };
        let unified = || self.record.unified.as_deref().map(Path::new);
        self.legacy("freezer").or_else(unified).unwrap_or_else(any)
    }
}

/// The directory of `inside` (a path from the hierarchy's root) where that lies in `own` (a path of the host).
fn beneath(own: &Path, inside: &Path) -> Option<PathBuf> {
    let mut named = inside.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty());
    let common = named.find(|ancestor| own.ends_with(ancestor))?;
    inside.strip_prefix(common).ok().map(|rest| own.join(rest))
}

/// The container's directory in the v1 hierarchy that has `controller`.
pub(super) fn legacy_path<'r>(record: &'r CgroupRecord, controller: &str) -> Option<&'r Path> {
    let has = |(names, _): &&(String, String)| names.split(',').any(|name| name == controller);
    record.legacy.iter().find(has).map(|(_, path)| Path::new(path))
}

fn join(file: &Path, pid: i32) -> Result<(), Error> {
    files::write(file, &pid.to_string()).map_err(|e| Error::io("join cgroup by", file, e))
}

fn freeze_legacy(path: &Path, frozen: bool, patience: Duration) -> Result<(), Error> {
    let file = path.join("freezer.state");
    let wanted = if frozen { "FROZEN" } else { "THAWED" };
    let started = Instant::now();
    let mut pause = Duration::from_micros(50);
    loop {
        // Written again each time: processes forked while it was FREEZING are only caught so.
        match files::if_there(files::write(&file, wanted)) {
            Ok(Some(())) => {}
            Ok(None) if !frozen => return Ok(()),
            Ok(None) => return Err(Error::io("freeze", file, Errno::NOENT)),
            Err(e) => return Err(Error::io("write", file, e)),
        }
        let state = files::read(&file).map_err(|e| Error::io("read", &file, e))?;
        if state.trim() == wanted {
            return Ok(());
        }
        if started.elapsed() > patience {
            return Err(Error::Timeout {
                path: path.to_owned(),
                what: if frozen { "freeze" } else { "thaw" },
            });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

fn freeze_unified(path: &Path, frozen: bool, patience: Duration) -> Result<(), Error> {
    let file = path.join("cgroup.freeze");
    let number = if frozen { "1" } else { "0" };
    match files::if_there(files::write(&file, number)) {
        Ok(Some(())) => {}
        Ok(None) if !frozen => return Ok(()),
        Ok(None) => return Err(Error::io("freeze", file, Errno::NOENT)),
        Err(e) => return Err(Error::io("write", file, e)),
    }
    let events = path.join("cgroup.events");
    let handle = rustix::fs::open(&events, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::io("open", &events, e))?;
    let started = Instant::now();
    loop {
        // Reading first arms the poll: the kernel reports changes since the last read.
        let mut buffer = [0u8; 256];
        let n = rustix::io::pread(&handle, &mut buffer, 0).map_err(|e| Error::io("read", &events, e))?;
        let text = String::from_utf8_lossy(&buffer[..n]);
        let state = files::pairs(&text)
            .find(|(name, _)| *name == "frozen")
            .map(|(_, state)| state == 1);
        if state == Some(frozen) {
            return Ok(());
        }
        let Some(left) = patience.checked_sub(started.elapsed()) else {
            return Err(Error::Timeout {
                path: path.to_owned(),
                what: if frozen { "freeze" } else { "thaw" },
            });
        };
        let timeout = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut watched = [PollFd::new(&handle, PollFlags::PRI)];
        let _ = rustix::event::poll(&mut watched, Some(&timeout));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_in_the_containers_cgroup_and_nowhere_else() {
        let own = Path::new("/sys/fs/cgroup/docker/0123");
        let found = |inside: &str| beneath(own, Path::new(inside)).map(|path| path.display().to_string());
        assert_eq!(found("docker/0123").as_deref(), Some("/sys/fs/cgroup/docker/0123/"));
        assert_eq!(
            found("docker/0123/init.scope").as_deref(),
            Some("/sys/fs/cgroup/docker/0123/init.scope")
        );
        assert_eq!(found("docker/4567"), None);
        assert_eq!(found(""), None);
    }
}

//! The one door to control groups: plan in the daemon, create and enter in the shim, observe from both.
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::stats::Stats;
use crate::shim::protocol::CgroupRecord;

/// Everything that [`create`] will do, as flat data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupPlan {}

/// Compiles `resources` for the cgroup `path` (`/docker/<id>`, beneath each hierarchy's mount point).
pub fn plan(_path: &str, _resources: &LinuxResources) -> Result<CgroupPlan, Error> {
    Err(Error::NotImplemented("cgroups"))
}

/// Makes the directories and applies the limits; leaves nothing behind when it fails.
pub fn create(_plan: &CgroupPlan) -> Result<Cgroup, Error> {
    Err(Error::NotImplemented("cgroups"))
}

/// A container's control group, in every hierarchy that it has one in.
#[derive(Debug)]
pub struct Cgroup {
    record: CgroupRecord,
    unified: Option<OwnedFd>,
}

impl Cgroup {
    /// Where it is, for [`Cgroup::open`] in another process.
    pub fn record(&self) -> CgroupRecord {
        self.record.clone()
    }

    /// Opens what [`create`] made earlier. It is no error when the directories are gone meanwhile.
    pub fn open(record: &CgroupRecord) -> Result<Cgroup, Error> {
        Ok(Cgroup {
            record: record.clone(),
            unified: None,
        })
    }

    /// Moves a process (0: the caller) into every hierarchy but the one that `CLONE_INTO_CGROUP` handles
    /// when `unified_fd` was used for it; doing it twice is harmless.
    pub fn enter(&self, _pid: i32) -> Result<(), Error> {
        Err(Error::NotImplemented("cgroups"))
    }

    /// For `CLONE_INTO_CGROUP`; `None` on a pure v1 host.
    pub fn unified_fd(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(|fd| fd.as_fd())
    }

    /// SIGKILL to every process in it, also while frozen, and to those forked meanwhile.
    pub fn kill_all(&self) -> Result<(), Error> {
        Err(Error::NotImplemented("cgroups"))
    }

    /// Stops every process until [`Cgroup::thaw`]; returns when all of them stand still.
    pub fn freeze(&self) -> Result<(), Error> {
        Err(Error::NotImplemented("cgroups"))
    }

    pub fn thaw(&self) -> Result<(), Error> {
        Err(Error::NotImplemented("cgroups"))
    }

    /// Every process in it and in the cgroups that the container made beneath it, in the reader's PID namespace.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        Err(Error::NotImplemented("cgroups"))
    }

    /// How many processes the kernel has killed in it for want of memory.
    pub fn oom_kills(&self) -> Result<u64, Error> {
        Err(Error::NotImplemented("cgroups"))
    }

    pub fn stats(&self) -> Result<Stats, Error> {
        Err(Error::NotImplemented("cgroups"))
    }

    /// Changes the limits that are set in `resources`; the others stay.
    pub fn update(&self, _resources: &LinuxResources) -> Result<(), Error> {
        Err(Error::NotImplemented("cgroups"))
    }

    /// Removes it and what was made beneath it; waits a little for processes that are just dying.
    pub fn delete(&self) -> Result<(), Error> {
        Err(Error::NotImplemented("cgroups"))
    }
}

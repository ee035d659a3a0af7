//! What the shim does for a container in a user namespace: everything that its own process may not do any more.
//!
//! Before the clone: it opens what is bound, maps the layers, and fills /dev, for no device can be made in a user
//! namespace. After it: limits, the cgroups of v1, and last the maps, which make the process somebody.
use std::{
    fs::{self, File},
    io::{self, Seek},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use corten_linux::{namespace, user_namespace};
use rustix::{
    fs::{Gid, Mode, OFlags, Uid, fchown, open},
    process::Pid,
};

use crate::{
    cgroup::manager::Cgroup,
    error::Context,
    process::{confine, init, plan::ChildPlan},
    rootfs::{mounts, owners::IdMaps},
    shim::protocol::Failure,
};

/// A container's process to be.
pub(crate) struct Stranger {
    pub maps: IdMaps,
    plan: ChildPlan,
    /// Detached mounts, in the order that [`mounts::Sources::received`] expects.
    pub sources: Vec<OwnedFd>,
}

impl Stranger {
    /// `handed` came with the plan.
    pub fn prepare(maps: &IdMaps, file: BorrowedFd, offset: u64, handed: Vec<OwnedFd>) -> Result<Stranger, Failure> {
        let mut file = File::from(file.try_clone_to_owned().context(|| "cannot read the plan")?);
        file.seek(io::SeekFrom::Start(offset))
            .context(|| "cannot read the plan")?;
        let plan = init::read_plan(file).context(|| "cannot read the plan")?;
        // What the container joins is another's: its own namespace has no say there.
        for (kind, path) in &plan.join {
            let say = || format!("cannot join the namespace {}", path.display());
            let fd = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(say)?;
            namespace::enter(fd.as_fd(), *kind).context(say)?;
        }
        let sources = mounts::open_for_stranger(&plan, handed, maps)?;
        Ok(Stranger {
            maps: maps.clone(),
            plan,
            sources,
        })
    }

    /// Its streams belong to it, so that /dev/stdout can be opened.
    pub fn own(&self, streams: &[Option<OwnedFd>]) -> Result<(), Failure> {
        let (user, group) = self.maps.host_user(0).zip(self.maps.host_group(0)).unwrap_or_default();
        for stream in streams.iter().flatten() {
            fchown(stream, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))
                .context(|| "cannot give the container its streams")?;
        }
        Ok(())
    }

    /// The process waits for the shim's word on its cgroup: that must come after this.
    pub fn introduce(&self, process: Pid, cgroup: &Cgroup) -> Result<(), Failure> {
        let pid = process.as_raw_nonzero().get();
        if let Some(adjustment) = self.plan.oom_score_adj {
            match fs::write(format!("/proc/{pid}/oom_score_adj"), adjustment.to_string()) {
                // Lowering it takes CAP_SYS_RESOURCE, which a host may withhold from us.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                result => result.context(|| format!("cannot set oom_score_adj to {adjustment}"))?,
            }
        }
        confine::set_limits(Some(process), &self.plan.rlimits)?;
        cgroup
            .enter_legacy(pid)
            .map_err(|error| Failure::system("cannot enter the cgroup", &error))?;
        let (users, groups) = self.maps.ranges();
        user_namespace::write_maps(process, &users, &groups)
            .context(|| "cannot say who the users of the container's user namespace are")
    }
}

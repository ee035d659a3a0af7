//! What the shim does for a container in a user namespace: everything that its own process may not do any more.
//!
//! Before the clone: it opens what is bound, maps the layers, and fills /dev, for no device can be made in a user
//! namespace. After it: limits, the cgroups, and last the maps, which make the process somebody.
use std::{
    fs::{self, File},
    io::{self, Seek},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::chown,
    },
    path::Path,
};

use corten_linux::{namespace, user_namespace};
use rustix::{
    fs::{Gid, Mode, OFlags, Uid, fchown, open},
    process::Pid,
};

use crate::{
    cgroup::manager::Cgroup,
    error::Context,
    process::{
        confine, init,
        plan::{ChildPlan, MountPlan, MountSource},
    },
    rootfs::{mounts, owners::IdMaps},
    shim::protocol::Failure,
};

/// Streams of a process belong to the root of its user namespace, so that it can open /dev/stdout.
pub(crate) fn give_streams(streams: &[Option<OwnedFd>], maps: &IdMaps) -> Result<(), Failure> {
    let (user, group) = maps.root();
    for stream in streams.iter().flatten() {
        fchown(stream, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))
            .context(|| "cannot give the container its streams")?;
    }
    Ok(())
}

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
        self.delegate(cgroup)
            .context(|| "cannot give the container its cgroup")?;
        let (users, groups) = self.maps.ranges();
        user_namespace::write_maps(process, &users, &groups)
            .context(|| "cannot say who the users of the container's user namespace are")
    }

    /// A cgroup of v2 that the container may write to belongs to its root, as far as the kernel lets one be given away.
    fn delegate(&self, cgroup: &Cgroup) -> io::Result<()> {
        let may_write = |mount: &MountPlan| {
            let own = matches!(&mount.what, MountSource::Cgroups(view) if view.own_namespace);
            own && !mount.options.is_read_only()
        };
        let Some(directory) = cgroup.record().unified else {
            return Ok(());
        };
        if !self.plan.mounts.iter().any(may_write) {
            return Ok(());
        }
        let (user, group) = self.maps.root();
        chown(&directory, Some(user), Some(group))?;
        let files = fs::read_to_string("/sys/kernel/cgroup/delegate")?;
        for file in files.lines() {
            // Of controllers that the cgroup does not have.
            match chown(Path::new(&directory).join(file), Some(user), Some(group)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
        Ok(())
    }
}

//! What a child gets from its shim before its program may run: a cgroup, and maps of owners.
use std::os::fd::{AsFd, BorrowedFd};

use corten_linux::namespace;

use crate::{
    cgroup::manager::Cgroup,
    error::Context,
    process::{
        channel::{self, FromChild},
        identity,
        plan::{ChildPlan, MountPlan},
    },
    rootfs::owners::{MapRequest, Owners, Wanted},
    shim::protocol::{CgroupRecord, Failure, FailureKind},
};

pub(crate) struct Gate<'a> {
    channel: BorrowedFd<'a>,
    new_cgroup_namespace: bool,
    /// The shim has put us there.
    entered: bool,
    record: Option<CgroupRecord>,
}

impl<'a> Gate<'a> {
    pub fn new(channel: BorrowedFd<'a>, plan: &ChildPlan) -> Gate<'a> {
        Gate {
            channel,
            new_cgroup_namespace: plan.new_cgroup_namespace,
            entered: plan.user_namespace,
            record: None,
        }
    }

    /// The way into the container's cgroup, taken when it is needed and at the latest before anything of the container
    /// can run.
    pub fn enter_cgroup(&mut self) -> Result<&CgroupRecord, Failure> {
        const CLONE_NEWCGROUP: u64 = 0x0200_0000;
        if self.record.is_none() {
            let say = || "cannot hear from the shim";
            let Some(record) = channel::wait_for_cgroup(self.channel).context(say)? else {
                return Err(Failure::new(FailureKind::System, say()));
            };
            if !self.entered {
                Cgroup::open(&record)
                    .and_then(|cgroup| cgroup.enter_legacy(0))
                    .map_err(|error| Failure::system("cannot enter the cgroup", &error))?;
            }
            if self.new_cgroup_namespace {
                // Only now: its root is where its maker is.
                namespace::unshare(CLONE_NEWCGROUP).context(|| "cannot make a cgroup namespace")?;
            }
            self.record = Some(record);
        }
        Ok(self.record.as_ref().expect("it was just put there"))
    }

    /// Has the shim show other owners of a mount that is not attached yet. Names are looked up in the root so far.
    pub fn map_owners(
        &mut self,
        plan: &ChildPlan,
        mount: &MountPlan,
        owners: &Owners,
        tree: BorrowedFd,
        root: BorrowedFd,
    ) -> Result<(), Failure> {
        // The shim's words come in order, and the cgroup is the first of them.
        self.enter_cgroup()?;
        let owners = match owners {
            Owners::Maps(maps) => Wanted::Maps(maps.clone()),
            Owners::MatchUser(user) => {
                let identity = identity::look_up(root, user.as_deref().unwrap_or(&plan.user), &[])?;
                Wanted::Match {
                    user: identity.uid,
                    group: identity.gid,
                }
            }
        };
        let request = MapRequest {
            owners,
            recursive: mount.recursive(),
        };
        let say = || format!("cannot map the owners of the files at {}", mount.target.display());
        channel::tell(self.channel, &FromChild::Map(request), &[tree.as_fd()]).context(say)?;
        match channel::hear_mapped(self.channel).context(say)? {
            None => Ok(()),
            Some(why) => Err(Failure::invalid(format!("{}: {why}", say()))),
        }
    }
}

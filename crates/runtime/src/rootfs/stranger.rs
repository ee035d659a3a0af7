//! The root file system of a container in a user namespace: layers mounted with other owners, stacked by the shim.
//!
//! On the disk files belong to the container's users as the container knows them; nothing is changed there, and layers
//! are shared with containers of every kind.
use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use corten_linux::{
    mount::{self, Attributes, Propagation},
    namespace, user_namespace,
};
use rustix::{
    fs::{Mode, OFlags, open},
    thread::{CapabilitySets, capabilities, set_capabilities},
};

use crate::{
    error::Context,
    process::plan::RootfsPlan,
    rootfs::{mounts, overlay, owners::IdMaps},
    shim::protocol::Failure,
};

const CLONE_NEWNS: u64 = 0x0002_0000;

/// Detached. In the shim.
pub(crate) fn root(plan: &RootfsPlan, stage: &Path, maps: &IdMaps) -> Result<OwnedFd, Failure> {
    let (users, groups) = maps.ranges();
    // SAFETY: the shim has one thread.
    let namespace = unsafe { user_namespace::make(&users, &groups) }.context(|| "cannot make a user namespace")?;
    let mapped = |path: &Path, recursive| -> Result<OwnedFd, Failure> {
        let say = || {
            format!(
                "cannot mount {} with the owners of a user namespace (Linux 5.19, and a file system that can)",
                path.display()
            )
        };
        let tree = mounts::open_host_tree(path, recursive).context(say)?;
        mount::set_id_map(tree.as_fd(), namespace.as_fd(), recursive).context(say)?;
        let private = Attributes {
            propagation: Some(Propagation::Private),
            ..Attributes::default()
        };
        mount::set_attributes(tree.as_fd(), private, recursive).context(say)?;
        Ok(tree)
    };
    match plan {
        RootfsPlan::Directory(path) => mapped(path, true),
        RootfsPlan::Overlay {
            lowers,
            upper,
            work,
            volatile,
        } => {
            let lowers = lowers
                .iter()
                .map(|lower| mapped(lower, false))
                .collect::<Result<Vec<_>, _>>()?;
            // Both in one mount, as overlayfs wants them.
            let parent = upper.parent().unwrap_or(Path::new("/"));
            let writable = mapped(parent, false)?;
            let beneath = |path: &Path| path_of(&writable).join(path.file_name().unwrap_or_default());
            let stack = Stack {
                lowers: lowers.iter().map(path_of).collect(),
                upper: beneath(upper),
                work: beneath(work),
                volatile: *volatile,
            };
            // Linux 6.15 stacks what is mounted nowhere; before, it has to be somewhere.
            if overlay::takes_layers_one_by_one(&stack.lowers)
                && let Ok(root) = stack.make(stage, maps)
            {
                return Ok(root);
            }
            elsewhere(|| {
                let say = || "cannot attach the layers";
                let place = open(stage, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
                let place = place.context(say)?;
                for tree in lowers.iter().chain([&writable]) {
                    mount::attach(tree.as_fd(), place.as_fd()).context(say)?;
                }
                stack.make(stage, maps)
            })
        }
    }
}

fn path_of(tree: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", tree.as_raw_fd()))
}

struct Stack {
    lowers: Vec<PathBuf>,
    upper: PathBuf,
    work: PathBuf,
    volatile: bool,
}

impl Stack {
    /// Overlayfs works on its directories as whoever mounted it: that has to be somebody whom the mapped mounts know, with
    /// all capabilities over files.
    fn make(&self, stage: &Path, maps: &IdMaps) -> Result<OwnedFd, Failure> {
        let say = || "cannot be the container's root for the file system";
        let (user, group) = maps.root();
        become_for_files(user, group).context(say)?;
        let made = self.make_as_somebody(stage);
        become_for_files(0, 0).context(say)?;
        made
    }

    fn make_as_somebody(&self, stage: &Path) -> Result<OwnedFd, Failure> {
        if overlay::takes_layers_one_by_one(&self.lowers) {
            return mounts::overlay(&self.lowers, &self.upper, &self.work, self.volatile);
        }
        overlay::mount_at(stage, &self.lowers, &self.upper, &self.work, self.volatile)
            .context(|| "cannot mount the overlay root file system")
    }
}

/// From now on this thread makes files as this user, and may do with files what root may. Mounts that show other owners, and
/// file systems of user namespaces, take no files of a user whom they do not know: the host's root is none of theirs.
pub fn become_for_files(user: u32, group: u32) -> std::io::Result<()> {
    user_namespace::set_file_system_ids(user, group)?;
    let held = capabilities(None)?;
    let all = CapabilitySets {
        effective: held.permitted,
        ..held
    };
    Ok(set_capabilities(None, all)?)
}

/// Does something in a mount namespace of its own, which the host does not see, and comes back.
fn elsewhere<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let say = || "cannot make a mount namespace";
    let home = open("/proc/self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(say)?;
    namespace::unshare(CLONE_NEWNS).context(say)?;
    let done = mounts::cut_off().and_then(|()| work());
    namespace::enter(home.as_fd(), CLONE_NEWNS).context(|| "cannot return to the host's mount namespace")?;
    done
}

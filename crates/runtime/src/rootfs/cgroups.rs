//! /sys/fs/cgroup as the container sees it: its own part of every hierarchy that the host has.
//!
//! With a cgroup namespace each hierarchy is mounted anew, rooted at the container's cgroup; without one, the
//! container's directories are bound.
use std::{fs, os::fd::AsFd, path::Path};

use corten_linux::{
    fd::{self, Make},
    mount,
};
use rustix::{
    fs::{OFlags, symlinkat},
    mount::{MountAttrFlags, fsconfig_set_flag, fsconfig_set_string},
};
use serde::{Deserialize, Serialize};

use crate::{
    cgroup::plan::CgroupPlan,
    error::Context,
    rootfs::options::Options,
    shim::protocol::{CgroupRecord, Failure},
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct View {
    /// Is there a cgroup namespace?
    pub own_namespace: bool,
    /// v1 hierarchies by their controllers (`cpu,cpuacct`) or name (`name=systemd`); empty on a pure v2 host.
    pub legacy: Vec<String>,
}

impl View {
    pub fn of(plan: &CgroupPlan, own_namespace: bool) -> View {
        let legacy = plan
            .legacy
            .iter()
            .map(|hierarchy| hierarchy.controllers.clone())
            .collect();
        View { own_namespace, legacy }
    }
}

/// Puts the view onto `target` in `root`.
pub(crate) fn attach(
    view: &View,
    options: &Options,
    record: &CgroupRecord,
    root: std::os::fd::BorrowedFd,
    target: &Path,
) -> Result<(), Failure> {
    let flags = MountAttrFlags::from_bits_retain((options.set & !1) as u32);
    let say = || format!("cannot mount the cgroup file system at {}", target.display());
    let place = fd::ensure(root, target, Make::Directory).context(say)?;
    if view.legacy.is_empty() {
        let mounted = match (&record.unified, view.own_namespace) {
            (Some(path), false) => bind(path).context(say)?,
            _ => mount::finish(mount::open_filesystem("cgroup2").context(say)?.as_fd(), flags).context(say)?,
        };
        mount::set_attributes(mounted.as_fd(), options.attributes(), true).context(say)?;
        return mount::attach(mounted.as_fd(), place.as_fd()).context(say);
    }
    let context = mount::open_filesystem("tmpfs").context(say)?;
    fsconfig_set_string(&context, "mode", "755").context(say)?;
    let tmpfs = mount::finish(context.as_fd(), flags).context(say)?;
    mount::attach(tmpfs.as_fd(), place.as_fd()).context(say)?;
    for names in &view.legacy {
        attach_legacy(names, view.own_namespace, record, options, flags, tmpfs.as_fd())
            .context(|| format!("{} ({names})", say()))?;
    }
    mount::set_attributes(tmpfs.as_fd(), options.attributes(), false).context(say)
}

fn bind(path: impl AsRef<Path>) -> std::io::Result<std::os::fd::OwnedFd> {
    let directory = fs::File::open(path)?;
    mount::clone_tree(directory.as_fd(), false)
}

fn attach_legacy(
    names: &str,
    own_namespace: bool,
    record: &CgroupRecord,
    options: &Options,
    flags: MountAttrFlags,
    directory: std::os::fd::BorrowedFd,
) -> std::io::Result<()> {
    let (folder, named) = match names.strip_prefix("name=") {
        Some(name) => (name, true),
        None => (names, false),
    };
    let mounted = if own_namespace {
        let context = mount::open_filesystem("cgroup")?;
        if named {
            fsconfig_set_flag(&context, "none")?;
            fsconfig_set_string(&context, "name", folder)?;
        } else {
            for controller in names.split(',') {
                fsconfig_set_flag(&context, controller)?;
            }
        }
        mount::finish(context.as_fd(), flags)?
    } else {
        let found = record
            .legacy
            .iter()
            .find(|(name, _)| names.split(',').any(|part| part == name) || name == names);
        let Some((_, path)) = found else { return Ok(()) };
        bind(path)?
    };
    mount::set_attributes(mounted.as_fd(), options.attributes(), true)?;
    let place = fd::ensure(directory, folder, Make::Directory)?;
    mount::attach(mounted.as_fd(), place.as_fd())?;
    if !named && names.contains(',') {
        let here = fd::open_without_links(directory, ".", OFlags::PATH | OFlags::DIRECTORY)?;
        for controller in names.split(',') {
            symlinkat(folder, &here, controller)?;
        }
    }
    Ok(())
}

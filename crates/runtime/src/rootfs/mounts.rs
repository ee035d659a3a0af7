//! The root file system and the mounts on it.
//!
//! Sources are opened first, while the host's mounts are still as the host has them; only then is the namespace cut off
//! and anything attached. Every target is resolved beneath the root's descriptor: a path of the image is never walked
//! by name.
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use corten_linux::{
    fd::{self, Make},
    mount::{self, Attributes, Propagation},
    namespace,
};
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, open},
    io::Errno,
    mount::{MountAttrFlags, OpenTreeFlags, fsconfig_set_flag, fsconfig_set_string, open_tree},
};

use crate::{
    error::Context,
    process::{
        init::CgroupGate,
        plan::{ChildPlan, MountPlan, MountSource, RootfsPlan},
    },
    rootfs::{cgroups, overlay},
    shim::protocol::Failure,
};

/// Detached mounts of what is bound, in the order of the plan; `None` for those that are made later.
pub(crate) struct Sources {
    root: OwnedFd,
    binds: Vec<Option<OwnedFd>>,
}

/// Opens everything that comes from the host.
pub(crate) fn open_sources(plan: &ChildPlan) -> Result<Sources, Failure> {
    let mut binds = Vec::with_capacity(plan.mounts.len());
    for mount in &plan.mounts {
        binds.push(match &mount.what {
            MountSource::Bind { path, recursive } => Some(open_bind(mount, path, *recursive)?),
            MountSource::Namespace(namespace) => Some(fetch(namespace, &mount.target)?),
            _ => None,
        });
    }
    // After the binds: before Linux 6.5 an overlay can only be mounted in a namespace that is cut off, and binds must
    // be cloned before that.
    let root = match &plan.rootfs {
        RootfsPlan::Directory(path) => {
            let say = || format!("cannot use {} as root file system", path.display());
            let tree = open_host_tree(path, true).context(say)?;
            let private = Attributes {
                propagation: Some(Propagation::Private),
                ..Attributes::default()
            };
            mount::set_attributes(tree.as_fd(), private, true).context(say)?;
            tree
        }
        RootfsPlan::Overlay {
            lowers,
            upper,
            work,
            volatile,
        } if overlay::takes_layers_one_by_one(lowers) => overlay(lowers, upper, work, *volatile)?,
        RootfsPlan::Overlay {
            lowers,
            upper,
            work,
            volatile,
        } => {
            cut_off()?;
            overlay::mount_at(&plan.stage, lowers, upper, work, *volatile)
                .context(|| "cannot mount the overlay root file system")?
        }
    };
    Ok(Sources { root, binds })
}

/// Everything mounted below `/`, as far as the caller sees it, stops being visible to and from the host's namespace:
/// what the host mounts still arrives, what we mount does not leave.
pub(crate) fn cut_off() -> Result<(), Failure> {
    let say = || "cannot make the mount namespace private";
    let root = open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).context(say)?;
    let slave = Attributes {
        propagation: Some(Propagation::Slave),
        ..Attributes::default()
    };
    mount::set_attributes(root.as_fd(), slave, true).context(say)
}

/// Puts the root file system and all mounts together; the result is the root's descriptor.
pub(crate) fn assemble(plan: &ChildPlan, sources: Sources, cgroup: &mut CgroupGate) -> Result<OwnedFd, Failure> {
    let say = || format!("cannot mount the root file system at {}", plan.stage.display());
    let stage = open(
        &plan.stage,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .context(say)?;
    mount::attach(sources.root.as_fd(), stage.as_fd()).context(say)?;
    let root = sources.root;
    for (mount, bind) in plan.mounts.iter().zip(sources.binds) {
        match (&mount.what, bind) {
            (MountSource::Cgroups(view), _) => {
                cgroups::attach(view, &mount.options, cgroup.enter()?, root.as_fd(), &mount.target)?;
            }
            (MountSource::Filesystem { kind, source }, _) => attach_filesystem(mount, kind, source, root.as_fd())?,
            (MountSource::Bind { .. } | MountSource::Namespace(_), Some(tree)) => {
                attach_bind(mount, tree, root.as_fd())?;
            }
            (MountSource::Bind { .. } | MountSource::Namespace(_), None) => {
                unreachable!("open_sources opened every bind")
            }
        }
    }
    Ok(root)
}

fn open_host_tree(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(CWD, path, flags)?)
}

fn open_bind(mount: &MountPlan, path: &Path, recursive: bool) -> Result<OwnedFd, Failure> {
    let say = || format!("cannot bind {} to {}", path.display(), mount.target.display());
    let tree = match open_host_tree(path, recursive) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Failure::invalid(format!(
                "bind source path does not exist: {}",
                path.display()
            )));
        }
        result => result.context(say)?,
    };
    mount::set_attributes(tree.as_fd(), mount.options.recursive_attributes(), true).context(say)?;
    let own = mount.options.attributes();
    if own != Attributes::default() {
        mount::set_attributes(tree.as_fd(), own, false).context(say)?;
    }
    Ok(tree)
}

/// A copy of what another container has mounted at `path`. A mount can only be copied from within its namespace.
fn fetch(namespace: &Path, path: &Path) -> Result<OwnedFd, Failure> {
    const CLONE_NEWNS: u64 = 0x0002_0000;
    let say = || format!("cannot share {} of another container", path.display());
    let read_only = OFlags::RDONLY | OFlags::CLOEXEC;
    let own = open("/proc/self/ns/mnt", read_only, Mode::empty()).context(say)?;
    let theirs = open(namespace, read_only, Mode::empty()).context(say)?;
    namespace::enter(theirs.as_fd(), CLONE_NEWNS).context(say)?;
    let tree = (|| {
        let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open("/", directory, Mode::empty())?;
        let place = fd::open_without_links(root.as_fd(), path, directory)?;
        mount::clone_tree(place.as_fd(), false)
    })();
    // A child that cannot come back goes no further.
    namespace::enter(own.as_fd(), CLONE_NEWNS).context(say)?;
    tree.context(say)
}

fn attach_bind(mount: &MountPlan, tree: OwnedFd, root: BorrowedFd) -> Result<(), Failure> {
    let say = || format!("cannot mount onto {}", mount.target.display());
    let make = match fd::file_type(tree.as_fd()).context(say)? {
        FileType::Directory => Make::Directory,
        _ => Make::File,
    };
    let target = fd::ensure(root, &mount.target, make).context(say)?;
    match mount::attach(tree.as_fd(), target.as_fd()) {
        Err(error) if error.raw_os_error() == Some(Errno::NOTDIR.raw_os_error()) => {
            let target = mount.target.display();
            Err(Failure::invalid(format!(
                "cannot mount a directory onto a file or vice versa: {target}"
            )))
        }
        result => result.context(say),
    }
}

/// Containers are attacked through these when they are symbolic links in the image.
const MUST_BE_REAL: [&str; 3] = ["/proc", "/sys", "/dev"];

fn attach_filesystem(mount: &MountPlan, kind: &str, source: &Option<String>, root: BorrowedFd) -> Result<(), Failure> {
    let target = &mount.target;
    let say = || format!("cannot mount {kind} at {}", target.display());
    let place = match fd::open_without_links(root, target, OFlags::PATH | OFlags::DIRECTORY) {
        Ok(place) => place,
        Err(error)
            if error.kind() != io::ErrorKind::NotFound && MUST_BE_REAL.iter().any(|path| target == Path::new(path)) =>
        {
            let message = format!("{} is not a directory of the image itself", target.display());
            return Err(Failure::invalid(format!("{}: {message}", say())));
        }
        Err(_) => fd::ensure(root, target, Make::Directory).context(say)?,
    };
    let context = mount::open_filesystem(kind).context(say)?;
    let configure = || -> io::Result<()> {
        if let Some(source) = source.as_deref().filter(|source| !source.is_empty()) {
            fsconfig_set_string(&context, "source", source)?;
        }
        for (key, value) in &mount.options.data {
            match value {
                Some(value) => fsconfig_set_string(&context, key, value)?,
                None => fsconfig_set_flag(&context, key)?,
            }
        }
        Ok(())
    };
    let attributes = MountAttrFlags::from_bits_retain(mount.options.set as u32);
    let mounted = match configure().and_then(|()| mount::finish(context.as_fd(), attributes)) {
        Ok(mounted) => mounted,
        Err(error) => return Err(explain(say(), context.as_fd(), &error)),
    };
    mount::attach(mounted.as_fd(), place.as_fd()).context(say)
}

fn explain(what: String, context: BorrowedFd, error: &io::Error) -> Failure {
    match mount::complaint(context) {
        Some(complaint) => Failure::system(format!("{what}: {complaint}"), error),
        None => Failure::system(what, error),
    }
}

/// The container's layers as one tree, detached. Made in the child: the host's namespace never has it.
fn overlay(lowers: &[PathBuf], upper: &Path, work: &Path, volatile: bool) -> Result<OwnedFd, Failure> {
    let say = || "cannot mount the overlay root file system";
    let context = mount::open_filesystem("overlay").context(say)?;
    let configure = || -> io::Result<()> {
        // What df(1) and everyone who looks for the container's root goes by.
        fsconfig_set_string(&context, "source", "overlay")?;
        for lower in lowers {
            fsconfig_set_string(&context, "lowerdir+", lower)?;
        }
        fsconfig_set_string(&context, "upperdir", upper)?;
        fsconfig_set_string(&context, "workdir", work)?;
        if volatile {
            fsconfig_set_flag(&context, "volatile")?;
        }
        Ok(())
    };
    match configure().and_then(|()| mount::finish(context.as_fd(), MountAttrFlags::empty())) {
        Ok(root) => Ok(root),
        Err(error) => {
            let missing = lowers
                .iter()
                .map(PathBuf::as_path)
                .chain([upper, work])
                .find(|path| !path.exists());
            let what = match missing {
                Some(path) => format!("{}: {} is missing", say(), path.display()),
                None => say().to_owned(),
            };
            Err(explain(what, context.as_fd(), &error))
        }
    }
}

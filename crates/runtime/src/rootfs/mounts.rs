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
    process::{self, CloneFlags, Cloned},
    socket,
};
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, open},
    io::Errno,
    mount::{MountAttrFlags, OpenTreeFlags, fsconfig_set_flag, fsconfig_set_string, open_tree},
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
    process::{DumpableBehavior, WaitId, WaitIdOptions, set_dumpable_behavior, waitid},
};

use crate::{
    error::Context,
    process::{
        gate::Gate,
        plan::{ChildPlan, MountPlan, MountSource, NEWIPC, NEWNET, NEWPID, RootfsPlan},
    },
    rootfs::{
        cgroups, devices, overlay,
        owners::{self, IdMaps, Owners},
        stranger,
    },
    shim::protocol::Failure,
};

/// Where the root file system of a container in a user namespace is, in its own mount namespace, until it becomes the root.
pub const STAGE_OF_STRANGERS: &str = "/dev";

/// Detached mounts of what is bound, in the order of the plan; `None` for those that are made later.
pub(crate) struct Sources {
    root: OwnedFd,
    binds: Vec<Option<OwnedFd>>,
}

impl Sources {
    /// What [`open_for_stranger`] opened, in another process.
    pub fn received(plan: &ChildPlan, fds: Vec<OwnedFd>) -> Result<Sources, Failure> {
        let missing = || Failure::invalid("a source of the container's mounts did not come");
        let mut fds = fds.into_iter();
        let root = fds.next().ok_or_else(missing)?;
        let mut binds = Vec::with_capacity(plan.mounts.len());
        for mount in &plan.mounts {
            let wanted = comes_from_outside(mount) || devices::is_home(plan, mount) || is_foreign(plan, mount);
            binds.push(match wanted {
                true => Some(fds.next().ok_or_else(missing)?),
                false => None,
            });
        }
        Ok(Sources { root, binds })
    }
}

fn comes_from_outside(mount: &MountPlan) -> bool {
    matches!(
        mount.what,
        MountSource::Bind { .. } | MountSource::Handed(_) | MountSource::Namespace(_)
    )
}

/// Does this show a namespace that belongs to another user namespace? Then only the shim may mount it, which is where the
/// container will be.
fn is_foreign(plan: &ChildPlan, mount: &MountPlan) -> bool {
    let MountSource::Filesystem { kind, .. } = &mount.what else {
        return false;
    };
    let shown = match kind.as_str() {
        "proc" => NEWPID,
        "sysfs" => NEWNET,
        "mqueue" => NEWIPC,
        _ => 0,
    };
    plan.user_namespace && plan.foreign & shown != 0
}

/// For a container in a user namespace, whose process could neither open these nor mount them: in its shim.
pub(crate) fn open_for_stranger(
    plan: &ChildPlan,
    handed: Vec<OwnedFd>,
    maps: &IdMaps,
) -> Result<Vec<OwnedFd>, Failure> {
    let mut sources = vec![stranger::root(&plan.rootfs, &plan.stage, maps)?];
    let binds = open_binds(plan, handed)?;
    for (mount, bind) in plan.mounts.iter().zip(binds) {
        if let (Some(Owners::Maps(maps)), Some(tree)) = (&mount.owners, &bind) {
            owners::map(tree.as_fd(), maps, mount.recursive()).map_err(|why| {
                let target = mount.target.display();
                Failure::invalid(format!("cannot map the owners of the files at {target}: {why}"))
            })?;
        }
        sources.extend(bind);
        if devices::is_home(plan, mount) {
            sources.push(devices::home(plan, mount, maps)?);
        }
        if let (true, MountSource::Filesystem { kind, source }) = (is_foreign(plan, mount), &mount.what) {
            let say = || format!("cannot mount {kind} at {}", mount.target.display());
            let context = match kind.as_str() {
                "proc" => open_proc_of_children(),
                kind => mount::open_filesystem(kind),
            };
            sources.push(set_up(context.context(say)?, mount, kind, source.as_deref(), &[])?);
        }
    }
    Ok(sources)
}

fn open_binds(plan: &ChildPlan, handed: Vec<OwnedFd>) -> Result<Vec<Option<OwnedFd>>, Failure> {
    let mut handed: Vec<_> = handed.into_iter().map(Some).collect();
    let mut binds = Vec::with_capacity(plan.mounts.len());
    for mount in &plan.mounts {
        binds.push(match &mount.what {
            MountSource::Bind { path, recursive } => Some(open_bind(mount, path, *recursive)?),
            MountSource::Namespace(namespace) => Some(fetch(namespace, &mount.target)?),
            MountSource::Handed(number) => {
                let say = || format!("the source of {} did not come", mount.target.display());
                let tree = handed.get_mut(*number as usize).and_then(Option::take);
                let tree = tree.ok_or_else(|| Failure::invalid(say()))?;
                set_attributes(mount, &tree).context(|| format!("cannot mount {}", mount.target.display()))?;
                Some(tree)
            }
            _ => None,
        });
    }
    Ok(binds)
}

/// Opens everything that comes from the host.
pub(crate) fn open_sources(plan: &ChildPlan, handed: Vec<OwnedFd>) -> Result<Sources, Failure> {
    let binds = open_binds(plan, handed)?;
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
pub(crate) fn assemble(plan: &ChildPlan, sources: Sources, gate: &mut Gate) -> Result<OwnedFd, Failure> {
    // A stranger may not look into the task's directory; it has its devices already.
    let stage = if plan.user_namespace {
        Path::new(STAGE_OF_STRANGERS)
    } else {
        &plan.stage
    };
    let say = || format!("cannot mount the root file system at {}", stage.display());
    let stage = open(stage, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).context(say)?;
    mount::attach(sources.root.as_fd(), stage.as_fd()).context(say)?;
    let root = sources.root;
    for (mount, bind) in plan.mounts.iter().zip(sources.binds) {
        match (&mount.what, bind) {
            (MountSource::Cgroups(view), _) => {
                cgroups::attach(view, &mount.options, gate.enter_cgroup()?, root.as_fd(), &mount.target)?;
            }
            (MountSource::Filesystem { kind, .. }, Some(made)) => {
                let place = place(&mount.target, kind, root.as_fd())?;
                mount::attach(made.as_fd(), place.as_fd())
                    .context(|| format!("cannot mount {kind} at {}", mount.target.display()))?;
            }
            (MountSource::Filesystem { kind, source }, None) => attach_filesystem(mount, kind, source, root.as_fd())?,
            (MountSource::Bind { .. } | MountSource::Handed(_) | MountSource::Namespace(_), Some(tree)) => {
                // Maps that need no look into the container were made with its sources.
                let mapped = plan.user_namespace && matches!(mount.owners, Some(Owners::Maps(_)));
                if let Some(owners) = mount.owners.as_ref().filter(|_| !mapped) {
                    gate.map_owners(plan, mount, owners, tree.as_fd(), root.as_fd())?;
                }
                attach_bind(mount, tree, root.as_fd())?;
            }
            (MountSource::Bind { .. } | MountSource::Handed(_) | MountSource::Namespace(_), None) => {
                unreachable!("open_sources opened every bind")
            }
        }
    }
    Ok(root)
}

pub(crate) fn open_host_tree(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
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
    set_attributes(mount, &tree).context(say)?;
    Ok(tree)
}

fn set_attributes(mount: &MountPlan, tree: &OwnedFd) -> io::Result<()> {
    mount::set_attributes(tree.as_fd(), mount.options.recursive_attributes(), true)?;
    let own = mount.options.attributes();
    if own != Attributes::default() {
        mount::set_attributes(tree.as_fd(), own, false)?;
    }
    Ok(())
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

/// Where a file system of the container's own goes: a directory, made where it is missing.
fn place(target: &Path, kind: &str, root: BorrowedFd) -> Result<OwnedFd, Failure> {
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
    Ok(place)
}

fn attach_filesystem(mount: &MountPlan, kind: &str, source: &Option<String>, root: BorrowedFd) -> Result<(), Failure> {
    let place = place(&mount.target, kind, root)?;
    let mounted = make_filesystem(mount, kind, source.as_deref(), &[])?;
    mount::attach(mounted.as_fd(), place.as_fd())
        .context(|| format!("cannot mount {kind} at {}", mount.target.display()))
}

/// A file system of the container's own, detached; `more` are options beside the mount's.
pub(crate) fn make_filesystem(
    mount: &MountPlan,
    kind: &str,
    source: Option<&str>,
    more: &[(&str, String)],
) -> Result<OwnedFd, Failure> {
    let say = || format!("cannot mount {kind} at {}", mount.target.display());
    set_up(mount::open_filesystem(kind).context(say)?, mount, kind, source, more)
}

/// The proc file system of the PID namespace that children of this process are in, not set up yet: it is that of whoever
/// opens it.
fn open_proc_of_children() -> io::Result<OwnedFd> {
    // Nobody in that namespace looks into the child.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    // SAFETY: the shim has one thread.
    match unsafe { process::clone3(CloneFlags::empty(), None)? } {
        Cloned::Child => {
            if let Ok(context) = mount::open_filesystem("proc") {
                let _ = socket::send(theirs.as_fd(), b"x", &[context.as_fd()]);
            }
            process::exit_now(0)
        }
        Cloned::Parent { pidfd, .. } => {
            drop(theirs);
            let received = socket::receive(ours.as_fd(), &mut [0]);
            while let Err(Errno::INTR) = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {}
            let (_, mut fds) = received?;
            fds.pop().ok_or_else(|| io::ErrorKind::NotFound.into())
        }
    }
}

/// Sets a file system up that was opened.
fn set_up(
    context: OwnedFd,
    mount: &MountPlan,
    kind: &str,
    source: Option<&str>,
    more: &[(&str, String)],
) -> Result<OwnedFd, Failure> {
    let say = || format!("cannot mount {kind} at {}", mount.target.display());
    let configure = || -> io::Result<()> {
        if let Some(source) = source.filter(|source| !source.is_empty()) {
            fsconfig_set_string(&context, "source", source)?;
        }
        for (key, value) in &mount.options.data {
            match value {
                Some(value) => fsconfig_set_string(&context, key, value)?,
                None => fsconfig_set_flag(&context, key)?,
            }
        }
        for (key, value) in more {
            fsconfig_set_string(&context, *key, value)?;
        }
        Ok(())
    };
    let attributes = MountAttrFlags::from_bits_retain(mount.options.set as u32);
    match configure().and_then(|()| mount::finish(context.as_fd(), attributes)) {
        Ok(mounted) => Ok(mounted),
        Err(error) => Err(explain(say(), context.as_fd(), &error)),
    }
}

fn explain(what: String, context: BorrowedFd, error: &io::Error) -> Failure {
    match mount::complaint(context) {
        Some(complaint) => Failure::system(format!("{what}: {complaint}"), error),
        None => Failure::system(what, error),
    }
}

/// The container's layers as one tree, detached. Made in the child: the host's namespace never has it.
pub(crate) fn overlay(lowers: &[PathBuf], upper: &Path, work: &Path, volatile: bool) -> Result<OwnedFd, Failure> {
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

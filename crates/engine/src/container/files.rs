//! A container's files from outside: which tree is opened, and who has to wait for whom.
//!
//! A running container shows what its processes see, mounts and all. One at rest is read from its layers, which does no
//! harm to a start meanwhile; but to write into it, it must be mounted, and one writable layer takes one such mount at a
//! time. So who writes into a container at rest keeps it from starting until he is done, as with Docker.
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use corten_linux::fd;
use corten_runtime::rootfs::{
    owners::{IdMaps, Owners as Shown},
    view::{self, Access, Bind, Layers},
};
use corten_store::layer::owners::Owners;
use rustix::fs::OFlags;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, watch};

use crate::{
    container::{
        etc,
        handle::{Command, Handle, Snapshot},
        record::{MountPoint, Record},
        state::Phase,
        user_namespace,
    },
    context::{Context, blocking},
    error::{Error, Result},
    task::mounts::WRITTEN,
};

/// What the tree is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Read,
    Write,
    /// To read the root file system alone, without anything that is mounted on it.
    Root,
}

/// A container's root, for as long as it lives.
#[derive(Debug)]
pub struct Files {
    root: Option<OwnedFd>,
    pub record: Arc<Record>,
    /// Who owns what for the container, where that is not who the tree says.
    pub owners: Option<Owners>,
    /// Who makes files there, where that is not the host's root.
    pub maker: Option<(u32, u32)>,
    watch: watch::Receiver<Snapshot>,
    /// The work directory of a volatile mount.
    volatile: Option<PathBuf>,
    _shared: Option<OwnedRwLockReadGuard<()>>,
    _alone: Option<OwnedRwLockWriteGuard<()>>,
}

impl Files {
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_ref().expect("only a drop takes it").as_fd()
    }

    /// Fails once the container was removed: what was read by then may lack what was deleted already.
    pub fn check_there(&self) -> io::Result<()> {
        let removed = self.watch.borrow().removed;
        match removed {
            true => Err(io::Error::other("the container was removed")),
            false => Ok(()),
        }
    }

    /// Mounts that every container has, and whose contents are no files of its own.
    pub fn hidden_mounts(&self) -> Vec<u64> {
        let root = fd::mount_id(self.root()).ok();
        let mounts = ["/proc", "/sys", "/dev"].iter().filter_map(|path| {
            let place = fd::open_without_links(self.root(), path, OFlags::PATH).ok()?;
            fd::mount_id(place.as_fd()).ok()
        });
        mounts.filter(|&mount| Some(mount) != root).collect()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // The mount first: it is gone when this returns.
        self.root = None;
        if let Some(work) = &self.volatile
            && let Err(error) = view::forget_volatile(work)
        {
            // The next start tries again.
            tracing::warn!(container = %self.record.id, %error, "cannot tidy up after a copy");
        }
    }
}

/// Opens a container's files as they are now, or once a start that is under way has come to its end.
pub async fn open(context: &Arc<Context>, handle: &Handle, purpose: Purpose) -> Result<Files> {
    loop {
        let snapshot = handle
            .wait_until(|now| now.removed || now.state.phase != Phase::Starting)
            .await;
        if snapshot.removed || matches!(snapshot.state.phase, Phase::Removing) {
            return Err(Error::not_found(format!("No such container: {}", handle.id)));
        }
        let opened = match snapshot.state.phase.is_running() {
            true => of_running(context, handle, &snapshot, purpose).await?,
            false => at_rest(context, handle, purpose).await?,
        };
        if let Some(files) = opened {
            return Ok(files);
        }
    }
}

/// `None` when it does not run any more, or again.
async fn of_running(context: &Context, handle: &Handle, before: &Snapshot, purpose: Purpose) -> Result<Option<Files>> {
    let Some((pid, pidfd)) = handle.ask(|reply| Command::Process { reply }).await? else {
        return Ok(None);
    };
    // Of the process that was asked for, as it lives when its root is opened.
    let users = user_namespace::of_task(&context.store.layout().task(&handle.id))?;
    // After the question: a start holds the supervisor and waits for this lock.
    let shared = match purpose {
        Purpose::Write => Some(Arc::clone(&handle.writing).read_owned().await),
        Purpose::Read | Purpose::Root => None,
    };
    let root = blocking(move || {
        view::of_process(pid, pidfd.as_fd(), purpose != Purpose::Root).map_err(|error| failed().because(error))
    });
    let Some(root) = root.await? else {
        // Its end is on the way to the supervisor.
        handle.wait_until(|now| now.removed || now.exits != before.exits).await;
        return Ok(None);
    };
    Ok(Some(Files {
        root: Some(root),
        maker: users.as_ref().map(IdMaps::root),
        owners: users.map(|maps| owners(&maps, Vec::new())),
        record: Arc::clone(&before.record),
        watch: handle.watch.clone(),
        volatile: None,
        _shared: shared,
        _alone: None,
    }))
}

/// `None` when it is being started.
async fn at_rest(context: &Arc<Context>, handle: &Handle, purpose: Purpose) -> Result<Option<Files>> {
    let alone = match purpose {
        Purpose::Write => Some(Arc::clone(&handle.writing).write_owned().await),
        Purpose::Read | Purpose::Root => None,
    };
    let snapshot = handle.snapshot();
    if snapshot.state.phase.is_running() || snapshot.state.phase == Phase::Starting {
        return Ok(None);
    }
    let (context, record) = (Arc::clone(context), snapshot.record);
    let opened = blocking(move || {
        let layers = layers(&context, &record);
        let root = match purpose {
            Purpose::Root => view::unchanged(&layers),
            Purpose::Read => view::at_rest(&layers, &binds(&context, &record), Access::Read),
            Purpose::Write => view::at_rest(&layers, &binds(&context, &record), Access::Write),
        };
        let root = root.map_err(|error| failed().because(error))?;
        let owners = match purpose {
            Purpose::Root => None,
            Purpose::Read | Purpose::Write => owners_at_rest(&context, &record, root.as_fd())?,
        };
        Ok((root, owners, record, layers.work))
    });
    let (root, owners, record, work) = opened.await?;
    Ok(Some(Files {
        root: Some(root),
        record,
        owners,
        maker: None,
        watch: handle.watch.clone(),
        volatile: alone.is_some().then_some(work),
        _shared: None,
        _alone: alone,
    }))
}

fn owners(maps: &IdMaps, plain_mounts: Vec<u64>) -> Owners {
    let (users, groups) = maps.ranges();
    Owners {
        users,
        groups,
        plain_mounts,
    }
}

/// On the disk only what is bound from the host has the host's owners.
fn owners_at_rest(context: &Context, record: &Record, root: BorrowedFd) -> Result<Option<Owners>> {
    let Some(maps) = user_namespace::maps(context, &record.host_config) else {
        return Ok(None);
    };
    let mount_of = |target: &Path| {
        let place = fd::open_in_root(root, target, OFlags::PATH).ok()?;
        fd::mount_id(place.as_fd()).ok()
    };
    let mapped = user_namespace::owners(context, record, &WRITTEN);
    let is_plain = |target: &str| {
        let mut of_target = mapped.iter().filter(|(mapped, _)| mapped == Path::new(target));
        of_target.any(|(_, owners)| matches!(owners, Shown::Maps(_)))
    };
    let (mut plain, mut foreign) = (Vec::new(), Vec::new());
    for Bind { target, .. } in binds(context, record) {
        let mounts = if is_plain(&target) { &mut plain } else { &mut foreign };
        mounts.extend(mount_of(Path::new(&target)));
    }
    // A link of the container's may make one target of two.
    plain.retain(|mount| !foreign.contains(mount));
    plain.push(fd::mount_id(root).map_err(|error| failed().because(error))?);
    Ok(Some(owners(maps, plain)))
}

fn failed() -> Error {
    Error::system("cannot open the container's files")
}

/// What a container's root is stacked from.
pub fn layers(context: &Context, record: &Record) -> Layers {
    let active = context.store.active(&record.id, &record.layers);
    Layers {
        lowers: active.lowers,
        upper: active.upper,
        work: active.work,
    }
}

/// The user's mounts and the files that the engine writes, shallow targets first. A tmpfs has nothing in it at rest.
fn binds(context: &Context, record: &Record) -> Vec<Bind> {
    let files = etc::files(&context.store.layout().container(&record.id));
    let has = |target: &str| record.mounts.iter().any(|mount| mount.destination == target);
    let own = [
        (files.resolv_conf, "/etc/resolv.conf"),
        (files.hostname, "/etc/hostname"),
        (files.hosts, "/etc/hosts"),
    ];
    let own = own
        .into_iter()
        .filter(|(_, target)| !has(target))
        .map(|(source, target)| Bind {
            source,
            target: target.to_owned(),
            recursive: false,
            writable: true,
        });
    // Parts of volumes, and images, are mounted at a start only.
    let plain = |mount: &&MountPoint| matches!(mount.kind.as_str(), "bind" | "volume") && mount.subpath.is_none();
    let asked = record.mounts.iter().filter(plain);
    let asked = asked.map(|mount| Bind {
        source: PathBuf::from(&mount.source),
        target: mount.destination.clone(),
        recursive: !mount.options.iter().any(|option| option == "nonrecursive"),
        writable: mount.writable,
    });
    let mut binds: Vec<Bind> = own.chain(asked).collect();
    binds.sort_by_key(|bind| bind.target.matches('/').count());
    binds
}

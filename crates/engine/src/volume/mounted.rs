//! Volumes that are mounted from something: there from their first user's start to their last one's end.
//!
//! They are mounted where their directories are, in a mount namespace that nobody lives in: the host's mount table never
//! shows them. Shims of the containers that use them keep that namespace, so that it outlives a daemon; when the last of
//! them and the daemon are gone, so is everything that was mounted.
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use corten_linux::{fd, mount};
use corten_runtime::rootfs::private::PrivateMounts;
use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    mount::UnmountFlags,
};

use crate::{
    error::{Error, Result},
    volume::options::Device,
};

#[derive(Debug, Default)]
pub struct Mounted {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    mounts: Option<Arc<PrivateMounts>>,
    volumes: BTreeMap<String, Users>,
}

/// The containers that have a volume mounted. Locked while it is being mounted or unmounted: a server that does not
/// answer keeps nobody waiting but those who want the same volume.
type Users = Arc<Mutex<BTreeSet<String>>>;

/// A volume, mounted for one container.
pub struct Use {
    /// Detached, nobody else's.
    pub mount: OwnedFd,
    /// What the container's shim has to keep.
    pub namespace: OwnedFd,
    /// Nobody had it mounted before.
    pub first: bool,
}

impl Mounted {
    /// Mounts a volume for a container, or the one that is mounted once more. May wait for a server.
    pub fn acquire(&self, volume: &str, device: &Device, directory: &Path, container: &str) -> Result<Use> {
        let failed = |error: io::Error| {
            Error::system(format!("error while mounting volume '{}'", directory.display())).because(error)
        };
        let (mounts, shared) = self.enter(volume).map_err(failed)?;
        let mut users = shared.lock().expect("no panic while locked");
        let first = users.is_empty();
        let made = mounts.inside(|| {
            if first {
                // Of a user that ended when no daemon watched.
                while rustix::mount::unmount(directory, UnmountFlags::DETACH).is_ok() {}
                device.mount(directory)?;
            }
            let made = take(directory);
            if made.is_err() && first {
                let _ = rustix::mount::unmount(directory, UnmountFlags::DETACH);
            }
            made
        });
        let made = made.and_then(|mount| {
            Ok(Use {
                mount,
                namespace: mounts.namespace().try_clone_to_owned()?,
                first,
            })
        });
        if made.is_ok() {
            users.insert(container.to_owned());
        }
        drop(users);
        drop(shared);
        made.map_err(|error| {
            self.forget_idle();
            failed(error)
        })
    }

    /// A part of a volume that is mounted.
    pub fn part(&self, volume: &str, directory: &str, subpath: &str) -> Result<OwnedFd> {
        let mounts = self.inner.lock().expect("no panic while locked").mounts.clone();
        let mounts = mounts.ok_or_else(|| Error::system(format!("volume {volume} is not mounted")))?;
        let mut cut = None;
        let work = || {
            let root = open_directory(Path::new(directory))?;
            cut = Some(beneath(root, directory, subpath));
            Ok(())
        };
        mounts
            .inside(work)
            .map_err(|error| Error::system(format!("cannot open {directory}")).because(error))?;
        cut.expect("the work was done")
    }

    fn enter(&self, volume: &str) -> io::Result<(Arc<PrivateMounts>, Users)> {
        let mut inner = self.inner.lock().expect("no panic while locked");
        if inner.mounts.is_none() {
            inner.mounts = Some(Arc::new(PrivateMounts::new()?));
        }
        let mounts = Arc::clone(inner.mounts.as_ref().expect("it was just put there"));
        let users = Arc::clone(inner.volumes.entry(volume.to_owned()).or_default());
        Ok((mounts, users))
    }

    /// A container uses the volume no more.
    pub fn release(&self, volume: &str, directory: &Path, container: &str) {
        let (mounts, shared) = {
            let inner = self.inner.lock().expect("no panic while locked");
            match (&inner.mounts, inner.volumes.get(volume)) {
                (Some(mounts), Some(users)) => (Arc::clone(mounts), Arc::clone(users)),
                _ => return,
            }
        };
        let mut users = shared.lock().expect("no panic while locked");
        if users.remove(container) && users.is_empty() {
            let unmount = || Ok(rustix::mount::unmount(directory, UnmountFlags::DETACH)?);
            if let Err(error) = mounts.inside(unmount) {
                tracing::warn!(volume, %error, "cannot unmount a volume");
            }
        }
        drop(users);
        drop((shared, mounts));
        self.forget_idle();
    }

    /// The namespace holds on to whatever the host has mounted: it goes when nobody needs it.
    fn forget_idle(&self) {
        let mut inner = self.inner.lock().expect("no panic while locked");
        // Whoever is about to use a volume has its users in hand.
        inner.volumes.retain(|_, users| {
            Arc::strong_count(users) > 1 || !users.lock().expect("no panic while locked").is_empty()
        });
        if inner.volumes.is_empty() {
            inner.mounts = None;
        }
    }

    /// What a shim kept for a container that runs: the volumes' namespace, which has these of the container's.
    pub fn restore(&self, namespace: OwnedFd, volumes: impl Iterator<Item = String>, container: &str) {
        let mut inner = self.inner.lock().expect("no panic while locked");
        inner
            .mounts
            .get_or_insert_with(|| Arc::new(PrivateMounts::kept(namespace)));
        for volume in volumes {
            let users = inner.volumes.entry(volume).or_default();
            users
                .lock()
                .expect("no panic while locked")
                .insert(container.to_owned());
        }
    }
}

/// The mount at a directory with all beneath it, detached.
fn take(directory: &Path) -> io::Result<OwnedFd> {
    mount::clone_tree(open_directory(directory)?.as_fd(), true)
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}

/// A part of a tree as a mount of its own: nothing that leads out of the tree is followed.
pub fn beneath(tree: impl AsFd, base: &str, subpath: &str) -> Result<OwnedFd> {
    let full = || PathBuf::from(base).join(subpath).display().to_string();
    let flags = OFlags::PATH;
    match fd::open_beneath(tree.as_fd(), subpath, flags) {
        Ok(place) => mount::clone_tree(place.as_fd(), true)
            .map_err(|error| Error::system(format!("cannot mount {}", full())).because(error)),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::XDEV.raw_os_error()) => Err(Error::invalid(
            format!("path concatenation escapes the base directory, base: {base}, subpath: {subpath}"),
        )),
        Err(error) => Err(Error::invalid(format!("cannot access path {}", full())).because(error)),
    }
}

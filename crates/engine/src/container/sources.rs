//! Where a container's mounts come from, made ready at every start and let go of at every end.
//!
//! Most are paths that the container's own process binds. Those that are a part of something (a volume's subpath), or are
//! mounted for the occasion (a volume with a device, an image), travel as detached mounts: no name of them is walked again.
use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use corten_linux::{
    fd,
    mount::{self, Attributes},
};
use corten_runtime::rootfs::{overlay, private::PrivateMounts};
use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    mount::MountAttrFlags,
};

use crate::{
    container::{
        record::{MountPoint, Record},
        supervised::Supervised,
        user_namespace,
    },
    context::{Context, blocking},
    error::{Error, Result},
    volume::{copy_up, mounted::beneath, options::Device},
};

/// As many as fit into a packet, with room for what goes beside them.
const HANDED_MAX: usize = 60;

/// What one start needs beside the record.
#[derive(Debug, Default)]
pub struct Sources {
    /// By target.
    pub handed: Vec<(PathBuf, OwnedFd)>,
    /// What the shim keeps while the container lives.
    pub held: Option<OwnedFd>,
}

impl Supervised {
    /// May wait for a server.
    pub async fn prepare_sources(&self) -> Result<Sources> {
        let (context, record) = (Arc::clone(&self.context), Arc::clone(&self.record));
        if record.mounts.is_empty() {
            return Ok(Sources::default());
        }
        blocking(move || prepare(&context, &record)).await
    }

    /// The container has no running side any more.
    pub async fn release_sources(&self) {
        if devices(&self.context, &self.record).next().is_none() {
            return;
        }
        let (context, record) = (Arc::clone(&self.context), Arc::clone(&self.record));
        let released = blocking(move || {
            release(&context, &record);
            Ok(())
        });
        let _ = released.await;
    }
}

fn prepare(context: &Context, record: &Record) -> Result<Sources> {
    let mut sources = Sources::default();
    for point in &record.mounts {
        let mount = match point.kind.as_str() {
            "bind" => {
                bind(context, record, point)?;
                None
            }
            "volume" => volume(context, record, point, &mut sources.held)?,
            "image" => Some(image(context, point)?),
            _ => None,
        };
        if let Some(mount) = mount {
            sources.handed.push((PathBuf::from(&point.destination), mount));
        }
    }
    if sources.handed.len() > HANDED_MAX {
        return Err(Error::invalid(format!(
            "a container can have at most {HANDED_MAX} mounts of images, of parts of volumes and of volumes with a device"
        )));
    }
    Ok(sources)
}

/// Volumes of the container's that are mounted from somewhere.
fn devices<'a>(context: &'a Context, record: &'a Record) -> impl Iterator<Item = (&'a str, Device)> {
    let names = record.mounts.iter().filter(|point| point.kind == "volume");
    names.filter_map(|point| {
        let name = point.name.as_deref()?;
        Some((name, Device::of(&context.volumes.get(name)?.options)?))
    })
}

pub fn release(context: &Context, record: &Record) {
    for (name, _) in devices(context, record) {
        let directory = PathBuf::from(context.volumes.path(name));
        context.volumes.mounted.release(name, &directory, &record.id);
    }
}

/// Names of [`devices`], for a daemon that finds the container running.
pub fn device_volumes(context: &Context, record: &Record) -> Vec<String> {
    devices(context, record).map(|(name, _)| name.to_owned()).collect()
}

fn volume(
    context: &Context,
    record: &Record,
    point: &MountPoint,
    held: &mut Option<OwnedFd>,
) -> Result<Option<OwnedFd>> {
    let name = point.name.as_deref().unwrap_or_default();
    let Some(volume) = context.volumes.get(name) else {
        return Err(Error::not_found(format!("get {name}: no such volume")));
    };
    let Some(device) = Device::of(&volume.options) else {
        return point
            .subpath
            .as_deref()
            .map(|subpath| part(&point.source, subpath))
            .transpose();
    };
    let used = context
        .volumes
        .mounted
        .acquire(name, &device, Path::new(&point.source), &record.id)?;
    *held = Some(used.namespace);
    if used.first && point.copy_up {
        copy_up::copy_up_into(&context.store, &record.layers, &point.destination, used.mount.as_fd())?;
    }
    match &point.subpath {
        None => Ok(Some(used.mount)),
        // A mount that is nowhere cannot be cut on older kernels: it is cut where it is.
        Some(subpath) => context.volumes.mounted.part(name, &point.source, subpath).map(Some),
    }
}

fn part(directory: &str, subpath: &str) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = openat(CWD, directory, flags, Mode::empty())
        .map_err(|error| Error::system(format!("cannot open {directory}")).because(io::Error::from(error)))?;
    beneath(root, directory, subpath)
}

/// An image's files, read-only.
fn image(context: &Context, point: &MountPoint) -> Result<OwnedFd> {
    let lowers = context.store.active("none", &point.layers).lowers;
    let failed = |error: io::Error| Error::system(format!("cannot mount image {}", point.source)).because(error);
    let tree = match (&lowers[..], &point.subpath) {
        ([only], None) => open_directory(only).and_then(|root| mount::clone_tree(root.as_fd(), false)),
        ([only], Some(subpath)) => return part(&only.display().to_string(), subpath).and_then(read_only),
        (_, None) => overlay::read_only(&lowers),
        (_, Some(subpath)) => {
            // Attached, because a mount that is nowhere cannot be cut on older kernels; and out of sight.
            let cut = || {
                let tree = overlay::read_only(&lowers)?;
                mount::attach(tree.as_fd(), open_directory(&lowers[0])?.as_fd())?;
                let place = fd::open_beneath(tree.as_fd(), subpath, OFlags::PATH)?;
                mount::clone_tree(place.as_fd(), false)
            };
            let cut = PrivateMounts::new().and_then(|mounts| mounts.inside(cut));
            return cut
                .map_err(|error| {
                    Error::invalid(format!("cannot access path {subpath} of image {}", point.source)).because(error)
                })
                .and_then(read_only);
        }
    };
    read_only(tree.map_err(failed)?)
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}

fn read_only(tree: OwnedFd) -> Result<OwnedFd> {
    let attributes = Attributes {
        set: u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits()),
        ..Attributes::default()
    };
    mount::set_attributes(tree.as_fd(), attributes, false)
        .map_err(|error| Error::system("cannot make an image's files read-only").because(error))?;
    Ok(tree)
}

/// Makes a bind's source where that is wanted, and sees that it can propagate what it is asked to.
fn bind(context: &Context, record: &Record, point: &MountPoint) -> Result<()> {
    if point.create_source && fs::symlink_metadata(&point.source).is_err() {
        user_namespace::make_source(context, &record.host_config, &point.source)?;
    }
    let shared = match point.propagation.trim_start_matches('r') {
        "shared" => true,
        "slave" => false,
        _ => return Ok(()),
    };
    let Some((place, fields)) = mount_of(&point.source) else {
        return Ok(());
    };
    let has = |prefix: &str| fields.iter().any(|field| field.starts_with(prefix));
    match (has("shared:"), has("master:"), shared) {
        (true, ..) | (_, true, false) => Ok(()),
        (.., true) => Err(Error::invalid(format!(
            "path {} is mounted on {place} but it is not a shared mount",
            point.source
        ))),
        (.., false) => Err(Error::invalid(format!(
            "path {} is mounted on {place} but it is not a shared or slave mount",
            point.source
        ))),
    }
}

/// Where the mount is that a path lies on, and its optional fields. Absent when it cannot be told.
fn mount_of(path: &str) -> Option<(String, Vec<String>)> {
    let place = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let id = fd::mount_id(place.as_fd()).ok()?.to_string();
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    table.lines().find_map(|line| {
        let mut words = line.split(' ');
        (words.next()? == id).then_some(())?;
        let place = words.nth(3)?.to_owned();
        let fields = words.skip(1).take_while(|word| *word != "-").map(str::to_owned);
        Some((place, fields.collect()))
    })
}

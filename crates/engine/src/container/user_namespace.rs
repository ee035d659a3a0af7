//! Whether a container has a user namespace of its own, and what cannot be together with one.
use std::{
    fs, io,
    os::unix::fs::fchown,
    path::{Path, PathBuf},
};

use corten_api::types::container::HostConfig;
use corten_runtime::rootfs::owners::{IdMaps, Owners};
use rustix::{
    fs::{Mode, OFlags, mkdirat, open, openat},
    io::Errno,
};

use crate::{
    container::{
        mode::NetworkMode,
        record::{MountPoint, Record},
    },
    context::Context,
    error::{Error, Result},
    volume::options::Device,
};

/// Who a container's users are on the host, where that is not who they are in the container.
pub fn maps<'a>(context: &'a Context, host: &HostConfig) -> Option<&'a IdMaps> {
    context.remap.as_ref().filter(|_| host.userns_mode != "host")
}

/// Refuses what needs the host's own users, in Docker's words.
pub fn check(context: &Context, host: &HostConfig) -> Result<()> {
    let remapped = maps(context, host).is_some();
    let conflicts = [
        (
            host.privileged,
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace \
             when running privileged mode",
        ),
        (
            NetworkMode::parse(&host.network_mode) == NetworkMode::Host,
            "cannot share the host's network namespace when user namespaces are enabled",
        ),
        (
            host.pid_mode == "host",
            "cannot share the host PID namespace when user namespaces are enabled",
        ),
    ];
    match conflicts.into_iter().find(|(found, _)| remapped && *found) {
        Some((_, what)) => Err(Error::invalid(what)),
        None => Ok(()),
    }
}

/// Which binds show other owners than the disk says, by their targets. `files` are those that the engine writes.
pub fn owners(context: &Context, record: &Record, files: &[&str]) -> Vec<(PathBuf, Owners)> {
    let remap = maps(context, &record.host_config);
    let all = |maps: &IdMaps| Owners::Maps(maps.clone());
    let of_point = |point: &MountPoint| {
        let owners = match (&point.owners, remap, point.kind.as_str()) {
            (Some(mapping), _, _) if mapping.source == "match-user" => Owners::MatchUser(mapping.user.clone()),
            (Some(_), Some(maps), _) => all(maps),
            // On the disk a volume's files belong to the users that containers know; what is mounted from elsewhere is as
            // it is there.
            (None, Some(maps), "volume") if is_plain(context, point) => all(maps),
            _ => return None,
        };
        Some((PathBuf::from(&point.destination), owners))
    };
    let mut owners: Vec<_> = record.mounts.iter().filter_map(of_point).collect();
    for file in files {
        let target = PathBuf::from(file);
        let taken = record.mounts.iter().any(|point| point.destination == *file);
        if let Some(maps) = remap.filter(|_| !taken) {
            owners.push((target, all(maps)));
        }
    }
    owners
}

/// In a task's directory: who is who in a container that runs, whatever the daemon's option has become meanwhile.
const FILE: &str = "users";

/// Writes it down, for [`of_task`].
pub fn write_down(directory: &Path, maps: &IdMaps) -> io::Result<()> {
    fs::write(directory.join(FILE), serde_json::to_vec(maps)?)
}

/// `None` for a container in no user namespace of its own.
pub fn of_task(directory: &Path) -> Result<Option<IdMaps>> {
    let read = || match fs::read(directory.join(FILE)) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    read().map_err(|error| Error::system("cannot tell who the container's users are").because(error))
}

/// Makes a bind's source with what is missing above it. As with Docker all of that belongs to the container's root.
pub fn make_source(context: &Context, host: &HostConfig, source: &str) -> Result<()> {
    let made = match maps(context, host).map(IdMaps::root) {
        None => fs::create_dir_all(source),
        Some(owner) => make_for(owner, Path::new(source)),
    };
    made.map_err(|error| Error::invalid(format!("error while creating mount source path '{source}'")).because(error))
}

/// No new name is walked twice: another container may write where these directories are made.
fn make_for((user, group): (u32, u32), path: &Path) -> io::Result<()> {
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut here = open(there, directory, Mode::empty())?;
    for name in path.strip_prefix(there).unwrap_or(path) {
        let made = match mkdirat(&here, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        here = openat(&here, name, directory | OFlags::NOFOLLOW, Mode::empty())?;
        if made {
            fchown(&here, Some(user), Some(group))?;
        }
    }
    Ok(())
}

fn is_plain(context: &Context, point: &MountPoint) -> bool {
    let volume = point.name.as_deref().and_then(|name| context.volumes.get(name));
    volume.is_some_and(|volume| Device::of(&volume.options).is_none())
}

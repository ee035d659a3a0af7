//! Whether a container has a user namespace of its own, and what cannot be together with one.
use std::path::PathBuf;

use corten_api::types::container::HostConfig;
use corten_runtime::rootfs::owners::{IdMaps, Owners};

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

fn is_plain(context: &Context, point: &MountPoint) -> bool {
    let volume = point.name.as_deref().and_then(|name| context.volumes.get(name));
    volume.is_some_and(|volume| Device::of(&volume.options).is_none())
}

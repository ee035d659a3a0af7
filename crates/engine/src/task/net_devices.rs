//! Network devices of the host's that a container gets: taken out of its specification, and moved once its namespace exists.
use std::os::fd::AsFd;

use corten_network::devices::{self, Device};
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::{
    container::attachment::{named, namespace},
    context::blocking,
    error::{Error, Result},
};

/// Those of a specification, which has none any more. Only a container with a network of its own can have them.
pub fn take(spec: &mut Spec) -> Result<Vec<Device>> {
    let Some(linux) = spec.linux_mut() else {
        return Ok(Vec::new());
    };
    let found = linux.net_devices().clone().unwrap_or_default();
    linux.set_net_devices(None);
    let mut devices: Vec<_> = found
        .into_iter()
        .map(|(host, device)| Device {
            container: device.name().clone().unwrap_or_else(|| host.clone()),
            host,
        })
        .collect();
    devices.sort_by(|one, other| one.host.cmp(&other.host));
    let mut namespaces = linux.namespaces().iter().flatten();
    let own = namespaces.any(|one| one.typ() == LinuxNamespaceType::Network && one.path().is_none());
    match devices.first().filter(|_| !own) {
        None => Ok(devices),
        Some(device) => Err(Error::invalid(format!(
            "network device {} cannot be moved into a container that has no network of its own",
            device.host
        ))),
    }
}

/// Into the namespace of a process.
pub async fn move_in(devices: Vec<Device>, pid: i32) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    blocking(move || {
        let namespace = namespace(pid)
            .map_err(|error| Error::system("cannot open the container's network namespace").because(error))?;
        devices::move_in(namespace.as_fd(), &devices).map_err(|error| named(error, ""))
    })
    .await
}

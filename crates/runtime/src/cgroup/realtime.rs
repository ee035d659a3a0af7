//! Real-time processor time: on v1 every cgroup above a container's must have its share before the container can.
use std::path::Path;

use super::error::Error;
use super::files;
use super::hierarchy::{Controller, Hierarchies, Place};

/// What the cgroups above containers have, in microseconds; 0 leaves it as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    pub period: u64,
    pub runtime: u64,
}

/// Gives the cgroup `parent` (`/docker`), and those above it, their share. Nothing where the kernel knows none.
pub fn allot(parent: &str, share: Share) -> Result<(), Error> {
    let host = Hierarchies::of_host()?;
    let Some(Place::Legacy(index)) = host.place(Controller::Cpu) else {
        return Ok(());
    };
    let mut path = host.legacy[index].mount.clone();
    for part in parent.split('/').filter(|part| !part.is_empty()) {
        path.push(part);
        match files::make_directory(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Error::io("make cgroup", &path, error));
            }
            _ => {}
        }
        write(&path, "cpu.rt_period_us", share.period)?;
        write(&path, "cpu.rt_runtime_us", share.runtime)?;
    }
    Ok(())
}

fn write(directory: &Path, file: &str, value: u64) -> Result<(), Error> {
    if value == 0 {
        return Ok(());
    }
    let path = directory.join(file);
    files::write(&path, &value.to_string()).map_err(|source| Error::Limit {
        limit: "share of real time".to_owned(),
        value: value.to_string(),
        path,
        source,
    })
}

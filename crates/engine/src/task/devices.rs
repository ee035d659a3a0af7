//! Devices of the host given to a container: nodes to make, and rules that let them be used.
use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use corten_api::types::container::DeviceMapping;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceType};

use crate::{
    error::{Error, Result},
    task::resources,
};

/// Names beneath /dev that a container has of its own.
const OWN: [&str; 8] = ["pts", "shm", "fd", "mqueue", "console", "lxc", ".lxc", ".udev"];

/// Nodes and rules for `--device` mappings. A directory stands for the devices beneath it.
pub fn mapped(mappings: &[DeviceMapping]) -> Result<(Vec<LinuxDevice>, Vec<LinuxDeviceCgroup>)> {
    let (mut devices, mut rules) = (Vec::new(), Vec::new());
    for mapping in mappings {
        let refused = |error: io::Error| {
            Error::invalid(format!(
                "error gathering device information while adding custom device \"{}\"",
                mapping.path_on_host
            ))
            .because(lower(&error))
        };
        let source = fs::canonicalize(&mapping.path_on_host).map_err(refused)?;
        let target = PathBuf::from(match mapping.path_in_container.as_str() {
            "" => &mapping.path_on_host,
            path => path,
        });
        let mut found = Vec::new();
        if source.is_dir() {
            gather(&source, &target, &mut found).map_err(refused)?;
        } else {
            found.extend(device(&source, target).map_err(refused)?);
        }
        if found.is_empty() {
            return Err(refused(io::Error::other("not a device node")));
        }
        let access = match mapping.cgroup_permissions.as_str() {
            "" => "rwm",
            letters => letters,
        };
        for device in found {
            rules.push(resources::rule(
                true,
                device.typ(),
                Some(device.major()),
                Some(device.minor()),
                access,
            ));
            devices.push(device);
        }
    }
    Ok((devices, rules))
}

/// Every device of the host, for privileged containers.
pub fn all() -> Result<Vec<LinuxDevice>> {
    let mut devices = Vec::new();
    gather(Path::new("/dev"), Path::new("/dev"), &mut devices)
        .map_err(|error| Error::system("cannot list the host's devices").because(error))?;
    Ok(devices)
}

fn gather(directory: &Path, target: &Path, devices: &mut Vec<LinuxDevice>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if directory == Path::new("/dev") && OWN.iter().any(|own| name == *own) {
            continue;
        }
        let (path, target) = (entry.path(), target.join(&name));
        let kind = match entry.file_type() {
            Ok(kind) => kind,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if kind.is_dir() {
            gather(&path, &target, devices)?;
        } else if kind.is_char_device() || kind.is_block_device() {
            devices.extend(device(&path, target)?);
        }
    }
    Ok(())
}

/// The node at `path`, when it is a device.
fn device(path: &Path, target: PathBuf) -> io::Result<Option<LinuxDevice>> {
    let metadata = fs::metadata(path)?;
    let kind = if metadata.file_type().is_char_device() {
        LinuxDeviceType::C
    } else if metadata.file_type().is_block_device() {
        LinuxDeviceType::B
    } else {
        return Ok(None);
    };
    let number = metadata.rdev();
    LinuxDeviceBuilder::default()
        .path(target)
        .typ(kind)
        .major(i64::from(rustix::fs::major(number)))
        .minor(i64::from(rustix::fs::minor(number)))
        .file_mode(metadata.mode() & 0o7777)
        .uid(metadata.uid())
        .gid(metadata.gid())
        .build()
        .map(Some)
        .map_err(io::Error::other)
}

/// The system's reason in the words that Go programs use, which clients match on.
pub fn lower(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(path: &str) -> DeviceMapping {
        DeviceMapping {
            path_on_host: path.to_owned(),
            ..DeviceMapping::default()
        }
    }

    #[test]
    fn a_device_brings_its_node_and_its_rule() {
        let (devices, rules) = mapped(&[mapping("/dev/full")]).expect("every host has it");
        assert_eq!((devices[0].major(), devices[0].minor()), (1, 7));
        assert_eq!(rules[0].access().as_deref(), Some("rwm"));
    }

    #[test]
    fn what_is_missing_or_no_device_is_refused_by_name() {
        let error = mapped(&[mapping("/dev/none-such")]).expect_err("missing").to_string();
        assert!(
            error.contains("\"/dev/none-such\"") && error.ends_with("no such file or directory"),
            "{error}"
        );
        assert!(mapped(&[mapping("/etc/passwd")]).is_err());
    }
}

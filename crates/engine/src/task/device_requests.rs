//! Devices asked for by what they can do (`--gpus`), or by a name of the Container Device Interface.
//!
//! There is no driver of our own: whatever a host's drivers describe as CDI devices can be had.
use std::path::PathBuf;

use corten_api::types::container::DeviceRequest;
use oci_spec::runtime::Spec;

use crate::{
    cdi::{edits, registry::Registry},
    error::{Error, Result},
};

/// What `--gpus` may ask to be capable of.
const GPU_CAPABILITIES: [&str; 9] = [
    "gpu", "nvidia", "amd", "compute", "compat32", "graphics", "utility", "video", "display",
];
/// Who describes GPUs, in the order of preference.
const GPU_KINDS: [(&str, &str); 2] = [("nvidia", "nvidia.com/gpu"), ("amd", "amd.com/gpu")];

/// Puts the devices into the specification, and groups that they need into `groups`.
pub fn apply(
    requests: &[DeviceRequest],
    directories: &[PathBuf],
    user: &str,
    spec: &mut Spec,
    groups: &mut Vec<String>,
) -> Result<()> {
    if requests.is_empty() {
        return Ok(());
    }
    let registry = Registry::scan(directories);
    for problem in &registry.problems {
        tracing::warn!("{problem}");
    }
    let names = names(requests, !directories.is_empty(), &registry)?;
    let found = registry.resolve(&names).map_err(|unknown| {
        Error::system(format!(
            "CDI device injection failed: unresolvable CDI devices {}",
            unknown.join(", ")
        ))
    })?;
    let owner = user
        .split(':')
        .next()
        .and_then(|uid| uid.parse().ok())
        .filter(|uid| *uid > 0);
    found
        .into_iter()
        .try_for_each(|device| edits::apply(device, spec, groups, owner))
}

/// Qualified names of all that is asked for.
fn names(requests: &[DeviceRequest], enabled: bool, registry: &Registry) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for request in requests {
        let found = match request.driver.as_str() {
            "cdi" if enabled => by_name(request)?,
            driver @ ("" | "nvidia" | "amd") => by_capability(request, driver, registry)?,
            _ => return Err(no_driver(request)),
        };
        for name in found {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    Ok(names)
}

fn by_name(request: &DeviceRequest) -> Result<Vec<String>> {
    if request.count != 0 {
        return Err(Error::system("unexpected count in CDI device request"));
    }
    if request.options.as_ref().is_some_and(|options| !options.is_empty()) {
        return Err(Error::system("unexpected options in CDI device request"));
    }
    Ok(request.device_ids.clone().unwrap_or_default())
}

fn by_capability(request: &DeviceRequest, driver: &str, registry: &Registry) -> Result<Vec<String>> {
    let sets = request.capabilities.as_deref().unwrap_or_default();
    let known = |set: &Vec<String>| {
        set.iter().any(|word| word == "gpu") && set.iter().all(|word| GPU_CAPABILITIES.contains(&word.as_str()))
    };
    let offered = |(name, kind): &&(&str, &str)| (driver.is_empty() || driver == *name) && registry.has_kind(kind);
    let kind = GPU_KINDS.iter().find(offered).filter(|_| sets.iter().any(known));
    let (_, kind) = kind.ok_or_else(|| no_driver(request))?;
    let ids = request.device_ids.as_deref().unwrap_or_default();
    if request.count != 0 && !ids.is_empty() {
        return Err(Error::system("cannot set both Count and DeviceIDs on device request"));
    }
    Ok(match request.count {
        ..0 => vec![format!("{kind}=all")],
        0 => ids.iter().map(|id| format!("{kind}={id}")).collect(),
        count => (0..count).map(|number| format!("{kind}={number}")).collect(),
    })
}

/// In Docker's words, lists as Go prints them.
fn no_driver(request: &DeviceRequest) -> Error {
    let sets = request.capabilities.iter().flatten();
    let sets: Vec<_> = sets.map(|set| format!("[{}]", set.join(" "))).collect();
    Error::system(format!(
        "could not select device driver {:?} with capabilities: [{}]",
        request.driver,
        sets.join(" ")
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    fn registry(kind: &str) -> Registry {
        let root = tempfile::tempdir().expect("a directory");
        let edits = json!({"env": ["A=b"]});
        let devices: Vec<_> = ["0", "1", "all"]
            .iter()
            .map(|name| json!({"name": name, "containerEdits": edits}))
            .collect();
        let document = json!({"cdiVersion": "0.6.0", "kind": kind, "devices": devices});
        fs::write(root.path().join("a.json"), document.to_string()).expect("it is ours");
        Registry::scan(&[root.path().to_owned()])
    }

    fn gpus(count: i64, ids: &[&str]) -> DeviceRequest {
        DeviceRequest {
            count,
            device_ids: (!ids.is_empty()).then(|| ids.iter().map(|&id| id.to_owned()).collect()),
            capabilities: Some(vec![vec!["gpu".to_owned()]]),
            ..DeviceRequest::default()
        }
    }

    #[test]
    fn gpus_are_cdi_devices_of_who_describes_them() {
        let nvidia = registry("nvidia.com/gpu");
        let of = |request: DeviceRequest| names(&[request], true, &nvidia).expect("there");
        assert_eq!(of(gpus(-1, &[])), ["nvidia.com/gpu=all"]);
        assert_eq!(of(gpus(2, &[])), ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]);
        assert_eq!(
            of(gpus(0, &["1", "GPU-7"])),
            ["nvidia.com/gpu=1", "nvidia.com/gpu=GPU-7"]
        );
        let amd = names(&[gpus(-1, &[])], true, &registry("amd.com/gpu"));
        assert_eq!(amd.expect("there"), ["amd.com/gpu=all"]);
    }

    #[test]
    fn without_a_driver_it_is_said_as_docker_says_it() {
        let none = Registry::default();
        let refused = |request: DeviceRequest| names(&[request], true, &none).expect_err("refused").to_string();
        assert_eq!(
            refused(gpus(-1, &[])),
            "could not select device driver \"\" with capabilities: [[gpu]]"
        );
        let fpga = DeviceRequest {
            driver: "fpga".to_owned(),
            ..DeviceRequest::default()
        };
        assert_eq!(
            refused(fpga),
            "could not select device driver \"fpga\" with capabilities: []"
        );
        let cdi = |enabled| {
            let request = DeviceRequest {
                driver: "cdi".to_owned(),
                device_ids: Some(vec!["v.com/c=a".to_owned()]),
                ..DeviceRequest::default()
            };
            names(&[request], enabled, &none).map_err(|error| error.to_string())
        };
        assert_eq!(cdi(true), Ok(vec!["v.com/c=a".to_owned()]));
        assert_eq!(
            cdi(false),
            Err("could not select device driver \"cdi\" with capabilities: []".to_owned())
        );
    }

    #[test]
    fn count_and_names_exclude_each_other() {
        let error = names(&[gpus(1, &["0"])], true, &registry("nvidia.com/gpu")).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "cannot set both Count and DeviceIDs on device request"
        );
    }
}

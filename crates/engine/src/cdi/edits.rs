//! What a device of the Container Device Interface changes, done to a container's specification.
use std::{fs, os::unix::fs::MetadataExt, path::Path};

use oci_spec::runtime::{Hook, LinuxDevice, LinuxDeviceBuilder, LinuxDeviceType, LinuxNetDevice, Mount, Spec};

use crate::{
    cdi::document::{self, DeviceNode, Edits, NetDevice},
    error::{Error, Result},
    task::{devices::lower, resources},
};

/// Applies edits; additional groups go to `groups`. `owner` is the container's user where it is a number.
pub fn apply(edits: &Edits, spec: &mut Spec, groups: &mut Vec<String>, owner: Option<u32>) -> Result<()> {
    if edits.intel_rdt.is_some() {
        return Err(Error::not_implemented("Intel RDT (intelRdt of a CDI device)"));
    }
    set_environment(spec, &edits.env);
    for node in &edits.device_nodes {
        add_device(spec, node, owner)?;
    }
    add_network_devices(spec, &edits.net_devices);
    add_mounts(spec, &edits.mounts);
    add_hooks(spec, &edits.hooks);
    groups.extend(edits.additional_gids.iter().map(u32::to_string));
    Ok(())
}

fn set_environment(spec: &mut Spec, variables: &[String]) {
    let Some(process) = spec.process_mut().as_mut().filter(|_| !variables.is_empty()) else {
        return;
    };
    let mut environment = process.env().clone().unwrap_or_default();
    for variable in variables {
        let name = variable.split('=').next();
        match environment.iter_mut().find(|known| known.split('=').next() == name) {
            Some(known) => known.clone_from(variable),
            None => environment.push(variable.clone()),
        }
    }
    process.set_env(Some(environment));
}

fn add_device(spec: &mut Spec, node: &DeviceNode, owner: Option<u32>) -> Result<()> {
    let device = device(node, owner)?;
    let mut linux = spec.linux().clone().unwrap_or_default();
    let mut devices = linux.devices().clone().unwrap_or_default();
    devices.retain(|known| known.path() != device.path());
    if matches!(device.typ(), LinuxDeviceType::B | LinuxDeviceType::C) {
        let access = match node.permissions.as_str() {
            "" => "rwm",
            letters => letters,
        };
        let mut limits = linux.resources().clone().unwrap_or_default();
        let mut rules = limits.devices().clone().unwrap_or_default();
        let (major, minor) = (Some(device.major()), Some(device.minor()));
        rules.push(resources::rule(true, device.typ(), major, minor, access));
        limits.set_devices(Some(rules));
        linux.set_resources(Some(limits));
    }
    devices.push(device);
    linux.set_devices(Some(devices));
    spec.set_linux(Some(linux));
    Ok(())
}

fn add_network_devices(spec: &mut Spec, devices: &[NetDevice]) {
    let Some(linux) = spec.linux_mut().as_mut().filter(|_| !devices.is_empty()) else {
        return;
    };
    let mut all = linux.net_devices().clone().unwrap_or_default();
    for device in devices {
        let mut moved = LinuxNetDevice::default();
        moved.set_name(Some(device.name.clone()).filter(|name| !name.is_empty()));
        all.insert(device.host_interface_name.clone(), moved);
    }
    linux.set_net_devices(Some(all));
}

/// What the document does not say is as the host's own node is.
fn device(node: &DeviceNode, owner: Option<u32>) -> Result<LinuxDevice> {
    let mut filled = node.clone();
    let known = !node.kind.is_empty() && (node.kind == "p" || (node.major, node.minor) != (0, 0));
    if !known {
        let path = match node.host_path.as_str() {
            "" => &node.path,
            path => path,
        };
        fill_in(&mut filled, Path::new(path))?;
    }
    let kind = match filled.kind.as_str() {
        "b" => LinuxDeviceType::B,
        "p" => LinuxDeviceType::P,
        _ => LinuxDeviceType::C,
    };
    LinuxDeviceBuilder::default()
        .path(&filled.path)
        .typ(kind)
        .major(filled.major)
        .minor(filled.minor)
        .file_mode(filled.file_mode.unwrap_or(0o666))
        .uid(filled.uid.or(owner).unwrap_or(0))
        .gid(filled.gid.unwrap_or(0))
        .build()
        .map_err(|error| Error::system(format!("CDI device node {}", node.path)).because(error))
}

fn fill_in(node: &mut DeviceNode, host_path: &Path) -> Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let failed = |reason: String| {
        Error::system(format!(
            "failed to stat CDI host device {:?}: {reason}",
            host_path.display().to_string()
        ))
    };
    let metadata = fs::metadata(host_path).map_err(|error| failed(lower(&error)))?;
    let found = match metadata.file_type() {
        kind if kind.is_char_device() => "c",
        kind if kind.is_block_device() => "b",
        kind if kind.is_fifo() => "p",
        _ => return Err(failed("it is not a device".to_owned())),
    };
    if !matches!((node.kind.as_str(), found), ("", _) | ("u", "c")) && node.kind != found {
        return Err(failed(format!("it is of type {found}, not {}", node.kind)));
    }
    found.clone_into(&mut node.kind);
    if (node.major, node.minor) == (0, 0) && found != "p" {
        node.major = i64::from(rustix::fs::major(metadata.rdev()));
        node.minor = i64::from(rustix::fs::minor(metadata.rdev()));
    }
    node.file_mode.get_or_insert(metadata.mode() & 0o7777);
    Ok(())
}

/// One target, one mount; parents before what is in them.
fn add_mounts(spec: &mut Spec, mounts: &[document::Mount]) {
    if mounts.is_empty() {
        return;
    }
    let mut all = spec.mounts().clone().unwrap_or_default();
    for asked in mounts {
        let mut mount = Mount::default();
        let mut options = asked.options.clone();
        let bound = options.iter().any(|option| option == "bind" || option == "rbind");
        let kind = match asked.kind.as_str() {
            "" => "bind",
            kind => kind,
        };
        if kind == "bind" && !bound {
            options.push("rbind".to_owned());
        }
        mount.set_typ(Some(kind.to_owned()));
        mount.set_source(Some(asked.host_path.clone().into()));
        mount.set_destination(asked.container_path.clone().into());
        mount.set_options(Some(options));
        all.retain(|known| known.destination() != mount.destination());
        all.push(mount);
    }
    all.sort_by_key(|mount| mount.destination().components().count());
    spec.set_mounts(Some(all));
}

#[allow(deprecated)]
fn add_hooks(spec: &mut Spec, hooks: &[document::Hook]) {
    for asked in hooks {
        let mut hook = Hook::default();
        hook.set_path(asked.path.clone().into());
        hook.set_args((!asked.args.is_empty()).then(|| asked.args.clone()));
        hook.set_env((!asked.env.is_empty()).then(|| asked.env.clone()));
        hook.set_timeout(asked.timeout);
        let mut all = spec.hooks().clone().unwrap_or_default();
        let list = match asked.hook_name.as_str() {
            "prestart" => all.prestart_mut(),
            "createRuntime" => all.create_runtime_mut(),
            "createContainer" => all.create_container_mut(),
            "startContainer" => all.start_container_mut(),
            "poststart" => all.poststart_mut(),
            _ => all.poststop_mut(),
        };
        list.get_or_insert_default().push(hook);
        spec.set_hooks(Some(all));
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    fn edits(value: serde_json::Value) -> Edits {
        Edits::deserialize(value).expect("edits")
    }

    fn spec() -> Spec {
        serde_json::from_value(json!({
            "ociVersion": "1.2.0",
            "process": {"cwd": "/", "args": ["sh"], "env": ["A=1", "PATH=/bin"], "user": {"uid": 0, "gid": 0}},
            "mounts": [{"destination": "/usr/lib/deep", "type": "bind", "source": "/x", "options": ["rbind"]}],
            "linux": {"resources": {"devices": [{"allow": false, "access": "rwm"}]}},
        }))
        .expect("a specification")
    }

    #[test]
    fn everything_that_a_device_brings_is_put_in() {
        let (mut spec, mut groups) = (spec(), Vec::new());
        let edits = edits(json!({
            "env": ["A=2", "B=3"],
            "deviceNodes": [
                {"path": "/dev/card", "hostPath": "/dev/null", "permissions": "rw"},
                {"path": "/dev/made", "type": "c", "major": 7, "minor": 9, "fileMode": 0o600, "gid": 44},
            ],
            "mounts": [{"hostPath": "/host/lib", "containerPath": "/usr/lib", "options": ["ro", "nosuid"]}],
            "hooks": [{"hookName": "createContainer", "path": "/bin/hook", "args": ["hook", "x"], "timeout": 5}],
            "additionalGids": [44, 101],
        }));
        apply(&edits, &mut spec, &mut groups, Some(1000)).expect("applies");
        let spec = serde_json::to_value(&spec).expect("a document");
        assert_eq!(spec["process"]["env"], json!(["A=2", "PATH=/bin", "B=3"]));
        let devices = &spec["linux"]["devices"];
        assert_eq!((&devices[0]["major"], &devices[0]["minor"]), (&json!(1), &json!(3)));
        assert_eq!(
            (&devices[0]["path"], &devices[0]["uid"]),
            (&json!("/dev/card"), &json!(1000))
        );
        assert_eq!(
            (&devices[1]["fileMode"], &devices[1]["gid"]),
            (&json!(0o600), &json!(44))
        );
        let rules = &spec["linux"]["resources"]["devices"];
        assert_eq!((&rules[1]["major"], &rules[1]["access"]), (&json!(1), &json!("rw")));
        assert_eq!((&rules[2]["major"], &rules[2]["access"]), (&json!(7), &json!("rwm")));
        assert_eq!(spec["mounts"][0]["destination"], "/usr/lib");
        assert_eq!(spec["mounts"][0]["options"], json!(["ro", "nosuid", "rbind"]));
        assert_eq!(spec["hooks"]["createContainer"][0]["args"], json!(["hook", "x"]));
        assert_eq!(groups, ["44", "101"]);
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        let refused = |value| {
            apply(&edits(value), &mut spec(), &mut Vec::new(), None)
                .expect_err("refused")
                .to_string()
        };
        assert!(refused(json!({"intelRdt": {"closID": "a"}})).starts_with("Intel RDT"));
        assert_eq!(
            refused(json!({"deviceNodes": [{"path": "/dev/none-such"}]})),
            "failed to stat CDI host device \"/dev/none-such\": no such file or directory"
        );
        assert!(refused(json!({"deviceNodes": [{"path": "/dev/null", "type": "b"}]})).contains("of type c, not b"));
    }
}

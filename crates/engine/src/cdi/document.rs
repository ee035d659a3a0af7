//! A specification of the Container Device Interface: devices by name, and what each changes about a container.
//!
//! Versions 0.3.0 to 1.1.0 of the interface. A document that uses something must declare a version that has it.
use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use crate::cdi::yaml;

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Document {
    #[serde(rename = "cdiVersion")]
    pub version: String,
    /// `vendor.com/class`.
    pub kind: String,
    pub annotations: BTreeMap<String, String>,
    pub devices: Vec<Device>,
    /// For every container that has one of the devices.
    pub container_edits: Edits,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Device {
    pub name: String,
    pub annotations: BTreeMap<String, String>,
    pub container_edits: Edits,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Edits {
    pub env: Vec<String>,
    pub device_nodes: Vec<DeviceNode>,
    pub net_devices: Vec<NetDevice>,
    pub hooks: Vec<Hook>,
    pub mounts: Vec<Mount>,
    pub intel_rdt: Option<Value>,
    #[serde(rename = "additionalGids")]
    pub additional_gids: Vec<u32>,
}

/// A network device of the host's that goes into the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NetDevice {
    pub host_interface_name: String,
    /// In the container; the same when empty.
    pub name: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DeviceNode {
    pub path: String,
    /// Where the host has it; the same path when empty.
    pub host_path: String,
    /// `b`, `c`, `u` or `p`; what the host's node is when empty.
    #[serde(rename = "type")]
    pub kind: String,
    pub major: i64,
    pub minor: i64,
    pub file_mode: Option<u32>,
    /// Letters of `rwm`; all of them when empty.
    pub permissions: String,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Mount {
    pub host_path: String,
    pub container_path: String,
    pub options: Vec<String>,
    #[serde(rename = "type")]
    pub kind: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Hook {
    /// `createContainer` and the like.
    pub hook_name: String,
    pub path: String,
    pub args: Vec<String>,
    pub env: Vec<String>,
    /// Seconds.
    pub timeout: Option<i64>,
}

pub const HOOKS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];
const VERSIONS: [&str; 8] = ["0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];

impl Document {
    /// Reads and checks JSON, which is YAML too.
    pub fn parse(text: &str, is_json: bool) -> Result<Document, String> {
        let value: Value = match is_json {
            true => serde_json::from_str(text).map_err(|error| error.to_string())?,
            false => yaml::parse(text)?,
        };
        let document = Document::deserialize(without_nulls(value)).map_err(|error| error.to_string())?;
        document.check()?;
        Ok(document)
    }

    fn check(&self) -> Result<(), String> {
        let declared = VERSIONS
            .iter()
            .position(|version| *version == self.version)
            .ok_or_else(|| format!("invalid version {:?}", self.version))?;
        check_kind(&self.kind)?;
        if self.devices.is_empty() {
            return Err("invalid spec, no devices".to_owned());
        }
        let mut names = BTreeSet::new();
        for device in &self.devices {
            check_device_name(&device.name)?;
            if !names.insert(&device.name) {
                return Err(format!("invalid spec, multiple device {:?}", device.name));
            }
            if device.container_edits == Edits::default() {
                return Err(format!("invalid device {:?}, empty device edits", device.name));
            }
            device.container_edits.check()?;
        }
        self.container_edits.check()?;
        let needed = self.needed_version();
        if VERSIONS.iter().position(|version| *version == needed) > Some(declared) {
            return Err(format!("the spec version must be at least v{needed}"));
        }
        Ok(())
    }

    /// The first version with all that is used here.
    fn needed_version(&self) -> &'static str {
        let edits = || {
            let own = self.devices.iter().map(|device| &device.container_edits);
            own.chain([&self.container_edits])
        };
        let any = |uses: fn(&Edits) -> bool| edits().any(uses);
        let annotated = !self.annotations.is_empty() || self.devices.iter().any(|d| !d.annotations.is_empty());
        let dotted_class = self.kind.split_once('/').is_some_and(|(_, class)| class.contains('.'));
        let numbered = self
            .devices
            .iter()
            .any(|d| d.name.starts_with(|c: char| c.is_ascii_digit()));
        if any(|edits| !edits.net_devices.is_empty()) {
            "1.1.0"
        } else if any(|edits| edits.intel_rdt.is_some() || !edits.additional_gids.is_empty()) {
            "0.7.0"
        } else if annotated || dotted_class {
            "0.6.0"
        } else if numbered || any(|edits| edits.device_nodes.iter().any(|node| !node.host_path.is_empty())) {
            "0.5.0"
        } else if any(|edits| edits.mounts.iter().any(|mount| !mount.kind.is_empty())) {
            "0.4.0"
        } else {
            "0.3.0"
        }
    }
}

impl Edits {
    fn check(&self) -> Result<(), String> {
        for variable in &self.env {
            match variable.split_once('=') {
                Some((name, _)) if !name.is_empty() => {}
                _ => return Err(format!("invalid environment variable {variable:?}")),
            }
        }
        for node in &self.device_nodes {
            if !node.path.starts_with('/') {
                return Err(format!("invalid (empty or relative) device path {:?}", node.path));
            }
            if !matches!(node.kind.as_str(), "" | "b" | "c" | "u" | "p") {
                return Err(format!("device {:?}, invalid type {:?}", node.path, node.kind));
            }
            if !node.permissions.bytes().all(|letter| b"rwm".contains(&letter)) {
                return Err(format!(
                    "device {:?}, invalid permissions {:?}",
                    node.path, node.permissions
                ));
            }
        }
        for mount in &self.mounts {
            if mount.host_path.is_empty() || !mount.container_path.starts_with('/') {
                return Err(format!(
                    "invalid mount, empty host path or no absolute container path: {:?}, {:?}",
                    mount.host_path, mount.container_path
                ));
            }
        }
        for hook in &self.hooks {
            if !HOOKS.contains(&hook.hook_name.as_str()) {
                return Err(format!("invalid hook name {:?}", hook.hook_name));
            }
            if hook.path.is_empty() {
                return Err(format!("invalid hook {:?} with empty path", hook.hook_name));
            }
        }
        Ok(())
    }
}

/// As Go reads `null`: as if it were not there.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

fn check_kind(kind: &str) -> Result<(), String> {
    let word = |text: &str, more: &[u8]| {
        let ends = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        text.bytes().next().is_some_and(|c| c.is_ascii_alphabetic())
            && ends(text.bytes().last())
            && text.bytes().all(|c| c.is_ascii_alphanumeric() || more.contains(&c))
    };
    match kind.split_once('/') {
        Some((vendor, class)) if word(vendor, b"_-.") && word(class, b"_-.") => Ok(()),
        _ => Err(format!("invalid kind {kind:?}")),
    }
}

fn check_device_name(name: &str) -> Result<(), String> {
    let ends = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let good = ends(name.bytes().next())
        && ends(name.bytes().last())
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"_-.:".contains(&c));
    if good {
        Ok(())
    } else {
        Err(format!("invalid device name {name:?}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: Value) -> Result<Document, String> {
        Document::parse(&value.to_string(), true)
    }

    fn with(version: &str, edits: Value) -> Result<Document, String> {
        let devices = json!([{"name": "one", "containerEdits": edits}]);
        parse(json!({"cdiVersion": version, "kind": "vendor.com/class", "devices": devices}))
    }

    #[test]
    fn json_and_yaml_say_the_same() {
        let text = "cdiVersion: 0.6.0\nkind: vendor.com/class\nannotations: {a: b}\ndevices:\n- name: '0'\n  \
                    containerEdits:\n    env: [A=b]\n    deviceNodes:\n    - path: /dev/null\n      type: c\n      \
                    major: 1\n      minor: 3\n    hooks:\n    - hookName: createContainer\n      path: /bin/true\n      \
                    timeout: 5\n    mounts:\n    - hostPath: /a\n      containerPath: /b\n      options: [ro]\n";
        let json = json!({
            "cdiVersion": "0.6.0", "kind": "vendor.com/class", "annotations": {"a": "b"},
            "devices": [{"name": "0", "containerEdits": {
                "env": ["A=b"], "deviceNodes": [{"path": "/dev/null", "type": "c", "major": 1, "minor": 3}],
                "hooks": [{"hookName": "createContainer", "path": "/bin/true", "timeout": 5}],
                "mounts": [{"hostPath": "/a", "containerPath": "/b", "options": ["ro"]}]}}],
            "containerEdits": null,
        });
        assert_eq!(Document::parse(text, false).unwrap(), parse(json).unwrap());
    }

    #[test]
    fn a_version_must_have_what_is_used() {
        let gids = json!({"additionalGids": [5]});
        assert_eq!(
            with("0.6.0", gids.clone()).unwrap_err(),
            "the spec version must be at least v0.7.0"
        );
        assert!(with("0.7.0", gids).is_ok());
        let host_path = json!({"deviceNodes": [{"path": "/dev/a", "hostPath": "/dev/b"}]});
        assert!(with("0.4.0", host_path.clone()).unwrap_err().ends_with("v0.5.0"));
        assert!(with("0.8.0", host_path).is_ok());
        let tmpfs = json!({"mounts": [{"hostPath": "tmpfs", "containerPath": "/a", "type": "tmpfs"}]});
        assert!(with("0.3.0", tmpfs).unwrap_err().ends_with("v0.4.0"));
        assert_eq!(
            with("0.9.9", json!({"env": ["A=b"]})).unwrap_err(),
            r#"invalid version "0.9.9""#
        );
        assert!(with("1.0.0", json!({"env": ["A=b"]})).is_ok());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |edits| with("1.1.0", edits).unwrap_err();
        assert!(refused(json!({})).contains("empty device edits"));
        assert!(refused(json!({"env": ["x"]})).contains("environment variable"));
        assert!(refused(json!({"hooks": [{"hookName": "later", "path": "/a"}]})).contains("hook name"));
        assert!(refused(json!({"deviceNodes": [{"path": "/dev/a", "type": "x"}]})).contains("invalid type"));
        assert!(refused(json!({"deviceNodes": [{"path": "/dev/a", "permissions": "q"}]})).contains("permissions"));
        assert!(refused(json!({"mounts": [{"hostPath": "/a", "containerPath": "b"}]})).contains("invalid mount"));
        assert!(refused(json!({"envs": []})).contains("unknown field `envs`"));
        let named = |name: &str| {
            parse(json!({"cdiVersion": "0.6.0", "kind": "v.com/c",
                "devices": [{"name": name, "containerEdits": {"env": ["A=b"]}}]}))
        };
        assert!(named("a=b").is_err() && named("").is_err() && named("-a").is_err() && named("0.mig:1").is_ok());
        let kind = |kind: &str| {
            parse(json!({"cdiVersion": "0.6.0", "kind": kind,
                "devices": [{"name": "a", "containerEdits": {"env": ["A=b"]}}]}))
        };
        assert!(kind("class").is_err() && kind("/c").is_err() && kind("0v/c").is_err() && kind("v/c/d").is_err());
    }
}

//! `--volume`, `--mount` and `--tmpfs`.
//!
//! `-v /path` without a colon is an anonymous volume and travels in the portable half of the request; with a colon it
//! is a bind or a named volume, and the daemon tells which by the leading slash.
use std::path::PathBuf;

use corten_api::types::container::{BindOptions, Mount, TmpfsOptions};
use serde_json::{Map, Value, json};

use crate::arguments;
use crate::flags::csv;
use crate::units;

/// Makes `.` and `./x` absolute: only the client knows where it stands.
fn absolute(source: &str) -> String {
    let relative = source == "." || source.starts_with("./") || source == ".." || source.starts_with("../");
    if !relative {
        return source.to_string();
    }
    let Ok(here) = std::env::current_dir() else {
        return source.to_string();
    };
    let mut path = PathBuf::new();
    for part in here.join(source).components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                path.pop();
            }
            part => path.push(part),
        }
    }
    path.to_string_lossy().into_owned()
}

/// One `--volume`.
#[derive(Debug, PartialEq)]
pub enum Volume {
    Bind(String),
    Anonymous(String),
}

pub fn parse_volume(text: &str) -> Result<Volume, String> {
    if text.is_empty() {
        return Err("invalid empty volume spec".to_string());
    }
    Ok(match text.split_once(':') {
        Some((source, rest)) => Volume::Bind(format!("{}:{rest}", absolute(source))),
        None => Volume::Anonymous(text.to_string()),
    })
}

/// A check: a mount.
pub fn mount(text: &str) -> Result<(), String> {
    parse_mount(text).map(drop)
}

/// Reads `type=bind,source=/a,target=/b,…`.
pub fn parse_mount(text: &str) -> Result<Mount, String> {
    let mut mount = Mount {
        kind: "volume".to_string(),
        ..Mount::default()
    };
    let mut options = Options::default();
    for field in csv::fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        if value.is_none() && !SWITCHES.contains(&key.as_str()) {
            return Err(format!("invalid field '{field}' must be a key=value pair"));
        }
        let value = value.unwrap_or("true");
        match key.as_str() {
            "type" => mount.kind = value.to_lowercase(),
            "source" | "src" => mount.source = value.to_string(),
            "target" | "dst" | "destination" => mount.target = value.to_string(),
            "readonly" | "ro" => mount.read_only = truth(&key, value)?,
            "consistency" => mount.consistency = Some(value.to_lowercase()),
            _ if options.set(&key, value)? => {}
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    if mount.target.is_empty() {
        return Err("target is required".to_string());
    }
    if mount.kind.is_empty() {
        return Err("type is required".to_string());
    }
    if let Some(family) = options.families().find(|family| *family != mount.kind) {
        return Err(format!(
            "cannot mix '{family}-*' options with mount type '{}'",
            mount.kind
        ));
    }
    if mount.kind == "bind" {
        mount.source = absolute(&mount.source);
    }
    mount.bind_options = options.bind;
    mount.tmpfs_options = options.tmpfs;
    mount.volume_options = (!options.volume.is_empty()).then_some(Value::Object(options.volume));
    mount.image_options = (!options.image.is_empty()).then_some(Value::Object(options.image));
    Ok(mount)
}

/// Keys that need no value.
const SWITCHES: [&str; 4] = ["readonly", "ro", "volume-nocopy", "bind-nonrecursive"];

fn truth(key: &str, value: &str) -> Result<bool, String> {
    arguments::boolean(value).map_err(|_| format!("invalid value for {key}: {value}"))
}

/// Options that belong to one type of mount.
#[derive(Default)]
struct Options {
    bind: Option<BindOptions>,
    tmpfs: Option<TmpfsOptions>,
    volume: Map<String, Value>,
    image: Map<String, Value>,
}

impl Options {
    /// Whether the key is one of these.
    fn set(&mut self, key: &str, value: &str) -> Result<bool, String> {
        let refuse = || format!("invalid value for {key}: {value}");
        match key {
            "bind-propagation" => self.bind.get_or_insert_default().propagation = Some(value.to_lowercase()),
            "bind-nonrecursive" => self.bind.get_or_insert_default().non_recursive = truth(key, value)?,
            "bind-recursive" => recursive(self.bind.get_or_insert_default(), value)?,
            "volume-subpath" => drop(self.volume.insert("Subpath".to_string(), json!(value))),
            "volume-nocopy" => drop(self.volume.insert("NoCopy".to_string(), json!(truth(key, value)?))),
            "volume-label" => insert(&mut self.volume, &["Labels"], value),
            "volume-driver" => {
                let driver = self.volume.entry("DriverConfig").or_insert_with(|| json!({}));
                driver["Name"] = json!(value);
            }
            "volume-opt" => insert(&mut self.volume, &["DriverConfig", "Options"], value),
            "image-subpath" => drop(self.image.insert("Subpath".to_string(), json!(value))),
            "tmpfs-size" => {
                let size = units::parse_bytes(value).map_err(|_| refuse())?;
                self.tmpfs.get_or_insert_default().size_bytes = size;
            }
            "tmpfs-mode" => {
                let mode = u32::from_str_radix(value, 8).map_err(|_| refuse())?;
                self.tmpfs.get_or_insert_default().mode = mode;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The types that options were given for.
    fn families(&self) -> impl Iterator<Item = &'static str> {
        let given = [
            ("volume", !self.volume.is_empty()),
            ("bind", self.bind.is_some()),
            ("image", !self.image.is_empty()),
            ("tmpfs", self.tmpfs.is_some()),
        ];
        given.into_iter().filter_map(|(family, given)| given.then_some(family))
    }
}

fn recursive(options: &mut BindOptions, value: &str) -> Result<(), String> {
    match value {
        "enabled" => {}
        "disabled" => options.non_recursive = true,
        "writable" => options.read_only_non_recursive = true,
        "readonly" => options.read_only_force_recursive = true,
        _ => {
            let choice = r#"must be "enabled", "disabled", "writable", or "readonly""#;
            return Err(format!("invalid value for bind-recursive: {value} ({choice})"));
        }
    }
    Ok(())
}

/// Puts `key=value` into a map nested under `path`.
fn insert(options: &mut Map<String, Value>, path: &[&str], pair: &str) {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    let mut map = options;
    for name in path {
        let inner = map.entry(name.to_string()).or_insert_with(|| json!({}));
        map = inner.as_object_mut().expect("only objects are put under these names");
    }
    map.insert(key.to_string(), json!(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> String {
        match parse_mount(text) {
            Ok(mount) => serde_json::to_string(&mount).unwrap(),
            Err(reason) => format!("! {reason}"),
        }
    }

    /// What Docker's own client sends for the same flags.
    #[test]
    fn mounts_travel_as_dockers_client_sends_them() {
        let cases = [
            (
                "type=bind,src=/a,dst=/b,ro",
                r#"{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true}"#,
            ),
            (
                "type=bind,source=rel,target=/b,bind-propagation=rshared,bind-recursive=disabled",
                r#"{"Type":"bind","Source":"rel","Target":"/b","BindOptions":{"Propagation":"rshared","NonRecursive":true}}"#,
            ),
            (
                "type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=1770",
                r#"{"Type":"tmpfs","Source":"","Target":"/t","TmpfsOptions":{"SizeBytes":67108864,"Mode":1016}}"#,
            ),
            ("dst=/x", r#"{"Type":"volume","Source":"","Target":"/x"}"#),
            (
                "type=volume,src=v,dst=/b,volume-nocopy,volume-label=a=b,volume-driver=local,volume-opt=o=p",
                r#"{"Type":"volume","Source":"v","Target":"/b","VolumeOptions":{"DriverConfig":{"Name":"local","Options":{"o":"p"}},"Labels":{"a":"b"},"NoCopy":true}}"#,
            ),
            ("type=x", "! target is required"),
            (
                "type=bind,src=/a,dst=/x,volume-nocopy",
                "! cannot mix 'volume-*' options with mount type 'bind'",
            ),
            ("foo=bar,dst=/x", "! unexpected key 'foo' in 'foo=bar'"),
            ("dst=/x,readonly=zz", "! invalid value for readonly: zz"),
            (
                "type=bind,dst=/x,nope",
                "! invalid field 'nope' must be a key=value pair",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(show(text), expected, "{text}");
        }
    }

    #[test]
    fn a_volume_without_a_colon_is_anonymous() {
        assert_eq!(parse_volume("/anon"), Ok(Volume::Anonymous("/anon".to_string())));
        assert_eq!(parse_volume("name:/e:ro"), Ok(Volume::Bind("name:/e:ro".to_string())));
        let here = std::env::current_dir().unwrap();
        assert_eq!(
            parse_volume("./rel:/f"),
            Ok(Volume::Bind(format!("{}/rel:/f", here.display())))
        );
        assert!(parse_volume("").is_err());
    }
}

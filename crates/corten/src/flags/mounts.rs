//! `--volume`, `--mount` and `--tmpfs`.
//!
//! `-v /path` without a colon is an anonymous volume and travels in the portable half of the request; with a colon it
//! is a bind or a named volume, and the daemon tells which by the leading slash.
use std::path::PathBuf;

use corten_api::types::container::{BindOptions, Mount, TmpfsOptions};
use serde_json::{Map, Value, json};

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
    let mut bind = None::<BindOptions>;
    let mut tmpfs = None::<TmpfsOptions>;
    let mut volume = Map::new();
    let mut image = Map::new();
    for field in csv::fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        let switch = matches!(key.as_str(), "readonly" | "ro" | "volume-nocopy" | "bind-nonrecursive");
        if value.is_none() && !switch {
            return Err(format!("invalid field '{field}' must be a key=value pair"));
        }
        let value = value.unwrap_or("true");
        let truth = || super::super::arguments::boolean(value).map_err(|_| format!("invalid value for {key}: {value}"));
        match key.as_str() {
            "type" => mount.kind = value.to_lowercase(),
            "source" | "src" => {
                mount.source = value.to_string();
            }
            "target" | "dst" | "destination" => mount.target = value.to_string(),
            "readonly" | "ro" => mount.read_only = truth()?,
            "consistency" => mount.consistency = Some(value.to_lowercase()),
            "bind-propagation" => bind.get_or_insert_default().propagation = Some(value.to_lowercase()),
            "bind-nonrecursive" => bind.get_or_insert_default().non_recursive = truth()?,
            "bind-recursive" => recursive(bind.get_or_insert_default(), value)?,
            "volume-subpath" => drop(volume.insert("Subpath".to_string(), json!(value))),
            "volume-nocopy" => drop(volume.insert("NoCopy".to_string(), json!(truth()?))),
            "volume-label" => insert(&mut volume, &["Labels"], value),
            "volume-driver" => {
                let driver = volume.entry("DriverConfig").or_insert_with(|| json!({}));
                driver["Name"] = json!(value);
            }
            "volume-opt" => insert(&mut volume, &["DriverConfig", "Options"], value),
            "image-subpath" => drop(image.insert("Subpath".to_string(), json!(value))),
            "tmpfs-size" => {
                let size = units::parse_bytes(value).map_err(|_| format!("invalid value for {key}: {value}"))?;
                tmpfs.get_or_insert_default().size_bytes = size;
            }
            "tmpfs-mode" => {
                let mode = u32::from_str_radix(value, 8).map_err(|_| format!("invalid value for {key}: {value}"))?;
                tmpfs.get_or_insert_default().mode = mode;
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    let present = [
        ("volume", !volume.is_empty()),
        ("bind", bind.is_some()),
        ("image", !image.is_empty()),
        ("tmpfs", tmpfs.is_some()),
    ];
    if mount.target.is_empty() {
        return Err("target is required".to_string());
    }
    if mount.kind.is_empty() {
        return Err("type is required".to_string());
    }
    if let Some((family, _)) = present
        .iter()
        .find(|(family, present)| *present && *family != mount.kind)
    {
        return Err(format!(
            "cannot mix '{family}-*' options with mount type '{}'",
            mount.kind
        ));
    }
    if mount.kind == "bind" {
        mount.source = absolute(&mount.source);
    }
    mount.bind_options = bind;
    mount.tmpfs_options = tmpfs;
    mount.volume_options = (!volume.is_empty()).then_some(Value::Object(volume));
    mount.image_options = (!image.is_empty()).then_some(Value::Object(image));
    Ok(mount)
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

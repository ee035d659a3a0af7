//! `--volume`, `--mount` and `--tmpfs`.
//!
//! `-v /path` without a colon is an anonymous volume and travels in the portable half of the request; with a colon it
//! is a bind or a named volume, and the daemon tells which by the leading slash.
use std::{collections::BTreeMap, path::PathBuf};

use corten_api::types::container::{BindOptions, IdMapping, ImageOptions, Mount, TmpfsOptions, VolumeOptions};

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
    let mut recursive = None;
    let fields = csv::fields(text)?;
    for field in &fields {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        if value.is_none() && !SWITCHES.contains(&key.as_str()) {
            return Err(format!("invalid field '{field}' must be a key=value pair"));
        }
        let value = value.unwrap_or(if key == "bind-idmap" { "match-user" } else { "true" });
        match key.as_str() {
            "type" => mount.kind = value.to_lowercase(),
            "source" | "src" => mount.source = value.to_string(),
            "target" | "dst" | "destination" => mount.target = value.to_string(),
            "readonly" | "ro" => mount.read_only = truth(&key, value)?,
            "consistency" => mount.consistency = Some(value.to_lowercase()),
            _ if options.set(&key, value)? => {
                if key == "bind-recursive" {
                    recursive = Some(value);
                }
            }
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
    mount.volume_options = options.volume;
    mount.image_options = options.image;
    check_recursion(&mount, recursive)?;
    Ok(mount)
}

/// What `bind-recursive` needs beside it.
fn check_recursion(mount: &Mount, recursive: Option<&str>) -> Result<(), String> {
    let require = |what: &str| {
        let word = recursive.unwrap_or_default();
        Err(format!(
            "option 'bind-recursive={word}' requires '{what}' to be specified in conjunction"
        ))
    };
    match recursive {
        Some("writable" | "readonly") if !mount.read_only => require("readonly"),
        Some("readonly") => {
            let options = mount.bind_options.as_ref();
            let propagation = options.and_then(|options| options.propagation.as_deref());
            match propagation {
                Some("rprivate") => Ok(()),
                _ => require("bind-propagation=rprivate"),
            }
        }
        _ => Ok(()),
    }
}

/// Keys that need no value.
const SWITCHES: [&str; 6] = [
    "readonly",
    "ro",
    "volume-nocopy",
    "bind-nonrecursive",
    "bind-create-src",
    "bind-idmap",
];

fn truth(key: &str, value: &str) -> Result<bool, String> {
    arguments::boolean(value).map_err(|_| format!("invalid value for {key}: {value}"))
}

/// Options that belong to one type of mount.
#[derive(Default)]
struct Options {
    bind: Option<BindOptions>,
    tmpfs: Option<TmpfsOptions>,
    volume: Option<VolumeOptions>,
    image: Option<ImageOptions>,
}

impl Options {
    /// Whether the key is one of these.
    fn set(&mut self, key: &str, value: &str) -> Result<bool, String> {
        let refuse = || format!("invalid value for {key}: {value}");
        match key {
            "bind-propagation" => self.bind.get_or_insert_default().propagation = Some(value.to_lowercase()),
            "bind-nonrecursive" => self.bind.get_or_insert_default().non_recursive = truth(key, value)?,
            "bind-recursive" => recursive(self.bind.get_or_insert_default(), value)?,
            "bind-create-src" => self.bind.get_or_insert_default().create_mountpoint = truth(key, value)?,
            "bind-idmap" => self.bind.get_or_insert_default().id_mapping = Some(id_mapping(value)?),
            "volume-subpath" => self.volume().subpath = value.to_string(),
            "volume-nocopy" => self.volume().no_copy = truth(key, value)?,
            "volume-label" => insert(self.volume().labels.get_or_insert_default(), value),
            "volume-driver" => self.volume().driver_config.get_or_insert_default().name = value.to_string(),
            "volume-opt" => {
                let driver = self.volume().driver_config.get_or_insert_default();
                insert(driver.options.get_or_insert_default(), value);
            }
            "image-subpath" => self.image.get_or_insert_default().subpath = value.to_string(),
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

    /// Docker's client sends a driver, without a name, as soon as there is any option.
    fn volume(&mut self) -> &mut VolumeOptions {
        let options = self.volume.get_or_insert_default();
        options.driver_config.get_or_insert_default();
        options
    }

    /// The types that options were given for.
    fn families(&self) -> impl Iterator<Item = &'static str> {
        let given = [
            ("volume", self.volume.is_some()),
            ("bind", self.bind.is_some()),
            ("image", self.image.is_some()),
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

/// `match-user`, `match-user:USER` or `userns`.
fn id_mapping(value: &str) -> Result<IdMapping, String> {
    let (source, user) = match value.split_once(':') {
        Some((source, user)) => (source, Some(user)),
        None => (value, None),
    };
    match (source, user) {
        ("match-user", user) if user != Some("") => Ok(IdMapping {
            source: source.to_string(),
            user: user.map(str::to_string),
        }),
        ("userns", None) => Ok(IdMapping {
            source: source.to_string(),
            user: None,
        }),
        _ => Err(format!(
            r#"invalid value for bind-idmap: {value} (must be "match-user", "match-user:USER", or "userns")"#
        )),
    }
}

/// Puts `key=value` into a map.
fn insert(map: &mut BTreeMap<String, String>, pair: &str) {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    map.insert(key.to_string(), value.to_string());
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
                r#"{"Type":"volume","Source":"v","Target":"/b","VolumeOptions":{"NoCopy":true,"Labels":{"a":"b"},"DriverConfig":{"Name":"local","Options":{"o":"p"}}}}"#,
            ),
            (
                "type=bind,src=/a,dst=/b,bind-create-src,bind-idmap",
                r#"{"Type":"bind","Source":"/a","Target":"/b","BindOptions":{"CreateMountpoint":true,"IDMapping":{"Source":"match-user"}}}"#,
            ),
            (
                "type=bind,src=/a,dst=/b,bind-idmap=match-user:33:33",
                r#"{"Type":"bind","Source":"/a","Target":"/b","BindOptions":{"IDMapping":{"Source":"match-user","User":"33:33"}}}"#,
            ),
            (
                "type=image,src=alpine,dst=/b,image-subpath=etc",
                r#"{"Type":"image","Source":"alpine","Target":"/b","ImageOptions":{"Subpath":"etc"}}"#,
            ),
            (
                "type=bind,src=/a,dst=/b,bind-recursive=writable",
                "! option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction",
            ),
            (
                "type=bind,src=/a,dst=/b,ro,bind-recursive=readonly",
                "! option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction",
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

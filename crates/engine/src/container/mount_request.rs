//! `--mount`: one entry of `HostConfig.Mounts`, checked, as a mount that is asked for.
use std::collections::BTreeMap;

use corten_api::types::container::{BindOptions, IdMapping, Mount, TmpfsOptions};

use crate::{
    container::record::MountPoint,
    error::{Error, Result},
    volume::service::{check_driver, check_name},
};

pub const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// A mount that is asked for, and what the disk must offer for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    pub point: MountPoint,
    /// A bind's source is made when it is missing.
    pub create_source: bool,
    /// A new volume takes the image's files from the mount's target.
    pub copy_up: bool,
    /// Of a volume, should it be new.
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
}

pub fn parse(mount: &Mount) -> Result<Asked> {
    let refused = |why: &str| Error::invalid(format!("invalid mount config for type \"{}\": {why}", mount.kind));
    if mount.target.is_empty() {
        return Err(refused("field Target must not be empty"));
    }
    let target = clean_target(&mount.target, &mount.target)?;
    check_families(mount).map_err(|why| refused(&why))?;
    let asked = match mount.kind.as_str() {
        "bind" => bind(mount, target),
        "volume" => volume_mount(mount, target)?,
        "tmpfs" => tmpfs_mount(mount, target),
        "image" => image(mount, target),
        "npipe" => Err("mount type npipe is Windows'".to_owned()),
        "cluster" => return Err(Error::not_implemented("mount type cluster")),
        _ => Err("mount type unknown".to_owned()),
    };
    asked.map_err(|why| refused(&why))
}

/// Options of another type than the mount's.
fn check_families(mount: &Mount) -> Result<(), String> {
    let given = [
        ("bind", mount.bind_options.is_some(), "BindOptions"),
        ("volume", mount.volume_options.is_some(), "VolumeOptions"),
        ("image", mount.image_options.is_some(), "ImageOptions"),
        ("tmpfs", mount.tmpfs_options.is_some(), "TmpfsOptions"),
    ];
    match given.iter().find(|(kind, given, _)| *given && *kind != mount.kind) {
        Some((_, _, field)) => Err(format!("field {field} must not be specified")),
        None => Ok(()),
    }
}

fn bind(mount: &Mount, target: String) -> Result<Asked, String> {
    if mount.source.is_empty() {
        return Err("field Source must not be empty".to_owned());
    }
    let options = mount.bind_options.clone().unwrap_or_default();
    let propagation = options
        .propagation
        .clone()
        .filter(|propagation| !propagation.is_empty());
    let propagation = propagation.unwrap_or_else(|| "rprivate".to_owned());
    if !PROPAGATIONS.contains(&propagation.as_str()) {
        return Err(format!("invalid propagation mode: {propagation}"));
    }
    if !mount.source.starts_with('/') {
        return Err(format!(
            "invalid mount path: '{}' mount path must be absolute",
            mount.source
        ));
    }
    let owners = options.id_mapping.as_ref().map(check_id_mapping).transpose();
    let point = MountPoint {
        kind: "bind".to_owned(),
        source: clean(&mount.source),
        destination: target,
        writable: !mount.read_only,
        propagation,
        options: recursion(&options),
        owners: owners.map_err(|error| error.to_string())?,
        ..MountPoint::default()
    };
    Ok(Asked {
        point,
        create_source: options.create_mountpoint,
        ..Asked::default()
    })
}

/// The words that `task/mounts.rs` knows.
fn recursion(options: &BindOptions) -> Vec<String> {
    let words = [
        (options.non_recursive, "nonrecursive"),
        (options.read_only_non_recursive, "ro-nonrecursive"),
        (options.read_only_force_recursive, "ro-force-recursive"),
    ];
    let asked = words.into_iter().filter(|(asked, _)| *asked);
    asked.map(|(_, word)| word.to_owned()).collect()
}

/// `match-user`, of somebody or of the container's user, or `userns`.
pub fn check_id_mapping(mapping: &IdMapping) -> Result<IdMapping> {
    let user = mapping.user.clone().filter(|user| !user.is_empty());
    match (mapping.source.as_str(), &user) {
        ("match-user", _) | ("userns", None) => Ok(IdMapping {
            source: mapping.source.clone(),
            user,
        }),
        ("userns", Some(_)) => Err(Error::invalid("IDMapping.User needs IDMapping.Source \"match-user\"")),
        (source, _) => Err(Error::invalid(format!(
            "invalid IDMapping.Source {source:?}: must be \"match-user\" or \"userns\""
        ))),
    }
}

fn volume_mount(mount: &Mount, target: String) -> Result<Result<Asked, String>> {
    let options = mount.volume_options.clone().unwrap_or_default();
    let name = (!mount.source.is_empty()).then_some(mount.source.as_str());
    let subpath = options.subpath.as_str();
    if !subpath.is_empty() && name.is_none() {
        return Ok(Err("must not set Subpath when using anonymous volumes".to_owned()));
    }
    if !is_local(subpath) {
        return Ok(Err("subpath must be a relative path within the volume".to_owned()));
    }
    if mount.read_only && name.is_none() {
        return Ok(Err("must not set ReadOnly mode when using anonymous volumes".to_owned()));
    }
    if let Some(name) = name {
        check_name(name)?;
    }
    let driver = options.driver_config.unwrap_or_default();
    check_driver(&driver.name)?;
    let mut asked = volume(name, target, "z".to_owned(), name.is_none());
    asked.point.writable = !mount.read_only;
    asked.point.subpath = (!subpath.is_empty()).then(|| subpath.to_owned());
    // A part of a volume is there already, or nowhere.
    asked.copy_up = !options.no_copy && subpath.is_empty();
    asked.labels = options.labels.unwrap_or_default();
    asked.options = driver.options.unwrap_or_default();
    Ok(Ok(asked))
}

fn tmpfs_mount(mount: &Mount, target: String) -> Result<Asked, String> {
    if !mount.source.is_empty() {
        return Err("field Source must not be specified".to_owned());
    }
    let options = mount.tmpfs_options.clone().unwrap_or_default();
    let words = tmpfs_words(&options, mount.read_only)?;
    Ok(tmpfs(target, words.iter().map(String::as_str)))
}

fn tmpfs_words(options: &TmpfsOptions, read_only: bool) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    if read_only {
        words.push("ro".to_owned());
    }
    if options.size_bytes < 0 {
        return Err(format!("invalid tmpfs size: {}", options.size_bytes));
    }
    if options.size_bytes > 0 {
        words.push(format!("size={}", options.size_bytes));
    }
    if options.mode & !0o7777 != 0 {
        return Err(format!("invalid tmpfs mode: {:o}", options.mode));
    }
    if options.mode > 0 {
        words.push(format!("mode={:o}", options.mode));
    }
    words.extend(options.options.iter().flatten().map(|pair| pair.join("=")));
    check_tmpfs(words.iter().map(String::as_str)).map_err(|error| error.to_string())?;
    Ok(words)
}

fn image(mount: &Mount, target: String) -> Result<Asked, String> {
    if mount.source.is_empty() {
        return Err("field Source must not be empty".to_owned());
    }
    let subpath = mount.image_options.clone().unwrap_or_default().subpath;
    if !is_local(&subpath) {
        return Err("subpath must be a relative path within the image".to_owned());
    }
    let point = MountPoint {
        kind: "image".to_owned(),
        source: mount.source.clone(),
        destination: target,
        subpath: (!subpath.is_empty()).then_some(subpath),
        ..MountPoint::default()
    };
    Ok(Asked {
        point,
        ..Asked::default()
    })
}

/// By the letters: relative, and nowhere above where it begins.
fn is_local(path: &str) -> bool {
    let mut depth = 0_i32;
    !path.starts_with('/')
        && path.split('/').all(|part| {
            depth += match part {
                "" | "." => 0,
                ".." => -1,
                _ => 1,
            };
            depth >= 0
        })
}

pub fn volume(name: Option<&str>, destination: String, mode: String, anonymous: bool) -> Asked {
    let point = MountPoint {
        kind: "volume".to_owned(),
        name: name.map(str::to_owned),
        destination,
        driver: Some("local".to_owned()),
        mode,
        writable: true,
        propagation: String::new(),
        anonymous,
        ..MountPoint::default()
    };
    Asked {
        point,
        copy_up: true,
        ..Asked::default()
    }
}

/// Words that a tmpfs and its mount know.
pub fn check_tmpfs<'a>(options: impl Iterator<Item = &'a str>) -> Result<()> {
    const FLAGS: [&str; 25] = [
        "ro",
        "rw",
        "nosuid",
        "suid",
        "nodev",
        "dev",
        "noexec",
        "exec",
        "sync",
        "async",
        "dirsync",
        "mand",
        "nomand",
        "atime",
        "noatime",
        "diratime",
        "nodiratime",
        "relatime",
        "norelatime",
        "strictatime",
        "nostrictatime",
        "defaults",
        "noswap",
        "inode32",
        "inode64",
    ];
    const KEYS: [&str; 8] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge"];
    let spread = |word: &str| PROPAGATIONS.contains(&word) || matches!(word, "unbindable" | "runbindable");
    for option in options.filter(|option| !option.is_empty()) {
        let known = match option.split_once('=') {
            Some((key, _)) => KEYS.contains(&key),
            None => FLAGS.contains(&option) || spread(option),
        };
        if !known {
            return Err(Error::invalid(format!("invalid tmpfs option {option:?}")));
        }
    }
    Ok(())
}

/// `noexec,nosuid,nodev` unless the options say the opposite.
pub fn tmpfs<'a>(destination: String, given: impl Iterator<Item = &'a str>) -> Asked {
    let given: Vec<&str> = given.filter(|option| !option.is_empty()).collect();
    let defaults = [("noexec", "exec"), ("nosuid", "suid"), ("nodev", "dev")];
    let mut options: Vec<String> = Vec::new();
    for (default, opposite) in defaults {
        if !given.contains(&opposite) && !given.contains(&default) {
            options.push(default.to_owned());
        }
    }
    options.extend(given.iter().map(|&option| option.to_owned()));
    let point = MountPoint {
        kind: "tmpfs".to_owned(),
        destination,
        writable: !given.contains(&"ro"),
        options,
        ..MountPoint::default()
    };
    Asked {
        point,
        ..Asked::default()
    }
}

pub fn clean_target(text: &str, target: &str) -> Result<String> {
    let refused = |why: String| Error::invalid(format!("invalid volume specification: '{text}': {why}"));
    if !target.starts_with('/') {
        return Err(refused(format!(
            "invalid mount path: '{target}' mount path must be absolute"
        )));
    }
    match clean(target) {
        root if root == "/" => Err(refused("invalid specification: destination can't be '/'".to_owned())),
        target => Ok(target),
    }
}

/// Without `.`, `..`, doubled and final slashes, as Go's path.Clean does it; by the letters only.
pub fn clean(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            part => kept.push(part),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(mount: serde_json::Value) -> String {
        let mount: Mount = serde_json::from_value(mount).expect("a mount");
        parse(&mount).expect_err("refused").to_string()
    }

    #[test]
    fn mounts_are_refused_in_dockers_words() {
        for (mount, message) in [
            (
                json!({"Type": "bind", "Target": "/x"}),
                "invalid mount config for type \"bind\": field Source must not be empty",
            ),
            (
                json!({"Type": "bind", "Source": "/a", "Target": "/x", "VolumeOptions": {}}),
                "invalid mount config for type \"bind\": field VolumeOptions must not be specified",
            ),
            (
                json!({"Type": "bind", "Source": "a", "Target": "/x"}),
                "invalid mount config for type \"bind\": invalid mount path: 'a' mount path must be absolute",
            ),
            (
                json!({"Type": "volume", "Target": "/x", "ReadOnly": true}),
                "invalid mount config for type \"volume\": must not set ReadOnly mode when using anonymous volumes",
            ),
            (
                json!({"Type": "volume", "Source": "vol", "Target": "/x", "VolumeOptions": {"Subpath": "a/../.."}}),
                "invalid mount config for type \"volume\": subpath must be a relative path within the volume",
            ),
            (
                json!({"Type": "volume", "Source": "vol", "Target": "/x",
                    "VolumeOptions": {"DriverConfig": {"Name": "flocker"}}}),
                "error looking up volume plugin flocker: plugin \"flocker\" not found",
            ),
            (
                json!({"Type": "tmpfs", "Source": "/a", "Target": "/x"}),
                "invalid mount config for type \"tmpfs\": field Source must not be specified",
            ),
            (
                json!({"Type": "nothing", "Target": "/x"}),
                "invalid mount config for type \"nothing\": mount type unknown",
            ),
        ] {
            assert_eq!(refusal(mount), message);
        }
    }

    #[test]
    fn what_stays_beneath_is_told_by_the_letters() {
        for path in ["", "a", "a/../b", "./a", "a/b/../.."] {
            assert!(is_local(path), "{path}");
        }
        for path in ["/a", "..", "a/../../b", "../a"] {
            assert!(!is_local(path), "{path}");
        }
    }
}

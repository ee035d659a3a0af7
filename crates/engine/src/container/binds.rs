//! What a user wants mounted: `-v`, `--mount`, `--tmpfs` and the image's volumes, parsed into one list.
//!
//! Parsing touches no disk: volumes are made, and sources checked, by the caller (`container/create.rs`).
use corten_api::types::container::{ContainerConfig, HostConfig, Mount};

use crate::{
    container::record::MountPoint,
    error::{Error, Result},
    names,
};

const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// A mount that is asked for, and what the disk must offer for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    pub point: MountPoint,
    /// A bind's source is made when it is missing.
    pub create_source: bool,
    /// A new volume takes the image's files from the mount's target.
    pub copy_up: bool,
}

/// Every mount asked for, each target once.
pub fn parse(config: &ContainerConfig, host: &HostConfig) -> Result<Vec<Asked>> {
    let mut all = Vec::new();
    for bind in host.binds.iter().flatten() {
        add(&mut all, parse_bind(bind)?)?;
    }
    for mount in host.mounts.iter().flatten() {
        add(&mut all, parse_mount(mount)?)?;
    }
    for (target, options) in host.tmpfs.iter().flatten() {
        add(&mut all, tmpfs(clean_target(target, target)?, options.split(',')))?;
    }
    // An image's volumes give way to whatever was asked for in the same place.
    for target in config.volumes.iter().flat_map(|volumes| volumes.keys()) {
        let target = clean_target(target, target)?;
        if !all.iter().any(|asked| asked.point.destination == target) {
            all.push(volume(None, target, String::new(), true));
        }
    }
    Ok(all)
}

fn add(all: &mut Vec<Asked>, asked: Asked) -> Result<()> {
    if all
        .iter()
        .any(|other| other.point.destination == asked.point.destination)
    {
        return Err(Error::invalid(format!(
            "Duplicate mount point: {}",
            asked.point.destination
        )));
    }
    all.push(asked);
    Ok(())
}

/// `[source:]target[:options]`.
fn parse_bind(text: &str) -> Result<Asked> {
    let refused = |why: &str| {
        let tail = if why.is_empty() {
            String::new()
        } else {
            format!(": {why}")
        };
        Error::invalid(format!("invalid volume specification: '{text}'{tail}"))
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts[..] {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, mode] => (Some(source), target, mode),
        _ => return Err(refused("")),
    };
    if source == Some("") || target.is_empty() {
        return Err(refused(""));
    }
    let target = clean_target(text, target)?;
    let mut asked = match source {
        Some(path) if path.starts_with('/') => Asked {
            point: MountPoint {
                kind: "bind".to_owned(),
                source: clean(path),
                destination: target,
                writable: true,
                propagation: "rprivate".to_owned(),
                ..MountPoint::default()
            },
            create_source: true,
            copy_up: false,
        },
        Some(name) => {
            check_volume_name(name)?;
            volume(Some(name), target, "z".to_owned(), false)
        }
        None => volume(None, target, String::new(), true),
    };
    for option in mode.split(',').filter(|option| !option.is_empty()) {
        match option {
            "rw" => asked.point.writable = true,
            "ro" => asked.point.writable = false,
            // Labels of SELinux, and hints to file sharing that only virtual machines have.
            "z" | "Z" | "consistent" | "cached" | "delegated" => {}
            "nocopy" if asked.point.kind == "volume" => asked.copy_up = false,
            option if PROPAGATIONS.contains(&option) && asked.point.kind == "bind" => {
                asked.point.propagation = option.to_owned();
            }
            _ => return Err(refused(&format!("invalid mode: {mode}"))),
        }
    }
    if !mode.is_empty() {
        asked.point.mode = mode.to_owned();
    }
    Ok(asked)
}

fn parse_mount(mount: &Mount) -> Result<Asked> {
    let refused = |why: &str| Error::invalid(format!("invalid mount config for type \"{}\": {why}", mount.kind));
    if mount.target.is_empty() {
        return Err(refused("field Target must not be empty"));
    }
    let target = clean_target(&mount.target, &mount.target)?;
    match mount.kind.as_str() {
        "bind" => {
            if !mount.source.starts_with('/') {
                let why = if mount.source.is_empty() {
                    "field Source must not be empty"
                } else {
                    "mount path must be absolute"
                };
                return Err(refused(why));
            }
            let options = mount.bind_options.clone().unwrap_or_default();
            let propagation = options.propagation.filter(|propagation| !propagation.is_empty());
            let propagation = propagation.unwrap_or_else(|| "rprivate".to_owned());
            if !PROPAGATIONS.contains(&propagation.as_str()) {
                return Err(refused(&format!("invalid propagation mode: {propagation}")));
            }
            let mut words = Vec::new();
            if options.non_recursive {
                words.push("nonrecursive".to_owned());
            }
            if options.read_only_non_recursive {
                words.push("ro-nonrecursive".to_owned());
            }
            let point = MountPoint {
                kind: "bind".to_owned(),
                source: clean(&mount.source),
                destination: target,
                writable: !mount.read_only,
                propagation,
                options: words,
                ..MountPoint::default()
            };
            Ok(Asked {
                point,
                create_source: options.create_mountpoint,
                copy_up: false,
            })
        }
        "volume" => {
            let options = mount.volume_options.clone().unwrap_or_default();
            for (key, what) in [
                ("DriverConfig", "volume driver options"),
                ("Subpath", "volume subpaths"),
            ] {
                if options.get(key).is_some_and(|value| !is_empty(value)) {
                    return Err(Error::not_implemented(what));
                }
            }
            let name = (!mount.source.is_empty()).then_some(mount.source.as_str());
            if let Some(name) = name {
                check_volume_name(name)?;
            }
            let mut asked = volume(name, target, "z".to_owned(), name.is_none());
            asked.point.writable = !mount.read_only;
            asked.copy_up = !options
                .get("NoCopy")
                .and_then(serde_json::Value::as_bool)
                .unwrap_or_default();
            Ok(asked)
        }
        "tmpfs" => {
            if !mount.source.is_empty() {
                return Err(refused("field Source must not be specified"));
            }
            let options = mount.tmpfs_options.clone().unwrap_or_default();
            let mut words: Vec<String> = options.options.iter().flatten().map(|pair| pair.join("=")).collect();
            if mount.read_only {
                words.push("ro".to_owned());
            }
            if options.size_bytes > 0 {
                words.push(format!("size={}", options.size_bytes));
            }
            if options.mode > 0 {
                words.push(format!("mode={:o}", options.mode));
            }
            Ok(tmpfs(target, words.iter().map(String::as_str)))
        }
        "image" | "npipe" | "cluster" => Err(Error::not_implemented(format!("mount type {}", mount.kind))),
        _ => Err(refused("mount type unknown")),
    }
}

fn is_empty(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null => true,
        serde_json::Value::String(text) => text.is_empty(),
        serde_json::Value::Object(members) => members.values().all(is_empty),
        _ => false,
    }
}

fn volume(name: Option<&str>, destination: String, mode: String, anonymous: bool) -> Asked {
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
        create_source: false,
        copy_up: true,
    }
}

/// `noexec,nosuid,nodev` unless the options say the opposite.
fn tmpfs<'a>(destination: String, given: impl Iterator<Item = &'a str>) -> Asked {
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
        create_source: false,
        copy_up: false,
    }
}

fn check_volume_name(name: &str) -> Result<()> {
    names::check("volume", name).map_err(|_| {
        Error::invalid(format!(
            "create {name}: \"{name}\" includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
        ))
    })
}

fn clean_target(text: &str, target: &str) -> Result<String> {
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
    use super::*;

    fn binds(list: &[&str]) -> Result<Vec<Asked>> {
        let host = HostConfig {
            binds: Some(list.iter().map(|&bind| bind.to_owned()).collect()),
            ..HostConfig::default()
        };
        parse(&ContainerConfig::default(), &host)
    }

    #[test]
    fn a_bind_has_source_target_and_mode() {
        let asked = binds(&["/srv/./data:/data/:ro,rslave"]).expect("valid").remove(0);
        assert_eq!(
            (asked.point.source.as_str(), asked.point.destination.as_str()),
            ("/srv/data", "/data")
        );
        assert!(!asked.point.writable && asked.create_source);
        assert_eq!(asked.point.propagation, "rslave");
        let asked = binds(&["name:/data"]).expect("valid").remove(0);
        assert_eq!(
            (asked.point.kind.as_str(), asked.point.name.as_deref()),
            ("volume", Some("name"))
        );
        assert!(asked.copy_up && !asked.point.anonymous);
        assert!(binds(&["/data"]).expect("valid")[0].point.anonymous);
    }

    #[test]
    fn bad_binds_are_refused_in_dockers_words() {
        for (bind, message) in [
            (
                "/a:b",
                "invalid volume specification: '/a:b': invalid mount path: 'b' mount path must be absolute",
            ),
            ("/a:/b:x", "invalid volume specification: '/a:/b:x': invalid mode: x"),
            ("/a:/b:ro:z", "invalid volume specification: '/a:/b:ro:z'"),
            (
                "/a:/",
                "invalid volume specification: '/a:/': invalid specification: destination can't be '/'",
            ),
        ] {
            assert_eq!(binds(&[bind]).expect_err(bind).to_string(), message);
        }
        assert_eq!(
            binds(&["/a:/c", "/b:/c/."]).expect_err("twice").to_string(),
            "Duplicate mount point: /c"
        );
    }

    #[test]
    fn tmpfs_is_safe_unless_told_otherwise() {
        let host = HostConfig {
            tmpfs: Some([("/run".to_owned(), "exec,size=64m".to_owned())].into()),
            ..HostConfig::default()
        };
        let asked = parse(&ContainerConfig::default(), &host).expect("valid").remove(0);
        assert_eq!(asked.point.options, ["nosuid", "nodev", "exec", "size=64m"]);
    }
}

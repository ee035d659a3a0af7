//! What a user wants mounted: `-v`, `--tmpfs` and the image's volumes, and `--mount` from `mount_request.rs`, in one list.
//!
//! Parsing touches no disk: volumes are made, and sources checked, by the caller (`container/create.rs`).
use corten_api::types::container::{ContainerConfig, HostConfig, IdMapping};

use crate::{
    container::{
        mount_request::{self, Asked, PROPAGATIONS, check_tmpfs, clean, clean_target, tmpfs, volume},
        record::MountPoint,
    },
    error::{Error, Result},
    volume::service::check_name,
};

/// Every mount asked for, each target once. `taken_over` are those of `--volumes-from`.
pub fn parse(config: &ContainerConfig, host: &HostConfig, taken_over: Vec<MountPoint>) -> Result<Vec<Asked>> {
    let mut all = Vec::new();
    for bind in host.binds.iter().flatten() {
        add(&mut all, parse_bind(bind)?)?;
    }
    for mount in host.mounts.iter().flatten() {
        add(&mut all, mount_request::parse(mount)?)?;
    }
    for (target, options) in host.tmpfs.iter().flatten() {
        check_tmpfs(options.split(','))?;
        add(&mut all, tmpfs(clean_target(target, target)?, options.split(',')))?;
    }
    // What others have gives way to what was asked for by itself.
    for point in taken_over {
        match all.iter().any(|asked| asked.point.destination == point.destination) {
            true => {}
            false => all.push(Asked {
                point,
                ..Asked::default()
            }),
        }
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
            ..Asked::default()
        },
        Some(name) => {
            check_name(name)?;
            volume(Some(name), target, "z".to_owned(), false)
        }
        None => volume(None, target, String::new(), true),
    };
    let invalid = || refused(&format!("invalid mode: {mode}"));
    let mut seen: Vec<Group> = Vec::new();
    for option in mode.split(',').filter(|option| !option.is_empty()) {
        let group = Group::of(option, &asked.point.kind).ok_or_else(invalid)?;
        if seen.contains(&group) {
            return Err(invalid());
        }
        match (&group, option) {
            (Group::Access, option) => asked.point.writable = option == "rw",
            (Group::Copy, _) => asked.copy_up = false,
            (Group::Propagation, option) => asked.point.propagation = option.to_owned(),
            (Group::Owners, option) => {
                let source = option.strip_prefix("idmap=").unwrap_or("match-user");
                asked.point.owners = Some(mount_request::check_id_mapping(&IdMapping {
                    source: source.to_owned(),
                    user: None,
                })?);
            }
            (Group::Label | Group::Consistency, _) => {}
        }
        seen.push(group);
    }
    if !mode.is_empty() {
        asked.point.mode = mode.to_owned();
    }
    Ok(asked)
}

/// Options of a bind's mode that exclude each other.
#[derive(Debug, PartialEq, Eq)]
enum Group {
    Access,
    /// Of SELinux.
    Label,
    /// Hints to file sharing that only virtual machines have.
    Consistency,
    Copy,
    Propagation,
    /// Ours.
    Owners,
}

impl Group {
    fn of(option: &str, kind: &str) -> Option<Group> {
        let bind = kind == "bind";
        Some(match option {
            "rw" | "ro" => Group::Access,
            "z" | "Z" => Group::Label,
            "consistent" | "cached" | "delegated" => Group::Consistency,
            "nocopy" if !bind => Group::Copy,
            option if bind && PROPAGATIONS.contains(&option) => Group::Propagation,
            option if bind && (option == "idmap" || option.starts_with("idmap=")) => Group::Owners,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binds(list: &[&str]) -> Result<Vec<Asked>> {
        let host = HostConfig {
            binds: Some(list.iter().map(|&bind| bind.to_owned()).collect()),
            ..HostConfig::default()
        };
        parse(&ContainerConfig::default(), &host, Vec::new())
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
                "/a:/b:ro,rw",
                "invalid volume specification: '/a:/b:ro,rw': invalid mode: ro,rw",
            ),
            (
                "/a:/b:nocopy",
                "invalid volume specification: '/a:/b:nocopy': invalid mode: nocopy",
            ),
            (
                "name:/b:rshared",
                "invalid volume specification: 'name:/b:rshared': invalid mode: rshared",
            ),
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
    fn a_bind_may_show_other_owners() {
        let owners = |bind| {
            binds(&[bind]).expect("valid")[0]
                .point
                .owners
                .clone()
                .expect("given")
                .source
        };
        assert_eq!(owners("/a:/b:idmap"), "match-user");
        assert_eq!(owners("/a:/b:ro,idmap=userns"), "userns");
        let refused = binds(&["/a:/b:idmap=else"]).expect_err("refused").to_string();
        assert!(refused.contains("match-user"), "{refused}");
        assert!(binds(&["name:/b:idmap"]).is_err());
    }

    #[test]
    fn tmpfs_is_safe_unless_told_otherwise() {
        let host = HostConfig {
            tmpfs: Some([("/run".to_owned(), "exec,size=64m".to_owned())].into()),
            ..HostConfig::default()
        };
        let asked = parse(&ContainerConfig::default(), &host, Vec::new())
            .expect("valid")
            .remove(0);
        assert_eq!(asked.point.options, ["nosuid", "nodev", "exec", "size=64m"]);
    }
}

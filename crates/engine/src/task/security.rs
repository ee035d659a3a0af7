//! `--security-opt`: what else stands between a container and the kernel.
use std::fs;

use crate::error::{Error, Result};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecurityOptions {
    /// Absent when nothing is said.
    pub no_new_privileges: Option<bool>,
    pub seccomp: Seccomp,
    /// The profile was named, be it as the built-in one.
    pub named_seccomp: bool,
    /// The container may make cgroups of its own beneath its own.
    pub writable_cgroups: bool,
    /// What was asked for, and has no meaning on this host.
    pub discarded: Vec<&'static str>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Seccomp {
    /// Docker's default profile.
    #[default]
    Default,
    Unconfined,
    /// A profile in Docker's JSON, sent by the client.
    Profile(String),
}

/// `name`, `name=value` and, of old, `name:value`.
pub fn parse(options: &[String]) -> Result<SecurityOptions> {
    let mut parsed = SecurityOptions::default();
    for option in options {
        let (name, value) = match option.split_once('=').or_else(|| option.split_once(':')) {
            Some((name, value)) => (name, value),
            None if option == "no-new-privileges" => (option.as_str(), "true"),
            None => return Err(Error::invalid(format!("invalid --security-opt 1: {option:?}"))),
        };
        match name {
            "no-new-privileges" => parsed.no_new_privileges = Some(boolean(option, value)?),
            "writable-cgroups" => parsed.writable_cgroups = boolean(option, value)?,
            "seccomp" => {
                parsed.named_seccomp = true;
                parsed.seccomp = match value {
                    "unconfined" => Seccomp::Unconfined,
                    "builtin" | "" => Seccomp::Default,
                    json => Seccomp::Profile(json.to_owned()),
                }
            }
            "apparmor" if value == "unconfined" => {}
            "apparmor" if host_has_apparmor() => {
                return Err(Error::not_implemented(format!("AppArmor profile {value:?}: AppArmor")));
            }
            "apparmor" => parsed.discarded.push("AppArmor profile"),
            "label" if value == "disable" => {}
            // As Docker's daemon without `selinux-enabled`, which is the only one that we can be.
            "label" => parsed.discarded.push("SELinux label"),
            _ => return Err(Error::invalid(format!("invalid --security-opt 2: {option:?}"))),
        }
    }
    Ok(parsed)
}

fn host_has_apparmor() -> bool {
    fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|enabled| enabled.starts_with('Y'))
}

fn boolean(option: &str, value: &str) -> Result<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Error::invalid(format!("invalid --security-opt 2: {option:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(list: &[&str]) -> Result<SecurityOptions> {
        parse(&list.iter().map(|&option| option.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn both_separators_are_understood() {
        let parsed = options(&["no-new-privileges:true", "seccomp=unconfined"]).expect("known");
        assert!(parsed.no_new_privileges == Some(true) && parsed.seccomp == Seccomp::Unconfined);
        assert!(options(&["no-new-privileges"]).expect("known").no_new_privileges == Some(true));
        let parsed = options(&["seccomp={\"a\":1}"]).expect("known");
        assert_eq!(parsed.seccomp, Seccomp::Profile("{\"a\":1}".to_owned()));
    }

    #[test]
    fn what_means_nothing_here_is_discarded_aloud() {
        let parsed = options(&["label=type:x", "label=disable"]).expect("known");
        assert_eq!(parsed.discarded, ["SELinux label"]);
        match options(&["apparmor=mine"]) {
            Ok(parsed) => assert_eq!(parsed.discarded, ["AppArmor profile"]),
            Err(_) => assert!(host_has_apparmor()),
        }
    }

    #[test]
    fn nothing_is_silently_ignored() {
        assert!(options(&["apparmor=unconfined", "label=disable"]).is_ok());
        for bad in ["foo", "foo=bar", "no-new-privileges=perhaps"] {
            assert!(options(&[bad]).is_err(), "{bad}");
        }
    }
}

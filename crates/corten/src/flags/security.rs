//! `--security-opt`, capabilities, kernel parameters.
//!
//! A seccomp profile is a file of the client's, and travels by content.
use crate::failure;

/// `--security-opt` taken apart.
#[derive(Debug, Default, PartialEq)]
pub struct Options {
    pub options: Vec<String>,
    /// `systempaths=unconfined`: nothing of /proc is hidden.
    pub bare_system_paths: bool,
}

pub fn parse<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Options, String> {
    let mut found = Options::default();
    for text in texts {
        if text == "systempaths=unconfined" {
            found.bare_system_paths = true;
            continue;
        }
        let separator = if text.contains('=') { '=' } else { ':' };
        let pair = text.split_once(separator).filter(|(_, value)| !value.is_empty());
        match pair {
            None if text == "no-new-privileges" || text == "writable-cgroups" => found.options.push(text.to_string()),
            None => return Err(format!("Invalid --security-opt: {text:?}")),
            Some(("seccomp", path)) if path != "unconfined" && path != "builtin" => {
                found.options.push(format!("seccomp={}", profile(path)?));
            }
            Some(_) => found.options.push(text.to_string()),
        }
    }
    Ok(found)
}

/// A profile's content on one line.
fn profile(path: &str) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|error| {
        let reason = failure::reason(&error);
        format!("opening seccomp profile ({path}) failed: open {path}: {reason}")
    })?;
    let value: crate::template::value::Value = serde_json::from_slice(&bytes)
        .map_err(|error| format!("compacting json for seccomp profile ({path}) failed: {error}"))?;
    Ok(value.json())
}

/// Capabilities by their full names, sorted, each once; `ALL` stays.
pub fn capabilities<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let full = names.map(|name| {
        let name = name.trim().to_uppercase();
        if name == "ALL" || name.starts_with("CAP_") {
            name
        } else {
            format!("CAP_{name}")
        }
    });
    let mut names: Vec<String> = full.collect();
    names.sort();
    names.dedup();
    names
}

const SYSCTLS: &[&str] = &[
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// A check: a kernel parameter that belongs to a namespace.
pub fn sysctl(text: &str) -> Result<(), String> {
    let refuse = || format!("sysctl '{text}' is not allowed");
    let (name, _) = text.split_once('=').ok_or_else(refuse)?;
    if SYSCTLS.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue.") {
        return Ok(());
    }
    Err(refuse())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_travel_and_bad_ones_are_refused() {
        let found = parse(
            [
                "no-new-privileges",
                "label:disable",
                "systempaths=unconfined",
                "seccomp=unconfined",
            ]
            .into_iter(),
        );
        let options = ["no-new-privileges", "label:disable", "seccomp=unconfined"]
            .map(str::to_string)
            .to_vec();
        assert_eq!(
            found,
            Ok(Options {
                options,
                bare_system_paths: true
            })
        );
        assert_eq!(
            parse(["foo"].into_iter()).unwrap_err(),
            "Invalid --security-opt: \"foo\""
        );
        assert_eq!(
            parse(["seccomp=/nonexist"].into_iter()).unwrap_err(),
            "opening seccomp profile (/nonexist) failed: open /nonexist: no such file or directory"
        );
    }

    #[test]
    fn capabilities_have_their_full_names() {
        assert_eq!(
            capabilities(["net_admin", "all", "CAP_CHOWN"].into_iter()),
            ["ALL", "CAP_CHOWN", "CAP_NET_ADMIN"]
        );
    }

    #[test]
    fn only_parameters_of_namespaces_are_allowed() {
        assert!(sysctl("net.ipv4.ip_forward=1").is_ok() && sysctl("kernel.shmmax=5").is_ok());
        assert_eq!(
            sysctl("vm.swappiness=1").unwrap_err(),
            "sysctl 'vm.swappiness=1' is not allowed"
        );
    }
}

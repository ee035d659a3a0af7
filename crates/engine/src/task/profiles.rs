//! Seccomp profiles, resolved once for each set of capabilities.
use std::{collections::HashMap, sync::Mutex};

use corten_runtime::security::profile;
use oci_spec::runtime::{Capabilities, LinuxSeccomp};

use crate::{
    error::{Error, Result},
    task::security::Seccomp,
};

/// Profiles kept; more are resolved anew each time.
const KEPT: usize = 32;

type Key = (Seccomp, Vec<String>);

#[derive(Debug, Default)]
pub struct Profiles {
    resolved: Mutex<HashMap<Key, LinuxSeccomp>>,
}

impl Profiles {
    /// The profile as data; absent when the container is unconfined.
    pub fn resolve(&self, asked: &Seccomp, capabilities: &Capabilities) -> Result<Option<LinuxSeccomp>> {
        if *asked == Seccomp::Unconfined {
            return Ok(None);
        }
        let mut names: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
        names.sort_unstable();
        let key = (asked.clone(), names);
        let mut resolved = self.resolved.lock().expect("no panic while locked");
        if let Some(profile) = resolved.get(&key) {
            return Ok(Some(profile.clone()));
        }
        let profile = match asked {
            Seccomp::Profile(json) => profile::from_docker_json(json, capabilities)
                .map_err(|error| Error::invalid("Decoding seccomp profile failed").because(error))?,
            _ => profile::docker_default(capabilities),
        };
        if resolved.len() < KEPT {
            resolved.insert(key, profile.clone());
        }
        Ok(Some(profile))
    }
}

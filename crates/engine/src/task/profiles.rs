//! Seccomp profiles, resolved and compiled once for each set of capabilities.
use std::{collections::HashMap, sync::Mutex};

use corten_runtime::security::{
    filter::{self, Filter},
    profile,
};
use oci_spec::runtime::Capabilities;

use crate::{
    error::{Error, Result, causes},
    task::security::Seccomp,
};

/// Filters kept; more are compiled anew each time.
const KEPT: usize = 32;

type Key = (Seccomp, Vec<String>);

#[derive(Debug, Default)]
pub struct Profiles {
    compiled: Mutex<HashMap<Key, Filter>>,
}

impl Profiles {
    /// The filter of a container with these capabilities; absent when it is unconfined.
    pub fn filter(&self, asked: &Seccomp, capabilities: &Capabilities) -> Result<Option<Filter>> {
        if *asked == Seccomp::Unconfined {
            return Ok(None);
        }
        let mut names: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
        names.sort_unstable();
        let key = (asked.clone(), names);
        if let Some(filter) = self.compiled.lock().expect("no panic while locked").get(&key) {
            return Ok(Some(filter.clone()));
        }
        let profile = match asked {
            Seccomp::Profile(json) => profile::from_docker_json(json, capabilities)
                .map_err(|error| Error::invalid(format!("Decoding seccomp profile failed: {}", causes(&error))))?,
            _ => profile::docker_default(capabilities),
        };
        let filter = filter::compile(&profile)
            .map_err(|error| Error::invalid(format!("cannot compile the seccomp profile: {}", causes(&error))))?;
        let mut compiled = self.compiled.lock().expect("no panic while locked");
        if compiled.len() < KEPT {
            compiled.insert(key, filter.clone());
        }
        Ok(Some(filter))
    }
}

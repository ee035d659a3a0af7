//! The seccomp compiler: a profile becomes one classic BPF program for all of the machine's ABIs.
use oci_spec::runtime::LinuxSeccomp;
use serde::{Deserialize, Serialize};

use super::error::Error;

/// A compiled filter, ready for `corten_linux::seccomp::set_filter`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// `struct sock_filter`, one per element, as it lies in memory.
    pub program: Vec<u64>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
}

pub fn compile(_profile: &LinuxSeccomp) -> Result<Filter, Error> {
    Err(Error::NotImplemented("the compiler"))
}

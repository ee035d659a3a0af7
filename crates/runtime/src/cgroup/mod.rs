//! Control groups: what a container may use, what it has used, and the set of all its processes.
//!
//! [`manager`] is the door. A plan is flat data made in the daemon; a shim only carries it out.
pub mod error;
pub mod manager;
pub mod stats;

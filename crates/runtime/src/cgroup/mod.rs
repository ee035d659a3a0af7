//! Control groups: what a container may use, what it has used, and the set of all its processes.
//!
//! [`manager`] is the door. A plan is flat data made in the daemon; a shim only carries it out. [`hierarchy`] knows what
//! this host has mounted where; [`v1`] and [`v2`] know the kernel's words for each limit, and nothing of each other.
pub mod devices;
pub mod error;
pub mod files;
pub mod hierarchy;
mod knobs;
pub mod manager;
pub(crate) mod oom;
pub mod plan;
pub mod realtime;
pub mod stats;
mod update;
pub mod v1;
pub mod v2;

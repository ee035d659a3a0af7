//! The OCI runtime: it starts, isolates, limits and watches one container's processes.
//!
//! Synchronous and fork-safe: the launcher and the shims are single-threaded processes.
pub mod cgroup;
pub mod error;
pub mod hooks;
pub mod init;
pub mod launcher;
pub mod process;
pub mod rootfs;
pub mod security;
pub mod shim;
pub mod state;

//! Every kernel facility that the standard library and rustix lack, one file each; the home of `unsafe`.
//!
//! A system call gets a safe function with the kernel's name, owned file descriptors in and out.
pub mod activation;
pub mod bpf;
pub mod caps;
pub mod datagram;
pub mod fd;
pub mod iptables;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod netlink;
pub mod process;
pub mod quota;
pub mod seccomp;
pub mod signal;
pub mod socket;
mod syscall;
pub mod transfer;
pub mod user_namespace;
pub mod version;

//! Every kernel facility that the standard library and rustix lack, one file each; the home of `unsafe`.
//!
//! A system call gets a safe function with the kernel's name, owned file descriptors in and out.
pub mod bpf;
pub mod caps;
pub mod seccomp;
mod syscall;

//! Host ports: who has one, the sockets that hold them, and the few packets that the kernel cannot forward.
pub mod claim;
pub mod publisher;
mod socket;

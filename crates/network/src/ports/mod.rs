//! Host ports: who has one, the sockets that hold them, and the few packets that the kernel cannot forward.
pub mod claim;
mod proxy;
pub mod publisher;
mod socket;
#[cfg(test)]
mod tests;

//! Networks of containers: bridges and their like, addresses, one firewall table, published ports, and names.
//!
//! `controller.rs` is what the engine talks to (its verbs on containers are in `attach.rs`); `model.rs` is what it says.
//! Everything is synchronous and quick enough to be called from a blocking thread, except the loops that serve names
//! (`dns/`) and the few ports that the kernel cannot forward (`ports/proxy.rs`), which are tokio tasks. Nothing here
//! writes to disk: what must survive is returned as data that the engine keeps with its records, and is given back to
//! [`controller::Controller::restore`].
pub mod attach;
pub mod bridge;
pub mod config;
pub mod controller;
pub mod devices;
pub mod dns;
pub mod endpoints;
pub mod error;
pub mod firewall;
pub mod foreign;
pub mod forward;
pub mod held;
pub mod host;
pub mod ipam;
pub mod links;
mod mend;
pub mod model;
pub mod namespace;
pub mod networks;
pub mod options;
pub mod plan;
pub mod ports;
pub mod restore;
mod rewire;
pub mod sysctl;
#[cfg(test)]
mod testing;
pub mod vlan;
pub mod wire;
pub mod wiring;

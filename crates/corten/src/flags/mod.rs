//! The flags of `run` and `create`, and how they become the API's documents.
//!
//! All of Docker's flags parse. What the engine cannot do yet is sent all the same: the engine refuses it by name, so
//! that nothing is ever ignored in silence.
pub mod csv;
pub mod devices;
pub mod environment;
pub mod known;
pub mod limits;
pub mod mounts;
pub mod network;
pub mod network_request;
pub mod ports;
pub mod request;
pub mod security;

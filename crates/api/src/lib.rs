//! The Docker Engine API as types, and a client of it.
//!
//! Versions 1.24 to 1.51. Types describe the newest one; what differs for older clients is the door's business
//! (`corten-daemon`, `docker/versions`).
pub mod calls;
pub mod client;
pub mod filters;
pub mod messages;
pub mod stream;
pub mod tls;
pub mod transport;
pub mod types;
pub mod upload;

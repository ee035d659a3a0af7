//! Wire documents, one file for each family of endpoints.
pub mod container;
pub mod container_answers;
pub mod exec;
pub mod files;
pub mod image;
pub mod network;
pub mod null;
pub mod platform;
pub mod stats;
pub mod system;
pub mod volume;

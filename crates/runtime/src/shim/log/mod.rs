//! What a shim writes of a container's output: two formats, files that rotate, and how far somebody has fetched them.
pub mod files;
pub mod json;
pub mod local;
pub mod position;
pub mod time;
pub mod writer;

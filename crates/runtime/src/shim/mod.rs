//! A container's companion process: it starts the container, keeps its streams, and writes down how it ended.
pub mod attach;
pub mod connection;
pub mod exec;
pub mod execs;
pub mod log;
pub mod monitor;
pub(crate) mod poll;
pub mod protocol;
pub mod stdio;

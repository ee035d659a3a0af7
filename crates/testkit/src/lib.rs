//! What a black-box test needs: a daemon of its own, clients to drive it, and images to give it.
//!
//! Nothing in here knows Corten's code: a test sees what a user sees.
pub mod api;
pub mod archive;
pub mod cgroup;
pub mod collector;
pub mod command;
pub mod daemon;
pub mod debian;
pub mod follower;
pub mod image;
pub mod names;
pub mod namespace;
pub mod peer;
pub mod process;
pub mod terminal;
pub mod wait;
pub mod world;

//! What Corten is: containers, images, events. Every door (Docker's API, later others) calls the same verbs.
pub mod container {
    pub mod attach;
    pub mod binds;
    pub mod etc;
    pub mod log_config;
    pub mod logs;
    pub mod merge;
    pub mod record;
    pub mod service;
    pub mod state;
    pub mod stats;
    pub mod validate;
    pub mod view;
}
pub mod engine;
pub mod error;
pub mod events;
pub mod host;
pub mod image {
    pub mod service;
    pub mod view;
}
pub mod names;
pub mod signal;
pub mod system;
pub mod task {
    pub mod capabilities;
    pub mod devices;
    pub mod mounts;
    pub mod resources;
    pub mod security;
    pub mod spec;
}

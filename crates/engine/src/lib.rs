//! What Corten is: containers, images, events. Every door (Docker's API, later others) calls the same verbs.
pub mod container {
    pub mod attach;
    pub mod logs;
    pub mod record;
    pub mod service;
    pub mod state;
    pub mod stats;
    pub mod view;
}
pub mod engine;
pub mod error;
pub mod events;
pub mod image {
    pub mod service;
    pub mod view;
}
pub mod names;
pub mod signal;
pub mod system;

//! What Corten is: containers, images, events. Every door (Docker's API, later others) calls the same verbs.
pub mod container {
    pub mod record;
    pub mod state;
    pub mod view;
}
pub mod error;
pub mod events;
pub mod image {
    pub mod view;
}

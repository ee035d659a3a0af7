//! What is kept on disk: content by digest, layers, images, records. Synchronous; one process owns a data root.
pub mod database;
pub mod driver {
    pub mod overlay;
    pub mod storage;
}
pub mod error;
pub mod layout;
pub mod store;
pub mod sweep;

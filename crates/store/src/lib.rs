//! What is kept on disk: content by digest, layers, images, records. Synchronous; one process owns a data root.
pub mod collect;
pub mod commit;
pub mod content;
pub mod database;
pub mod driver {
    pub mod overlay;
    pub mod storage;
}
pub mod error;
pub mod images;
pub mod layer {
    pub mod apply;
    pub mod blocks;
    pub mod compress;
    pub mod diff;
    pub mod error;
    pub mod extract;
    pub mod fill;
    pub mod header;
    pub mod make;
    pub mod owners;
    pub mod pack;
    pub mod pax;
    pub mod sparse;
    pub mod tar;
    pub mod walk;
    pub mod write;
}
pub mod layout;
pub mod lease;
pub mod quota;
pub mod reserve;
pub mod store;
pub mod sweep;
pub mod unpack;

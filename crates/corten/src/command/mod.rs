//! What the commands do, a file for each family.
pub mod archive;
pub mod attach;
pub mod confirm;
pub mod container;
pub mod create;
pub mod each;
pub mod events;
pub mod filter;
pub mod image;
pub mod inspect;
pub mod logs;
pub mod network;
pub mod ps;
pub mod run;
pub mod start;
pub mod stats;
pub mod system;

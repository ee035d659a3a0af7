//! What the commands do, a file for each family.
pub mod attach;
pub mod container;
pub mod create;
pub mod filter;
pub mod run;
pub mod start;
pub mod system;

//! What the commands do, a file for each family.
pub mod container;
pub mod filter;
pub mod system;

//! Wire documents, one file for each family of endpoints.
pub mod container;

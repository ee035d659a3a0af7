//! Contexts: daemons by name, as Docker's command line keeps them.
pub mod resolve;
pub mod store;

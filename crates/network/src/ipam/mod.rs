//! Addresses: which subnets networks get, and which addresses their endpoints.
pub mod addresses;
pub mod number;
pub mod pools;
pub mod subnets;

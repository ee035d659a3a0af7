//! nftables: what a table is made of, changes to it, and lists of what is there.
//!
//! Changes are collected in a [`transaction::Transaction`] and take effect together or not at all. Numbers and layouts are
//! those of linux/netfilter/nf_tables.h; what `nft list` shows is the oracle of the tests.
pub mod expression;
pub mod list;
pub mod rule;
pub mod set;
#[cfg(test)]
mod tests;
pub mod transaction;
pub mod watch;

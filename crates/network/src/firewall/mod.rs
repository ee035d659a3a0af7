//! The firewall: one nftables table, in which containers and ports are elements of maps and networks a few chains.
//!
//! `table.rs` is what the controller talks to. The ruleset is written down once, in `rules.rs`; which elements a published
//! port has, in `ports.rs`.
pub mod flows;
pub mod keeper;
mod links;
pub mod model;
mod offload;
mod phrases;
mod ports;
mod rules;
pub mod table;
#[cfg(test)]
mod tests;

//! Netlink: sockets, messages, and the two families that Corten speaks: rtnetlink and nftables.
pub mod conntrack;
pub mod message;
pub mod nft;
pub mod route;
pub mod socket;

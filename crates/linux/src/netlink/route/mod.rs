//! rtnetlink: interfaces, their addresses and routes. Builders add messages to a batch; lists and events are read back.
pub mod address;
pub mod link;
pub mod list;
pub mod neighbour;
pub mod path;
#[cfg(test)]
mod tests;
pub mod watch;

//! rtnetlink: interfaces, their addresses and routes. Builders add messages to a batch; lists and events are read back.
pub mod address;
pub mod link;
pub mod list;
pub mod path;
pub mod watch;

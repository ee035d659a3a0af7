//! Events: what happened to which object, in order.
use std::collections::BTreeMap;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `container`, `image`, `volume`, `network`, `daemon`.
    pub kind: String,
    /// `create`, `start`, `die`, …
    pub action: String,
    /// The object's id (for images the reference or id).
    pub actor: String,
    /// `name`, `image`, labels, `exitCode`, …
    pub attributes: BTreeMap<String, String>,
    /// Nanoseconds since the epoch; strictly growing within one daemon.
    pub time_nanoseconds: i64,
}

//! The contract of a storage driver: how layers become a root file system.
//!
//! A layer is made once, from its tar, and never changes; a writable layer is stacked on layers and belongs to one
//! container. A driver only arranges directories: mounting happens in the container's own mount namespace, so the host
//! never sees it.
//!
//! ```text
//! layers  a, b        unpacked by `layer::apply` into the directories that `files` names
//! prepare c on [a, b] -> ActiveLayer { lowers: [b, a], upper: c/upper, work: c/work }
//! discard c           the upper directory is gone
//! ```
use std::path::PathBuf;

use crate::error::Error;

/// What a container's root file system is mounted from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveLayer {
    /// Topmost first; never empty.
    pub lowers: Vec<PathBuf>,
    pub upper: PathBuf,
    /// Overlayfs's scratch directory, on the same file system as `upper`.
    pub work: PathBuf,
}

pub trait StorageDriver: Send + Sync {
    /// The name that users see (`overlay2` is what Docker calls the same thing).
    fn name(&self) -> &'static str;

    /// Where the container's writable layer is or would be. `layers` lowest first.
    fn active(&self, container_id: &str, layers: &[&str]) -> ActiveLayer;

    /// Makes an empty writable layer whose root looks like that of the topmost layer. Leaves nothing on failure.
    fn prepare(&self, container_id: &str, layers: &[&str]) -> Result<ActiveLayer, Error>;

    /// Bytes that the container wrote.
    fn size(&self, container_id: &str) -> Result<u64, Error>;
}

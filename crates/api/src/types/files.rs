//! Files of containers: what stands at a path, and what has changed.
use serde::{Deserialize, Serialize};

/// The header that carries a [`PathStatDocument`] as JSON in base64.
pub const PATH_STAT_HEADER: &str = "x-docker-container-path-stat";

/// What stands at a path of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PathStatDocument {
    pub name: String,
    pub size: i64,
    /// Go's `FileMode`: permissions, and a bit for each kind.
    pub mode: u32,
    /// RFC 3339.
    #[serde(rename = "mtime")]
    pub modified: String,
    /// Where a symbolic link leads.
    #[serde(rename = "linkTarget")]
    pub link_target: String,
}

impl PathStatDocument {
    pub fn is_directory(&self) -> bool {
        self.mode & 1 << 31 != 0
    }

    pub fn is_symlink(&self) -> bool {
        self.mode & 1 << 27 != 0
    }

    pub fn is_device(&self) -> bool {
        self.mode & 1 << 26 != 0
    }
}

/// An item of `GET /containers/{id}/changes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Change {
    pub path: String,
    /// 0 changed, 1 added, 2 deleted.
    pub kind: u8,
}

//! Where everything lives: every path of the data root and the run root is spelled here and nowhere else.
//!
//! Half-made things live in `content/ingest` and `staging`, half-deleted ones in `trash`: all three are emptied when a
//! store opens, so a name anywhere else is always whole.
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    data_root: PathBuf,
    run_root: PathBuf,
}

impl Layout {
    pub fn new(data_root: impl Into<PathBuf>, run_root: impl Into<PathBuf>) -> Layout {
        Layout {
            data_root: data_root.into(),
            run_root: run_root.into(),
        }
    }

    pub fn data_root(&self) -> &Path {
        &self.data_root
    }

    pub fn run_root(&self) -> &Path {
        &self.run_root
    }

    /// Held by the daemon that owns this data root.
    pub fn lock(&self) -> PathBuf {
        self.data_root.join("lock")
    }

    /// The number of the on-disk format.
    pub fn version(&self) -> PathBuf {
        self.data_root.join("version")
    }

    pub fn database(&self) -> PathBuf {
        self.data_root.join("corten.db")
    }

    /// A valid OCI image layout.
    pub fn content(&self) -> PathBuf {
        self.data_root.join("content")
    }

    /// Blobs by their sha256, in lower-case hexadecimal.
    pub fn blobs(&self) -> PathBuf {
        self.content().join("blobs/sha256")
    }

    pub fn blob(&self, hex: &str) -> PathBuf {
        self.blobs().join(hex)
    }

    /// Blobs whose digest is not known or not verified yet.
    pub fn ingest(&self) -> PathBuf {
        self.content().join("ingest")
    }

    pub fn layers(&self) -> PathBuf {
        self.data_root.join("layers")
    }

    /// `id` is the hexadecimal part of the layer's diffID.
    pub fn layer(&self, id: &str) -> PathBuf {
        self.layers().join(id)
    }

    /// The layer's files, as overlayfs wants them.
    pub fn layer_files(&self, id: &str) -> PathBuf {
        self.layer(id).join("files")
    }

    /// What an image without layers stands on. Not a layer: its name is no digest.
    pub fn empty_layer(&self) -> PathBuf {
        self.layers().join("empty")
    }

    /// Layers that are being unpacked.
    pub fn staging(&self) -> PathBuf {
        self.data_root.join("staging")
    }

    /// What is being deleted.
    pub fn trash(&self) -> PathBuf {
        self.data_root.join("trash")
    }

    pub fn actives(&self) -> PathBuf {
        self.data_root.join("active")
    }

    /// A container's writable layer: `upper` and `work`.
    pub fn active(&self, container_id: &str) -> PathBuf {
        self.actives().join(container_id)
    }

    pub fn containers(&self) -> PathBuf {
        self.data_root.join("containers")
    }

    /// A container's `hosts`, `hostname`, `resolv.conf` and `log/`.
    pub fn container(&self, container_id: &str) -> PathBuf {
        self.containers().join(container_id)
    }

    pub fn volumes(&self) -> PathBuf {
        self.data_root.join("volumes")
    }

    /// A volume's directory; its files are in `_data` beneath.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.volumes().join(name)
    }

    pub fn volume_data(&self, name: &str) -> PathBuf {
        self.volume(name).join("_data")
    }

    pub fn tasks(&self) -> PathBuf {
        self.run_root.join("tasks")
    }

    /// A running container's directory: the shim's socket, state and exit record.
    pub fn task(&self, container_id: &str) -> PathBuf {
        self.tasks().join(container_id)
    }

    pub fn namespaces(&self) -> PathBuf {
        self.run_root.join("netns")
    }
}

//! An image as a door sees it, and the requests and answers of its verbs.
use jiff::Timestamp;
use oci_spec::image::ImageConfiguration;

/// One image: a configuration, its layers, and the names that point at it.
#[derive(Debug, Clone)]
pub struct ImageView {
    /// `sha256:…` of the configuration.
    pub id: String,
    /// `name:tag`, in the short form that users write (`busybox:latest`, not `docker.io/library/busybox:latest`).
    pub tags: Vec<String>,
    /// `name@sha256:…`, for images that came from a registry.
    pub digests: Vec<String>,
    pub created: Option<Timestamp>,
    /// When a tag was last set here.
    pub last_tagged: Option<Timestamp>,
    /// Bytes of all layers, unpacked.
    pub size: u64,
    pub configuration: ImageConfiguration,
    /// The configuration's bytes as they were received: what the id is the digest of, with the fields that the OCI type
    /// does not know (`config.Healthcheck`, `container_config`, `comment`, …).
    pub raw: Vec<u8>,
    /// diffIDs, lowest first.
    pub layers: Vec<String>,
    /// Bytes of each, in the same order.
    pub layer_sizes: Vec<u64>,
}

/// A line of `load`, `import` and `save` while they go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// `Loaded image: name:tag`, without newline.
    Message(String),
    /// What goes on now: `Downloading from http://…`.
    Status(String),
    /// A layer: short id, what is done to it, bytes so far, bytes in all where known.
    Layer {
        id: String,
        status: String,
        current: u64,
        total: Option<u64>,
    },
}

/// What `rmi` did, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    Untagged(String),
    Deleted(String),
}

/// A line of `history`, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryLine {
    /// The image's id for the newest line, `<missing>` for others.
    pub id: String,
    pub created: Option<Timestamp>,
    pub created_by: String,
    pub comment: String,
    pub tags: Vec<String>,
    /// Bytes that this step added.
    pub size: u64,
}

/// What `import` is told besides the archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// `name` or `name:tag`; nameless when absent.
    pub reference: Option<String>,
    /// The comment of the image.
    pub message: String,
    /// Bytes of the archive, where they are known.
    pub total: Option<u64>,
    /// Dockerfile instructions that only change the configuration: `CMD ["sh"]`, `ENV A=b`.
    pub changes: Vec<String>,
    /// `os/architecture[/variant]`; this machine's when absent.
    pub platform: Option<String>,
}

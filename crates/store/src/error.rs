//! What can go wrong while keeping things on disk: context in the sentence, cause in the source.
use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::layer::error::LayerError;

#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// A verb, as in "cannot create /var/lib/corten".
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot {doing} in the database")]
    Database {
        doing: &'static str,
        #[source]
        source: rusqlite::Error,
    },
    #[error("the name {name} is in use by {holder}")]
    NameTaken { name: String, holder: String },
    #[error("{} belongs to another daemon that is running", path.display())]
    Locked { path: PathBuf },
    #[error("{} was written by a newer version of Corten (format {found})", path.display())]
    Newer { path: PathBuf, found: String },
    #[error("layer {id} is not in the store")]
    NoSuchLayer { id: String },
    #[error("blob sha256:{hex} is not in the store")]
    NoSuchBlob { hex: String },
    #[error("image sha256:{id} is not in the store")]
    NoSuchImage { id: String },
    #[error("the content is sha256:{found}, not sha256:{expected}")]
    Digest { expected: String, found: String },
    #[error("invalid image configuration")]
    Configuration(#[source] serde_json::Error),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error(
        "the size of {} cannot be limited: its file system has no project quotas (mount ext4 or xfs with prjquota)",
        path.display()
    )]
    NoQuota { path: PathBuf },
    #[error("{layers} layers are more than the kernel can stack ({limit})")]
    TooManyLayers { layers: usize, limit: usize },
}

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn io(doing: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
        let path = path.as_ref().to_owned();
        move |source| Error::Io { doing, path, source }
    }

    /// The same for rustix, whose errors are bare numbers.
    pub(crate) fn errno(doing: &'static str, path: impl AsRef<Path>) -> impl FnOnce(rustix::io::Errno) -> Error {
        let path = path.as_ref().to_owned();
        move |source| Error::Io {
            doing,
            path,
            source: source.into(),
        }
    }

    pub(crate) fn database(doing: &'static str) -> impl FnOnce(rusqlite::Error) -> Error {
        move |source| Error::Database { doing, source }
    }
}

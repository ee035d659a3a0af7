//! What is wrong with a layer's archive. Every variant names the entry, as the user can only mend what he can find.
use std::io;

use thiserror::Error;

#[derive(Debug, Error)]
pub enum LayerError {
    /// The archive says something that cannot or may not be.
    #[error("entry {entry:?}: {problem}")]
    Entry { entry: String, problem: String },
    /// The archive is fine, the file system said no.
    #[error("entry {entry:?}: cannot {doing}")]
    File {
        entry: String,
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    /// What stands where a header should.
    #[error("{position} {problem}")]
    Header {
        /// `the first header`, `the header after entry "x"`.
        position: String,
        problem: String,
    },
    #[error("not a tar archive")]
    NotTar,
    #[error("{0} compression is not supported: recompress it with gzip or zstd")]
    Compression(&'static str),
    /// What is there already is of another kind, and shall stay; in Docker's words.
    #[error("{0}")]
    Conflict(String),
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
    #[error("{compressed} compressed bytes became {inflated}: refused as a decompression bomb")]
    Bomb { compressed: u64, inflated: u64 },
}

impl LayerError {
    pub(crate) fn entry(path: &[u8], problem: impl Into<String>) -> LayerError {
        LayerError::Entry {
            entry: printable(path),
            problem: problem.into(),
        }
    }

    /// For `map_err` on system calls.
    pub(crate) fn file<E: Into<io::Error>>(path: &[u8], doing: &'static str) -> impl FnOnce(E) -> LayerError {
        move |source| LayerError::File {
            entry: printable(path),
            doing,
            source: source.into(),
        }
    }
}

/// Short enough for one line, whatever the archive says.
pub(crate) fn printable(path: &[u8]) -> String {
    const LONGEST: usize = 300;
    if path.len() <= LONGEST {
        return String::from_utf8_lossy(path).into_owned();
    }
    format!("{}… ({} bytes)", String::from_utf8_lossy(&path[..LONGEST]), path.len())
}

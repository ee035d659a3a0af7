//! What can go wrong between a request and a running process: a kind for exit codes, a sentence, and its cause.
use std::{fmt, io};

use crate::shim::protocol::{Failure, FailureKind};

/// A failure in the daemon or the shim; a child's travel as [`Failure`].
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub kind: FailureKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// The request contradicts itself or asks for what cannot be.
    pub fn invalid(message: impl Into<String>) -> Error {
        Error {
            kind: FailureKind::Invalid,
            message: message.into(),
            source: None,
        }
    }

    pub fn system(message: impl Into<String>) -> Error {
        Error {
            kind: FailureKind::System,
            message: message.into(),
            source: None,
        }
    }

    /// `what` completes the sentence "… is not implemented yet".
    pub fn not_implemented(what: impl fmt::Display) -> Error {
        Error::invalid(format!("{what} is not implemented yet"))
    }

    /// Says why.
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        self.source = Some(source.into());
        self
    }
}

/// The whole chain in one sentence, for the other end of a connection.
impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure {
            kind: error.kind,
            message: chain(&error),
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message.push_str(": ");
        message.push_str(&error.to_string());
        cause = error.source();
    }
    message
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, message: impl Into<String>) -> Failure {
        Failure {
            kind,
            message: message.into(),
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Failure {
        Failure::new(FailureKind::Invalid, message)
    }

    /// The sentence of an exec that could not become its program, in the frame that clients know.
    pub fn as_exec_error(&self) -> String {
        match self.kind {
            FailureKind::Invalid => self.message.clone(),
            _ => format!(
                "OCI runtime exec failed: exec failed: unable to start container process: {}: unknown",
                self.message
            ),
        }
    }

    pub(crate) fn system(what: impl fmt::Display, error: &dyn std::error::Error) -> Failure {
        Failure::new(FailureKind::System, format!("{what}: {}", chain(error)))
    }
}

/// Says what was being done when a system call failed.
pub(crate) trait Context<T> {
    fn context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T, Failure>;
}

impl<T> Context<T> for io::Result<T> {
    fn context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T, Failure> {
        self.map_err(|error| Failure::system(what(), &error))
    }
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T, Failure> {
        self.map_err(io::Error::from).context(what)
    }
}

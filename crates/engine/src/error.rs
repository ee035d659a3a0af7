//! What can go wrong, in the words that clients match on. Doors turn the kind into a status.
use std::{error::Error as StdError, fmt};

/// What kind of answer a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 404.
    NotFound,
    /// 409: the thing's state forbids it.
    Conflict,
    /// 400: the request contradicts itself or names what cannot be.
    Invalid,
    /// 403.
    Forbidden,
    /// 304: it is so already.
    NotModified,
    /// 501: a capability that this version does not have.
    NotImplemented,
    /// 503.
    Unavailable,
    /// 500.
    System,
}

/// A failure of a verb: a kind, a sentence, and its cause.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error {
            kind,
            message: message.into(),
            source: None,
        }
    }

    pub fn not_found(message: impl Into<String>) -> Error {
        Error::new(Kind::NotFound, message)
    }

    pub fn conflict(message: impl Into<String>) -> Error {
        Error::new(Kind::Conflict, message)
    }

    pub fn invalid(message: impl Into<String>) -> Error {
        Error::new(Kind::Invalid, message)
    }

    /// `what` completes the sentence "… is not implemented yet".
    pub fn not_implemented(what: impl fmt::Display) -> Error {
        Error::new(
            Kind::NotImplemented,
            format!("{what} is not implemented yet (see docs/compatibility.md)"),
        )
    }

    pub fn system(message: impl Into<String>) -> Error {
        Error::new(Kind::System, message)
    }

    /// Says why.
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        self.source = Some(source.into());
        self
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }
}

/// The sentence, then every cause after a colon.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut cause = self.source.as_deref().map(|source| source as &dyn StdError);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl StdError for Error {}

/// An error with every cause after a colon.
pub fn causes(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

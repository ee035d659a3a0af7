//! How a command fails: what stderr says and how the process ends.
//!
//! Docker's exit codes are an interface: 125 means that the engine or the command line refused, 126 and 127 that the
//! container's command could not be run, everything else is the container's own.
use corten_api::client::Error;

/// A command's failure.
#[derive(Debug)]
pub struct Failure {
    pub status: u8,
    /// Empty when everything has been said already.
    pub text: String,
}

impl Failure {
    pub fn new(text: impl Into<String>) -> Failure {
        Failure {
            status: 1,
            text: text.into(),
        }
    }

    /// The words are out already; only the status is left.
    pub fn silent(status: u8) -> Failure {
        Failure {
            status,
            text: String::new(),
        }
    }

    pub fn with_status(mut self, status: u8) -> Failure {
        self.status = status;
        self
    }

    pub fn io(doing: impl std::fmt::Display, error: &std::io::Error) -> Failure {
        Failure::new(format!("{doing}: {}", reason(error)))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::new(error.to_string())
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Failure {
        Failure::new(text)
    }
}

/// The system's reason alone, in lower case and without the number, as command lines print it.
pub fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = match text.find(" (os error") {
        Some(end) => &text[..end],
        None => &text,
    };
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

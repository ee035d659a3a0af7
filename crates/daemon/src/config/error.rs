//! Why a configuration is none, in dockerd's words where it has some.
use std::io;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("unable to configure the Docker daemon with file {path}: {reason}")]
    File { path: String, reason: String },
    #[error("cannot read {path}")]
    Read {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "unable to configure the Docker daemon with file {path}: the following directives are specified both as a flag \
         and in the configuration file: {names}"
    )]
    Conflict { path: String, names: String },
    #[error(
        "unable to configure the Docker daemon with file {path}: the following directives don't match any configuration \
         option: {names}"
    )]
    UnknownKeys { path: String, names: String },
    #[error("invalid value for {name}: {reason}")]
    Value { name: &'static str, reason: String },
    #[error("{0} is not implemented yet (see docs/compatibility.md)")]
    NotImplemented(String),
}

/// A value that cannot be.
pub fn invalid(name: &'static str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Value {
        name,
        reason: reason.into(),
    }
}

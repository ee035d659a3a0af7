//! What can go wrong with a control group, in words that name the limit and not only the file.
use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No mounted hierarchy has the controller that would apply this limit.
    #[error("cannot set the {limit}: this host has no {controller} cgroup controller")]
    NoController { limit: String, controller: String },
    /// The controller is there, but not this knob of it.
    #[error("cannot set the {limit}: {reason}")]
    Unsupported { limit: String, reason: String },
    /// What was asked for contradicts itself or is out of range.
    #[error("invalid {limit}: {reason}")]
    Invalid { limit: String, reason: String },
    /// The kernel refused a limit.
    #[error("cannot set the {limit} to {value:?} ({path})")]
    Limit {
        limit: String,
        value: String,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot enable the {controllers} cgroup controller in {path}{hint}")]
    Enable {
        controllers: String,
        path: PathBuf,
        hint: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("cannot {action} {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// v2: a cgroup whose parent has processes of its own, or is threaded, can be made but not used.
    #[error(
        "cgroup {path} cannot hold a container: it is \"{kind}\", because the cgroup above it is threaded or has processes of its own"
    )]
    NotADomain { path: PathBuf, kind: String },
    /// Another container, or a leftover with living processes, has the cgroup.
    #[error("cgroup {path} is in use by processes that are not ours")]
    InUse { path: PathBuf },
    #[error("processes in cgroup {path} did not {what} in time")]
    Timeout { path: PathBuf, what: &'static str },
    #[error("this host has no cgroup file system mounted")]
    NoHierarchy,
    #[error("invalid cgroup path {path:?}: {reason}")]
    Path { path: String, reason: &'static str },
    #[error("cannot {action} the device filter")]
    DeviceFilter {
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{0}: not implemented yet")]
    NotImplemented(&'static str),
}

impl Error {
    /// Is it that the cgroup is not there any more?
    pub fn is_gone(&self) -> bool {
        match self {
            Error::Io { source, .. } | Error::Limit { source, .. } => super::files::is_gone(source),
            _ => false,
        }
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Error {
        Error::Io {
            action,
            path: path.into(),
            source: source.into(),
        }
    }
}

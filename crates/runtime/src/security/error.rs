//! What can be wrong with a seccomp profile.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot decode the seccomp profile")]
    Json(#[source] serde_json::Error),
    #[error("invalid seccomp profile: {0}")]
    Invalid(String),
    #[error("seccomp profile: {0}: not implemented yet")]
    NotImplemented(&'static str),
    /// The kernel takes 4096 instructions at most.
    #[error("the seccomp profile compiles to {0} instructions; the kernel takes 4096 at most")]
    TooLong(usize),
}

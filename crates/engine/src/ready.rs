//! File descriptors that tokio waits for.
use std::{io, os::fd::OwnedFd};

use tokio::io::unix::AsyncFd;

/// Registers a non-blocking descriptor with the runtime.
#[expect(
    deprecated,
    reason = "its successor is unsafe for the sake of types that change their descriptor; OwnedFd does not"
)]
pub fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}

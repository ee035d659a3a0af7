//! Socket activation: listening sockets that a service manager opened before it started us.
//!
//! The protocol is systemd's: `LISTEN_PID` names us, `LISTEN_FDS` counts descriptors from 3 on.
use std::{
    env,
    os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd},
    process,
};

use rustix::io::{FdFlags, fcntl_setfd};

const FIRST: RawFd = 3;

/// The sockets that were passed to this process, in order, closed on exec from now on. The second call finds none.
pub fn listen_fds() -> Vec<OwnedFd> {
    static TAKEN: std::sync::Once = std::sync::Once::new();
    let mut sockets = Vec::new();
    TAKEN.call_once(|| {
        let variable = |name| env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
        if variable("LISTEN_PID") != Some(process::id()) {
            return;
        }
        let count = RawFd::try_from(variable("LISTEN_FDS").unwrap_or_default()).unwrap_or_default();
        sockets = (FIRST..FIRST.saturating_add(count)).filter_map(adopt).collect();
    });
    sockets
}

fn adopt(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: the service manager opened this descriptor for us and nobody else in this process knows its number: it
    // is taken once (`TAKEN`), before anything in this program could have been given the same number, as it was open
    // from the start. The borrow is only used to find out that it is open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_setfd(borrowed, FdFlags::CLOEXEC).ok()?;
    // SAFETY: as above; it is open, and ours to close.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

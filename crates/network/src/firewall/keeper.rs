//! The keeper: makes the table anew when somebody takes it away.
//!
//! `nft flush ruleset`, which is what a restart of the nftables service does, takes every table of the host. Without the
//! keeper no container would be reached before the next change of ours.
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    thread::{self, JoinHandle},
};

use corten_linux::netlink::nft::{transaction::Family, watch::Watch};
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::Errno,
};

use crate::{
    error::{Error, Result},
    firewall::table::Firewall,
};

/// Watches until it is dropped.
pub struct Keeper {
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Watches the calling thread's network namespace, which must be the firewall's.
    pub fn start(firewall: Arc<Firewall>) -> Result<Keeper> {
        let failed = |error: io::Error| Error::system("cannot watch the host's firewall").because(error);
        let watch = Watch::open().map_err(failed)?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
        let stopped = stop.try_clone().map_err(failed)?;
        let thread = thread::Builder::new()
            .name("firewall".to_owned())
            .spawn(move || keep(&firewall, watch, &stopped));
        let thread = Some(thread.map_err(failed)?);
        Ok(Keeper { stop, thread })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn keep(firewall: &Firewall, mut watch: Watch, stop: &OwnedFd) {
    /// Whoever replaces the host's rules may do it in several steps.
    const CALM: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 100_000_000,
    };
    let is_ready = |fds: &[BorrowedFd], patience: Option<&Timespec>| {
        let mut fds: Vec<_> = fds
            .iter()
            .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
            .collect();
        while poll(&mut fds, patience) == Err(Errno::INTR) {}
        fds.last().is_some_and(|fd| !fd.revents().is_empty())
    };
    loop {
        if is_ready(&[watch.as_fd(), stop.as_fd()], None) {
            return;
        }
        match watch.gone(Family::Inet, firewall.table()) {
            Ok(false) => continue,
            Ok(true) => {}
            Err(error) => {
                tracing::error!(%error, "the host's firewall is not watched any more");
                return;
            }
        }
        if is_ready(&[stop.as_fd()], Some(&CALM)) {
            return;
        }
        if let Err(error) = firewall.mend() {
            tracing::error!(%error, "somebody took away the firewall's table, and it cannot be made anew");
        }
    }
}

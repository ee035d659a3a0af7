//! The keeper: makes the table anew when somebody takes it away, and lets the rules see every packet when somebody else's do.
//!
//! `nft flush ruleset`, which is what a restart of the nftables service does, takes every table of the host. Without the
//! keeper no container would be reached before the next change of ours.
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    thread::{self, JoinHandle},
};

use corten_linux::netlink::nft::{
    transaction::Family,
    watch::{Event, Watch},
};
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::Errno,
};

use crate::{
    error::{Error, Result},
    firewall::{offload::may_watch, table::Firewall},
};

/// Watches until it is dropped.
pub struct Keeper {
    firewall: Arc<Firewall>,
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
        let thread = thread::Builder::new().name("firewall".to_owned()).spawn({
            let firewall = Arc::clone(&firewall);
            move || keep(&firewall, watch, &stopped)
        });
        let thread = Some(thread.map_err(failed)?);
        Ok(Keeper { firewall, stop, thread })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // Who adds a rule now would not be heard.
        self.firewall.end_flows();
    }
}

fn keep(firewall: &Firewall, mut watch: Watch, stop: &OwnedFd) {
    /// Whoever replaces the host's rules may do it in several steps.
    const CALM: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 100_000_000,
    };
    /// Of the older iptables there is no news.
    const ROUND: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
    loop {
        let patience = firewall.has_flows().then_some(&ROUND);
        match wait(&[stop.as_fd(), watch.as_fd()], patience) {
            Some(0) => return,
            Some(_) => {}
            None => {
                firewall.tend_flows();
                continue;
            }
        }
        let news = match News::read(&mut watch, firewall.table()) {
            Ok(news) => news,
            Err(error) => {
                tracing::error!(%error, "the host's firewall is not watched any more");
                firewall.end_flows();
                return;
            }
        };
        if !news.gone && !news.others {
            continue;
        }
        // A rule that was just added is to see the next packet.
        if firewall.has_flows() {
            firewall.tend_flows();
        }
        if wait(&[stop.as_fd()], Some(&CALM)).is_some() {
            return;
        }
        if news.gone
            && let Err(error) = firewall.mend()
        {
            tracing::error!(%error, "somebody took away the firewall's table, and it cannot be made anew");
        }
        firewall.tend_flows();
    }
}

/// What happened to the host's rules.
#[derive(Default)]
struct News {
    /// Our table is gone, or may be.
    gone: bool,
    /// Somebody else's rules changed, or may have.
    others: bool,
}

impl News {
    fn read(watch: &mut Watch, ours: &str) -> io::Result<News> {
        let mut news = News::default();
        let complete = watch.read(|event| match event {
            Event::TableGone { family, table } if (family, table) == (Family::Inet as u8, ours) => news.gone = true,
            Event::TableGone { .. } => news.others = true,
            Event::Rules { family, table, chain } => news.others |= may_watch(family, table, chain, ours),
        })?;
        news.gone |= !complete;
        news.others |= !complete;
        Ok(news)
    }
}

/// Waits until one is readable, or as long as it may, and says which.
fn wait(fds: &[BorrowedFd], patience: Option<&Timespec>) -> Option<usize> {
    let mut fds: Vec<_> = fds
        .iter()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    while poll(&mut fds, patience) == Err(Errno::INTR) {}
    fds.iter().position(|fd| !fd.revents().is_empty())
}

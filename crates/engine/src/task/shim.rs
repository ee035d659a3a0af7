//! Our end of the line to a container's shim.
//!
//! A request has exactly one reply, in order. Events come in between: they are kept until someone asks for the next.
//! A shim that is stopped or stuck is waited for a while: [`io::ErrorKind::TimedOut`]. Its late reply is nobody's.
use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use corten_runtime::shim::{
    connection,
    protocol::{Event, FromShim, Reply, ToShim},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::timeout,
};

use crate::ready;

/// How long a shim may take for anything but a start.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to make a container or to execute its program, which may lie on a slow disk.
pub const START_PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub struct Line {
    fd: AsyncFd<OwnedFd>,
    events: VecDeque<Event>,
    /// How many replies are still to come that nobody waits for any more.
    late: usize,
}

impl Line {
    pub fn new(fd: OwnedFd) -> io::Result<Line> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Line {
            fd: ready::watched(fd)?,
            events: VecDeque::new(),
            late: 0,
        })
    }

    /// Asks, and waits for the reply. Fails when the shim is gone, or does not answer.
    pub async fn request(&mut self, message: &ToShim, fds: &[BorrowedFd<'_>]) -> io::Result<(Reply, Vec<OwnedFd>)> {
        self.request_within(PATIENCE, message, fds).await
    }

    pub async fn request_within(
        &mut self,
        patience: Duration,
        message: &ToShim,
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<(Reply, Vec<OwnedFd>)> {
        self.send(message, fds).await?;
        match timeout(patience, self.reply()).await {
            Ok(reply) => reply,
            Err(_) => {
                self.late += 1;
                Err(io::ErrorKind::TimedOut.into())
            }
        }
    }

    /// Asks; the reply is waited for by itself.
    pub async fn send(&mut self, message: &ToShim, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let send = |fd: &OwnedFd| connection::send(fd.as_fd(), message, fds);
        let sent = timeout(PATIENCE, self.fd.async_io(Interest::WRITABLE, send)).await;
        sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// The reply to what was sent last. Fails when the shim is gone.
    pub async fn reply(&mut self) -> io::Result<(Reply, Vec<OwnedFd>)> {
        loop {
            match self.next().await? {
                (FromShim::Reply(reply), fds) => return Ok((reply, fds)),
                (FromShim::Event(event), _) => self.events.push_back(event),
            }
        }
    }

    /// Whatever comes next while a reply is awaited. Fails when the shim is gone.
    pub async fn next(&mut self) -> io::Result<(FromShim, Vec<OwnedFd>)> {
        let received = self.receive().await?;
        received.ok_or_else(|| io::ErrorKind::ConnectionReset.into())
    }

    /// The next event; absent when the shim is gone. Nothing is lost when this is dropped half way.
    pub async fn event(&mut self) -> io::Result<Option<Event>> {
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(event));
        }
        match self.receive().await? {
            None => Ok(None),
            Some((FromShim::Event(event), _)) => Ok(Some(event)),
            Some((FromShim::Reply(reply), _)) => {
                Err(io::Error::other(format!("the shim replied to nothing: {reply:?}")))
            }
        }
    }

    /// Without replies that come too late.
    async fn receive(&mut self) -> io::Result<Option<(FromShim, Vec<OwnedFd>)>> {
        loop {
            match self.receive_any().await? {
                Some((FromShim::Reply(_), _)) if self.late > 0 => self.late -= 1,
                received => return Ok(received),
            }
        }
    }

    async fn receive_any(&self) -> io::Result<Option<(FromShim, Vec<OwnedFd>)>> {
        let received = self
            .fd
            .async_io(Interest::READABLE, |fd| connection::receive(fd.as_fd()))
            .await;
        match received {
            // The other end died with something of ours unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            received => received,
        }
    }
}

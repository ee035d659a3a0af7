//! What a child and its shim say to each other between clone and exec.
//!
//! The channel closes on exec: its end without a word means that the program runs. It also closes when the shim dies,
//! which ends a child that waits.
use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd, RawFd},
};

use corten_linux::socket;
use serde::{Deserialize, Serialize};

use crate::{
    rootfs::owners::MapRequest,
    shim::protocol::{CgroupRecord, Failure},
};

/// The child's end: the first descriptor after the standard streams.
pub(crate) const CHANNEL: RawFd = 3;

const PACKET_MAX: usize = 16 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromChild {
    /// Everything is in place but the program. Beside it, with a terminal: its two ends, ours first.
    Ready,
    Failed(Failure),
    /// The root file system is whole: hooks of the shim's may run. Nothing follows before [`release`].
    Assembled,
    /// Answered by [`mapped`].
    Map(MapRequest),
}

/// Says something to the shim.
pub fn tell(channel: BorrowedFd, message: &FromChild, fds: &[BorrowedFd]) -> io::Result<()> {
    let bytes = postcard::to_allocvec(message).map_err(io::Error::other)?;
    socket::send(channel, &bytes[..bytes.len().min(PACKET_MAX)], fds)
}

/// What the child says next; `None` when its end has closed.
pub fn hear(channel: BorrowedFd) -> io::Result<Option<(FromChild, Vec<OwnedFd>)>> {
    let mut buffer = [0; PACKET_MAX];
    let (length, fds) = match socket::receive(channel, &mut buffer) {
        // It died before it had read everything that we said. What it said itself comes after that error.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => socket::receive(channel, &mut buffer)?,
        result => result?,
    };
    if length == 0 {
        return Ok(None);
    }
    let message = postcard::from_bytes(&buffer[..length]).map_err(io::Error::other)?;
    Ok(Some((message, fds)))
}

/// Tells the child where its cgroup is; it waits for that before anything of it can run.
pub fn show_cgroup(channel: BorrowedFd, record: &CgroupRecord) -> io::Result<()> {
    let bytes = postcard::to_allocvec(record).map_err(io::Error::other)?;
    socket::send(channel, &bytes, &[])
}

/// Waits for [`show_cgroup`]; `None` when the shim is gone.
pub fn wait_for_cgroup(channel: BorrowedFd) -> io::Result<Option<CgroupRecord>> {
    let mut buffer = [0; PACKET_MAX];
    match socket::receive(channel, &mut buffer)? {
        (0, _) => Ok(None),
        (length, _) => Ok(Some(postcard::from_bytes(&buffer[..length]).map_err(io::Error::other)?)),
    }
}

/// Answers [`FromChild::Map`]: why it could not be done, or nothing.
pub fn mapped(channel: BorrowedFd, trouble: Option<&str>) -> io::Result<()> {
    let bytes = postcard::to_allocvec(&trouble).map_err(io::Error::other)?;
    socket::send(channel, &bytes[..bytes.len().min(PACKET_MAX)], &[])
}

/// Waits for [`mapped`].
pub fn hear_mapped(channel: BorrowedFd) -> io::Result<Option<String>> {
    let mut buffer = [0; PACKET_MAX];
    let (length, _) = socket::receive(channel, &mut buffer)?;
    if length == 0 {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    postcard::from_bytes(&buffer[..length]).map_err(io::Error::other)
}

/// Lets the child execute its program.
pub fn release(channel: BorrowedFd) -> io::Result<()> {
    socket::send(channel, b"x", &[])
}

/// Waits for [`release`]; false when the shim is gone.
pub fn wait_for_release(channel: BorrowedFd) -> io::Result<bool> {
    let mut byte = [0; 1];
    let (length, _) = socket::receive(channel, &mut byte)?;
    Ok(length == 1)
}

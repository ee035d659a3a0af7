//! Both ends of a shim's connection: one packet a message, descriptors beside it.
use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use corten_linux::socket;
use rustix::{
    fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, open},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    process::plan::{Plan, ShimPlan},
    shim::protocol::{FromShim, MAX_PACKET_BYTES, ToShim, files},
};

/// Sends a request to a shim.
pub fn send(fd: BorrowedFd, message: &ToShim, fds: &[BorrowedFd]) -> io::Result<()> {
    send_any(fd, message, fds)
}

/// Receives what a shim says; `None` when it is gone. A non-blocking socket's `WouldBlock` passes through.
pub fn receive(fd: BorrowedFd) -> io::Result<Option<(FromShim, Vec<OwnedFd>)>> {
    receive_any(fd, &mut vec![0; MAX_PACKET_BYTES])
}

pub(crate) fn send_any<M: Serialize>(fd: BorrowedFd, message: &M, fds: &[BorrowedFd]) -> io::Result<()> {
    let bytes = postcard::to_allocvec(message).map_err(io::Error::other)?;
    if bytes.len() > MAX_PACKET_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "message too large"));
    }
    socket::send(fd, &bytes, fds)
}

/// What a shim is told: a small buffer keeps its stack small.
pub(crate) fn receive_request(fd: BorrowedFd) -> io::Result<Option<(ToShim, Vec<OwnedFd>)>> {
    receive_any(fd, &mut [0; 512])
}

fn receive_any<M: DeserializeOwned>(fd: BorrowedFd, buffer: &mut [u8]) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    let (length, fds) = match socket::receive(fd, buffer) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
        result => result?,
    };
    if length == 0 {
        return Ok(None);
    }
    let message = postcard::from_bytes(&buffer[..length]).map_err(io::Error::other)?;
    Ok(Some((message, fds)))
}

/// The plan as a sealed file in memory: it can be passed on, and nobody can change it any more.
pub fn plan_memfd(plan: &Plan) -> io::Result<OwnedFd> {
    let shim = postcard::to_allocvec(&plan.shim).map_err(io::Error::other)?;
    let child = postcard::to_allocvec(&plan.child).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + shim.len() + child.len());
    bytes.extend_from_slice(&(shim.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&shim);
    bytes.extend_from_slice(&child);
    let mut file = File::from(memfd_create(
        "corten-plan",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )?);
    file.write_all(&bytes)?;
    fcntl_add_seals(
        &file,
        SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
    )?;
    Ok(file.into())
}

/// The length of the shim's part.
const HEADER_BYTES: usize = 8;

/// The shim's part of a plan, and where the child's begins.
pub(crate) fn read_shim_plan(plan: BorrowedFd) -> io::Result<(ShimPlan, u64)> {
    use std::os::unix::fs::FileExt;
    let file = File::from(plan.try_clone_to_owned()?);
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, 0)?;
    let length = usize::try_from(u64::from_le_bytes(header)).map_err(io::Error::other)?;
    let mut bytes = vec![0; length.min(1 << 20)];
    file.read_exact_at(&mut bytes, HEADER_BYTES as u64)?;
    let shim = postcard::from_bytes(&bytes).map_err(io::Error::other)?;
    Ok((shim, (HEADER_BYTES + length) as u64))
}

/// Connects to the living shim of a task.
pub fn reconnect(task_directory: &Path) -> io::Result<OwnedFd> {
    let directory = open(
        task_directory,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    connect(&socket, &address(directory.as_fd())?)?;
    Ok(socket)
}

/// Where a daemon that comes back finds the shim.
pub(crate) fn listen_in(directory: BorrowedFd) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    bind(&socket, &address(directory)?)?;
    // Daemons that came while this one was stopped stand in line.
    listen(&socket, 64)?;
    Ok(socket)
}

/// Task directories may be deeper than a socket address is long: through the descriptor any depth will do.
fn address(directory: BorrowedFd) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!(
        "/proc/self/fd/{}/{}",
        directory.as_raw_fd(),
        files::SOCKET
    ))?)
}

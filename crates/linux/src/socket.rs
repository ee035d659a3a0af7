//! Packets with file descriptors beside them, over Unix sockets.
use std::{
    ffi::c_long,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use linux_raw_sys::general as raw;
use rustix::{
    cmsg_space,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, recvmsg, sendmsg,
    },
};

use crate::syscall::{check, syscall};

/// TIOCOUTQ's number, which ioctl(2) shares between terminals and sockets on x86 and arm.
const SIOCOUTQ: c_long = 0x5411;

/// The most descriptors that one packet carries.
pub const FDS_MAX: usize = 64;

/// Sends one packet, whole.
pub fn send(socket: BorrowedFd, bytes: &[u8], fds: &[BorrowedFd]) -> io::Result<()> {
    assert!(fds.len() <= FDS_MAX, "a packet carries at most {FDS_MAX} descriptors");
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    let sent = loop {
        match sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => continue,
            result => break result?,
        }
    };
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// Receives one packet into `buffer`; a length of 0 means that the other side has closed.
///
/// Packets or descriptors that do not fit are an error, never cut.
pub fn receive(socket: BorrowedFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        match recvmsg(
            socket,
            &mut [IoSliceMut::new(buffer)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(rustix::io::Errno::INTR) => continue,
            result => break result?,
        }
    };
    let mut fds = Vec::new();
    for item in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = item {
            fds.extend(rights);
        }
    }
    if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "packet too large"));
    }
    Ok((message.bytes, fds))
}

/// Closes the file behind a descriptor at once, though somebody may still hold the descriptor: it refers to the file of
/// `instead` from now on (`dup3(2)`). For a socket whose port must be free when its owner says so.
pub fn replace(descriptor: BorrowedFd, instead: BorrowedFd) -> io::Result<()> {
    // SAFETY: both numbers are open for as long as they are borrowed, and stay open: only the file behind one changes.
    let result = unsafe {
        syscall(
            c_long::from(raw::__NR_dup3),
            instead.as_raw_fd(),
            descriptor.as_raw_fd(),
            raw::O_CLOEXEC,
        )
    };
    check(result).map(drop)
}

/// How much of what was sent on a socket is still on its way: for a Unix socket 0 means that the other side has read all
/// of it (`SIOCOUTQ`, unix(7); the unit is the kernel's own, bytes with its overhead).
pub fn unread(socket: BorrowedFd) -> io::Result<u32> {
    let mut count: i32 = 0;
    // SAFETY: the descriptor is open while it is borrowed, and the kernel writes one int to where the pointer leads.
    let result = unsafe {
        syscall(
            c_long::from(raw::__NR_ioctl),
            socket.as_raw_fd(),
            SIOCOUTQ,
            &raw mut count,
        )
    };
    check(result).map(|_| count.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::{fd::AsFd, unix::net::UnixStream},
    };

    use super::unread;

    #[test]
    fn what_was_read_is_not_unread() {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        assert_eq!(unread(here.as_fd()).unwrap(), 0);
        here.write_all(b"head").unwrap();
        assert_ne!(unread(here.as_fd()).unwrap(), 0);
        let mut bytes = [0; 4];
        there.read_exact(&mut bytes).unwrap();
        assert_eq!(unread(here.as_fd()).unwrap(), 0);
    }
}

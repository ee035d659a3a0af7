//! Attachers: connected stream sockets that get what the process prints, and that standard input comes from.
//!
//! An attacher that is slow holds the container up rather than lose output: the shim does not read on until what it
//! has read has been taken. One that is gone is forgotten.
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{SendFlags, Shutdown, send, sendmsg, shutdown},
};

use super::{
    log::writer::Stream,
    poll::{Interest, Key, Poll},
};

/// `[stream, 0, 0, 0, length as big-endian u32]` before what a stream printed.
const HEADER_BYTES: usize = 8;

pub(crate) struct Attacher {
    pub number: u32,
    fd: OwnedFd,
    /// Does it still send standard input?
    pub stdin: bool,
    stdout: bool,
    stderr: bool,
    /// What it could not take yet: `queue[sent..]`.
    queue: Vec<u8>,
    sent: usize,
    /// Nobody reads there any more.
    gone: bool,
    registered: Option<Interest>,
}

impl Attacher {
    pub fn new(number: u32, fd: OwnedFd, [stdin, stdout, stderr]: [bool; 3]) -> Attacher {
        Attacher {
            number,
            fd,
            stdin,
            stdout,
            stderr,
            queue: Vec::new(),
            sent: 0,
            gone: false,
            registered: None,
        }
    }

    /// Is something waiting to be taken?
    pub fn is_behind(&self) -> bool {
        !self.gone && self.sent < self.queue.len()
    }

    /// Has it no use any more?
    pub fn is_done(&self) -> bool {
        let listens = !self.gone && (self.stdout || self.stderr || self.is_behind());
        !listens && !self.stdin
    }

    /// Has it gone, and left input that nobody has read?
    pub fn is_legacy(&self) -> bool {
        self.gone && self.stdin
    }

    /// Gives it what a stream printed, with a header where it wants frames.
    pub fn give(&mut self, stream: Stream, data: &[u8], framed: bool) {
        let wanted = match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        };
        if !wanted || self.gone {
            return;
        }
        let mut header = [0; HEADER_BYTES];
        header[0] = match stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        };
        header[4..].copy_from_slice(&(data.len() as u32).to_be_bytes());
        let header: &[u8] = if framed { &header } else { &[] };
        let taken = if self.is_behind() {
            0
        } else {
            self.send_now(header, data)
        };
        self.queue.extend_from_slice(&header[taken.min(header.len())..]);
        self.queue
            .extend_from_slice(&data[taken.saturating_sub(header.len())..]);
    }

    fn send_now(&mut self, header: &[u8], data: &[u8]) -> usize {
        let parts = [io::IoSlice::new(header), io::IoSlice::new(data)];
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match sendmsg(&self.fd, &parts, &mut Default::default(), flags) {
            Ok(taken) => taken,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(_) => {
                self.stop_listening();
                header.len() + data.len()
            }
        }
    }

    /// Sends on what waits.
    pub fn flush(&mut self) {
        while self.is_behind() {
            match send(
                &self.fd,
                &self.queue[self.sent..],
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            ) {
                Ok(taken) => self.sent += taken,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.stop_listening(),
            }
        }
        self.sent = 0;
        self.queue = Vec::new();
    }

    /// The other side takes nothing any more. It may still have sent input that we have not read.
    pub fn stop_listening(&mut self) {
        self.gone = true;
        self.queue = Vec::new();
        self.sent = 0;
    }

    /// Reads standard input; `None` when there is none now, 0 at its end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        loop {
            match rustix::net::recv(&self.fd, &mut *buffer, rustix::net::RecvFlags::DONTWAIT) {
                Ok((length, _)) => return Some(length),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return None,
                Err(_) => return Some(0),
            }
        }
    }

    /// Standard input has closed: whoever writes on gets an error instead of waiting for ever.
    pub fn refuse_input(&mut self) {
        self.stdin = false;
        let _ = shutdown(&self.fd, Shutdown::Read);
    }

    /// Nothing more will come for it: it is done when it has taken what waits.
    pub fn end(&mut self) {
        (self.stdin, self.stdout, self.stderr) = (false, false, false);
    }

    /// Registers what it now waits for. A source that has hung up reports so for ever: it is only kept in the poll set
    /// while there is something to do about it.
    pub fn register(&mut self, poll: &Poll, stdin_has_room: bool) {
        let interest = Interest {
            read: self.stdin && stdin_has_room,
            write: self.is_behind(),
        };
        let wanted = (!self.gone || interest.read).then_some(interest);
        if wanted == self.registered {
            return;
        }
        let key = Key::Attacher(self.number);
        let result = match (self.registered, wanted) {
            (None, Some(interest)) => poll.add(self.fd.as_fd(), key, interest),
            (Some(_), Some(interest)) => poll.change(self.fd.as_fd(), key, interest),
            (_, None) => {
                poll.remove(self.fd.as_fd());
                Ok(())
            }
        };
        if result.is_err() {
            self.stop_listening();
            self.stdin = false;
        }
        self.registered = wanted;
    }
}

//! What a shim waits for: one epoll instance, and a key for each source.
use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
    io::Errno,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// The container's first process has ended.
    Process,
    /// A daemon comes back.
    Listener,
    Connection(u32),
    Stdin,
    Stdout,
    Stderr,
    /// Both input and output of the container.
    Terminal,
    Attacher(u32),
    /// The kernel kills for want of memory, or might have.
    OutOfMemory,
}

impl Key {
    fn to_bits(self) -> u64 {
        let (kind, number) = match self {
            Key::Process => (0, 0),
            Key::Listener => (1, 0),
            Key::Connection(number) => (2, number),
            Key::Stdin => (3, 0),
            Key::Stdout => (4, 0),
            Key::Stderr => (5, 0),
            Key::Terminal => (6, 0),
            Key::Attacher(number) => (7, number),
            Key::OutOfMemory => (8, 0),
        };
        kind << 32 | u64::from(number)
    }

    fn from_bits(bits: u64) -> Key {
        let number = bits as u32;
        match bits >> 32 {
            0 => Key::Process,
            1 => Key::Listener,
            2 => Key::Connection(number),
            3 => Key::Stdin,
            4 => Key::Stdout,
            5 => Key::Stderr,
            6 => Key::Terminal,
            8 => Key::OutOfMemory,
            _ => Key::Attacher(number),
        }
    }
}

/// What happened at a source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    pub key: Key,
    pub readable: bool,
    pub writable: bool,
    /// Nobody is at the other end any more.
    pub hung_up: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Interest {
    pub read: bool,
    pub write: bool,
}

impl Interest {
    pub const READ: Interest = Interest {
        read: true,
        write: false,
    };

    fn flags(self) -> EventFlags {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, self.read);
        flags.set(EventFlags::OUT, self.write);
        flags
    }
}

pub(crate) struct Poll {
    epoll: OwnedFd,
}

const EVENTS_AT_ONCE: usize = 16;

impl Poll {
    pub fn new() -> io::Result<Poll> {
        Ok(Poll {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
        })
    }

    pub fn add(&self, fd: BorrowedFd, key: Key, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            fd,
            EventData::new_u64(key.to_bits()),
            interest.flags(),
        )?)
    }

    /// For what only reports that something has changed.
    pub fn add_urgent(&self, fd: BorrowedFd, key: Key) -> io::Result<()> {
        let data = EventData::new_u64(key.to_bits());
        Ok(epoll::add(&self.epoll, fd, data, EventFlags::PRI)?)
    }

    pub fn change(&self, fd: BorrowedFd, key: Key, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(
            &self.epoll,
            fd,
            EventData::new_u64(key.to_bits()),
            interest.flags(),
        )?)
    }

    pub fn remove(&self, fd: BorrowedFd) {
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Waits for something to happen; calls `handle` for each thing that did. False after a timeout.
    pub fn wait(&self, timeout: Option<Duration>, mut handle: impl FnMut(Ready)) -> io::Result<bool> {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let mut events = [std::mem::MaybeUninit::<Event>::uninit(); EVENTS_AT_ONCE];
        let (ready, _) = match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Err(Errno::INTR) => return Ok(true),
            result => result?,
        };
        for event in ready.iter() {
            let flags = event.flags;
            handle(Ready {
                key: Key::from_bits(event.data.u64()),
                readable: flags.contains(EventFlags::IN),
                writable: flags.contains(EventFlags::OUT),
                hung_up: flags.intersects(EventFlags::HUP | EventFlags::ERR),
            });
        }
        Ok(!ready.is_empty())
    }
}

//! What a shim waits for: one epoll instance, and a key for each source.
//!
//! Every source has an owner: the container itself, or one of the further processes that were started in it. A [`Poll`]
//! speaks for one owner; all of them share the instance.
use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
    rc::Rc,
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
    /// The owner's process has ended.
    Process,
    /// A daemon comes back.
    Listener,
    Connection(u32),
    Stdin,
    Stdout,
    Stderr,
    /// Both input and output of the owner.
    Terminal,
    Attacher(u32),
    /// The kernel kills for want of memory, or might have.
    OutOfMemory,
    /// A child on its way to exec has something to say.
    Channel,
}

/// The container itself.
pub(crate) const CONTAINER: u32 = 0;
/// Owners have smaller numbers.
pub(crate) const OWNERS: u32 = 1 << OWNER_BITS;

const OWNER_BITS: u32 = 28;

impl Key {
    fn to_bits(self, owner: u32) -> u64 {
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
            Key::Channel => (9, 0),
        };
        kind << (32 + OWNER_BITS) | u64::from(owner) << 32 | u64::from(number)
    }

    fn from_bits(bits: u64) -> Key {
        let number = bits as u32;
        match bits >> (32 + OWNER_BITS) {
            0 => Key::Process,
            1 => Key::Listener,
            2 => Key::Connection(number),
            3 => Key::Stdin,
            4 => Key::Stdout,
            5 => Key::Stderr,
            6 => Key::Terminal,
            7 => Key::Attacher(number),
            8 => Key::OutOfMemory,
            _ => Key::Channel,
        }
    }
}

/// What happened at a source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    pub owner: u32,
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
    epoll: Rc<OwnedFd>,
    owner: u32,
}

const EVENTS_AT_ONCE: usize = 16;

impl Poll {
    pub fn new() -> io::Result<Poll> {
        Ok(Poll {
            epoll: Rc::new(epoll::create(CreateFlags::CLOEXEC)?),
            owner: CONTAINER,
        })
    }

    /// The same instance, for sources of another owner.
    pub fn of(&self, owner: u32) -> Poll {
        debug_assert!(owner < OWNERS);
        Poll {
            epoll: Rc::clone(&self.epoll),
            owner,
        }
    }

    pub fn add(&self, fd: BorrowedFd, key: Key, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(
            &*self.epoll,
            fd,
            EventData::new_u64(key.to_bits(self.owner)),
            interest.flags(),
        )?)
    }

    /// For what only reports that something has changed.
    pub fn add_urgent(&self, fd: BorrowedFd, key: Key) -> io::Result<()> {
        let data = EventData::new_u64(key.to_bits(self.owner));
        Ok(epoll::add(&*self.epoll, fd, data, EventFlags::PRI)?)
    }

    pub fn change(&self, fd: BorrowedFd, key: Key, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(
            &*self.epoll,
            fd,
            EventData::new_u64(key.to_bits(self.owner)),
            interest.flags(),
        )?)
    }

    pub fn remove(&self, fd: BorrowedFd) {
        let _ = epoll::delete(&*self.epoll, fd);
    }

    /// Waits for something to happen; calls `handle` for each thing that did. False after a timeout.
    pub fn wait(&self, timeout: Option<Duration>, mut handle: impl FnMut(Ready)) -> io::Result<bool> {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let mut events = [std::mem::MaybeUninit::<Event>::uninit(); EVENTS_AT_ONCE];
        let (ready, _) = match epoll::wait(&*self.epoll, &mut events, timeout.as_ref()) {
            Err(Errno::INTR) => return Ok(true),
            result => result?,
        };
        for event in ready.iter() {
            let flags = event.flags;
            let bits = event.data.u64();
            handle(Ready {
                owner: (bits >> 32) as u32 & (OWNERS - 1),
                key: Key::from_bits(bits),
                readable: flags.contains(EventFlags::IN),
                writable: flags.contains(EventFlags::OUT),
                hung_up: flags.intersects(EventFlags::HUP | EventFlags::ERR),
            });
        }
        Ok(!ready.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_owners_survive_the_kernel() {
        let keys = [
            Key::Process,
            Key::Listener,
            Key::Connection(u32::MAX),
            Key::Stdin,
            Key::Stdout,
            Key::Stderr,
            Key::Terminal,
            Key::Attacher(u32::MAX),
            Key::Channel,
        ];
        for key in keys {
            for owner in [CONTAINER, 1, OWNERS - 1] {
                let bits = key.to_bits(owner);
                assert_eq!((Key::from_bits(bits), (bits >> 32) as u32 & (OWNERS - 1)), (key, owner));
            }
        }
    }
}

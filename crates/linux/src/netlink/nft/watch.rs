//! Changes of tables, as they happen.
//!
//! A reader that is too slow loses some; [`Watch::read`] says so, and the reader lists what there is.
use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use rustix::io::Errno;

use crate::netlink::{
    message::Received,
    nft::transaction::Message,
    socket::{Protocol, Socket},
};

/// Families are numbers of the kernel's (`NFPROTO_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    TableGone {
        family: u8,
        table: &'a str,
    },
    /// A chain is made or taken away, or rules of it are.
    Rules {
        family: u8,
        table: &'a str,
        chain: &'a str,
    },
}

#[derive(Debug)]
pub struct Watch {
    socket: Socket,
}

impl Watch {
    /// Hears what happens in the calling thread's network namespace from now on.
    pub fn open() -> io::Result<Watch> {
        const NFNLGRP_NFTABLES: u32 = 7;
        let socket = Socket::open(Protocol::Netfilter)?;
        socket.join(NFNLGRP_NFTABLES)?;
        Ok(Watch { socket })
    }

    /// Waits for the next changes. `false`: some were lost.
    pub fn read(&mut self, mut each: impl FnMut(Event)) -> io::Result<bool> {
        let read = self.socket.listen(|kind, payload| {
            if let Some(event) = event(kind, payload) {
                each(event);
            }
        });
        match read {
            Ok(()) => Ok(true),
            Err(Errno::NOBUFS) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn event(kind: u16, payload: &[u8]) -> Option<Event<'_>> {
    const TABLE: u16 = 1;
    const CHAIN_OF_A_RULE: u16 = 2;
    const NAME_OF_A_CHAIN: u16 = 3;
    let is = |messages: [Message; 2]| messages.iter().any(|message| message.kind() == kind);
    let (header, attributes) = payload.split_at_checked(4)?;
    let (family, attributes) = (header[0], Received::new(attributes));
    let chain = if kind == Message::DeleteTable.kind() {
        let table = attributes.text(TABLE)?;
        return Some(Event::TableGone { family, table });
    } else if is([Message::NewRule, Message::DeleteRule]) {
        CHAIN_OF_A_RULE
    } else if is([Message::NewChain, Message::DeleteChain]) {
        NAME_OF_A_CHAIN
    } else {
        return None;
    };
    Some(Event::Rules {
        family,
        table: attributes.text(TABLE)?,
        chain: attributes.text(chain)?,
    })
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

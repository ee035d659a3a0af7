//! Tables that go away, as it happens.
use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use rustix::io::Errno;

use crate::netlink::{
    message::Received,
    nft::transaction::{Family, Message},
    socket::{Protocol, Socket},
};

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

    /// Waits for the next changes. Was a table of this name among what went away? Perhaps, where changes were lost.
    pub fn gone(&mut self, family: Family, table: &str) -> io::Result<bool> {
        let mut gone = false;
        let heard = self.socket.listen(|kind, payload| {
            if kind == Message::DeleteTable.kind()
                && let Some((header, attributes)) = payload.split_at_checked(4)
            {
                gone |= header[0] == family as u8 && Received::new(attributes).text(1) == Some(table);
            }
        });
        match heard {
            Ok(()) => Ok(gone),
            Err(Errno::NOBUFS) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

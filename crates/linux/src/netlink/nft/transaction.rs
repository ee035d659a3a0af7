//! Changes to one table, made together or not at all.
//!
//! What is created and is there already is left as it is; what is deleted must be there. A chain or a set can be deleted
//! and created anew in one transaction; it can only be deleted when no rule or element that stays refers to it.
use crate::netlink::{
    message::{Attributes, Batch, flags},
    nft::{
        expression::Expression,
        set::{Element, Set},
    },
    socket::{Refusal, Socket},
};

/// `NFNL_SUBSYS_NFTABLES`.
pub(crate) const SUBSYSTEM: u16 = 10;
/// Elements in one message: all of them must fit into an attribute (64 KiB).
const ELEMENTS: usize = 256;

/// `NFT_MSG_*`.
#[derive(Clone, Copy)]
pub(crate) enum Message {
    NewTable = 0,
    GetTable = 1,
    DeleteTable = 2,
    NewChain = 3,
    GetChain = 4,
    DeleteChain = 5,
    NewRule = 6,
    GetRule = 7,
    DeleteRule = 8,
    NewSet = 9,
    GetSet = 10,
    DeleteSet = 11,
    NewElement = 12,
    GetElement = 13,
    DeleteElement = 14,
    NewFlowTable = 22,
    GetFlowTable = 23,
    DeleteFlowTable = 24,
}

impl Message {
    pub(crate) fn kind(self) -> u16 {
        SUBSYSTEM << 8 | self as u16
    }
}

/// `NFPROTO_*`: which packets a table sees, or which kind of address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Family {
    /// Both of IPv4 and IPv6.
    Inet = 1,
    Ipv4 = 2,
    Bridge = 7,
    Ipv6 = 10,
}

impl Family {
    /// What `nft` calls a family of this number (`NFPROTO_*`).
    pub fn name_of(number: u8) -> &'static str {
        match number {
            1 => "inet",
            2 => "ip",
            3 => "arp",
            5 => "netdev",
            7 => "bridge",
            10 => "ip6",
            _ => "unknown",
        }
    }
}

/// `struct nfgenmsg`.
pub(crate) fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// Where packets meet a base chain (`NF_INET_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// What a base chain does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    Filter,
    Nat,
}

/// Where a base chain is called; what it lets through without a verdict is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    pub kind: ChainKind,
    pub hook: Hook,
    /// Lower ones are called first.
    pub priority: i32,
}

#[derive(Debug)]
pub struct Transaction {
    batch: Batch,
    family: Family,
    table: String,
    /// Sets of one transaction are numbered.
    sets: u32,
}

impl Transaction {
    pub fn new(family: Family, table: &str) -> Transaction {
        const BATCH_BEGIN: u16 = 16;
        let mut batch = Batch::new();
        batch.message(BATCH_BEGIN, flags::REQUEST, &header(0, SUBSYSTEM), |_| {});
        Transaction {
            batch,
            family,
            table: table.to_owned(),
            sets: 0,
        }
    }

    /// Every message but those of tables has the table's name in its first attribute.
    fn message(&mut self, message: Message, flags: u16, fill: impl FnOnce(&mut Attributes)) {
        const TABLE: u16 = 1;
        let table = &self.table;
        let header = header(self.family as u8, 0);
        self.batch
            .message(message.kind(), flags::REQUEST | flags, &header, |attributes| {
                attributes.text(TABLE, table);
                fill(attributes);
            });
    }

    /// Makes the table.
    pub fn table(&mut self) {
        self.message(Message::NewTable, flags::CREATE, |_| {});
    }

    pub fn delete_table(&mut self) {
        self.message(Message::DeleteTable, 0, |_| {});
    }

    /// Makes a chain; with `base` one that packets meet, otherwise one that rules call.
    pub fn chain(&mut self, name: &str, base: Option<Base>) {
        const NAME: u16 = 3;
        const HOOK: u16 = 4;
        const POLICY: u16 = 5;
        const TYPE: u16 = 7;
        const ACCEPT: u32 = 1;
        self.message(Message::NewChain, flags::CREATE, |attributes| {
            attributes.text(NAME, name);
            if let Some(base) = base {
                attributes
                    .nested(HOOK, |hook| {
                        hook.u32_be(1, base.hook as u32).u32_be(2, base.priority as u32);
                    })
                    .u32_be(POLICY, ACCEPT)
                    .text(
                        TYPE,
                        match base.kind {
                            ChainKind::Filter => "filter",
                            ChainKind::Nat => "nat",
                        },
                    );
            }
        });
    }

    pub fn delete_chain(&mut self, name: &str) {
        self.message(Message::DeleteChain, 0, |attributes| {
            attributes.text(3, name);
        });
    }

    /// Appends a rule.
    pub fn rule(&mut self, chain: &str, expressions: &[Expression]) {
        const CHAIN: u16 = 2;
        const EXPRESSIONS: u16 = 4;
        self.message(Message::NewRule, flags::CREATE | flags::APPEND, |attributes| {
            attributes.text(CHAIN, chain).nested(EXPRESSIONS, |list| {
                for expression in expressions {
                    expression.write(list);
                }
            });
        });
    }

    /// Deletes every rule of a chain.
    pub fn flush_chain(&mut self, chain: &str) {
        self.message(Message::DeleteRule, 0, |attributes| {
            attributes.text(2, chain);
        });
    }

    /// Makes a flow table: connections that [`Expression::Offload`] puts into it pass from one of these interfaces to another
    /// without any rule being asked. One that is there gets the interfaces that it lacks (5.8). All must exist (`ENOENT`).
    pub fn flow_table<N: AsRef<str>>(&mut self, name: &str, interfaces: impl IntoIterator<Item = N>) {
        const NAME: u16 = 2;
        const HOOK: u16 = 3;
        const INGRESS: u32 = 0;
        const FIRST: u32 = 0;
        self.message(Message::NewFlowTable, flags::CREATE, |attributes| {
            attributes.text(NAME, name).nested(HOOK, |hook| {
                hook.u32_be(1, INGRESS).u32_be(2, FIRST).nested(3, |devices| {
                    for interface in interfaces {
                        devices.text(1, interface.as_ref());
                    }
                });
            });
        });
    }

    /// Its connections go on by the rules.
    pub fn delete_flow_table(&mut self, name: &str) {
        self.message(Message::DeleteFlowTable, 0, |attributes| {
            attributes.text(2, name);
        });
    }

    pub fn set(&mut self, set: &Set) {
        self.sets += 1;
        let id = self.sets;
        self.message(Message::NewSet, flags::CREATE, |attributes| set.write(id, attributes));
    }

    pub fn delete_set(&mut self, name: &str) {
        self.message(Message::DeleteSet, 0, |attributes| {
            attributes.text(2, name);
        });
    }

    /// Adds elements. One that is there with the same value is left; with another value it is an error (`EEXIST`).
    pub fn add(&mut self, set: &str, elements: &[Element]) {
        self.elements(Message::NewElement, flags::CREATE, set, elements);
    }

    pub fn remove(&mut self, set: &str, elements: &[Element]) {
        self.elements(Message::DeleteElement, 0, set, elements);
    }

    /// Deletes every element of a set.
    pub fn flush_set(&mut self, set: &str) {
        self.message(Message::DeleteElement, 0, |attributes| {
            attributes.text(2, set);
        });
    }

    fn elements(&mut self, message: Message, flags: u16, set: &str, elements: &[Element]) {
        const SET: u16 = 2;
        const ELEMENTS_LIST: u16 = 3;
        for elements in elements.chunks(ELEMENTS) {
            self.message(message, flags, |attributes| {
                attributes.text(SET, set).nested(ELEMENTS_LIST, |list| {
                    for element in elements {
                        element.write(list);
                    }
                });
            });
        }
    }

    /// Does nothing were it committed.
    pub fn is_empty(&self) -> bool {
        self.batch.len() == 1
    }

    /// Makes the changes, or none. The index of a refusal counts from 1, in the order of the calls.
    pub fn commit(mut self, socket: &mut Socket) -> Result<(), Refusal> {
        const BATCH_END: u16 = 17;
        if self.is_empty() {
            return Ok(());
        }
        self.batch.acknowledge_last();
        self.batch
            .message(BATCH_END, flags::REQUEST, &header(0, SUBSYSTEM), |_| {});
        socket.transact(&mut self.batch)
    }
}

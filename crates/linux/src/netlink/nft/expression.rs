//! Expressions: what rules are made of, one step of the kernel's little machine each.
//!
//! A rule runs its expressions in order until one does not match. They talk through sixteen registers of four bytes
//! ([`Register`]); a longer value, and each field of a concatenation, begins at a register and takes as many as it needs.
//! Addresses and ports are in network byte order there, everything else in the host's.
use std::net::IpAddr;

use crate::netlink::{message::Attributes, nft::transaction::Family};

/// One of the sixteen four-byte registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register(u8);

/// The first register: where single values live.
pub const FIRST: Register = Register(0);

impl Register {
    /// The `index`th, counted from 0.
    pub const fn at(index: u8) -> Register {
        assert!(index < 16, "there are sixteen registers");
        Register(index)
    }

    fn number(self) -> u32 {
        // NFT_REG32_00
        8 + u32::from(self.0)
    }
}

/// Facts about a packet that are not in it (`NFT_META_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Meta {
    Mark = 3,
    /// Sixteen bytes, padded with NUL.
    InputName = 6,
    /// Sixteen bytes, padded with NUL.
    OutputName = 7,
    /// One byte: 2 for IPv4, 10 for IPv6.
    Family = 15,
    /// One byte.
    Protocol = 16,
}

/// Facts about a packet's connection (`NFT_CT_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Connection {
    State = 0,
    Direction = 1,
    Status = 2,
    Mark = 3,
}

/// Bits of [`Connection::State`] and [`Connection::Status`].
pub mod connection {
    pub const INVALID: u32 = 1 << 0;
    pub const ESTABLISHED: u32 = 1 << 1;
    pub const RELATED: u32 = 1 << 2;
    pub const NEW: u32 = 1 << 3;
    /// In the status: its source was, or its destination was translated.
    pub const SOURCE_TRANSLATED: u32 = 1 << 4;
    pub const DESTINATION_TRANSLATED: u32 = 1 << 5;
}

/// Where in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Header {
    Link = 0,
    Network = 1,
    Transport = 2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Comparison {
    Equal = 0,
    NotEqual = 1,
    Less = 2,
    LessOrEqual = 3,
    Greater = 4,
    GreaterOrEqual = 5,
}

/// Whose kind a routing look-up tells ([`Expression::AddressKind`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Address {
    Source = 1 << 0,
    Destination = 1 << 1,
}

/// `RTN_LOCAL`: an address of this host.
pub const LOCAL: u32 = 2;

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Drop,
    Accept,
    /// Back to the chain that called.
    Return,
    /// To another chain, and back behind its end.
    Jump(String),
    Goto(String),
}

/// Where a translation leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Translate {
    Source = 0,
    Destination = 1,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    Meta {
        key: Meta,
        to: Register,
    },
    Connection {
        key: Connection,
        to: Register,
    },
    Payload {
        header: Header,
        offset: u32,
        length: u32,
        to: Register,
    },
    /// The kind of an address, by routing: [`LOCAL`] and its like.
    AddressKind {
        of: Address,
        to: Register,
    },
    Compare {
        from: Register,
        how: Comparison,
        with: Vec<u8>,
    },
    /// `from & mask ^ xor`, as long as the mask.
    Bitwise {
        from: Register,
        to: Register,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    /// Is the key in the set? With `to`: what the map has for it.
    Lookup {
        set: String,
        from: Register,
        to: Option<Register>,
        invert: bool,
    },
    /// The verdict that a map has for the key; none is to go on.
    VerdictMap {
        map: String,
        from: Register,
    },
    Immediate {
        to: Register,
        value: Vec<u8>,
    },
    Verdict(Verdict),
    /// Network address translation to what the registers hold.
    Nat {
        kind: Translate,
        family: Family,
        address: Option<Register>,
        port: Option<Register>,
    },
    /// Source translation to the address of the interface where the packet leaves.
    Masquerade,
    Counter,
    /// The connection's next packets take the way past the rules that this flow table keeps for it
    /// ([`Transaction::flow_table`](crate::netlink::nft::transaction::Transaction::flow_table)). Only an established one of
    /// TCP or UDP that the kernel can take; any other does not match.
    Offload {
        table: String,
    },
    /// An answer that says no: a reset for TCP, else ICMP's "port unreachable".
    Reject {
        reset: bool,
    },
}

impl Expression {
    pub(crate) fn write(&self, list: &mut Attributes) {
        const LIST_ELEMENT: u16 = 1;
        const NAME: u16 = 1;
        const DATA: u16 = 2;
        list.nested(LIST_ELEMENT, |element| {
            element
                .text(NAME, self.name())
                .nested(DATA, |data| self.write_data(data));
        });
    }

    fn name(&self) -> &'static str {
        match self {
            Expression::Meta { .. } => "meta",
            Expression::Connection { .. } => "ct",
            Expression::Payload { .. } => "payload",
            Expression::AddressKind { .. } => "fib",
            Expression::Compare { .. } => "cmp",
            Expression::Bitwise { .. } => "bitwise",
            Expression::Lookup { .. } | Expression::VerdictMap { .. } => "lookup",
            Expression::Immediate { .. } | Expression::Verdict(_) => "immediate",
            Expression::Nat { .. } => "nat",
            Expression::Masquerade => "masq",
            Expression::Counter => "counter",
            Expression::Offload { .. } => "flow_offload",
            Expression::Reject { .. } => "reject",
        }
    }

    /// The attributes' numbers are each expression's own (`NFTA_META_*`, `NFTA_CT_*`, …).
    fn write_data(&self, data: &mut Attributes) {
        match self {
            Expression::Meta { key, to } => {
                data.u32_be(2, *key as u32).u32_be(1, to.number());
            }
            Expression::Connection { key, to } => {
                data.u32_be(2, *key as u32).u32_be(1, to.number());
            }
            Expression::Payload {
                header,
                offset,
                length,
                to,
            } => {
                data.u32_be(1, to.number())
                    .u32_be(2, *header as u32)
                    .u32_be(3, *offset)
                    .u32_be(4, *length);
            }
            Expression::AddressKind { of, to } => {
                const RESULT_ADDRTYPE: u32 = 3;
                data.u32_be(3, *of as u32)
                    .u32_be(2, RESULT_ADDRTYPE)
                    .u32_be(1, to.number());
            }
            Expression::Compare { from, how, with } => {
                data.u32_be(1, from.number()).u32_be(2, *how as u32);
                write_value(data, 3, with);
            }
            Expression::Bitwise { from, to, mask, xor } => {
                let length = u32::try_from(mask.len()).expect("at most 64");
                data.u32_be(1, from.number()).u32_be(2, to.number()).u32_be(3, length);
                write_value(data, 4, mask);
                write_value(data, 5, xor);
            }
            Expression::Lookup { set, from, to, invert } => {
                data.text(1, set).u32_be(2, from.number());
                if let Some(to) = to {
                    data.u32_be(3, to.number());
                }
                if *invert {
                    data.u32_be(5, 1);
                }
            }
            Expression::VerdictMap { map, from } => {
                data.text(1, map).u32_be(2, from.number()).u32_be(3, 0);
            }
            Expression::Immediate { to, value } => {
                data.u32_be(1, to.number());
                write_value(data, 2, value);
            }
            Expression::Verdict(verdict) => {
                data.u32_be(1, 0);
                data.nested(2, |value| verdict.write(value));
            }
            Expression::Nat {
                kind,
                family,
                address,
                port,
            } => write_nat(data, *kind, *family, *address, *port),
            Expression::Masquerade => {}
            Expression::Counter => {
                data.u64_be(1, 0).u64_be(2, 0);
            }
            Expression::Offload { table } => {
                data.text(1, table);
            }
            Expression::Reject { reset: true } => {
                data.u32_be(1, 1).u8(2, 0);
            }
            Expression::Reject { reset: false } => {
                // NFT_REJECT_ICMPX_UNREACH, NFT_REJECT_ICMPX_PORT_UNREACH: whatever the family's number for it is.
                data.u32_be(1, 2).u8(2, 1);
            }
        }
    }
}

fn write_nat(
    data: &mut Attributes,
    kind: Translate,
    family: Family,
    address: Option<Register>,
    port: Option<Register>,
) {
    data.u32_be(1, kind as u32).u32_be(2, family as u32);
    if let Some(address) = address {
        data.u32_be(3, address.number()).u32_be(4, address.number());
    }
    if let Some(port) = port {
        data.u32_be(5, port.number()).u32_be(6, port.number());
    }
}

/// `NFTA_DATA_VALUE` within `kind`.
pub(crate) fn write_value(attributes: &mut Attributes, kind: u16, value: &[u8]) {
    const DATA_VALUE: u16 = 1;
    attributes.nested(kind, |data| {
        data.bytes(DATA_VALUE, value);
    });
}

impl Verdict {
    /// `NFTA_DATA_VERDICT`.
    pub(crate) fn write(&self, data: &mut Attributes) {
        const DATA_VERDICT: u16 = 2;
        let (code, chain) = match self {
            Verdict::Drop => (0, None),
            Verdict::Accept => (1, None),
            Verdict::Jump(chain) => (-3, Some(chain)),
            Verdict::Goto(chain) => (-4, Some(chain)),
            Verdict::Return => (-5_i32, None),
        };
        data.nested(DATA_VERDICT, |verdict| {
            verdict.u32_be(1, code as u32);
            if let Some(chain) = chain {
                verdict.text(2, chain);
            }
        });
    }
}

/// An address as registers and elements hold it.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// An interface's name as registers and elements hold it. At most fifteen bytes.
pub fn interface(name: &str) -> Vec<u8> {
    assert!(name.len() < 16, "an interface's name has at most 15 bytes: {name}");
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

//! Sets and maps: named collections that rules look keys up in, and their elements.
//!
//! A key or a value may be a concatenation: its fields follow each other, each padded to a multiple of four bytes.
use crate::netlink::{
    message::Attributes,
    nft::expression::{Verdict, write_value},
};

/// What a field holds. The numbers are those that `nft` gives them: the kernel only keeps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Field {
    Ipv4 = 7,
    Ipv6 = 8,
    /// One byte, `IPPROTO_*`.
    Protocol = 12,
    /// A port.
    Service = 13,
    Interface = 41,
}

impl Field {
    fn length(self) -> u32 {
        match self {
            Field::Ipv4 => 4,
            Field::Ipv6 | Field::Interface => 16,
            Field::Protocol => 1,
            Field::Service => 2,
        }
    }
}

/// What a map has for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values<'a> {
    /// It is a set: a key is in it or not.
    None,
    Fields(&'a [Field]),
    Verdicts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set<'a> {
    pub name: &'a str,
    pub key: &'a [Field],
    pub values: Values<'a>,
}

/// The flag of sets that belong to one rule.
pub(crate) const ANONYMOUS: u32 = 0x1;

impl Set<'_> {
    pub(crate) fn write(&self, id: u32, attributes: &mut Attributes) {
        const NFT_SET_MAP: u32 = 0x8;
        const NFT_DATA_VERDICT: u32 = 0xffff_ff00;
        const NAME: u16 = 2;
        const FLAGS: u16 = 3;
        const KEY_TYPE: u16 = 4;
        const KEY_LEN: u16 = 5;
        const DATA_TYPE: u16 = 6;
        const DATA_LEN: u16 = 7;
        const ID: u16 = 10;
        const USERDATA: u16 = 13;
        let flags = if self.values == Values::None { 0 } else { NFT_SET_MAP };
        attributes
            .text(NAME, self.name)
            .u32_be(FLAGS, flags)
            .u32_be(KEY_TYPE, number(self.key))
            .u32_be(KEY_LEN, length(self.key))
            .u32_be(ID, id)
            .bytes(USERDATA, &byte_order(self.key));
        match self.values {
            Values::None => {}
            Values::Fields(fields) => {
                attributes
                    .u32_be(DATA_TYPE, number(fields))
                    .u32_be(DATA_LEN, length(fields));
            }
            Values::Verdicts => {
                attributes.u32_be(DATA_TYPE, NFT_DATA_VERDICT);
            }
        }
    }
}

/// For `nft`, which shows names of interfaces only of sets whose keys are in the host's byte order (libnftnl's
/// `NFTNL_UDATA_SET_KEYBYTEORDER`: kind, length, number).
fn byte_order(key: &[Field]) -> [u8; 6] {
    const HOST: u32 = 1;
    const NETWORK: u32 = 2;
    let order = if key == [Field::Interface] { HOST } else { NETWORK };
    let [a, b, c, d] = order.to_ne_bytes();
    [0, 4, a, b, c, d]
}

/// `nft` packs the fields of a concatenation into one number, six bits each.
fn number(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |number, field| number << 6 | *field as u32)
}

fn length(fields: &[Field]) -> u32 {
    match fields {
        [single] => single.length(),
        fields => fields.iter().map(|field| field.length().next_multiple_of(4)).sum(),
    }
}

/// Joins the fields of a concatenation.
pub fn concatenate(fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(fields.iter().map(|field| field.len().next_multiple_of(4)).sum());
    for field in fields {
        bytes.extend_from_slice(field);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    pub key: Vec<u8>,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    None,
    Data(Vec<u8>),
    Verdict(Verdict),
}

impl Element {
    /// Of a set, or of a map that it is deleted from.
    pub fn key(key: Vec<u8>) -> Element {
        Element {
            key,
            value: Value::None,
        }
    }

    pub(crate) fn write(&self, list: &mut Attributes) {
        const LIST_ELEMENT: u16 = 1;
        const KEY: u16 = 1;
        const DATA: u16 = 2;
        list.nested(LIST_ELEMENT, |element| {
            write_value(element, KEY, &self.key);
            match &self.value {
                Value::None => {}
                Value::Data(bytes) => write_value(element, DATA, bytes),
                Value::Verdict(verdict) => {
                    element.nested(DATA, |data| verdict.write(data));
                }
            }
        });
    }
}

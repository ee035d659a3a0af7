//! Phrases of rules: a few expressions each, as one would say them to `nft`. A rule is their concatenation.
use std::net::{IpAddr, Ipv4Addr};

use corten_linux::netlink::nft::{
    expression::{
        Address, Comparison, Connection, Expression, FIRST, Header, LOCAL, Meta, Register, Translate, Verdict,
        connection, interface, octets,
    },
    transaction::Family,
};
use ipnet::IpNet;

pub(super) type Phrase = Vec<Expression>;

/// A rule of phrases.
pub(super) fn rule<const N: usize>(phrases: [Phrase; N]) -> Phrase {
    phrases.concat()
}

pub(super) fn verdict(verdict: Verdict) -> Phrase {
    vec![Expression::Verdict(verdict)]
}

pub(super) fn accept() -> Phrase {
    verdict(Verdict::Accept)
}

pub(super) fn discard() -> Phrase {
    verdict(Verdict::Drop)
}

pub(super) fn back() -> Phrase {
    verdict(Verdict::Return)
}

pub(super) fn jump(chain: &str) -> Phrase {
    verdict(Verdict::Jump(chain.to_owned()))
}

fn compare(how: Comparison, with: Vec<u8>) -> Expression {
    Expression::Compare { from: FIRST, how, with }
}

fn meta(key: Meta) -> Expression {
    Expression::Meta { key, to: FIRST }
}

/// `iifname NAME`
pub(super) fn from(name: &str) -> Phrase {
    vec![meta(Meta::InputName), compare(Comparison::Equal, interface(name))]
}

/// `iifname != NAME`
pub(super) fn not_from(name: &str) -> Phrase {
    vec![meta(Meta::InputName), compare(Comparison::NotEqual, interface(name))]
}

/// `oifname NAME`
pub(super) fn to(name: &str) -> Phrase {
    vec![meta(Meta::OutputName), compare(Comparison::Equal, interface(name))]
}

/// `oifname != NAME`
pub(super) fn not_to(name: &str) -> Phrase {
    vec![meta(Meta::OutputName), compare(Comparison::NotEqual, interface(name))]
}

/// `iifname vmap @MAP`
pub(super) fn from_map(map: &str) -> Phrase {
    vec![meta(Meta::InputName), verdict_map(map)]
}

/// `oifname vmap @MAP`
pub(super) fn to_map(map: &str) -> Phrase {
    vec![meta(Meta::OutputName), verdict_map(map)]
}

fn verdict_map(map: &str) -> Expression {
    Expression::VerdictMap {
        map: map.to_owned(),
        from: FIRST,
    }
}

/// `iifname @SET`
pub(super) fn from_any(set: &str) -> Phrase {
    vec![meta(Meta::InputName), contained(set)]
}

/// `oifname @SET`
pub(super) fn to_any(set: &str) -> Phrase {
    vec![meta(Meta::OutputName), contained(set)]
}

/// `flow add @TABLE`
pub(super) fn offload(table: &str) -> Phrase {
    vec![Expression::Offload {
        table: table.to_owned(),
    }]
}

fn contained(set: &str) -> Expression {
    Expression::Lookup {
        set: set.to_owned(),
        from: FIRST,
        to: None,
        invert: false,
    }
}

/// `meta nfproto`
pub(super) fn family(family: Family) -> Phrase {
    vec![meta(Meta::Family), compare(Comparison::Equal, vec![family as u8])]
}

/// `meta l4proto`
pub(super) fn protocol(number: u8) -> Phrase {
    vec![meta(Meta::Protocol), compare(Comparison::Equal, vec![number])]
}

pub(super) fn family_of(address: IpAddr) -> Family {
    match address {
        IpAddr::V4(_) => Family::Ipv4,
        IpAddr::V6(_) => Family::Ipv6,
    }
}

/// Where in its header a family has the source and the destination, and how long they are.
fn place(of: Address, family: Family) -> (u32, u32) {
    match (family, of) {
        (Family::Ipv6, Address::Source) => (8, 16),
        (Family::Ipv6, Address::Destination) => (24, 16),
        (_, Address::Source) => (12, 4),
        (_, Address::Destination) => (16, 4),
    }
}

/// Loads an address of the packet.
fn address(of: Address, family: Family, to: Register) -> Expression {
    let (offset, length) = place(of, family);
    Expression::Payload {
        header: Header::Network,
        offset,
        length,
        to,
    }
}

/// `ip saddr NET`, `ip6 daddr NET`
pub(super) fn within(of: Address, network: IpNet) -> Phrase {
    let family_number = family_of(network.addr());
    let mut phrase = family(family_number);
    phrase.push(address(of, family_number, FIRST));
    let bits = u32::from(network.max_prefix_len());
    if u32::from(network.prefix_len()) < bits {
        let mask = octets(network.netmask());
        let xor = vec![0; mask.len()];
        phrase.push(Expression::Bitwise {
            from: FIRST,
            to: FIRST,
            mask,
            xor,
        });
    }
    phrase.push(compare(Comparison::Equal, octets(network.network())));
    phrase
}

/// `ip saddr 127.0.0.0/8`
pub(super) fn loopback(of: Address) -> Phrase {
    let loopback = IpNet::new(Ipv4Addr::new(127, 0, 0, 0).into(), 8).expect("a prefix of IPv4");
    within(of, loopback)
}

/// `fib daddr type local`
pub(super) fn to_this_host() -> Phrase {
    vec![
        Expression::AddressKind {
            of: Address::Destination,
            to: FIRST,
        },
        compare(Comparison::Equal, LOCAL.to_ne_bytes().to_vec()),
    ]
}

fn connection_bits(key: Connection, bits: u32, how: Comparison) -> Phrase {
    vec![
        Expression::Connection { key, to: FIRST },
        Expression::Bitwise {
            from: FIRST,
            to: FIRST,
            mask: bits.to_ne_bytes().to_vec(),
            xor: vec![0; 4],
        },
        compare(how, vec![0; 4]),
    ]
}

/// `ct state established,related`
pub(super) fn established() -> Phrase {
    let bits = connection::ESTABLISHED | connection::RELATED;
    connection_bits(Connection::State, bits, Comparison::NotEqual)
}

/// `ct state != established,related`
pub(super) fn not_established() -> Phrase {
    let bits = connection::ESTABLISHED | connection::RELATED;
    connection_bits(Connection::State, bits, Comparison::Equal)
}

/// `ct status dnat`
pub(super) fn published() -> Phrase {
    connection_bits(
        Connection::Status,
        connection::DESTINATION_TRANSLATED,
        Comparison::NotEqual,
    )
}

/// `ct status ! dnat`
pub(super) fn not_published() -> Phrase {
    connection_bits(
        Connection::Status,
        connection::DESTINATION_TRANSLATED,
        Comparison::Equal,
    )
}

/// Loads `meta l4proto . th dport` from a register on.
fn service(at: u8) -> Phrase {
    vec![
        Expression::Meta {
            key: Meta::Protocol,
            to: Register::at(at),
        },
        Expression::Payload {
            header: Header::Transport,
            offset: 2,
            length: 2,
            to: Register::at(at + 1),
        },
    ]
}

/// Loads `ip daddr . meta l4proto . th dport`.
fn destination(family: Family) -> Phrase {
    let mut phrase = vec![address(Address::Destination, family, FIRST)];
    phrase.extend(service(if family == Family::Ipv6 { 4 } else { 1 }));
    phrase
}

/// `dnat ip to meta l4proto . th dport map @MAP`
pub(super) fn translate_any(family_number: Family, map: &str) -> Phrase {
    [family(family_number), service(0), translate(family_number, map)].concat()
}

/// `dnat ip to ip daddr . meta l4proto . th dport map @MAP`
pub(super) fn translate_one(family_number: Family, map: &str) -> Phrase {
    [
        family(family_number),
        destination(family_number),
        translate(family_number, map),
    ]
    .concat()
}

fn translate(family: Family, map: &str) -> Phrase {
    vec![
        Expression::Lookup {
            set: map.to_owned(),
            from: FIRST,
            to: Some(FIRST),
            invert: false,
        },
        Expression::Nat {
            kind: Translate::Destination,
            family,
            address: Some(FIRST),
            port: Some(Register::at(if family == Family::Ipv6 { 4 } else { 1 })),
        },
    ]
}

/// `ip daddr . meta l4proto . th dport @SET`
pub(super) fn destination_in(family_number: Family, set: &str) -> Phrase {
    let mut phrase = family(family_number);
    phrase.extend(destination(family_number));
    phrase.push(contained(set));
    phrase
}

/// `ip saddr . ip daddr . meta l4proto . th dport @SET`
pub(super) fn way_in(family_number: Family, set: &str) -> Phrase {
    let registers = if family_number == Family::Ipv6 { 4 } else { 1 };
    let mut phrase = family(family_number);
    phrase.push(address(Address::Source, family_number, FIRST));
    phrase.push(address(Address::Destination, family_number, Register::at(registers)));
    phrase.extend(service(2 * registers));
    phrase.push(contained(set));
    phrase
}

pub(super) fn masquerade() -> Phrase {
    vec![Expression::Masquerade]
}

/// `snat ip to ADDRESS`
pub(super) fn leave_as(address: IpAddr) -> Phrase {
    vec![
        Expression::Immediate {
            to: FIRST,
            value: octets(address),
        },
        Expression::Nat {
            kind: Translate::Source,
            family: family_of(address),
            address: Some(FIRST),
            port: None,
        },
    ]
}

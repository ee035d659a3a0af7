//! Every kind of message and expression, as Debian's `nft` reads it back.
use std::{
    panic,
    process::{Command, Stdio},
    thread,
};

use rustix::io::Errno;

use super::{
    expression::{
        Address, Comparison, Connection, Expression, FIRST, Header, LOCAL, Meta, Register, Translate, Verdict,
        connection, interface,
    },
    list,
    set::{Element, Field, Set, Value, Values, concatenate},
    transaction::{Base, ChainKind, Family, Hook, Transaction},
};
use crate::{
    namespace::unshare,
    netlink::socket::{Protocol, Socket},
};

/// Runs a test in a network namespace of its own.
fn alone(test: impl FnOnce(&mut Socket) + Send) {
    const CLONE_NEWNET: u64 = 0x4000_0000;
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CLONE_NEWNET).expect("tests of firewalls need root");
            test(&mut Socket::open(Protocol::Netfilter).expect("netlink"));
        });
        thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic));
    });
}

/// The lines of a listing, without braces and blanks.
fn nft(arguments: &str) -> Vec<String> {
    let output = Command::new("nft")
        .args(arguments.split(' '))
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stderr(Stdio::inherit())
        .output()
        .expect("nft");
    assert!(output.status.success(), "nft {arguments}");
    let text = String::from_utf8(output.stdout).expect("text");
    let lines = text.lines().map(|line| line.trim().to_owned());
    lines.filter(|line| !["", "}"].contains(&&**line)).collect()
}

fn compare(how: Comparison, with: &[u8]) -> Expression {
    Expression::Compare {
        from: FIRST,
        how,
        with: with.to_vec(),
    }
}

fn meta(key: Meta) -> Expression {
    Expression::Meta { key, to: FIRST }
}

fn ct(key: Connection) -> Expression {
    Expression::Connection { key, to: FIRST }
}

fn payload(header: Header, offset: u32, length: u32, to: Register) -> Expression {
    Expression::Payload {
        header,
        offset,
        length,
        to,
    }
}

fn bits(mask: u32) -> Expression {
    Expression::Bitwise {
        from: FIRST,
        to: FIRST,
        mask: mask.to_ne_bytes().to_vec(),
        xor: vec![0; 4],
    }
}

fn verdict(verdict: Verdict) -> Expression {
    Expression::Verdict(verdict)
}

fn tcp() -> [Expression; 2] {
    [meta(Meta::Protocol), compare(Comparison::Equal, &[6])]
}

#[test]
fn expressions_are_read_back() {
    let is_ipv4 = [meta(Meta::Family), compare(Comparison::Equal, &[Family::Ipv4 as u8])];
    let port = payload(Header::Transport, 2, 2, FIRST);
    let local = Expression::AddressKind {
        of: Address::Source,
        to: FIRST,
    };
    let cases: Vec<(Vec<Expression>, &str)> = vec![
        (
            vec![
                meta(Meta::InputName),
                compare(Comparison::Equal, &interface("eth0")),
                verdict(Verdict::Return),
            ],
            "iifname \"eth0\" return",
        ),
        (
            vec![
                meta(Meta::Mark),
                compare(Comparison::NotEqual, &7_u32.to_ne_bytes()),
                Expression::Counter,
                verdict(Verdict::Drop),
            ],
            "meta mark != 0x00000007 counter packets 0 bytes 0 drop",
        ),
        (
            vec![ct(Connection::Mark), compare(Comparison::Equal, &9_u32.to_ne_bytes())],
            "ct mark 0x00000009",
        ),
        (
            vec![ct(Connection::Direction), compare(Comparison::Equal, &[1])],
            "ct direction reply",
        ),
        (
            vec![
                ct(Connection::State),
                bits(connection::NEW | connection::INVALID),
                compare(Comparison::NotEqual, &[0; 4]),
            ],
            "ct state invalid,new",
        ),
        (
            vec![
                ct(Connection::Status),
                bits(connection::SOURCE_TRANSLATED),
                compare(Comparison::NotEqual, &[0; 4]),
                verdict(Verdict::Goto("other".to_owned())),
            ],
            "ct status snat goto other",
        ),
        (
            vec![local, compare(Comparison::Equal, &LOCAL.to_ne_bytes())],
            "fib saddr type local",
        ),
        (
            [
                &is_ipv4[..],
                &[
                    payload(Header::Network, 12, 4, FIRST),
                    compare(Comparison::Equal, &[10, 0, 0, 1]),
                ],
            ]
            .concat(),
            "ip saddr 10.0.0.1",
        ),
        (
            [
                &tcp()[..],
                &[
                    port.clone(),
                    compare(Comparison::GreaterOrEqual, &1024_u16.to_be_bytes()),
                ],
            ]
            .concat(),
            "tcp dport >= 1024",
        ),
        (
            [&tcp()[..], &[Expression::Reject { reset: true }]].concat(),
            "meta l4proto tcp reject with tcp reset",
        ),
        (vec![Expression::Reject { reset: false }], "reject"),
        (
            vec![
                payload(Header::Network, 12, 4, FIRST),
                Expression::Lookup {
                    set: "hosts".to_owned(),
                    from: FIRST,
                    to: None,
                    invert: true,
                },
                verdict(Verdict::Jump("other".to_owned())),
            ],
            "@nh,96,32 != @hosts jump other",
        ),
    ];
    alone(|socket| {
        let mut change = Transaction::new(Family::Inet, "t");
        change.table();
        change.set(&Set {
            name: "hosts",
            key: &[Field::Ipv4],
            values: Values::None,
        });
        change.chain("other", None);
        change.chain("c", None);
        for (rule, _) in &cases {
            change.rule("c", rule);
        }
        change.commit(socket).expect("allowed");
        let listed = nft("list chain inet t c");
        let expected: Vec<_> = cases.iter().map(|(_, text)| *text).collect();
        assert_eq!(listed[2..], expected);
        let mut change = Transaction::new(Family::Inet, "t");
        change.flush_chain("c");
        change.delete_chain("c");
        change.delete_chain("other");
        change.delete_set("hosts");
        change.commit(socket).expect("allowed");
        assert_eq!(nft("list ruleset"), ["table inet t {"]);
        let mut change = Transaction::new(Family::Inet, "t");
        change.delete_table();
        change.commit(socket).expect("allowed");
        assert!(list::tables(socket).expect("allowed").is_empty());
    });
}

#[test]
fn translations_are_read_back() {
    alone(|socket| {
        let mut change = Transaction::new(Family::Ipv4, "t");
        change.table();
        let hooks = [("out", Hook::Output, -100), ("post", Hook::Postrouting, 100)];
        for (name, hook, priority) in hooks {
            let kind = ChainKind::Nat;
            change.chain(name, Some(Base { kind, hook, priority }));
        }
        let immediate = |to, value: &[u8]| Expression::Immediate {
            to,
            value: value.to_vec(),
        };
        let nat = |kind, port| Expression::Nat {
            kind,
            family: Family::Ipv4,
            address: Some(FIRST),
            port,
        };
        let second = Register::at(1);
        let to_port = [
            &tcp()[..],
            &[
                immediate(FIRST, &[127, 0, 0, 11]),
                immediate(second, &5353_u16.to_be_bytes()),
                nat(Translate::Destination, Some(second)),
            ],
        ];
        change.rule("out", &to_port.concat());
        change.rule(
            "post",
            &[immediate(FIRST, &[192, 0, 2, 1]), nat(Translate::Source, None)],
        );
        change.rule("post", &[Expression::Masquerade]);
        change.commit(socket).expect("allowed");
        assert_eq!(
            nft("list table ip t"),
            [
                "table ip t {",
                "chain out {",
                "type nat hook output priority -100; policy accept;",
                "meta l4proto tcp dnat to 127.0.0.11:5353",
                "chain post {",
                "type nat hook postrouting priority srcnat; policy accept;",
                "snat to 192.0.2.1",
                "masquerade",
            ]
        );
        let listed = list::chains(socket).expect("allowed");
        let base = listed[1].base.as_ref().expect("it is called");
        assert_eq!(
            (&*listed[1].name, &*listed[1].table, listed[1].family),
            ("post", "t", 2)
        );
        assert_eq!(
            (base.hook, base.priority, &*base.kind, base.drops),
            (4, 100, "nat", false)
        );
    });
}

#[test]
fn maps_are_read_back_and_their_keys_listed() {
    alone(|socket| {
        let mut change = Transaction::new(Family::Inet, "t");
        change.table();
        change.chain("other", None);
        change.set(&Set {
            name: "ports",
            key: &[Field::Protocol, Field::Service],
            values: Values::Fields(&[Field::Ipv6, Field::Service]),
        });
        change.set(&Set {
            name: "ways",
            key: &[Field::Interface],
            values: Values::Verdicts,
        });
        let key = |port: u16| concatenate(&[&[17], &port.to_be_bytes()]);
        let value = concatenate(&[&[0xfd; 16], &80_u16.to_be_bytes()]);
        let elements: Vec<_> = (1..=600)
            .map(|port| Element {
                key: key(port),
                value: Value::Data(value.clone()),
            })
            .collect();
        change.add("ports", &elements);
        let ways = [("eth0", Verdict::Accept), ("eth1", Verdict::Jump("other".to_owned()))];
        for (name, verdict) in ways {
            let key = interface(name);
            let value = Value::Verdict(verdict);
            change.add("ways", &[Element { key, value }]);
        }
        change.commit(socket).expect("allowed");
        let mut keys = list::keys(socket, Family::Inet, "t", "ports").expect("allowed");
        keys.sort();
        assert_eq!(keys, (1..=600).map(key).collect::<Vec<_>>());
        assert_eq!(
            list::sets(socket, Family::Inet, "t").expect("allowed"),
            ["ports", "ways"]
        );
        let mut change = Transaction::new(Family::Inet, "t");
        let all_but_one: Vec<_> = (2..=600).map(|port| Element::key(key(port))).collect();
        change.remove("ports", &all_but_one);
        change.commit(socket).expect("allowed");
        assert_eq!(
            nft("list table inet t"),
            [
                "table inet t {",
                "map ports {",
                "type inet_proto . inet_service : ipv6_addr . inet_service",
                "elements = { udp . 1 : fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd . 80 }",
                "map ways {",
                "type ifname : verdict",
                "elements = { \"eth0\" : accept,",
                "\"eth1\" : jump other }",
                "chain other {",
            ]
        );
    });
}

#[test]
fn a_transaction_happens_whole_or_not_at_all() {
    alone(|socket| {
        for _ in 0..2 {
            let mut change = Transaction::new(Family::Inet, "t");
            change.table();
            change.chain("c", None);
            change.delete_chain("missing");
            let refusal = change.commit(socket).expect_err("there is no such chain");
            assert_eq!((refusal.index, refusal.errno), (3, Errno::NOENT));
            assert!(nft("list ruleset").is_empty());
        }
        Transaction::new(Family::Inet, "t")
            .commit(socket)
            .expect("nothing is always allowed");
    });
}

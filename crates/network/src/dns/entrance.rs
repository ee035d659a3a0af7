//! The way in: sockets at 127.0.0.11 inside a container's network namespace, and the NAT table that leads to them.
//!
//! The sockets have random ports and a rule for each protocol leads port 53 there, so that a container may still have a
//! server of its own on port 53. Connection tracking rewrites the source of answers on their way back.
use std::{
    io,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    os::fd::BorrowedFd,
};

use corten_linux::netlink::{
    message::{Attributes, Batch, Received, flags},
    socket::{Protocol, Socket},
};

use rustix::io::Errno;

use crate::namespace::inside;

/// Where containers look for names.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const PORT: u16 = 53;
/// Of the table in the container's namespace. Other rules need another name: the table of an earlier daemon is kept.
const TABLE: &str = "corten-names";
const CHAIN: &str = "output";

/// What a container's questions arrive at.
#[derive(Debug)]
pub struct Entrance {
    pub udp: UdpSocket,
    pub tcp: TcpListener,
    /// What made it. To be dropped where nobody waits: for closing it the kernel takes as long as for all the rest.
    pub maker: Socket,
}

impl Entrance {
    /// Makes it, in place of one that an earlier daemon left, and with its ports where they are free: connection tracking
    /// remembers where it led clients that go on. The loopback interface must be up.
    pub fn open(namespace: BorrowedFd) -> io::Result<Entrance> {
        inside(namespace, || {
            let mut maker = Socket::open(Protocol::Netfilter)?;
            let (mut udp, mut tcp) = bind(Ports::default())?;
            match maker.transact(&mut table(Ports::of(&udp, &tcp)?, false)) {
                Err(refusal) if refusal.errno == Errno::EXIST => {
                    let left = left(&mut maker)?;
                    drop((udp, tcp));
                    (udp, tcp) = bind(left)?;
                    let ports = Ports::of(&udp, &tcp)?;
                    // Of the same ports it is the same table, and taking one away waits for the whole kernel.
                    if ports != left {
                        maker.transact(&mut table(ports, true))?;
                    }
                }
                result => result?,
            }
            Ok(Entrance { udp, tcp, maker })
        })
    }
}

fn bind(ports: Ports) -> io::Result<(UdpSocket, TcpListener)> {
    let udp = at(ports.udp, |port| UdpSocket::bind((ADDRESS, port)))?;
    udp.set_nonblocking(true)?;
    let tcp = at(ports.tcp, |port| TcpListener::bind((ADDRESS, port)))?;
    tcp.set_nonblocking(true)?;
    Ok((udp, tcp))
}

/// 0 is any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ports {
    udp: u16,
    tcp: u16,
}

/// A socket with a port, or with another one when that is taken.
fn at<T>(port: u16, bind: impl Fn(u16) -> io::Result<T>) -> io::Result<T> {
    match bind(port) {
        Err(_) if port != 0 => bind(0),
        result => result,
    }
}

/// The ports of the table that is there.
fn left(socket: &mut Socket) -> io::Result<Ports> {
    let mut batch = Batch::new();
    let header = [nft::FAMILY_IPV4, 0, 0, 0];
    batch.message(nft::GETTABLE, flags::REQUEST | flags::DUMP, &header, |_| {});
    let mut left = Ports::default();
    socket.dump(&mut batch, |_, payload| {
        let table = Received::new(payload.get(header.len()..).unwrap_or_default());
        if table.text(nft::TABLE_NAME) == Some(TABLE) {
            left = table
                .find(nft::TABLE_USERDATA)
                .map_or_else(Ports::default, Ports::from_comment);
        }
    })?;
    Ok(left)
}

impl Ports {
    fn of(udp: &UdpSocket, tcp: &TcpListener) -> io::Result<Ports> {
        Ok(Ports {
            udp: udp.local_addr()?.port(),
            tcp: tcp.local_addr()?.port(),
        })
    }

    /// As nft(8) keeps a comment: its kind (0), its length with a NUL, its text.
    fn to_comment(self) -> Vec<u8> {
        let text = format!("{} {}\0", self.udp, self.tcp);
        let mut comment = vec![0, u8::try_from(text.len()).expect("two ports are short")];
        comment.extend_from_slice(text.as_bytes());
        comment
    }

    fn from_comment(comment: &[u8]) -> Ports {
        let text = comment.get(2..).and_then(|text| std::str::from_utf8(text).ok());
        let mut ports = text
            .unwrap_or_default()
            .trim_end_matches('\0')
            .split(' ')
            .map(|port| port.parse().unwrap_or_default());
        Ports {
            udp: ports.next().unwrap_or_default(),
            tcp: ports.next().unwrap_or_default(),
        }
    }
}

/// Numbers of linux/netfilter/nf_tables.h, each named as there.
mod nft {
    pub const BATCH_BEGIN: u16 = 0x10;
    pub const BATCH_END: u16 = 0x11;
    pub const SUBSYSTEM: u16 = 10;
    pub const NEWTABLE: u16 = SUBSYSTEM << 8;
    pub const GETTABLE: u16 = SUBSYSTEM << 8 | 1;
    pub const DELTABLE: u16 = SUBSYSTEM << 8 | 2;
    pub const NEWCHAIN: u16 = SUBSYSTEM << 8 | 3;
    pub const NEWRULE: u16 = SUBSYSTEM << 8 | 6;
    pub const TABLE_NAME: u16 = 1;
    pub const TABLE_USERDATA: u16 = 6;
    pub const REG_1: u32 = 1;
    pub const REG_2: u32 = 2;
    pub const META_L4PROTO: u32 = 16;
    pub const PAYLOAD_NETWORK_HEADER: u32 = 1;
    pub const PAYLOAD_TRANSPORT_HEADER: u32 = 2;
    pub const NAT_DNAT: u32 = 1;
    pub const HOOK_OUTPUT: u32 = 3;
    /// NF_IP_PRI_NAT_DST.
    pub const PRIORITY_DSTNAT: i32 = -100;
    pub const FAMILY_IPV4: u8 = 2;
}

/// One transaction: the table, which must not be there, or in place of the one that is.
fn table(ports: Ports, replace: bool) -> Batch {
    let header = [nft::FAMILY_IPV4, 0, 0, 0];
    // NFNETLINK_V0 and, in network byte order, whose batch it is.
    let bounds = [0, 0, 0, nft::SUBSYSTEM as u8];
    let create = flags::REQUEST | flags::CREATE;
    let mut batch = Batch::new();
    batch.message(nft::BATCH_BEGIN, flags::REQUEST, &bounds, |_| {});
    if replace {
        batch.message(nft::DELTABLE, flags::REQUEST, &header, |table| {
            table.text(nft::TABLE_NAME, TABLE);
        });
    }
    batch.message(nft::NEWTABLE, create | flags::EXCL, &header, |table| {
        table
            .text(nft::TABLE_NAME, TABLE)
            .bytes(nft::TABLE_USERDATA, &ports.to_comment());
    });
    batch.message(nft::NEWCHAIN, create, &header, |chain| {
        chain.text(1, TABLE).text(3, CHAIN).text(7, "nat").nested(4, |hook| {
            hook.u32_be(1, nft::HOOK_OUTPUT)
                .u32_be(2, nft::PRIORITY_DSTNAT.cast_unsigned());
        });
    });
    for (protocol, port, ack) in [(17, ports.udp, 0), (6, ports.tcp, flags::ACK)] {
        batch.message(nft::NEWRULE, create | flags::APPEND | ack, &header, |rule| {
            rule.text(1, TABLE).text(2, CHAIN).nested(4, |expressions| {
                lead(expressions, protocol, port);
            });
        });
    }
    batch.message(nft::BATCH_END, flags::REQUEST, &bounds, |_| {});
    batch
}

/// `ip daddr 127.0.0.11 meta l4proto <protocol> th dport 53 dnat to 127.0.0.11:<port>`
fn lead(expressions: &mut Attributes, protocol: u8, port: u16) {
    payload(expressions, nft::PAYLOAD_NETWORK_HEADER, 16, 4);
    equals(expressions, &ADDRESS.octets());
    expression(expressions, "meta", |meta| {
        meta.u32_be(2, nft::META_L4PROTO).u32_be(1, nft::REG_1);
    });
    equals(expressions, &[protocol]);
    payload(expressions, nft::PAYLOAD_TRANSPORT_HEADER, 2, 2);
    equals(expressions, &PORT.to_be_bytes());
    for (register, value) in [(nft::REG_1, &ADDRESS.octets()[..]), (nft::REG_2, &port.to_be_bytes())] {
        expression(expressions, "immediate", |immediate| {
            immediate.u32_be(1, register).nested(2, |data| {
                data.bytes(1, value);
            });
        });
    }
    expression(expressions, "nat", |nat| {
        nat.u32_be(1, nft::NAT_DNAT)
            .u32_be(2, nft::FAMILY_IPV4.into())
            .u32_be(3, nft::REG_1)
            .u32_be(5, nft::REG_2);
    });
}

fn payload(expressions: &mut Attributes, base: u32, offset: u32, length: u32) {
    expression(expressions, "payload", |payload| {
        payload
            .u32_be(1, nft::REG_1)
            .u32_be(2, base)
            .u32_be(3, offset)
            .u32_be(4, length);
    });
}

fn equals(expressions: &mut Attributes, value: &[u8]) {
    expression(expressions, "cmp", |cmp| {
        cmp.u32_be(1, nft::REG_1).u32_be(2, 0).nested(3, |data| {
            data.bytes(1, value);
        });
    });
}

fn expression(expressions: &mut Attributes, name: &str, fill: impl FnOnce(&mut Attributes)) {
    expressions.nested(1, |element| {
        element.text(1, name).nested(2, fill);
    });
}

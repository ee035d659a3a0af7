//! Addresses that an interface answers for (`ip neigh add proxy`): whoever looks there for their hardware address is told
//! the interface's own.
use std::net::IpAddr;

use crate::netlink::{
    message::{Batch, Received, flags},
    route::list::address,
    socket::{Refusal, Socket},
};

const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;
const NDA_DST: u16 = 1;
const NTF_PROXY: u8 = 8;

/// Answers for an address; nothing changes where it does already.
pub fn add_proxy(batch: &mut Batch, interface: u32, address: IpAddr) {
    message(batch, RTM_NEWNEIGH, flags::CREATE, interface, address);
}

/// Answers for it no more; refused with ENOENT where it did not.
pub fn remove_proxy(batch: &mut Batch, interface: u32, address: IpAddr) {
    message(batch, RTM_DELNEIGH, 0, interface, address);
}

fn message(batch: &mut Batch, kind: u16, flags: u16, interface: u32, address: IpAddr) {
    let header = header(address.is_ipv4(), interface);
    batch.message(
        kind,
        flags::REQUEST | flags::ACK | flags,
        &header,
        |attributes| match address {
            IpAddr::V4(address) => drop(attributes.bytes(NDA_DST, &address.octets())),
            IpAddr::V6(address) => drop(attributes.bytes(NDA_DST, &address.octets())),
        },
    );
}

/// The IPv6 addresses that an interface answers for.
pub fn proxies6(socket: &mut Socket, interface: u32) -> Result<Vec<IpAddr>, Refusal> {
    let mut batch = Batch::new();
    batch.message(
        RTM_GETNEIGH,
        flags::REQUEST | flags::DUMP,
        &header(false, interface),
        |_| {},
    );
    let mut proxies = Vec::new();
    socket.dump(&mut batch, |kind, payload| {
        let Some((header, rest)) = payload.split_first_chunk::<12>() else {
            return;
        };
        if kind == RTM_NEWNEIGH && header[4..8] == interface.to_ne_bytes() && header[10] & NTF_PROXY != 0 {
            proxies.extend(Received::new(rest).find(NDA_DST).and_then(address));
        }
    })?;
    Ok(proxies)
}

/// `struct ndmsg`.
fn header(ipv4: bool, interface: u32) -> [u8; 12] {
    let family = if ipv4 { 2 } else { 10 };
    let [a, b, c, d] = interface.to_ne_bytes();
    [family, 0, 0, 0, a, b, c, d, 0, 0, NTF_PROXY, 0]
}

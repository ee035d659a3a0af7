//! The moment between what the kernel was told and what it has done: nobody waits a second for a first packet.
use std::{
    fs,
    net::{IpAddr, Ipv6Addr},
    thread,
    time::Duration,
};

use corten_linux::netlink::{route::link, socket::Socket};
use ipnet::IpNet;

/// An interface that was just made.
pub struct Fresh<'a> {
    /// Inside, with its addresses.
    pub interface: &'a str,
    pub addresses: &'a [IpNet],
    /// On the host: its other end and the bridge, where it has these.
    pub outside: Option<[&'a str; 2]>,
}

/// Lets everything forward before the container's first packet. Best effort: it will anyway.
pub fn settle(host: &Socket, inside: &Socket, made: &[Fresh]) {
    for fresh in made {
        let _ = link::settle(inside, fresh.interface);
        for name in fresh.outside.into_iter().flatten() {
            let _ = link::settle(host, name);
        }
    }
    await_questions(made);
}

/// Until an IPv6 address can be asked for: the kernel joins its multicast group a moment after it gave the address, and who
/// asks before that asks again after a second. An address that is gone, because IPv6 was switched off meanwhile, is not
/// waited for. Best effort, inside.
fn await_questions(made: &[Fresh]) {
    const TRIES: usize = 250;
    const PAUSE: Duration = Duration::from_millis(1);
    let mut awaited: Vec<(&str, Ipv6Addr)> = made.iter().flat_map(addresses6).collect();
    for _ in 0..TRIES {
        awaited.retain(|(interface, address)| !is_listed("igmp6", interface, &group(*address)));
        awaited.retain(|(interface, address)| is_listed("if_inet6", interface, &hexadecimal(*address)));
        if awaited.is_empty() {
            return;
        }
        thread::sleep(PAUSE);
    }
}

/// Whether a table of the kernel's has a line about an address on an interface.
fn is_listed(table: &str, interface: &str, address: &str) -> bool {
    let table = fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
    let mut lines = table.lines().map(|line| line.split_ascii_whitespace());
    lines.any(|words| {
        [interface, address]
            .iter()
            .all(|wanted| words.clone().any(|word| word == *wanted))
    })
}

fn addresses6<'a>(fresh: &Fresh<'a>) -> impl Iterator<Item = (&'a str, Ipv6Addr)> + use<'a> {
    let interface = fresh.interface;
    fresh.addresses.iter().filter_map(move |net| match net.addr() {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some((interface, address)),
    })
}

/// Where neighbours ask for an address: ff02::1:ff00:0 and its last three bytes.
fn group(address: Ipv6Addr) -> String {
    let last = u128::from(address) & 0xff_ffff;
    hexadecimal(Ipv6Addr::from(0xff02_0000_0000_0000_0000_0001_ff00_0000 | last))
}

/// As the kernel lists it.
fn hexadecimal(address: Ipv6Addr) -> String {
    format!("{:032x}", u128::from(address))
}

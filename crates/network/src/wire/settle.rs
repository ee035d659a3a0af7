//! The moment between what the kernel was told and what it has done: nobody waits a second for a first packet.
use std::{fs, net::IpAddr, thread, time::Duration};

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
/// asks before that asks again after a second. Best effort, inside.
fn await_questions(made: &[Fresh]) {
    const TRIES: usize = 50;
    const PAUSE: Duration = Duration::from_millis(1);
    let groups: Vec<(&str, String)> = made.iter().flat_map(groups).collect();
    let joined = || {
        let Ok(table) = fs::read_to_string("/proc/thread-self/net/igmp6") else {
            return true;
        };
        groups.iter().all(|(interface, group)| {
            let mut lines = table.lines().map(|line| line.split_ascii_whitespace());
            lines.any(|mut words| words.nth(1) == Some(*interface) && words.next() == Some(group))
        })
    };
    for _ in 0..TRIES {
        if groups.is_empty() || joined() {
            return;
        }
        thread::sleep(PAUSE);
    }
}

/// Where neighbours ask for an interface's IPv6 addresses: ff02::1:ff00:0 and their last three bytes, as the kernel lists it.
fn groups<'a>(fresh: &Fresh<'a>) -> impl Iterator<Item = (&'a str, String)> + use<'a> {
    let interface = fresh.interface;
    fresh.addresses.iter().filter_map(move |net| match net.addr() {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => {
            let [.., a, b, c] = address.octets();
            Some((interface, format!("ff0200000000000000000001ff{a:02x}{b:02x}{c:02x}")))
        }
    })
}

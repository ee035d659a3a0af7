//! Routes in the main table.
use std::net::IpAddr;

use crate::netlink::message::{Batch, flags};

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
pub(super) const RTA_DST: u16 = 1;
pub(super) const RTA_OIF: u16 = 4;
pub(super) const RTA_GATEWAY: u16 = 5;
pub(super) const RTA_PRIORITY: u16 = 6;
pub(super) const TABLE_MAIN: u8 = 254;
/// What `ip route` shows without a word about its origin.
const PROTOCOL_BOOT: u8 = 3;
const SCOPE_LINK: u8 = 253;
const TYPE_UNICAST: u8 = 1;
const RTNH_F_ONLINK: u32 = 4;

/// Where packets to a destination go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// With its prefix length; `0.0.0.0/0` and `::/0` are the default routes.
    pub destination: (IpAddr, u8),
    /// Index of the interface.
    pub interface: u32,
    /// Everything is a neighbour where there is none.
    pub gateway: Option<IpAddr>,
    /// The gateway is a neighbour even if no address of the interface says so.
    pub on_link: bool,
}

/// Adds a route; refused with EEXIST where there is one to the same destination.
pub fn add(batch: &mut Batch, route: &Route) {
    message(batch, RTM_NEWROUTE, flags::CREATE | flags::EXCL, route);
}

/// Adds a route, in the place of one to the same destination.
pub fn replace(batch: &mut Batch, route: &Route) {
    message(batch, RTM_NEWROUTE, flags::CREATE | flags::REPLACE, route);
}

/// Removes a route; refused with ESRCH where there is none.
pub fn remove(batch: &mut Batch, route: &Route) {
    message(batch, RTM_DELROUTE, 0, route);
}

fn message(batch: &mut Batch, kind: u16, flags: u16, route: &Route) {
    let (destination, prefix) = route.destination;
    let family = if destination.is_ipv4() { 2 } else { 10 };
    let scope = match (destination, route.gateway) {
        (IpAddr::V4(_), None) => SCOPE_LINK,
        _ => 0,
    };
    // `struct rtmsg`.
    let mut header = [
        family,
        prefix,
        0,
        0,
        TABLE_MAIN,
        PROTOCOL_BOOT,
        scope,
        TYPE_UNICAST,
        0,
        0,
        0,
        0,
    ];
    if route.on_link && route.gateway.is_some() {
        header[8..].copy_from_slice(&RTNH_F_ONLINK.to_ne_bytes());
    }
    batch.message(kind, flags::REQUEST | flags::ACK | flags, &header, |attributes| {
        if prefix > 0 {
            attributes.bytes(RTA_DST, octets(&destination).as_slice());
        }
        if let Some(gateway) = route.gateway {
            attributes.bytes(RTA_GATEWAY, octets(&gateway).as_slice());
        }
        attributes.u32(RTA_OIF, route.interface);
    });
}

fn octets(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

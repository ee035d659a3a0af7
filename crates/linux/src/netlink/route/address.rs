//! Addresses of interfaces. An interface is named by its index here: the kernel knows no other way.
use std::net::{IpAddr, Ipv4Addr};

use crate::netlink::message::{Batch, flags};

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_F_NODAD: u8 = 2;
const SCOPE_LINK: u8 = 253;

/// Gives an interface an address; refused with EEXIST where it has it. An IPv6 address is usable at once: nobody is asked
/// whether it is taken.
pub fn add(batch: &mut Batch, interface: u32, address: IpAddr, prefix: u8) {
    let flags = flags::REQUEST | flags::ACK | flags::CREATE | flags::EXCL;
    let header = header(interface, address, prefix);
    batch.message(RTM_NEWADDR, flags, &header, |attributes| match address {
        IpAddr::V4(address) => {
            attributes.bytes(IFA_LOCAL, &address.octets());
            attributes.bytes(IFA_ADDRESS, &address.octets());
            if let Some(broadcast) = broadcast(address, prefix) {
                attributes.bytes(IFA_BROADCAST, &broadcast.octets());
            }
        }
        IpAddr::V6(address) => {
            attributes.bytes(IFA_LOCAL, &address.octets());
        }
    });
}

pub fn remove(batch: &mut Batch, interface: u32, address: IpAddr, prefix: u8) {
    let header = header(interface, address, prefix);
    batch.message(
        RTM_DELADDR,
        flags::REQUEST | flags::ACK,
        &header,
        |attributes| match address {
            IpAddr::V4(address) => {
                attributes.bytes(IFA_LOCAL, &address.octets());
            }
            IpAddr::V6(address) => {
                attributes.bytes(IFA_LOCAL, &address.octets());
            }
        },
    );
}

/// `struct ifaddrmsg`.
fn header(interface: u32, address: IpAddr, prefix: u8) -> [u8; 8] {
    let (family, flags, scope) = match address {
        IpAddr::V4(address) => (2, 0, if address.is_link_local() { SCOPE_LINK } else { 0 }),
        IpAddr::V6(_) => (10, IFA_F_NODAD, 0),
    };
    let [a, b, c, d] = interface.to_ne_bytes();
    [family, prefix, flags, scope, a, b, c, d]
}

/// The subnet's last address, where the subnet is large enough to have one to spare.
fn broadcast(address: Ipv4Addr, prefix: u8) -> Option<Ipv4Addr> {
    (prefix < 31).then(|| Ipv4Addr::from(u32::from(address) | u32::MAX.checked_shr(prefix.into()).unwrap_or(0)))
}

//! Addresses as numbers: both families in one arithmetic.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn of(net: &IpNet) -> Family {
        match net {
            IpNet::V4(_) => Family::V4,
            IpNet::V6(_) => Family::V6,
        }
    }

    pub fn of_address(address: &IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }

    pub fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    /// The address that has this number; `number` is below 2^bits.
    pub fn address(self, number: u128) -> IpAddr {
        match self {
            Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).expect("an IPv4 address"))),
            Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(number)),
        }
    }

    /// The subnet that begins at this number.
    pub fn subnet(self, number: u128, prefix: u8) -> IpNet {
        match self.address(number) {
            IpAddr::V4(address) => IpNet::V4(Ipv4Net::new(address, prefix).expect("a prefix of the family")),
            IpAddr::V6(address) => IpNet::V6(Ipv6Net::new(address, prefix).expect("a prefix of the family")),
        }
    }
}

pub fn number(address: &IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The first and the last number of a subnet.
pub fn bounds(net: &IpNet) -> (u128, u128) {
    (number(&net.network()), number(&net.broadcast()))
}

/// Have two subnets an address in common?
pub fn overlap(one: &IpNet, other: &IpNet) -> bool {
    Family::of(one) == Family::of(other) && (one.contains(&other.network()) || other.contains(&one.network()))
}

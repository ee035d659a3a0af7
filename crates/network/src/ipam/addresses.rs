//! The addresses of one subnet: who may have which, and in what order they are handed out.
//!
//! Next-fit: an address that was given back waits until all that were never given have been used, and then for those
//! that were given back before it. The kernel takes down a dead container's interface some time after the container's
//! end, and neighbours remember hardware addresses: who came too early would meet both.
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use ipnet::IpNet;

use crate::{
    error::{Error, Result},
    ipam::number::{Family, bounds, number},
    model::Subnet,
};

/// An address waits for at most so many others: it keeps a subnet of 2^64 from filling the memory.
const ENOUGH: usize = 4096;

#[derive(Debug)]
pub struct Addresses {
    subnet: IpNet,
    family: Family,
    /// Of the whole subnet, for addresses that a user chooses.
    usable: (u128, u128),
    /// What is handed out unasked lies from here to `last`.
    first: u128,
    last: u128,
    /// The first address of the range that was never looked at, while there is one.
    next: Option<u128>,
    /// Every address that is not simply free. The others of the range lie at `next` or behind it.
    taken: HashMap<u128, State>,
    /// What was given back and waits, oldest first.
    resting: BTreeMap<u64, u128>,
    releases: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The gateway's, or somebody's outside.
    Reserved,
    Leased,
    /// Key into `resting`.
    Resting(u64),
}

impl Addresses {
    pub fn new(subnet: &Subnet) -> Addresses {
        let family = Family::of(&subnet.subnet);
        let usable = usable(&subnet.subnet);
        let (first, last) = subnet.range.as_ref().map_or(usable, bounds);
        let (first, last) = (first.max(usable.0), last.min(usable.1));
        let reserved = subnet.gateway.iter().chain(subnet.auxiliary.values());
        Addresses {
            subnet: subnet.subnet,
            family,
            usable,
            first,
            last,
            next: (first <= last).then_some(first),
            taken: reserved.map(|address| (number(address), State::Reserved)).collect(),
            resting: BTreeMap::new(),
            releases: 0,
        }
    }

    pub fn subnet(&self) -> &IpNet {
        &self.subnet
    }

    /// The next free one.
    pub fn lease(&mut self) -> Result<IpAddr> {
        let fresh = if self.resting.len() < ENOUGH {
            self.fresh()
        } else {
            None
        };
        let found = fresh.or_else(|| self.resting.pop_first().map(|(_, found)| found));
        let found = found.ok_or_else(|| {
            Error::conflict(format!(
                "no available {} addresses on this network's address pools: {}",
                self.family.name(),
                self.subnet
            ))
        })?;
        self.taken.insert(found, State::Leased);
        Ok(self.family.address(found))
    }

    /// The next of those that nobody ever had.
    fn fresh(&mut self) -> Option<u128> {
        while let Some(candidate) = self.next {
            self.next = (candidate < self.last).then(|| candidate + 1);
            match self.taken.get(&candidate) {
                None => return Some(candidate),
                Some(State::Reserved | State::Leased | State::Resting(_)) => {}
            }
        }
        None
    }

    /// The one that a user chose.
    pub fn lease_exactly(&mut self, address: IpAddr) -> Result<()> {
        let wanted = number(&address);
        if Family::of_address(&address) != self.family || !(self.usable.0..=self.usable.1).contains(&wanted) {
            return Err(Error::invalid(format!(
                "no configured subnet or ip-range contain the IP address {address}"
            )));
        }
        match self.taken.get(&wanted) {
            Some(State::Reserved | State::Leased) => return Err(Error::forbidden("Address already in use")),
            Some(State::Resting(key)) => drop(self.resting.remove(key)),
            None => {}
        }
        self.taken.insert(wanted, State::Leased);
        Ok(())
    }

    /// Gives an address back; of one that nobody had nothing changes.
    pub fn release(&mut self, address: IpAddr) {
        let number = number(&address);
        if self.taken.get(&number) != Some(&State::Leased) {
            return;
        }
        if !self.is_handed_out_soon(number) {
            self.taken.remove(&number);
            return;
        }
        self.releases += 1;
        self.taken.insert(number, State::Resting(self.releases));
        self.resting.insert(self.releases, number);
    }

    /// Users choose addresses outside the range, and far ahead, too: those need no rest.
    fn is_handed_out_soon(&self, number: u128) -> bool {
        let far = |next: u128| {
            number
                .checked_sub(next)
                .is_some_and(|distance| distance > ENOUGH as u128)
        };
        (self.first..=self.last).contains(&number) && !self.next.is_some_and(far)
    }

    /// Is the address somebody's now?
    pub fn is_leased(&self, address: IpAddr) -> bool {
        self.taken.get(&number(&address)) == Some(&State::Leased)
    }
}

/// The first and the last address that a host may have. Networks of two addresses or one use all of them.
pub fn usable(subnet: &IpNet) -> (u128, u128) {
    let (first, last) = bounds(subnet);
    match Family::of(subnet) {
        family if subnet.prefix_len() + 1 >= family.bits() => (first, last),
        Family::V4 => (first + 1, last - 1),
        // The first is every router's; there is no broadcast.
        Family::V6 => (first + 1, last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn addresses(subnet: &str, range: Option<&str>, gateway: Option<&str>, auxiliary: &[&str]) -> Addresses {
        Addresses::new(&Subnet {
            subnet: subnet.parse().expect("valid"),
            range: range.map(|range| range.parse().expect("valid")),
            gateway: gateway.map(|gateway| gateway.parse().expect("valid")),
            auxiliary: auxiliary
                .iter()
                .map(|&text| (text.to_owned(), text.parse().expect("valid")))
                .collect(),
        })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("valid")
    }

    #[test]
    fn what_is_special_is_never_handed_out_and_the_end_is_an_error() {
        let mut set = addresses("10.0.0.0/29", None, Some("10.0.0.1"), &["10.0.0.4"]);
        let all: Vec<_> = std::iter::from_fn(|| set.lease().ok())
            .map(|address| address.to_string())
            .collect();
        assert_eq!(all, ["10.0.0.2", "10.0.0.3", "10.0.0.5", "10.0.0.6"]);
        let error = set.lease().expect_err("no more");
        assert!(error.to_string().starts_with("no available IPv4 addresses"), "{error}");
        set.release(address("10.0.0.5"));
        set.release(address("10.0.0.2"));
        assert_eq!(set.lease().ok(), Some(address("10.0.0.5")));
        assert_eq!(set.lease().ok(), Some(address("10.0.0.2")));
        // Neither what was never leased nor what is reserved comes free by giving it back.
        set.release(address("10.0.0.1"));
        set.release(address("10.0.0.4"));
        set.release(address("10.9.0.4"));
        set.lease().expect_err("no more");
    }

    #[test]
    fn a_range_bounds_what_is_handed_out_but_not_what_is_asked_for() {
        let mut set = addresses("10.0.0.0/16", Some("10.0.255.254/31"), Some("10.0.0.1"), &[]);
        set.lease_exactly(address("10.0.0.2")).expect("inside the subnet");
        assert_eq!(set.lease().ok(), Some(address("10.0.255.254")));
        set.lease().expect_err("10.0.255.255 is the broadcast address");
        set.release(address("10.0.0.2"));
        set.lease().expect_err("not from outside the range");
        set.lease_exactly(address("10.0.0.2")).expect("free again");
    }

    #[test]
    fn a_chosen_address_must_be_free_and_inside() {
        let mut set = addresses("10.0.0.0/24", None, Some("10.0.0.1"), &[]);
        set.lease_exactly(address("10.0.0.2")).expect("free");
        for taken in ["10.0.0.1", "10.0.0.2"] {
            let error = set.lease_exactly(address(taken)).expect_err("taken");
            assert_eq!(
                (error.kind(), error.to_string().as_str()),
                (Kind::Forbidden, "Address already in use")
            );
        }
        for outside in ["10.0.0.0", "10.0.0.255", "10.0.1.1", "fd00::1"] {
            let error = set.lease_exactly(address(outside)).expect_err("outside");
            assert_eq!(error.kind(), Kind::Invalid, "{outside}");
        }
        assert_eq!(set.lease().ok(), Some(address("10.0.0.3")));
        // One that rests may be chosen, and is handed out but once.
        set.release(address("10.0.0.2"));
        set.lease_exactly(address("10.0.0.2")).expect("it only rested");
        assert!(
            (0..250)
                .filter_map(|_| set.lease().ok())
                .all(|other| other != address("10.0.0.2"))
        );
    }

    #[test]
    fn no_address_comes_back_soon() {
        let mut set = addresses("172.17.0.0/16", None, Some("172.17.0.1"), &[]);
        let mut last_seen = HashMap::new();
        for turn in 0..200_000_usize {
            let leased = set.lease().expect("there are enough");
            if let Some(before) = last_seen.insert(leased, turn) {
                assert!(turn - before >= ENOUGH, "{leased} after {} turns", turn - before);
            }
            set.release(leased);
        }
        // A chosen one just ahead rests as well when it is given back.
        let mut set = addresses("fd00::/64", None, Some("fd00::1"), &[]);
        set.lease_exactly(address("fd00::2")).expect("free");
        set.release(address("fd00::2"));
        assert_eq!(set.lease().ok(), Some(address("fd00::3")));
    }

    #[test]
    fn the_largest_subnet_costs_no_memory() {
        let mut set = addresses("fd00::/64", None, Some("fd00::1"), &[]);
        for _ in 0..20_000 {
            let leased = set.lease().expect("there are enough");
            set.release(leased);
        }
        for number in 0..20_000_u128 {
            let chosen = Family::V6.address((0xfd00 << 112) + (1 << 40) + number);
            set.lease_exactly(chosen).expect("free");
            set.release(chosen);
        }
        assert!(set.taken.len() <= 2 * ENOUGH + 1 && set.resting.len() <= 2 * ENOUGH);
    }

    #[test]
    fn the_smallest_subnets_use_all_they_have() {
        let mut set = addresses("10.0.0.0/31", None, Some("10.0.0.0"), &[]);
        assert_eq!(set.lease().ok(), Some(address("10.0.0.1")));
        set.lease().expect_err("that was all");
        let mut set = addresses("10.0.0.7/32", None, None, &[]);
        assert_eq!(set.lease().ok(), Some(address("10.0.0.7")));
        let mut set = addresses("0.0.0.0/0", None, None, &[]);
        assert_eq!(set.lease().ok(), Some(address("0.0.0.1")));
    }
}

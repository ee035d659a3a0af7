//! Address pools: where subnets come from when a user names none.
use std::{fs, io::Read, net::Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use crate::{
    error::{Error, Result},
    ipam::number::{Family, bounds, overlap},
};

/// Docker's: sixteen bits of hosts from 172.17 to 172.31, then twelve from 192.168.
const DEFAULTS: [(&str, u8); 6] = [
    ("172.17.0.0/16", 16),
    ("172.18.0.0/16", 16),
    ("172.19.0.0/16", 16),
    ("172.20.0.0/14", 16),
    ("172.24.0.0/14", 16),
    ("172.28.0.0/14", 16),
];
const LAST_DEFAULT: (&str, u8) = ("192.168.0.0/16", 20);

#[derive(Debug)]
pub struct Pools {
    /// A block of addresses, and the prefix of each subnet taken from it.
    pools: Vec<(IpNet, u8)>,
}

impl Pools {
    /// The operator's pools; the default ones of a family that these leave out. `identity` tells this engine's local
    /// IPv6 networks from every other's.
    pub fn new(configured: &[(IpNet, u8)], identity: &str) -> Result<Pools> {
        let mut pools = configured.to_vec();
        for (pool, prefix) in &pools {
            check(pool, *prefix)?;
        }
        let has = |family| configured.iter().any(|(pool, _)| Family::of(pool) == family);
        if !has(Family::V4) {
            let parse = |(pool, prefix): &(&str, u8)| (pool.parse().expect("it is a constant"), *prefix);
            pools.extend(DEFAULTS.iter().chain([&LAST_DEFAULT]).map(parse));
        }
        if !has(Family::V6) {
            pools.push((unique_local(identity), 64));
        }
        Ok(Pools { pools })
    }

    /// A subnet that meets none of `taken`.
    pub fn choose(&self, family: Family, taken: &[IpNet]) -> Result<IpNet> {
        let mut taken: Vec<&IpNet> = taken.iter().filter(|net| Family::of(net) == family).collect();
        taken.sort_by_key(|net| bounds(net));
        let pools = self.pools.iter().filter(|(pool, _)| Family::of(pool) == family);
        pools
            .filter_map(|(pool, prefix)| first_free(pool, *prefix, &taken))
            .next()
            .ok_or_else(|| Error::invalid("all predefined address pools have been fully subnetted"))
    }
}

fn check(pool: &IpNet, prefix: u8) -> Result<()> {
    if prefix < pool.prefix_len() || prefix > Family::of(pool).bits() {
        return Err(Error::invalid(format!(
            "invalid address pool {pool}: subnets of /{prefix} cannot be taken from it"
        )));
    }
    Ok(())
}

/// `taken` begins with the lowest.
fn first_free(pool: &IpNet, prefix: u8, taken: &[&IpNet]) -> Option<IpNet> {
    let family = Family::of(pool);
    let (mut candidate, last) = bounds(pool);
    // Whole subnets only: candidates stay aligned to this size.
    let size = 1_u128.checked_shl(u32::from(family.bits() - prefix)).unwrap_or(0);
    for net in taken {
        let (_, end) = bounds(net);
        if overlap(&family.subnet(candidate, prefix), net) {
            // Behind what is in the way, at the next subnet's beginning.
            let behind = end.max(candidate + (size.wrapping_sub(1)));
            candidate = behind.checked_add(1)?.checked_next_multiple_of(size.max(1))?;
            if candidate > last {
                return None;
            }
        }
    }
    Some(family.subnet(candidate, prefix))
}

/// A /48 of local addresses (RFC 4193) that stays the same for one engine of one host, and is nobody else's.
fn unique_local(identity: &str) -> IpNet {
    let mut machine = String::new();
    // Without one, the engine's own identity has to do.
    let _ = fs::File::open("/etc/machine-id").and_then(|file| file.take(64).read_to_string(&mut machine));
    let global = hash(format!("{}\n{identity}", machine.trim()).as_bytes()) >> 24;
    let address = Ipv6Addr::from_bits((0xfd << 120) | (u128::from(global) << 80));
    IpNet::V6(Ipv6Net::new(address, 48).expect("48 is a prefix"))
}

/// FNV-1a with a final mix (splitmix64): spreads, and stays what it is in every version of Rust.
fn hash(bytes: &[u8]) -> u64 {
    let mut hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("valid")
    }

    fn take_all(pools: &Pools, family: Family, taken: &[IpNet]) -> Vec<IpNet> {
        let mut taken = taken.to_vec();
        let before = taken.len();
        while let Ok(subnet) = pools.choose(family, &taken) {
            assert!(
                taken.iter().all(|other| !overlap(other, &subnet)),
                "{subnet} of {taken:?}"
            );
            taken.push(subnet);
        }
        taken.split_off(before)
    }

    #[test]
    fn the_default_pools_are_dockers_and_end_with_a_clear_error() {
        let pools = Pools::new(&[], "test").expect("valid");
        let all = take_all(&pools, Family::V4, &[]);
        assert_eq!(all.len(), 15 + 16);
        assert_eq!((all[0], all[14]), (net("172.17.0.0/16"), net("172.31.0.0/16")));
        assert_eq!((all[15], all[30]), (net("192.168.0.0/20"), net("192.168.240.0/20")));
        let error = pools.choose(Family::V4, &all).expect_err("no more");
        assert_eq!(
            error.to_string(),
            "all predefined address pools have been fully subnetted"
        );
    }

    #[test]
    fn what_is_in_the_way_is_stepped_over() {
        let pools = Pools::new(&[(net("10.0.0.0/8"), 24)], "test").expect("valid");
        let taken = [
            net("10.0.0.128/25"),
            net("10.0.1.0/30"),
            net("10.0.2.0/23"),
            net("10.128.0.0/9"),
        ];
        assert_eq!(pools.choose(Family::V4, &taken).ok(), Some(net("10.0.4.0/24")));
        pools
            .choose(Family::V4, &[net("0.0.0.0/0")])
            .expect_err("everything is taken");
        pools
            .choose(Family::V4, &[net("10.0.0.0/8")])
            .expect_err("everything is taken");
        let small = Pools::new(&[(net("10.0.0.0/28"), 30), (net("10.1.0.0/30"), 30)], "test").expect("valid");
        let all = take_all(&small, Family::V4, &[net("10.0.0.5/32")]);
        assert_eq!(
            all,
            [
                net("10.0.0.0/30"),
                net("10.0.0.8/30"),
                net("10.0.0.12/30"),
                net("10.1.0.0/30")
            ]
        );
        let host = Pools::new(&[(net("255.255.255.254/31"), 32)], "test").expect("valid");
        assert_eq!(take_all(&host, Family::V4, &[]).len(), 2);
    }

    #[test]
    fn local_prefixes_are_ours_alone_and_stay() {
        let choose = |identity| {
            Pools::new(&[], identity)
                .and_then(|pools| pools.choose(Family::V6, &[]))
                .expect("free")
        };
        assert_eq!(choose("/var/lib/corten"), choose("/var/lib/corten"));
        assert_ne!(choose("/var/lib/corten"), choose("/tmp/other"));
        let chosen = choose("x");
        assert!(
            net("fd00::/8").contains(&chosen.network()) && chosen.prefix_len() == 64,
            "{chosen}"
        );
    }

    #[test]
    fn pools_that_cannot_be_are_refused() {
        Pools::new(&[(net("10.0.0.0/16"), 8)], "x").expect_err("larger than the pool");
        Pools::new(&[(net("10.0.0.0/16"), 33)], "x").expect_err("no such prefix");
    }
}

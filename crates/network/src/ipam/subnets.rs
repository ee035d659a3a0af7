//! A network's subnets: what a user wished, checked, and what was left open, chosen.
//!
//! Sentences are Docker's where its clients show or match them.
use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    error::{Error, Result},
    ipam::{
        addresses::usable,
        number::{Family, bounds, number, overlap},
        pools::Pools,
    },
    model::{Subnet, SubnetRequest},
};

/// What else has addresses.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// Name and subnet of every network of ours.
    pub networks: Vec<(String, IpNet)>,
    /// Directly connected: subnets that we choose never meet these.
    pub connected: Vec<IpNet>,
    /// Reached by routers: we give way to these while there is a choice.
    pub routed: Vec<IpNet>,
}

/// What the network's driver wants of a gateway that the user did not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gateways {
    pub v4: bool,
    pub v6: bool,
}

/// Every mistake in the wishes, one on a line.
pub fn check(requests: &[SubnetRequest]) -> Result<()> {
    let mut mistakes = Vec::new();
    for request in requests {
        match &request.subnet {
            Some(subnet) => check_one(request, subnet, &mut mistakes),
            None if request.range.is_some() || request.gateway.is_some() || !request.auxiliary.is_empty() => {
                mistakes.push("invalid subnet : a gateway, ip-range or auxiliary address needs a subnet".to_owned());
            }
            None => {}
        }
    }
    match mistakes.is_empty() {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "invalid network config:\n{}",
            mistakes.join("\n")
        ))),
    }
}

fn check_one(request: &SubnetRequest, subnet: &IpNet, mistakes: &mut Vec<String>) {
    if subnet.trunc() != *subnet {
        mistakes.push(format!("invalid subnet {subnet}: it should be {}", subnet.trunc()));
    }
    if let Some(range) = &request.range {
        check_range(range, subnet, mistakes);
    }
    if let Some(gateway) = &request.gateway
        && let Err(why) = check_address(gateway, subnet)
    {
        mistakes.push(format!("invalid gateway {gateway}: {why}"));
    }
    for (name, address) in &request.auxiliary {
        if let Err(why) = check_address(address, subnet) {
            mistakes.push(format!("invalid auxiliary address {name}: {why}"));
        }
        let twice = request
            .auxiliary
            .iter()
            .any(|(other, same)| other < name && same == address);
        if twice || request.gateway == Some(*address) {
            mistakes.push(format!("invalid auxiliary address {name}: Address already in use"));
        }
    }
}

fn check_range(range: &IpNet, subnet: &IpNet, mistakes: &mut Vec<String>) {
    let family = Family::of(subnet);
    if Family::of(range) != family {
        mistakes.push(format!(
            "invalid ip-range {range}: parent subnet is an {} block",
            family.name()
        ));
        return;
    }
    if range.prefix_len() < subnet.prefix_len() {
        mistakes.push(format!(
            "invalid ip-range {range}: CIDR block is bigger than its parent subnet {subnet}"
        ));
    }
    if range.trunc() != *range {
        mistakes.push(format!("invalid ip-range {range}: it should be {}", range.trunc()));
    }
    if !overlap(range, subnet) {
        mistakes.push(format!(
            "invalid ip-range {range}: parent subnet {subnet} doesn't contain ip-range"
        ));
    }
}

fn check_address(address: &IpAddr, subnet: &IpNet) -> Result<(), String> {
    let family = Family::of(subnet);
    if Family::of_address(address) != family {
        return Err(format!("parent subnet is an {} block", family.name()));
    }
    match subnet.contains(address) {
        true => Ok(()),
        false => Err(format!("parent subnet {subnet} doesn't contain this address")),
    }
}

/// The subnets of a network: the wished ones of the families it has, and one chosen for each family without. IPv4
/// first. The wishes were checked.
pub fn resolve(
    requests: &[SubnetRequest],
    (ipv4, ipv6): (bool, bool),
    gateways: Gateways,
    pools: &Pools,
    around: &Surroundings,
) -> Result<Vec<Subnet>> {
    let mut subnets: Vec<Subnet> = Vec::new();
    for (family, wanted, gateway) in [(Family::V4, ipv4, gateways.v4), (Family::V6, ipv6, gateways.v6)] {
        if !wanted {
            continue;
        }
        let wished = || {
            requests
                .iter()
                .filter(move |request| request.subnet.is_some_and(|net| Family::of(&net) == family))
        };
        for request in wished() {
            let subnet = request.subnet.expect("only those with a subnet");
            refuse_overlap(&subnet, &subnets, around)?;
            subnets.push(with_gateway(request, subnet, gateway));
        }
        if wished().next().is_none() {
            let chosen = choose(pools, family, around)?;
            subnets.push(with_gateway(&SubnetRequest::default(), chosen, gateway));
        }
    }
    Ok(subnets)
}

fn refuse_overlap(subnet: &IpNet, own: &[Subnet], around: &Surroundings) -> Result<()> {
    let overlaps = "invalid pool request: Pool overlaps with other one on this address space";
    if let Some((name, other)) = around.networks.iter().find(|(_, other)| overlap(subnet, other)) {
        return Err(Error::forbidden(format!("{overlaps} (network {name} has {other})")));
    }
    match own.iter().find(|other| overlap(subnet, &other.subnet)) {
        Some(other) => Err(Error::forbidden(format!(
            "{overlaps} ({subnet} and {} of the same network)",
            other.subnet
        ))),
        None => Ok(()),
    }
}

fn choose(pools: &Pools, family: Family, around: &Surroundings) -> Result<IpNet> {
    let mut taken: Vec<IpNet> = around.networks.iter().map(|(_, subnet)| *subnet).collect();
    taken.extend(&around.connected);
    let all: Vec<IpNet> = taken.iter().chain(&around.routed).copied().collect();
    pools.choose(family, &all).or_else(|_| pools.choose(family, &taken))
}

fn with_gateway(request: &SubnetRequest, subnet: IpNet, wanted: bool) -> Subnet {
    Subnet {
        subnet,
        range: request.range,
        gateway: request
            .gateway
            .or_else(|| wanted.then(|| first_free(request, &subnet)).flatten()),
        auxiliary: request.auxiliary.clone(),
    }
}

/// The first address that endpoints could have: of the range, where there is one.
fn first_free(request: &SubnetRequest, subnet: &IpNet) -> Option<IpAddr> {
    let usable = usable(subnet);
    let (first, last) = request.range.as_ref().map_or(usable, bounds);
    let taken = |candidate: &u128| request.auxiliary.values().any(|address| number(address) == *candidate);
    (first.max(usable.0)..=last.min(usable.1))
        .find(|candidate| !taken(candidate))
        .map(|candidate| Family::of(subnet).address(candidate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn request(subnet: &str, range: Option<&str>, gateway: Option<&str>, auxiliary: &[(&str, &str)]) -> SubnetRequest {
        SubnetRequest {
            subnet: Some(subnet.parse().expect("valid")),
            range: range.map(|range| range.parse().expect("valid")),
            gateway: gateway.map(|gateway| gateway.parse().expect("valid")),
            auxiliary: auxiliary
                .iter()
                .map(|(name, address)| ((*name).to_owned(), address.parse().expect("valid")))
                .collect(),
        }
    }

    fn resolved(requests: &[SubnetRequest], families: (bool, bool), around: &Surroundings) -> Result<Vec<Subnet>> {
        let pools = Pools::new(&[], "test").expect("valid");
        resolve(requests, families, Gateways { v4: true, v6: true }, &pools, around)
    }

    #[test]
    fn mistakes_are_told_all_at_once_in_dockers_words() {
        let wrong = request(
            "10.0.0.1/24",
            Some("10.1.0.0/16"),
            Some("10.0.1.1"),
            &[("a", "fd00::1")],
        );
        let error = check(&[wrong]).expect_err("wrong");
        assert_eq!(error.kind(), Kind::Invalid);
        assert_eq!(
            error.to_string(),
            "invalid network config:\ninvalid subnet 10.0.0.1/24: it should be 10.0.0.0/24\n\
             invalid ip-range 10.1.0.0/16: CIDR block is bigger than its parent subnet 10.0.0.1/24\n\
             invalid ip-range 10.1.0.0/16: parent subnet 10.0.0.1/24 doesn't contain ip-range\n\
             invalid gateway 10.0.1.1: parent subnet 10.0.0.1/24 doesn't contain this address\n\
             invalid auxiliary address a: parent subnet is an IPv4 block"
        );
        let twice = request(
            "10.0.0.0/24",
            None,
            Some("10.0.0.1"),
            &[("a", "10.0.0.2"), ("b", "10.0.0.2"), ("c", "10.0.0.1")],
        );
        let text = check(&[twice]).expect_err("twice").to_string();
        assert!(
            text.contains("address b") && text.contains("address c") && !text.contains("address a"),
            "{text}"
        );
        let bare = SubnetRequest {
            gateway: "10.0.0.1".parse().ok(),
            ..SubnetRequest::default()
        };
        check(&[bare]).expect_err("a gateway of no subnet");
        check(&[SubnetRequest::default()]).expect("nothing is no mistake");
    }

    #[test]
    fn what_is_left_open_is_chosen_for_each_family() {
        let subnets = resolved(&[], (true, true), &Surroundings::default()).expect("there is room");
        assert_eq!(subnets.len(), 2);
        assert_eq!(subnets[0].subnet.to_string(), "172.17.0.0/16");
        assert_eq!(
            subnets[0].gateway.map(|gateway| gateway.to_string()).as_deref(),
            Some("172.17.0.1")
        );
        assert_eq!(Family::of(&subnets[1].subnet), Family::V6);
        assert_eq!(subnets[1].gateway.map(|gateway| number(&gateway) & 0xffff), Some(1));
        let wished = [
            request("fd00:1::/64", None, None, &[]),
            request("10.0.0.0/24", Some("10.0.0.128/25"), None, &[]),
        ];
        let subnets = resolved(&wished, (true, true), &Surroundings::default()).expect("there is room");
        let texts: Vec<_> = subnets
            .iter()
            .map(|subnet| (subnet.subnet.to_string(), subnet.gateway.expect("wanted").to_string()))
            .collect();
        assert_eq!(texts[0], ("10.0.0.0/24".to_owned(), "10.0.0.128".to_owned()));
        assert_eq!(texts[1], ("fd00:1::/64".to_owned(), "fd00:1::1".to_owned()));
        // A wished subnet of a family that the network does not have is of no use.
        assert_eq!(
            resolved(&wished, (false, true), &Surroundings::default())
                .expect("there is room")
                .len(),
            1
        );
    }

    #[test]
    fn overlaps_are_refused_by_name_and_chosen_subnets_avoid_everything() {
        let around = Surroundings {
            networks: vec![("web".to_owned(), "172.17.0.0/16".parse().expect("valid"))],
            connected: vec!["172.18.5.0/24".parse().expect("valid")],
            routed: vec!["172.16.0.0/12".parse().expect("valid")],
        };
        let error =
            resolved(&[request("172.17.3.0/24", None, None, &[])], (true, false), &around).expect_err("overlap");
        assert_eq!(error.kind(), Kind::Forbidden);
        assert!(
            error
                .to_string()
                .contains("Pool overlaps with other one on this address space (network web has 172.17.0.0/16)")
        );
        // A user may take what the host has routes to.
        resolved(&[request("172.18.5.0/24", None, None, &[])], (true, false), &around).expect("asked for");
        let chosen = resolved(&[], (true, false), &around).expect("there is room");
        assert_eq!(chosen[0].subnet.to_string(), "192.168.0.0/20");
        let everything = Surroundings {
            routed: vec![
                "0.0.0.0/1".parse().expect("valid"),
                "128.0.0.0/1".parse().expect("valid"),
            ],
            ..around
        };
        let chosen = resolved(&[], (true, false), &everything).expect("a tunnel for everything leaves room");
        assert_eq!(chosen[0].subnet.to_string(), "172.19.0.0/16");
        let same = [
            request("10.0.0.0/24", None, None, &[]),
            request("10.0.0.0/25", None, None, &[]),
        ];
        resolved(&same, (true, false), &Surroundings::default()).expect_err("of one network");
    }
}

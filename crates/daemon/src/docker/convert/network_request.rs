//! What clients ask of networks, typed: illegal documents are refused here, in dockerd's sentences.
//!
//! What needs a look at other networks (overlaps, names, addresses in use) is the engine's to refuse.
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use corten_api::types::network::{EndpointSettings, Ipam, IpamPool, NetworkCreateRequest};
use corten_engine::network::record::CreateNetwork;
use corten_network::model::{Mac, NetworkRequest, SubnetRequest};
use http::StatusCode;
use ipnet::IpNet;

use crate::error::ApiError;

const DRIVERS: [&str; 6] = ["", "bridge", "host", "ipvlan", "macvlan", "null"];
const PREDEFINED: [&str; 4] = ["bridge", "host", "none", "default"];
const ENABLE_IPV4: &str = "com.docker.network.enable_ipv4";
const ENABLE_IPV6: &str = "com.docker.network.enable_ipv6";
const NO_SWARM: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this \
                        node to swarm and try again.";

fn forbidden(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, message)
}

/// Options by driver, of networks that do not say otherwise.
pub type DefaultOptions = BTreeMap<String, BTreeMap<String, String>>;

/// `POST /networks/create`.
pub fn create(asked: NetworkCreateRequest, defaults: &DefaultOptions) -> Result<CreateNetwork, ApiError> {
    if asked.name.trim().is_empty() {
        return Err(ApiError::invalid("invalid name: name is empty"));
    }
    if PREDEFINED.contains(&asked.name.as_str()) {
        return Err(forbidden(format!(
            "operation is not permitted on predefined {} network ",
            asked.name
        )));
    }
    refuse_absent(&asked)?;
    check_configuration(&asked)?;
    let config_from = configured_by(&asked).map(str::to_owned);
    let mut options = asked.options;
    let driver = match asked.driver.as_str() {
        "" => "bridge",
        driver => driver,
    };
    // What a configuration says is all that is said.
    let defaults = defaults
        .get(driver)
        .filter(|_| !asked.config_only && config_from.is_none());
    for (key, value) in defaults.into_iter().flatten() {
        options.entry(key.clone()).or_insert_with(|| value.clone());
    }
    let ipv4 = family(asked.enable_ipv4, &mut options, ENABLE_IPV4)?;
    let ipv6 = family(asked.enable_ipv6, &mut options, ENABLE_IPV6)?;
    let ipam = asked.ipam.unwrap_or_default();
    let subnets = subnets(&ipam, ipv6 == Some(true))?;
    Ok(CreateNetwork {
        request: NetworkRequest {
            name: asked.name,
            driver: asked.driver,
            ipv4,
            ipv6,
            internal: asked.internal,
            subnets,
            options,
        },
        attachable: asked.attachable,
        labels: asked.labels,
        ipam_driver: ipam.driver,
        ipam_options: ipam.options.unwrap_or_default(),
        config_only: asked.config_only,
        config_from,
    })
}

/// What this engine does not have, each with its own sentence.
fn refuse_absent(asked: &NetworkCreateRequest) -> Result<(), ApiError> {
    if asked.driver == "overlay" || asked.scope == "swarm" || asked.scope == "global" {
        return Err(forbidden(NO_SWARM));
    }
    if !matches!(asked.scope.as_str(), "" | "local") {
        return Err(ApiError::invalid(format!("invalid network scope: {}", asked.scope)));
    }
    if asked.ingress {
        return Err(forbidden("Ingress network can only be global scope network"));
    }
    if !DRIVERS.contains(&asked.driver.as_str()) {
        return Err(ApiError::not_found(missing_plugin(&asked.driver)));
    }
    match asked.ipam.as_ref().map_or("", |ipam| ipam.driver.as_str()) {
        "" | "default" | "null" => Ok(()),
        other => Err(ApiError::not_found(missing_plugin(other))),
    }
}

/// The network whose configuration is to be taken.
fn configured_by(asked: &NetworkCreateRequest) -> Option<&str> {
    let from = asked.config_from.as_ref().map(|from| from.network.as_str());
    from.filter(|name| !name.is_empty())
}

/// A configuration is not a network, and a network has one configuration.
fn check_configuration(asked: &NetworkCreateRequest) -> Result<(), ApiError> {
    if asked.config_only && (asked.internal || asked.attachable) {
        return Err(forbidden(
            "configuration network can only contain network specific fields. Network operator fields like [ ingress | \
             internal | attachable | scope ] are not supported.",
        ));
    }
    if configured_by(asked).is_none() {
        return Ok(());
    }
    if asked.config_only {
        return Err(forbidden(
            "a configuration network cannot depend on another configuration network",
        ));
    }
    let ipam = asked.ipam.as_ref();
    let addresses = ipam.is_some_and(|ipam| {
        ipam.config.as_ref().is_some_and(|pools| !pools.is_empty())
            || ipam.options.as_ref().is_some_and(|options| !options.is_empty())
    });
    if addresses || asked.enable_ipv4.is_some() || asked.enable_ipv6 == Some(true) || !asked.labels.is_empty() {
        return Err(forbidden(
            "user specified configurations are not supported if the network depends on a configuration network",
        ));
    }
    match asked.options.is_empty() {
        true => Ok(()),
        false => Err(forbidden(
            "network driver options are not supported if the network depends on a configuration network",
        )),
    }
}

fn missing_plugin(name: &str) -> String {
    format!("could not find plugin {name} in v1 plugin registry: plugin not found")
}

/// The field decides; without it, the option of the same meaning.
fn family(field: Option<bool>, options: &mut BTreeMap<String, String>, option: &str) -> Result<Option<bool>, ApiError> {
    if field.is_some() {
        options.remove(option);
        return Ok(field);
    }
    match options.get(option).map(String::as_str) {
        None => Ok(None),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
        Some(_) => Err(ApiError::invalid(format!(
            "driver-opt \"{option}\" is not a valid bool"
        ))),
    }
}

/// All subnets, or every reason why they are none, each on a line of its own.
fn subnets(ipam: &Ipam, ipv6: bool) -> Result<Vec<SubnetRequest>, ApiError> {
    let (mut found, mut reasons) = (Vec::new(), Vec::new());
    for pool in ipam.config.iter().flatten() {
        match subnet(pool, ipv6) {
            Ok(request) => found.push(request),
            Err(mut more) => reasons.append(&mut more),
        }
    }
    if reasons.is_empty() {
        return Ok(found);
    }
    Err(ApiError::invalid(format!(
        "invalid network config:\n{}",
        reasons.join("\n")
    )))
}

fn subnet(pool: &IpamPool, ipv6: bool) -> Result<SubnetRequest, Vec<String>> {
    let Some(subnet) = prefix(&pool.subnet) else {
        return Err(vec![format!(
            "invalid subnet {}: invalid CIDR block notation",
            pool.subnet
        )]);
    };
    let mut reasons = Vec::new();
    // A subnet of a family that the network does not have was never looked at.
    let checked = ipv6 || matches!(subnet, IpNet::V4(_));
    if subnet != subnet.trunc() {
        reasons.push(format!("invalid subnet {subnet}: it should be {}", subnet.trunc()));
    }
    let range = optional(&pool.ip_range, |text| range(text, &subnet), &mut reasons);
    let gateway = optional(
        &pool.gateway,
        |text| address(text, &subnet).map_err(|why| vec![format!("invalid gateway {text}: {why}")]),
        &mut reasons,
    );
    let mut auxiliary = BTreeMap::new();
    for (name, text) in &pool.auxiliary_addresses {
        match address(text, &subnet) {
            Ok(address) => {
                auxiliary.insert(name.clone(), address);
            }
            Err(why) => reasons.push(format!("invalid auxiliary address {name}: {why}")),
        }
    }
    if checked && !reasons.is_empty() {
        return Err(reasons);
    }
    Ok(SubnetRequest {
        subnet: Some(subnet.trunc()),
        range,
        gateway,
        auxiliary,
    })
}

fn optional<T>(text: &str, read: impl FnOnce(&str) -> Result<T, Vec<String>>, reasons: &mut Vec<String>) -> Option<T> {
    if text.is_empty() {
        return None;
    }
    read(text).map_err(|mut more| reasons.append(&mut more)).ok()
}

/// `10.0.0.0/8`. What has no slash is no prefix.
fn prefix(text: &str) -> Option<IpNet> {
    text.parse().ok()
}

fn family_name(net: &IpNet) -> &'static str {
    match net {
        IpNet::V4(_) => "IPv4",
        IpNet::V6(_) => "IPv6",
    }
}

fn range(text: &str, subnet: &IpNet) -> Result<IpNet, Vec<String>> {
    let Some(range) = prefix(text) else {
        return Err(vec![format!("invalid ip-range {text}: invalid CIDR block notation")]);
    };
    if family_name(&range) != family_name(subnet) {
        let family = family_name(subnet);
        return Err(vec![format!(
            "invalid ip-range {text}: parent subnet is an {family} block"
        )]);
    }
    let mut reasons = Vec::new();
    if range.prefix_len() < subnet.prefix_len() {
        reasons.push(format!(
            "invalid ip-range {text}: CIDR block is bigger than its parent subnet {subnet}"
        ));
    }
    if range != range.trunc() {
        reasons.push(format!("invalid ip-range {range}: it should be {}", range.trunc()));
    }
    if !subnet.contains(&range.network()) && !range.contains(&subnet.network()) {
        reasons.push(format!(
            "invalid ip-range {text}: parent subnet {subnet} doesn't contain ip-range"
        ));
    }
    if reasons.is_empty() { Ok(range) } else { Err(reasons) }
}

fn address(text: &str, subnet: &IpNet) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| "invalid address".to_owned())?;
    if address.is_ipv4() != matches!(subnet, IpNet::V4(_)) {
        return Err(format!("parent subnet is an {} block", family_name(subnet)));
    }
    if !subnet.contains(&address) {
        return Err(format!("parent subnet {subnet} doesn't contain this address"));
    }
    Ok(address)
}

/// A container's wishes for one network, as far as they can be checked without knowing it.
pub fn check_endpoint(wish: &EndpointSettings) -> Result<(), ApiError> {
    let mut reasons = Vec::new();
    if let Some(addresses) = &wish.ipam_config {
        let (v4, v6) = (&addresses.ipv4_address, &addresses.ipv6_address);
        if !v4.is_empty() && v4.parse::<Ipv4Addr>().is_err() {
            reasons.push(format!("invalid IPv4 address: {v4}"));
        }
        if !v6.is_empty() && v6.parse::<Ipv6Addr>().is_err() {
            reasons.push(format!("invalid IPv6 address: {v6}"));
        }
        for text in addresses.link_local_ips.iter().flatten() {
            if text.parse::<IpAddr>().is_err() {
                reasons.push(format!("invalid link-local IP address: {text}"));
            }
        }
    }
    if !wish.mac_address.is_empty()
        && let Err(reason) = wish.mac_address.parse::<Mac>()
    {
        reasons.push(reason);
    }
    match reasons.is_empty() {
        true => Ok(()),
        false => Err(ApiError::invalid(format!(
            "invalid endpoint settings:\n{}",
            reasons.join("\n")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(change: impl FnOnce(&mut NetworkCreateRequest)) -> Result<CreateNetwork, ApiError> {
        let mut request = NetworkCreateRequest {
            name: "web".to_owned(),
            ..Default::default()
        };
        change(&mut request);
        let options = BTreeMap::from([("d".to_owned(), "e".to_owned())]);
        create(request, &BTreeMap::from([("bridge".to_owned(), options)]))
    }

    fn pool(subnet: &str, range: &str, gateway: &str) -> IpamPool {
        IpamPool {
            subnet: subnet.to_owned(),
            ip_range: range.to_owned(),
            gateway: gateway.to_owned(),
            auxiliary_addresses: BTreeMap::new(),
        }
    }

    fn with_pool(pool: IpamPool) -> Result<CreateNetwork, ApiError> {
        request(|request| {
            request.enable_ipv6 = Some(true);
            request.ipam = Some(Ipam {
                config: Some(vec![pool]),
                ..Ipam::default()
            });
        })
    }

    fn refusal(result: Result<CreateNetwork, ApiError>) -> (u16, String) {
        let error = result.expect_err("refused");
        (error.status().as_u16(), error.message().to_owned())
    }

    #[test]
    fn a_plain_request_is_a_bridge() {
        let made = request(|request| {
            request.internal = true;
            request.options.insert("a".to_owned(), "b".to_owned());
        })
        .unwrap();
        assert_eq!((made.request.driver.as_str(), made.request.internal), ("", true));
        assert_eq!((made.request.ipv4, made.request.ipv6), (None, None));
        assert_eq!(made.request.options["a"], "b");
        assert_eq!(made.request.options["d"], "e", "the operator's default");
        assert!(made.request.subnets.is_empty());
    }

    #[test]
    fn subnets_are_typed() {
        let mut pool = pool("10.1.0.0/16", "10.1.2.0/24", "10.1.0.9");
        pool.auxiliary_addresses
            .insert("router".to_owned(), "10.1.0.10".to_owned());
        let made = with_pool(pool).unwrap();
        let subnet = &made.request.subnets[0];
        assert_eq!(subnet.subnet, "10.1.0.0/16".parse().ok());
        assert_eq!(subnet.range, "10.1.2.0/24".parse().ok());
        assert_eq!(subnet.gateway, "10.1.0.9".parse().ok());
        assert_eq!(subnet.auxiliary["router"], "10.1.0.10".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn subnets_that_are_none_are_refused_in_dockerds_sentences() {
        let cases = [
            (pool("", "", ""), "invalid subnet : invalid CIDR block notation"),
            (
                pool("10.0.0.0", "", ""),
                "invalid subnet 10.0.0.0: invalid CIDR block notation",
            ),
            (
                pool("10.0.0.0/33", "", ""),
                "invalid subnet 10.0.0.0/33: invalid CIDR block notation",
            ),
            (
                pool("10.0.0.1/8", "", ""),
                "invalid subnet 10.0.0.1/8: it should be 10.0.0.0/8",
            ),
            (
                pool("10.1.0.0/16", "x", ""),
                "invalid ip-range x: invalid CIDR block notation",
            ),
            (
                pool("10.1.0.0/16", "fd00::/64", ""),
                "invalid ip-range fd00::/64: parent subnet is an IPv4 block",
            ),
            (
                pool("10.1.0.0/16", "10.0.0.0/8", ""),
                "invalid ip-range 10.0.0.0/8: CIDR block is bigger than its parent subnet 10.1.0.0/16",
            ),
            (
                pool("10.1.0.0/16", "10.1.0.1/24", ""),
                "invalid ip-range 10.1.0.1/24: it should be 10.1.0.0/24",
            ),
            (
                pool("10.1.0.0/16", "10.2.0.0/24", ""),
                "invalid ip-range 10.2.0.0/24: parent subnet 10.1.0.0/16 doesn't contain ip-range",
            ),
            (pool("10.1.0.0/16", "", "x"), "invalid gateway x: invalid address"),
            (
                pool("10.1.0.0/16", "", "fd00::1"),
                "invalid gateway fd00::1: parent subnet is an IPv4 block",
            ),
            (
                pool("fd00::/64", "", "10.0.0.1"),
                "invalid gateway 10.0.0.1: parent subnet is an IPv6 block",
            ),
            (
                pool("10.1.0.0/16", "", "10.2.0.1"),
                "invalid gateway 10.2.0.1: parent subnet 10.1.0.0/16 doesn't contain this address",
            ),
        ];
        for (pool, expected) in cases {
            assert_eq!(
                refusal(with_pool(pool)),
                (400, format!("invalid network config:\n{expected}"))
            );
        }
        let mut aux = pool("10.1.0.0/16", "", "10.2.0.1");
        aux.auxiliary_addresses.insert("a".to_owned(), "b".to_owned());
        assert_eq!(
            refusal(with_pool(aux)).1.lines().skip(1).collect::<Vec<_>>(),
            [
                "invalid gateway 10.2.0.1: parent subnet 10.1.0.0/16 doesn't contain this address",
                "invalid auxiliary address a: invalid address"
            ]
        );
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let driver = |name: &str| refusal(request(|request| request.driver = name.to_owned()));
        assert_eq!(
            driver("weave"),
            (
                404,
                "could not find plugin weave in v1 plugin registry: plugin not found".to_owned()
            )
        );
        assert_eq!(driver("overlay").0, 403);
        assert_eq!(refusal(request(|request| request.ingress = true)).0, 403);
        assert_eq!(refusal(request(|request| request.scope = "swarm".to_owned())).0, 403);
        let both = request(|request| {
            request.config_only = true;
            request.attachable = true;
        });
        assert_eq!(refusal(both).0, 403);
        assert_eq!(refusal(request(|request| request.name = String::new())).0, 400);
        assert_eq!(
            refusal(request(|request| request.name = "host".to_owned())),
            (403, "operation is not permitted on predefined host network ".to_owned())
        );
    }

    #[test]
    fn families_are_fields_or_options() {
        let with = |field: Option<bool>, option: &str| {
            request(|request| {
                request.enable_ipv6 = field;
                request.options.insert(ENABLE_IPV6.to_owned(), option.to_owned());
            })
        };
        assert_eq!(with(None, "true").unwrap().request.ipv6, Some(true));
        assert_eq!(with(Some(false), "true").unwrap().request.ipv6, Some(false));
        assert_eq!(
            refusal(with(None, "perhaps")),
            (
                400,
                "driver-opt \"com.docker.network.enable_ipv6\" is not a valid bool".to_owned()
            )
        );
    }

    #[test]
    fn wishes_of_a_container_are_checked() {
        let wish = |v4: &str, v6: &str, local: &str, mac: &str| {
            let wish = EndpointSettings {
                ipam_config: Some(corten_api::types::network::EndpointIpam {
                    ipv4_address: v4.to_owned(),
                    ipv6_address: v6.to_owned(),
                    link_local_ips: Some(vec![local.to_owned()]),
                }),
                mac_address: mac.to_owned(),
                ..Default::default()
            };
            check_endpoint(&wish).map_err(|error| error.message().to_owned())
        };
        assert_eq!(wish("10.0.0.1", "fd00::1", "169.254.1.1", "02:42:ac:11:00:02"), Ok(()));
        assert_eq!(
            wish("10.0.0.1.1", "10.0.0.1", "x", "y").unwrap_err(),
            "invalid endpoint settings:\ninvalid IPv4 address: 10.0.0.1.1\ninvalid IPv6 address: 10.0.0.1\n\
             invalid link-local IP address: x\naddress y: invalid MAC address"
        );
    }
}

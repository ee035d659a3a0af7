//! What a wish for a network comes to: checked against itself, the other networks and the host, before anything is made.
use corten_linux::netlink::route::link::IpvlanMode;
use ipnet::IpNet;

use crate::{
    error::{Error, Result},
    firewall::model::GatewayMode,
    ipam::{
        number::Family,
        pools::Pools,
        subnets::{self, Gateways, Surroundings},
    },
    model::{Driver, Network, NetworkRequest, SubnetRequest},
    networks::Options,
    options::{BridgeOptions, family_switch},
};

/// What of the host matters to a new network.
#[derive(Debug, Default)]
pub struct Host {
    /// Its addresses with their prefixes, and the interface that has them.
    pub addresses: Vec<(String, IpNet)>,
    /// What else it reaches directly.
    pub connected: Vec<(String, IpNet)>,
    /// What it reaches by routers.
    pub routed: Vec<IpNet>,
    /// Its interfaces, but for those that we made.
    pub interfaces: Vec<String>,
}

/// Plans a network with an id, beside those that exist. `default_bridge` is the name of the default network's bridge,
/// when it is the default network.
pub fn plan(
    id: &str,
    request: &NetworkRequest,
    default_bridge: Option<&str>,
    existing: &[&Network],
    pools: &Pools,
    host: &Host,
) -> Result<Network> {
    let driver = driver(&request.driver)?;
    let options = Options::parse(driver, &request.options)?;
    let (ipv4, ipv6) = families(request)?;
    subnets::check(&request.subnets)?;
    check_combination(request, &options, (ipv4, ipv6))?;
    let interface = match &options {
        Options::Bridge(options) => bridge_name(id, options, default_bridge, existing)?,
        // Without a parent its containers have but each other.
        Options::Vlan(options) => options.parent.clone().unwrap_or_else(|| format!("dm-{}", short(id))),
        Options::None => String::new(),
    };
    let adopted = driver == Driver::Bridge && host.interfaces.contains(&interface);
    let internal = request.internal || matches!(&options, Options::Vlan(options) if options.parent.is_none());
    let wishes = match adopted {
        true => with_own_addresses(&request.subnets, &interface, host, default_bridge.is_some()),
        false => request.subnets.clone(),
    };
    let around = surroundings(&interface, existing, host);
    let subnets = match driver {
        Driver::Host | Driver::Null => Vec::new(),
        _ => {
            let gateways = gateways(internal, &options, driver);
            subnets::resolve(&wishes, (ipv4, ipv6), gateways, pools, &around)?
        }
    };
    if driver == Driver::Bridge && subnets.len() > usize::from(ipv4) + usize::from(ipv6) {
        return Err(Error::forbidden("bridge driver doesn't support multiple subnets"));
    }
    Ok(Network {
        id: id.to_owned(),
        name: request.name.clone(),
        driver,
        ipv4,
        ipv6,
        internal,
        subnets,
        options: request.options.clone(),
        adopted,
        interface,
        default_bridge: default_bridge.is_some(),
    })
}

fn driver(name: &str) -> Result<Driver> {
    match name {
        "" | "default" | "bridge" => Ok(Driver::Bridge),
        "macvlan" => Ok(Driver::Macvlan),
        "ipvlan" => Ok(Driver::Ipvlan),
        "host" | "null" => Err(Error::forbidden(format!(
            "only one instance of \"{name}\" network is allowed"
        ))),
        "overlay" => Err(Error::forbidden(
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to \
             swarm and try again.",
        )),
        other => Err(Error::not_found(format!("plugin {other:?} not found"))),
    }
}

fn families(request: &NetworkRequest) -> Result<(bool, bool)> {
    let said = |own: Option<bool>, key| match own {
        Some(own) => Ok(Some(own)),
        None => family_switch(&request.options, key),
    };
    let ipv4 = said(request.ipv4, "com.docker.network.enable_ipv4")?.unwrap_or(true);
    let ipv6 = said(request.ipv6, "com.docker.network.enable_ipv6")?.unwrap_or(false);
    match ipv4 || ipv6 {
        true => Ok((ipv4, ipv6)),
        false => Err(Error::invalid("IPv4 or IPv6 must be enabled")),
    }
}

fn check_combination(request: &NetworkRequest, options: &Options, (ipv4, ipv6): (bool, bool)) -> Result<()> {
    let Options::Bridge(options) = options else {
        return Ok(());
    };
    let isolated = (ipv4 && options.mode4 == GatewayMode::Isolated) || (ipv6 && options.mode6 == GatewayMode::Isolated);
    if isolated && !request.internal {
        return Err(Error::invalid(
            "gateway mode 'isolated' can only be used for an internal network",
        ));
    }
    Ok(())
}

/// The named one, or one that derives from the id.
fn bridge_name(
    id: &str,
    options: &BridgeOptions,
    default_bridge: Option<&str>,
    existing: &[&Network],
) -> Result<String> {
    let derived = || format!("br-{}", short(id));
    let name = options
        .name
        .clone()
        .or_else(|| default_bridge.map(str::to_owned))
        .unwrap_or_else(derived);
    let same = |other: &&&Network| other.driver == Driver::Bridge && other.interface == name && other.id != id;
    match existing.iter().find(same) {
        None => Ok(name),
        Some(other) => Err(Error::forbidden(format!(
            "cannot create network {id} ({name}): conflicts with network {} ({}): networks have same bridge name",
            other.id, other.interface
        ))),
    }
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// A bridge that an administrator made says itself which subnet it has, in families for which the user does not. Of the
/// default network, what the user says is a part of it (`--fixed-cidr`).
fn with_own_addresses(
    requests: &[SubnetRequest],
    interface: &str,
    host: &Host,
    default_network: bool,
) -> Vec<SubnetRequest> {
    let mut wishes = requests.to_vec();
    for (_, address) in host.addresses.iter().filter(|(name, _)| name == interface) {
        let family = Family::of(address);
        let named = |wish: &SubnetRequest| wish.subnet.is_some_and(|subnet| Family::of(&subnet) == family);
        if matches!(address, IpNet::V6(net) if net.addr().is_unicast_link_local()) {
            continue;
        }
        let own = SubnetRequest {
            subnet: Some(address.trunc()),
            gateway: Some(address.addr()),
            ..SubnetRequest::default()
        };
        match wishes.iter_mut().find(|wish| named(wish)) {
            None => wishes.push(own),
            Some(wish) if default_network => {
                let part = wish.range.or(wish.subnet);
                let range = part.filter(|part| address.contains(part) && *part != address.trunc());
                let auxiliary = std::mem::take(&mut wish.auxiliary);
                *wish = SubnetRequest {
                    range,
                    auxiliary,
                    ..own
                };
            }
            Some(_) => {}
        }
    }
    wishes
}

/// A router is somebody's on the network's own link; where a network is closed to the world, only a bridge has one.
fn gateways(internal: bool, options: &Options, driver: Driver) -> Gateways {
    match options {
        Options::Bridge(options) => Gateways {
            v4: !options.inhibit_ipv4 && options.mode4 != GatewayMode::Isolated,
            v6: options.mode6 != GatewayMode::Isolated,
        },
        Options::Vlan(options) => {
            let wanted = !internal && (driver == Driver::Macvlan || options.ipvlan == IpvlanMode::L2);
            Gateways { v4: wanted, v6: wanted }
        }
        Options::None => Gateways { v4: false, v6: false },
    }
}

/// Routes over bridges of ours are the networks' own.
fn surroundings(interface: &str, existing: &[&Network], host: &Host) -> Surroundings {
    let ours = |name: &String| name == interface || existing.iter().any(|network| network.interface == *name);
    let connected = host
        .addresses
        .iter()
        .chain(&host.connected)
        .filter(|(name, _)| !ours(name));
    Surroundings {
        networks: existing
            .iter()
            .flat_map(|network| {
                network
                    .subnets
                    .iter()
                    .map(|subnet| (network.name.clone(), subnet.subnet))
            })
            .collect(),
        connected: connected.map(|(_, net)| net.trunc()).collect(),
        routed: host.routed.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn request(options: &[(&str, &str)]) -> NetworkRequest {
        NetworkRequest {
            name: "web".to_owned(),
            options: options
                .iter()
                .map(|&(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            ..NetworkRequest::default()
        }
    }

    fn planned(request: &NetworkRequest, existing: &[&Network], host: &Host) -> Result<Network> {
        let pools = Pools::new(&[], "test").expect("valid");
        plan(ID, request, None, existing, &pools, host)
    }

    #[test]
    fn a_bridge_is_named_by_its_id_or_its_option() {
        let plain = planned(&request(&[]), &[], &Host::default()).expect("valid");
        assert_eq!(
            (plain.interface.as_str(), plain.driver, plain.adopted),
            ("br-0123456789ab", Driver::Bridge, false)
        );
        assert_eq!(plain.subnets.len(), 1);
        let host = Host {
            interfaces: vec!["mine".to_owned()],
            addresses: vec![("mine".to_owned(), "10.7.0.9/24".parse().expect("valid"))],
            ..Host::default()
        };
        let named = request(&[("com.docker.network.bridge.name", "mine")]);
        let named = planned(&named, &[&plain], &host).expect("valid");
        assert_eq!((named.interface.as_str(), named.adopted), ("mine", true));
        assert_eq!(named.subnets[0].subnet.to_string(), "10.7.0.0/24");
        assert_eq!(named.subnets[0].gateway, "10.7.0.9".parse().ok());
        let mut other = named.clone();
        other.id = "f".repeat(64);
        let error = planned(
            &request(&[("com.docker.network.bridge.name", "mine")]),
            &[&other],
            &host,
        )
        .expect_err("same name");
        assert_eq!(error.kind(), Kind::Forbidden);
        assert!(error.to_string().ends_with("networks have same bridge name"), "{error}");
    }

    #[test]
    fn of_a_made_bridge_the_default_network_has_the_part_that_it_is_told() {
        let host = Host {
            interfaces: vec!["mine".to_owned()],
            addresses: vec![("mine".to_owned(), "10.7.0.9/16".parse().expect("valid"))],
            ..Host::default()
        };
        let mut wish = request(&[]);
        wish.subnets = vec![SubnetRequest {
            subnet: "10.7.4.0/24".parse().ok(),
            ..SubnetRequest::default()
        }];
        let pools = Pools::new(&[], "test").expect("valid");
        let made = plan(ID, &wish, Some("mine"), &[], &pools, &host).expect("valid");
        let [subnet] = &made.subnets[..] else {
            panic!("one family")
        };
        assert_eq!(subnet.subnet.to_string(), "10.7.0.0/16");
        assert_eq!(
            (subnet.range, subnet.gateway),
            ("10.7.4.0/24".parse().ok(), "10.7.0.9".parse().ok())
        );
    }

    #[test]
    fn its_own_bridge_is_not_in_the_way_of_a_network() {
        let connected = vec![("br-0123456789ab".to_owned(), "172.17.0.0/16".parse().expect("valid"))];
        let host = Host {
            connected,
            ..Host::default()
        };
        let again = planned(&request(&[]), &[], &host).expect("valid");
        assert_eq!(again.subnets[0].subnet.to_string(), "172.17.0.0/16");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let with = |change: fn(&mut NetworkRequest)| {
            let mut request = request(&[]);
            change(&mut request);
            planned(&request, &[], &Host::default()).expect_err("cannot be").kind()
        };
        assert_eq!(with(|request| request.driver = "host".to_owned()), Kind::Forbidden);
        assert_eq!(with(|request| request.driver = "overlay".to_owned()), Kind::Forbidden);
        assert_eq!(with(|request| request.driver = "weave".to_owned()), Kind::NotFound);
        assert_eq!(with(|request| request.ipv4 = Some(false)), Kind::Invalid);
        assert_eq!(
            with(|request| {
                request.options.insert(
                    "com.docker.network.bridge.gateway_mode_ipv4".to_owned(),
                    "isolated".to_owned(),
                );
            }),
            Kind::Invalid
        );
        let subnet = |text: &str| SubnetRequest {
            subnet: text.parse().ok(),
            ..SubnetRequest::default()
        };
        let mut two = request(&[]);
        two.subnets = vec![subnet("10.0.0.0/24"), subnet("10.0.1.0/24")];
        assert_eq!(
            planned(&two, &[], &Host::default())
                .expect_err("one bridge, one subnet")
                .kind(),
            Kind::Forbidden
        );
        two.driver = "macvlan".to_owned();
        assert_eq!(
            planned(&two, &[], &Host::default())
                .expect("vlans may have several")
                .subnets
                .len(),
            2
        );
    }

    #[test]
    fn gateways_are_where_something_has_them() {
        let gateway =
            |request: &NetworkRequest| planned(request, &[], &Host::default()).expect("valid").subnets[0].gateway;
        assert!(gateway(&request(&[])).is_some());
        let mut internal = request(&[]);
        internal.internal = true;
        assert!(gateway(&internal).is_some(), "the bridge has an address all the same");
        internal.driver = "macvlan".to_owned();
        assert!(gateway(&internal).is_none());
        assert!(gateway(&request(&[("com.docker.network.bridge.inhibit_ipv4", "true")])).is_none());
        let mut routed = request(&[("ipvlan_mode", "l3")]);
        routed.driver = "ipvlan".to_owned();
        routed.options.insert("parent".to_owned(), "eth0".to_owned());
        assert!(gateway(&routed).is_none());
    }
}

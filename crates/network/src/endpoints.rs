//! A container's endpoints: their interfaces, hardware addresses, and which of them has the default routes.
use std::net::Ipv4Addr;

use crate::{
    bridge::check_name,
    error::{Error, Result},
    model::{Driver, Endpoint, EndpointRequest, Mac},
    networks::Live,
};

/// The endpoint option that names the interface.
const INTERFACE_OPTION: &str = "com.docker.network.endpoint.ifname";

/// An endpoint with addresses of its own, and an interface's name that is not among `taken`.
pub fn make(live: &Live, container: &str, request: &EndpointRequest, taken: &[Endpoint]) -> Result<Endpoint> {
    let network = &live.network;
    if network.default_bridge && (request.ipv4.is_some() || request.ipv6.is_some()) {
        return Err(Error::invalid(
            "user specified IP address is supported on user defined networks only",
        ));
    }
    let interface = interface(live, request, taken)?;
    let lease = live.join(container, request.ipv4, request.ipv6)?;
    let mac = match network.driver {
        Driver::Bridge | Driver::Macvlan => Some(request.mac.unwrap_or_else(|| mac(lease.ipv4.map(|net| net.addr())))),
        // Its parent's.
        Driver::Ipvlan | Driver::Host | Driver::Null => None,
    };
    let host_interface = match network.driver {
        Driver::Bridge => format!("veth{}", &hexadecimal::<4>()[..7]),
        _ => String::new(),
    };
    Ok(Endpoint {
        id: hexadecimal::<32>(),
        network: network.id.clone(),
        network_name: network.name.clone(),
        interface,
        host_interface,
        mac,
        ipv4: lease.ipv4,
        ipv6: lease.ipv6,
        link_local: request.link_local.clone(),
        gateway4: lease.gateway4,
        gateway6: lease.gateway6,
        names: request.names.clone(),
        links: request.links.clone(),
        options: request.options.clone(),
        gateway_priority: request.gateway_priority,
    })
}

/// The wished name, or the lowest free number behind the network's prefix.
fn interface(live: &Live, request: &EndpointRequest, taken: &[Endpoint]) -> Result<String> {
    if matches!(live.network.driver, Driver::Host | Driver::Null) {
        return Ok(String::new());
    }
    let is_taken = |name: &str| name == "lo" || taken.iter().any(|endpoint| endpoint.interface == name);
    if let Some(wished) = request.options.get(INTERFACE_OPTION) {
        check_name(wished)?;
        return match is_taken(wished) {
            true => Err(Error::conflict(format!(
                "interface name {wished} is in use in this container"
            ))),
            false => Ok(wished.clone()),
        };
    }
    let prefix = live.interface_prefix();
    let names = (0..).map(|number| format!("{prefix}{number}"));
    Ok(names
        .into_iter()
        .find(|name| !is_taken(name))
        .expect("numbers do not end"))
}

/// Which of the endpoints has the default route: highest priority, then who has both families, then by network name.
/// `eligible` says whether an endpoint leads out in the family at hand.
pub fn default_route(endpoints: &[Endpoint], eligible: impl Fn(&Endpoint) -> bool) -> Option<&Endpoint> {
    let rank = |endpoint: &&Endpoint| {
        let single = endpoint.gateway4.is_none() || endpoint.gateway6.is_none();
        (
            -i128::from(endpoint.gateway_priority),
            single,
            endpoint.network_name.clone(),
        )
    };
    endpoints.iter().filter(|endpoint| eligible(endpoint)).min_by_key(rank)
}

/// Derived from the IPv4 address, so that neighbours never remember a wrong one; random where there is none.
fn mac(address: Option<Ipv4Addr>) -> Mac {
    let [a, b, c, d] = address.map_or_else(random::<4>, |address| address.octets());
    Mac([0x02, 0x42, a, b, c, d])
}

/// Random, `2 N` digits.
pub fn hexadecimal<const N: usize>() -> String {
    random::<N>().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("the kernel's random numbers cannot fail once it is up: {error}"),
        }
    }
    bytes
}

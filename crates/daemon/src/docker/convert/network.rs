//! A network as the Engine API shows it: the entry of a list, the document of an inspection.
use std::collections::BTreeMap;

use corten_api::types::network::{ConfigReference, Ipam, IpamPool, Network, NetworkContainer};
use corten_engine::network::record::{NetworkEndpoint, NetworkView};
use corten_network::model::{Network as Made, Subnet};

use crate::docker::convert::time::rfc3339;

/// An entry of `GET /networks`: everything but the containers.
pub fn summary(view: &NetworkView) -> Network {
    let (record, network) = (&view.record, &view.record.network);
    Network {
        name: network.name.clone(),
        id: network.id.clone(),
        created: rfc3339(Some(record.created)),
        scope: "local".to_owned(),
        driver: network.driver.name().to_owned(),
        enable_ipv4: network.ipv4,
        enable_ipv6: network.ipv6,
        ipam: Ipam {
            driver: match record.ipam_driver.as_str() {
                "" => "default".to_owned(),
                driver => driver.to_owned(),
            },
            options: Some(record.ipam_options.clone()).filter(|options| !options.is_empty()),
            // Go's nil slice, for networks without addresses.
            config: Some(network.subnets.iter().map(pool).collect()).filter(|pools: &Vec<_>| !pools.is_empty()),
        },
        internal: network.internal,
        attachable: record.attachable,
        config_only: record.config_only,
        config_from: ConfigReference {
            network: record.config_from.clone().unwrap_or_default(),
        },
        options: options(network),
        labels: record.labels.clone(),
        ..Network::default()
    }
}

/// `GET /networks/{name}`.
pub fn inspect(view: &NetworkView) -> Network {
    let network_id = &view.record.network.id;
    let containers = view
        .endpoints
        .iter()
        .map(|end| (end.container.clone(), container(network_id, end)));
    Network {
        containers: containers.collect(),
        ..summary(view)
    }
}

/// As given; the default bridge's also say what was not.
fn options(network: &Made) -> BTreeMap<String, String> {
    let mut options = network.options.clone();
    if network.default_bridge {
        let defaults = [
            ("bridge.default_bridge", "true"),
            ("bridge.enable_icc", "true"),
            ("bridge.enable_ip_masquerade", "true"),
            ("bridge.host_binding_ipv4", "0.0.0.0"),
            ("bridge.name", &network.interface),
            ("driver.mtu", "1500"),
        ];
        for (name, value) in defaults {
            let option = options.entry(format!("com.docker.network.{name}"));
            option.or_insert_with(|| value.to_owned());
        }
    }
    options
}

fn pool(subnet: &Subnet) -> IpamPool {
    let auxiliary = subnet.auxiliary.iter();
    IpamPool {
        subnet: subnet.subnet.to_string(),
        ip_range: subnet.range.map(|range| range.to_string()).unwrap_or_default(),
        gateway: subnet.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
        auxiliary_addresses: auxiliary
            .map(|(name, address)| (name.clone(), address.to_string()))
            .collect::<BTreeMap<_, _>>(),
    }
}

fn container(network_id: &str, end: &NetworkEndpoint) -> NetworkContainer {
    let Some(endpoint) = &end.endpoint else {
        return NetworkContainer {
            name: end.name.clone(),
            endpoint_id: endpoint_id(network_id, &end.container),
            ..NetworkContainer::default()
        };
    };
    NetworkContainer {
        name: end.name.clone(),
        endpoint_id: endpoint.id.clone(),
        mac_address: endpoint.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        ipv4_address: endpoint.ipv4.map(|address| address.to_string()).unwrap_or_default(),
        ipv6_address: endpoint.ipv6.map(|address| address.to_string()).unwrap_or_default(),
    }
}

/// The id of a container's end of `host` or `none`, which nobody keeps.
pub fn endpoint_id(network_id: &str, container_id: &str) -> String {
    identifier(&[network_id, container_id])
}

/// 64 hexadecimal digits that are the same for the same words.
pub fn identifier(words: &[&str]) -> String {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    let lane = |lane: u8| {
        let bytes = words.iter().flat_map(|word| word.bytes().chain([0]));
        // A finishing round, so that the lanes differ in all digits.
        let hash = bytes.fold(mix(OFFSET, lane), mix);
        (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    (1..=4).map(|number| format!("{:016x}", lane(number))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use corten_engine::network::record::NetworkRecord;
    use corten_network::model::{Driver, Endpoint};
    use jiff::Timestamp;

    use super::*;

    fn view(subnets: Vec<Subnet>) -> NetworkView {
        let network = Made {
            id: "ab".repeat(32),
            name: "web".to_owned(),
            driver: Driver::Bridge,
            ipv4: true,
            ipv6: true,
            internal: false,
            subnets,
            options: BTreeMap::from([("com.docker.network.driver.mtu".to_owned(), "1400".to_owned())]),
            interface: "br-abababababab".to_owned(),
            adopted: false,
            default_bridge: false,
        };
        let endpoint = Endpoint {
            id: "cd".repeat(32),
            network: network.id.clone(),
            network_name: network.name.clone(),
            interface: "eth0".to_owned(),
            host_interface: "veth1".to_owned(),
            mac: "02:42:0a:01:00:02".parse().ok(),
            ipv4: "10.1.0.2/16".parse().ok(),
            ipv6: None,
            link_local: Vec::new(),
            gateway4: None,
            gateway6: None,
            names: Vec::new(),
            links: Vec::new(),
            options: BTreeMap::new(),
            gateway_priority: 0,
        };
        let record = NetworkRecord {
            network,
            created: Timestamp::from_second(1_700_000_000).unwrap(),
            attachable: true,
            labels: BTreeMap::new(),
            ipam_driver: "default".to_owned(),
            ipam_options: BTreeMap::new(),
            configured: None,
            config_only: false,
            config_from: None,
        };
        let end = |container: &str, endpoint| NetworkEndpoint {
            container: container.to_owned(),
            name: format!("name-{container}"),
            endpoint,
        };
        NetworkView {
            record: Arc::new(record),
            endpoints: vec![end("c1", Some(endpoint)), end("c2", None)],
            used: true,
        }
    }

    #[test]
    fn a_document_has_everything_and_an_entry_no_containers() {
        let subnet = Subnet {
            subnet: "10.1.0.0/16".parse().unwrap(),
            range: None,
            gateway: "10.1.0.1".parse().ok(),
            auxiliary: BTreeMap::new(),
        };
        let view = view(vec![subnet]);
        let document = serde_json::to_value(inspect(&view)).unwrap();
        assert_eq!(
            document["IPAM"],
            serde_json::json!({"Driver": "default", "Options": null,
                "Config": [{"Subnet": "10.1.0.0/16", "Gateway": "10.1.0.1"}]})
        );
        assert_eq!(document["Id"], "ab".repeat(32));
        assert_eq!(document["EnableIPv6"], true);
        assert_eq!(document["ConfigFrom"]["Network"], "");
        assert_eq!(
            document["Containers"]["c1"],
            serde_json::json!({"Name": "name-c1", "EndpointID": "cd".repeat(32), "MacAddress": "02:42:0a:01:00:02",
                "IPv4Address": "10.1.0.2/16", "IPv6Address": ""})
        );
        assert_eq!(document["Containers"]["c2"]["IPv4Address"], "");
        assert_eq!(document["Options"]["com.docker.network.driver.mtu"], "1400");
        assert!(summary(&view).containers.is_empty());
    }

    #[test]
    fn networks_without_addresses_have_no_pools() {
        assert_eq!(summary(&view(Vec::new())).ipam.config, None);
    }

    #[test]
    fn the_default_bridge_says_what_it_is() {
        let mut view = view(Vec::new());
        assert_eq!(summary(&view).options.len(), 1);
        let record = Arc::get_mut(&mut view.record).unwrap();
        record.network.default_bridge = true;
        let options = summary(&view).options;
        assert_eq!(options["com.docker.network.bridge.name"], "br-abababababab");
        assert_eq!(options["com.docker.network.driver.mtu"], "1400");
        assert_eq!(options["com.docker.network.bridge.default_bridge"], "true");
    }

    #[test]
    fn ids_are_stable_and_differ() {
        assert_eq!(endpoint_id("a", "b"), endpoint_id("a", "b"));
        assert_eq!(endpoint_id("a", "b").len(), 64);
        assert_ne!(endpoint_id("a", "b"), endpoint_id("ab", ""));
    }
}

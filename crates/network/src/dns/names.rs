//! The registry of names: who is called what, network by network.
//!
//! Names are kept in lower case. Several endpoints of a network may share a name: it then has several addresses.
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use crate::model::Endpoint;

#[derive(Debug, Default)]
pub struct Names {
    /// By the network's id.
    networks: RwLock<HashMap<String, Network>>,
}

#[derive(Debug, Default)]
pub struct Network {
    /// In lower case.
    name: String,
    /// By the endpoint's id.
    endpoints: HashMap<String, Known>,
    by_name: HashMap<String, Vec<Holder>>,
    by_address: HashMap<IpAddr, Pointer>,
}

/// What is needed to forget an endpoint.
#[derive(Debug)]
struct Known {
    names: Vec<String>,
    addresses: Vec<IpAddr>,
}

/// One of those who have a name.
#[derive(Debug)]
pub struct Holder {
    endpoint: String,
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
}

#[derive(Debug)]
struct Pointer {
    endpoint: String,
    /// `name.network`, as the user spelled them.
    name: String,
}

impl Names {
    /// Writes an endpoint down, in place of what was known of it.
    pub fn add(&self, endpoint: &Endpoint) {
        let mut networks = self.write();
        let network = networks.entry(endpoint.network.clone()).or_default();
        network.forget(&endpoint.id);
        network.name = endpoint.network_name.to_ascii_lowercase();
        network.learn(endpoint);
    }

    /// Forgets an endpoint. Nothing happens where it is not known.
    pub fn remove(&self, network: &str, endpoint: &str) {
        let mut networks = self.write();
        if let Some(known) = networks.get_mut(network) {
            known.forget(endpoint);
            if known.endpoints.is_empty() {
                networks.remove(network);
            }
        }
    }

    /// How many endpoints are known.
    pub fn len(&self) -> usize {
        self.read().values().map(|network| network.endpoints.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    /// Everything, by the network's id; not to be held for long.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, HashMap<String, Network>> {
        // Nothing between two steps of a change panics, so what a panicked thread left is whole.
        self.networks.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<String, Network>> {
        self.networks.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Network {
    /// In lower case.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Who has a name (in lower case); empty when nobody does.
    pub(crate) fn holders(&self, name: &str) -> &[Holder] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// `name.network` of an address.
    pub(crate) fn pointer(&self, address: IpAddr) -> Option<&str> {
        self.by_address.get(&address).map(|pointer| pointer.name.as_str())
    }

    fn learn(&mut self, endpoint: &Endpoint) {
        let ipv4 = endpoint.ipv4.map(|net| net.addr());
        let ipv6 = endpoint.ipv6.map(|net| net.addr());
        let mut names: Vec<String> = Vec::with_capacity(endpoint.names.len());
        for name in &endpoint.names {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            if name.is_empty() || names.contains(&name) {
                continue;
            }
            self.by_name.entry(name.clone()).or_default().push(Holder {
                endpoint: endpoint.id.clone(),
                ipv4,
                ipv6,
            });
            names.push(name);
        }
        let addresses: Vec<IpAddr> = ipv4.map(IpAddr::V4).into_iter().chain(ipv6.map(IpAddr::V6)).collect();
        if let Some(first) = endpoint.names.first() {
            for &address in &addresses {
                let pointer = Pointer {
                    endpoint: endpoint.id.clone(),
                    name: format!("{first}.{}", endpoint.network_name),
                };
                self.by_address.insert(address, pointer);
            }
        }
        self.endpoints.insert(endpoint.id.clone(), Known { names, addresses });
    }

    fn forget(&mut self, endpoint: &str) {
        let Some(known) = self.endpoints.remove(endpoint) else {
            return;
        };
        for name in known.names {
            if let Some(holders) = self.by_name.get_mut(&name) {
                holders.retain(|holder| holder.endpoint != endpoint);
                if holders.is_empty() {
                    self.by_name.remove(&name);
                }
            }
        }
        for address in known.addresses {
            // A successor may have the address already.
            if self
                .by_address
                .get(&address)
                .is_some_and(|pointer| pointer.endpoint == endpoint)
            {
                self.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(id: &str, names: &[&str], address: &str) -> Endpoint {
        Endpoint {
            id: id.to_owned(),
            network: "n".to_owned(),
            network_name: "Net".to_owned(),
            interface: String::new(),
            host_interface: String::new(),
            mac: None,
            ipv4: Some(address.parse().expect("valid")),
            ipv6: None,
            link_local: Vec::new(),
            gateway4: None,
            gateway6: None,
            names: names.iter().map(|&name| name.to_owned()).collect(),
            links: Vec::new(),
            options: Default::default(),
            gateway_priority: 0,
        }
    }

    #[test]
    fn what_was_learned_is_forgotten_completely() {
        let names = Names::default();
        names.add(&endpoint("a", &["Web", "web", "app."], "10.0.0.2/24"));
        names.add(&endpoint("b", &["web2", "APP"], "10.0.0.3/24"));
        assert_eq!(names.len(), 2);
        assert_eq!(names.read()["n"].holders("app").len(), 2);
        assert_eq!(names.read()["n"].holders("web").len(), 1);
        // A new endpoint with the address of one that is about to go keeps it.
        names.add(&endpoint("c", &["heir"], "10.0.0.2/24"));
        names.remove("n", "a");
        let address = "10.0.0.2".parse().expect("valid");
        assert_eq!(names.read()["n"].pointer(address), Some("heir.Net"));
        names.add(&endpoint("b", &["renamed"], "10.0.0.3/24"));
        assert!(names.read()["n"].holders("app").is_empty());
        names.remove("n", "b");
        names.remove("n", "c");
        names.remove("n", "c");
        assert!(names.is_empty());
    }
}

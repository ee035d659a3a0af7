//! A network that exists: its options, its addresses, and who has which.
//!
//! The lock is held for microseconds and never while the kernel works, so that containers start at once. A network that
//! is being removed is closed first: nobody gets an address of it from then on.
use std::{
    collections::{BTreeSet, VecDeque},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Mutex, MutexGuard},
};

use corten_linux::netlink::route::link::IpvlanMode;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{
    error::{Error, Result},
    firewall::model::GatewayMode,
    ipam::{addresses::Addresses, number::Family},
    model::{Driver, Endpoint, Network, Subnet},
    options::{BridgeOptions, VlanOptions},
};

#[derive(Debug)]
pub struct Live {
    pub network: Network,
    pub options: Options,
    state: Mutex<State>,
}

#[derive(Debug)]
pub enum Options {
    Bridge(BridgeOptions),
    Vlan(VlanOptions),
    /// Host and null have none.
    None,
}

#[derive(Debug)]
struct State {
    addresses: Vec<Addresses>,
    /// Containers that have an endpoint here.
    members: BTreeSet<String>,
    closed: bool,
    /// Interfaces of those who left lately, with their addresses: the kernel may not have taken them down yet.
    lately: VecDeque<(Vec<IpAddr>, String)>,
}

/// How many of those who left are remembered: more than the kernel ever has waiting.
const LATELY: usize = 256;

/// Addresses of one endpoint, with what its subnets say.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub ipv4: Option<Ipv4Net>,
    pub ipv6: Option<Ipv6Net>,
    pub gateway4: Option<Ipv4Addr>,
    pub gateway6: Option<Ipv6Addr>,
}

impl Live {
    pub fn new(network: Network) -> Result<Live> {
        let options = Options::parse(network.driver, &network.options)?;
        let addresses = network.subnets.iter().map(Addresses::new).collect();
        let state = State {
            addresses,
            members: BTreeSet::new(),
            closed: false,
            lately: VecDeque::new(),
        };
        Ok(Live {
            network,
            options,
            state: Mutex::new(state),
        })
    }

    pub fn id(&self) -> &str {
        &self.network.id
    }

    /// Makes a container a member and leases an address of each family that the network has: the wished ones, or the
    /// next.
    pub fn join(&self, container: &str, ipv4: Option<Ipv4Addr>, ipv6: Option<Ipv6Addr>) -> Result<Lease> {
        let mut state = self.state();
        self.enter(&mut state, container)?;
        let mut lease = Lease::default();
        let wishes = [
            (Family::V4, self.network.ipv4, ipv4.map(IpAddr::V4)),
            (Family::V6, self.network.ipv6, ipv6.map(IpAddr::V6)),
        ];
        for (family, has, wish) in wishes {
            let leased = match (has, wish) {
                (false, Some(address)) => Err(Error::invalid(format!(
                    "no configured subnet or ip-range contain the IP address {address}"
                ))),
                (false, None) => continue,
                (true, wish) => self.lease(&mut state, family, wish),
            };
            match leased {
                Ok((address, subnet)) => lease.add(address, subnet, self.offers_gateway()),
                Err(error) => {
                    lease.addresses().for_each(|address| state.give_back(address));
                    state.members.remove(container);
                    return Err(error);
                }
            }
        }
        Ok(lease)
    }

    fn enter(&self, state: &mut State, container: &str) -> Result<()> {
        if state.closed {
            return Err(Error::not_found(format!("network {} not found", self.network.name)));
        }
        if !state.members.insert(container.to_owned()) {
            return Err(Error::forbidden(format!(
                "endpoint of container {} already exists in network {}",
                container.get(..12).unwrap_or(container),
                self.network.name
            )));
        }
        Ok(())
    }

    /// From the first subnet of the family that has one, or that contains the wish.
    fn lease(&self, state: &mut State, family: Family, wish: Option<IpAddr>) -> Result<(IpAddr, &Subnet)> {
        let mut refused = None;
        for (subnet, addresses) in self.network.subnets.iter().zip(&mut state.addresses) {
            if Family::of(&subnet.subnet) != family || wish.is_some_and(|wish| !subnet.subnet.contains(&wish)) {
                continue;
            }
            let leased = match wish {
                Some(wish) => addresses.lease_exactly(wish).map(|()| wish),
                None => addresses.lease(),
            };
            match leased {
                Ok(address) => return Ok((address, subnet)),
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or_else(|| match wish {
            Some(wish) => Error::invalid(format!(
                "no configured subnet or ip-range contain the IP address {wish}"
            )),
            None => Error::system(format!("network {} has no {} subnet", self.network.name, family.name())),
        }))
    }

    /// Takes an endpoint over that a daemon before this one made.
    pub fn rejoin(&self, container: &str, endpoint: &Endpoint) -> Result<()> {
        let mut state = self.state();
        self.enter(&mut state, container)?;
        for address in endpoint.addresses() {
            // Whatever the records say: it has the address, and nobody else shall.
            if let Err(error) = self.lease(&mut state, Family::of_address(&address), Some(address)) {
                tracing::warn!(%address, container, network = self.network.name, %error, "an endpoint's address is not its own");
            }
        }
        Ok(())
    }

    /// Gives a member's addresses back. One that is no member has none.
    pub fn leave(&self, container: &str, endpoint: &Endpoint) {
        let mut state = self.state();
        if !state.members.remove(container) {
            return;
        }
        endpoint.addresses().for_each(|address| state.give_back(address));
        if !endpoint.host_interface.is_empty() {
            let left = (endpoint.addresses().collect(), endpoint.host_interface.clone());
            state.lately.push_back(left);
        }
        if state.lately.len() > LATELY {
            state.lately.pop_front();
        }
    }

    /// Interfaces on the host that had this endpoint's addresses a moment ago, and may be there still: whoever restarts
    /// with an address of its own is quicker than the kernel is with the namespace that it had before. Told once.
    pub fn predecessors(&self, endpoint: &Endpoint) -> Vec<String> {
        let mut state = self.state();
        let same = |left: &[IpAddr]| endpoint.addresses().any(|address| left.contains(&address));
        let (gone, kept) = state.lately.drain(..).partition(|(left, _)| same(left));
        state.lately = kept;
        VecDeque::into_iter(gone).map(|(_, interface)| interface).collect()
    }

    /// Interfaces on the host of those who left lately, which somebody may keep though their containers ended: a program
    /// that was sent into their namespace.
    pub fn left_behind(&self) -> Vec<String> {
        let state = self.state();
        state.lately.iter().map(|(_, interface)| interface.clone()).collect()
    }

    /// Lets nobody join any more; refused with the members while there are some.
    pub fn close(&self) -> Result<(), Vec<String>> {
        let mut state = self.state();
        if !state.members.is_empty() {
            return Err(state.members.iter().cloned().collect());
        }
        state.closed = true;
        Ok(())
    }

    /// It could not be removed after all.
    pub fn reopen(&self) {
        self.state().closed = false;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while locked")
    }

    /// Have endpoints a way out by the subnet's gateway?
    fn offers_gateway(&self) -> [bool; 2] {
        if self.network.internal {
            return [false; 2];
        }
        match &self.options {
            Options::Bridge(options) => [options.mode4, options.mode6].map(|mode| mode != GatewayMode::Isolated),
            Options::Vlan(options) => [self.network.driver != Driver::Ipvlan || options.ipvlan == IpvlanMode::L2; 2],
            Options::None => [false; 2],
        }
    }

    /// Do endpoints reach the world by their interface alone, without a router's address?
    pub fn routes_by_interface(&self) -> bool {
        matches!(&self.options, Options::Vlan(options) if self.network.driver == Driver::Ipvlan && options.ipvlan != IpvlanMode::L2)
            && !self.network.internal
    }

    pub fn bridge(&self) -> Option<&BridgeOptions> {
        match &self.options {
            Options::Bridge(options) => Some(options),
            _ => None,
        }
    }

    /// Of interfaces in containers.
    pub fn interface_prefix(&self) -> &str {
        match &self.options {
            Options::Bridge(options) => &options.interface_prefix,
            Options::Vlan(options) => &options.interface_prefix,
            Options::None => "eth",
        }
    }
}

impl Options {
    pub fn parse(driver: Driver, options: &std::collections::BTreeMap<String, String>) -> Result<Options> {
        Ok(match driver {
            Driver::Bridge => Options::Bridge(BridgeOptions::parse(options)?),
            Driver::Macvlan | Driver::Ipvlan => Options::Vlan(VlanOptions::parse(options)?),
            Driver::Host | Driver::Null => Options::None,
        })
    }
}

impl State {
    fn give_back(&mut self, address: IpAddr) {
        let subnets = self.addresses.iter_mut();
        for addresses in subnets.filter(|addresses| addresses.subnet().contains(&address)) {
            addresses.release(address);
        }
    }
}

impl Lease {
    fn add(&mut self, address: IpAddr, subnet: &Subnet, [gateway4, gateway6]: [bool; 2]) {
        match (address, subnet.subnet) {
            (IpAddr::V4(address), IpNet::V4(net)) => {
                self.ipv4 = Some(Ipv4Net::new(address, net.prefix_len()).expect("it is a subnet's"));
                self.gateway4 = match router(subnet, "DefaultGatewayIPv4") {
                    Some(IpAddr::V4(gateway)) if gateway4 => Some(gateway),
                    _ => None,
                };
            }
            (IpAddr::V6(address), IpNet::V6(net)) => {
                self.ipv6 = Some(Ipv6Net::new(address, net.prefix_len()).expect("it is a subnet's"));
                self.gateway6 = match router(subnet, "DefaultGatewayIPv6") {
                    Some(IpAddr::V6(gateway)) if gateway6 => Some(gateway),
                    _ => None,
                };
            }
            _ => unreachable!("a subnet contains addresses of its family only"),
        }
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let ipv4 = self.ipv4.map(|net| IpAddr::V4(net.addr()));
        let ipv6 = self.ipv6.map(|net| IpAddr::V6(net.addr()));
        ipv4.into_iter().chain(ipv6)
    }
}

/// Where endpoints send what is not for their subnet: the gateway, or the auxiliary address of this name.
fn router(subnet: &Subnet, name: &str) -> Option<IpAddr> {
    subnet.auxiliary.get(name).copied().or(subnet.gateway)
}

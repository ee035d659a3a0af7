//! Bridges that somebody took away while networks need them: made anew, with everything that was plugged into them.
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, RwLock},
};

use corten_linux::netlink::route::link::Port;

use crate::{
    bridge::{self, BridgeSpec},
    config::Config,
    error::{Error, Result},
    held::Held,
    links::Links,
    networks::{Live, Options},
    vlan, wiring,
};

/// What the controller knows, as far as others need it too.
#[derive(Clone, Default)]
pub(crate) struct Known {
    /// By id. Written by the few verbs on networks; the lock is held for a look only.
    pub networks: Arc<RwLock<BTreeMap<String, Arc<Live>>>>,
    /// By the container's id.
    pub held: Arc<Mutex<HashMap<String, Arc<Mutex<Held>>>>>,
    /// Of containers on the default network; see [`links`](crate::links).
    pub links: Arc<Mutex<Links>>,
    /// One network is made or removed at a time: each must see the others' subnets.
    pub making: Arc<Mutex<()>>,
}

impl Known {
    pub fn all(&self) -> Vec<Arc<Live>> {
        let networks = self.networks.read().expect("no panic while locked");
        networks.values().cloned().collect()
    }

    /// Makes bridges again that are gone: all of them, or those of these names. Were there any? A bridge that an
    /// administrator made is the administrator's to make.
    pub fn mend(&self, config: &Config, names: Option<&[String]>) -> bool {
        let is_meant = |live: &&Arc<Live>| {
            let model = &live.network;
            let named = names.is_none_or(|names| names.contains(&model.interface));
            live.bridge().is_some() && !model.adopted && named
        };
        if !self.all().iter().any(|live| is_meant(&live)) {
            return false;
        }
        // Whoever removes a network is done before we look.
        let _alone = self.making.lock().expect("no panic while locked");
        let mut found = false;
        for live in self.all().iter().filter(is_meant) {
            let bridge = &live.network.interface;
            if bridge::exists(bridge) {
                continue;
            }
            found = true;
            tracing::warn!(
                network = live.network.name,
                "somebody removed bridge {bridge}: it is made anew"
            );
            let made = make_interface(config, live)
                .and_then(|()| adopt(live, &self.wires(live)))
                .and_then(|()| self.answer_for_linked());
            if let Err(error) = made {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(network = live.network.name, %error, cause, "a bridge that somebody removed stays away");
            }
        }
        found
    }

    /// Ends on the host of the interfaces that containers have on a network.
    fn wires(&self, live: &Live) -> Vec<String> {
        let held: Vec<_> = self
            .held
            .lock()
            .expect("no panic while locked")
            .values()
            .cloned()
            .collect();
        let wire = |held: Arc<Mutex<Held>>| {
            let held = held.lock().expect("no panic while locked");
            held.on(live.id()).map(|(_, endpoint)| endpoint.host_interface.clone())
        };
        held.into_iter().filter_map(wire).collect()
    }
}

/// The interface that endpoints are plugged into; what is there already stays.
pub(crate) fn make_interface(config: &Config, live: &Live) -> Result<()> {
    let network = &live.network;
    let owner = &config.table;
    if network.default_bridge && network.interface == config.bridge {
        check_default(config)?;
    }
    match &live.options {
        Options::Bridge(options) => {
            let spec = BridgeSpec {
                name: &network.interface,
                owner,
                mtu: options.mtu,
                mac: None,
                addresses: &wiring::bridge_addresses(live),
                // Only behind the firewall's guard.
                route_localnet: network.ipv4 && !network.internal && config.firewall.ipv4,
            };
            bridge::create(&spec).map(drop)
        }
        Options::Vlan(options) => {
            vlan::check_kernel(network.driver.name())?;
            match &options.parent {
                Some(parent) => vlan::parent(parent, owner).map(drop),
                None => vlan::dead_end(&network.interface, owner),
            }
        }
        Options::None => Ok(()),
    }
}

/// Is the default network's bridge there, where somebody else makes it?
pub(crate) fn check_default(config: &Config) -> Result<()> {
    let name = &config.bridge;
    match !config.bridge_is_made || bridge::exists(name) {
        true => Ok(()),
        false => Err(Error::not_found(format!(
            "bridge device with non default name {name} must be created manually"
        ))),
    }
}

/// Plugs interfaces of running containers into a network's bridge again.
pub(crate) fn adopt<N: AsRef<str>>(live: &Live, wires: &[N]) -> Result<()> {
    let Some(options) = live.bridge().filter(|_| !wires.is_empty()) else {
        return Ok(());
    };
    let port = Port {
        isolated: !options.icc,
        hairpin: wiring::needs_hairpin(),
    };
    let wires: Vec<&str> = wires.iter().map(AsRef::as_ref).collect();
    bridge::adopt(&live.network.interface, &wires, port)
        .map_err(|error| Error::system("cannot put the host's interfaces in order").because(error))
}

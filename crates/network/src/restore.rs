//! What a new daemon does about networks: it makes what should exist, takes over what does, and clears the rest away.
//!
//! Leases come first, so that nobody gets an address or a port of a container that runs; then the bridges with their
//! ports, the firewall in one step, and what the process itself holds (sockets of published ports, names).
use std::{
    collections::HashSet,
    io,
    sync::{Arc, Mutex},
};

use crate::{
    bridge::{self, Litter},
    controller::{Controller, Restored},
    error::{Error, Result},
    held::Held,
    mend,
    model::{Network, PortRequest, PublishedPort},
    networks::Live,
    rewire::{self, Damage},
    wiring,
};

type Failures = Vec<(String, Error)>;

impl Controller {
    /// After a start of the daemon, once, before anything else: makes every network that should exist (bridges, the
    /// whole firewall table in one transaction), takes over the attachments of containers that run (leases, ports,
    /// names), and removes interfaces of ours that belong to nobody. What cannot be restored is reported, by network or
    /// container, and does not keep the rest from working.
    pub fn restore(&self, networks: &[Network], running: &[Restored]) -> Failures {
        let mut failures = Vec::new();
        for network in networks {
            if let Err(error) = self.restore_network(network) {
                failures.push((network.name.clone(), error));
            }
        }
        let taken_over: Vec<(Held, &Restored)> = running
            .iter()
            .map(|restored| (self.take_over(restored, &mut failures), restored))
            .collect();
        let litter = self.litter(&taken_over).unwrap_or_else(|error| {
            failures.push(("interfaces".to_owned(), error));
            Litter::default()
        });
        let mut damages = Vec::with_capacity(taken_over.len());
        for (held, restored) in &taken_over {
            damages.push(
                rewire::damage(held, restored.namespace, &litter).unwrap_or_else(|error| {
                    failures.push((restored.attachment.container.clone(), error));
                    Damage::default()
                }),
            );
        }
        if let Err(error) = self.tidy(&taken_over, &litter) {
            failures.push(("interfaces".to_owned(), error));
        }
        let rules: Vec<_> = self
            .all()
            .iter()
            .filter_map(|live| wiring::bridge_rules(live, &self.config))
            .collect();
        self.take_over_links(
            running
                .iter()
                .map(|one| (one.attachment.container.clone(), one.links.clone())),
        );
        let ports: Vec<_> = taken_over.iter().flat_map(|(held, _)| &held.rules).copied().collect();
        if let Err(error) = self.firewall.rebuild(&rules, &ports) {
            failures.push(("firewall".to_owned(), error));
        }
        if let Err(error) = self.known.answer_for_linked() {
            failures.push(("links".to_owned(), error));
        }
        for live in self.all() {
            if let Err(error) = self.forward(&live) {
                failures.push((live.network.name.clone(), error));
            }
        }
        for ((held, restored), damage) in taken_over.into_iter().zip(damages) {
            let container = &restored.attachment.container;
            if let Err(error) = rewire::rewire(&held, restored.namespace, &damage) {
                failures.push((container.clone(), error));
            }
            if let Err(error) = self.resume(held, restored) {
                failures.push((container.clone(), error));
            }
        }
        failures
    }

    /// A network that cannot be made is there all the same: it can be inspected, removed, and made again.
    fn restore_network(&self, network: &Network) -> Result<()> {
        let live = Arc::new(Live::new(network.clone())?);
        self.insert(Arc::clone(&live));
        mend::make_interface(&self.config, &live)
    }

    /// Addresses, and what the firewall is to be told.
    fn take_over(&self, restored: &Restored, failures: &mut Failures) -> Held {
        let attachment = restored.attachment;
        let mut networks = Vec::new();
        for endpoint in &attachment.endpoints {
            let joined = self.find(&endpoint.network).and_then(|live| {
                live.rejoin(&attachment.container, endpoint)?;
                Ok(live)
            });
            match joined {
                Ok(live) => networks.push((live, endpoint.clone())),
                Err(error) => failures.push((attachment.container.clone(), error)),
            }
        }
        let mut held = Held::new(attachment.clone(), networks);
        // An earlier version did not write down what was wished.
        if held.attachment.wishes.is_empty() {
            held.attachment.wishes = attachment.ports.iter().map(as_wish).collect();
        }
        held.rules = held.targets().rules(&attachment.ports);
        held
    }

    /// Interfaces of nobody.
    fn litter(&self, taken_over: &[(Held, &Restored)]) -> Result<Litter> {
        let live = self.all();
        let endpoints = taken_over.iter().flat_map(|(held, _)| &held.networks);
        let interfaces: HashSet<&str> = live.iter().map(|live| live.network.interface.as_str()).collect();
        let wires: HashSet<&str> = endpoints
            .map(|(_, endpoint)| endpoint.host_interface.as_str())
            .collect();
        bridge::litter(&self.config.table, &interfaces, &wires).map_err(out_of_order)
    }

    /// The litter goes; interfaces of running containers are on their bridges, even where a bridge was made anew.
    fn tidy(&self, taken_over: &[(Held, &Restored)], litter: &Litter) -> Result<()> {
        bridge::sweep(litter).map_err(out_of_order)?;
        let endpoints = || taken_over.iter().flat_map(|(held, _)| &held.networks);
        for live in &self.all() {
            let own = endpoints().filter(|(on, _)| on.id() == live.id());
            let own: Vec<&str> = own.map(|(_, endpoint)| endpoint.host_interface.as_str()).collect();
            mend::adopt(live, &own)?;
        }
        Ok(())
    }

    /// What the process holds for a container: sockets, names.
    fn resume(&self, mut held: Held, restored: &Restored) -> Result<()> {
        let container = &restored.attachment.container;
        if !restored.attachment.ports.is_empty() {
            let claim = self.publisher.reclaim(&restored.attachment.ports);
            for missing in &claim.missing {
                tracing::warn!(container, "a published port is not held by a socket: {missing}");
            }
            let targets = held.targets();
            claim.serve(targets.ipv4, targets.ipv6);
            held.claim = Some(claim);
        }
        let named = self.name(&held, restored.namespace);
        self.held().insert(container.clone(), Arc::new(Mutex::new(held)));
        named
    }
}

fn out_of_order(error: io::Error) -> Error {
    Error::system("cannot put the host's interfaces in order").because(error)
}

/// What was published, as it would be asked for again.
fn as_wish(port: &PublishedPort) -> PortRequest {
    PortRequest {
        protocol: port.protocol,
        container_port: port.container_port,
        host_ip: Some(port.host_ip),
        host_ports: Some(port.host_port..=port.host_port),
    }
}

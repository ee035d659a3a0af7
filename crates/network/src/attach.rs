//! The verbs on containers: what is theirs of networks, from before their start to after their end.
//!
//! A container's way: [`Controller::reserve`] before it is made (addresses and ports are its own, nothing is in the
//! kernel yet) → [`Controller::attach`] once its namespace exists and before its program runs → [`Controller::release`]
//! when it ended. A released or abandoned namespace takes its interfaces along when its last process ends.
use std::{
    collections::BTreeSet,
    net::IpAddr,
    os::fd::BorrowedFd,
    sync::{Arc, Mutex, MutexGuard},
};

use crate::{
    bridge,
    controller::Controller,
    dns::resolv_conf::{ResolvConf, needs_resolver},
    endpoints::{self, hexadecimal},
    error::{Error, Result},
    firewall::model::{GatewayMode, PortRule},
    held::Held,
    model::{AttachRequest, Attachment, Endpoint, EndpointRequest, PortRequest},
    networks::{Live, Options},
    options::BridgeOptions,
    ports::publisher::{Families, Way},
    wire,
    wiring::{self, Defaults, Targets},
};

impl Controller {
    /// Gives a container its addresses and host ports. Nothing but leases and bound sockets exists after this.
    pub fn reserve(&self, request: &AttachRequest) -> Result<Attachment> {
        let mut reserving = Reserving::new(&request.container);
        for wish in &request.endpoints {
            reserving.join(self.to_join(&wish.network)?, wish)?;
        }
        let mut attachment = Attachment {
            container: request.container.clone(),
            sandbox: hexadecimal::<32>(),
            endpoints: reserving.endpoints(),
            wishes: wishes(request),
            dns: request.dns.clone(),
            ..Attachment::default()
        };
        choose_defaults(&mut attachment, &reserving.joined);
        let mut held = Held::new(attachment, Vec::new());
        held.networks.clone_from(&reserving.joined);
        self.claim(&mut held)?;
        reserving.keep();
        let attachment = held.attachment.clone();
        let before = self
            .held()
            .insert(request.container.clone(), Arc::new(Mutex::new(held)));
        debug_assert!(before.is_none(), "a container is released before it is reserved again");
        Ok(attachment)
    }

    /// A network that a container may be put on: nobody is on a bridge without the firewall.
    fn to_join(&self, network: &str) -> Result<Arc<Live>> {
        let live = self.find(network)?;
        if matches!(live.options, Options::Bridge(_)) {
            self.firewall.ready()?;
        }
        Ok(live)
    }

    /// Host ports, where there are none yet and a network of the container's leads out by the host.
    fn claim(&self, held: &mut Held) -> Result<()> {
        let targets = held.targets();
        if held.claim.is_some() || held.attachment.wishes.is_empty() || targets.is_empty() {
            return Ok(());
        }
        let binding = self.binding(held);
        let somewhere = |wish: &PortRequest| PortRequest {
            host_ip: wish.host_ip.or(binding),
            ..wish.clone()
        };
        let wishes: Vec<PortRequest> = held.attachment.wishes.iter().map(somewhere).collect();
        let claim = self.publisher.claim(&wishes, self.families(held, targets))?;
        held.attachment.ports.clone_from(&claim.ports);
        held.claim = Some(claim);
        Ok(())
    }

    /// Where the ports of each family are; those of IPv4 alone are reached by IPv6 through the proxy.
    fn families(&self, held: &Held, targets: Targets) -> Families {
        let way = |network: &Option<String>, target: Option<IpAddr>, mode: fn(&BridgeOptions) -> GatewayMode| {
            let options = network.as_ref().and_then(|id| held.on(id)?.0.bridge());
            match (target, options.map(mode)) {
                (None, _) => Way::Nowhere,
                (Some(_), Some(GatewayMode::Routed)) => Way::Routed,
                (Some(_), _) => Way::Host,
            }
        };
        let attachment = &held.attachment;
        let ipv4 = way(&attachment.default_route4, targets.ipv4, |options| options.mode4);
        let ipv6 = match way(&attachment.default_route6, targets.ipv6, |options| options.mode6) {
            Way::Nowhere if ipv4 == Way::Host && self.config.proxy => Way::Host,
            ipv6 => ipv6,
        };
        Families { ipv4, ipv6 }
    }

    /// Where ports are published that name no address; everywhere when absent.
    fn binding(&self, held: &Held) -> Option<IpAddr> {
        let routed = [&held.attachment.default_route4, &held.attachment.default_route6];
        let mut bridges = routed.into_iter().flatten().filter_map(|id| held.on(id)?.0.bridge());
        let own = bridges.find_map(|options| options.host_binding);
        own.or(self.config.default_publish_address)
            .filter(|address| !address.is_unspecified())
    }

    /// Makes what was reserved: interfaces, addresses and routes in `namespace`, published ports, names.
    /// After a failure the caller releases.
    pub fn attach(&self, attachment: &Attachment, namespace: BorrowedFd) -> Result<()> {
        let held = self.holding(&attachment.container)?;
        let mut held = lock(&held);
        let defaults = Defaults::of(attachment);
        let hairpin = held.claim.is_some() && wiring::needs_hairpin();
        let mut wires = Vec::with_capacity(held.networks.len());
        for (live, endpoint) in &held.networks {
            wires.extend(wiring::wire(live, endpoint, defaults, hairpin)?);
        }
        make_way(held.networks.iter())?;
        wire::connect(namespace, &wires)?;
        drop(wires);
        let targets = held.targets();
        self.lead(&mut held, targets)?;
        self.name(&held, namespace)
    }

    /// Leads published ports to where they should go now.
    pub(crate) fn lead(&self, held: &mut Held, targets: Targets) -> Result<()> {
        let Some(claim) = &held.claim else {
            return Ok(());
        };
        let rules = targets.rules(&claim.ports);
        if !held.rules.is_empty() && held.rules != rules {
            self.firewall.unpublish(&held.rules)?;
            held.rules.clear();
        }
        if !rules.is_empty() {
            self.firewall.publish(&rules)?;
        }
        claim.serve(targets.ipv4, targets.ipv6);
        held.rules = rules;
        Ok(())
    }

    /// Gives host ports back: in the kernel first, so that they lead nowhere when somebody else gets them.
    fn withdraw(&self, held: &mut Held) {
        if !held.rules.is_empty()
            && let Err(error) = self.firewall.unpublish(&held.rules)
        {
            let container = &held.attachment.container;
            tracing::error!(container, %error, "a container's ports are still led to its address");
        }
        held.rules.clear();
        held.attachment.ports.clear();
        held.claim = None;
    }

    /// Makes a container known to its neighbours, and its neighbours to it.
    pub(crate) fn name(&self, held: &Held, namespace: BorrowedFd) -> Result<()> {
        for (live, endpoint) in &held.networks {
            if !live.network.default_bridge {
                self.resolver.names().add(endpoint);
            }
        }
        let attachment = &held.attachment;
        let view = wiring::view(attachment, &held.networks);
        if self.resolver.serves(&attachment.container) {
            self.resolver.update(&attachment.container, view);
            return Ok(());
        }
        let user_network = held.networks.iter().any(|(live, _)| !live.network.default_bridge);
        let host = || ResolvConf::load(&self.config.resolv_conf);
        if user_network || needs_resolver(&attachment.endpoints, &attachment.dns.servers, &host()) {
            self.resolver.serve(&attachment.container, namespace, view)?;
        }
        Ok(())
    }

    /// Frees addresses, ports and names. Idempotent. The interfaces go with the namespace, and addresses are not handed
    /// out again at once, for that takes the kernel a moment.
    pub fn release(&self, container: &str) {
        let Some(held) = self.held().remove(container) else {
            return;
        };
        let mut held = std::mem::take(&mut *lock(&held));
        self.resolver.stop(container);
        for (live, endpoint) in &held.networks {
            self.resolver.names().remove(live.id(), &endpoint.id);
        }
        let targets = targets_of(&held.rules);
        self.withdraw(&mut held);
        self.forgetter.abandoned(targets);
        for (live, endpoint) in &held.networks {
            self.leave(live, container, endpoint);
        }
    }

    /// Joins a running container to one more network. On failure `attachment` is unchanged.
    pub fn connect(&self, attachment: &mut Attachment, request: &EndpointRequest, namespace: BorrowedFd) -> Result<()> {
        let held = self.holding(&attachment.container)?;
        let mut held = lock(&held);
        let live = self.to_join(&request.network)?;
        let endpoint = endpoints::make(&live, &attachment.container, request, &attachment.endpoints)?;
        let before = (held.attachment.clone(), held.networks.clone());
        let published = held.claim.is_some();
        held.attachment.endpoints.push(endpoint.clone());
        held.networks.push((Arc::clone(&live), endpoint.clone()));
        let networks = held.networks.clone();
        choose_defaults(&mut held.attachment, &networks);
        if let Err(error) = self.wire_up(&mut held, &before.0, &live, &endpoint, namespace) {
            (held.attachment, held.networks) = before;
            self.resolver.names().remove(live.id(), &endpoint.id);
            let targets = held.targets();
            if !published {
                self.withdraw(&mut held);
            }
            let undone = self.lead(&mut held, targets).and_then(|()| self.name(&held, namespace));
            if let Err(error) = undone {
                tracing::error!(container = attachment.container, %error, "a failed join is not undone completely");
            }
            live.leave(&attachment.container, &endpoint);
            return Err(error);
        }
        *attachment = held.attachment.clone();
        Ok(())
    }

    /// The kernel's part of a join.
    fn wire_up(
        &self,
        held: &mut Held,
        before: &Attachment,
        live: &Live,
        endpoint: &Endpoint,
        namespace: BorrowedFd,
    ) -> Result<()> {
        let nothing = Defaults { ipv4: None, ipv6: None };
        let hairpin = held.claim.is_some() && wiring::needs_hairpin();
        let Some(wire) = wiring::wire(live, endpoint, nothing, hairpin)? else {
            return Ok(());
        };
        make_way(held.networks.last())?;
        wire::connect(namespace, std::slice::from_ref(&wire))?;
        let rest = self.route(held, before, namespace).and_then(|()| {
            self.claim(held)?;
            let targets = held.targets();
            self.lead(held, targets)?;
            self.name(held, namespace)
        });
        if rest.is_err() {
            let _ = wire::disconnect(namespace, wire.interface);
            let _ = set_routes(before, &held.networks, namespace);
        }
        rest
    }

    /// Moves the default routes, where they moved.
    fn route(&self, held: &Held, before: &Attachment, namespace: BorrowedFd) -> Result<()> {
        let after = &held.attachment;
        if (&after.default_route4, &after.default_route6) == (&before.default_route4, &before.default_route6) {
            return Ok(());
        }
        set_routes(after, &held.networks, namespace)
    }

    /// Takes a running container out of a network.
    pub fn disconnect(&self, attachment: &mut Attachment, network: &str, namespace: BorrowedFd) -> Result<()> {
        let held = self.holding(&attachment.container)?;
        let mut held = lock(&held);
        let Some((live, endpoint)) = held.on(network).cloned() else {
            return Err(Error::forbidden(format!(
                "container {} is not connected to network {network}",
                attachment.container
            )));
        };
        if !endpoint.interface.is_empty() {
            wire::disconnect(namespace, &endpoint.interface)?;
        }
        // From here on it has left, whatever else fails.
        let before = held.attachment.clone();
        held.networks.retain(|(live, _)| live.id() != network);
        held.attachment.endpoints.retain(|endpoint| endpoint.network != network);
        let networks = held.networks.clone();
        choose_defaults(&mut held.attachment, &networks);
        self.resolver.names().remove(network, &endpoint.id);
        let mut abandoned = targets_of(&held.rules);
        abandoned.retain(|target| endpoint.addresses().any(|address| address == *target));
        let targets = held.targets();
        let routed = self.route(&held, &before, namespace);
        let led = match targets.is_empty() {
            true => {
                self.withdraw(&mut held);
                Ok(())
            }
            false => self.lead(&mut held, targets),
        };
        self.forgetter.abandoned(abandoned);
        let named = self.name(&held, namespace);
        self.leave(&live, &attachment.container, &endpoint);
        *attachment = held.attachment.clone();
        for error in [routed, led, named].into_iter().filter_map(Result::err) {
            tracing::error!(container = attachment.container, network, %error, "after a network was left");
        }
        Ok(())
    }

    /// A container's names on its networks changed (it was renamed).
    pub fn rename(&self, attachment: &mut Attachment, names: impl Fn(&str) -> Vec<String>) {
        for endpoint in &mut attachment.endpoints {
            endpoint.names = names(&endpoint.network);
        }
        let Ok(held) = self.holding(&attachment.container) else {
            return;
        };
        let mut held = lock(&held);
        held.attachment.endpoints.clone_from(&attachment.endpoints);
        for (live, endpoint) in &mut held.networks {
            endpoint.names = names(live.id());
            if !live.network.default_bridge {
                self.resolver.names().add(endpoint);
            }
        }
    }

    /// Gives an endpoint's addresses back; no link leads there any more.
    fn leave(&self, live: &Live, container: &str, endpoint: &Endpoint) {
        if live.network.default_bridge {
            self.unlink(endpoint);
        }
        live.leave(container, endpoint);
    }

    fn holding(&self, container: &str) -> Result<Arc<Mutex<Held>>> {
        let found = self.held().get(container).cloned();
        found.ok_or_else(|| Error::conflict(format!("container {container} has no networks")))
    }
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().expect("no panic while locked")
}

/// The addresses that ports lead to.
fn targets_of(rules: &[PortRule]) -> BTreeSet<IpAddr> {
    rules.iter().map(|rule| rule.target.ip()).collect()
}

/// Ports that were asked for, and those that shall have any.
fn wishes(request: &AttachRequest) -> Vec<PortRequest> {
    let at_random = request
        .publish_all
        .iter()
        .map(|&(protocol, container_port)| PortRequest {
            protocol,
            container_port,
            host_ip: None,
            host_ports: None,
        });
    request.ports.iter().cloned().chain(at_random).collect()
}

/// Nobody else answers at these endpoints' addresses any more.
fn make_way<'a>(networks: impl IntoIterator<Item = &'a (Arc<Live>, Endpoint)>) -> Result<()> {
    let predecessors = networks
        .into_iter()
        .flat_map(|(live, endpoint)| live.predecessors(endpoint));
    let predecessors: Vec<String> = predecessors.collect();
    match predecessors.is_empty() {
        true => Ok(()),
        false => bridge::unplug(&predecessors)
            .map_err(|error| Error::system("cannot take an ended container's interface down").because(error)),
    }
}

/// Which endpoints have the default routes.
fn choose_defaults(attachment: &mut Attachment, networks: &[(Arc<Live>, Endpoint)]) {
    let leads = |gateway: fn(&Live, &Endpoint) -> Option<wire::Gateway>| {
        let eligible = |endpoint: &Endpoint| {
            let own = networks.iter().find(|(live, _)| live.id() == endpoint.network);
            own.is_some_and(|(live, endpoint)| gateway(live, endpoint).is_some())
        };
        endpoints::default_route(&attachment.endpoints, eligible).map(|endpoint| endpoint.network.clone())
    };
    let (ipv4, ipv6) = (leads(wiring::gateway4), leads(wiring::gateway6));
    (attachment.default_route4, attachment.default_route6) = (ipv4, ipv6);
}

/// Gives a running container the default routes that its attachment says it has.
pub(crate) fn set_routes(
    attachment: &Attachment,
    networks: &[(Arc<Live>, Endpoint)],
    namespace: BorrowedFd,
) -> Result<()> {
    let route = |network: &Option<String>, gateway: fn(&Live, &Endpoint) -> Option<wire::Gateway>| {
        let (live, endpoint) = networks
            .iter()
            .find(|(live, _)| Some(live.id()) == network.as_deref())?;
        Some((endpoint.interface.as_str(), gateway(live, endpoint)?))
    };
    wire::set_default_routes(
        namespace,
        route(&attachment.default_route4, wiring::gateway4),
        route(&attachment.default_route6, wiring::gateway6),
    )
}

/// Endpoints under way: left again when dropped, unless they are kept.
struct Reserving<'a> {
    container: &'a str,
    joined: Vec<(Arc<Live>, Endpoint)>,
}

impl<'a> Reserving<'a> {
    fn new(container: &'a str) -> Reserving<'a> {
        Reserving {
            container,
            joined: Vec::new(),
        }
    }

    fn join(&mut self, live: Arc<Live>, wish: &EndpointRequest) -> Result<()> {
        let endpoint = endpoints::make(&live, self.container, wish, &self.endpoints())?;
        self.joined.push((live, endpoint));
        Ok(())
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        self.joined.iter().map(|(_, endpoint)| endpoint.clone()).collect()
    }

    fn keep(mut self) {
        self.joined.clear();
    }
}

impl Drop for Reserving<'_> {
    fn drop(&mut self) {
        for (live, endpoint) in &self.joined {
            live.leave(self.container, endpoint);
        }
    }
}

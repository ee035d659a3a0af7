//! The controller: every verb on networks, for the engine.
//!
//! It holds what is live (leases of addresses, sockets that keep ports, the firewall table, the resolver); what must
//! outlive the process goes back to the caller as [`model`](crate::model) data. A verb that fails leaves nothing behind.
//! The verbs on containers are in [`attach`](crate::attach) and [`links`](crate::links), what a new daemon does in
//! [`restore`](crate::restore).
use std::{
    collections::HashMap,
    error::Error as _,
    os::fd::BorrowedFd,
    sync::{Arc, Mutex, MutexGuard},
};

use crate::{
    bridge,
    config::Config,
    dns::resolver::{self, Resolver},
    error::{Error, Result},
    firewall::{flows::Forgetter, keeper::Keeper, model::Opened, table::Firewall},
    foreign,
    forward::{Forwarding, Listeners},
    held::Held,
    host,
    ipam::pools::Pools,
    mend::{self, Known},
    model::{Attachment, Driver, LinkedPort, Network, NetworkRequest, Warning},
    networks::Live,
    plan,
    ports::publisher::Publisher,
    vlan, wiring,
};

/// What came of a container's attachment after a restart of the daemon.
pub struct Restored<'a> {
    pub attachment: &'a Attachment,
    /// Its network namespace, while it runs.
    pub namespace: BorrowedFd<'a>,
    /// What it reaches by its links.
    pub links: Vec<LinkedPort>,
}

pub struct Controller {
    pub(crate) config: Config,
    pub(crate) firewall: Arc<Firewall>,
    _keeper: Option<Keeper>,
    pub(crate) forgetter: Forgetter,
    pub(crate) forwarding: Forwarding,
    pub(crate) publisher: Publisher,
    pub(crate) resolver: Resolver,
    pools: Pools,
    pub(crate) known: Known,
}

impl Controller {
    /// Opens the netlink sockets. Called inside a tokio runtime, which serves names and proxies ports. Touches nothing
    /// of the host's: that is for [`Controller::restore`].
    pub fn open(config: Config) -> Result<Controller> {
        let runtime = tokio::runtime::Handle::current();
        let names = resolver::Config {
            resolv_conf: config.resolv_conf.clone(),
        };
        let mut firewall = Firewall::open_for(&config.table, config.firewall);
        if config.flow_offload {
            firewall = firewall.with_flows();
        }
        let firewall = Arc::new(firewall);
        let keeper = Keeper::start(Arc::clone(&firewall)).ok();
        if keeper.is_none() {
            firewall.end_flows();
        }
        // Guarded first, opened then: what forwards for us never does so for others.
        let guard = Arc::clone(&firewall);
        let guard = Box::new(move |opened: &_| guard.set_opened(opened));
        let opened = firewall.opened().unwrap_or_else(|error| {
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            tracing::warn!("bridge networks will not work: {error}: {cause}");
            Opened::default()
        });
        let known = Known::default();
        let lost = {
            let (known, config) = (known.clone(), config.clone());
            Box::new(move |names: Option<&[String]>| known.mend(&config, names))
        };
        let changed = {
            let firewall = Arc::clone(&firewall);
            Box::new(move |news: Option<&_>| match news {
                Some(news) => firewall.interfaces_changed(news),
                None => firewall.tend_flows(),
            })
        };
        let listeners = Listeners { guard, lost, changed };
        let forwarding = Forwarding::open(&config.table, &opened, listeners)?;
        Ok(Controller {
            _keeper: keeper,
            forgetter: Forgetter::start().map_err(|error| Error::system("cannot start a thread").because(error))?,
            firewall,
            forwarding,
            publisher: Publisher::new(runtime.clone(), config.proxy),
            resolver: Resolver::open(runtime, names),
            pools: Pools::new(&config.address_pools, &config.identity)?,
            known,
            config,
        })
    }

    /// Checks a wish, chooses what it leaves open, and makes the network. Overlaps with other networks, or with routes
    /// of the host for subnets that we choose, are avoided or refused. `keep` writes the network down before anything of
    /// it exists, so that a crash leaves nothing unknown; what it wrote is void when the verb fails.
    pub fn create(
        &self,
        id: &str,
        request: &NetworkRequest,
        keep: impl FnOnce(&Network) -> Result<()>,
    ) -> Result<Network> {
        self.create_as(id, request, None, keep)
    }

    /// [`Controller::create`] of the default network.
    pub fn create_default(
        &self,
        id: &str,
        request: &NetworkRequest,
        keep: impl FnOnce(&Network) -> Result<()>,
    ) -> Result<Network> {
        self.create_as(id, request, Some(&self.config.bridge), keep)
    }

    fn create_as(
        &self,
        id: &str,
        request: &NetworkRequest,
        default_bridge: Option<&str>,
        keep: impl FnOnce(&Network) -> Result<()>,
    ) -> Result<Network> {
        let _alone = self.known.making.lock().expect("no panic while locked");
        let live: Vec<Arc<Live>> = self.all();
        let existing: Vec<&Network> = live.iter().map(|live| &live.network).collect();
        if default_bridge.is_some() {
            self.check_default()?;
        }
        let network = plan::plan(
            id,
            request,
            default_bridge,
            &existing,
            &self.pools,
            &host::look(&self.config.table)?,
        )?;
        let live = Arc::new(Live::new(network.clone())?);
        keep(&network)?;
        let made = self.make(&live);
        // The default network is there whatever the kernel lacks: who wants to join it learns why it cannot be.
        if made.is_ok() || default_bridge.is_some() {
            self.insert(live);
        }
        made.map(|()| network)
    }

    /// Is the default network's bridge there, where somebody else makes it?
    pub fn check_default(&self) -> Result<()> {
        mend::check_default(&self.config)
    }

    /// Takes a network away. Its endpoints must be gone.
    pub fn remove(&self, id: &str) -> Result<()> {
        let _alone = self.known.making.lock().expect("no panic while locked");
        let live = self.find(id)?;
        live.close().map_err(|members| {
            let members: Vec<&str> = members.iter().map(|id| id.get(..12).unwrap_or(id)).collect();
            Error::forbidden(format!(
                "error while removing network: network {} id {id} has active endpoints ({})",
                live.network.name,
                members.join(", ")
            ))
        })?;
        if let Err(error) = self.unmake(&live) {
            live.reopen();
            return Err(error);
        }
        self.known.networks.write().expect("no panic while locked").remove(id);
        Ok(())
    }

    /// A network that is live.
    pub(crate) fn find(&self, id: &str) -> Result<Arc<Live>> {
        let networks = self.known.networks.read().expect("no panic while locked");
        networks
            .get(id)
            .cloned()
            .ok_or_else(|| Error::not_found(format!("network {id} not found")))
    }

    pub(crate) fn all(&self) -> Vec<Arc<Live>> {
        self.known.all()
    }

    pub(crate) fn insert(&self, live: Arc<Live>) {
        let mut networks = self.known.networks.write().expect("no panic while locked");
        networks.insert(live.id().to_owned(), live);
    }

    pub(crate) fn held(&self) -> MutexGuard<'_, HashMap<String, Arc<Mutex<Held>>>> {
        self.known.held.lock().expect("no panic while locked")
    }

    /// Makes a network in the kernel; what is there already stays.
    fn make(&self, live: &Live) -> Result<()> {
        mend::make_interface(&self.config, live)?;
        let Some(rules) = wiring::bridge_rules(live, &self.config) else {
            return Ok(());
        };
        let ruled = self.firewall.add_network(&rules);
        ruled.and_then(|()| self.forward(live)).inspect_err(|_| {
            let _ = self.unmake(live);
        })
    }

    /// Lets a network's packets pass through the host.
    pub(crate) fn forward(&self, live: &Live) -> Result<()> {
        let network = &live.network;
        match live.bridge() {
            Some(_) if !network.internal && self.config.forward => {
                self.forwarding.enable(&network.interface, network.ipv4, network.ipv6)
            }
            _ => Ok(()),
        }
    }

    fn unmake(&self, live: &Live) -> Result<()> {
        if live.bridge().is_some() {
            self.forwarding.forget(&live.network.interface);
            self.firewall.remove_network(&live.network.interface)?;
        }
        self.remove_interface(live)
    }

    /// What an administrator made stays, and so does a parent that another network has.
    fn remove_interface(&self, live: &Live) -> Result<()> {
        let network = &live.network;
        let is_shared = |other: &Arc<Live>| other.id() != live.id() && other.network.interface == network.interface;
        match network.driver {
            Driver::Bridge if network.adopted => Ok(()),
            Driver::Bridge => {
                // Without a bridge they would look like interfaces that lead out.
                if let Err(error) = bridge::unplug(&live.left_behind()) {
                    tracing::warn!(network = network.name, %error, "an interface of an ended container stays up");
                }
                bridge::remove(&network.interface)
            }
            Driver::Macvlan | Driver::Ipvlan if self.all().iter().any(is_shared) => Ok(()),
            Driver::Macvlan | Driver::Ipvlan => vlan::remove(&network.interface, &self.config.table),
            Driver::Host | Driver::Null => Ok(()),
        }
    }

    /// Do established connections pass by the kernel's flow table? `in use`, or why not, for people.
    pub fn described_flows(&self) -> String {
        self.firewall.described_flows()
    }

    /// What about the host keeps networks from working.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = foreign::warnings(&self.firewall);
        let mut networks = self.all().into_iter();
        if networks.any(|live| live.network.driver == Driver::Bridge)
            && let Err(error) = self.firewall.ready()
        {
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            warnings.push(Warning(format!(
                "containers cannot join bridge networks: {error}: {cause}"
            )));
        }
        warnings
    }
}

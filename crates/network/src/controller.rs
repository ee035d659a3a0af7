//! The controller: every verb on networks, for the engine.
//!
//! It holds what is live (leases of addresses, sockets that keep ports, the firewall table, the resolver); what must
//! outlive the process goes back to the caller as [`model`](crate::model) data. A verb that fails leaves nothing behind.
//!
//! A container's way: [`Controller::reserve`] before it is made (addresses and ports are its own, nothing is in the
//! kernel yet) → [`Controller::attach`] once its namespace exists and before its program runs → [`Controller::release`]
//! when it ended. A released or abandoned namespace takes its interfaces along when its last process ends.
use std::{net::IpAddr, os::fd::BorrowedFd, path::PathBuf};

use ipnet::IpNet;

use crate::{
    error::{Error, Result},
    model::{AttachRequest, Attachment, EndpointRequest, Network, NetworkRequest, Warning},
};

/// What an operator decides about networks.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the nftables table (family inet), and the prefix of everything else that could meet another daemon.
    pub table: String,
    /// Name of the default network's bridge.
    pub bridge: String,
    /// Where subnets are taken from: a pool, and the prefix length of each subnet. Docker's when empty.
    pub address_pools: Vec<(IpNet, u8)>,
    /// What tells this engine from every other on this host and elsewhere (its data root): local IPv6 prefixes derive
    /// from it.
    pub identity: String,
    /// Resolvers of containers that name none; the host's /etc/resolv.conf when empty.
    pub dns: Vec<IpAddr>,
    /// The host's resolver configuration.
    pub resolv_conf: PathBuf,
    /// Where ports are published that name no address.
    pub default_publish_address: Option<IpAddr>,
    /// Publish to 127.0.0.1 and [::1] too where the kernel alone cannot (`userland-proxy`).
    pub proxy: bool,
}

/// What came of a container's attachment after a restart of the daemon.
pub struct Restored<'a> {
    pub attachment: &'a Attachment,
    /// Its network namespace, while it runs.
    pub namespace: BorrowedFd<'a>,
}

pub struct Controller {
    config: Config,
}

impl Controller {
    /// Opens the netlink sockets. Called inside a tokio runtime, which serves names and proxies ports. Touches nothing
    /// of the host's: that is for [`Controller::restore`].
    pub fn open(config: Config) -> Result<Controller> {
        Ok(Controller { config })
    }

    /// After a start of the daemon, once, before anything else: makes every network that should exist (bridges, the
    /// whole firewall table in one transaction), takes over the attachments of containers that run (leases, ports,
    /// names), and removes interfaces of ours that belong to nobody. What cannot be restored is reported, by network or
    /// container, and does not keep the rest from working.
    pub fn restore(&self, networks: &[Network], running: &[Restored]) -> Vec<(String, Error)> {
        let _ = (networks, running);
        Vec::new()
    }

    /// Checks a wish, chooses what it leaves open, and makes the network. Overlaps with other networks, or with routes
    /// of the host for subnets that we choose, are avoided or refused.
    pub fn create(&self, id: &str, request: &NetworkRequest) -> Result<Network> {
        let _ = (id, &self.config);
        Err(Error::unsupported(format!(
            "network {} cannot be made yet",
            request.name
        )))
    }

    /// Takes a network away. Its endpoints must be gone.
    pub fn remove(&self, id: &str) -> Result<()> {
        Err(Error::not_found(format!("network {id} not found")))
    }

    /// Gives a container its addresses and host ports. Nothing but leases and bound sockets exists after this.
    pub fn reserve(&self, request: &AttachRequest) -> Result<Attachment> {
        let _ = request;
        Ok(Attachment::default())
    }

    /// Makes what was reserved: interfaces, addresses and routes in `namespace`, published ports, names.
    /// After a failure the caller releases.
    pub fn attach(&self, attachment: &Attachment, namespace: BorrowedFd) -> Result<()> {
        let _ = (attachment, namespace);
        Ok(())
    }

    /// Frees addresses, ports and names. Idempotent. The interfaces go with the namespace, and addresses are not handed
    /// out again at once, for that takes the kernel a moment.
    pub fn release(&self, container: &str) {
        let _ = container;
    }

    /// Joins a running container to one more network. On failure `attachment` is unchanged.
    pub fn connect(&self, attachment: &mut Attachment, request: &EndpointRequest, namespace: BorrowedFd) -> Result<()> {
        let _ = (attachment, request, namespace);
        Err(Error::unsupported("networks cannot be joined yet"))
    }

    /// Takes a running container out of a network.
    pub fn disconnect(&self, attachment: &mut Attachment, network: &str, namespace: BorrowedFd) -> Result<()> {
        let _ = (attachment, network, namespace);
        Err(Error::unsupported("networks cannot be left yet"))
    }

    /// A container's names on its networks changed (it was renamed).
    pub fn rename(&self, attachment: &mut Attachment, names: impl Fn(&str) -> Vec<String>) {
        let _ = (attachment, names("network id"));
    }

    /// What about the host keeps networks from working.
    pub fn warnings(&self) -> Vec<Warning> {
        Vec::new()
    }
}

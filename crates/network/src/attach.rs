//! The verbs on containers: what is theirs of networks, from before their start to after their end.
//!
//! A container's way: [`Controller::reserve`] before it is made (addresses and ports are its own, nothing is in the
//! kernel yet) → [`Controller::attach`] once its namespace exists and before its program runs → [`Controller::release`]
//! when it ended. A released or abandoned namespace takes its interfaces along when its last process ends.
use std::{
    os::fd::BorrowedFd,
    sync::{Arc, Mutex},
};

use crate::{
    controller::Controller,
    endpoints::{self, hexadecimal},
    error::{Error, Result},
    held::Held,
    model::{AttachRequest, Attachment, Endpoint, EndpointRequest},
    networks::Live,
};

impl Controller {
    /// Gives a container its addresses and host ports. Nothing but leases and bound sockets exists after this.
    pub fn reserve(&self, request: &AttachRequest) -> Result<Attachment> {
        let container = &request.container;
        let mut taken = Reserving::new(container);
        for wish in &request.endpoints {
            taken.join(self.find(&wish.network)?, wish)?;
        }
        let endpoints = taken.endpoints();
        let attachment = Attachment {
            container: container.clone(),
            sandbox: hexadecimal::<32>(),
            default_route4: self.default_route(&endpoints, |endpoint| endpoint.gateway4.is_some()),
            default_route6: self.default_route(&endpoints, |endpoint| endpoint.gateway6.is_some()),
            endpoints,
            ports: Vec::new(),
            dns: request.dns.clone(),
        };
        let held = Held {
            endpoints: taken.keep(),
        };
        let before = self.held().insert(container.clone(), Arc::new(Mutex::new(held)));
        debug_assert!(before.is_none(), "a container is released before it is reserved again");
        Ok(attachment)
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
        let Some(held) = self.held().remove(container) else {
            return;
        };
        let held = std::mem::take(&mut *held.lock().expect("no panic while locked"));
        for (live, endpoint) in &held.endpoints {
            live.leave(container, endpoint);
        }
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
        for endpoint in &mut attachment.endpoints {
            endpoint.names = names(&endpoint.network);
        }
    }

    /// The network (id) whose endpoint has the default route of a family.
    fn default_route(&self, endpoints: &[Endpoint], has_gateway: impl Fn(&Endpoint) -> bool) -> Option<String> {
        let by_interface = |endpoint: &Endpoint| {
            self.find(&endpoint.network)
                .is_ok_and(|live| live.routes_by_interface())
        };
        let eligible = |endpoint: &Endpoint| has_gateway(endpoint) || by_interface(endpoint);
        endpoints::default_route(endpoints, eligible).map(|endpoint| endpoint.network.clone())
    }
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

    fn keep(mut self) -> Vec<(Arc<Live>, Endpoint)> {
        std::mem::take(&mut self.joined)
    }
}

impl Drop for Reserving<'_> {
    fn drop(&mut self) {
        for (live, endpoint) in &self.joined {
            live.leave(self.container, endpoint);
        }
    }
}

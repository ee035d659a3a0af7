//! What one container has of networks, while it has it: its endpoints, and with them everything that must be given back.
use std::sync::Arc;

use crate::{
    firewall::model::PortRule,
    model::{Attachment, Endpoint},
    networks::Live,
    ports::claim::Claim,
    wiring::Targets,
};

#[derive(Default)]
pub struct Held {
    pub attachment: Attachment,
    /// The attachment's endpoints, and their networks.
    pub networks: Vec<(Arc<Live>, Endpoint)>,
    /// Dropped, it frees the ports.
    pub claim: Option<Claim>,
    /// Where the ports lead in the kernel now.
    pub rules: Vec<PortRule>,
}

impl Held {
    pub fn new(attachment: Attachment, networks: Vec<(Arc<Live>, Endpoint)>) -> Held {
        Held {
            attachment,
            networks,
            ..Held::default()
        }
    }

    pub fn on(&self, network: &str) -> Option<&(Arc<Live>, Endpoint)> {
        self.networks.iter().find(|(live, _)| live.id() == network)
    }

    /// Published ports lead to the endpoints that have the default routes, where these are on bridges: others cannot be
    /// reached by way of the host.
    pub fn targets(&self) -> Targets {
        let endpoint = |network: Option<&String>| {
            let (live, endpoint) = self.on(network?)?;
            live.bridge().map(|_| endpoint)
        };
        let ipv4 = endpoint(self.attachment.default_route4.as_ref()).and_then(|endpoint| endpoint.ipv4);
        let ipv6 = endpoint(self.attachment.default_route6.as_ref()).and_then(|endpoint| endpoint.ipv6);
        Targets {
            ipv4: ipv4.map(|net| net.addr().into()),
            ipv6: ipv6.map(|net| net.addr().into()),
        }
    }
}

//! What a new daemon does about networks: it makes what should exist, takes over what does, and clears the rest away.
use std::sync::{Arc, Mutex};

use crate::{
    controller::{Controller, Restored},
    error::{Error, Result},
    held::Held,
    model::Network,
    networks::Live,
};

impl Controller {
    /// After a start of the daemon, once, before anything else: makes every network that should exist (bridges, the
    /// whole firewall table in one transaction), takes over the attachments of containers that run (leases, ports,
    /// names), and removes interfaces of ours that belong to nobody. What cannot be restored is reported, by network or
    /// container, and does not keep the rest from working.
    pub fn restore(&self, networks: &[Network], running: &[Restored]) -> Vec<(String, Error)> {
        let mut failures = Vec::new();
        for network in networks {
            // A network that cannot be made is there all the same: it can be inspected, removed, and made again.
            match self.restore_network(network) {
                Ok(()) => {}
                Err(error) => failures.push((network.name.clone(), error)),
            }
        }
        for restored in running {
            if let Err(error) = self.take_over(restored) {
                failures.push((restored.attachment.container.clone(), error));
            }
        }
        failures
    }

    fn restore_network(&self, network: &Network) -> Result<()> {
        let live = Arc::new(Live::new(network.clone())?);
        self.insert(Arc::clone(&live));
        self.make(&live)
    }

    fn take_over(&self, restored: &Restored) -> Result<()> {
        let attachment = restored.attachment;
        let mut held = Held::default();
        for endpoint in &attachment.endpoints {
            let live = self.find(&endpoint.network)?;
            live.rejoin(&attachment.container, endpoint)?;
            held.endpoints.push((live, endpoint.clone()));
        }
        self.held()
            .insert(attachment.container.clone(), Arc::new(Mutex::new(held)));
        Ok(())
    }
}

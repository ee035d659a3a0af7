//! `network connect` and `disconnect`: a container joins one more network, or leaves one.
//!
//! One that runs is changed in its live namespace; for one that does not, only the record changes.
use std::{io, os::fd::AsFd, sync::Arc};

use corten_api::types::network::EndpointSettings;
use corten_network::model::{Attachment, Driver};

use crate::{
    container::{
        attachment::{self, named},
        endpoints,
        mode::NetworkMode,
        networking::{self, HOST_NETWORK, NO_NETWORK, SHARED_NETWORK},
        state::Phase,
        supervised::Supervised,
    },
    context::blocking,
    error::{Error, Kind, Result},
    network::record::NetworkRecord,
};

impl Supervised {
    /// Joins a network, named by name or id.
    pub async fn connect(&mut self, reference: &str, wish: EndpointSettings) -> Result<()> {
        self.check_can_change_networks()?;
        let network = self.context.network_records.find(reference)?;
        self.check_may_join(&network)?;
        networking::check_endpoint(Some(&network), &network.network.name, &wish)?;
        if self.state.phase.is_running() {
            self.join(&network, &wish).await?;
        }
        let record = Arc::make_mut(&mut self.record);
        let wishes = &mut record.networking.endpoints_config;
        wishes.remove(&network.network.id);
        wishes.insert(network.network.name.clone(), Some(wish));
        self.changed_networks("connect", &network);
        Ok(())
    }

    /// Leaves a network. With `force` one that does not exist any more is forgotten.
    pub async fn disconnect(&mut self, reference: &str, force: bool) -> Result<()> {
        self.check_can_change_networks()?;
        let running = self.state.phase.is_running();
        let network = match self.context.network_records.find(reference) {
            Ok(network) => network,
            Err(error) if running && !force => return Err(error),
            Err(_) => return self.forget_network(reference),
        };
        let model = &network.network;
        if model.driver == Driver::Host {
            return Err(Error::invalid(HOST_NETWORK));
        }
        let wished = endpoints::uses(&self.record, &network);
        let attached = self.state.attachment.as_ref().and_then(|all| all.endpoint(&model.id));
        match (attached.is_some(), wished) {
            (true, _) => self.leave(&network).await?,
            (false, true) => {}
            (false, false) => return Err(self.is_not_on(&model.name)),
        }
        let record = Arc::make_mut(&mut self.record);
        record
            .networking
            .endpoints_config
            .retain(|name, _| *name != model.name && *name != model.id);
        self.changed_networks("disconnect", &network);
        Ok(())
    }

    fn check_can_change_networks(&self) -> Result<()> {
        match self.state.phase {
            Phase::Removing | Phase::Dead => Err(Error::conflict(format!(
                "Container {} is marked for removal and cannot be connected or disconnected to the network",
                self.record.id
            ))),
            _ => Ok(()),
        }
    }

    fn check_may_join(&self, network: &NetworkRecord) -> Result<()> {
        endpoints::refuse_configuration(network)?;
        let mode = self.network_mode();
        if matches!(mode, NetworkMode::Container(_)) {
            return Err(Error::invalid(SHARED_NETWORK));
        }
        let model = &network.network;
        if model.driver == Driver::Host && mode != NetworkMode::Host {
            return Err(Error::invalid(HOST_NETWORK));
        }
        let running = self.state.phase.is_running();
        let attached = self.state.attachment.as_ref().and_then(|all| all.endpoint(&model.id));
        if running && (attached.is_some() || (model.driver == Driver::Host && mode == NetworkMode::Host)) {
            return Err(Error::new(
                Kind::Forbidden,
                format!(
                    "endpoint with name {} already exists in network {}",
                    self.record.name, model.name
                ),
            ));
        }
        let wishes = &self.record.networking.endpoints_config;
        if wishes.keys().any(|name| name == "host") && model.driver != Driver::Host {
            return Err(Error::invalid(SHARED_NETWORK));
        }
        let others = wishes.keys().any(|name| *name != model.name);
        if wishes.contains_key("none") && model.driver != Driver::Null || model.driver == Driver::Null && others {
            return Err(Error::invalid(NO_NETWORK));
        }
        // It was started without a place for interfaces (`none`, left meanwhile): its next start has one.
        if running && self.state.attachment.is_none() && model.driver != Driver::Null {
            return Err(Error::conflict(format!(
                "container {} was started without a network: restart it after connecting it",
                self.record.id
            )));
        }
        Ok(())
    }

    async fn join(&mut self, network: &Arc<NetworkRecord>, wish: &EndpointSettings) -> Result<()> {
        if network.network.driver == Driver::Null {
            return Ok(());
        }
        let request = endpoints::endpoint_request(&self.record, network, wish)?;
        self.change_attachment(move |context, attachment, namespace| {
            context.networks.connect(attachment, &request, namespace)
        })
        .await
    }

    async fn leave(&mut self, network: &Arc<NetworkRecord>) -> Result<()> {
        let id = network.network.id.clone();
        self.change_attachment(move |context, attachment, namespace| {
            context.networks.disconnect(attachment, &id, namespace)
        })
        .await
    }

    /// Changes the live attachment; after a failure it is as it was.
    async fn change_attachment(
        &mut self,
        change: impl FnOnce(
            &crate::context::Context,
            &mut Attachment,
            std::os::fd::BorrowedFd<'_>,
        ) -> corten_network::error::Result<()>
        + Send
        + 'static,
    ) -> Result<()> {
        let Some(mut attachment) = self.state.attachment.clone() else {
            return Ok(());
        };
        let (context, pid, name) = (Arc::clone(&self.context), self.state.pid, self.record.name.clone());
        let changed = blocking(move || {
            let namespace = match attachment::namespace(pid) {
                Ok(namespace) => namespace,
                // It has just ended, and its next start does what the record says.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(attachment),
                Err(error) => {
                    return Err(Error::system("cannot open the container's network namespace").because(error));
                }
            };
            change(&context, &mut attachment, namespace.as_fd()).map_err(|error| named(error, &name))?;
            Ok(attachment)
        });
        let before = self.state.attachment.replace(changed.await?);
        self.update_etc(before.as_ref(), self.links.as_deref().unwrap_or_default());
        Ok(())
    }

    /// Writes down what has happened already, and tells it.
    pub fn changed_networks(&mut self, action: &str, network: &NetworkRecord) {
        self.write_witness();
        self.save_or_warn();
        self.tell_network(action, &network.network.id, &network.network.name);
        self.show();
        if network.network.default_bridge && self.state.phase.is_running() {
            self.refresh_links();
            self.tell_who_links_here();
        }
    }

    fn forget_network(&mut self, name: &str) -> Result<()> {
        let record = Arc::make_mut(&mut self.record);
        if record.networking.endpoints_config.remove(name).is_none() {
            return Err(self.is_not_on(name));
        }
        self.save_or_warn();
        self.show();
        Ok(())
    }

    fn is_not_on(&self, network: &str) -> Error {
        let id = &self.record.id;
        let words = match self.state.phase.is_running() {
            true => format!("container {id} is not connected to network {network}"),
            false => format!("container {id} is not connected to the network {network}"),
        };
        Error::new(Kind::Forbidden, words)
    }
}

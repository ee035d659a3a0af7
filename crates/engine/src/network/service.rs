//! The verbs on networks.
use std::sync::Arc;

use corten_api::types::network::EndpointSettings;

use crate::{
    container::{table::Table, view::Filters},
    context::Context,
    error::{Error, Result},
    network::record::{CreateNetwork, NetworkView},
};

/// References are names, ids, or unique beginnings of ids, in this order.
pub struct NetworkService {
    context: Arc<Context>,
    table: Arc<Table>,
}

impl NetworkService {
    pub fn new(context: Arc<Context>, table: Arc<Table>) -> NetworkService {
        NetworkService { context, table }
    }

    /// The new network's id.
    pub async fn create(&self, asked: CreateNetwork) -> Result<String> {
        let _ = (&self.context, &self.table);
        Err(Error::not_implemented(format!(
            "creating network {}",
            asked.request.name
        )))
    }

    pub fn inspect(&self, reference: &str) -> Result<NetworkView> {
        Err(Error::not_found(format!("network {reference} not found")))
    }

    /// By name. Filters: `dangling`, `driver`, `id`, `label`, `name`, `scope`, `type`.
    pub fn list(&self, filters: &Filters) -> Result<Vec<NetworkView>> {
        let _ = filters;
        Ok(Vec::new())
    }

    pub async fn remove(&self, reference: &str) -> Result<()> {
        Err(Error::not_found(format!("network {reference} not found")))
    }

    /// Removes user networks without containers; their names. Filters: `label`, `label!`, `until`.
    pub async fn prune(&self, filters: &Filters) -> Result<Vec<String>> {
        let _ = filters;
        Ok(Vec::new())
    }

    /// Joins a container, running or not, to a network.
    pub async fn connect(&self, reference: &str, container: &str, wish: EndpointSettings) -> Result<()> {
        let _ = (container, wish);
        Err(Error::not_implemented(format!("joining network {reference}")))
    }

    /// Takes a container out of a network. With `force` a container that is not there is no error.
    pub async fn disconnect(&self, reference: &str, container: &str, force: bool) -> Result<()> {
        let _ = (container, force);
        Err(Error::not_implemented(format!("leaving network {reference}")))
    }
}

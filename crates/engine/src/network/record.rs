//! A network's record: what was made, and what only its users care about.
use std::{collections::BTreeMap, sync::Arc};

use corten_network::model::{Endpoint, Network, NetworkRequest};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What the store keeps for a network: one document of kind `network`. Predefined networks have one too, so that their
/// ids stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    pub network: Network,
    pub created: Timestamp,
    pub attachable: bool,
    pub labels: BTreeMap<String, String>,
    /// `default`.
    pub ipam_driver: String,
    pub ipam_options: BTreeMap<String, String>,
    /// Of the default network: the configuration that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured: Option<NetworkRequest>,
}

/// A network at one moment.
#[derive(Debug, Clone)]
pub struct NetworkView {
    pub record: Arc<NetworkRecord>,
    /// Of containers that run: id, name, and the container's end.
    pub endpoints: Vec<NetworkEndpoint>,
    /// Does any container, running or not, want it?
    pub used: bool,
}

#[derive(Debug, Clone)]
pub struct NetworkEndpoint {
    pub container: String,
    pub name: String,
    /// Absent on `host` and `none`, where a container has no address of its own.
    pub endpoint: Option<Endpoint>,
}

/// What `POST /networks/create` asks for, checked and typed by the door.
#[derive(Debug, Clone, Default)]
pub struct CreateNetwork {
    pub request: NetworkRequest,
    pub attachable: bool,
    pub labels: BTreeMap<String, String>,
    pub ipam_driver: String,
    pub ipam_options: BTreeMap<String, String>,
}

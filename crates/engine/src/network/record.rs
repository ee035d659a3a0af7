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
    /// What it was made from: which subnets somebody chose, and of the default network its configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured: Option<NetworkRequest>,
    /// Only a configuration, for other networks to be made from: nothing of it is in the kernel.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub config_only: bool,
    /// The name of the network that it was configured by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_from: Option<String>,
}

impl NetworkRecord {
    /// Did somebody choose a subnet of this family? Only there addresses can be chosen too.
    pub fn has_chosen_subnet(&self, ipv6: bool) -> bool {
        let subnets = self.configured.iter().flat_map(|request| &request.subnets);
        let mut chosen = subnets.filter_map(|subnet| subnet.subnet);
        chosen.any(|subnet| subnet.addr().is_ipv6() == ipv6)
    }
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
    pub config_only: bool,
    /// The network that says how; the request itself has only a name and a driver then.
    pub config_from: Option<String>,
}

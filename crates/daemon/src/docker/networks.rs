//! Networks: today the two that every engine has, `none` and `host`, to be listed and looked at.
use axum::{
    extract::{Path, State},
    response::Response,
};
use corten_api::{
    filters::{self, Filters},
    types::network::{Network, NetworkContainer, NetworksPruneResponse},
};
use corten_engine::container::view::ListOptions;
use http::StatusCode;

use crate::{
    docker::{
        convert::network,
        door::{Door, ok},
        query::Parameters,
    },
    error::ApiError,
};

type Answer = Result<Response, ApiError>;

const LIST_FILTERS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];
const PRUNE_FILTERS: [&str; 3] = ["label", "label!", "until"];

/// `GET /networks`.
pub async fn list(State(door): State<Door>, query: Parameters) -> Answer {
    let filters = query.filters()?;
    filters::check(&filters, &LIST_FILTERS)?;
    let dangling = filters::switch(&filters, "dangling")?;
    let networks: Vec<_> = all(&door)
        .into_iter()
        // Predefined networks are never dangling: nobody could remove them.
        .filter(|network| dangling != Some(true) && matches(network, &filters))
        .collect();
    Ok(ok(&networks))
}

fn all(door: &Door) -> Vec<Network> {
    network::predefined(&door.host().engine_id, door.opened())
}

fn matches(network: &Network, filters: &Filters) -> bool {
    let any = |key: &str, test: &dyn Fn(&str) -> bool| {
        filters
            .get(key)
            .is_none_or(|values| values.is_empty() || values.iter().any(|value| test(value)))
    };
    any("name", &|name| network.name.contains(name))
        && any("id", &|id| network.id.starts_with(id))
        && any("driver", &|driver| network.driver == driver)
        && any("scope", &|scope| network.scope == scope)
        && any("type", &|kind| kind == "builtin")
        && any("label", &|_| false)
}

fn find(door: &Door, name: &str) -> Result<Network, ApiError> {
    let networks = all(door);
    let by_name = networks
        .iter()
        .find(|network| network.name == name || network.id == name);
    let mut by_prefix = networks
        .iter()
        .filter(|network| !name.is_empty() && network.id.starts_with(name));
    let found = by_name.or_else(|| by_prefix.next().filter(|_| by_prefix.next().is_none()));
    found
        .cloned()
        .ok_or_else(|| ApiError::not_found(format!("network {name} not found")))
}

/// `GET /networks/{name}`.
pub async fn inspect(State(door): State<Door>, Path(name): Path<String>) -> Answer {
    let mut network = find(&door, &name)?;
    for view in door.engine().containers().list(ListOptions::default()).await? {
        if view.record.host_config.network_mode == network.name {
            let container = NetworkContainer {
                name: view.record.name.clone(),
                endpoint_id: network::endpoint_id(&network.id, &view.record.id),
                ..NetworkContainer::default()
            };
            network.containers.insert(view.record.id.clone(), container);
        }
    }
    Ok(ok(&network))
}

/// `DELETE /networks/{name}`.
pub async fn remove(State(door): State<Door>, Path(name): Path<String>) -> Answer {
    let network = find(&door, &name)?;
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        format!("{} is a pre-defined network and cannot be removed", network.name),
    ))
}

/// `POST /networks/prune`.
pub async fn prune(query: Parameters) -> Answer {
    filters::check(&query.filters()?, &PRUNE_FILTERS)?;
    Ok(ok(&NetworksPruneResponse { networks_deleted: None }))
}

/// `POST /networks/create`, and those that join containers to networks.
pub async fn absent() -> ApiError {
    ApiError::not_implemented("creating and joining networks other than none and host")
}

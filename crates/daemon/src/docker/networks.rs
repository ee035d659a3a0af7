//! The verbs on networks, at the door: documents are checked and typed here, the engine does the rest.
use axum::{
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use corten_api::{
    filters,
    types::network::{
        NetworkConnectRequest, NetworkCreateRequest, NetworkCreateResponse, NetworkDisconnectRequest,
        NetworksPruneResponse,
    },
};
use http::{HeaderMap, StatusCode};

use crate::{
    docker::{
        containers::no_content,
        convert::{network, network_request},
        decode,
        door::{Door, json, ok},
        query::Parameters,
        version::{ApiVersion, v},
        version_networks,
    },
    error::ApiError,
};

type Answer = Result<Response, ApiError>;

const LIST_FILTERS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];
const PRUNE_FILTERS: [&str; 3] = ["label", "label!", "until"];

/// `GET /networks`. Since 1.28 an entry does not name its containers.
pub async fn list(State(door): State<Door>, version: ApiVersion, query: Parameters) -> Answer {
    let filters = query.filters()?;
    filters::check(&filters, &LIST_FILTERS)?;
    let views = door.engine().networks().list(&filters)?;
    let documents = views.iter().map(|view| match version < v(28) {
        true => network::inspect(view),
        false => network::summary(view),
    });
    Ok(ok(&documents.collect::<Vec<_>>()))
}

/// `GET /networks/{name}`.
pub async fn inspect(State(door): State<Door>, Path(name): Path<String>, query: Parameters) -> Answer {
    check_boolean("verbose", query.text("verbose"))?;
    let view = door.engine().networks().inspect(&name)?;
    // Every network is local: there is no swarm.
    if query.text("scope").is_some_and(|scope| scope != "local") {
        return Err(ApiError::not_found(format!("network {name} not found")));
    }
    Ok(ok(&network::inspect(&view)))
}

/// `verbose` is the one switch that dockerd reads with Go's `ParseBool`.
fn check_boolean(name: &str, text: Option<&str>) -> Result<(), ApiError> {
    const WORDS: [&str; 12] = [
        "1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False",
    ];
    match text {
        Some(text) if !WORDS.contains(&text) => Err(ApiError::invalid(format!(
            "invalid value for {name}: {text}: strconv.ParseBool: parsing \"{text}\": invalid syntax"
        ))),
        _ => Ok(()),
    }
}

/// `POST /networks/create`.
pub async fn create(State(door): State<Door>, version: ApiVersion, headers: HeaderMap, body: Body) -> Answer {
    let mut request: NetworkCreateRequest = decode::required(&headers, body).await?;
    version_networks::create(version, &mut request);
    let asked = network_request::create(request, &door.engine().config().network.default_options)?;
    let id = door.engine().networks().create(asked).await?;
    Ok(json(
        StatusCode::CREATED,
        &NetworkCreateResponse {
            id,
            warning: String::new(),
        },
    ))
}

/// `POST /networks/{name}/connect`.
pub async fn connect(State(door): State<Door>, Path(name): Path<String>, headers: HeaderMap, body: Body) -> Answer {
    let request: NetworkConnectRequest = decode::required(&headers, body).await?;
    network_request::check_endpoint(&request.endpoint_config)?;
    let networks = door.engine().networks();
    networks
        .connect(&name, &request.container, request.endpoint_config)
        .await?;
    Ok(StatusCode::OK.into_response())
}

/// `POST /networks/{name}/disconnect`.
pub async fn disconnect(State(door): State<Door>, Path(name): Path<String>, headers: HeaderMap, body: Body) -> Answer {
    let request: NetworkDisconnectRequest = decode::required(&headers, body).await?;
    let networks = door.engine().networks();
    networks.disconnect(&name, &request.container, request.force).await?;
    Ok(StatusCode::OK.into_response())
}

/// `DELETE /networks/{name}`.
pub async fn remove(State(door): State<Door>, Path(name): Path<String>) -> Answer {
    door.engine().networks().remove(&name).await?;
    Ok(no_content())
}

/// `POST /networks/prune`.
pub async fn prune(State(door): State<Door>, query: Parameters) -> Answer {
    let filters = query.filters()?;
    filters::check(&filters, &PRUNE_FILTERS)?;
    let deleted = door.engine().networks().prune(&filters).await?;
    let networks_deleted = Some(deleted).filter(|names| !names.is_empty());
    Ok(ok(&NetworksPruneResponse { networks_deleted }))
}

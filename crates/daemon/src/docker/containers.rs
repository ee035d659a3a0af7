//! The verbs on containers that answer with a document, or with nothing.
//!
//! What streams lives elsewhere: `output` (logs, stats, wait) and `upgrade` (attach).
use axum::{
    body::Body,
    extract::{Extension, Path, State},
    response::{IntoResponse, Response},
};
use corten_api::{
    filters,
    types::{
        container::{CreateResponse, HostConfig},
        container_answers::{ContainersPruneResponse, TopResponse, UpdateResponse},
    },
};
use corten_engine::container::view::{CreateOptions, ListOptions, RemoveOptions, UpdateOptions};
use http::{HeaderMap, StatusCode, header::CONTENT_LENGTH};
use jiff::Timestamp;

use crate::{
    docker::{
        convert::{container, network_request},
        decode,
        door::{Door, json, ok, written},
        gate::Caller,
        query::Parameters,
        version::{ApiVersion, v},
        version_networks, versions,
    },
    error::ApiError,
};

type Answer = Result<Response, ApiError>;

const LIST_FILTERS: [&str; 15] = [
    "ancestor",
    "before",
    "exited",
    "id",
    "isolation",
    "label",
    "name",
    "status",
    "health",
    "since",
    "volume",
    "network",
    "is-task",
    "publish",
    "expose",
];
const PRUNE_FILTERS: [&str; 3] = ["label", "label!", "until"];

/// `GET /containers/json`.
pub async fn list(State(door): State<Door>, version: ApiVersion, query: Parameters) -> Answer {
    let filters = query.filters()?;
    filters::check(&filters, &LIST_FILTERS)?;
    let limit = query.number("limit")?.unwrap_or_default();
    let options = ListOptions {
        // A negative limit, -1 above all, means none.
        limit: usize::try_from(limit).unwrap_or_default(),
        all: query.flag("all"),
        size: query.flag("size"),
        filters,
    };
    let views = door.engine().containers().list(options).await?;
    let list = door.rows().list(&views, door.networks(), version, Timestamp::now());
    Ok(written(StatusCode::OK, list))
}

/// `POST /containers/create`.
pub async fn create(
    State(door): State<Door>,
    version: ApiVersion,
    query: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let Some(document) = decode::document(&headers, body).await? else {
        return Err(ApiError::invalid("invalid JSON: got EOF while reading request body"));
    };
    let mut request = decode::create_request(&document)?;
    let mut warnings = versions::create_request(version, door.host(), &mut request)?;
    let host_config = decode::member(&document, "HostConfig");
    warnings.extend(host_config.map_or_else(Vec::new, |host| versions::kernel_memory(version, host)));
    for wish in request.networking_config.endpoints_config.values().flatten() {
        network_request::check_endpoint(wish)?;
    }
    let platform = query.text("platform").filter(|_| version >= v(41));
    let created = door
        .engine()
        .containers()
        .create(CreateOptions {
            name: query.text("name").map(|name| name.trim_start_matches('/').to_owned()),
            platform: platform.map(str::to_owned),
            config: request.config,
            host_config: request.host_config,
            networking: request.networking_config,
        })
        .await?;
    warnings.extend(created.warnings);
    Ok(json(
        StatusCode::CREATED,
        &CreateResponse {
            id: created.id,
            warnings,
        },
    ))
}

/// `GET /containers/{name}/json`.
pub async fn inspect(
    State(door): State<Door>,
    version: ApiVersion,
    caller: Option<Extension<Caller>>,
    Path(name): Path<String>,
    query: Parameters,
) -> Answer {
    let containers = door.engine().containers();
    let view = match query.flag("size") {
        true => containers.inspect_with_size(&name).await?,
        false => containers.inspect(&name)?,
    };
    let mut document = container::inspect(&view, door.host(), &door.networks());
    if caller.is_some_and(|caller| caller.access.is_read_only()) {
        document.config.env.iter_mut().for_each(hide_value);
    }
    version_networks::inspect(version, &mut document);
    Ok(ok(&document))
}

/// Of a variable in the environment, where people keep secrets.
fn hide_value(variable: &mut String) {
    if let Some(end) = variable.find('=').filter(|end| end + 1 < variable.len()) {
        variable.truncate(end);
        variable.push_str("=<hidden>");
    }
}

/// `POST /containers/{name}/start`.
pub async fn start(State(door): State<Door>, Path(name): Path<String>, headers: HeaderMap) -> Answer {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    // `{}` and `null` were always let through; configuration at start went away with API 1.24.
    if length
        .and_then(|length| length.parse::<u64>().ok())
        .is_some_and(|length| length > 7)
    {
        return Err(ApiError::invalid(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    door.engine().containers().start(&name).await?;
    Ok(no_content())
}

/// `POST /containers/{name}/stop`.
pub async fn stop(
    State(door): State<Door>,
    version: ApiVersion,
    Path(name): Path<String>,
    query: Parameters,
) -> Answer {
    let (signal, timeout_seconds) = stop_parameters(version, &query)?;
    door.engine().containers().stop(&name, signal, timeout_seconds).await?;
    Ok(no_content())
}

/// `POST /containers/{name}/restart`.
pub async fn restart(
    State(door): State<Door>,
    version: ApiVersion,
    Path(name): Path<String>,
    query: Parameters,
) -> Answer {
    let (signal, timeout_seconds) = stop_parameters(version, &query)?;
    door.engine()
        .containers()
        .restart(&name, signal, timeout_seconds)
        .await?;
    Ok(no_content())
}

fn stop_parameters(version: ApiVersion, query: &Parameters) -> Result<(Option<String>, Option<i64>), ApiError> {
    let signal = query.text("signal").filter(|_| version >= v(42));
    Ok((signal.map(str::to_owned), query.number("t")?))
}

/// `POST /containers/{name}/kill`.
pub async fn kill(State(door): State<Door>, Path(name): Path<String>, query: Parameters) -> Answer {
    door.engine()
        .containers()
        .kill(&name, query.text("signal").map(str::to_owned))
        .await?;
    Ok(no_content())
}

/// `POST /containers/{name}/pause`.
pub async fn pause(State(door): State<Door>, Path(name): Path<String>) -> Answer {
    door.engine().containers().pause(&name).await?;
    Ok(no_content())
}

/// `POST /containers/{name}/unpause`.
pub async fn unpause(State(door): State<Door>, Path(name): Path<String>) -> Answer {
    door.engine().containers().unpause(&name).await?;
    Ok(no_content())
}

/// `POST /containers/{name}/rename`.
pub async fn rename(State(door): State<Door>, Path(name): Path<String>, query: Parameters) -> Answer {
    let new_name = query.get("name").unwrap_or_default().trim_start_matches('/');
    if new_name.is_empty() {
        return Err(ApiError::invalid("Neither old nor new names may be empty"));
    }
    door.engine().containers().rename(&name, new_name).await?;
    Ok(no_content())
}

/// `POST /containers/{name}/update`.
pub async fn update(
    State(door): State<Door>,
    version: ApiVersion,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let Some(document) = decode::document(&headers, body).await? else {
        return Err(ApiError::invalid("invalid JSON: got EOF while reading request body"));
    };
    let mut resources = decode::read::<HostConfig>(&document)?;
    let mut warnings = versions::kernel_memory(version, &document);
    versions::update_request(version, &mut resources);
    let options = UpdateOptions {
        restart_policy: resources.restart_policy.clone(),
        resources,
    };
    warnings.extend(door.engine().containers().update(&name, options).await?);
    Ok(ok(&UpdateResponse {
        warnings: Some(warnings).filter(|list| !list.is_empty()),
    }))
}

/// `POST /containers/{name}/resize`.
pub async fn resize(State(door): State<Door>, Path(name): Path<String>, query: Parameters) -> Answer {
    let (rows, columns) = size(&query)?;
    door.engine().containers().resize(&name, rows, columns).await?;
    Ok(StatusCode::OK.into_response())
}

/// A terminal's rows and columns.
pub fn size(query: &Parameters) -> Result<(u16, u16), ApiError> {
    let side = |what: &str, key: &str| {
        let text = query.get(key).unwrap_or_default();
        let reason = |error: std::num::ParseIntError| match error.kind() {
            std::num::IntErrorKind::PosOverflow => "value out of range",
            _ => "invalid syntax",
        };
        let number = text.parse::<u32>();
        number
            .map(|number| u16::try_from(number).unwrap_or(u16::MAX))
            .map_err(|error| ApiError::invalid(format!("invalid resize {what} \"{text}\": {}", reason(error))))
    };
    Ok((side("height", "h")?, side("width", "w")?))
}

/// `GET /containers/{name}/top`.
pub async fn top(State(door): State<Door>, Path(name): Path<String>, query: Parameters) -> Answer {
    let top = door
        .engine()
        .containers()
        .top(&name, query.text("ps_args").unwrap_or("-ef"))
        .await?;
    Ok(ok(&TopResponse {
        titles: top.titles,
        processes: top.processes,
    }))
}

/// `DELETE /containers/{name}`.
pub async fn remove(State(door): State<Door>, Path(name): Path<String>, query: Parameters) -> Answer {
    if query.flag("link") {
        door.engine().containers().remove_link(&name).await?;
        return Ok(no_content());
    }
    let options = RemoveOptions {
        force: query.flag("force"),
        volumes: query.flag("v"),
    };
    door.engine().containers().remove(&name, options).await?;
    Ok(no_content())
}

/// `DELETE /containers/{owner}/{alias}?link=1`.
pub async fn remove_link(
    State(door): State<Door>,
    Path((owner, alias)): Path<(String, String)>,
    query: Parameters,
) -> Answer {
    let name = format!("{owner}/{alias}");
    if !query.flag("link") {
        return Err(ApiError::not_found(format!("No such container: {name}")));
    }
    door.engine().containers().remove_link(&name).await?;
    Ok(no_content())
}

/// `POST /containers/prune`.
pub async fn prune(State(door): State<Door>, query: Parameters) -> Answer {
    let filters = query.filters()?;
    filters::check(&filters, &PRUNE_FILTERS)?;
    let pruned = door.engine().containers().prune(&filters).await?;
    Ok(ok(&ContainersPruneResponse {
        containers_deleted: Some(pruned.deleted).filter(|list| !list.is_empty()),
        space_reclaimed: pruned.space_reclaimed,
    }))
}

pub fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

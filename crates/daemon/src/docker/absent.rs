//! What Docker has and this version does not: each answers one clear sentence.
use axum::{extract::Path, response::Response};
use http::StatusCode;

use crate::{docker::door::ok, error::ApiError};

/// A handler that says what is missing; the words complete "… is not implemented yet".
pub fn absent(what: &'static str) -> impl Clone + Send + Sync + 'static + Fn() -> std::future::Ready<ApiError> {
    move || std::future::ready(ApiError::not_implemented(what))
}

/// Everything about swarms that needs a manager, as a node without a swarm says it.
pub async fn swarm() -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to \
         swarm and try again.",
    )
}

/// `POST /swarm/leave`.
pub async fn leave_swarm() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "This node is not part of a swarm")
}

/// `PUT /volumes/{name}`, which is for cluster volumes only.
pub async fn not_in_a_swarm() -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "volume update only valid for cluster volumes, but swarm is unavailable",
    )
}

/// `POST /build/prune`, which is the last part of `docker system prune`: nothing is built, so nothing is kept.
pub async fn no_build_cache() -> Response {
    ok(&serde_json::json!({"CachesDeleted": null, "SpaceReclaimed": 0}))
}

/// `GET /plugins`: there are none.
pub async fn no_plugins() -> Response {
    ok(&Vec::<()>::new())
}

/// Everything about one plugin, for there is none. `docker inspect` looks here last.
pub async fn no_plugin(Path(rest): Path<String>) -> ApiError {
    const VERBS: [&str; 6] = ["/json", "/enable", "/disable", "/upgrade", "/push", "/set"];
    let name = VERBS.iter().find_map(|verb| rest.strip_suffix(verb)).unwrap_or(&rest);
    ApiError::not_found(format!("plugin \"{name}\" not found"))
}

pub async fn not_found() -> ApiError {
    ApiError::not_found("page not found")
}

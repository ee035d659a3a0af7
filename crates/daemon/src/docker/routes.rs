//! Every path of the Engine API on one page.
//!
//! Paths stand here without their version: the connection takes it off before it asks the router. What Docker has and
//! this version does not is here too, with the words that complete "… is not implemented yet".
use std::sync::Arc;

use axum::{
    Router,
    middleware::from_fn_with_state,
    routing::{delete, get, post},
};

use crate::{
    docker::{
        absent::{absent, leave_swarm, no_build_cache, no_plugin, no_plugins, not_found, not_in_a_swarm, swarm},
        archive, containers,
        door::Door,
        events, exec,
        gate::gate,
        images, networks, output, system, upgrade, volumes, websocket,
    },
    metrics::Metrics,
};

pub fn router(door: Door, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .merge(system_routes())
        .merge(container_routes())
        .merge(image_routes())
        .merge(network_and_volume_routes())
        .merge(routes_of_later_versions())
        .merge(swarm_routes())
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .layer(from_fn_with_state(metrics, gate))
        .with_state(door)
}

fn system_routes() -> Router<Door> {
    Router::new()
        .route("/_ping", get(system::ping).head(system::ping))
        .route("/version", get(system::version))
        .route("/info", get(system::info))
        .route("/events", get(events::events))
        .route("/system/df", get(system::disk_usage))
        .route("/auth", post(system::auth))
}

fn container_routes() -> Router<Door> {
    Router::new()
        .route("/containers/json", get(containers::list))
        .route("/containers/create", post(containers::create))
        .route("/containers/prune", post(containers::prune))
        .route("/containers/{name}", delete(containers::remove))
        .route("/containers/{name}/{alias}", delete(containers::remove_link))
        .route("/containers/{name}/json", get(containers::inspect))
        .route("/containers/{name}/start", post(containers::start))
        .route("/containers/{name}/stop", post(containers::stop))
        .route("/containers/{name}/restart", post(containers::restart))
        .route("/containers/{name}/kill", post(containers::kill))
        .route("/containers/{name}/pause", post(containers::pause))
        .route("/containers/{name}/unpause", post(containers::unpause))
        .route("/containers/{name}/rename", post(containers::rename))
        .route("/containers/{name}/resize", post(containers::resize))
        .route("/containers/{name}/top", get(containers::top))
        .route("/containers/{name}/logs", get(output::logs))
        .route("/containers/{name}/stats", get(output::stats))
        .route("/corten/stats", get(output::stats_of_many))
        .route("/containers/{name}/wait", post(output::wait))
        .route("/containers/{name}/attach", post(upgrade::attach))
        .route("/containers/{name}/attach/ws", get(websocket::attach))
        .route("/containers/{name}/update", post(containers::update))
        .route("/containers/{name}/changes", get(archive::changes))
        .route("/containers/{name}/export", get(archive::export))
        .route("/containers/{name}/exec", post(exec::create))
        .route(
            "/containers/{name}/checkpoints",
            get(absent("checkpoints")).post(absent("checkpoints")),
        )
        .route(
            "/containers/{name}/checkpoints/{checkpoint}",
            delete(absent("checkpoints")),
        )
        .route(
            "/containers/{name}/archive",
            get(archive::read).head(archive::stat).put(archive::write),
        )
        .route("/exec/{id}/start", post(exec::start))
        .route("/exec/{id}/resize", post(exec::resize))
        .route("/exec/{id}/json", get(exec::inspect))
        .route("/commit", post(archive::commit))
}

fn image_routes() -> Router<Door> {
    Router::new()
        .route("/images/json", get(images::list))
        .route("/images/create", post(images::create))
        .route("/images/load", post(images::load))
        .route("/images/get", get(images::save_many))
        .route("/images/prune", post(images::prune))
        .route("/images/search", get(absent("searching registries")))
        // Names have slashes: `/images/{name…}/{json,history,get,tag,push}`.
        .route(
            "/images/{*rest}",
            get(images::get).post(images::post).delete(images::remove),
        )
}

fn network_and_volume_routes() -> Router<Door> {
    Router::new()
        .route("/networks", get(networks::list))
        .route("/networks/", get(networks::list))
        .route("/networks/create", post(networks::create))
        .route("/networks/prune", post(networks::prune))
        .route("/networks/{name}", get(networks::inspect).delete(networks::remove))
        .route("/networks/{name}/connect", post(networks::connect))
        .route("/networks/{name}/disconnect", post(networks::disconnect))
        .route("/volumes", get(volumes::list))
        .route("/volumes/create", post(volumes::create))
        .route("/volumes/prune", post(volumes::prune))
        .route(
            "/volumes/{name}",
            get(volumes::inspect).delete(volumes::remove).put(not_in_a_swarm),
        )
}

fn routes_of_later_versions() -> Router<Door> {
    Router::new()
        .route("/build", post(absent("building images")))
        .route("/build/prune", post(no_build_cache))
        .route("/build/cancel", post(absent("building images")))
        .route("/session", post(absent("building images with BuildKit")))
        .route("/grpc", post(absent("building images with BuildKit")))
        .route("/distribution/{*rest}", get(absent("asking registries about images")))
        .route("/plugins", get(no_plugins))
        .route("/plugins/privileges", get(absent("installing a plugin")))
        .route("/plugins/pull", post(absent("installing a plugin")))
        .route("/plugins/create", post(absent("installing a plugin")))
        .route("/plugins/{*rest}", get(no_plugin).post(no_plugin).delete(no_plugin))
}

fn swarm_routes() -> Router<Door> {
    let needs_manager = || get(swarm).post(swarm).delete(swarm);
    Router::new()
        .route("/swarm", get(swarm))
        .route("/swarm/init", post(absent("swarm mode")))
        .route("/swarm/join", post(absent("swarm mode")))
        .route("/swarm/leave", post(leave_swarm))
        .route("/swarm/update", post(swarm))
        .route("/swarm/unlockkey", get(swarm))
        .route("/swarm/unlock", post(swarm))
        .route("/nodes", get(swarm))
        .route("/nodes/{*rest}", needs_manager())
        .route("/services", get(swarm))
        .route("/services/{*rest}", needs_manager())
        .route("/tasks", get(swarm))
        .route("/tasks/{*rest}", needs_manager())
        .route("/secrets", get(swarm))
        .route("/secrets/{*rest}", needs_manager())
        .route("/configs", get(swarm))
        .route("/configs/{*rest}", needs_manager())
}

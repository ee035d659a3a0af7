//! Volumes: those that containers made can be looked at; making and removing them by name is a capability to come.
use axum::{
    extract::{Path, State},
    response::Response,
};
use corten_api::{filters, types::volume::Volume};

use crate::{
    docker::{
        convert::time::rfc3339,
        door::{Door, ok},
        query::Parameters,
    },
    error::ApiError,
};

const LIST_FILTERS: [&str; 4] = ["dangling", "name", "driver", "label"];

/// `GET /volumes`.
pub async fn list(query: Parameters) -> Result<ApiError, ApiError> {
    filters::check(&query.filters()?, &LIST_FILTERS)?;
    Ok(absent().await)
}
pub async fn absent() -> ApiError {
    ApiError::not_implemented("managing volumes")
}
pub use absent as create;
pub use absent as prune;
pub use absent as remove;

/// `GET /volumes/{name}`. Clients that look for an object of any kind need the answer that there is no such volume.
pub async fn inspect(State(door): State<Door>, Path(name): Path<String>) -> Result<Response, ApiError> {
    let volumes = door.engine().volumes();
    let found = volumes.all().into_iter().find(|volume| volume.name == name);
    let volume = found.ok_or_else(|| ApiError::not_found(format!("get {name}: no such volume")))?;
    Ok(ok(&Volume {
        created_at: Some(rfc3339(Some(volume.created))),
        driver: "local".to_owned(),
        labels: Some(volume.labels),
        mountpoint: volumes.path(&volume.name),
        name: volume.name,
        options: None,
        scope: "local".to_owned(),
        usage_data: None,
    }))
}

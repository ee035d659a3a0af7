//! The verbs on volumes. There is one driver, `local`.
use std::collections::BTreeMap;

use axum::{
    body::Body,
    extract::{Path, State},
    response::Response,
};
use corten_api::types::volume::{Volume, VolumeCreateRequest, VolumeListResponse, VolumesPruneResponse};
use corten_engine::volume::{service::VolumeView, volumes::Wish};
use http::{HeaderMap, StatusCode};

use crate::{
    docker::{
        containers::no_content,
        convert::time::rfc3339_seconds,
        decode,
        door::{Door, json, ok},
        query::Parameters,
        version::{ApiVersion, v},
    },
    error::ApiError,
};

type Answer = Result<Response, ApiError>;

/// A volume as the Engine API shows it.
pub fn document(view: &VolumeView) -> Volume {
    let mut labels = view.volume.labels.clone();
    if view.volume.anonymous {
        // Docker's mark, by which `volume prune` tells anonymous volumes.
        labels.insert("com.docker.volume.anonymous".to_owned(), String::new());
    }
    Volume {
        created_at: Some(rfc3339_seconds(view.volume.created)),
        driver: "local".to_owned(),
        labels: Some(labels).filter(|labels| !labels.is_empty()),
        mountpoint: view.path.clone(),
        name: view.volume.name.clone(),
        options: Some(view.volume.options.clone()).filter(|options| !options.is_empty()),
        scope: "local".to_owned(),
        usage_data: None,
    }
}

/// `GET /volumes`.
pub async fn list(State(door): State<Door>, query: Parameters) -> Answer {
    let views = door.engine().volumes().list(&query.filters()?)?;
    let volumes = views.iter().map(document).collect();
    Ok(ok(&VolumeListResponse {
        volumes,
        warnings: None,
    }))
}

/// `GET /volumes/{name}`.
pub async fn inspect(State(door): State<Door>, Path(name): Path<String>) -> Answer {
    Ok(ok(&document(&door.engine().volumes().inspect(&name)?)))
}

/// `POST /volumes/create`.
pub async fn create(State(door): State<Door>, headers: HeaderMap, body: Body) -> Answer {
    let request: VolumeCreateRequest = decode::required(&headers, body).await?;
    if request.cluster_volume_spec.is_some() {
        return Err(ApiError::not_implemented("cluster volumes"));
    }
    let wish = Wish {
        name: Some(request.name).filter(|name| !name.is_empty()),
        labels: request.labels,
        options: request.driver_opts,
    };
    let view = door.engine().volumes().create(&request.driver, wish)?;
    Ok(json(StatusCode::CREATED, &document(&view)))
}

/// `DELETE /volumes/{name}`.
pub async fn remove(State(door): State<Door>, Path(name): Path<String>, query: Parameters) -> Answer {
    door.engine().volumes().remove(&name, query.flag("force")).await?;
    Ok(no_content())
}

/// `POST /volumes/prune`.
pub async fn prune(State(door): State<Door>, version: ApiVersion, query: Parameters) -> Answer {
    let mut filters = query.filters()?;
    if version < v(42) {
        filters.insert("all".to_owned(), vec!["true".to_owned()]);
    }
    let pruned = door.engine().volumes().prune(&filters).await?;
    let space_reclaimed = pruned.space_reclaimed;
    Ok(ok(&VolumesPruneResponse {
        volumes_deleted: pruned.deleted,
        space_reclaimed,
    }))
}

/// For `GET /system/df`: every volume, measured.
pub async fn measured(door: &Door) -> Result<Vec<Volume>, ApiError> {
    let volumes = door.engine().volumes();
    let mut documents = Vec::new();
    // As Docker: what is mounted from somewhere takes no space here.
    let plain = |view: &VolumeView| view.volume.options.is_empty();
    for view in volumes.list(&BTreeMap::new())?.into_iter().filter(plain) {
        let size = volumes.size(&view).await.ok().and_then(|size| i64::try_from(size).ok());
        let ref_count = i64::try_from(view.users.len()).unwrap_or(i64::MAX);
        let usage_data = Some(corten_api::types::volume::VolumeUsage {
            ref_count,
            size: size.unwrap_or(-1),
        });
        documents.push(Volume {
            usage_data,
            ..document(&view)
        });
    }
    Ok(documents)
}

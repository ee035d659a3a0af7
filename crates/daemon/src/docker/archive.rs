//! Files out of and into containers: `archive`, `export`, `changes`, and `commit`.
use axum::{
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use corten_api::types::{
    container::ContainerConfig,
    files::{Change as ChangeDocument, PATH_STAT_HEADER, PathStatDocument},
};
use corten_engine::container::view::{CommitOptions, PathStat, WriteOptions};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header::CONTENT_TYPE};
use serde_json::{Value, json};

use crate::{
    docker::{
        body, decode,
        door::{Door, json as answer, ok},
        outgoing,
        query::Parameters,
    },
    error::ApiError,
};

type Answer = Result<Response, ApiError>;

/// `HEAD /containers/{name}/archive`.
pub async fn stat(State(door): State<Door>, Path(name): Path<String>, query: Parameters) -> Answer {
    let stat = door.engine().containers().stat_path(&name, path(&query)?).await?;
    let mut headers = HeaderMap::new();
    headers.insert(PATH_STAT_HEADER, header(&stat));
    Ok((StatusCode::OK, headers).into_response())
}

/// `GET /containers/{name}/archive`.
pub async fn read(
    State(door): State<Door>,
    Path(name): Path<String>,
    query: Parameters,
    request: Request<Body>,
) -> Answer {
    let outgoing = door.engine().containers().read_path(&name, path(&query)?).await?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    headers.insert(PATH_STAT_HEADER, header(&outgoing.stat));
    Ok(outgoing::send(request.extensions(), headers, |sink| outgoing.write(sink)).await)
}

/// `PUT /containers/{name}/archive`.
pub async fn write(State(door): State<Door>, Path(name): Path<String>, query: Parameters, archive: Body) -> Answer {
    let options = WriteOptions {
        path: path(&query)?.to_owned(),
        keep_kinds: query.flag("noOverwriteDirNonDir"),
        copy_owner: query.flag("copyUIDGID"),
    };
    let containers = door.engine().containers();
    let write = |archive| containers.write_path(&name, options, archive);
    body::reading(archive, door.transfer().await?, write).await?;
    Ok(StatusCode::OK.into_response())
}

/// `GET /containers/{name}/export`.
pub async fn export(State(door): State<Door>, Path(name): Path<String>, request: Request<Body>) -> Answer {
    let export = door.engine().containers().export(&name).await?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok(outgoing::send(request.extensions(), headers, |sink| export.write(sink)).await)
}

/// `GET /containers/{name}/changes`.
pub async fn changes(State(door): State<Door>, Path(name): Path<String>) -> Answer {
    let changes = door.engine().containers().changes(&name).await?;
    let documents = changes.into_iter().map(|change| ChangeDocument {
        path: String::from_utf8_lossy(&change.path).into_owned(),
        kind: change.kind as u8,
    });
    Ok(ok(&documents.collect::<Vec<_>>()))
}

/// `POST /commit`.
pub async fn commit(State(door): State<Door>, query: Parameters, headers: HeaderMap, body: Body) -> Answer {
    let config = match decode::document(&headers, body).await? {
        None | Some(Value::Null) => None,
        Some(document) => Some(decode::read::<ContainerConfig>(&document)?),
    };
    let text = |name: &str| query.get(name).unwrap_or_default().to_owned();
    // Each may be a whole Dockerfile.
    let changes = query.all("changes");
    let changes = changes.iter().flat_map(|text| text.lines()).map(str::trim);
    let options = CommitOptions {
        repository: text("repo"),
        tag: text("tag"),
        author: text("author"),
        comment: text("comment"),
        pause: query.flag_or("pause", true),
        changes: changes.filter(|line| !line.is_empty()).map(str::to_owned).collect(),
        config,
    };
    let container = query.text("container");
    let container = container.ok_or_else(|| ApiError::invalid("invalid name or ID supplied: \"\""))?;
    let id = door.engine().containers().commit(container, options).await?;
    Ok(answer(StatusCode::CREATED, &json!({"Id": id})))
}

fn path(query: &Parameters) -> Result<&str, ApiError> {
    let path = query
        .text("path")
        .ok_or_else(|| ApiError::invalid("bad parameter: pathcannot be empty"))?;
    match path.contains('\0') {
        true => Err(ApiError::invalid("bad parameter: path has a zero byte")),
        false => Ok(path),
    }
}

fn header(stat: &PathStat) -> HeaderValue {
    let document = PathStatDocument {
        name: stat.name.clone(),
        size: stat.size,
        mode: stat.mode,
        modified: stat.modified.to_string(),
        link_target: stat.link_target.clone(),
    };
    let json = serde_json::to_vec(&document).expect("the API's documents always serialize");
    HeaderValue::from_str(&STANDARD.encode(json)).expect("base64 is plain text")
}

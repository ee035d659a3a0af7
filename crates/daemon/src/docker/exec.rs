//! Execs: made, started, resized, asked about. What a started one streams goes through `upgrade`.
use axum::{
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use corten_api::types::exec::{
    ExecCreateRequest, ExecCreateResponse, ExecInspect, ExecProcessConfig, ExecStartRequest,
};
use corten_engine::container::{
    detach::DetachKeys,
    exec::{Exec, ExecOptions, ExecStartOptions, Phase},
};
use data_encoding::BASE64;
use http::{HeaderMap, Request, StatusCode};

use crate::{
    docker::{
        containers::size,
        decode,
        door::{Door, json, ok},
        query::Parameters,
        upgrade,
        version::{ApiVersion, v},
    },
    error::ApiError,
};

type Answer = Result<Response, ApiError>;

/// `POST /containers/{name}/exec`.
pub async fn create(
    State(door): State<Door>,
    version: ApiVersion,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let request: ExecCreateRequest = decode::required(&headers, body).await?;
    let console = request.console_size.filter(|_| version >= v(42) && request.tty);
    let options = ExecOptions {
        argv: request.cmd,
        tty: request.tty,
        attach: [request.attach_stdin, request.attach_stdout, request.attach_stderr],
        env: request.env,
        user: request.user,
        working_dir: request.working_dir,
        privileged: request.privileged,
        detach_keys: Some(request.detach_keys).filter(|keys| !keys.is_empty()),
        console_size: console.map(rows_and_columns),
    };
    let id = door.engine().containers().exec(&name, options).await?;
    Ok(json(StatusCode::CREATED, &ExecCreateResponse { id }))
}

/// `POST /exec/{id}/start`.
pub async fn start(
    State(door): State<Door>,
    version: ApiVersion,
    Path(id): Path<String>,
    request: Request<Body>,
) -> Answer {
    let (parts, body) = request.into_parts();
    let asked: ExecStartRequest = match decode::document(&parts.headers, body).await? {
        Some(document) => decode::read(&document)?,
        None => ExecStartRequest::default(),
    };
    let console = asked.console_size.filter(|_| version >= v(42) && asked.tty);
    let options = ExecStartOptions {
        detach: asked.detach,
        tty: asked.tty,
        console_size: console.map(rows_and_columns),
    };
    match door.engine().containers().start_exec(&id, options).await? {
        Some(attachment) => upgrade::streams(Request::from_parts(parts, Body::empty()), version, attachment).await,
        None => Ok(StatusCode::OK.into_response()),
    }
}

/// `POST /exec/{id}/resize`.
pub async fn resize(State(door): State<Door>, Path(id): Path<String>, query: Parameters) -> Answer {
    let (rows, columns) = size(&query)?;
    door.engine().containers().resize_exec(&id, rows, columns).await?;
    Ok(StatusCode::OK.into_response())
}

/// `GET /exec/{id}/json`.
pub async fn inspect(State(door): State<Door>, Path(id): Path<String>) -> Answer {
    let exec = door.engine().containers().find_exec(&id)?;
    Ok(ok(&document(&exec)))
}

fn document(exec: &Exec) -> ExecInspect {
    let record = &exec.record;
    let asked = record.detach_keys.as_deref();
    let keys = asked.and_then(|keys| DetachKeys::parse(Some(keys)).ok());
    let phase = exec.phase();
    let (running, pid, exit_code) = match phase {
        Phase::Created => (false, 0, None),
        Phase::Starting => (true, 0, None),
        Phase::Running { pid, .. } => (true, pid, None),
        Phase::Ended(end) => (false, 0, Some(end.exit_code)),
    };
    ExecInspect {
        id: exec.id.clone(),
        running,
        exit_code,
        process_config: ExecProcessConfig {
            tty: record.tty,
            entrypoint: record.argv.first().cloned().unwrap_or_default(),
            arguments: record.argv.get(1..).unwrap_or_default().to_vec(),
            privileged: record.privileged,
            user: record.user.clone(),
        },
        open_stdin: record.attach[0],
        open_stdout: record.attach[1],
        open_stderr: record.attach[2],
        can_remove: false,
        container_id: exec.container.clone(),
        detach_keys: keys.map(|keys| BASE64.encode(keys.bytes())).unwrap_or_default(),
        pid,
    }
}

fn rows_and_columns([rows, columns]: [u64; 2]) -> (u16, u16) {
    let side = |side: u64| u16::try_from(side).unwrap_or(u16::MAX);
    (side(rows), side(columns))
}

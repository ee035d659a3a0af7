//! Answers about containers that come bit by bit: `logs`, `stats`, `wait`.
//!
//! Headers leave as soon as the handler returns, before the first byte of the body: clients wait for those of `wait` to
//! know that they are registered, and only then start the container.
use std::{convert::Infallible, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{Path, State},
    response::Response,
};
use corten_api::types::container_answers::{WaitError, WaitResponse};
use corten_engine::{
    container::{
        stats::StatsSample,
        view::{LogsOptions, WaitCondition, WaitResult},
    },
    error::Kind,
};
use futures_util::stream;
use serde::Serialize;
use tokio::time::Instant;

use crate::{
    docker::{
        convert::stats::stats as document,
        door::{Door, endless, ok},
        query::Parameters,
        version::{ApiVersion, v},
        versions,
    },
    error::ApiError,
};

const JSON: &str = "application/json";
/// Between two samples.
const PERIOD: Duration = Duration::from_secs(1);

/// `GET /containers/{name}/logs`.
pub async fn logs(
    State(door): State<Door>,
    version: ApiVersion,
    Path(name): Path<String>,
    query: Parameters,
) -> Result<Response, ApiError> {
    let options = LogsOptions {
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        follow: query.flag("follow"),
        timestamps: query.flag("timestamps"),
        details: query.flag("details"),
        since: query.time("since")?,
        until: query.time("until")?,
        // `all`, and whatever else is no number, means all.
        tail: query.get("tail").and_then(|tail| tail.parse().ok()),
    };
    if !options.stdout && !options.stderr {
        return Err(ApiError::invalid("Bad parameters: you must choose at least one stream"));
    }
    let logs = door.engine().containers().logs(&name, options).await?;
    let content_type = versions::stream_type(version, logs.tty);
    Ok(endless(content_type, Body::from_stream(logs)))
}

/// `POST /containers/{name}/wait`.
pub async fn wait(
    State(door): State<Door>,
    version: ApiVersion,
    Path(name): Path<String>,
    query: Parameters,
) -> Result<Response, ApiError> {
    let condition = match query.get("condition").unwrap_or_default() {
        _ if version < v(30) => WaitCondition::NotRunning,
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(ApiError::invalid(format!("invalid condition: \"{other}\""))),
    };
    let end = door.engine().containers().wait(&name, condition).await?;
    if version < v(30) {
        return Ok(ok(&answer(end.await)));
    }
    let removal = condition == WaitCondition::Removed;
    let body = stream::once(async move {
        let result = end.await;
        // Older clients take any answer for success.
        let silent = removal && version < v(34) && result.error.is_some();
        Ok::<_, Infallible>(if silent { Bytes::new() } else { line(&answer(result)) })
    });
    Ok(endless(JSON, Body::from_stream(body)))
}

fn answer(result: WaitResult) -> WaitResponse {
    let error = result.error.map(|message| WaitError { message });
    WaitResponse {
        status_code: result.exit_code,
        error,
    }
}

fn line(document: &impl Serialize) -> Bytes {
    let mut bytes = serde_json::to_vec(document).expect("the API's documents always serialize");
    bytes.push(b'\n');
    Bytes::from(bytes)
}

/// `GET /containers/{name}/stats`.
pub async fn stats(
    State(door): State<Door>,
    version: ApiVersion,
    Path(name): Path<String>,
    query: Parameters,
) -> Result<Response, ApiError> {
    let version_2 = door.host().cgroup_version_2;
    let first = door.engine().containers().stats(&name).await?;
    if query.flag_or("stream", true) {
        return Ok(endless(JSON, Body::from_stream(samples(door, first))));
    }
    let one_shot = version >= v(41) && query.flag("one-shot");
    if one_shot || first.read.is_none() {
        return Ok(ok(&document(&first, None, version_2)));
    }
    tokio::time::sleep(PERIOD).await;
    let second = door.engine().containers().stats(&first.id).await?;
    Ok(ok(&document(&second, Some(&first), version_2)))
}

/// One document a second until the container is gone.
fn samples(door: Door, first: StatsSample) -> impl stream::Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
    let version_2 = door.host().cgroup_version_2;
    let start = (None::<StatsSample>, Instant::now());
    stream::unfold(start, move |(before, due)| {
        let (door, first) = (door.clone(), first.clone());
        async move {
            let sample = match &before {
                None => first,
                Some(before) => {
                    tokio::time::sleep_until(due).await;
                    match door.engine().containers().stats(&before.id).await {
                        Ok(sample) => sample,
                        Err(error) if error.kind() == Kind::NotFound => return None,
                        Err(error) => {
                            tracing::warn!("stats of {}: {error}", before.name);
                            return None;
                        }
                    }
                }
            };
            let bytes = line(&document(&sample, before.as_ref(), version_2));
            Some((Ok(bytes), (Some(sample), due + PERIOD)))
        }
    })
}

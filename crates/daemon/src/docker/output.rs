//! Answers about containers that come bit by bit: `logs`, `stats`, `wait`.
//!
//! Headers leave as soon as the handler returns, before the first byte of the body: clients wait for those of `wait` to
//! know that they are registered, and only then start the container.
use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{Path, State},
    response::Response,
};
use corten_api::types::{
    container_answers::{WaitError, WaitResponse},
    stats::Stats,
};
use corten_engine::container::{
    stats::{Purpose, Reading},
    view::{LogsOptions, WaitCondition, WaitResult},
};
use futures_util::stream;
use serde::Serialize;
use tokio::{sync::watch, time::Instant};

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
/// Between two lists of samples.
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
        since: query.time_but_zero("since")?,
        until: query.time_but_zero("until")?,
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
    if query.flag_or("stream", true) {
        let readings = door.engine().containers().follow_stats(&name).await?;
        return Ok(endless(JSON, Body::from_stream(followed(readings, version_2))));
    }
    let purpose = match version >= v(41) && query.flag("one-shot") {
        true => Purpose::OneShot,
        false => Purpose::Once,
    };
    let readings = door.engine().containers().stats_of(&[&name], purpose).await?;
    Ok(ok(&document(
        &readings.into_iter().next().unwrap_or_default(),
        version_2,
    )))
}

/// One document a second until the container is gone; the first at once.
fn followed(
    readings: watch::Receiver<Arc<Reading>>,
    version_2: bool,
) -> impl stream::Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
    stream::unfold((readings, true), move |(mut readings, first)| async move {
        if !first {
            readings.changed().await.ok()?;
        }
        let reading = Arc::clone(&readings.borrow_and_update());
        Some((Ok(line(&document(&reading, version_2))), (readings, false)))
    })
}

/// `GET /corten/stats`: what `docker stats` shows, in one answer. A list of documents for the containers named, else for all
/// that run (or, with `all`, for all); with `stream` another list a second, each on a line.
pub async fn stats_of_many(State(door): State<Door>, query: Parameters) -> Result<Response, ApiError> {
    let names = query.all("container");
    let all = query.flag("all");
    let first = many(&door, &names, all, Purpose::Once).await?;
    if !query.flag("stream") {
        return Ok(ok(&first));
    }
    let first = line(&first);
    let lines = stream::unfold((Some(first), Instant::now()), move |(first, due)| {
        let (door, names) = (door.clone(), names.clone());
        async move {
            if let Some(first) = first {
                return Some((Ok::<_, Infallible>(first), (None, due + PERIOD)));
            }
            tokio::time::sleep_until(due).await;
            // Of those that were named one is gone: nobody can be told any more about all of them.
            let documents = many(&door, &names, all, Purpose::Watch).await.ok()?;
            Some((Ok(line(&documents)), (None, (due + PERIOD).max(Instant::now()))))
        }
    });
    Ok(endless(JSON, Body::from_stream(lines)))
}

async fn many(door: &Door, names: &[String], all: bool, purpose: Purpose) -> Result<Vec<Stats>, ApiError> {
    let (containers, version_2) = (door.engine().containers(), door.host().cgroup_version_2);
    let readings = match names {
        [] => containers.stats_of_all(all, purpose).await,
        names => {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            containers.stats_of(&names, purpose).await?
        }
    };
    Ok(readings.iter().map(|reading| document(reading, version_2)).collect())
}

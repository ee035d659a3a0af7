//! `stop`, `restart`: a container is told to end, and the patience that goes with it.
//!
//! Waiting happens here, outside the supervisor: it goes on serving others meanwhile.
use std::time::Duration;

use tokio::time::timeout;

use crate::{
    container::handle::{Command, Handle, Snapshot},
    error::{Error, Kind, Result},
    signal,
};

const TIMEOUT_SECONDS: i64 = 10;
/// How long processes that were killed may take to go: then something is wrong with the host.
const KILL_PATIENCE: Duration = Duration::from_secs(20);
/// How long a shim may take to tell of an end.
const SHIM_PATIENCE: Duration = Duration::from_secs(10);
const STOPPING: &str = "cannot stop container:";

/// Fails with kind `NotModified` when it does not run.
pub async fn stop(handle: &Handle, signal: Option<&str>, timeout_seconds: Option<i64>) -> Result<()> {
    end(handle, signal, timeout_seconds, false).await
}

async fn end(handle: &Handle, signal: Option<&str>, timeout_seconds: Option<i64>, restart: bool) -> Result<()> {
    let snapshot = handle.snapshot();
    if !snapshot.state.phase.is_up() {
        return Err(Error::new(
            Kind::NotModified,
            format!("container {} is already stopped", handle.id),
        ));
    }
    let config = &snapshot.record.config;
    let name = signal.or(config.stop_signal.as_deref()).filter(|name| !name.is_empty());
    let number = name.map_or(Ok(signal::TERM), signal::parse)?;
    let seconds = timeout_seconds
        .or(config.stop_timeout_seconds)
        .unwrap_or(TIMEOUT_SECONDS);

    handle.ask(|reply| Command::MarkStopped { restart, reply }).await?;
    // From here on its policy starts it no more, and the next end is the last.
    let exits = handle.snapshot().exits;
    let ended = |now: &Snapshot| now.removed || now.exits > exits || !now.state.phase.is_up();
    match handle.ask(|reply| Command::Signal { number, reply }).await {
        Ok(()) => {
            let patience = u64::try_from(seconds).map(Duration::from_secs);
            let wait = handle.wait_until(ended);
            let gone = match patience {
                Ok(patience) => timeout(patience, wait).await.is_ok(),
                // Negative: for ever.
                Err(_) => {
                    wait.await;
                    true
                }
            };
            if !gone {
                kill_all(handle, STOPPING, None, ended).await?;
            }
        }
        // It is ending by itself.
        Err(error) if matches!(error.kind(), Kind::Conflict | Kind::NotFound) => {
            kill_all(handle, STOPPING, None, ended).await?;
        }
        Err(error) => return Err(error),
    }
    tell(handle, "stop").await;
    Ok(())
}

/// SIGKILL to all of it, and the wait for its end. `doing` is how the error begins.
pub async fn kill_all(
    handle: &Handle,
    doing: &str,
    removal: Option<bool>,
    ended: impl Fn(&Snapshot) -> bool + Copy,
) -> Result<()> {
    match handle.ask(|reply| Command::KillAll { removal, reply }).await {
        // The latter: it is ending by itself.
        Err(error) if !matches!(error.kind(), Kind::Conflict | Kind::NotFound) => return Err(error),
        _ => {}
    }
    if timeout(SHIM_PATIENCE, handle.wait_until(ended)).await.is_ok() {
        return Ok(());
    }
    match handle.ask(|reply| Command::Bury { reply }).await {
        Err(error) if error.kind() != Kind::NotFound => return Err(error),
        _ => {}
    }
    if timeout(KILL_PATIENCE, handle.wait_until(ended)).await.is_err() {
        return Err(Error::system(format!(
            "{doing} {}: its processes were killed but do not end (waiting for a disk or network?)",
            handle.id
        )));
    }
    Ok(())
}

pub async fn restart(handle: &Handle, signal: Option<&str>, timeout_seconds: Option<i64>) -> Result<()> {
    match end(handle, signal, timeout_seconds, true).await {
        Err(error) if error.kind() != Kind::NotModified => return Err(error),
        _ => {}
    }
    match handle.ask(|reply| Command::Start { reply }).await {
        Err(error) if error.kind() != Kind::NotModified => return Err(error),
        _ => {}
    }
    tell(handle, "restart").await;
    Ok(())
}

/// An event that comes after others of the supervisor's. A container that is gone has told its last.
async fn tell(handle: &Handle, action: &str) {
    let _ = handle
        .ask(|reply| Command::Tell {
            action: action.to_owned(),
            reply,
        })
        .await;
}

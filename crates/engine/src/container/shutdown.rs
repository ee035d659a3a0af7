//! The engine ends, and containers are to end with it (`live-restore: false`).
//!
//! They are stopped all at once, each with its own signal and patience but none beyond the engine's. Nobody is marked as
//! stopped by a user: what restart policies bring back, the next engine brings back.
use std::time::Duration;

use tokio::{task::JoinSet, time::timeout};

use crate::{
    container::{
        handle::{Command, Handle, Snapshot},
        table::Table,
    },
    error::Result,
    signal,
};

/// Of containers that do not say otherwise.
const TIMEOUT_SECONDS: i64 = 10;
/// How long processes that were killed may take to go.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// `timeout_seconds` bounds every container's patience; negative means that each may take its own.
pub async fn stop_all(table: &Table, timeout_seconds: i64) {
    let mut stops = JoinSet::new();
    for handle in table.handles() {
        if handle.snapshot().state.phase.is_running() {
            stops.spawn(async move {
                if let Err(error) = end(&handle, timeout_seconds).await {
                    tracing::error!(container = %handle.id, "cannot stop a container at the daemon's end: {error}");
                }
            });
        }
    }
    while stops.join_next().await.is_some() {}
}

async fn end(handle: &Handle, limit_seconds: i64) -> Result<()> {
    let snapshot = handle.snapshot();
    let exits = snapshot.exits;
    let ended = |snapshot: &Snapshot| snapshot.removed || snapshot.exits > exits;
    let config = &snapshot.record.config;
    let name = config.stop_signal.as_deref().filter(|name| !name.is_empty());
    let number = name.map_or(Ok(signal::TERM), signal::parse)?;
    // One that ends by itself meanwhile needs no signal.
    let _ = handle.ask(|reply| Command::Signal { number, reply }).await;
    let own = config.stop_timeout_seconds.unwrap_or(TIMEOUT_SECONDS);
    let gone = match patience(own, limit_seconds) {
        Some(patience) => timeout(patience, handle.wait_until(ended)).await.is_ok(),
        None => {
            handle.wait_until(ended).await;
            true
        }
    };
    if !gone {
        let _ = handle.ask(|reply| Command::KillAll { removal: None, reply }).await;
        let _ = timeout(KILL_PATIENCE, handle.wait_until(ended)).await;
    }
    Ok(())
}

/// The shorter of the two; negative means for ever.
fn patience(own_seconds: i64, limit_seconds: i64) -> Option<Duration> {
    let limits = [own_seconds, limit_seconds].map(u64::try_from).into_iter().flatten();
    limits.min().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_patience_holds() {
        let seconds = |own, limit| patience(own, limit).map(|patience| patience.as_secs());
        assert_eq!(seconds(10, 15), Some(10));
        assert_eq!(seconds(60, 15), Some(15));
        assert_eq!(seconds(-1, 15), Some(15));
        assert_eq!(seconds(60, -1), Some(60));
        assert_eq!(seconds(-1, -1), None);
    }
}

//! `wait`: registered at once, answered when the condition holds.
use std::{future::Future, pin::Pin};

use crate::container::{
    handle::{Handle, Snapshot},
    state::Phase,
    view::{WaitCondition, WaitResult},
};

pub type Waiting = Pin<Box<dyn Future<Output = WaitResult> + Send + 'static>>;

/// What the container is now is the beginning: what happens from here on is not missed.
pub fn wait(handle: Handle, condition: WaitCondition) -> Waiting {
    let now = handle.snapshot();
    let rests = !now.state.phase.is_up();
    Box::pin(async move {
        let met = move |snapshot: &Snapshot| match condition {
            WaitCondition::NotRunning => rests || snapshot.removed || snapshot.exits > now.exits,
            WaitCondition::NextExit => snapshot.removed || snapshot.exits > now.exits,
            // A container that cannot be removed is not waited for for ever.
            WaitCondition::Removed => snapshot.removed || snapshot.state.phase == Phase::Dead,
        };
        let last = handle.wait_until(met).await;
        let failed = condition == WaitCondition::Removed && !last.removed;
        WaitResult {
            exit_code: i64::from(last.state.exit_code),
            error: failed.then(|| last.state.error.clone()),
        }
    })
}

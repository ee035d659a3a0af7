//! Events: what happened to which object, in order.
//!
//! A subscriber gets history and future in one step, so nothing falls between the two. A subscriber that does not keep
//! up loses the oldest events (the channel reports how many), never the engine its time. The history is this daemon's
//! own: writing every event down would cost each start more than it is worth.
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use jiff::Timestamp;
use tokio::sync::broadcast;

/// How many events `since` can reach back to.
const HISTORY: usize = 1024;
/// How far a subscriber may fall behind.
const BACKLOG: usize = 4096;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `container`, `image`, `volume`, `network`, `daemon`.
    pub kind: String,
    /// `create`, `start`, `die`, …
    pub action: String,
    /// The object's id (for images the reference or id).
    pub actor: String,
    /// `name`, `image`, labels, `exitCode`, …
    pub attributes: BTreeMap<String, String>,
    /// Nanoseconds since the epoch; strictly growing within one daemon.
    pub time_nanoseconds: i64,
}

/// Where events are told and heard. Clones speak to the same audience.
#[derive(Debug, Clone)]
pub struct EventBus {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    history: Mutex<History>,
    sender: broadcast::Sender<Arc<Event>>,
}

#[derive(Debug, Default)]
struct History {
    published: u64,
    last_nanoseconds: i64,
    ring: VecDeque<Arc<Event>>,
}

impl Default for EventBus {
    fn default() -> EventBus {
        EventBus::new()
    }
}

impl EventBus {
    pub fn new() -> EventBus {
        EventBus {
            shared: Arc::new(Shared {
                history: Mutex::default(),
                sender: broadcast::channel(BACKLOG).0,
            }),
        }
    }

    /// Tells everybody, now.
    pub fn publish(
        &self,
        kind: &str,
        action: impl Into<String>,
        actor: impl Into<String>,
        attributes: BTreeMap<String, String>,
    ) {
        let (action, actor) = (action.into(), actor.into());
        let mut history = self.shared.history.lock().expect("no panic while locked");
        let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        let time_nanoseconds = now.max(history.last_nanoseconds + 1);
        history.last_nanoseconds = time_nanoseconds;
        history.published += 1;
        let event = Arc::new(Event {
            kind: kind.to_owned(),
            action,
            actor,
            attributes,
            time_nanoseconds,
        });
        if history.ring.len() == HISTORY {
            history.ring.pop_front();
        }
        history.ring.push_back(Arc::clone(&event));
        // An error only says that nobody listens. Sent under the lock, so that subscribers see the ring's order.
        let _ = self.shared.sender.send(event);
    }

    /// What happened at or after `since` (nothing when absent), and everything that happens from now on.
    pub fn subscribe(&self, since: Option<i64>) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let history = self.shared.history.lock().expect("no panic while locked");
        let past = match since {
            None => Vec::new(),
            Some(since) => {
                let recent = |event: &&Arc<Event>| event.time_nanoseconds >= since;
                history.ring.iter().filter(recent).cloned().collect()
            }
        };
        (past, self.shared.sender.subscribe())
    }

    /// How many events there were.
    pub fn published(&self) -> u64 {
        self.shared.history.lock().expect("no panic while locked").published
    }

    /// How many listen: `NEventsListener` of `/info`.
    pub fn listeners(&self) -> usize {
        self.shared.sender.receiver_count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_grow_strictly_and_history_meets_future() {
        let bus = EventBus::new();
        for number in 0..HISTORY + 10 {
            bus.publish("container", "create", number.to_string(), BTreeMap::new());
        }
        let (past, mut future) = bus.subscribe(Some(0));
        assert_eq!(past.len(), HISTORY);
        assert!(
            past.windows(2)
                .all(|pair| pair[0].time_nanoseconds < pair[1].time_nanoseconds)
        );
        bus.publish("container", "start", "next", BTreeMap::new());
        let next = future.try_recv().expect("told at once");
        assert_eq!(next.actor, "next");
        assert!(next.time_nanoseconds > past[HISTORY - 1].time_nanoseconds);
        let since = past[HISTORY - 1].time_nanoseconds;
        assert_eq!(bus.subscribe(Some(since)).0.len(), 2);
        assert!(bus.subscribe(None).0.is_empty());
    }
}

//! A container as its supervisor holds it: the only place where its state changes.
//!
//! The verbs are in files of their own (`start.rs`, `exit.rs`, …), each an `impl Supervised`; `supervisor.rs` calls them.
use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{RwLock, watch};
use tokio_util::sync::DropGuard;

use crate::{
    container::{
        etc::LinkTarget,
        handle::{Attacher, Snapshot},
        record::Record,
        restart::Restarts,
        state::State,
        table::Table,
    },
    context::Context,
    error::{Error, Result},
    task::launch::Task,
};

/// Of containers in the store.
pub const KIND: &str = "container";

/// What the store keeps for a container: one document, written as a whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Document<R = Record, S = State> {
    pub record: R,
    pub state: S,
}

pub struct Supervised {
    pub context: Arc<Context>,
    pub table: Arc<Table>,
    pub record: Arc<Record>,
    pub state: State,
    pub exits: u64,
    pub restarts: Restarts,
    /// Its running side, while there is one.
    pub task: Option<Task>,
    /// Who waits for the next start.
    pub waiting: Vec<Attacher>,
    /// What its /etc/hosts says of containers that it has links to, where that is known.
    pub links: Option<Vec<LinkTarget>>,
    pub removed: bool,
    /// Dropping it ends the checks of its health.
    pub health_watch: Option<DropGuard>,
    pub watch: watch::Sender<Snapshot>,
    /// As in its handle.
    pub writing: Arc<RwLock<()>>,
}

impl Supervised {
    /// Shows everybody what it is now.
    pub fn show(&self) {
        self.watch.send_replace(Snapshot {
            record: Arc::clone(&self.record),
            state: Arc::new(self.state.clone()),
            exits: self.exits,
            removed: self.removed,
            cgroup: self.task.as_ref().map(|task| Arc::clone(&task.cgroup)),
        });
    }

    /// Writes record and state down.
    pub fn save(&self) -> Result<()> {
        save(&self.context, &self.record, &self.state)
    }

    /// Writes them down where failing must not stop what has happened already; the next daemon finds out by itself.
    /// True when they are written.
    pub fn save_or_warn(&self) -> bool {
        let saved = self.save();
        if let Err(error) = &saved {
            tracing::error!(container = %self.record.id, %error, "cannot save the container's state");
        }
        saved.is_ok()
    }

    /// Tells the world, with the attributes that every event of a container has.
    pub fn tell(&self, action: &str, more: &[(&str, String)]) {
        tell(&self.context, &self.record, action, more);
    }

    pub fn short_name(&self) -> &str {
        &self.record.name
    }
}

pub fn save(context: &Context, record: &Record, state: &State) -> Result<()> {
    let document = serde_json::to_string(&Document { record, state })
        .map_err(|error| Error::system("a container's record cannot be written").because(error))?;
    context
        .store
        .put_record(KIND, &record.id, Some(&record.name), &document)
        .map_err(|error| Error::system(format!("cannot save container {}", record.name)).because(error))
}

pub fn tell(context: &Context, record: &Record, action: &str, more: &[(&str, String)]) {
    let mut attributes: BTreeMap<String, String> = record.config.labels.clone();
    attributes.insert("image".to_owned(), record.config.image.clone());
    attributes.insert("name".to_owned(), record.name.clone());
    for (key, value) in more {
        attributes.insert((*key).to_owned(), value.clone());
    }
    context.events.publish(KIND, action, record.id.as_str(), attributes);
}

/// Nanoseconds since the epoch, as shims count.
pub fn timestamp(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default()
}

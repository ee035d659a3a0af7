//! A container's state, and the only ways between states.
//!
//! `Created` → `Starting` → `Running` ⇄ `Paused` → `Exited` → `Starting` …; anything at rest → `Removing`;
//! `Removing` → `Dead` when something of it cannot be freed. A restart policy puts `Restarting` between an end and the
//! next start.
use corten_api::types::container::HostConfig;
use corten_network::model::Attachment;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::container::health::Health;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    Created,
    Starting,
    Running,
    Paused,
    Exited,
    Removing,
    Dead,
    /// It ended, and waits for its restart policy to start it again.
    Restarting,
}

impl Phase {
    /// Docker's word for it (`State.Status`).
    pub fn status(self) -> &'static str {
        match self {
            Phase::Created | Phase::Starting => "created",
            Phase::Running => "running",
            Phase::Paused => "paused",
            Phase::Exited => "exited",
            Phase::Removing => "removing",
            Phase::Dead => "dead",
            Phase::Restarting => "restarting",
        }
    }

    /// Has it a living process?
    pub fn is_running(self) -> bool {
        matches!(self, Phase::Running | Phase::Paused)
    }

    /// Does it count as running for whoever wants to stop, remove or list it? One that waits for its restart does.
    pub fn is_up(self) -> bool {
        self.is_running() || self == Phase::Restarting
    }
}

/// All that changes while a container lives. Saved with its record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub phase: Phase,
    /// Of the first process, in the host's PID namespace; 0 when there is none.
    pub pid: i32,
    pub exit_code: i32,
    pub oom_killed: bool,
    /// Why the last start failed, or why the container ended for a reason of ours; empty otherwise.
    pub error: String,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub restart_count: u32,
    /// Was it stopped by a user (which restart policies respect)?
    pub stopped_by_user: bool,
    /// Paused by the engine for a moment (`commit`), not by a user.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// Its addresses and published ports, while it runs with networks of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<Attachment>,
    /// Where it has a check. Saved when the status changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// While an update of a running container's limits is under way: what they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_limits: Option<Box<HostConfig>>,
}

impl Default for State {
    fn default() -> State {
        State {
            phase: Phase::Created,
            pid: 0,
            exit_code: 0,
            oom_killed: false,
            error: String::new(),
            started_at: None,
            finished_at: None,
            restart_count: 0,
            stopped_by_user: false,
            held: false,
            attachment: None,
            health: None,
            former_limits: None,
        }
    }
}

impl State {
    /// The one way from state to state. What is not allowed here cannot happen: verbs check before they act.
    pub fn go(&mut self, next: Phase) {
        use Phase::{Created, Dead, Exited, Paused, Removing, Restarting, Running, Starting};
        let allowed = match self.phase {
            Created => matches!(next, Starting | Removing | Exited),
            // A failed start goes back to where it came from, or is an end like any other.
            Starting => matches!(next, Running | Created | Exited | Restarting),
            Running => matches!(next, Paused | Exited | Restarting),
            Paused => matches!(next, Running | Exited | Restarting),
            Restarting => matches!(next, Starting | Exited),
            Exited => matches!(next, Starting | Removing),
            Removing => matches!(next, Dead | Created | Exited),
            Dead => matches!(next, Removing),
        };
        debug_assert!(allowed, "no way from {:?} to {next:?}", self.phase);
        self.phase = next;
    }
}

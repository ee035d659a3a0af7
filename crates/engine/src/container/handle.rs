//! A container from outside: what it is at the moment, and a way to ask its supervisor for something.
//!
//! Everyone reads; only the supervisor changes. A handle outlives its container: what was removed says so.
use std::{os::fd::OwnedFd, sync::Arc};

use corten_api::types::network::EndpointSettings;
use corten_runtime::cgroup::manager::Cgroup;
use tokio::sync::{RwLock, mpsc, oneshot, watch};

use crate::{
    container::{
        exec::Exec,
        health::{Probe, Status},
        record::Record,
        state::State,
        view::UpdateOptions,
    },
    error::{Error, Result},
};

/// A container at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub record: Arc<Record>,
    /// Another one for each change: who still holds the same one has missed nothing.
    pub state: Arc<State>,
    /// How often it has ended since the daemon runs: tells one end from the next.
    pub exits: u64,
    /// It is gone, with all that belonged to it.
    pub removed: bool,
    /// Its control group, while it runs.
    pub cgroup: Option<Arc<Cgroup>>,
}

pub type Reply<T> = oneshot::Sender<Result<T>>;

/// What a supervisor can be asked for. Each is answered soon: what takes long (a stop's patience) is waited for outside.
#[derive(Debug)]
pub enum Command {
    Start {
        reply: Reply<()>,
    },
    /// A signal to the first process.
    Signal {
        number: i32,
        reply: Reply<()>,
    },
    /// SIGKILL to every process; with `removal` (of its anonymous volumes too?) its end is its removal.
    KillAll {
        removal: Option<bool>,
        reply: Reply<()>,
    },
    Pause {
        reply: Reply<()>,
    },
    Unpause {
        reply: Reply<()>,
    },
    Resize {
        rows: u16,
        columns: u16,
        reply: Reply<()>,
    },
    Attach {
        attacher: Attacher,
        reply: Reply<()>,
    },
    /// Starts one more process; `client` is the shim's end of a stream socket pair.
    Exec {
        exec: Arc<Exec>,
        plan: OwnedFd,
        client: Option<OwnedFd>,
        /// Is it to be known when the program runs?
        confirm: bool,
        reply: Reply<()>,
    },
    ResizeExec {
        exec: Arc<Exec>,
        rows: u16,
        columns: u16,
        reply: Reply<()>,
    },
    SignalExec {
        exec: Arc<Exec>,
        number: i32,
        reply: Reply<()>,
    },
    /// A check of its health has found something; the status where that changed it.
    Probe {
        probe: Probe,
        reply: Reply<Option<Status>>,
    },
    /// Tells an event about an exec.
    TellExec {
        exec: Arc<Exec>,
        action: String,
        reply: Reply<()>,
    },
    Rename {
        name: String,
        reply: Reply<()>,
    },
    /// Other limits, another restart policy.
    Update {
        options: Box<UpdateOptions>,
        reply: Reply<()>,
    },
    /// Joins a network, by name or id.
    Connect {
        network: String,
        wish: Box<EndpointSettings>,
        reply: Reply<()>,
    },
    /// Leaves a network; with `force` one that does not exist any more.
    Disconnect {
        network: String,
        force: bool,
        reply: Reply<()>,
    },
    /// Forgets a link.
    Unlink {
        alias: String,
        reply: Reply<()>,
    },
    /// A container that it has a link to may have another address.
    RefreshLinks {
        reply: Reply<()>,
    },
    /// A user wants it stopped, and with `restart` started again: restart policies respect that.
    MarkStopped {
        restart: bool,
        reply: Reply<()>,
    },
    /// Its processes were killed long ago: what keeps its end from being told?
    Bury {
        reply: Reply<()>,
    },
    /// The turn of one that waits to be brought back after a start of the daemon.
    Retry {
        reply: Reply<()>,
    },
    /// Tells an event about it, in its place among the others.
    Tell {
        action: String,
        reply: Reply<()>,
    },
    /// Its first process, while it runs: number and pidfd.
    Process {
        reply: Reply<Option<(i32, OwnedFd)>>,
    },
    /// Freezes it for as long as something is read from it; says whether that was needed.
    Hold {
        reply: Reply<bool>,
    },
    /// Lets it go on where [`Command::Hold`] froze it.
    LetGo {
        reply: Reply<()>,
    },
    /// Its control group, while it runs.
    Cgroup {
        reply: Reply<Arc<Cgroup>>,
    },
    /// Only at rest.
    Remove {
        volumes: bool,
        reply: Reply<()>,
    },
}

/// One who reads a container's output or writes its input.
#[derive(Debug)]
pub struct Attacher {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// The shim's end of a stream socket pair.
    pub socket: OwnedFd,
}

/// Clones speak to the same container.
#[derive(Debug, Clone)]
pub struct Handle {
    pub id: Arc<str>,
    pub watch: watch::Receiver<Snapshot>,
    pub commands: mpsc::Sender<Command>,
    /// Held by who writes into its files from outside; alone, while it is at rest. A start waits for it.
    pub writing: Arc<RwLock<()>>,
}

impl Handle {
    pub fn snapshot(&self) -> Snapshot {
        self.watch.borrow().clone()
    }

    pub fn record(&self) -> Arc<Record> {
        Arc::clone(&self.watch.borrow().record)
    }

    /// Sends a command and waits for its answer.
    pub async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        // Both failures mean that the supervisor is gone, and so is the container.
        let gone = || Error::not_found(format!("No such container: {}", self.id));
        self.commands.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Waits until the container is as `wanted`. A container that is gone answers with its last state.
    pub async fn wait_until(&self, wanted: impl FnMut(&Snapshot) -> bool) -> Snapshot {
        let mut watch = self.watch.clone();
        let found = watch.wait_for(wanted).await.map(|snapshot| snapshot.clone());
        found.unwrap_or_else(|_| self.snapshot())
    }
}

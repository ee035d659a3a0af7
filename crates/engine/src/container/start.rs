//! `start`: a container gets its running side.
use corten_runtime::shim::protocol::{Failure, FailureKind};

use crate::{
    container::{attachment, handle::Attacher, links, state::Phase, supervised::Supervised},
    error::{Error, Kind, Result},
    task::launch::{self, Task},
};

impl Supervised {
    pub async fn start(&mut self) -> Result<()> {
        let name = self.short_name();
        match self.state.phase {
            Phase::Created | Phase::Exited => {}
            Phase::Running | Phase::Starting => {
                return Err(Error::new(
                    Kind::NotModified,
                    format!("container {name} is already started"),
                ));
            }
            Phase::Paused => {
                return Err(Error::conflict("cannot start a paused container, try unpause instead"));
            }
            Phase::Removing | Phase::Dead => {
                return Err(Error::conflict("container is marked for removal and cannot be started"));
            }
        }
        let before = self.state.phase;
        self.state.go(Phase::Starting);
        self.show();
        let attachers = std::mem::take(&mut self.waiting);
        match self.bring_up(attachers).await {
            Ok(task) => {
                self.state.go(Phase::Running);
                self.state.pid = task.state.pid;
                self.state.exit_code = 0;
                self.state.oom_killed = false;
                self.state.error.clear();
                self.state.stopped_by_user = false;
                self.state.started_at = Some(task.started_at);
                self.task = Some(task);
                self.save_or_warn();
                self.tell_connected();
                self.tell("start", &[]);
                self.show();
                self.tell_who_links_here();
                Ok(())
            }
            Err(trouble) => {
                self.release_quietly();
                Err(self.failed_to_start(trouble, before))
            }
        }
    }

    /// Addresses and ports first, because they are what others may have; then the process; then its interfaces, before
    /// its program runs.
    async fn bring_up(&mut self, attachers: Vec<Attacher>) -> Result<Task, Trouble> {
        let shared = self.shared_network()?;
        let linked = links::linked(&self.record, &self.table)?;
        let (targets, environment): (_, Vec<_>) = linked
            .into_iter()
            .map(|linked| (linked.target, linked.environment))
            .unzip();
        self.links = Some(targets);
        self.state.attachment = self.reserve().await?;
        self.write_etc()?;
        let created = launch::create(&self.context, &self.record, shared.as_ref(), &environment.concat()).await?;
        if let Some(attachment) = &self.state.attachment {
            attachment::attach(&self.context, attachment, created.state.pid, created.directory())?;
        }
        Ok(created.start(attachers).await?)
    }

    fn failed_to_start(&mut self, trouble: Trouble, before: Phase) -> Error {
        let Trouble { error, exit_code } = trouble;
        self.state.go(before);
        self.state.exit_code = exit_code;
        self.state.error = error.to_string();
        if self.record.host_config.auto_remove {
            // Nobody could ever start it again: it goes, as it would have after its end.
            if let Err(error) = self.remove(true) {
                tracing::error!(container = %self.record.id, %error, "cannot remove a container that did not start");
            }
        } else {
            self.save_or_warn();
        }
        self.show();
        error
    }
}

/// Why a container did not start, and the exit code that it has then.
pub struct Trouble {
    error: Error,
    exit_code: i32,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble { error, exit_code: 128 }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Trouble {
        let (kind, exit_code) = match failure.kind {
            FailureKind::NotFound => (Kind::Invalid, 127),
            FailureKind::NotExecutable => (Kind::Invalid, 126),
            FailureKind::Invalid => (Kind::Invalid, 128),
            FailureKind::Gone | FailureKind::System => (Kind::System, 128),
        };
        // Clients tell these apart by words inside the message, which they know with this frame around it.
        let message = match failure.kind {
            FailureKind::Invalid => failure.message,
            _ => format!(
                "failed to create task for container: failed to create shim task: OCI runtime create failed: {}: unknown",
                failure.message
            ),
        };
        Trouble {
            error: Error::new(kind, message),
            exit_code,
        }
    }
}

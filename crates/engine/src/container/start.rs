//! `start`: a container gets its running side.
use corten_runtime::shim::protocol::{Failure, FailureKind};

use crate::{
    container::{state::Phase, supervised::Supervised},
    error::{Error, Kind, Result},
    task::launch,
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
        match launch::launch(&self.context, &self.record, attachers).await {
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
                self.tell("start", &[]);
                self.show();
                Ok(())
            }
            Err(failure) => Err(self.failed_to_start(failure, before)),
        }
    }

    fn failed_to_start(&mut self, failure: Failure, before: Phase) -> Error {
        let (kind, code) = match failure.kind {
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
        self.state.go(before);
        self.state.exit_code = code;
        self.state.error.clone_from(&message);
        if self.record.host_config.auto_remove {
            // Nobody could ever start it again: it goes, as it would have after its end.
            if let Err(error) = self.remove(true) {
                tracing::error!(container = %self.record.id, %error, "cannot remove a container that did not start");
            }
        } else {
            self.save_or_warn();
        }
        self.show();
        Error::new(kind, message)
    }
}

//! The end of a container's running side: told by its shim, or found out when the shim is gone.
use corten_runtime::{
    shim::protocol::{Event, Exit},
    state,
};
use jiff::Timestamp;
use rustix::process::Signal;

use crate::{
    container::{
        state::Phase,
        supervised::{Supervised, timestamp},
    },
    context,
    error::{Error, causes},
    task::launch,
};

/// As a shell says SIGKILL.
const KILLED: i32 = 137;

impl Supervised {
    /// Something came from the shim; `None` when the shim itself is gone.
    pub async fn hear(&mut self, event: Option<Event>) {
        match event {
            Some(Event::OutOfMemory) => {
                self.state.oom_killed = true;
                self.tell("oom", &[]);
                self.show();
            }
            Some(Event::Exited(exit)) => self.ended(exit).await,
            // Of a start that is over.
            Some(Event::Network { .. }) => {}
            Some(Event::ExecRuns { id }) => self.exec_runs(&id),
            Some(Event::ExecEnded(exit)) => self.exec_ended(exit),
            None => self.lost().await,
        }
    }

    /// The shim died: nobody holds the container's output any more, so it ends.
    async fn lost(&mut self) {
        let Some(task) = self.task.take() else { return };
        let directory = self.context.store.layout().task(&self.record.id);
        if let Ok(Some(exit)) = state::read_exit(&directory) {
            // It had finished its work, and died before it could tell.
            return self.ended(exit).await;
        }
        let _ = rustix::process::pidfd_send_signal(&task.pidfd, Signal::KILL);
        let left = task.state;
        let cleaned = context::blocking(move || state::clean_up(&left).map_err(|error| Error::system(causes(&error))));
        if let Err(error) = cleaned.await {
            tracing::error!(container = %self.record.id, %error, "cannot clean up after a shim that died");
        }
        self.ended(Exit {
            code: KILLED,
            out_of_memory: false,
            at_nanoseconds: i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX),
            reason: Some("the container's shim died unexpectedly; the container was killed".to_owned()),
        })
        .await;
    }

    /// Writes the end down, then tells it. The task's directory goes last: until then it is the only witness.
    pub async fn ended(&mut self, exit: Exit) {
        self.task = None;
        self.end_execs();
        self.end_health();
        if exit.out_of_memory && !self.state.oom_killed {
            self.tell("oom", &[]);
        }
        self.release().await;
        self.release_sources().await;
        self.tell_unmounted();
        self.record_end(&exit);
        let by_itself = self.record.host_config.auto_remove && !self.restarts.by_user;
        let removal = self.restarts.removal.take().or(by_itself.then_some(true));
        if removal.is_none() && self.save_or_warn() {
            launch::discard(&self.context.store.layout().task(&self.record.id));
        }
        let seconds = self
            .state
            .started_at
            .zip(self.state.finished_at)
            .map_or(0, |(start, end)| end.duration_since(start).as_secs().max(0));
        self.tell(
            "die",
            &[
                ("exitCode", exit.code.to_string()),
                ("execDuration", seconds.to_string()),
            ],
        );
        self.show();
        let Some(volumes) = removal.filter(|_| self.state.phase == Phase::Exited) else {
            return;
        };
        if let Err(error) = self.remove(volumes) {
            tracing::error!(container = %self.record.id, %error, "cannot remove a container that ended");
            self.state.go(Phase::Removing);
            self.state.go(Phase::Dead);
            self.state.error = error.to_string();
            self.save_or_warn();
            self.show();
        }
    }

    fn record_end(&mut self, exit: &Exit) {
        self.state.pid = 0;
        self.state.exit_code = exit.code;
        self.state.oom_killed |= exit.out_of_memory;
        self.state.error = exit.reason.clone().unwrap_or_default();
        self.state.finished_at = Some(timestamp(exit.at_nanoseconds));
        self.exits += 1;
        let ran = self.state.started_at.zip(self.state.finished_at);
        let ran = ran.map(|(start, end)| end.duration_since(start));
        self.rest_or_restart(ran.and_then(|ran| ran.try_into().ok()).unwrap_or_default());
    }
}

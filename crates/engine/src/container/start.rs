//! `start`: a container gets its running side.
use std::{path::PathBuf, sync::Arc, time::Duration};

use corten_runtime::rootfs::view;
use jiff::Timestamp;
use tokio::sync::OwnedRwLockWriteGuard;

use crate::{
    container::{attachment, files, handle::Attacher, links, restart::Restarts, state::Phase, supervised::Supervised},
    error::{Error, Kind, Result},
    task::launch::{self, Shared, Task, Trouble},
};

impl Supervised {
    pub async fn start(&mut self) -> Result<()> {
        let name = self.short_name();
        match self.state.phase {
            Phase::Created | Phase::Exited => {}
            Phase::Running | Phase::Starting | Phase::Restarting => {
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
        self.state.restart_count = 0;
        self.restarts = Restarts::default();
        self.launch().await
    }

    /// Whoever looks meanwhile sees what it was before.
    pub async fn launch(&mut self) -> Result<()> {
        let before = self.state.phase;
        self.state.go(Phase::Starting);
        let _alone = self.wait_for_writers().await;
        let attachers = std::mem::take(&mut self.waiting);
        match self.bring_up(attachers).await {
            Ok(task) => {
                self.state.go(Phase::Running);
                self.state.pid = task.state.pid;
                self.state.exit_code = 0;
                self.state.oom_killed = false;
                self.state.error.clear();
                self.state.stopped_by_user = false;
                self.restarts.end_is_wanted = false;
                self.restarts.by_user = false;
                self.state.started_at = Some(task.started_at);
                self.task = Some(task);
                self.begin_health();
                self.save_or_warn();
                self.tell_connected();
                self.tell_mounted();
                self.tell("start", &[]);
                self.show();
                self.tell_who_links_here();
                Ok(())
            }
            Err(trouble) => {
                self.release_quietly();
                self.release_sources().await;
                Err(self.failed_to_start(trouble, before))
            }
        }
    }

    /// Whoever writes into the container's files from outside comes to his end first, and nobody begins before it runs.
    async fn wait_for_writers(&self) -> OwnedRwLockWriteGuard<()> {
        let alone = Arc::clone(&self.writing).write_owned().await;
        // Left by a daemon that was killed while it had the layer mounted.
        let work = files::layers(&self.context, &self.record).work;
        if let Err(error) = view::forget_volatile(&work) {
            tracing::warn!(container = %self.record.id, %error, "cannot tidy up a writable layer");
        }
        alone
    }

    /// Addresses and ports first, because they are what others may have; then the process; its interfaces while it
    /// prepares itself, and before its program runs.
    async fn bring_up(&mut self, attachers: Vec<Attacher>) -> Result<Task, Trouble> {
        self.context
            .keeper
            .prepare(&self.record, self.context.store.layout())
            .await?;
        let shared = Shared {
            network: self.shared_network()?,
            pid: self.shared_pid()?,
            ipc: self.shared_ipc()?,
        };
        let linked = links::linked(&self.record, &self.table)?;
        let (targets, environment): (_, Vec<_>) = linked
            .into_iter()
            .map(|linked| (linked.target, linked.environment))
            .unzip();
        self.links = Some(targets);
        self.state.attachment = self.reserve().await?;
        self.write_etc()?;
        let (context, attachment) = (Arc::clone(&self.context), self.state.attachment.clone());
        let reach = self.reach();
        let plug = |pid, directory: PathBuf| async move {
            match attachment {
                Some(attachment) => attachment::attach(context, attachment, reach, pid, directory).await,
                None => Ok(()),
            }
        };
        let environment = environment.concat();
        let sources = self.prepare_sources().await?;
        let created = launch::create(&self.context, &self.record, &shared, &environment, sources, plug).await?;
        Ok(created.start(attachers).await?)
    }

    fn failed_to_start(&mut self, trouble: Trouble, before: Phase) -> Error {
        let Trouble { error, exit_code } = trouble;
        self.restarts.by_user = false;
        self.state.exit_code = exit_code;
        self.state.error = error.to_string();
        if before == Phase::Restarting {
            // An end like any other, but for the event: it never started.
            self.state.finished_at = Some(Timestamp::now());
            self.exits += 1;
            self.rest_or_restart(Duration::ZERO);
        } else {
            self.state.go(before);
        }
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

//! What a supervisor asks of a running container's shim and cgroup: signals, pause, terminal size, attachers.
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use corten_runtime::{
    cgroup::manager::Cgroup,
    shim::protocol::{FailureKind, Reply, ToShim},
    state,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use crate::{
    container::{handle::Attacher, state::Phase, supervised::Supervised},
    context,
    error::{Error, Kind, Result, causes},
    signal,
    task::launch,
};

impl Supervised {
    pub async fn signal(&mut self, number: i32) -> Result<()> {
        if self.is_meant_to_end(number) || self.state.phase == Phase::Restarting {
            self.mark_stopped();
        }
        if self.state.phase == Phase::Restarting {
            self.give_up_restarting();
            return Ok(());
        }
        self.send_signal(number)?;
        self.tell("kill", &[("signal", number.to_string())]);
        // A frozen process takes no signal: what should end it must thaw it.
        if self.state.phase == Phase::Paused && (number == signal::KILL || number == self.stop_signal()) {
            self.thaw().await?;
        }
        Ok(())
    }

    pub async fn kill_all(&mut self, removal: Option<bool>) -> Result<()> {
        self.mark_stopped();
        self.restarts.removal = removal.or(self.restarts.removal);
        if self.state.phase == Phase::Restarting {
            self.give_up_restarting();
            return Ok(());
        }
        self.kill_processes().await?;
        self.tell("kill", &[("signal", signal::KILL.to_string())]);
        if self.state.phase == Phase::Paused {
            self.thaw().await?;
        }
        Ok(())
    }

    /// What ends this container in good order.
    pub fn stop_signal(&self) -> i32 {
        let name = self.record.config.stop_signal.as_deref().unwrap_or_default();
        signal::parse(name).unwrap_or(signal::TERM)
    }

    pub async fn pause(&mut self) -> Result<()> {
        match self.state.phase {
            Phase::Running => {}
            Phase::Paused => {
                return Err(Error::conflict(format!(
                    "Container {} is already paused",
                    self.record.id
                )));
            }
            _ => return Err(self.not_running()),
        }
        let cgroup = self.cgroup()?;
        let (ended, id) = (self.not_running(), self.record.id.clone());
        let frozen = context::blocking(move || {
            cgroup.freeze().map_err(|error| match error.is_gone() {
                // Its processes have, and the news is on its way.
                true => ended,
                false => {
                    let cause = Error::system(causes(&error));
                    Error::system(format!("cannot pause container {id}")).because(cause)
                }
            })
        });
        frozen.await?;
        self.state.go(Phase::Paused);
        self.pause_health();
        self.save_or_warn();
        self.tell("pause", &[]);
        self.show();
        Ok(())
    }

    pub async fn unpause(&mut self) -> Result<()> {
        match self.state.phase {
            Phase::Paused => self.thaw().await,
            Phase::Running => Err(Error::conflict(format!("Container {} is not paused", self.record.id))),
            _ => Err(self.not_running()),
        }
    }

    /// Frozen so that it can be read; the record says so, for a daemon that finds it frozen.
    pub async fn hold(&mut self) -> Result<bool> {
        if self.state.phase != Phase::Running {
            return Ok(false);
        }
        self.state.held = true;
        let paused = self.pause().await;
        self.state.held = paused.is_ok();
        match paused {
            // It has just ended.
            Err(error) if error.kind() == Kind::Conflict => Ok(false),
            paused => paused.map(|()| true),
        }
    }

    /// Nothing to do where it has ended, or somebody else let it go on.
    pub async fn let_go(&mut self) -> Result<()> {
        match self.state.phase == Phase::Paused && self.state.held {
            true => self.thaw().await,
            false => Ok(()),
        }
    }

    async fn thaw(&mut self) -> Result<()> {
        let Some(task) = &self.task else { return Ok(()) };
        let cgroup = task.cgroup.clone();
        let thawed = context::blocking(move || cgroup.thaw().map_err(|error| Error::system(causes(&error))));
        thawed
            .await
            .map_err(|error| Error::system(format!("cannot unpause container {}", self.record.id)).because(error))?;
        self.state.go(Phase::Running);
        self.state.held = false;
        self.resume_health();
        self.save_or_warn();
        self.tell("unpause", &[]);
        self.show();
        Ok(())
    }

    pub async fn resize(&mut self, rows: u16, columns: u16) -> Result<()> {
        self.request(&ToShim::Resize { rows, columns }).await?;
        self.tell(
            "resize",
            &[("height", rows.to_string()), ("width", columns.to_string())],
        );
        Ok(())
    }

    /// Now where it runs, else at its next start.
    pub async fn attach(&mut self, attacher: Attacher) -> Result<()> {
        match self.state.phase {
            Phase::Running => {}
            Phase::Paused => {
                return Err(Error::conflict(format!(
                    "container {} is paused, unpause the container before attach",
                    self.record.id
                )));
            }
            Phase::Restarting => {
                return Err(Error::conflict(format!(
                    "container {} is restarting, wait until the container is running",
                    self.record.id
                )));
            }
            Phase::Removing | Phase::Dead => return Err(Error::conflict("container is marked for removal")),
            Phase::Created | Phase::Starting | Phase::Exited => {
                self.waiting.push(attacher);
                self.tell("attach", &[]);
                return Ok(());
            }
        }
        let Some(task) = &mut self.task else {
            return Err(self.not_running());
        };
        if let Err(error) = launch::attach(&mut task.line, &attacher).await {
            return Err(match error.kind() {
                io::ErrorKind::TimedOut => self.unanswered(&error),
                _ => Error::system(format!("cannot attach to container {}", self.record.id)).because(error),
            });
        }
        self.tell("attach", &[]);
        Ok(())
    }

    pub fn rename(&mut self, name: String) -> Result<()> {
        let old = self.record.name.clone();
        if name == old {
            return Err(Error::invalid(format!(
                "Renaming a container with the same name as its current name: {old}"
            )));
        }
        self.table.reserve(&name, &self.record.id)?;
        let mut record = self.record.as_ref().clone();
        record.name.clone_from(&name);
        let before = std::mem::replace(&mut self.record, record.into());
        if let Err(error) = self.save() {
            self.record = before;
            self.table.release(&name, &self.record.id);
            return Err(error);
        }
        self.table.release(&old, &self.record.id);
        if self.state.attachment.is_some() {
            self.rename_endpoints();
            self.save_or_warn();
        }
        self.tell("rename", &[("oldName", format!("/{old}"))]);
        self.show();
        Ok(())
    }

    /// Its first process, by number and by descriptor.
    pub fn process(&self) -> Result<Option<(i32, OwnedFd)>> {
        let Some(task) = self.task.as_ref().filter(|_| self.state.phase.is_running()) else {
            return Ok(None);
        };
        let pidfd = task.pidfd.try_clone();
        let pidfd = pidfd.map_err(|error| Error::system("cannot keep hold of a process").because(error))?;
        Ok(Some((task.state.pid, pidfd)))
    }

    pub fn cgroup(&self) -> Result<Arc<Cgroup>> {
        self.task
            .as_ref()
            .map(|task| Arc::clone(&task.cgroup))
            .ok_or_else(|| self.not_running())
    }

    /// One request to the shim whose answer is only that it is done.
    pub async fn request(&mut self, message: &ToShim) -> Result<()> {
        let Some(task) = &mut self.task else {
            return Err(self.not_running());
        };
        match task.line.request(message, &[]).await {
            Ok((Reply::Failed(failure), _)) if failure.kind == FailureKind::Gone => Err(self.not_running()),
            Ok((Reply::Failed(failure), _)) => Err(failure.into()),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(self.unanswered(&error)),
            // It is ending: the event that says so is on its way.
            Err(_) => Err(self.not_running()),
        }
    }

    /// Straight to the process: a shim that is stuck holds nobody's signal up.
    fn send_signal(&self, number: i32) -> Result<()> {
        let Some(task) = &self.task else {
            return Err(self.not_running());
        };
        match state::signal(task.pidfd.as_fd(), number) {
            Ok(()) => Ok(()),
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Err(self.not_running()),
            Err(error) => Err(Error::system(format!("cannot send signal {number}")).because(error)),
        }
    }

    /// With the first process of a PID namespace go all others. Where the namespace is somebody else's, the control
    /// group says whom to kill.
    async fn kill_processes(&mut self) -> Result<()> {
        if self.record.host_config.pid_mode.is_empty() {
            return self.send_signal(signal::KILL);
        }
        let cgroup = self.cgroup().map_err(|_| self.not_running())?;
        context::blocking(move || cgroup.kill_all().map_err(|error| Error::system(causes(&error)))).await
    }

    /// Its processes are dead, but its shim does not say so: then the shim goes too, and what it kept is freed.
    pub async fn bury(&mut self) -> Result<()> {
        let Some(task) = &self.task else { return Ok(()) };
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let dead = poll(&mut [PollFd::new(&task.pidfd, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0);
        if !dead {
            return Ok(());
        }
        tracing::warn!(container = %self.record.id, shim = task.state.shim_pid, "killing a shim that is stuck");
        let left = task.state.clone();
        context::blocking(move || {
            state::kill_shim(&left).map_err(|error| Error::system("cannot kill the container's shim").because(error))
        })
        .await
    }

    fn unanswered(&self, error: &io::Error) -> Error {
        let (id, shim) = (
            &self.record.id,
            self.task.as_ref().map_or(0, |task| task.state.shim_pid),
        );
        let error = io::Error::new(error.kind(), "is it stopped? `rm -f` of the container ends both");
        Error::system(format!("the shim of container {id} (process {shim}) does not answer")).because(error)
    }

    fn not_running(&self) -> Error {
        let id = &self.record.id;
        match self.state.phase {
            Phase::Restarting => is_restarting(id),
            _ => Error::conflict(format!("container {id} is not running")),
        }
    }
}

/// What cannot be done to a container between two of its runs.
pub fn is_restarting(id: &str) -> Error {
    Error::conflict(format!(
        "Container {id} is restarting, wait until the container is running"
    ))
}

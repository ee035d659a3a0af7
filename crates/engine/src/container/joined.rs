//! Execs as the container's supervisor sees them: started, told of, and ended with their container.
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use corten_runtime::shim::protocol::{ExecExit, ExecId, Reply, ToShim, level};

use crate::{
    container::{
        exec::{Exec, Phase},
        state,
        supervised::Supervised,
    },
    error::{Error, Kind, Result},
};

/// What an exec that never ran has as its exit code.
const NOT_STARTED: i32 = 126;
/// As a shell says SIGKILL.
const KILLED: i32 = 137;

impl Supervised {
    /// Starts what somebody has claimed. When this returns, its process exists, or it has ended.
    pub async fn exec(&mut self, exec: &Exec, plan: OwnedFd, client: Option<OwnedFd>, confirm: bool) -> Result<()> {
        let started = self.start_exec(exec, plan, client, confirm).await;
        match &started {
            Ok(pid) => exec.set_running(*pid),
            Err(_) => drop(self.context.execs.end(&exec.id, |exec| exec.end(NOT_STARTED, None))),
        }
        started.map(drop)
    }

    async fn start_exec(&mut self, exec: &Exec, plan: OwnedFd, client: Option<OwnedFd>, confirm: bool) -> Result<i32> {
        check_exec(&self.record.id, self.state.phase)?;
        self.tell_exec(exec, &format!("exec_start: {}", exec.record.command()), &[]);
        let id = &self.record.id;
        let Some(task) = &mut self.task else {
            return Err(not_running(id));
        };
        if task.level < level::EXEC {
            return Err(Error::conflict(format!(
                "container {id} was started by an older version that cannot run further processes in it: restart it"
            )));
        }
        let message = ToShim::Exec {
            id: exec.raw_id(),
            confirm,
        };
        let mut fds = vec![plan.as_fd()];
        fds.extend(client.as_ref().map(|client| client.as_fd()));
        match task.line.request(&message, &fds).await {
            Ok((Reply::ExecStarted { pid }, _)) => Ok(pid),
            Ok((Reply::Failed(failure), _)) => Err(Error::new(Kind::System, failure.as_exec_error())),
            Ok(_) => Err(Error::system("the shim's answer makes no sense")),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Error::system(format!(
                "cannot start a process in container {id}: its shim does not answer"
            ))),
            // It is ending: the event that says so is on its way.
            Err(_) => Err(not_running(id)),
        }
    }

    pub async fn resize_exec(&mut self, exec: &Exec, rows: u16, columns: u16) -> Result<()> {
        let id = exec.raw_id();
        self.request(&ToShim::ResizeExec { id, rows, columns }).await
    }

    pub async fn signal_exec(&mut self, exec: &Exec, number: i32) -> Result<()> {
        let id = exec.raw_id();
        self.request(&ToShim::SignalExec { id, number }).await
    }

    pub fn tell_exec(&self, exec: &Exec, action: &str, more: &[(&str, String)]) {
        let mut attributes = vec![("execID", exec.id.clone())];
        attributes.extend_from_slice(more);
        self.tell(action, &attributes);
    }

    /// The shim says that the program runs.
    pub fn exec_runs(&self, id: &ExecId) {
        if let Ok(exec) = self.context.execs.find(&hexadecimal(id)) {
            exec.confirm();
        }
    }

    /// The shim says how it ended.
    pub fn exec_ended(&self, exit: ExecExit) {
        let ran = exit.failure.is_none();
        let end = |exec: &Exec| exec.end(exit.code, exit.failure.clone());
        let ended = self.context.execs.end(&hexadecimal(&exit.id), end);
        if let Some(exec) = ended.filter(|_| ran) {
            self.tell_exec(&exec, "exec_die", &[("exitCode", exit.code.to_string())]);
        }
    }

    /// The container has ended, and whatever ran in it.
    pub fn end_execs(&self) {
        for exec in self.context.execs.container_ended(&self.record.id) {
            if matches!(exec.phase(), Phase::Running { .. })
                && self
                    .context
                    .execs
                    .end(&exec.id, |exec| exec.end(KILLED, None))
                    .is_some()
            {
                self.tell_exec(&exec, "exec_die", &[("exitCode", KILLED.to_string())]);
            }
        }
    }
}

/// Can an exec be made or started in a container of this phase?
pub fn check_exec(id: &str, phase: state::Phase) -> Result<()> {
    match phase {
        state::Phase::Running => Ok(()),
        state::Phase::Paused => Err(Error::conflict(format!(
            "Container {id} is paused, unpause the container before exec"
        ))),
        state::Phase::Restarting => Err(Error::conflict(format!(
            "Container {id} is restarting, wait until the container is running"
        ))),
        _ => Err(not_running(id)),
    }
}

fn not_running(id: &str) -> Error {
    Error::conflict(format!("container {id} is not running"))
}

fn hexadecimal(id: &ExecId) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

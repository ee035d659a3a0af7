//! What a shim leaves on disk, and clearing up after one that died without a word.
use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
    time::Timespec,
};

use crate::{
    cgroup::manager::Cgroup,
    error::Error,
    shim::protocol::{Exit, TaskState, files},
};

/// How long a killed process may take to disappear before we go on without it.
const DEATH_TIMEOUT: Duration = Duration::from_secs(10);

/// The task's state as last written; `None` when it never got that far.
pub fn read_state(task_directory: &Path) -> io::Result<Option<TaskState>> {
    read(&task_directory.join(files::STATE))
}

/// How the task ended, if its shim could still say so.
pub fn read_exit(task_directory: &Path) -> io::Result<Option<Exit>> {
    read(&task_directory.join(files::EXIT))
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(postcard::from_bytes(&bytes).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
        })?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// For a task whose shim is gone: kills what still runs and frees the cgroup.
///
/// The number of a process is only believed when the process started when ours did.
pub fn clean_up(state: &TaskState) -> Result<(), Error> {
    kill(state.pid, state.pid_start_ticks)
        .map_err(|error| Error::system(format!("cannot kill process {}", state.pid)).because(error))?;
    let say = |error| Error::system("cannot free the container's cgroup").because(error);
    let cgroup = Cgroup::open(&state.cgroup).map_err(say)?;
    cgroup.kill_all().map_err(say)?;
    cgroup.delete().map_err(say)
}

/// Any signal, by number, to a task's first process.
pub fn signal(pidfd: BorrowedFd, number: i32) -> io::Result<()> {
    corten_linux::process::pidfd_send_signal(pidfd, number)
}

/// Kills a shim that does not answer, and waits for its end.
pub fn kill_shim(state: &TaskState) -> io::Result<()> {
    kill(state.shim_pid, state.shim_start_ticks)
}

/// Kills a process that is still the one we mean, and waits for its end.
fn kill(pid: i32, start_ticks_then: u64) -> io::Result<()> {
    let Some(pid) = Pid::from_raw(pid) else { return Ok(()) };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
        return Ok(());
    };
    // Read after the descriptor was opened: if this is ours, so is what the descriptor stands for.
    if start_ticks(pid.as_raw_nonzero().get()).ok() != Some(start_ticks_then) {
        return Ok(());
    }
    match pidfd_send_signal(&pidfd, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => return Err(error.into()),
    }
    let deadline = Instant::now() + DEATH_TIMEOUT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(
            &mut [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)],
            Some(&timeout),
        ) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Field 22 of /proc/PID/stat: with the number, it names a process for good.
pub fn start_ticks(pid: i32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is a name in parentheses that may contain anything.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = rest
        .split_ascii_whitespace()
        .nth(19)
        .and_then(|field| field.parse().ok());
    ticks.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unreadable /proc/PID/stat"))
}

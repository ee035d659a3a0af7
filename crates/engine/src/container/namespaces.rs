//! `--pid`, `--ipc`: namespaces that a container has of another, which must run when it starts.
//!
//! They are held by descriptor: a number of a process could be somebody else's by the time it is used.
use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd,
    path::PathBuf,
};

use corten_api::types::container::HostConfig;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::{
    container::{handle::Snapshot, mode, signals::is_restarting, state::Phase, supervised::Supervised, table::Table},
    error::{Error, Result},
    task::launch::{Joined, SharedIpc},
};

/// The container whose namespace a mode names, by name or id.
pub fn other(mode: &str) -> Option<&str> {
    mode.strip_prefix(mode::CONTAINER)
}

/// Writes the ids of other containers where their names were given: they stay what they are.
pub fn complete(host: &mut HostConfig, table: &Table) -> Result<()> {
    for mode in [&mut host.pid_mode, &mut host.ipc_mode] {
        if let Some(reference) = other(mode) {
            // A client that hears "not found" at create goes and fetches the image.
            let other = table
                .find(reference)
                .map_err(|error| Error::invalid(error.to_string()))?;
            *mode = mode::of_container(&other.id);
        }
    }
    Ok(())
}

impl Supervised {
    pub fn shared_pid(&self) -> Result<Option<Joined>> {
        let Some(reference) = other(&self.record.host_config.pid_mode) else {
            return Ok(None);
        };
        let joined = self.running(reference).and_then(|donor| join(&donor, "pid"));
        joined
            .map(Some)
            .map_err(|error| Error::new(error.kind(), format!("failed to join PID namespace: {error}")))
    }

    pub fn shared_ipc(&self) -> Result<Option<SharedIpc>> {
        let Some(reference) = other(&self.record.host_config.ipc_mode) else {
            return Ok(None);
        };
        let shared = self.running(reference).and_then(|donor| {
            check_shareable(&donor, &self.table)?;
            Ok(SharedIpc {
                namespace: join(&donor, "ipc")?,
                mounts: join(&donor, "mnt")?,
            })
        });
        shared
            .map(Some)
            .map_err(|error| Error::new(error.kind(), format!("failed to join IPC namespace: {error}")))
    }

    fn running(&self, reference: &str) -> Result<Snapshot> {
        let donor = self.table.find(reference)?.snapshot();
        let id = &donor.record.id;
        match donor.state.phase {
            Phase::Restarting => Err(is_restarting(id)),
            phase if phase.is_running() => Ok(donor),
            _ => Err(Error::conflict(format!("container {id} is not running"))),
        }
    }
}

/// One that has its IPC of another, or of the host, passes on what it has.
fn check_shareable(donor: &Snapshot, table: &Table) -> Result<()> {
    let mut record = donor.record.clone();
    // A chain that leads nowhere, or back, ends with somebody.
    for _ in 0..32 {
        match other(&record.host_config.ipc_mode) {
            Some(next) => record = table.find(next)?.record(),
            None => break,
        }
    }
    if matches!(record.host_config.ipc_mode.as_str(), "shareable" | "host") {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "container {}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
        donor.record.id
    )))
}

/// A namespace of a running container's first process.
pub fn join(donor: &Snapshot, kind: &str) -> Result<Joined> {
    let (pid, id) = (donor.state.pid, donor.record.id.as_str());
    let ended = || Error::conflict(format!("container {id} is not running"));
    let process = Pid::from_raw(pid).ok_or_else(ended)?;
    let pidfd = pidfd_open(process, PidfdFlags::empty()).map_err(|_| ended())?;
    let namespace = File::open(format!("/proc/{pid}/ns/{kind}")).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ended(),
        _ => Error::system(format!("cannot open a namespace of container {id}")).because(error),
    })?;
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let is_over = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&now)).map_or(true, |ready| ready > 0);
    // Asked last: as long as this process lives, all that was read was read of it.
    if !cgroup.contains(id) || is_over {
        return Err(ended());
    }
    Ok(Joined { namespace })
}

impl Joined {
    /// Where the launcher's processes find it, while this lives.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.namespace.as_raw_fd()
        ))
    }
}

//! A task, as the engine asks for it: an OCI specification, and what Docker's containers have beyond one.
//!
//! The engine fills a [`TaskRequest`]; `process::plan` compiles it to a flat list of operations before any process is
//! cloned. Nothing in here is trusted to be consistent: whatever contradicts itself is refused by the compiler.
use std::path::PathBuf;

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use crate::rootfs::owners::Owners;

/// Everything that one container start needs to know.
#[derive(Debug, Clone)]
pub struct TaskRequest {
    /// The container's id: 64 hexadecimal digits.
    pub id: String,
    /// `<run root>/tasks/<id>`: exists, empty, mode 0700. The shim keeps its socket, state and exit record here.
    pub directory: PathBuf,
    /// What the OCI runtime specification can say: process, mounts, namespaces, cgroup path and resources, capabilities,
    /// seccomp, masked and read-only paths, sysctls, devices, hooks. `root.path` is unused, see [`TaskRequest::rootfs`].
    pub spec: Spec,
    pub rootfs: Rootfs,
    /// The mount namespace of another container: what it has at /dev/shm is there in this one too.
    pub shared_memory: Option<PathBuf>,
    /// A directory with the specification as `config.json`, its `root.path` being [`TaskRequest::directory`], where the root
    /// file system is mounted in the container's own mount namespace. Only hooks need it.
    pub bundle: Option<PathBuf>,
    /// `name`, `uid`, `name:group`, `uid:gid`, or empty for root. Names are looked up in the container's own
    /// `/etc/passwd` and `/etc/group`, in the child, beneath the root's file descriptor.
    /// Replaces `process.user` of the specification.
    pub user: String,
    /// `--group-add`: names or numbers, added to the groups that `/etc/group` gives the user.
    pub additional_groups: Vec<String>,
    /// Make the working directory in the root file system when it is missing.
    pub create_working_directory: bool,
    /// Leave `/.dockerenv` and `/etc/mtab` in the root file system where they are missing.
    pub traces: bool,
    /// Binds of the specification whose source is a detached mount that travels with the plan, in this order.
    pub handed: Vec<PathBuf>,
    /// Binds, by their targets, whose files are shown with other owners than the disk says.
    pub owners: Vec<(PathBuf, Owners)>,
    pub stdio: Stdio,
}

/// What becomes the container's root file system. Mounted in the child, in its own mount namespace: the host never
/// sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rootfs {
    /// A directory of the host, bound as it is.
    Directory(PathBuf),
    /// An overlay. `lowers` has the topmost layer first.
    Overlay {
        lowers: Vec<PathBuf>,
        upper: PathBuf,
        work: PathBuf,
        /// Never sync: for containers that are removed when they exit.
        volatile: bool,
    },
}

/// Where the process's standard streams end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stdio {
    /// A pseudo-terminal of this size (rows, columns) instead of three pipes.
    pub terminal: Option<(u16, u16)>,
    /// Keep standard input open for attachers; otherwise it is /dev/null.
    pub open_stdin: bool,
    /// Close standard input for good when the first attacher of it ends its side.
    pub stdin_once: bool,
    /// Write what the process prints here.
    pub log: Option<LogFile>,
}

/// The files that the output is written to, split at lines, and those at 16 KiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    pub path: PathBuf,
    pub format: LogFormat,
    /// Rotate to `path.1`, `path.2`, … before the file would grow past this many bytes.
    pub max_bytes: Option<u64>,
    /// How many files there are in all, the current one counted; at least 1.
    pub max_files: u32,
    /// Let the container wait rather than drop a file that has not been delivered ([`crate::shim::log::position`]).
    pub hold: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFormat {
    /// `{"log":"…\n","stream":"stdout","time":"RFC 3339 with nanoseconds"}` per line.
    Json {
        /// A JSON object that each line has as `attrs`; empty for none.
        attributes: String,
    },
    /// [`crate::shim::log::local`].
    Local,
}

//! A container as a door sees it: record and state at one moment, and the requests and answers of its verbs.
use std::{collections::BTreeMap, sync::Arc};

use corten_api::types::container::{ContainerConfig, HostConfig, NetworkingConfig, RestartPolicy};
use jiff::Timestamp;

use crate::container::{record::Record, state::State};

/// What `create` is asked for.
#[derive(Debug, Clone, Default)]
pub struct CreateOptions {
    /// Without a slash; absent means a generated one.
    pub name: Option<String>,
    /// `os/arch[/variant]`; absent means the host's.
    pub platform: Option<String>,
    pub config: ContainerConfig,
    pub host_config: HostConfig,
    pub networking: NetworkingConfig,
}

/// What `update` is asked for: of the limits in `resources`, zero, empty and absent leave what is there.
#[derive(Debug, Clone, Default)]
pub struct UpdateOptions {
    /// Only its limits count.
    pub resources: HostConfig,
    /// Without a name it stays as it is.
    pub restart_policy: RestartPolicy,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    pub id: String,
    pub warnings: Vec<String>,
}

/// One container at one moment.
#[derive(Debug, Clone)]
pub struct ContainerView {
    pub record: Arc<Record>,
    pub state: Arc<State>,
    /// The image by a name that still points at it, else its id: what `ps` shows.
    pub image_name: String,
    /// Only of an inspection.
    pub places: Places,
    /// Bytes written by the container, where it was asked for.
    pub size_rw: Option<u64>,
    /// Bytes of the image and of what the container wrote, where it was asked for.
    pub size_root_fs: Option<u64>,
}

/// What only an inspection shows: where the parts of a container are on this host, and what runs in it.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// Absent for log driver `none`.
    pub log_path: Option<String>,
    pub hostname_path: String,
    pub hosts_path: String,
    pub resolv_conf_path: String,
    /// Ids of its execs that have not ended.
    pub execs: Vec<String>,
    /// `overlay2` and its directories (`LowerDir`, `MergedDir`, `UpperDir`, `WorkDir`).
    pub storage_driver: String,
    pub storage_data: BTreeMap<String, String>,
}

/// Filters as clients send them: key to values. Each door checks the keys it knows.
pub type Filters = BTreeMap<String, Vec<String>>;

#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Those that do not run too.
    pub all: bool,
    /// The last so many created, running or not; 0 means all.
    pub limit: usize,
    pub size: bool,
    pub filters: Filters,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WaitCondition {
    #[default]
    NotRunning,
    NextExit,
    Removed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitResult {
    pub exit_code: i64,
    pub error: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub struct AttachOptions {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// What was printed before, first.
    pub logs: bool,
    /// What is printed from now on.
    pub stream: bool,
    /// `ctrl-p,ctrl-q` and the like; absent means the default.
    pub detach_keys: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub struct LogsOptions {
    pub stdout: bool,
    pub stderr: bool,
    pub follow: bool,
    pub timestamps: bool,
    /// Add the labels and variables that the log driver was told to keep.
    pub details: bool,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// The last so many lines; absent means all.
    pub tail: Option<u64>,
}

/// What stands at a path in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathStat {
    pub name: String,
    pub size: i64,
    /// Go's `FileMode`.
    pub mode: u32,
    pub modified: Timestamp,
    /// Where a symbolic link leads, every link on the way followed; empty for everything else.
    pub link_target: String,
}

/// Where an archive goes, and how.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// A directory.
    pub path: String,
    /// A directory takes no other thing's place, nor the other way round.
    pub keep_kinds: bool,
    /// Everything will belong to the user whom the container runs as.
    pub copy_owner: bool,
}

/// What `commit` is asked for.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// Empty for an image without a name.
    pub repository: String,
    /// Empty for `latest`.
    pub tag: String,
    pub author: String,
    pub comment: String,
    /// Freeze the container meanwhile.
    pub pause: bool,
    /// Lines of a Dockerfile.
    pub changes: Vec<String>,
    /// Goes before what the container has.
    pub config: Option<ContainerConfig>,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveOptions {
    /// Kill it first when it runs.
    pub force: bool,
    /// Its anonymous volumes too.
    pub volumes: bool,
}

/// `top`: ps(1)'s columns for the processes of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Top {
    pub titles: Vec<String>,
    pub processes: Vec<Vec<String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    pub deleted: Vec<String>,
    pub space_reclaimed: u64,
}

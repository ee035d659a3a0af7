//! The one way anything starts: a record becomes a plan, a plan a shim, a shim a process.
//!
//! Half way through, nothing is left behind: a shim that fails undoes its part, and what is here undoes ours.
use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::DirBuilderExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use corten_runtime::{
    cgroup::{manager::Cgroup, realtime},
    hooks,
    process::{
        plan,
        task::{Rootfs, Stdio, TaskRequest},
    },
    rootfs::mounts::STAGE_OF_STRANGERS,
    security::filter::Filter,
    shim::{
        connection,
        protocol::{Event, Failure, FailureKind, FromShim, Reply, TaskState, ToShim, level},
    },
    state,
};
use jiff::Timestamp;
use oci_spec::runtime::Spec;
use tokio::time::{Instant, timeout_at};

use crate::{
    container::{etc, handle::Attacher, record::Record, sources::Sources, user_namespace},
    context::Context,
    error::{Error, Kind, causes},
    log::place,
    task::{
        device_requests,
        mounts::{self, EtcFiles},
        net_devices,
        shim::{Line, START_PATIENCE},
        spec::{self, Surroundings},
    },
};

/// A container's running side.
#[derive(Debug)]
pub struct Task {
    pub line: Line,
    /// Its first process: whatever happens to the shim, this can be killed.
    pub pidfd: OwnedFd,
    pub state: TaskState,
    pub cgroup: Arc<Cgroup>,
    /// When it was told to run: before anything that it did.
    pub started_at: Timestamp,
    /// What its shim understands.
    pub level: u32,
}

/// A container with everything around it but its program. Dropping it undoes all of it.
pub struct Created {
    line: Line,
    pidfd: OwnedFd,
    pub state: TaskState,
    directory: Abandoned,
}

/// A task's directory that is freed, with all that it speaks of, unless somebody keeps it.
struct Abandoned(Option<PathBuf>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        if let Some(directory) = self.0.take() {
            abandon(&directory);
        }
    }
}

/// A namespace of another container, held so that it is this one and no other.
#[derive(Debug)]
pub struct Joined {
    pub namespace: File,
}

/// What a container has of another, whose network it joins.
#[derive(Debug)]
pub struct SharedNetwork {
    pub namespace: Joined,
    pub files: EtcFiles,
}

/// What a container has of another, whose IPC it joins: with the namespace goes /dev/shm.
#[derive(Debug)]
pub struct SharedIpc {
    pub namespace: Joined,
    /// The other's mounts, where that /dev/shm is.
    pub mounts: Joined,
}

/// All that a container has of others.
#[derive(Debug, Default)]
pub struct Shared {
    pub network: Option<SharedNetwork>,
    pub pid: Option<Joined>,
    pub ipc: Option<SharedIpc>,
}

/// Makes a container, up to the point where only its program is missing. `environment` is what links add to its own.
///
/// `plug` is given a process in the container's network namespace as soon as there is one, and works while the shim does.
pub async fn create<F>(
    context: &Context,
    record: &Record,
    shared: &Shared,
    environment: &[String],
    sources: Sources,
    plug: impl FnOnce(i32, PathBuf) -> F,
) -> Result<Created, Trouble>
where
    F: Future<Output = crate::error::Result<()>>,
{
    let path = context.store.layout().task(&record.id);
    let mut request =
        request(context, record, shared, environment, path.clone()).map_err(|error| invalid(error.to_string()))?;
    let devices = net_devices::take(&mut request.spec).map_err(|error| invalid(error.to_string()))?;
    let (targets, trees): (_, Vec<_>) = sources.handed.into_iter().unzip();
    request.handed = targets;
    let mut plan = plan::compile(&request).map_err(|error| invalid(causes(&error)))?;
    if let Some(filter) = filter(context, record).map_err(|error| invalid(error.to_string()))? {
        plan.set_filter(filter);
    }
    let plan = connection::plan_memfd(&plan).map_err(system("cannot hand over the plan"))?;
    // Dropped after the line: a shim without a daemon undoes what was not started.
    let directory = Abandoned(Some(path.clone()));
    make_directory(&path).map_err(system("cannot create the task's directory"))?;
    if let Some(maps) = user_namespace::maps(context, &record.host_config) {
        user_namespace::write_down(&path, maps).map_err(system("cannot write into the task's directory"))?;
    }

    let shim = context.launcher.connect().map_err(system("cannot start a shim"))?;
    let mut line = Line::new(shim).map_err(system("cannot talk to the shim"))?;
    let died = || system("the shim died, or does not answer");
    let beside = [&plan].into_iter().chain(&trees).chain(&sources.held);
    let beside: Vec<_> = beside.map(|fd| fd.as_fd()).collect();
    line.send(&ToShim::Launch, &beside).await.map_err(died())?;
    drop((trees, sources.held));
    let deadline = Instant::now() + START_PATIENCE;
    let (mut plug, mut plugged) = (Some(plug), Ok(()));
    let (reply, mut fds) = loop {
        let next = timeout_at(deadline, line.next()).await;
        let next = next.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match next.map_err(died())? {
            (FromShim::Reply(reply), fds) => break (reply, fds),
            (FromShim::Event(Event::Network { pid }), _) => {
                if let Some(plug) = plug.take() {
                    plugged = plug(pid, path.clone()).await;
                }
            }
            (FromShim::Event(_), _) => return Err(unexpected().into()),
        }
    };
    let state = match reply {
        Reply::Created(state) => state,
        Reply::Failed(failure) => return Err(failure.into()),
        _ => return Err(unexpected().into()),
    };
    // Only now, so that the shim has nothing under way any more when its directory goes.
    plugged?;
    if let Some(plug) = plug.take() {
        plug(state.pid, path).await?;
    }
    net_devices::move_in(devices, state.pid).await?;
    let pidfd = fds.pop().ok_or_else(unexpected)?;
    Ok(Created {
        line,
        pidfd,
        state,
        directory,
    })
}

impl Created {
    /// Lets the program run. When this returns, it does.
    pub async fn start(mut self, attachers: Vec<Attacher>) -> Result<Task, Failure> {
        for attacher in &attachers {
            // One who went away meanwhile is no reason not to start.
            let _ = attach(&mut self.line, attacher).await;
        }
        let started_at = Timestamp::now();
        let started = self.line.request_within(START_PATIENCE, &ToShim::Start, &[]).await;
        match started.map_err(system("the shim died, or does not answer"))?.0 {
            Reply::Started => {}
            Reply::Failed(failure) => return Err(failure),
            _ => return Err(unexpected()),
        }
        let cgroup = Cgroup::open(&self.state.cgroup).map_err(|error| invalid(causes(&error)))?;
        self.directory.0 = None;
        Ok(Task {
            line: self.line,
            pidfd: self.pidfd,
            state: TaskState {
                started: true,
                ..self.state
            },
            cgroup: Arc::new(cgroup),
            started_at,
            // It was forked by a launcher of this very version.
            level: level::PRESENT,
        })
    }
}

/// Hands an attacher's socket to the shim.
pub async fn attach(line: &mut Line, attacher: &Attacher) -> io::Result<()> {
    let message = ToShim::Attach {
        stdin: attacher.stdin,
        stdout: attacher.stdout,
        stderr: attacher.stderr,
    };
    match line.request(&message, &[attacher.socket.as_fd()]).await? {
        (Reply::Failed(failure), _) => Err(io::Error::other(failure.message)),
        _ => Ok(()),
    }
}

fn filter(context: &Context, record: &Record) -> crate::error::Result<Option<Filter>> {
    let (profile, capabilities) = spec::confinement(record, &context.config.seccomp)?;
    context.profiles.filter(&profile, &capabilities)
}

fn request(
    context: &Context,
    record: &Record,
    shared: &Shared,
    environment: &[String],
    directory: PathBuf,
) -> crate::error::Result<TaskRequest> {
    // The daemon's option may have changed since the container was made.
    user_namespace::check(context, &record.host_config)?;
    let layout = context.store.layout();
    let own = layout.container(&record.id);
    let init = record.host_config.init.unwrap_or(context.config.init);
    let network = shared.network.as_ref();
    let files = network.map_or_else(|| etc::files(&own), |network| network.files.clone());
    let shm_is_taken = record.mounts.iter().any(|mount| mount.destination == "/dev/shm");
    let shared_memory = shared.ipc.as_ref().filter(|_| !shm_is_taken);
    let surroundings = Surroundings {
        files: &files,
        environment,
        network_namespace: network.map(|network| network.namespace.path()),
        pid_namespace: shared.pid.as_ref().map(Joined::path),
        ipc_namespace: shared.ipc.as_ref().map(|ipc| ipc.namespace.path()),
        cgroup: context.cgroup(&record.host_config.cgroup_parent, &record.id),
        private_cgroup_namespace: context.host.cgroup_v2,
        init: init.then_some(context.program.as_path()),
        default_ulimits: &context.config.default_ulimits,
        no_new_privileges: context.config.no_new_privileges,
        user: user_namespace::maps(context, &record.host_config),
    };
    allot_real_time(context, record)?;
    let mut spec = spec::build(record, &surroundings)?;
    let mut groups = record.host_config.group_add.clone().unwrap_or_default();
    device_requests::apply(
        record.host_config.device_requests.as_deref().unwrap_or_default(),
        context.cdi_spec_dirs(),
        &record.config.user,
        &mut spec,
        &mut groups,
    )?;
    let bundle = match spec.hooks() {
        Some(hooks) if hooks::any(hooks) => {
            let stranger = user_namespace::maps(context, &record.host_config).is_some();
            let stage = if stranger {
                Path::new(STAGE_OF_STRANGERS)
            } else {
                &directory
            };
            Some(write_bundle(&own, stage, &spec)?)
        }
        _ => None,
    };
    let active = context.store.active(&record.id, &record.layers);
    let [rows, columns] = record.host_config.console_size;
    let size = |value: u64| u16::try_from(value).unwrap_or_default();
    Ok(TaskRequest {
        id: record.id.clone(),
        directory,
        spec,
        rootfs: Rootfs::Overlay {
            lowers: active.lowers,
            upper: active.upper,
            work: active.work,
            volatile: record.host_config.auto_remove,
        },
        shared_memory: shared_memory.map(|ipc| ipc.mounts.path()),
        bundle,
        user: record.config.user.clone(),
        additional_groups: groups,
        create_working_directory: true,
        traces: true,
        handed: Vec::new(),
        owners: user_namespace::owners(context, record, &mounts::WRITTEN),
        stdio: Stdio {
            terminal: record.config.tty.then(|| (size(rows), size(columns))),
            open_stdin: record.config.open_stdin,
            stdin_once: record.config.stdin_once,
            log: place::log_file(record, &own.join("log")),
        },
    })
}

/// A container can only have of the real time that those above it have.
fn allot_real_time(context: &Context, record: &Record) -> crate::error::Result<()> {
    let (host, share) = (&record.host_config, context.config.realtime);
    if host.cpu_realtime_runtime <= 0 {
        return Ok(());
    }
    if share.runtime == 0 {
        return Err(Error::invalid(
            "a container can only have real time when the daemon was started with some (--cpu-rt-runtime)",
        ));
    }
    realtime::allot(context.cgroup_parent(&host.cgroup_parent), share)
        .map_err(|error| Error::invalid("cannot give containers real time").because(error))
}

/// What hooks are told of: the specification, with the place where the root file system is while they run.
fn write_bundle(container: &Path, root: &Path, spec: &Spec) -> crate::error::Result<PathBuf> {
    let bundle = container.join("bundle");
    let mut spec = spec.clone();
    let mut place = spec.root().clone().unwrap_or_default();
    place.set_path(root.to_owned());
    spec.set_root(Some(place));
    let write = || -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&bundle)?;
        fs::write(bundle.join("config.json"), serde_json::to_vec(&spec)?)
    };
    write().map_err(|error| Error::system(format!("cannot write {}", bundle.display())).because(error))?;
    Ok(bundle)
}

fn make_directory(path: &Path) -> io::Result<()> {
    let make = || fs::DirBuilder::new().mode(0o700).create(path);
    match make() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Of a task that ended when no daemon was there to tidy up, or could not.
            abandon(path);
            make()
        }
        made => made,
    }
}

/// Frees whatever a task that nobody minds any more has left, and its directory.
pub fn abandon(directory: &Path) {
    match state::read_state(directory) {
        Ok(Some(left)) => {
            if let Err(error) = state::clean_up(&left) {
                tracing::error!(directory = %directory.display(), error = %causes(&error), "cannot clean up after a task");
            }
        }
        Ok(None) => {}
        Err(error) => tracing::error!(directory = %directory.display(), %error, "cannot read a task's state"),
    }
    discard(directory);
}

/// Removes the directory of a task that has ended and whose end is written down.
pub fn discard(directory: &Path) {
    if let Err(error) = fs::remove_dir_all(directory)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::error!(directory = %directory.display(), %error, "cannot remove a task's directory");
    }
}

/// Why a container did not start, and the exit code that it has then.
#[derive(Debug)]
pub struct Trouble {
    pub error: Error,
    pub exit_code: i32,
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

fn invalid(message: String) -> Failure {
    Failure {
        kind: FailureKind::Invalid,
        message,
    }
}

fn unexpected() -> Failure {
    Failure {
        kind: FailureKind::System,
        message: "the shim's answer makes no sense".to_owned(),
    }
}

fn system<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> Failure {
    move |error| Failure {
        kind: FailureKind::System,
        message: format!("{doing}: {}", error.into()),
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        Error::system(failure.message)
    }
}

//! What a new daemon finds: records, shims that went on, and what a crash left half-done.
//!
//! The record says what was; the shim, or the exit record that it left, says what is. Whatever has no record is
//! litter. Every case ends in a state that a live daemon could have produced.
use std::{fs, io, os::fd::AsFd, path::Path, sync::Arc};

use corten_network::controller::Restored;
use corten_runtime::{
    cgroup::manager::Cgroup,
    shim::{
        connection,
        protocol::{Exit, Reply, TaskState, ToShim, level},
    },
    state,
};
use futures_util::StreamExt;
use jiff::Timestamp;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio_util::sync::CancellationToken;

use crate::{
    container::{
        attachment,
        exec::{self, Exec, ExecRecord},
        handle::Command,
        health::Status,
        links, mount_events,
        record::Record,
        remove,
        restart::{End, Policy},
        sources,
        state::{Phase, State},
        supervised::{self, Document, KIND, timestamp},
        supervisor,
        table::Table,
        update,
        view::RemoveOptions,
    },
    context::{self, Context},
    error::{Error, Kind, Result, causes},
    network::open,
    task::{
        launch::{self, Task},
        shim::Line,
    },
    volume::service::users_of,
};

/// How many shims are asked at a time.
const LOOKS_AT_ONCE: usize = 64;

/// What a container's task directory came to.
enum Found {
    /// It runs, and answers.
    Task(Box<Task>),
    /// It ended while nobody listened.
    Ended(Exit),
    /// There was a task; its shim is gone.
    Lost,
    /// There is none.
    Nothing,
}

/// Fills the table. Called once, before any door opens.
pub async fn restore(context: &Arc<Context>, table: &Arc<Table>, closing: &CancellationToken) -> Result<()> {
    let documents = context
        .store
        .records(KIND)
        .map_err(|error| Error::system("cannot read the containers' records").because(error))?;
    let mut known = Vec::with_capacity(documents.len());
    for (id, text) in documents {
        match serde_json::from_str::<Document>(&text) {
            Ok(document) => known.push(document),
            // Kept on disk, so that a version that can read it finds it again.
            Err(error) => {
                tracing::error!(container = %id, %error, "cannot read a container's record: it is left alone")
            }
        }
    }
    for document in &known {
        table.reserve(&document.record.name, &document.record.id)?;
    }
    // At once, because a shim that does not answer is waited for.
    let looks = futures_util::stream::iter(known).map(|document| look(context, document));
    let found: Vec<_> = looks.buffered(LOOKS_AT_ONCE).collect().await;
    restore_networks(context, &found)?;
    for one in found {
        adopt(context, table, closing, one).await;
    }
    for handle in table.handles() {
        let snapshot = handle.snapshot();
        if snapshot.state.phase == Phase::Paused && snapshot.state.held {
            // The daemon that wanted it frozen for a moment is gone.
            let _ = handle.ask(|reply| Command::LetGo { reply }).await;
        }
        if snapshot.state.phase.is_running() && !snapshot.record.links.is_empty() {
            let _ = handle.ask(|reply| Command::RefreshLinks { reply }).await;
        }
    }
    sweep(context, table);
    Ok(())
}

/// A daemon that died while it paused a container, or let it go on, may have done it and not said so, or the other way
/// round. Nobody was told that a container is paused that is not written down as such: it goes on.
async fn paused_or_running(id: &str, before: Phase, cgroup: &Arc<Cgroup>) -> Phase {
    let cgroup = Arc::clone(cgroup);
    let settled = context::blocking(move || {
        let settled = match (before, cgroup.is_frozen()) {
            (Phase::Paused, Ok(true)) => Ok(Phase::Paused),
            (_, Ok(true)) => cgroup.thaw().map(|()| Phase::Running),
            (_, frozen) => frozen.map(|_| Phase::Running),
        };
        settled.map_err(|error| Error::system(causes(&error)))
    });
    settled.await.unwrap_or_else(|error| {
        tracing::error!(container = %id, %error, "cannot see whether a container is paused");
        match before {
            Phase::Paused => Phase::Paused,
            _ => Phase::Running,
        }
    })
}

/// A container as its record, its shim and its directory tell together.
struct Survivor {
    record: Record,
    before: State,
    state: State,
    task: Option<Task>,
}

async fn look(context: &Context, document: Document) -> Survivor {
    let Document { mut record, mut state } = document;
    let directory = context.store.layout().task(&record.id);
    let before = state.clone();
    let mut task = None;
    match find(&directory).await {
        Found::Task(mut found) => {
            if found.level >= level::EXEC
                && let Err(error) = find_execs(context, &record.id, &mut found.line).await
            {
                tracing::error!(container = %record.id, %error, "cannot find the processes that were started in it");
            }
            state.phase = paused_or_running(&record.id, before.phase, &found.cgroup).await;
            state.held &= state.phase == Phase::Paused;
            state.pid = found.state.pid;
            // A start that nobody wrote down any more.
            state.started_at = before
                .started_at
                .filter(|_| before.phase.is_running())
                .or(Some(found.started_at));
            state.attachment = attachment::read(&directory).or(state.attachment);
            let mut found = *found;
            restore_volumes(context, &record, &mut found).await;
            task = Some(found);
        }
        Found::Ended(exit) => {
            state.started_at = state.started_at.or_else(|| started_at(&directory));
            end(
                &mut state,
                exit.code,
                exit.reason,
                exit.out_of_memory,
                timestamp(exit.at_nanoseconds),
            );
        }
        Found::Lost if before.phase.is_running() => {
            let reason = "the container's shim died while no daemon watched; the container was killed".to_owned();
            end(&mut state, 137, Some(reason), false, Timestamp::now());
        }
        // The host went down under it.
        Found::Nothing if before.phase.is_running() => end(&mut state, 255, None, false, Timestamp::now()),
        // A start that did not come far is undone.
        Found::Lost | Found::Nothing => {
            state.pid = 0;
            state.attachment = None;
            if !matches!(state.phase, Phase::Created | Phase::Exited | Phase::Restarting) {
                state.phase = if state.started_at.is_some() {
                    Phase::Exited
                } else {
                    Phase::Created
                };
            }
        }
    }
    if task.is_none() {
        restart_or_rest(&record, &before, &mut state);
    }
    update::finish(
        &mut record,
        &mut state,
        task.as_ref().map(|task| Arc::clone(&task.cgroup)),
    )
    .await;
    Survivor {
        record,
        before,
        state,
        task,
    }
}

/// What its restart policy says to an end that no daemon saw, and to a daemon that has just started.
fn restart_or_rest(record: &Record, before: &State, state: &mut State) {
    let policy = Policy::of(&record.host_config);
    let never_started = state.started_at.is_none() && before.phase != Phase::Restarting;
    if never_started || !matches!(state.phase, Phase::Exited | Phase::Restarting) {
        return;
    }
    let ended_meanwhile = before.phase.is_running();
    let end = End {
        exit_code: state.exit_code,
        restarts: state.restart_count,
        stopped_by_user: state.stopped_by_user,
    };
    let counts = ended_meanwhile && policy.after(end);
    state.restart_count += u32::from(counts);
    let waited = before.phase == Phase::Restarting && policy != Policy::No;
    state.phase = if counts || waited || policy.at_daemon_start(state.stopped_by_user) {
        Phase::Restarting
    } else {
        Phase::Exited
    };
}

/// Gets what the shim keeps of volumes that are mounted from somewhere.
async fn restore_volumes(context: &Context, record: &Record, task: &mut Task) {
    let volumes = sources::device_volumes(context, record);
    if volumes.is_empty() {
        return;
    }
    match task.line.request(&ToShim::ShowHeld, &[]).await {
        Ok((Reply::Held, mut fds)) if !fds.is_empty() => {
            let namespace = fds.swap_remove(0);
            context
                .volumes
                .mounted
                .restore(namespace, volumes.into_iter(), &record.id);
        }
        Ok(_) => tracing::error!(container = %record.id, "its shim does not hold its volumes"),
        Err(error) => tracing::error!(container = %record.id, %error, "cannot ask a shim for its volumes"),
    }
}

/// Gives containers that run their addresses, ports and names back, and makes the networks be there.
fn restore_networks(context: &Context, found: &[Survivor]) -> Result<()> {
    let namespaces: Vec<_> = found
        .iter()
        .filter_map(|one| {
            let (task, attachment) = (one.task.as_ref()?, one.state.attachment.as_ref()?);
            // One that ends at this moment has nothing to be given back.
            Some((&one.record, attachment, attachment::namespace(task.state.pid).ok()?))
        })
        .collect();
    let runs = |id: &str| {
        let mut running = found.iter().filter(|one| one.task.is_some());
        let other = running.find(|one| one.record.id == id)?;
        Some((Arc::new(other.record.clone()), other.state.attachment.clone()?))
    };
    let running: Vec<_> = namespaces
        .iter()
        .map(|(record, attachment, namespace)| Restored {
            attachment,
            namespace: namespace.as_fd(),
            links: links::reach(record, Some(attachment), runs),
        })
        .collect();
    open::restore(context, &running)
}

async fn adopt(context: &Arc<Context>, table: &Arc<Table>, closing: &CancellationToken, one: Survivor) {
    let Survivor {
        record,
        before,
        state,
        task,
    } = one;
    let directory = context.store.layout().task(&record.id);
    if state != before
        && let Err(error) = supervised::save(context, &record, &state)
    {
        // The task's directory stays: the next daemon reads it again.
        tracing::error!(container = %record.id, %error, "cannot save what became of a container");
    } else if task.is_none() {
        launch::discard(&directory);
    }
    if task.is_none() {
        discard_cgroup(context, &record);
    }
    // Whoever wanted to start it, or to see its end, is gone with the daemon before.
    let leftover = record.host_config.auto_remove && task.is_none();
    let ended_meanwhile = before.phase.is_running() && task.is_none();
    let record = Arc::new(record);
    if ended_meanwhile {
        for endpoint in before.attachment.iter().flat_map(|attachment| &attachment.endpoints) {
            attachment::tell(
                context,
                &record,
                "disconnect",
                &endpoint.network,
                &endpoint.network_name,
            );
        }
        mount_events::tell_unmounted(context, &record);
        supervised::tell(context, &record, "die", &[("exitCode", state.exit_code.to_string())]);
    }
    context.keeper.resume(&record, context.store.layout());
    let (context, table) = (Arc::clone(context), Arc::clone(table));
    let handle = supervisor::supervise(context, table, Arc::clone(&record), state, task, closing.clone());
    if leftover {
        let options = RemoveOptions {
            force: false,
            volumes: true,
        };
        if let Err(error) = remove::remove(&handle, options).await {
            tracing::error!(container = %record.id, %error, "cannot remove a container that was to go at its end");
        }
    }
}

fn end(state: &mut State, code: i32, reason: Option<String>, out_of_memory: bool, at: Timestamp) {
    state.phase = Phase::Exited;
    state.pid = 0;
    state.exit_code = code;
    state.error = reason.unwrap_or_default();
    state.oom_killed |= out_of_memory;
    state.finished_at = Some(at);
    state.attachment = None;
    if let Some(health) = &mut state.health {
        health.status = Status::Unhealthy;
    }
}

/// Directories of a cgroup whose shim died while it made them. Processes in one would keep it from going.
fn discard_cgroup(context: &Context, record: &Record) {
    let cgroup = context.cgroup(&record.host_config.cgroup_parent, &record.id);
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    for hierarchy in hierarchies.chain([root.to_owned()]) {
        let _ = fs::remove_dir(hierarchy.join(cgroup.trim_start_matches('/')));
    }
}

/// The state file's time: it is written when the process is about to run.
fn started_at(directory: &Path) -> Option<Timestamp> {
    let modified = fs::metadata(directory.join(corten_runtime::shim::protocol::files::STATE))
        .ok()?
        .modified()
        .ok()?;
    Timestamp::try_from(modified).ok()
}

async fn find(directory: &Path) -> Found {
    if !directory.exists() {
        return Found::Nothing;
    }
    if let Ok(Some(exit)) = state::read_exit(directory) {
        return Found::Ended(exit);
    }
    match greet(directory).await {
        Ok(Some(task)) => return Found::Task(Box::new(task)),
        Ok(None) => {}
        Err(error) => tracing::info!(directory = %directory.display(), %error, "a task's shim does not answer"),
    }
    // It may have finished while we knocked.
    if let Ok(Some(exit)) = state::read_exit(directory) {
        return Found::Ended(exit);
    }
    let owned = directory.to_owned();
    let _ = tokio::task::spawn_blocking(move || launch::abandon(&owned)).await;
    Found::Lost
}

/// Finds a running task's shim. Absent when its process was never told to run: then it is told to end.
async fn greet(directory: &Path) -> io::Result<Option<Task>> {
    let mut line = Line::new(connection::reconnect(directory)?)?;
    let (reply, mut fds) = match line.request(&ToShim::Hello, &[]).await {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => return silent(directory, line).map(Some),
        answered => answered?,
    };
    let nonsense = || io::Error::other("the shim's answer makes no sense");
    let (state, level) = match reply {
        Reply::HereAt { state, level } => (state, level),
        // Of a version before levels.
        Reply::Here(state) => (state, 0),
        _ => return Err(nonsense()),
    };
    let pidfd = fds.pop().ok_or_else(nonsense)?;
    if !state.started {
        undo(&mut line, &state).await;
        return Ok(None);
    }
    let cgroup = Cgroup::open(&state.cgroup).map_err(io::Error::other)?;
    Ok(Some(Task {
        line,
        pidfd,
        state,
        cgroup: Arc::new(cgroup),
        started_at: started_at(directory).unwrap_or_default(),
        level,
    }))
}

/// A shim that is stopped or stuck is no reason to end its container: what it left on disk says what runs.
fn silent(directory: &Path, line: Line) -> io::Result<Task> {
    let state = state::read_state(directory)?.filter(|state| state.started);
    let state = state.ok_or_else(|| io::Error::other("the shim does not answer, and its container was not started"))?;
    let pid = Pid::from_raw(state.pid).ok_or_else(|| io::Error::other("the task's state names no process"))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    if state::start_ticks(state.pid)? != state.pid_start_ticks {
        return Err(io::Error::other("the container's process has ended"));
    }
    tracing::warn!(shim = state.shim_pid, directory = %directory.display(), "a shim does not answer: is it stopped?");
    let cgroup = Cgroup::open(&state.cgroup).map_err(io::Error::other)?;
    Ok(Task {
        line,
        pidfd,
        state,
        cgroup: Arc::new(cgroup),
        started_at: started_at(directory).unwrap_or_default(),
        // Whatever it understands, it does not answer.
        level: 0,
    })
}

/// Execs that a daemon before this started, running and ended ones, come to be known.
async fn find_execs(context: &Context, container: &str, line: &mut Line) -> io::Result<()> {
    let mut from = 0;
    while let (Reply::NextExec(Some(found)), _) = line.request(&ToShim::NextExec { from }, &[]).await? {
        from = found.number + 1;
        let record: ExecRecord = serde_json::from_slice(&found.description).unwrap_or_default();
        let running = exec::Phase::Running {
            pid: found.pid,
            confirmed: true,
        };
        let exec = Exec::found(&found.id, container, record, running);
        let id = exec.id.clone();
        context.execs.insert(Arc::new(exec));
        if let Some(exit) = found.exit {
            context.execs.end(&id, |exec| exec.end(exit.code, exit.failure));
        }
    }
    Ok(())
}

/// Kills what was created and never started; waits until its shim has tidied up.
async fn undo(line: &mut Line, state: &TaskState) {
    if line.request(&ToShim::KillAll, &[]).await.is_ok() {
        while let Ok(Some(_)) = line.event().await {}
    }
    tracing::info!(pid = state.pid, "undid a start that was not finished");
}

/// Removes directories that belong to no container.
fn sweep(context: &Context, table: &Table) {
    let layout = context.store.layout();
    let strangers = |parent: &Path| {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names
            .filter(|name| names_no_record(context, table, name))
            .collect::<Vec<_>>()
    };
    for id in strangers(&layout.tasks()) {
        tracing::info!(task = %id, "removing a task without a container");
        launch::abandon(&layout.task(&id));
    }
    for id in strangers(&layout.actives()) {
        warn_if(context.store.remove_active(&id));
    }
    for id in strangers(&layout.containers()) {
        warn_if(context.store.discard(&layout.container(&id)));
    }
    for volume in context.volumes.all() {
        if volume
            .owner
            .is_some_and(|owner| names_no_record(context, table, &owner))
            && let Err(error) = context.volumes.remove(&volume.name, || users_of(table, &volume.name))
            && (error.kind() != Kind::Conflict || context.volumes.disown(&volume.name).is_err())
        {
            tracing::warn!(volume = %volume.name, %error, "cannot remove what a crash left");
        }
    }
    let volumes = context.volumes.all();
    let entries = fs::read_dir(layout.volumes()).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        if !volumes.iter().any(|volume| name == *volume.name) {
            warn_if(context.store.discard(&entry.path()));
        }
    }
}

/// A record that could not be read still owns what it owns.
fn names_no_record(context: &Context, table: &Table, id: &str) -> bool {
    let unread = || {
        context
            .store
            .records(KIND)
            .is_ok_and(|records| records.iter().any(|(known, _)| known == id))
    };
    table.find(id).is_err() && !unread()
}

fn warn_if<E: std::error::Error>(removed: std::result::Result<(), E>) {
    if let Err(error) = removed {
        tracing::warn!(error = %causes(&error), "cannot remove what a crash left");
    }
}

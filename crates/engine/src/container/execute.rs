//! The verbs on execs: describe one, start it, ask about it.
use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use corten_runtime::process::exec as plan;
use tokio::{net::UnixStream, time::timeout};

use crate::{
    container::{
        attach::{self, Attachment},
        detach::DetachKeys,
        exec::{Exec, ExecOptions, ExecStartOptions, Phase},
        handle::{Command, Handle},
        joined::check_exec,
        links,
        table::Table,
    },
    context::Context,
    error::{Error, Result, causes},
    task::exec,
};

/// How long a resize may be early, as with Docker.
const RESIZE_PATIENCE: Duration = Duration::from_secs(10);

/// Describes an exec; its id.
pub async fn create(context: &Context, handle: &Handle, options: ExecOptions) -> Result<String> {
    if options.argv.is_empty() {
        return Err(Error::invalid("No exec command specified"));
    }
    if !options.working_dir.is_empty() && !options.working_dir.starts_with('/') {
        return Err(Error::invalid(format!(
            "Cwd must be an absolute path: {:?}",
            options.working_dir
        )));
    }
    DetachKeys::parse(options.detach_keys.as_deref())?;
    let snapshot = handle.snapshot();
    check_exec(&handle.id, snapshot.state.phase)?;
    let record = exec::record(&snapshot.record, &options);
    let exec = Arc::new(Exec::new(&handle.id, record, options));
    announce(context, handle, &exec).await?;
    Ok(exec.id.clone())
}

/// From now on it can be asked about, and started.
pub async fn announce(context: &Context, handle: &Handle, exec: &Arc<Exec>) -> Result<()> {
    let exec = Arc::clone(exec);
    context.execs.insert(Arc::clone(&exec));
    let action = format!("exec_create: {}", exec.record.command());
    // In its place among the container's events.
    handle.ask(|reply| Command::TellExec { exec, action, reply }).await
}

/// Starts it. With a client: its place at the streams; without one: when the program runs.
pub async fn start(
    context: &Context,
    table: &Table,
    id: &str,
    options: ExecStartOptions,
) -> Result<Option<Attachment>> {
    let exec = context.execs.find(id)?;
    let handle = table.find(&exec.container)?;
    check_exec(&handle.id, handle.snapshot().state.phase)?;
    let keys = DetachKeys::parse(exec.record.detach_keys.as_deref())?;
    exec.claim()?;
    let streams = if options.detach { None } else { Some(attach::pair()?) };
    let (ours, theirs) = streams.unzip();
    run(context, table, &handle, &exec, options, theirs).await?;
    match ours {
        Some(ours) => Ok(Some(Attachment::of_exec(handle, exec, ours, keys, options.tty))),
        None => wait_until_it_runs(&exec).await.map(|()| None),
    }
}

/// The engine's own client: what the process prints comes raw, both streams in one.
pub async fn start_captured(context: &Context, table: &Table, exec: &Arc<Exec>) -> Result<UnixStream> {
    let handle = table.find(&exec.container)?;
    exec.claim()?;
    let options = ExecStartOptions {
        tty: true,
        ..ExecStartOptions::default()
    };
    let (ours, theirs) = attach::pair()?;
    run(context, table, &handle, exec, options, Some(theirs)).await?;
    Ok(ours)
}

async fn run(
    context: &Context,
    table: &Table,
    handle: &Handle,
    exec: &Arc<Exec>,
    options: ExecStartOptions,
    client: Option<OwnedFd>,
) -> Result<()> {
    let started = async {
        let plan = make_plan(context, table, handle, exec, options)?;
        let exec = Arc::clone(exec);
        handle
            .ask(|reply| Command::Exec {
                exec,
                plan,
                client,
                confirm: options.detach,
                reply,
            })
            .await
    };
    started.await.inspect_err(|_| {
        // What was claimed and cannot be started any more has ended.
        context.execs.end(&exec.id, |exec| exec.end(126, None));
    })
}

fn make_plan(
    context: &Context,
    table: &Table,
    handle: &Handle,
    exec: &Exec,
    start: ExecStartOptions,
) -> Result<OwnedFd> {
    let record = handle.record();
    let links = links::linked(&record, table).unwrap_or_default();
    let links: Vec<String> = links.into_iter().flat_map(|linked| linked.environment).collect();
    let request = exec::request(context, &record, &links, &exec.record, exec.take_options(), start)?;
    let plan = plan::compile(request).map_err(|error| Error::invalid(causes(&error)))?;
    plan.memfd()
        .map_err(|error| Error::system("cannot hand over the plan").because(error))
}

async fn wait_until_it_runs(exec: &Exec) -> Result<()> {
    let settled = |phase: &Phase| matches!(phase, Phase::Running { confirmed: true, .. } | Phase::Ended(_));
    match exec.wait_until(settled).await {
        Phase::Ended(end) => end.trouble().map_or(Ok(()), Err),
        _ => Ok(()),
    }
}

/// New size of its terminal. One that is not started yet is waited for, for a while.
pub async fn resize(context: &Context, table: &Table, id: &str, rows: u16, columns: u16) -> Result<()> {
    let exec = context.execs.find(id)?;
    let started = |phase: &Phase| matches!(phase, Phase::Running { .. } | Phase::Ended(_));
    let phase = timeout(RESIZE_PATIENCE, exec.wait_until(started)).await;
    match phase {
        Err(_) => Err(Error::system("timeout waiting for exec session ready")),
        Ok(Phase::Ended(_)) => Err(Error::conflict("cannot resize a process that has ended")),
        Ok(_) => {
            let handle = table.find(&exec.container)?;
            handle
                .ask(|reply| Command::ResizeExec {
                    exec,
                    rows,
                    columns,
                    reply,
                })
                .await
        }
    }
}

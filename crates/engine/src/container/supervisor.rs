//! The supervisor: one tokio task for each container, and the only one that changes it.
//!
//! It ends when its container is removed, or when the engine closes (then the container goes on by itself).
use std::sync::Arc;

use corten_runtime::shim::protocol::Event;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    container::{
        handle::{Command, Handle, Snapshot},
        record::Record,
        restart::{Due, Restarts},
        state::{Phase, State},
        supervised::Supervised,
        table::Table,
    },
    context::Context,
    task::launch::Task,
};

/// Commands that may wait for their turn.
const QUEUE: usize = 64;

/// Puts a container into the table and gives it a supervisor.
pub fn supervise(
    context: Arc<Context>,
    table: Arc<Table>,
    record: Arc<Record>,
    state: State,
    task: Option<Task>,
    closing: CancellationToken,
) -> Handle {
    let (commands, queue) = mpsc::channel(QUEUE);
    let snapshot = Snapshot {
        record: Arc::clone(&record),
        state: Arc::new(state.clone()),
        exits: 0,
        removed: false,
        cgroup: task.as_ref().map(|task| Arc::clone(&task.cgroup)),
    };
    let (watch, watched) = watch::channel(snapshot);
    // One that is found waiting for its restart belongs to whoever brings containers back in their order.
    let restarts = Restarts {
        due: (state.phase == Phase::Restarting).then_some(Due::InOrder),
        ..Restarts::default()
    };
    let writing = Arc::default();
    let handle = Handle {
        id: record.id.as_str().into(),
        watch: watched,
        commands,
        writing: Arc::clone(&writing),
    };
    table.insert(handle.clone());
    let container = Supervised {
        context,
        table,
        record,
        state,
        exits: 0,
        restarts,
        task,
        waiting: Vec::new(),
        links: None,
        removed: false,
        health_watch: None,
        watch,
        writing,
    };
    tokio::spawn(run(container, queue, closing));
    handle
}

async fn run(mut container: Supervised, mut queue: mpsc::Receiver<Command>, closing: CancellationToken) {
    let _last_word = LastWord;
    // One that a daemon before this one started.
    container.resume_health();
    while !container.removed {
        tokio::select! {
            event = next_event(&mut container.task) => container.hear(event).await,
            command = queue.recv() => match command {
                Some(command) => obey(&mut container, command).await,
                None => break,
            },
            () = container.restarts.due() => container.retry().await,
            () = closing.cancelled() => break,
        }
    }
    dismiss(queue).await;
}

/// Lets everybody who still asks know that nobody answers any more. Dropping the queue would not: a command that is just
/// being put into it would lie there, with its reply, for as long as anybody has a handle, and who asks has one.
async fn dismiss(mut queue: mpsc::Receiver<Command>) {
    queue.close();
    while queue.recv().await.is_some() {}
}

/// A supervisor that panics would leave its container to nobody. The daemon ends instead, and the next one finds
/// everything again: that way is walked after every crash, and tested.
struct LastWord;

impl Drop for LastWord {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// Never, when nothing runs.
async fn next_event(task: &mut Option<Task>) -> Option<Event> {
    match task {
        None => std::future::pending().await,
        Some(task) => match task.line.event().await {
            Ok(event) => event,
            Err(error) => {
                tracing::error!(%error, "cannot hear a shim any more");
                None
            }
        },
    }
}

async fn obey(container: &mut Supervised, command: Command) {
    // Who asked may have gone away: then nobody needs the answer.
    match command {
        Command::Start { reply } => drop(reply.send(container.start().await)),
        Command::Signal { number, reply } => drop(reply.send(container.signal(number).await)),
        Command::KillAll { removal, reply } => drop(reply.send(container.kill_all(removal).await)),
        Command::Pause { reply } => drop(reply.send(container.pause().await)),
        Command::Unpause { reply } => drop(reply.send(container.unpause().await)),
        Command::Resize { rows, columns, reply } => drop(reply.send(container.resize(rows, columns).await)),
        Command::Attach { attacher, reply } => drop(reply.send(container.attach(attacher).await)),
        Command::Exec {
            exec,
            plan,
            client,
            confirm,
            reply,
        } => drop(reply.send(container.exec(&exec, plan, client, confirm).await)),
        Command::ResizeExec {
            exec,
            rows,
            columns,
            reply,
        } => drop(reply.send(container.resize_exec(&exec, rows, columns).await)),
        Command::SignalExec { exec, number, reply } => drop(reply.send(container.signal_exec(&exec, number).await)),
        Command::Probe { probe, reply } => drop(reply.send(Ok(container.note_probe(probe)))),
        Command::TellExec { exec, action, reply } => {
            container.tell_exec(&exec, &action, &[]);
            drop(reply.send(Ok(())));
        }
        Command::Rename { name, reply } => drop(reply.send(container.rename(name))),
        Command::Update { options, reply } => drop(reply.send(container.update(*options).await)),
        Command::Connect { network, wish, reply } => drop(reply.send(container.connect(&network, *wish).await)),
        Command::Disconnect { network, force, reply } => {
            drop(reply.send(container.disconnect(&network, force).await));
        }
        Command::Unlink { alias, reply } => drop(reply.send(container.unlink(&alias))),
        Command::RefreshLinks { reply } => {
            container.refresh_links();
            drop(reply.send(Ok(())));
        }
        Command::Remove { volumes, reply } => drop(reply.send(container.remove(volumes))),
        Command::Tell { action, reply } => {
            container.tell(&action, &[]);
            drop(reply.send(Ok(())));
        }
        Command::Process { reply } => drop(reply.send(container.process())),
        Command::Hold { reply } => drop(reply.send(container.hold().await)),
        Command::LetGo { reply } => drop(reply.send(container.let_go().await)),
        Command::Cgroup { reply } => drop(reply.send(container.cgroup())),
        Command::MarkStopped { restart, reply } => {
            container.mark_stopped();
            container.restarts.by_user = restart;
            drop(reply.send(Ok(())));
        }
        Command::Bury { reply } => drop(reply.send(container.bury().await)),
        Command::Retry { reply } => {
            container.retry().await;
            drop(reply.send(Ok(())));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_command_on_its_way_to_one_that_is_gone_is_answered() {
        let (commands, queue) = mpsc::channel(QUEUE);
        let begun = commands.reserve().await.expect("the queue is open");
        let dismissed = tokio::spawn(dismiss(queue));
        while !commands.is_closed() {
            tokio::task::yield_now().await;
        }
        let (reply, answer) = oneshot::channel();
        begun.send(Command::Retry { reply });
        let answer = tokio::time::timeout(Duration::from_secs(60), answer).await;
        answer.expect("it is dismissed").expect_err("nobody obeys it");
        dismissed.await.expect("no panic");
    }
}

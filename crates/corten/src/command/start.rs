//! `start`: run again what stopped, or for the first time what `create` made.
use std::rc::Rc;

use corten_api::calls::AttachQuery;
use corten_api::client::Client;

use crate::arguments::{Arity, Command, Flag, Matches, Outcome};
use crate::command::run;
use crate::failure::Failure;
use crate::session::Session;
use crate::signals;
use crate::stream::{self, Attached, Ended};
use crate::terminal::{self, DetachKeys, RawMode};

pub static START: Command = Command {
    name: "start",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Start one or more stopped containers",
    aliases: &["container start", "start"],
    flags: &[&[
        Flag::switch("attach", "Attach to STDOUT and STDERR and hand signals on").short('a'),
        Flag::single("checkpoint", "string", "Restore from this checkpoint"),
        Flag::single("checkpoint-dir", "string", "Directory of checkpoints"),
        Flag::single(
            "detach-keys",
            "string",
            "Keys that detach from the container (default \"ctrl-p,ctrl-q\")",
        ),
        Flag::switch("interactive", "Attach to STDIN").short('i'),
    ]],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |session, matches| Box::pin(start(session, matches)),
};
use crate::{errln, outln};

async fn start(session: Session, matches: Matches) -> Outcome {
    let client = match session.client().await {
        Ok(client) => client,
        Err(error) => {
            errln!("{error}");
            return Err(Failure::new(format!(
                "Error: failed to start containers: {}",
                matches.arguments.join(", ")
            )));
        }
    };
    if matches.on("attach") || matches.on("interactive") {
        if matches.arguments.len() > 1 {
            return Err(Failure::new("you cannot start and attach multiple containers at once"));
        }
        return start_attached(&client, &matches).await;
    }
    let checkpoint = matches.some("checkpoint");
    if checkpoint.is_some() && matches.arguments.len() > 1 {
        return Err(Failure::new("you cannot restore multiple containers at once"));
    }
    let mut failed = Vec::new();
    for name in &matches.arguments {
        match client.start(name, checkpoint).await {
            Ok(()) => outln!("{name}"),
            Err(error) => {
                errln!("{error}");
                failed.push(name.as_str());
            }
        }
    }
    if failed.is_empty() {
        return Ok(0);
    }
    Err(Failure::new(format!(
        "Error: failed to start containers: {}",
        failed.join(", ")
    )))
}

async fn start_attached(client: &Rc<Client>, matches: &Matches) -> Outcome {
    let container = client.inspect_container(matches.argument(0)).await?;
    let (tty, id) = (container.config.tty, container.id.clone());
    let keys = DetachKeys::parse(matches.text("detach-keys").unwrap_or_default())?;
    let _forwarding = match tty {
        true => None,
        false => Some(signals::forward(client.clone(), id.clone())?),
    };
    let query = AttachQuery {
        stdin: matches.on("interactive") && container.config.open_stdin,
        stdout: true,
        stderr: true,
        logs: false,
        detach_keys: matches.some("detach-keys").map(str::to_string),
    };
    let streams = client.attach(&id, &query).await?;
    let condition = if container.host_config.auto_remove {
        "removed"
    } else {
        "next-exit"
    };
    let ended = client.wait(&id, Some(condition)).await?;
    let raw = (tty && query.stdin && terminal::stdin_is_terminal())
        .then(RawMode::enter)
        .transpose();
    let raw = raw.map_err(|error| Failure::io("cannot set up the terminal", &error))?;
    let copying = tokio::task::spawn_local(stream::copy(
        streams,
        Attached {
            tty,
            stdin: query.stdin,
            detach_keys: keys,
        },
    ));
    if let Err(error) = client.start(&id, matches.some("checkpoint")).await {
        copying.abort();
        drop(raw);
        errln!("{error}");
        return Err(Failure::new(format!(
            "Error: failed to start containers: {}",
            matches.argument(0)
        )));
    }
    let _size = match tty && terminal::stdout_is_terminal() {
        true => Some(signals::follow_size(client.clone(), signals::Sized::Container(id)).await?),
        false => None,
    };
    let copied = copying
        .await
        .unwrap_or_else(|error| Err(Failure::new(error.to_string())));
    drop(raw);
    if copied? == Ended::Detached {
        return Ok(0);
    }
    run::exit_status(ended).await
}

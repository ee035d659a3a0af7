//! `run`: create, attach, start, and become what the container is: its streams, its signals, its exit status.
//!
//! The order is what makes it safe: attached and waiting before the start, so that not a byte of output and not the
//! shortest life is missed.
use std::rc::Rc;
use std::time::Duration;

use corten_api::calls::AttachQuery;
use corten_api::client::{Client, Streaming};
use corten_api::types::container::CreateRequest;
use corten_api::types::container_answers::WaitResponse;

use crate::arguments::{Arity, Command, Matches, Outcome};
use crate::command::create;
use crate::failure::Failure;
use crate::flags::{known, request};
use crate::session::Session;
use crate::signals;
use crate::stream::{self, Attached, Ended};
use crate::terminal::{self, DetachKeys, RawMode};

pub static RUN: Command = Command {
    name: "run",
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    about: "Create and run a new container from an image",
    aliases: &["container run", "run"],
    flags: &[known::RUN_ONLY, known::CREATE],
    arity: Arity::AtLeast(1),
    interspersed: false,
    run: |session, matches| Box::pin(run(session, matches)),
};
use crate::outln;

/// How long a container that could not start may take to be removed.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(10);

async fn run(session: Session, matches: Matches) -> Outcome {
    let refuse = |failure: Failure| create::refused(&session, failure);
    let detached = matches.on("detach");
    let mut request = create::build(&session, &matches).map_err(|reason| refuse(Failure::new(reason)))?;
    if detached {
        if matches.given("attach") {
            return Err(Failure::new(
                "conflicting options: cannot specify both --attach and --detach",
            ));
        }
        request::detach(&mut request);
    } else if request.config.tty && request.config.attach_stdin && !terminal::stdin_is_terminal() {
        return Err(Failure::new("the input device is not a TTY"));
    }
    let keys = DetachKeys::parse(matches.text("detach-keys").unwrap_or_default())
        .map_err(|reason| refuse(Failure::new(reason)))?;
    if request.config.tty
        && let Some((rows, columns)) = terminal::size()
    {
        request.host_config.console_size = [u64::from(rows), u64::from(columns)];
    }
    let client = session.client().await.map_err(|error| refuse(error.into()))?;
    let id = create::make(&client, &matches, &request, refuse).await?;
    if detached {
        client
            .start(&id, None)
            .await
            .map_err(|error| not_started(&session, error.into()))?;
        outln!("{id}");
        return Ok(0);
    }
    attached(&session, &client, &matches, &request, keys, id).await
}

async fn attached(
    session: &Session,
    client: &Rc<Client>,
    matches: &Matches,
    request: &CreateRequest,
    keys: DetachKeys,
    id: String,
) -> Outcome {
    let config = &request.config;
    let remove = request.host_config.auto_remove;
    let refuse = |failure: Failure| create::refused(session, failure);
    let _forwarding = match matches.on_by_default("sig-proxy") {
        true => Some(signals::forward(client.clone(), id.clone())?),
        false => None,
    };
    let query = AttachQuery {
        stdin: config.attach_stdin,
        stdout: config.attach_stdout,
        stderr: config.attach_stderr,
        logs: false,
        detach_keys: matches.some("detach-keys").map(str::to_string),
    };
    let condition = if remove { "removed" } else { "next-exit" };
    // Both at once: one round trip less between the user and the start.
    let (streams, ended) = tokio::try_join!(client.attach(&id, &query), client.wait(&id, Some(condition)))
        .map_err(|error| refuse(error.into()))?;
    let raw = (config.tty && config.attach_stdin).then(RawMode::enter).transpose();
    let raw = raw.map_err(|error| Failure::io("cannot set up the terminal", &error))?;
    let attached = Attached {
        tty: config.tty,
        stdin: config.attach_stdin,
        detach_keys: keys,
    };
    // Copying begins before the start: a fast container's output would fill the socket otherwise.
    let copying = tokio::task::spawn_local(stream::copy(streams, attached));
    if let Err(error) = client.start(&id, None).await {
        copying.abort();
        drop(raw);
        if remove {
            let _ = tokio::time::timeout(REMOVAL_TIMEOUT, exit_status(ended)).await;
        }
        return Err(not_started(session, error.into()));
    }
    let _size = match config.tty && terminal::stdout_is_terminal() {
        true => Some(signals::follow_size(client.clone(), signals::Sized::Container(id.clone())).await?),
        false => None,
    };
    let copied = copying
        .await
        .unwrap_or_else(|error| Err(Failure::new(error.to_string())));
    drop(raw);
    if copied? == Ended::Detached {
        return Ok(0);
    }
    exit_status(ended).await
}

/// What a start that failed means: 127 for a command that is not there, 126 for one that cannot be run, else 125.
pub fn not_started(session: &Session, failure: Failure) -> Failure {
    let text = &failure.text;
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let status = match () {
        () if says(&[
            "executable file not found",
            "no such file or directory",
            "No such file or directory",
        ]) =>
        {
            127
        }
        () if says(&[
            "permission denied",
            "Permission denied",
            "is a directory",
            "Is a directory",
        ]) =>
        {
            126
        }
        () => 125,
    };
    create::refused(session, failure).with_status(status)
}

/// Waits for the end of the container.
pub async fn exit_status(mut ended: Streaming) -> Outcome {
    let mut body = Vec::new();
    while let Some(piece) = ended.next().await {
        let lost = |error| Failure::io("Error waiting for container", &error).with_status(125);
        body.extend_from_slice(&piece.map_err(lost)?);
    }
    let answer: WaitResponse = serde_json::from_slice(&body)
        .map_err(|_| Failure::new("Error waiting for container: the daemon went away").with_status(125))?;
    if let Some(error) = answer.error.filter(|error| !error.message.is_empty()) {
        return Err(Failure::new(format!("Error waiting for container: {}", error.message)).with_status(125));
    }
    // Like the shell's, the status is a byte.
    Ok((answer.status_code & 0xff) as u8)
}

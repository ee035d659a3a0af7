//! `attach`: join the streams of a container that runs.
use corten_api::calls::AttachQuery;

use crate::arguments::{Arity, Command, Flag, Matches, Outcome};
use crate::command::run;
use crate::failure::Failure;
use crate::session::Session;
use crate::signals;
use crate::stream::{self, Attached, Ended};
use crate::terminal::{self, DetachKeys, RawMode};

pub static ATTACH: Command = Command {
    name: "attach",
    usage: "[OPTIONS] CONTAINER",
    about: "Attach to the input, output and error streams of a running container",
    aliases: &["container attach", "attach"],
    flags: &[&[
        Flag::single(
            "detach-keys",
            "string",
            "Keys that detach from the container (default \"ctrl-p,ctrl-q\")",
        ),
        Flag::switch("no-stdin", "Do not attach to STDIN"),
        Flag::switch_on("sig-proxy", "Hand signals on to the process"),
    ]],
    arity: Arity::Exactly(1),
    interspersed: true,
    run: |session, matches| Box::pin(attach(session, matches)),
};

async fn attach(session: Session, matches: Matches) -> Outcome {
    let client = session.client().await?;
    let container = client.inspect_container(matches.argument(0)).await?;
    let state = &container.state;
    match () {
        () if !state.running => {
            return Err(Failure::new("You cannot attach to a stopped container, start it first"));
        }
        () if state.paused => {
            return Err(Failure::new(
                "You cannot attach to a paused container, unpause it first",
            ));
        }
        () if state.restarting => {
            return Err(Failure::new(
                "You cannot attach to a restarting container, wait until it is running",
            ));
        }
        () => {}
    }
    let (tty, id) = (container.config.tty, container.id.clone());
    let stdin = !matches.on("no-stdin") && container.config.open_stdin;
    if tty && stdin && !terminal::stdin_is_terminal() {
        return Err(Failure::new("the input device is not a TTY"));
    }
    let keys = DetachKeys::parse(matches.text("detach-keys").unwrap_or_default())?;
    let query = AttachQuery {
        stdin,
        stdout: true,
        stderr: true,
        logs: false,
        detach_keys: matches.some("detach-keys").map(str::to_string),
    };
    let ended = client.wait(&id, None).await?;
    let _forwarding = match matches.on_by_default("sig-proxy") && !tty {
        true => Some(signals::forward(client.clone(), id.clone())?),
        false => None,
    };
    let streams = client.attach(&id, &query).await?;
    let raw = (tty && stdin).then(RawMode::enter).transpose();
    let raw = raw.map_err(|error| Failure::io("cannot set up the terminal", &error))?;
    let _size = match tty && terminal::stdout_is_terminal() {
        true => Some(signals::follow_size(client.clone(), signals::Sized::Container(id)).await?),
        false => None,
    };
    let copied = stream::copy(
        streams,
        Attached {
            tty,
            stdin,
            detach_keys: keys,
        },
    )
    .await;
    drop(raw);
    if copied? == Ended::Detached {
        return Err(Failure::new("read escape sequence"));
    }
    run::exit_status(ended).await
}

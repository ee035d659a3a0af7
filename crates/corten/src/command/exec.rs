//! `exec`: one more process in a container that runs; the client becomes its streams and its exit status.
use std::rc::Rc;

use corten_api::client::Client;
use corten_api::types::exec::{ExecCreateRequest, ExecStartRequest};

use crate::arguments::{Arity, Command, Flag, Matches, Outcome};
use crate::failure::Failure;
use crate::flags::environment;
use crate::session::Session;
use crate::signals::{self, Sized};
use crate::stream::{self, Attached, Ended};
use crate::terminal::{self, DetachKeys, RawMode};

pub static EXEC: Command = Command {
    name: "exec",
    usage: "[OPTIONS] CONTAINER COMMAND [ARG...]",
    about: "Execute a command in a running container",
    aliases: &["container exec", "exec"],
    flags: &[&[
        Flag::switch("detach", "Run the command in the background").short('d'),
        Flag::single(
            "detach-keys",
            "string",
            "Keys that detach from the command (default \"ctrl-p,ctrl-q\")",
        ),
        Flag::list("env", "list", "Set environment variables")
            .short('e')
            .check(environment::check_variable),
        Flag::list("env-file", "list", "Read environment variables from a file"),
        Flag::switch("interactive", "Keep STDIN open").short('i'),
        Flag::switch("privileged", "Give the command every capability"),
        Flag::switch("tty", "Allocate a pseudo-terminal").short('t'),
        Flag::single(
            "user",
            "string",
            "Name or number of the user (\"<name|uid>[:<group|gid>]\")",
        )
        .short('u'),
        Flag::single("workdir", "string", "Working directory in the container").short('w'),
    ]],
    arity: Arity::AtLeast(2),
    interspersed: false,
    run: |session, matches| Box::pin(exec(session, matches)),
};

async fn exec(session: Session, matches: Matches) -> Outcome {
    let keys = DetachKeys::parse(matches.text("detach-keys").unwrap_or_default()).map_err(Failure::new)?;
    let request = request(&matches)?;
    let client = session.client().await?;
    let name = matches.argument(0);
    // A container that is not there is told before a terminal that is not there.
    client.inspect_container(name).await?;
    if !matches.on("detach") && request.tty && request.attach_stdin && !terminal::stdin_is_terminal() {
        return Err(Failure::new("the input device is not a TTY"));
    }
    let id = client.create_exec(name, &request).await?.id;
    let start = ExecStartRequest {
        detach: matches.on("detach"),
        tty: request.tty,
        console_size: request.console_size,
    };
    if start.detach {
        client.start_exec_detached(&id, &start).await?;
        return Ok(0);
    }
    attached(client, id, &request, &start, keys).await
}

fn request(matches: &Matches) -> Result<ExecCreateRequest, Failure> {
    let env = environment::environment(matches.list("env-file"), matches.list("env")).map_err(Failure::new)?;
    let (detach, tty) = (matches.on("detach"), matches.on("tty"));
    let size = terminal::size().filter(|_| tty);
    Ok(ExecCreateRequest {
        user: matches.owned("user"),
        privileged: matches.on("privileged"),
        tty,
        console_size: size.map(|(rows, columns)| [u64::from(rows), u64::from(columns)]),
        attach_stdin: matches.on("interactive") && !detach,
        attach_stdout: !detach,
        attach_stderr: !detach,
        detach_keys: matches.owned("detach-keys"),
        env,
        working_dir: matches.owned("workdir"),
        cmd: matches.arguments[1..].to_vec(),
    })
}

async fn attached(
    client: Rc<Client>,
    id: String,
    request: &ExecCreateRequest,
    start: &ExecStartRequest,
    keys: DetachKeys,
) -> Outcome {
    let streams = client.start_exec(&id, start).await?;
    let raw = (request.tty && request.attach_stdin).then(RawMode::enter).transpose();
    let raw = raw.map_err(|error| Failure::io("cannot set up the terminal", &error))?;
    let _size = match request.tty && terminal::stdout_is_terminal() {
        true => Some(signals::follow_size(client.clone(), Sized::Exec(id.clone())).await?),
        false => None,
    };
    let attached = Attached {
        tty: request.tty,
        stdin: request.attach_stdin,
        detach_keys: keys,
    };
    let copied = stream::copy(streams, attached).await;
    drop(raw);
    if copied? == Ended::Detached {
        return Err(Failure::new("read escape sequence"));
    }
    let exec = client.inspect_exec(&id).await?;
    // Like the shell's, the status is a byte.
    Ok((exec.exit_code.unwrap_or_default() & 0xff) as u8)
}

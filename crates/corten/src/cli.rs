//! The commands as one tree, and the way from a command line to the one that runs.
//!
//! Docker has two spellings for most verbs, `docker ps` and `docker container ls`: both lead to the same [`Command`].
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use corten_api::transport::Endpoint;

use crate::arguments::{self, Arity, Command, Flag, Matches};
use crate::command::{
    archive, attach, commit, container, context, cp, create, dial, events, exec, image, inspect, logs, names, network,
    ps, run, start, stats, system, update, volume,
};
use crate::completion::{self, Node};
use crate::context::resolve::{self, Resolved};
use crate::context::store::Store;
use crate::failure::Failure;
use crate::help;
use crate::manual;
use crate::session::Session;
use crate::{errln, out, outln};

/// A word that leads to more words, as `container` does.
struct Group {
    name: &'static str,
    about: &'static str,
    commands: &'static [(&'static str, &'static Command)],
}

/// Commands that need no group before them.
static TOP: &[&Command] = &[
    &attach::ATTACH,
    &commit::COMMIT,
    &cp::CP,
    &create::CREATE,
    &commit::DIFF,
    &events::EVENTS,
    &exec::EXEC,
    &archive::EXPORT,
    &image::HISTORY,
    &archive::IMPORT,
    &image::IMAGES,
    &system::INFO,
    &inspect::INSPECT,
    &container::KILL,
    &archive::LOAD,
    &logs::LOGS,
    &container::PAUSE,
    &container::PORT,
    &ps::PS,
    &container::RENAME,
    &container::RESTART,
    &container::RM,
    &image::RMI,
    &run::RUN,
    &archive::SAVE,
    &start::START,
    &stats::STATS,
    &container::STOP,
    &image::TAG,
    &container::TOP,
    &container::UNPAUSE,
    &update::UPDATE,
    &system::VERSION,
    &container::WAIT,
];

static GROUPS: &[Group] = &[
    Group {
        name: "container",
        about: "Manage containers",
        commands: &[
            ("attach", &attach::ATTACH),
            ("commit", &commit::COMMIT),
            ("cp", &cp::CP),
            ("create", &create::CREATE),
            ("diff", &commit::DIFF),
            ("export", &archive::EXPORT),
            ("exec", &exec::EXEC),
            ("inspect", &inspect::CONTAINER),
            ("kill", &container::KILL),
            ("list", &ps::PS),
            ("logs", &logs::LOGS),
            ("ls", &ps::PS),
            ("pause", &container::PAUSE),
            ("port", &container::PORT),
            ("prune", &container::PRUNE),
            ("ps", &ps::PS),
            ("remove", &container::RM),
            ("rename", &container::RENAME),
            ("restart", &container::RESTART),
            ("rm", &container::RM),
            ("run", &run::RUN),
            ("start", &start::START),
            ("stats", &stats::STATS),
            ("stop", &container::STOP),
            ("top", &container::TOP),
            ("unpause", &container::UNPAUSE),
            ("update", &update::UPDATE),
            ("wait", &container::WAIT),
        ],
    },
    Group {
        name: "image",
        about: "Manage images",
        commands: &[
            ("history", &image::HISTORY),
            ("import", &archive::IMPORT),
            ("inspect", &inspect::IMAGE),
            ("list", &image::IMAGES),
            ("load", &archive::LOAD),
            ("ls", &image::IMAGES),
            ("prune", &image::PRUNE),
            ("remove", &image::RMI),
            ("rm", &image::RMI),
            ("save", &archive::SAVE),
            ("tag", &image::TAG),
        ],
    },
    Group {
        name: "network",
        about: "Manage networks",
        commands: &[
            ("connect", &network::CONNECT),
            ("create", &network::CREATE),
            ("disconnect", &network::DISCONNECT),
            ("inspect", &inspect::NETWORK),
            ("list", &network::LS),
            ("ls", &network::LS),
            ("prune", &network::PRUNE),
            ("remove", &network::RM),
            ("rm", &network::RM),
        ],
    },
    Group {
        name: "context",
        about: "Manage contexts",
        commands: &[
            ("create", &context::CREATE),
            ("export", &context::EXPORT),
            ("import", &context::IMPORT),
            ("inspect", &context::INSPECT),
            ("list", &context::LS),
            ("ls", &context::LS),
            ("remove", &context::RM),
            ("rm", &context::RM),
            ("show", &context::SHOW),
            ("update", &context::UPDATE),
            ("use", &context::USE),
        ],
    },
    Group {
        name: "system",
        about: "Manage the engine",
        commands: &[
            ("df", &system::DF),
            ("dial-stdio", &dial::DIAL_STDIO),
            ("events", &events::EVENTS),
            ("info", &system::INFO),
            ("prune", &system::PRUNE),
        ],
    },
    Group {
        name: "volume",
        about: "Manage volumes",
        commands: &[
            ("create", &volume::CREATE),
            ("inspect", &inspect::VOLUME),
            ("list", &volume::LS),
            ("ls", &volume::LS),
            ("prune", &volume::PRUNE),
            ("remove", &volume::RM),
            ("rm", &volume::RM),
            ("update", &volume::UPDATE),
        ],
    },
];

/// For our own scripts.
static HIDDEN: &[&Command] = &[&names::NAMES];

/// What is made from the commands themselves.
const FROM_COMMANDS: [(&str, &str); 2] = [
    ("completion", "Print the completion script for bash, fish or zsh"),
    ("manual", "Write manual pages into a directory"),
];

/// Other names for the same command, which the help does not repeat.
const SYNONYMS: &[&str] = &["list", "ps", "remove"];

/// Words of Docker's that later versions will know.
static NOT_YET: &[&str] = &[
    "build",
    "builder",
    "buildx",
    "checkpoint",
    "compose",
    "config",
    "login",
    "logout",
    "manifest",
    "node",
    "plugin",
    "pull",
    "push",
    "search",
    "secret",
    "service",
    "stack",
    "swarm",
    "trust",
];

static GLOBAL_FLAGS: &[Flag] = &[
    Flag::single("config", "string", "Directory of the client's settings"),
    Flag::single("context", "string", "Name of the context to use").short('c'),
    Flag::switch("debug", "Print more about what goes on").short('D'),
    Flag::list("host", "list", "Socket of the daemon to talk to").short('H'),
    Flag::single(
        "log-level",
        "string",
        "How much to log (\"debug\", \"info\", \"warn\", \"error\", \"fatal\")",
    )
    .short('l'),
    Flag::switch("tls", "Talk TLS"),
    Flag::single("tlscacert", "string", "Certificate of the authority to trust"),
    Flag::single("tlscert", "string", "Certificate to show"),
    Flag::single("tlskey", "string", "Key of the certificate"),
    Flag::switch("tlsverify", "Talk TLS and verify the daemon"),
    Flag::switch("version", "Print the version and end").short('v'),
];

/// Runs the command line.
pub fn main(program: &'static str, words: Vec<OsString>) -> ExitCode {
    match dispatch(program, words) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            if !failure.text.is_empty() {
                errln!("{}", failure.text);
            }
            ExitCode::from(failure.status)
        }
    }
}

fn dispatch(program: &'static str, words: Vec<OsString>) -> Result<u8, Failure> {
    let words = words
        .into_iter()
        .map(|word| {
            word.into_string()
                .map_err(|word| Failure::new(format!("{program}: {word:?} is not UTF-8")))
        })
        .collect::<Result<Vec<String>, Failure>>()?;
    let globals = arguments::parse(&[GLOBAL_FLAGS], false, &words).map_err(|reason| {
        let usage = format!("Usage:  {program} [OPTIONS] COMMAND [ARG...]");
        Failure::new(format!(
            "{reason}\n\n{usage}\n\nRun '{program} --help' for more information"
        ))
        .with_status(125)
    })?;
    if globals.on("version") {
        outln!("Corten version {}, build {}", env!("CARGO_PKG_VERSION"), build());
        return Ok(0);
    }
    let mut rest = globals.arguments.as_slice();
    match rest.first().map(String::as_str) {
        Some("help") => {
            rest = &rest[1..];
            return show_help(program, rest);
        }
        Some("completion") => return show_completion(program, &rest[1..]),
        Some("manual") => return write_manual(program, &rest[1..]),
        _ => {}
    }
    // Help that nobody asked for goes where messages go.
    let Some(first) = rest.first() else {
        match globals.help {
            true => out!("{}", overview(program)),
            false => errln!("{}", overview(program).trim_end_matches('\n')),
        }
        return Ok(0);
    };
    let (path, command, rest) = find(program, first, &rest[1..])?;
    let Some(command) = command else {
        let help = group_help(program, &path);
        match rest.is_empty() {
            true => errln!("{}", help.trim_end_matches('\n')),
            false => out!("{help}"),
        }
        return Ok(0);
    };
    run(program, path, command, &globals, rest)
}

/// What was built: the version control's revision, where the build knew it.
pub fn build() -> &'static str {
    option_env!("CORTEN_BUILD").unwrap_or("unknown")
}

type Found<'a> = (String, Option<&'static Command>, &'a [String]);

/// The command that the first words name; none when they only name a group.
fn find<'a>(program: &str, first: &str, rest: &'a [String]) -> Result<Found<'a>, Failure> {
    if let Some(group) = GROUPS.iter().find(|group| group.name == first) {
        let Some(second) = rest.first().filter(|word| *word != "--help" && *word != "-h") else {
            return Ok((first.to_string(), None, rest));
        };
        let path = format!("{first} {second}");
        if let Some((_, command)) = group.commands.iter().find(|(name, _)| name == second) {
            return Ok((path, Some(command), &rest[1..]));
        }
        if NOT_YET.contains(&second.as_str()) || LATER.contains(&path.as_str()) {
            return Err(not_yet(program, &path));
        }
        let unknown = format!("{program}: unknown command: {program} {path}");
        let usage = format!("Usage:  {program} {first}");
        return Err(Failure::new(format!(
            "{unknown}\n\n{usage}\n\nRun '{program} {first} --help' for more information"
        )));
    }
    if let Some(command) = TOP.iter().chain(HIDDEN).find(|command| command.name == first) {
        return Ok((first.to_string(), Some(command), rest));
    }
    if NOT_YET.contains(&first) {
        return Err(not_yet(program, first));
    }
    let unknown = format!("{program}: unknown command: {program} {first}");
    Err(Failure::new(format!(
        "{unknown}\n\nRun '{program} --help' for more information"
    )))
}

/// Commands of known groups that later versions will know.
static LATER: &[&str] = &["image build"];

fn not_yet(program: &str, path: &str) -> Failure {
    Failure::new(format!(
        "{program}: '{path}' is not implemented yet, see docs/compatibility.md"
    ))
}

fn run(
    program: &'static str,
    path: String,
    command: &'static Command,
    globals: &Matches,
    words: &[String],
) -> Result<u8, Failure> {
    let parsed = arguments::parse(command.flags, command.interspersed, words).map_err(|reason| {
        let usage = help::usage(program, &path, command);
        Failure::new(format!(
            "{reason}\n\n{usage}\nRun '{program} {path} --help' for more information"
        ))
        .with_status(125)
    })?;
    if parsed.help {
        out!("{}", help::command(program, &path, command));
        return Ok(0);
    }
    if let Some(reason) = command.arity.refuse(parsed.arguments.len()) {
        let usage = help::usage(program, &path, command);
        // Docker's own wording differs by the kind of refusal.
        let verb = if matches!(command.arity, Arity::AtLeast(_)) {
            "See"
        } else {
            "Run"
        };
        let hint = format!("{verb} '{program} {path} --help' for more information");
        return Err(Failure::new(format!(
            "{program}: '{program} {path}' {reason}\n\n{usage}\n{hint}"
        )));
    }
    let session = open(program, path, globals)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("cannot start the client", &error))?;
    let local = tokio::task::LocalSet::new();
    let outcome = local.block_on(&runtime, (command.run)(session, parsed));
    let _ = std::io::stdout().flush();
    // A copy of standard input may still wait for a key that nobody presses.
    runtime.shutdown_background();
    outcome
}

fn open(program: &'static str, path: String, globals: &Matches) -> Result<Session, Failure> {
    let settings = Store::new(globals.some("config"));
    let resolved = match path.starts_with("context ") {
        // Such a command mends what is wrong with a context: it must not need one.
        true => Resolved {
            context: resolve::name(globals, &settings)?,
            endpoint: Endpoint::default(),
            by_default: false,
        },
        false => resolve::resolve(globals, &settings)?,
    };
    Ok(Session::new(program, path, settings, resolved))
}

fn show_help(program: &'static str, words: &[String]) -> Result<u8, Failure> {
    let Some(first) = words.first() else {
        out!("{}", overview(program));
        return Ok(0);
    };
    let (path, command, _) = find(program, first, &words[1..])?;
    match command {
        Some(command) => out!("{}", help::command(program, &path, command)),
        None => out!("{}", group_help(program, &path)),
    }
    Ok(0)
}

/// Everything there is, as completion and manual pages see it.
fn tree() -> Vec<Node> {
    let visible = |name: &&(&'static str, &'static Command)| !SYNONYMS.contains(&name.0);
    let first = GROUPS.iter().map(|group| (group.name, group.about));
    let words = first.chain(TOP.iter().map(|command| (command.name, command.about)));
    let mut nodes = vec![Node {
        path: String::new(),
        words: words.chain(FROM_COMMANDS).collect(),
        command: None,
    }];
    for group in GROUPS {
        let commands = || group.commands.iter().filter(visible);
        nodes.push(Node {
            path: group.name.to_string(),
            words: commands().map(|(name, command)| (*name, command.about)).collect(),
            command: None,
        });
        nodes.extend(commands().map(|(name, command)| leaf(format!("{} {name}", group.name), command)));
    }
    nodes.extend(TOP.iter().map(|command| leaf(command.name.to_string(), command)));
    nodes
}

fn leaf(path: String, command: &'static Command) -> Node {
    Node {
        path,
        words: Vec::new(),
        command: Some(command),
    }
}

fn show_completion(program: &str, words: &[String]) -> Result<u8, Failure> {
    let script = match words {
        [shell] => completion::script(shell, program, &tree(), GLOBAL_FLAGS),
        _ => None,
    };
    let shells = completion::SHELLS.join("|");
    out!(
        "{}",
        script.ok_or_else(|| Failure::new(format!("Usage:  {program} completion {shells}")))?
    );
    Ok(0)
}

fn write_manual(program: &str, words: &[String]) -> Result<u8, Failure> {
    let [directory] = words else {
        return Err(Failure::new(format!("Usage:  {program} manual DIRECTORY")));
    };
    manual::write(std::path::Path::new(directory), program, &tree(), GLOBAL_FLAGS)
        .map_err(|error| Failure::io(format!("cannot write manual pages into {directory}"), &error))?;
    Ok(0)
}

fn overview(program: &str) -> String {
    let groups = help::listing(GROUPS.iter().map(|group| (group.name, group.about)));
    let commands = help::listing(TOP.iter().map(|command| (command.name, command.about)));
    let others = [("daemon", "Run the daemon")].into_iter().chain(FROM_COMMANDS);
    let others = help::listing(others);
    let flags = help::options(GLOBAL_FLAGS.iter().collect());
    format!(
        "Usage:  {program} [OPTIONS] COMMAND\n\nContainers, images and what keeps them running\n\n\
         Management Commands:\n{groups}\nCommands:\n{commands}\nOther Commands:\n{others}\nGlobal Options:\n{flags}\n\
         Run '{program} COMMAND --help' for more information on a command.\n"
    )
}

fn group_help(program: &str, name: &str) -> String {
    let group = GROUPS
        .iter()
        .find(|group| group.name == name)
        .expect("only groups are found without a command");
    let commands: Vec<&(&str, &Command)> = group
        .commands
        .iter()
        .filter(|(name, _)| !SYNONYMS.contains(name))
        .collect();
    let listing = help::listing(commands.iter().map(|(name, command)| (*name, command.about)));
    format!(
        "Usage:  {program} {name} COMMAND\n\n{}\n\nCommands:\n{listing}\n\
         Run '{program} {name} COMMAND --help' for more information on a command.\n",
        group.about
    )
}

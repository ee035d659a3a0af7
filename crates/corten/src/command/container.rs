//! The short verbs of containers: stop, restart, kill, pause, unpause, rename, rm, wait, top, port, prune.
use corten_api::client::{Client, Error};
use corten_api::types::container_answers::NetworkSettings;

use crate::arguments::{Arity, Command, Flag, Matches, Outcome, integer, unsigned16};
use crate::command::{confirm, each, filter, run};
use crate::failure::Failure;
use crate::order::natural;
use crate::session::Session;
use crate::table;
use crate::units;

/// The narrowest column of `top`.
const TOP_WIDTH: usize = 20;

const MANY: &str = "CONTAINER [CONTAINER...]";
const MANY_WITH_OPTIONS: &str = "[OPTIONS] CONTAINER [CONTAINER...]";

static STOP_FLAGS: &[Flag] = &[
    Flag::single("signal", "string", "Signal to send").short('s'),
    Flag::single("timeout", "int", "Seconds until the container is killed, -1 for never")
        .short('t')
        .former("time")
        .check(integer),
];

const fn command(name: &'static str, usage: &'static str, about: &'static str) -> Command {
    Command {
        name,
        usage,
        about,
        aliases: &[],
        flags: &[],
        arity: Arity::AtLeast(1),
        interspersed: true,
        run: |_, _| Box::pin(async { Ok(0) }),
    }
}

pub static STOP: Command = Command {
    aliases: &["container stop", "stop"],
    flags: &[STOP_FLAGS],
    run: |session, matches| {
        Box::pin(async move {
            let client = session.client().await?;
            let (signal, timeout) = (matches.some("signal"), matches.some("timeout"));
            each::name(&matches.arguments, |name| client.stop(name, signal, timeout)).await
        })
    },
    ..command("stop", MANY_WITH_OPTIONS, "Stop one or more running containers")
};
use crate::{errln, out, outln};

pub static RESTART: Command = Command {
    aliases: &["container restart", "restart"],
    flags: &[STOP_FLAGS],
    run: |session, matches| {
        Box::pin(async move {
            let client = session.client().await?;
            let (signal, timeout) = (matches.some("signal"), matches.some("timeout"));
            each::name(&matches.arguments, |name| client.restart(name, signal, timeout)).await
        })
    },
    ..command("restart", MANY_WITH_OPTIONS, "Restart one or more containers")
};

pub static KILL: Command = Command {
    aliases: &["container kill", "kill"],
    flags: &[&[Flag::single("signal", "string", "Signal to send (default \"KILL\")").short('s')]],
    run: |session, matches| {
        Box::pin(async move {
            let client = session.client().await?;
            each::name(&matches.arguments, |name| client.kill(name, matches.some("signal"))).await
        })
    },
    ..command("kill", MANY_WITH_OPTIONS, "Kill one or more running containers")
};

pub static PAUSE: Command = Command {
    aliases: &["container pause", "pause"],
    run: |session, matches| {
        Box::pin(async move {
            let client = session.client().await?;
            each::name(&matches.arguments, |name| client.pause(name)).await
        })
    },
    ..command("pause", MANY, "Pause all processes of one or more containers")
};

pub static UNPAUSE: Command = Command {
    aliases: &["container unpause", "unpause"],
    run: |session, matches| {
        Box::pin(async move {
            let client = session.client().await?;
            each::name(&matches.arguments, |name| client.unpause(name)).await
        })
    },
    ..command("unpause", MANY, "Let the processes of one or more containers go on")
};

pub static RENAME: Command = Command {
    aliases: &["container rename", "rename"],
    arity: Arity::Exactly(2),
    run: |session, matches| Box::pin(rename(session, matches)),
    ..command("rename", "CONTAINER NEW_NAME", "Rename a container")
};

async fn rename(session: Session, matches: Matches) -> Outcome {
    let (old, new) = (matches.argument(0).trim(), matches.argument(1).trim());
    if old.is_empty() || new.is_empty() {
        return Err(Failure::new("neither old nor new names may be empty"));
    }
    let client = session.client().await?;
    client.rename(old, new).await.map_err(|error| {
        errln!("{error}");
        Failure::new(format!("Error: failed to rename container named {old}"))
    })?;
    Ok(0)
}

pub static RM: Command = Command {
    aliases: &["container rm", "container remove", "rm"],
    flags: &[&[
        Flag::switch("force", "Kill the container first if it runs").short('f'),
        Flag::switch("link", "Remove the link of that name").short('l'),
        Flag::switch("volumes", "Remove the container's anonymous volumes too").short('v'),
    ]],
    run: |session, matches| Box::pin(rm(session, matches)),
    ..command("rm", MANY_WITH_OPTIONS, "Remove one or more containers")
};

async fn rm(session: Session, matches: Matches) -> Outcome {
    let client = session.client().await?;
    let (force, volumes, link) = (matches.on("force"), matches.on("volumes"), matches.on("link"));
    let names = matches.arguments.iter().map(|name| name.trim_matches('/').to_string());
    let names: Vec<String> = names.collect();
    let results = futures_util::future::join_all(names.iter().map(|name| client.remove(name, force, volumes, link)));
    let mut failed = false;
    for (name, result) in names.iter().zip(results.await) {
        match result {
            Ok(()) => outln!("{name}"),
            Err(error) => {
                // What is gone already is what `--force` asks for.
                failed |= !(force && error.is_not_found());
                errln!("{error}");
            }
        }
    }
    if failed { Err(Failure::silent(1)) } else { Ok(0) }
}

pub static WAIT: Command = Command {
    aliases: &["container wait", "wait"],
    run: |session, matches| Box::pin(wait(session, matches)),
    ..command(
        "wait",
        MANY,
        "Wait until one or more containers stop, then print their exit codes",
    )
};

async fn wait(session: Session, matches: Matches) -> Outcome {
    let client = session.client().await?;
    let mut status = 0;
    for name in &matches.arguments {
        match wait_for(&client, name).await {
            Ok(code) => outln!("{code}"),
            Err(failure) => {
                errln!("{}", failure.text);
                status = 1;
            }
        }
    }
    if status == 0 {
        Ok(0)
    } else {
        Err(Failure::silent(status))
    }
}

async fn wait_for(client: &Client, name: &str) -> Result<u8, Failure> {
    run::exit_status(client.wait(name, None).await?).await
}

pub static TOP: Command = Command {
    aliases: &["container top", "top"],
    interspersed: false,
    run: |session, matches| Box::pin(top(session, matches)),
    ..command("top", "CONTAINER [ps OPTIONS]", "Show the processes of a container")
};

async fn top(session: Session, matches: Matches) -> Outcome {
    let options = matches.arguments[1..].join(" ");
    let options = Some(options.as_str()).filter(|options| !options.is_empty());
    let found = session.client().await?.top(matches.argument(0), options).await?;
    let lines = std::iter::once(&found.titles).chain(&found.processes);
    let text: String = lines.map(|cells| format!("{}\n", cells.join("\t"))).collect();
    out!("{}", table::align(&text, TOP_WIDTH));
    Ok(0)
}

pub static PORT: Command = Command {
    aliases: &["container port", "port"],
    arity: Arity::Between(1, 2),
    run: |session, matches| Box::pin(port(session, matches)),
    ..command(
        "port",
        "CONTAINER [PRIVATE_PORT[/PROTO]]",
        "Show where the ports of a container are published",
    )
};

async fn port(session: Session, matches: Matches) -> Outcome {
    let name = matches.argument(0);
    let container = session.client().await?.inspect_container(name).await?;
    let ports = published(&container.network_settings);
    let Some(wanted) = matches.arguments.get(1) else {
        for (port, address) in ports {
            outln!("{port} -> {address}");
        }
        return Ok(0);
    };
    let full = if wanted.contains('/') {
        wanted.clone()
    } else {
        format!("{wanted}/tcp")
    };
    let number = full.split('/').next().unwrap_or_default();
    unsigned16(number).map_err(|reason| Failure::new(format!("Error: invalid port ({number}): {reason}")))?;
    let found: Vec<&str> = ports
        .iter()
        .filter(|(port, _)| *port == full)
        .map(|(_, address)| address.as_str())
        .collect();
    if found.is_empty() {
        return Err(Failure::new(format!(
            "Error: No public port '{wanted}' published for {name}"
        )));
    }
    outln!("{}", found.join("\n"));
    Ok(0)
}

/// Ports of the container and their addresses on the host, in the order of their numbers.
fn published(settings: &NetworkSettings) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (port, bindings) in &settings.ports {
        for binding in bindings.iter().flatten() {
            let ip = match binding.host_ip.contains(':') {
                true => format!("[{}]", binding.host_ip),
                false => binding.host_ip.clone(),
            };
            found.push((port.clone(), format!("{ip}:{}", binding.host_port)));
        }
    }
    found.sort_by(|(port, address), (other, another)| natural(port, other).then_with(|| natural(address, another)));
    found
}

pub static PRUNE: Command = Command {
    flags: &[&[
        Flag::list(
            "filter",
            "filter",
            "Only those that meet the condition (\"until=<time>\")",
        )
        .check(filter::check),
        Flag::switch("force", "Do not ask").short('f'),
    ]],
    arity: Arity::Exactly(0),
    run: |session, matches| Box::pin(prune(session, matches)),
    ..command("prune", "[OPTIONS]", "Remove all stopped containers")
};

async fn prune(session: Session, matches: Matches) -> Outcome {
    let warning = "WARNING! This will remove all stopped containers.";
    if !matches.on("force") && !confirm::ask(warning) {
        return Ok(0);
    }
    let client = session.client().await?;
    let reclaimed = prune_now(&client, &matches).await?;
    outln!("Total reclaimed space: {}", units::decimal_size(reclaimed as f64, 4));
    Ok(0)
}

/// Removes stopped containers, names them, and returns the bytes that came free.
pub async fn prune_now(client: &Client, matches: &Matches) -> Result<u64, Error> {
    let pruned = client
        .prune_containers(&filter::collect(matches.list("filter")))
        .await?;
    let deleted = pruned.containers_deleted.unwrap_or_default();
    if !deleted.is_empty() {
        outln!("Deleted Containers:\n{}\n", deleted.join("\n"));
    }
    Ok(pruned.space_reclaimed)
}

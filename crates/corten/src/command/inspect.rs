//! `inspect`: everything that is known about an object, as JSON or through a template.
//!
//! Documents are printed as the daemon sent them, with their members in its order: nothing passes through our types.
use std::rc::Rc;

use bytes::Bytes;
use corten_api::client::{Call, Client, Error, escape};

use crate::arguments::{Arity, Command, Flag, Matches, Outcome};
use crate::command::{archive, documents};
use crate::failure::Failure;
use crate::session::Session;
use crate::template::evaluate;
use crate::template::parse::{self, Template};
use crate::template::value::Value;

const FORMAT: Flag = Flag::single("format", "string", "'json' or a template in Go's language").short('f');
const SIZE: Flag = Flag::switch("size", "Show sizes of files too").short('s');

/// What `--format` asks for. A template that is none has an exit code of its own, as with docker.
pub fn template(format: &str) -> Result<Template, Failure> {
    const UNPARSABLE: u8 = 64;
    parse::parse(format).map_err(|reason| Failure::new(evaluate::parse_error(reason)).with_status(UNPARSABLE))
}

const KINDS: [&str; 10] = [
    "config",
    "container",
    "image",
    "network",
    "node",
    "plugin",
    "secret",
    "service",
    "task",
    "volume",
];

pub static INSPECT: Command = Command {
    name: "inspect",
    usage: "[OPTIONS] NAME|ID [NAME|ID...]",
    about: "Show everything that is known about objects",
    aliases: &["inspect"],
    flags: &[&[
        FORMAT,
        SIZE,
        Flag::single("type", "string", "Only objects of this kind"),
    ]],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |session, matches| Box::pin(any(session, matches)),
};

pub static CONTAINER: Command = Command {
    name: "inspect",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Show everything that is known about containers",
    aliases: &["container inspect"],
    flags: &[&[FORMAT, SIZE]],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |session, matches| Box::pin(typed(session, matches, "container")),
};
use crate::outln;

pub static IMAGE: Command = Command {
    name: "inspect",
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Show everything that is known about images",
    aliases: &["image inspect"],
    flags: &[&[
        FORMAT,
        Flag::single("platform", "string", "Platform of the image (os[/arch[/variant]])"),
    ]],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |session, matches| Box::pin(typed(session, matches, "image")),
};

pub static NETWORK: Command = Command {
    name: "inspect",
    usage: "[OPTIONS] NETWORK [NETWORK...]",
    about: "Show everything that is known about networks",
    aliases: &["network inspect"],
    flags: &[&[
        FORMAT,
        Flag::switch("verbose", "Show the tasks of a swarm too").short('v'),
    ]],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |session, matches| Box::pin(typed(session, matches, "network")),
};

pub static VOLUME: Command = Command {
    name: "inspect",
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    about: "Show everything that is known about volumes",
    aliases: &["volume inspect"],
    flags: &[&[FORMAT]],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |session, matches| Box::pin(typed(session, matches, "volume")),
};

async fn any(session: Session, matches: Matches) -> Outcome {
    match matches.some("type").map(str::to_string) {
        Some(kind) if !KINDS.contains(&kind.as_str()) => {
            let known: Vec<String> = KINDS.iter().map(|kind| format!("{kind:?}")).collect();
            Err(Failure::new(format!(
                "unknown type: {kind:?}: must be one of {}",
                known.join(", ")
            )))
        }
        Some(kind) => typed(session, matches, &kind).await,
        None => show(session, matches, None).await,
    }
}

async fn typed(session: Session, matches: Matches, kind: &str) -> Outcome {
    show(session, matches, Some(kind)).await
}

async fn show(session: Session, matches: Matches, kind: Option<&str>) -> Outcome {
    let template = match matches.some("format") {
        None => None,
        Some("json") => None,
        Some(format) => {
            let format = format.replace("\\t", "\t").replace("\\n", "\n");
            Some(template(&format)?)
        }
    };
    let mut found = Vec::new();
    let mut errors = Vec::new();
    let client = session.client().await;
    for name in &matches.arguments {
        match &client {
            Ok(client) => match fetch(client, name, kind, &matches).await {
                Ok(document) => found.push(document),
                Err(failure) => errors.push(failure.text),
            },
            Err(error) => {
                errors.push(error.to_string());
                break;
            }
        }
    }
    match template {
        None => {
            let values = Value::List(found.into_iter().map(|(_, value)| value).collect());
            match matches.some("format") {
                Some(_) => outln!("{}", values.json()),
                None => outln!("{}", values.json_indented()),
            }
        }
        Some(template) => {
            for (kind, value) in found {
                match evaluate::execute(&template, &documents::of_kind(&kind).complete(value)) {
                    Ok(text) => outln!("{text}"),
                    Err(reason) => {
                        outln!();
                        errors.push(format!("template parsing error: {reason}"));
                    }
                }
            }
        }
    }
    if errors.is_empty() {
        Ok(0)
    } else {
        Err(Failure::new(errors.join("\n")))
    }
}

/// A document, and of which kind of object it is.
async fn fetch(
    client: &Rc<Client>,
    name: &str,
    kind: Option<&str>,
    matches: &Matches,
) -> Result<(String, Value), Failure> {
    let (kind, bytes) = match kind {
        Some(kind) => (kind, of_kind(client, name, kind, matches).await?),
        None => search(client, name, matches.on("size")).await?,
    };
    let value = serde_json::from_slice(&bytes);
    let value = value.map_err(|error| Failure::new(format!("cannot understand the daemon: {error}")))?;
    Ok((kind.to_owned(), value))
}

async fn of_kind(client: &Rc<Client>, name: &str, kind: &str, matches: &Matches) -> Result<Bytes, Failure> {
    Ok(match kind {
        "container" => client.inspect_container_raw(name, matches.on("size")).await?,
        "image" => {
            let platform = archive::platform(matches)?;
            client.inspect_image_raw(name, platform.as_ref()).await?
        }
        "network" => client.inspect_network_raw(name, matches.on("verbose")).await?,
        kind => client.bytes(Call::get(format!("/{kind}s/{}", escape(name)))).await?,
    })
}

/// Looks among all kinds, the frequent ones first.
async fn search(client: &Rc<Client>, name: &str, size: bool) -> Result<(&'static str, Bytes), Failure> {
    // A kind that the daemon does not have yet has no object of that name either.
    let elsewhere = |error: &Error| error.is_not_found() || error.status() == Some(501);
    for kind in ["container", "image", "network", "volume"] {
        let found = match kind {
            "container" => client.inspect_container_raw(name, size).await,
            "image" => client.inspect_image_raw(name, None).await,
            kind => client.bytes(Call::get(format!("/{kind}s/{}", escape(name)))).await,
        };
        match found {
            Err(error) if elsewhere(&error) => {}
            other => return Ok((kind, other?)),
        }
    }
    Err(Failure::new(format!("Error: No such object: {name}")))
}

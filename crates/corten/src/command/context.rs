//! `context`: daemons by name.
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use corten_api::transport::Endpoint;
use serde::Serialize;

use crate::arguments::{Arity, Command, Flag, Matches, Outcome};
use crate::command::{context_archive, inspect, ps};
use crate::context::resolve;
use crate::context::store::{self, DEFAULT, DockerEndpoint, ENDPOINT, Meta, TLS_FILES};
use crate::failure::{Failure, reason};
use crate::order::natural;
use crate::session::Session;
use crate::table::Listing;
use crate::template::evaluate;
use crate::template::value::{Value, escape_html};
use crate::{errln, out, outln};

const DEFAULT_DESCRIPTION: &str = "Current DOCKER_HOST based configuration";
const DOCKER_HELP: &str = "Daemon: host=ADDRESS, and for TLS ca=FILE, cert=FILE, key=FILE, skip-tls-verify=true; or \
                           from=CONTEXT";

pub static CREATE: Command = Command {
    name: "create",
    usage: "[OPTIONS] CONTEXT",
    about: "Create a context",
    aliases: &["context create"],
    flags: &[&[
        Flag::single("description", "string", "What the context is for"),
        Flag::list("docker", "stringToString", DOCKER_HELP),
        Flag::single("from", "string", "Copy this context"),
    ]],
    arity: Arity::Exactly(1),
    interspersed: true,
    run: |session, matches| Box::pin(async move { create(&session, &matches) }),
};

fn create(session: &Session, matches: &Matches) -> Outcome {
    let name = matches.argument(0);
    store::check_name(name)?;
    let settings = &session.settings;
    if settings.exists(name) {
        return Err(Failure::new(format!("context {name:?} already exists")));
    }
    let words = words(matches);
    let (mut meta, tls) = match matches.some("from") {
        Some(_) if !words.is_empty() => return Err(Failure::new("cannot use --docker flag when --from is set")),
        Some(from) => source(session, from)?,
        None => {
            let (endpoint, tls) = endpoint(session, &words)?;
            let mut meta = Meta::default();
            meta.endpoints.docker = endpoint;
            (meta, tls)
        }
    };
    meta.name = name.to_string();
    if let Some(description) = matches.some("description") {
        meta.metadata.description = description.to_string();
    }
    let written = settings.write(&meta, Some(&tls));
    written.map_err(|error| Failure::io(format!("cannot write context {name:?}"), &error))?;
    outln!("{name}");
    errln!("Successfully created context {name:?}");
    Ok(0)
}

pub static UPDATE: Command = Command {
    name: "update",
    usage: "[OPTIONS] CONTEXT",
    about: "Update a context",
    aliases: &["context update"],
    flags: &[&[
        Flag::single("description", "string", "What the context is for"),
        Flag::list("docker", "stringToString", DOCKER_HELP),
    ]],
    arity: Arity::Exactly(1),
    interspersed: true,
    run: |session, matches| Box::pin(async move { update(&session, &matches) }),
};

fn update(session: &Session, matches: &Matches) -> Outcome {
    let name = matches.argument(0);
    store::check_name(name)?;
    let mut meta = session.settings.read(name)?;
    if let Some(description) = matches.text("description") {
        meta.metadata.description = description.to_string();
    }
    let words = words(matches);
    let mut tls = None;
    if !words.is_empty() {
        let (endpoint, files) = endpoint(session, &words)?;
        meta.endpoints.docker = endpoint;
        tls = Some(files);
    }
    let written = session.settings.write(&meta, tls.as_deref());
    written.map_err(|error| Failure::io(format!("cannot write context {name:?}"), &error))?;
    outln!("{name}");
    errln!("Successfully updated context {name:?}");
    Ok(0)
}

/// `--docker key=value,key=value`, which may be given several times.
fn words(matches: &Matches) -> Vec<(String, String)> {
    let parts = matches.list("docker").flat_map(|text| text.split(','));
    let parts = parts.filter(|part| !part.is_empty());
    parts
        .map(|part| part.split_once('=').unwrap_or((part, "")))
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

/// Names and contents of a context's TLS files.
type Tls = Vec<(String, Vec<u8>)>;

fn endpoint(session: &Session, words: &[(String, String)]) -> Result<(DockerEndpoint, Tls), Failure> {
    let wrong = |reason: String| Failure::new(format!("unable to create docker endpoint config: {reason}"));
    let value = |name: &str| {
        let found = words.iter().rev().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    };
    let known = ["from", "host", "ca", "cert", "key", "skip-tls-verify"];
    if let Some((key, _)) = words.iter().find(|(key, _)| !known.contains(&key.as_str())) {
        return Err(wrong(format!("unrecognized config key: {key}")));
    }
    if let Some(from) = value("from") {
        let (meta, tls) = source(session, from)?;
        return Ok((meta.endpoints.docker, tls));
    }
    let mut tls = Tls::new();
    for (key, file) in ["ca", "cert", "key"].into_iter().zip(TLS_FILES) {
        if let Some(path) = value(key) {
            let bytes = fs::read(path).map_err(|error| wrong(format!("open {path}: {}", reason(&error))))?;
            tls.push((file.to_string(), bytes));
        }
    }
    let skip = value("skip-tls-verify").unwrap_or("false");
    let skip_tls_verify = skip
        .parse()
        .map_err(|_| wrong(format!("skip-tls-verify: parsing {skip:?}: invalid syntax")))?;
    // Nothing named is what is in use now, as for the default context.
    let host = match value("host") {
        Some(host) => host.to_string(),
        None => default_host(),
    };
    Endpoint::parse(&host).map_err(|error| wrong(format!("unable to apply docker endpoint options: {error}")))?;
    Ok((DockerEndpoint { host, skip_tls_verify }, tls))
}

fn default_host() -> String {
    let named = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
    named.unwrap_or_else(|| Endpoint::default().to_string())
}

/// A context to copy, the default one too.
fn source(session: &Session, name: &str) -> Result<(Meta, Tls), Failure> {
    if name == DEFAULT {
        return Ok((default_context(), Tls::new()));
    }
    let meta = session.settings.read(name)?;
    let mut tls = Tls::new();
    for path in session.settings.tls_files(name) {
        let bytes = fs::read(&path).map_err(|error| Failure::io(format!("cannot read {}", path.display()), &error))?;
        tls.push((file_name(&path), bytes));
    }
    Ok((meta, tls))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn default_context() -> Meta {
    let mut meta = Meta {
        name: DEFAULT.to_string(),
        ..Meta::default()
    };
    meta.metadata.description = DEFAULT_DESCRIPTION.to_string();
    meta.endpoints.docker.host = default_host();
    meta
}

pub static LS: Command = Command {
    name: "ls",
    usage: "[OPTIONS]",
    about: "List contexts",
    aliases: &["context ls", "context list"],
    flags: &[&[
        Flag::single("format", "string", ps::FORMAT_HELP),
        Flag::switch("quiet", "Show names only").short('q'),
    ]],
    arity: Arity::Exactly(0),
    interspersed: true,
    run: |session, matches| Box::pin(async move { ls(&session, &matches) }),
};

const HEADINGS: &[(&str, &str)] = &[
    ("Name", "NAME"),
    ("Description", "DESCRIPTION"),
    ("DockerEndpoint", "DOCKER ENDPOINT"),
    ("Error", "ERROR"),
];

fn ls(session: &Session, matches: &Matches) -> Outcome {
    let mut all = session.settings.all();
    all.push(default_context());
    all.sort_by(|one, other| natural(&one.name, &other.name));
    let rows: Vec<Value> = all
        .iter()
        .map(|meta| {
            let current = meta.name == session.context;
            let error = match resolve::of_context(meta, &session.settings) {
                Ok(_) => String::new(),
                Err(reason) => reason,
            };
            Value::map([
                ("Current", Value::Bool(current)),
                ("Description", meta.metadata.description.clone().into()),
                ("DockerEndpoint", meta.endpoints.docker.host.clone().into()),
                ("Error", error.into()),
                ("Name", meta.name.clone().into()),
            ])
        })
        .collect();
    let listing = Listing {
        columns: "{{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}",
        headings: HEADINGS,
        quiet: "{{.Name}}",
    };
    out!("{}", listing.show(matches.some("format"), matches.on("quiet"), &rows)?);
    if session.context == DEFAULT && std::env::var_os("DOCKER_HOST").is_some_and(|host| !host.is_empty()) {
        errln!(
            "Warning: DOCKER_HOST environment variable overrides the active context. To use a context, either set the \
             global --context flag, or unset DOCKER_HOST environment variable."
        );
    }
    Ok(0)
}

pub static INSPECT: Command = Command {
    name: "inspect",
    usage: "[OPTIONS] [CONTEXT] [CONTEXT...]",
    about: "Display detailed information on one or more contexts",
    aliases: &["context inspect"],
    flags: &[&[Flag::single("format", "string", ps::FORMAT_HELP).short('f')]],
    arity: Arity::AtLeast(0),
    interspersed: true,
    run: |session, matches| Box::pin(async move { inspect(&session, &matches) }),
};

fn inspect(session: &Session, matches: &Matches) -> Outcome {
    let mut names = matches.arguments.clone();
    if names.is_empty() {
        names.push(session.context.clone());
    }
    let mut errors = Vec::new();
    let mut found = Vec::new();
    for name in &names {
        match document(session, name) {
            Ok(document) => found.push(document),
            Err(reason) => errors.push(reason),
        }
    }
    match matches.some("format") {
        None => outln!("{}", escape_html(&Value::List(found).json_indented())),
        Some("json") => outln!("{}", escape_html(&Value::List(found).json())),
        Some(format) => {
            let format = format.replace("\\t", "\t").replace("\\n", "\n");
            let template = inspect::template(&format)?;
            for value in &found {
                let text = evaluate::execute(&template, value);
                outln!(
                    "{}",
                    text.map_err(|reason| format!("template parsing error: {reason}"))?
                );
            }
        }
    }
    match errors.is_empty() {
        true => Ok(0),
        false => Err(Failure::new(errors.join("\n"))),
    }
}

fn document(session: &Session, name: &str) -> Result<Value, String> {
    let settings = &session.settings;
    let (meta, place) = match name == DEFAULT {
        true => {
            let mut meta = default_context();
            // Lists describe it; it has no metadata.
            meta.metadata.description.clear();
            (meta, ["<IN MEMORY>".to_string(), "<IN MEMORY>".to_string()])
        }
        false => {
            let paths = [settings.metadata_path(name), settings.tls_path(name)];
            (settings.read(name)?, paths.map(|path| path.display().to_string()))
        }
    };
    let files: Vec<String> = settings.tls_files(name).iter().map(|path| file_name(path)).collect();
    // As text, because only text keeps the order of members.
    let document = Document {
        meta: &meta,
        tls_material: if files.is_empty() {
            BTreeMap::new()
        } else {
            [(ENDPOINT, files)].into()
        },
        storage: Storage {
            metadata_path: &place[0],
            tls_path: &place[1],
        },
    };
    let text = serde_json::to_string(&document).map_err(|error| error.to_string())?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

/// A context as `inspect` shows it.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    meta: &'a Meta,
    #[serde(rename = "TLSMaterial")]
    tls_material: BTreeMap<&'static str, Vec<String>>,
    #[serde(rename = "Storage")]
    storage: Storage<'a>,
}

#[derive(Serialize)]
struct Storage<'a> {
    #[serde(rename = "MetadataPath")]
    metadata_path: &'a str,
    #[serde(rename = "TLSPath")]
    tls_path: &'a str,
}

pub static RM: Command = Command {
    name: "rm",
    usage: "CONTEXT [CONTEXT...]",
    about: "Remove one or more contexts",
    aliases: &["context rm", "context remove"],
    flags: &[&[Flag::switch("force", "Also one that is in use").short('f')]],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |session, matches| Box::pin(async move { rm(&session, &matches) }),
};

fn rm(session: &Session, matches: &Matches) -> Outcome {
    let mut errors = Vec::new();
    for name in &matches.arguments {
        match remove(session, name, matches.on("force")) {
            Ok(()) => outln!("{name}"),
            Err(reason) => errors.push(reason),
        }
    }
    match errors.is_empty() {
        true => Ok(0),
        false => Err(Failure::new(errors.join("\n"))),
    }
}

fn remove(session: &Session, name: &str, force: bool) -> Result<(), String> {
    let settings = &session.settings;
    if name == DEFAULT {
        return Err(format!("context {name:?} cannot be removed"));
    }
    // A name that is not one may yet be a path.
    if store::check_name(name).is_err() || !settings.exists(name) {
        return match force {
            true => Ok(()),
            false => Err(format!("context {name:?} does not exist")),
        };
    }
    let in_use = settings.current().as_deref() == Some(name);
    if (in_use || session.context == name) && !force {
        return Err(format!("context {name:?} is in use, set -f flag to force remove"));
    }
    let removed = if in_use { settings.choose(None) } else { Ok(()) };
    removed
        .and_then(|()| settings.remove(name))
        .map_err(|error| format!("cannot remove context {name:?}: {}", reason(&error)))
}

pub static USE: Command = Command {
    name: "use",
    usage: "CONTEXT",
    about: "Set the current context",
    aliases: &["context use"],
    flags: &[],
    arity: Arity::Exactly(1),
    interspersed: true,
    run: |session, matches| Box::pin(async move { choose(&session, matches.argument(0)) }),
};

fn choose(session: &Session, name: &str) -> Outcome {
    let chosen = (name != DEFAULT).then_some(name);
    if let Some(name) = chosen {
        session.settings.read(name)?;
    }
    let written = session.settings.choose(chosen);
    written.map_err(|error| Failure::io("cannot write the client's settings", &error))?;
    outln!("{name}");
    errln!("Current context is now {name:?}");
    if chosen.is_some() && std::env::var_os("DOCKER_HOST").is_some_and(|host| !host.is_empty()) {
        errln!(
            "Warning: DOCKER_HOST environment variable overrides the active context. To use {name:?}, either set the \
             global --context flag, or unset DOCKER_HOST environment variable."
        );
    }
    Ok(0)
}

pub static SHOW: Command = Command {
    name: "show",
    usage: "",
    about: "Print the name of the current context",
    aliases: &["context show"],
    flags: &[],
    arity: Arity::Exactly(0),
    interspersed: true,
    run: |session, _| {
        Box::pin(async move {
            outln!("{}", session.context);
            Ok(0)
        })
    },
};

pub static EXPORT: Command = Command {
    name: "export",
    usage: "[OPTIONS] CONTEXT [FILE|-]",
    about: "Export a context to a tar archive FILE or a tar stream on STDOUT.",
    aliases: &["context export"],
    flags: &[],
    arity: Arity::Between(1, 2),
    interspersed: true,
    run: |session, matches| Box::pin(async move { context_archive::export(&session, &matches) }),
};

pub static IMPORT: Command = Command {
    name: "import",
    usage: "CONTEXT FILE|-",
    about: "Import a context from a tar file",
    aliases: &["context import"],
    flags: &[],
    arity: Arity::Exactly(2),
    interspersed: true,
    run: |session, matches| Box::pin(async move { context_archive::import(&session, &matches) }),
};

//! `volume`: which volumes there are, and the verbs that change that.
use corten_api::client::{Client, Error};
use corten_api::filters::Filters;
use corten_api::types::volume::{Volume, VolumeCreateRequest};

use crate::arguments::{Arity, Command, Flag, Matches, Outcome};
use crate::command::{confirm, filter, ps};
use crate::failure::Failure;
use crate::flags::environment;
use crate::order::natural;
use crate::session::Session;
use crate::table::Listing;
use crate::template::value::Value;
use crate::units;
use crate::{errln, out, outln};

pub static CREATE: Command = Command {
    name: "create",
    usage: "[OPTIONS] [VOLUME]",
    about: "Create a volume",
    aliases: &["volume create"],
    flags: &[&[
        Flag::single("availability", "string", "Availability of a volume of a swarm"),
        Flag::single("driver", "string", "Driver of the volume (default \"local\")").short('d'),
        Flag::single("group", "string", "Group of a volume of a swarm"),
        Flag::list("label", "list", "Set a label").check(environment::check_label),
        Flag::single("limit-bytes", "bytes", "Most that a volume of a swarm takes"),
        Flag::single("name", "string", "Name of the volume"),
        Flag::list("opt", "map", "Option of the driver (type, device, o, size)")
            .short('o')
            .check(check_option),
        Flag::single("required-bytes", "bytes", "Least that a volume of a swarm takes"),
        Flag::single("scope", "string", "How far a volume of a swarm reaches"),
        Flag::list("secret", "map", "Secrets of a volume of a swarm"),
        Flag::single("sharing", "string", "Sharing of a volume of a swarm"),
        Flag::list("topology-preferred", "list", "Where a volume of a swarm had better be"),
        Flag::list("topology-required", "list", "Where a volume of a swarm must be"),
        Flag::single("type", "string", "Kind of access to a volume of a swarm"),
    ]],
    arity: Arity::AtMost(1),
    interspersed: true,
    run: |session, matches| Box::pin(create(session, matches)),
};

/// What only volumes of a swarm have.
const OF_A_SWARM: [&str; 10] = [
    "availability",
    "group",
    "limit-bytes",
    "required-bytes",
    "scope",
    "secret",
    "sharing",
    "topology-preferred",
    "topology-required",
    "type",
];

fn check_option(text: &str) -> Result<(), String> {
    match text.is_empty() || text.starts_with('=') {
        true => Err(format!("invalid option: {text:?}")),
        false => Ok(()),
    }
}

async fn create(session: Session, matches: Matches) -> Outcome {
    if let Some(flag) = OF_A_SWARM.iter().find(|flag| matches.given(flag)) {
        return Err(no_swarm(&format!("--{flag}")));
    }
    let named = matches.some("name").map(str::to_string);
    let name = match (matches.arguments.first(), named) {
        (Some(_), Some(_)) => {
            return Err(Failure::new(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg",
            ));
        }
        (argument, named) => argument.cloned().or(named).unwrap_or_default(),
    };
    let pairs = |flag: &str| {
        let pair = |text: &str| {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            (key.to_string(), value.to_string())
        };
        matches.list(flag).map(pair).collect()
    };
    let request = VolumeCreateRequest {
        name,
        driver: matches.some("driver").unwrap_or("local").to_string(),
        driver_opts: pairs("opt"),
        labels: pairs("label"),
        cluster_volume_spec: None,
    };
    let volume = session.client().await?.create_volume(&request).await?;
    outln!("{}", volume.name);
    Ok(0)
}

fn no_swarm(what: &str) -> Failure {
    Failure::new(format!(
        "{what} is for volumes of a swarm, and this node is not part of one"
    ))
}

pub static LS: Command = Command {
    name: "ls",
    usage: "[OPTIONS]",
    about: "List volumes",
    aliases: &["volume ls", "volume list"],
    flags: &[&[
        Flag::switch("cluster", "Show volumes of a swarm only"),
        Flag::list(
            "filter",
            "filter",
            "Show only what meets the condition (\"dangling=true\")",
        )
        .short('f')
        .check(filter::check),
        Flag::single("format", "string", ps::FORMAT_HELP),
        Flag::switch("quiet", "Show names only").short('q'),
    ]],
    arity: Arity::Exactly(0),
    interspersed: true,
    run: |session, matches| Box::pin(ls(session, matches)),
};

const HEADINGS: &[(&str, &str)] = &[
    ("Driver", "DRIVER"),
    ("Name", "VOLUME NAME"),
    ("Scope", "SCOPE"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Size", "SIZE"),
    ("Availability", "AVAILABILITY"),
    ("Group", "GROUP"),
    ("Status", "STATUS"),
];

async fn ls(session: Session, matches: Matches) -> Outcome {
    if matches.on("cluster") {
        return Err(no_swarm("--cluster"));
    }
    let filters = filter::collect(matches.list("filter"));
    let mut answer = session.client().await?.volumes(&filters).await?;
    answer.volumes.sort_by(|a, b| natural(&a.name, &b.name));
    let rows: Vec<Value> = answer.volumes.iter().map(row).collect();
    let listing = Listing {
        columns: "{{.Driver}}\t{{.Name}}",
        headings: HEADINGS,
        quiet: "{{.Name}}",
    };
    out!("{}", listing.show(matches.some("format"), matches.on("quiet"), &rows)?);
    for warning in answer.warnings.iter().flatten() {
        errln!("WARNING: {warning}");
    }
    Ok(0)
}

pub fn row(volume: &Volume) -> Value {
    let labels = volume.labels.clone().unwrap_or_default();
    let listed: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let usage = volume.usage_data.as_ref();
    let row = Value::map([
        ("Availability", "N/A".to_string()),
        ("Driver", volume.driver.clone()),
        ("Group", "N/A".to_string()),
        ("Labels", listed.join(",")),
        (
            "Links",
            usage.map_or("N/A".to_string(), |usage| usage.ref_count.to_string()),
        ),
        ("Mountpoint", volume.mountpoint.clone()),
        ("Name", volume.name.clone()),
        ("Scope", volume.scope.clone()),
        (
            "Size",
            usage.map_or("N/A".to_string(), |usage| {
                units::decimal_size(usage.size.max(0) as f64, 4)
            }),
        ),
        ("Status", "N/A".to_string()),
    ]);
    row.with_method("Label", Value::map(labels))
}

pub static RM: Command = Command {
    name: "rm",
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    about: "Remove one or more volumes",
    aliases: &["volume rm", "volume remove"],
    flags: &[&[Flag::switch("force", "A volume that is not there is no error").short('f')]],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |session, matches| Box::pin(rm(session, matches)),
};

async fn rm(session: Session, matches: Matches) -> Outcome {
    let client = session.client().await?;
    let mut errors = Vec::new();
    for name in &matches.arguments {
        match client.remove_volume(name, matches.on("force")).await {
            Ok(()) => outln!("{name}"),
            Err(error) => errors.push(error.to_string()),
        }
    }
    match errors.is_empty() {
        true => Ok(0),
        false => Err(Failure::new(errors.join("\n"))),
    }
}

pub static PRUNE: Command = Command {
    name: "prune",
    usage: "[OPTIONS]",
    about: "Remove unused local volumes",
    aliases: &["volume prune"],
    flags: &[&[
        Flag::switch("all", "Remove all unused volumes, not only anonymous ones").short('a'),
        Flag::list(
            "filter",
            "filter",
            "Only those that meet the condition (\"label=<label>\")",
        )
        .check(filter::check),
        Flag::switch("force", "Do not ask").short('f'),
    ]],
    arity: Arity::Exactly(0),
    interspersed: true,
    run: |session, matches| Box::pin(prune(session, matches)),
};

async fn prune(session: Session, matches: Matches) -> Outcome {
    let mut filters = filter::collect(matches.list("filter"));
    if matches.on("all") {
        if filters.contains_key("all") {
            return Err(Failure::new(
                "conflicting options: cannot specify both --all and --filter all=1",
            ));
        }
        filters.insert("all".to_string(), vec!["true".to_string()]);
    }
    let which = match matches.on("all") {
        true => "all local volumes",
        false => "anonymous local volumes",
    };
    let warning = format!("WARNING! This will remove {which} not used by at least one container.");
    if !matches.on("force") && !confirm::ask(&warning) {
        return Ok(0);
    }
    let reclaimed = prune_now(&*session.client().await?, &filters).await?;
    outln!("Total reclaimed space: {}", units::decimal_size(reclaimed as f64, 4));
    Ok(0)
}

/// Removes volumes that nobody uses, and names them; how many bytes that freed.
pub async fn prune_now(client: &Client, filters: &Filters) -> Result<u64, Error> {
    let pruned = client.prune_volumes(filters).await?;
    if !pruned.volumes_deleted.is_empty() {
        outln!("Deleted Volumes:\n{}\n", pruned.volumes_deleted.join("\n"));
    }
    Ok(pruned.space_reclaimed)
}

pub static UPDATE: Command = Command {
    name: "update",
    usage: "[OPTIONS] VOLUME",
    about: "Update a volume (of a swarm only)",
    aliases: &["volume update"],
    flags: &[&[Flag::single(
        "availability",
        "string",
        "Availability of a volume of a swarm",
    )]],
    arity: Arity::Exactly(1),
    interspersed: true,
    run: |_, _| Box::pin(async { Err(no_swarm("volume update")) }),
};

//! The engine as a whole: version, info, df, prune.
use std::fmt::Write;

use corten_api::client::API_VERSION;
use corten_api::types::container_answers::ContainerSummary;
use corten_api::types::system::{ComponentVersion, DiskUsage, Info, Version};

use crate::arguments::{Arity, Command, Flag, Matches, Outcome};
use crate::cli;
use crate::command::inspect::template;
use crate::command::{confirm, container, filter, image, network, ps, volume};
use crate::failure::Failure;
use crate::session::Session;
use crate::table::{self, Listing};
use crate::template::evaluate;
use crate::template::value::{Nil, Value};
use crate::units;

const FORMAT: Flag = Flag::single("format", "string", "'json' or a template in Go's language");

pub static VERSION: Command = Command {
    name: "version",
    usage: "[OPTIONS]",
    about: "Show the versions of client and daemon",
    aliases: &["version"],
    flags: &[&[FORMAT.short('f')]],
    arity: Arity::Exactly(0),
    interspersed: true,
    run: |session, matches| Box::pin(version(session, matches)),
};
use crate::{errln, out, outln};

/// Docker's name of the architecture that we were built for.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

async fn version(session: Session, matches: Matches) -> Outcome {
    let answer = match session.client().await {
        Ok(client) => client.server_version().await.map(|server| (client.version(), server)),
        Err(error) => Err(error),
    };
    let used = answer.as_ref().map_or(API_VERSION, |(used, _)| used).to_string();
    if let Some(format) = matches.some("format") {
        let template = if format == "json" { "{{json .}}" } else { format };
        let client = Value::map(client_version(&session, &used)).with_silent("Platform", Value::Nil(Nil::Pointer));
        let server = match &answer {
            Ok((_, server)) => {
                let json = serde_json::to_string(server).expect("wire documents have string keys only");
                serde_json::from_str(&json).expect("what was just written is JSON")
            }
            Err(_) => Value::Null,
        };
        let text = render(template, &Value::map([("Client", client), ("Server", server)]))?;
        outln!("{text}");
        return answer.map(|_| 0).map_err(Failure::from);
    }
    let mut text = String::from("Client:\n");
    let downgraded = if used == API_VERSION {
        String::new()
    } else {
        format!(" (downgraded from {API_VERSION})")
    };
    let _ = writeln!(text, " Version:           {}", env!("CARGO_PKG_VERSION"));
    let _ = writeln!(text, " API version:       {used}{downgraded}");
    let _ = writeln!(text, " Git commit:        {}", cli::build());
    let _ = writeln!(text, " OS/Arch:           linux/{}", architecture());
    let _ = writeln!(text, " Context:           {}", session.context);
    out!("{text}");
    let (_, server) = answer?;
    out!("{}", server_text(&server));
    Ok(0)
}

fn server_text(server: &Version) -> String {
    let platform = if server.platform.name.is_empty() {
        String::new()
    } else {
        format!(" {}", server.platform.name)
    };
    let mut text = format!("\nServer:{platform}\n");
    let engine = [ComponentVersion {
        name: "Engine".to_string(),
        version: server.version.clone(),
        ..Default::default()
    }];
    let components = if server.components.is_empty() {
        &engine[..]
    } else {
        &server.components
    };
    for component in components {
        let detail = |name: &str| component.details.get(name).map(String::as_str).unwrap_or_default();
        let _ = writeln!(text, " {}:\n  Version:          {}", component.name, component.version);
        if component.name != "Engine" {
            let _ = writeln!(text, "  GitCommit:        {}", detail("GitCommit"));
            continue;
        }
        let api = format!("{} (minimum version {})", server.api_version, server.min_api_version);
        let _ = writeln!(text, "  API version:      {api}");
        for (name, value) in [
            ("Go version", detail("GoVersion")),
            ("Git commit", detail("GitCommit")),
            ("Built", detail("BuildTime")),
        ] {
            if !value.is_empty() {
                let _ = writeln!(text, "  {:<17} {value}", format!("{name}:"));
            }
        }
        let _ = writeln!(text, "  OS/Arch:          {}/{}", server.os, server.arch);
        let _ = writeln!(text, "  Experimental:     {}", server.experimental);
    }
    text
}

pub static INFO: Command = Command {
    name: "info",
    usage: "[OPTIONS]",
    about: "Show what the daemon and the host are",
    aliases: &["system info", "info"],
    flags: &[&[FORMAT.short('f')]],
    arity: Arity::Exactly(0),
    interspersed: true,
    run: |session, matches| Box::pin(info(session, matches)),
};

/// What `version` and `info` say of this program, which speaks the API's version `used`.
fn client_version(session: &Session, used: &str) -> [(&'static str, Value); 9] {
    [
        ("Version", env!("CARGO_PKG_VERSION")),
        ("ApiVersion", used),
        ("DefaultAPIVersion", API_VERSION),
        ("GitCommit", cli::build()),
        ("GoVersion", ""),
        ("Os", "linux"),
        ("Arch", architecture()),
        ("BuildTime", ""),
        ("Context", session.context.as_str()),
    ]
    .map(|(name, text)| (name, Value::from(text)))
}

fn render(format: &str, value: &Value) -> Result<String, Failure> {
    Ok(evaluate::execute(&template(format)?, value)?)
}

async fn info(session: Session, matches: Matches) -> Outcome {
    if let Some(format) = matches.some("format") {
        let client = session.client().await?;
        let bytes = client.info_raw().await?;
        let mut value: Value = serde_json::from_slice(&bytes)
            .map_err(|error| Failure::new(format!("cannot understand the daemon: {error}")))?;
        if let Value::Map(members) = &mut value {
            let mut own = vec![("Debug", Value::Bool(false))];
            own.extend(client_version(&session, &client.version()));
            own.extend([("Plugins", Value::List(Vec::new())), ("Warnings", Value::Null)]);
            members.push(("ClientInfo".to_string(), Value::map(own)));
        }
        outln!(
            "{}",
            render(if format == "json" { "{{json .}}" } else { format }, &value)?
        );
        return Ok(0);
    }
    out!(
        "Client:\n Version:    {}\n Context:    {}\n Debug Mode: false\n\nServer:\n",
        env!("CARGO_PKG_VERSION"),
        session.context
    );
    let info = session.client().await?.info().await?;
    out!("{}", info_text(&info));
    for warning in info.warnings.iter().flatten() {
        errln!("{warning}");
    }
    Ok(0)
}

/// The lines of `info`, each deeper than its heading by one blank.
struct Lines(String);

impl Lines {
    fn line(&mut self, indent: usize, name: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{:indent$}{name}: {value}", "");
    }

    /// A line that stands for itself, or a heading with its colon.
    fn item(&mut self, indent: usize, text: &str) {
        let _ = writeln!(self.0, "{:indent$}{text}", "");
    }

    fn list(&mut self, heading: &str, items: &[String]) {
        if !items.is_empty() {
            self.item(1, &format!("{heading}:"));
            items.iter().for_each(|item| self.item(2, item));
        }
    }
}

fn info_text(info: &Info) -> String {
    let mut lines = Lines(String::new());
    engine_info(&mut lines, info);
    lines.item(1, "Security Options:");
    for option in &info.security_options {
        security_option(&mut lines, option);
    }
    lines.line(1, "Kernel Version", &info.kernel_version);
    lines.line(1, "Operating System", &info.operating_system);
    lines.line(1, "OSType", &info.os_type);
    lines.line(1, "Architecture", &info.architecture);
    lines.line(1, "CPUs", info.n_cpu);
    lines.line(1, "Total Memory", units::binary_size(info.mem_total as f64));
    lines.line(1, "Name", &info.name);
    lines.line(1, "ID", &info.id);
    lines.line(1, "Docker Root Dir", &info.docker_root_dir);
    lines.line(1, "Debug Mode", info.debug);
    lines.list("Labels", &info.labels);
    lines.line(1, "Experimental", info.experimental_build);
    if let Some(registries) = &info.registry_config {
        lines.list("Insecure Registries", &registries.insecure_registry_cidrs);
        lines.list("Registry Mirrors", &registries.mirrors);
    }
    lines.line(1, "Live Restore Enabled", info.live_restore_enabled);
    if let Some(pools) = info.default_address_pools.as_ref().filter(|pools| !pools.is_empty()) {
        lines.item(1, "Default Address Pools:");
        for pool in pools {
            lines.item(3, &format!("Base: {}, Size: {}", pool.base, pool.size));
        }
    }
    if let Some(firewall) = &info.firewall_backend {
        lines.line(1, "Firewall Backend", &firewall.driver);
        for [name, value] in firewall.info.iter().flatten() {
            lines.line(2, name, value);
        }
    }
    lines.0 + "\n"
}

fn engine_info(lines: &mut Lines, info: &Info) {
    lines.line(1, "Containers", info.containers);
    lines.line(2, "Running", info.containers_running);
    lines.line(2, "Paused", info.containers_paused);
    lines.line(2, "Stopped", info.containers_stopped);
    lines.line(1, "Images", info.images);
    lines.line(1, "Server Version", &info.server_version);
    lines.line(1, "Storage Driver", &info.driver);
    for [name, value] in &info.driver_status {
        lines.line(2, name, value);
    }
    lines.line(1, "Logging Driver", &info.logging_driver);
    lines.line(1, "Cgroup Driver", &info.cgroup_driver);
    lines.line(1, "Cgroup Version", &info.cgroup_version);
    lines.item(1, "Plugins:");
    lines.line(2, "Volume", info.plugins.volume.join(" "));
    lines.line(2, "Network", info.plugins.network.join(" "));
    lines.line(2, "Log", info.plugins.log.join(" "));
    lines.list("CDI spec directories", &info.cdi_spec_dirs);
    let devices = info.discovered_devices.iter().flatten();
    let devices: Vec<_> = devices
        .map(|device| format!("{}: {}", device.source, device.id))
        .collect();
    lines.list("Discovered Devices", &devices);
    lines.line(1, "Swarm", &info.swarm.local_node_state);
    let runtimes: Vec<&str> = info.runtimes.keys().map(String::as_str).collect();
    lines.line(1, "Runtimes", runtimes.join(" "));
    lines.line(1, "Default Runtime", &info.default_runtime);
    lines.line(1, "Init Binary", &info.init_binary);
    let commits = [
        ("containerd", &info.containerd_commit),
        ("runc", &info.runc_commit),
        ("init", &info.init_commit),
    ];
    for (name, commit) in commits {
        if !commit.id.is_empty() {
            lines.line(1, &format!("{name} version"), &commit.id);
        }
    }
}

/// `name=seccomp,profile=builtin`: the name, then what is known about it.
fn security_option(lines: &mut Lines, option: &str) {
    for (name, value) in option
        .split(',')
        .map(|part| part.split_once('=').unwrap_or(("name", part)))
    {
        match name {
            "name" => lines.item(2, value),
            "profile" => lines.line(3, "Profile", value),
            name => lines.line(3, name, value),
        }
    }
}

pub static DF: Command = Command {
    name: "df",
    usage: "[OPTIONS]",
    about: "Show how much disk is used",
    aliases: &["system df"],
    flags: &[&[
        Flag::single("format", "string", ps::FORMAT_HELP),
        Flag::switch("verbose", "Show every image, container and volume").short('v'),
    ]],
    arity: Arity::Exactly(0),
    interspersed: true,
    run: |session, matches| Box::pin(df(session, matches)),
};

const DF_HEADINGS: &[(&str, &str)] = &[
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];

async fn df(session: Session, matches: Matches) -> Outcome {
    let usage = session.client().await?.disk_usage().await?;
    if matches.on("verbose") {
        match matches.some("format") {
            None | Some("table") => out!("{}", verbose_usage(&usage)?),
            Some("json") => outln!("{}", usage_lists(&usage).json()),
            Some(format) => outln!("{}", evaluate::render(format, &usage_lists(&usage))?),
        }
        return Ok(0);
    }
    let columns = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
    let listing = Listing {
        columns,
        headings: DF_HEADINGS,
        quiet: "{{.Type}}",
    };
    out!("{}", listing.show(matches.some("format"), false, &usage_rows(&usage))?);
    Ok(0)
}

fn usage_rows(usage: &DiskUsage) -> Vec<Value> {
    let row = |kind: &str, total: usize, active: usize, size: i64, reclaimable: i64, share: bool| {
        let shown = units::decimal_size(reclaimable.max(0) as f64, 4);
        let percent = if size > 0 { reclaimable.max(0) * 100 / size } else { 0 };
        let reclaimable = if share && size > 0 {
            format!("{shown} ({percent}%)")
        } else {
            shown
        };
        Value::map([
            ("Active", active.to_string()),
            ("Reclaimable", reclaimable),
            ("Size", units::decimal_size(size as f64, 4)),
            ("TotalCount", total.to_string()),
            ("Type", kind.to_string()),
        ])
    };
    let used = usage.images.iter().filter(|image| image.containers > 0);
    let kept: i64 = used.clone().map(|image| image.size - image.shared_size.max(0)).sum();
    let written = |running: bool| -> i64 {
        let matching = usage
            .containers
            .iter()
            .filter(|container| !running || is_active(&container.state));
        matching.map(|container| container.size_rw.unwrap_or(0) as i64).sum()
    };
    let active = usage
        .containers
        .iter()
        .filter(|container| is_active(&container.state))
        .count();
    let size =
        |volume: &corten_api::types::volume::Volume| volume.usage_data.as_ref().map_or(0, |data| data.size.max(0));
    let in_use =
        |volume: &&corten_api::types::volume::Volume| volume.usage_data.as_ref().is_some_and(|data| data.ref_count > 0);
    let volumes: i64 = usage.volumes.iter().map(size).sum();
    let held: i64 = usage.volumes.iter().filter(in_use).map(size).sum();
    vec![
        row(
            "Images",
            usage.images.len(),
            used.count(),
            usage.layers_size,
            usage.layers_size - kept,
            true,
        ),
        row(
            "Containers",
            usage.containers.len(),
            active,
            written(false),
            written(false) - written(true),
            true,
        ),
        row(
            "Local Volumes",
            usage.volumes.len(),
            usage.volumes.iter().filter(in_use).count(),
            volumes,
            volumes - held,
            true,
        ),
        row("Build Cache", usage.build_cache.len(), 0, 0, 0, false),
    ]
}

fn is_active(state: &str) -> bool {
    ["running", "paused", "restarting"].contains(&state)
}

/// Everything that there is, as the rows of the lists of each kind.
fn usage_lists(usage: &DiskUsage) -> Value {
    let containers = usage
        .containers
        .iter()
        .map(|container| ps::row(&own_size(container), true));
    let lists = [
        ("Images", usage.images.iter().map(image::usage_row).collect()),
        ("Containers", containers.collect()),
        ("Volumes", usage.volumes.iter().map(volume::row).collect()),
        ("BuildCache", Vec::new()),
    ];
    Value::map(lists.map(|(name, rows)| (name, Value::List(rows)))).into_row()
}

/// Without what it has of its image.
fn own_size(container: &ContainerSummary) -> ContainerSummary {
    ContainerSummary {
        size_root_fs: None,
        ..container.clone()
    }
}

fn verbose_usage(usage: &DiskUsage) -> Result<String, String> {
    let mut text = String::from("Images space usage:\n\n");
    let mut lines = String::from("REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE\tSHARED SIZE\tUNIQUE SIZE\tCONTAINERS\n");
    for image in &usage.images {
        // One line each, whatever else it is called.
        let name = image.repo_tags.first().map_or("<none>:<none>", String::as_str);
        let (repository, tag) = image::split_tag(name);
        let shared = image.shared_size.max(0);
        let _ = writeln!(
            lines,
            "{repository}\t{tag}\t{}\t{}\t{}\t{}\t{}\t{}",
            table::short_id(&image.id),
            units::ago(image.created),
            units::decimal_size(image.size as f64, 3),
            units::decimal_size(shared as f64, 4),
            units::decimal_size((image.size - shared) as f64, 4),
            image.containers.max(0)
        );
    }
    text.push_str(&table::align(&lines, table::LIST_WIDTH));
    text.push_str("\nContainers space usage:\n\n");
    let mut lines = String::from("CONTAINER ID\tIMAGE\tCOMMAND\tLOCAL VOLUMES\tSIZE\tCREATED\tSTATUS\tNAMES\n");
    for container in &usage.containers {
        let row = ps::row(&own_size(container), false);
        let template =
            "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}";
        let _ = writeln!(lines, "{}", evaluate::render(template, &row)?);
    }
    text.push_str(&table::align(&lines, table::LIST_WIDTH));
    text.push_str("\nLocal Volumes space usage:\n\n");
    let mut lines = String::from("VOLUME NAME\tLINKS\tSIZE\n");
    for volume in &usage.volumes {
        let (links, size) = volume
            .usage_data
            .as_ref()
            .map_or((0, 0), |data| (data.ref_count, data.size));
        let _ = writeln!(
            lines,
            "{}\t{links}\t{}",
            volume.name,
            units::decimal_size(size.max(0) as f64, 4)
        );
    }
    text.push_str(&table::align(&lines, table::LIST_WIDTH));
    text.push_str("\nBuild cache usage: 0B\n\n");
    let heading = "CACHE ID\tCACHE TYPE\tSIZE\tCREATED\tLAST USED\tUSAGE\tSHARED\n";
    text.push_str(&table::align(heading, table::LIST_WIDTH));
    Ok(text)
}

pub static PRUNE: Command = Command {
    name: "prune",
    usage: "[OPTIONS]",
    about: "Remove what is not used",
    aliases: &["system prune"],
    flags: &[&[
        Flag::switch(
            "all",
            "Remove every image that no container uses, not only those without a name",
        )
        .short('a'),
        Flag::list(
            "filter",
            "filter",
            "Only those that meet the condition (\"label=<key>=<value>\")",
        )
        .check(filter::check),
        Flag::switch("force", "Do not ask").short('f'),
        Flag::switch("volumes", "Remove anonymous volumes too"),
    ]],
    arity: Arity::Exactly(0),
    interspersed: true,
    run: |session, matches| Box::pin(prune(session, matches)),
};

async fn prune(session: Session, matches: Matches) -> Outcome {
    // Volumes have no such age.
    if matches.on("volumes") && matches.list("filter").any(|filter| filter.starts_with("until=")) {
        return Err(Failure::new(
            "ERROR: The \"until\" filter is not supported with \"--volumes\"",
        ));
    }
    let images = match matches.on("all") {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    };
    let volumes = match matches.on("volumes") {
        true => "  - all anonymous volumes not used by at least one container\n",
        false => "",
    };
    let warning = format!(
        "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one \
         container\n{volumes}  - {images}\n"
    );
    if !matches.on("force") && !confirm::ask(&warning) {
        return Ok(0);
    }
    let client = session.client().await?;
    let containers = container::prune_now(&client, &matches).await?;
    network::prune_now(&client, &matches).await?;
    let mut volumes = 0;
    if matches.on("volumes") {
        let filters = filter::collect(matches.list("filter"));
        volumes = volume::prune_now(&client, &filters).await?;
    }
    let images = image::prune_now(&client, matches.on("all"), filter::collect(matches.list("filter"))).await?;
    outln!(
        "Total reclaimed space: {}",
        units::decimal_size((containers + volumes + images) as f64, 4)
    );
    Ok(0)
}

//! `ps`: which containers there are.
use corten_api::calls::ListQuery;
use corten_api::types::container_answers::{ContainerSummary, PortSummary};

use crate::arguments::{Arity, Command, Flag, Matches, Outcome, integer};
use crate::command::filter;
use crate::session::Session;
use crate::table::{self, Listing};
use crate::template::{parse, value::Value};
use crate::units;

pub static PS: Command = Command {
    name: "ps",
    usage: "[OPTIONS]",
    about: "List containers",
    aliases: &["container ls", "container list", "container ps", "ps"],
    flags: &[&[
        Flag::switch("all", "Show all containers (only running ones are shown by default)").short('a'),
        Flag::list("filter", "filter", "Show only what meets the condition")
            .short('f')
            .check(filter::check),
        Flag::single("format", "string", FORMAT_HELP),
        Flag::single(
            "last",
            "int",
            "Show the n containers created last, in any state (default -1)",
        )
        .short('n')
        .check(integer),
        Flag::switch("latest", "Show the container created last, in any state").short('l'),
        Flag::switch("no-trunc", "Do not shorten texts"),
        Flag::switch("quiet", "Show ids only").short('q'),
        Flag::switch("size", "Show the size of files").short('s'),
    ]],
    arity: Arity::Exactly(0),
    interspersed: true,
    run: |session, matches| Box::pin(ps(session, matches)),
};
use crate::{errln, out};

/// What `--format` accepts, for commands that show lists.
pub const FORMAT_HELP: &str = "'table', 'table TEMPLATE', 'json' or a template in Go's language";

const HEADINGS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Names", "NAMES"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
];

const COLUMNS: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

async fn ps(session: Session, matches: Matches) -> Outcome {
    let format = matches.some("format");
    if let Some(format) = format.filter(|format| !matches!(*format, "table" | "json")) {
        parse::parse(format).map_err(|reason| format!("failed to parse template: template: :1: {reason}"))?;
    }
    if matches.on("quiet") && format.is_some() {
        errln!("WARNING: Ignoring custom format, because both --format and --quiet are set.");
    }
    let last = matches.number("last").filter(|last| *last > 0);
    let query = ListQuery {
        all: matches.on("all"),
        limit: if matches.on("latest") { Some(1) } else { last },
        // A template that shows sizes asks for them.
        size: matches.on("size") || format.is_some_and(|format| format.contains(".Size") || format.contains("json .}")),
        filters: filter::collect(matches.list("filter")),
    };
    let containers = session.client().await?.containers(&query).await?;
    let full = matches.on("no-trunc");
    let rows: Vec<Value> = containers.iter().map(|container| row(container, full)).collect();
    let columns = if matches.on("size") {
        format!("{COLUMNS}\t{{{{.Size}}}}")
    } else {
        COLUMNS.to_string()
    };
    let listing = Listing {
        columns: &columns,
        headings: HEADINGS,
        quiet: "{{.ID}}",
    };
    // Unlike other lists, this one shows ids whatever the format.
    let format = format.filter(|_| !matches.on("quiet"));
    out!("{}", listing.show(format, matches.on("quiet"), &rows)?);
    Ok(0)
}

pub fn row(container: &ContainerSummary, full: bool) -> Value {
    let command = if full {
        container.command.clone()
    } else {
        table::ellipsis(&container.command, 20)
    };
    let labels: Vec<String> = container
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let mounts: Vec<String> = container
        .mounts
        .iter()
        .map(|mount| {
            mount
                .name
                .as_deref()
                .filter(|name| !name.is_empty())
                .unwrap_or(&mount.source)
        })
        .map(|name| {
            if full {
                name.to_string()
            } else {
                table::ellipsis(name, 15)
            }
        })
        .collect();
    let local = container
        .mounts
        .iter()
        .filter(|mount| mount.driver.as_deref() == Some("local"))
        .count();
    let networks: Vec<&str> = container.network_settings.networks.keys().map(String::as_str).collect();
    let mut members = [
        ("Command", format!("{command:?}")),
        ("CreatedAt", units::date(container.created)),
        (
            "ID",
            if full {
                container.id.clone()
            } else {
                table::short_id(&container.id)
            },
        ),
        ("Image", image(container, full)),
        ("Labels", labels.join(",")),
        ("LocalVolumes", local.to_string()),
        ("Mounts", mounts.join(",")),
        ("Names", names(container, full)),
        ("Networks", networks.join(",")),
        ("Ports", ports(&container.ports)),
        ("RunningFor", units::ago(container.created)),
        ("Size", size(container)),
        ("State", container.state.clone()),
        ("Status", container.status.clone()),
    ]
    .map(|(name, text)| (name, Value::from(text)))
    .to_vec();
    // Of an image for several platforms, which is not told here.
    members.push(("Platform", Value::Null));
    members.sort_by_key(|(name, _)| *name);
    Value::map(members).with_method("Label", Value::map(container.labels.clone()))
}

fn image(container: &ContainerSummary, full: bool) -> String {
    if container.image.is_empty() {
        return "<no image>".to_string();
    }
    let hex = container.image.strip_prefix("sha256:").unwrap_or(&container.image);
    let is_id = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !full && is_id {
        return table::short_id(hex);
    }
    // A digest after a tag adds nothing that fits a column.
    match container.image.split_once('@') {
        Some((name, _)) if !full && name.rsplit('/').next().is_some_and(|last| last.contains(':')) => name.to_string(),
        _ => container.image.clone(),
    }
}

/// Names without their slash; those of links (`/web/db`) only when nothing is shortened.
fn names(container: &ContainerSummary, full: bool) -> String {
    let names = container
        .names
        .iter()
        .map(|name| name.strip_prefix('/').unwrap_or(name));
    let names: Vec<&str> = names.filter(|name| full || !name.contains('/')).collect();
    names.join(",")
}

fn size(container: &ContainerSummary) -> String {
    let show = |bytes: Option<u64>| units::decimal_size(bytes.unwrap_or(0) as f64, 3);
    let own = show(container.size_rw);
    match container.size_root_fs {
        Some(all) if all > 0 => format!("{own} (virtual {})", show(Some(all))),
        _ => own,
    }
}

/// `0.0.0.0:8080->80/tcp, 443/tcp`. Ports that have the same number outside, or none, are drawn together where they are
/// neighbours: `0.0.0.0:80-81->80-81/tcp`. All others stand at the end, one by one.
pub fn ports(ports: &[PortSummary]) -> String {
    let mut sorted: Vec<&PortSummary> = ports.iter().collect();
    sorted.sort_by_key(|port| (port.private_port, &port.ip, port.public_port, &port.protocol));
    let (mut done, mut singles) = (Vec::new(), Vec::new());
    let mut open: Vec<Range> = Vec::new();
    for port in sorted {
        let ip = port.ip.as_deref().filter(|ip| !ip.is_empty());
        if let Some(ip) = ip
            && port.public_port != Some(port.private_port)
        {
            let outside = format!("{}:{}", bracketed(ip), port.public_port.unwrap_or(0));
            singles.push(format!("{outside}->{}/{}", port.private_port, port.protocol));
            continue;
        }
        let known = open
            .iter_mut()
            .find(|range| range.ip == ip && range.protocol == port.protocol);
        let Some(range) = known else {
            open.push(Range {
                ip,
                protocol: &port.protocol,
                first: port.private_port,
                last: port.private_port,
            });
            continue;
        };
        if range.last.checked_add(1) != Some(port.private_port) {
            done.push(range.show());
            range.first = port.private_port;
        }
        range.last = port.private_port;
    }
    done.extend(open.iter().map(Range::show));
    done.append(&mut singles);
    done.join(", ")
}

fn bracketed(ip: &str) -> String {
    match ip.contains(':') {
        true => format!("[{ip}]"),
        false => ip.to_string(),
    }
}

struct Range<'a> {
    ip: Option<&'a str>,
    protocol: &'a str,
    first: u16,
    last: u16,
}

impl Range<'_> {
    fn show(&self) -> String {
        let span = match self.first == self.last {
            true => self.first.to_string(),
            false => format!("{}-{}", self.first, self.last),
        };
        match self.ip {
            Some(ip) => format!("{}:{span}->{span}/{}", bracketed(ip), self.protocol),
            None => format!("{span}/{}", self.protocol),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, private: u16, public: Option<u16>) -> PortSummary {
        let ip = Some(ip.to_string()).filter(|ip| !ip.is_empty());
        PortSummary {
            ip,
            private_port: private,
            public_port: public,
            protocol: "tcp".to_string(),
        }
    }

    #[test]
    fn neighbouring_ports_are_drawn_together() {
        let list = [
            port("0.0.0.0", 81, Some(8001)),
            port("0.0.0.0", 80, Some(8000)),
            port("::", 80, Some(8000)),
        ];
        assert_eq!(
            ports(&list),
            "0.0.0.0:8000->80/tcp, [::]:8000->80/tcp, 0.0.0.0:8001->81/tcp"
        );
        let same = [80, 81, 83].map(|number| port("0.0.0.0", number, Some(number)));
        assert_eq!(ports(&same), "0.0.0.0:80-81->80-81/tcp, 0.0.0.0:83->83/tcp");
        assert_eq!(
            ports(&[port("", 80, None), port("", 81, None), port("", 90, None)]),
            "80-81/tcp, 90/tcp"
        );
        assert_eq!(ports(&[]), "");
    }

    #[test]
    fn a_row_is_short_unless_asked_otherwise() {
        let container = ContainerSummary {
            id: "0123456789abcdef0123".to_string(),
            names: vec!["/web".to_string(), "/other/alias".to_string()],
            command: "sh -c 'while true; do sleep 1; done'".to_string(),
            image: format!("sha256:{}", "ab".repeat(32)),
            ..ContainerSummary::default()
        };
        let short = row(&container, false);
        let get = |row: &Value, name: &str| row.member(name).unwrap().to_string();
        assert_eq!(get(&short, "ID"), "0123456789ab");
        assert_eq!(get(&short, "Command"), "\"sh -c 'while true; …\"");
        assert_eq!(get(&short, "Image"), "abababababab");
        assert_eq!(get(&short, "Names"), "web");
        let full = row(&container, true);
        assert_eq!(get(&full, "ID"), "0123456789abcdef0123");
        assert_eq!(get(&full, "Names"), "web,other/alias");
    }
}

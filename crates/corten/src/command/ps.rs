//! `ps`: which containers there are.
use std::collections::BTreeSet;

use corten_api::calls::ListQuery;
use corten_api::types::container_answers::{ContainerSummary, PortSummary};

use crate::arguments::{Arity, Command, Flag, Matches, Outcome, integer};
use crate::command::filter;
use crate::session::Session;
use crate::table::{self, Listing};
use crate::template::value::Value;
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
use crate::out;

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
    let last = matches.number("last").filter(|last| *last > 0);
    let query = ListQuery {
        all: matches.on("all"),
        limit: if matches.on("latest") { Some(1) } else { last },
        // A template that shows sizes asks for them.
        size: matches.on("size") || format.is_some_and(|format| format.contains(".Size")),
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
    let row = Value::map([
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
    ]);
    row.with_method("Label", Value::map(container.labels.clone()))
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

/// `0.0.0.0:8080->80/tcp`, with neighbouring ports drawn together: `8000-8002->80-82/tcp`.
pub fn ports(ports: &[PortSummary]) -> String {
    let mut sorted: Vec<&PortSummary> = ports.iter().collect();
    sorted.sort_by_key(|port| {
        (
            port.private_port,
            port.ip.clone(),
            port.protocol.clone(),
            port.public_port,
        )
    });
    let mut ranges: Vec<Range> = Vec::new();
    for port in sorted {
        let ip = port.ip.as_deref().unwrap_or_default();
        let range = ranges.iter_mut().find(|range| range.takes(port, ip));
        match range {
            Some(range) => {
                range.last += 1;
                range.public_last = range.public_last.map(|last| last + 1);
            }
            None => ranges.push(Range {
                ip,
                protocol: &port.protocol,
                first: port.private_port,
                last: port.private_port,
                public_first: port.public_port,
                public_last: port.public_port,
            }),
        }
    }
    let texts: BTreeSet<String> = ranges.iter().map(Range::show).collect();
    texts.into_iter().collect::<Vec<String>>().join(", ")
}

struct Range<'a> {
    ip: &'a str,
    protocol: &'a str,
    first: u16,
    last: u16,
    public_first: Option<u16>,
    public_last: Option<u16>,
}

impl Range<'_> {
    fn takes(&self, port: &PortSummary, ip: &str) -> bool {
        self.ip == ip
            && self.protocol == port.protocol
            && self.last.checked_add(1) == Some(port.private_port)
            && self.public_last.map(|last| last.wrapping_add(1)) == port.public_port
    }

    fn show(&self) -> String {
        let span = |first: u16, last: u16| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        };
        let inner = format!("{}/{}", span(self.first, self.last), self.protocol);
        let Some((first, last)) = self.public_first.zip(self.public_last) else {
            return inner;
        };
        let ip = if self.ip.contains(':') {
            format!("[{}]", self.ip)
        } else {
            self.ip.to_string()
        };
        format!("{ip}:{}->{inner}", span(first, last))
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
        assert_eq!(ports(&list), "0.0.0.0:8000-8001->80-81/tcp, [::]:8000->80/tcp");
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

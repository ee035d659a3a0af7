//! `stats`: what containers use, once or as it changes.
//!
//! The figures are worked out here, from counters: processor time against the host's between two samples, memory
//! without the page cache that could be given back.
use std::io::{self, Write};
use std::rc::Rc;
use std::time::Duration;

use corten_api::calls::ListQuery;
use corten_api::client::{Client, Error, Streaming};
use corten_api::types::stats::{BlkioEntry, Stats};
use futures_util::future::join_all;

use crate::arguments::{Arity, Command, Flag, Matches, Outcome};
use crate::command::ps;
use crate::failure::Failure;
use crate::session::Session;
use crate::table::{self, Listing};
use crate::template::value::Value;
use crate::units;

pub static STATS: Command = Command {
    name: "stats",
    usage: "[OPTIONS] [CONTAINER...]",
    about: "Show what containers use, as it changes",
    aliases: &["container stats", "stats"],
    flags: &[&[
        Flag::switch("all", "Show all containers (only running ones are shown by default)").short('a'),
        Flag::single("format", "string", ps::FORMAT_HELP),
        Flag::switch("no-stream", "Show the figures once"),
        Flag::switch("no-trunc", "Do not shorten texts"),
    ]],
    arity: Arity::AtLeast(0),
    interspersed: true,
    run: |session, matches| Box::pin(stats(session, matches)),
};
use crate::out;

const HEADINGS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Container", "CONTAINER"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];

const COLUMNS: &str =
    "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";

/// Between two looks at the containers; each look itself takes a second, the time between a sample and its successor.
const PAUSE: Duration = Duration::from_millis(200);

async fn stats(session: Session, matches: Matches) -> Outcome {
    let client = session.client().await?;
    let listing = Listing {
        columns: COLUMNS,
        headings: HEADINGS,
        quiet: "{{.ID}}",
    };
    let format = matches.some("format");
    let mut source = Source::open(&client, &matches).await?;
    if matches.on("no-stream") {
        let rows = source.rows(&client, &matches).await?.unwrap_or_default();
        out!("{}", listing.show(format, false, &rows)?);
        return Ok(0);
    }
    // Something is on the screen at once, before the first figures come.
    let mut rows_now = Vec::new();
    loop {
        let text = listing.show(format, false, &rows_now)?;
        let cleared: String = text.lines().map(|line| format!("{line}\x1b[K\n")).collect();
        let mut out = io::stdout().lock();
        let shown = write!(out, "\x1b[H{cleared}\x1b[J").and_then(|()| out.flush());
        if shown.is_err() {
            return Ok(0);
        }
        drop(out);
        match source.rows(&client, &matches).await? {
            Some(rows) if !rows.is_empty() || matches.arguments.is_empty() => rows_now = rows,
            _ => return Ok(0),
        }
    }
}

/// Where figures come from: one answer for all containers, or, of engines that do not know that, an answer for each.
enum Source {
    Many(Streaming, Vec<u8>),
    Each { again: bool },
}

impl Source {
    async fn open(client: &Client, matches: &Matches) -> Result<Source, Failure> {
        let (all, stream) = (matches.on("all"), !matches.on("no-stream"));
        match client.stats_of_many(&matches.arguments, all, stream).await {
            Ok(lines) => Ok(Source::Many(lines, Vec::new())),
            Err(error) if error.is_not_found() && error.to_string().contains("page not found") => {
                Ok(Source::Each { again: false })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The next figures; none when there will be no more.
    async fn rows(&mut self, client: &Rc<Client>, matches: &Matches) -> Result<Option<Vec<Value>>, Failure> {
        match self {
            Source::Each { again } => {
                if std::mem::replace(again, true) {
                    tokio::time::sleep(PAUSE).await;
                }
                rows(client, matches).await.map(Some)
            }
            Source::Many(lines, rest) => {
                let Some(line) = next_line(lines, rest).await? else {
                    return Ok(None);
                };
                let list: Vec<Stats> = serde_json::from_slice(&line).map_err(|source| Error::Document {
                    doing: "GET stats".to_string(),
                    source,
                })?;
                let full = matches.on("no-trunc");
                let named = |index: usize, stats: &Stats| match matches.arguments.get(index) {
                    Some(name) => name.clone(),
                    None => stats.id.clone(),
                };
                let rows = list.iter().enumerate();
                Ok(Some(
                    rows.map(|(index, stats)| row(&named(index, stats), stats, full))
                        .collect(),
                ))
            }
        }
    }
}

/// A line of a stream without its newline; what came after it stays in `rest`.
async fn next_line(stream: &mut Streaming, rest: &mut Vec<u8>) -> Result<Option<Vec<u8>>, Error> {
    let mut searched = 0;
    loop {
        if let Some(at) = rest[searched..].iter().position(|byte| *byte == b'\n') {
            let mut line: Vec<u8> = rest.drain(..=searched + at).collect();
            line.pop();
            return Ok(Some(line));
        }
        searched = rest.len();
        match stream.next().await {
            None => return Ok(None),
            Some(Ok(piece)) => rest.extend_from_slice(&piece),
            Some(Err(error)) => {
                let what = error.to_string();
                return Err(Error::Unexpected { what });
            }
        }
    }
}

/// One line for each container, all sampled at once.
async fn rows(client: &Rc<Client>, matches: &Matches) -> Result<Vec<Value>, Failure> {
    let named = !matches.arguments.is_empty();
    let names = match named {
        true => matches.arguments.clone(),
        false => {
            let query = ListQuery {
                all: matches.on("all"),
                ..ListQuery::default()
            };
            client
                .containers(&query)
                .await?
                .into_iter()
                .map(|container| container.id)
                .collect()
        }
    };
    let full = matches.on("no-trunc");
    let samples = join_all(names.iter().map(|name| sample(client, name))).await;
    let mut rows = Vec::new();
    for (name, sample) in names.iter().zip(samples) {
        match sample {
            Ok(sample) => rows.push(row(name, &sample, full)),
            // A container that went away between the list and the sample.
            Err(error) if error.is_not_found() && !named => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(rows)
}

async fn sample(client: &Client, name: &str) -> Result<Stats, Error> {
    let mut body = client.stats(name, false).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| Error::Unexpected {
            what: error.to_string(),
        })?;
        bytes.extend_from_slice(&piece);
    }
    serde_json::from_slice(&bytes).map_err(|source| Error::Document {
        doing: "GET stats".to_string(),
        source,
    })
}

fn row(name: &str, stats: &Stats, full: bool) -> Value {
    let id = if full {
        stats.id.clone()
    } else {
        table::short_id(&stats.id)
    };
    let shown = |bytes: u64| units::decimal_size(bytes as f64, 3);
    let memory = used_memory(stats) as f64;
    let limit = stats.memory_stats.limit.unwrap_or(0) as f64;
    let share = if limit > 0.0 { memory / limit * 100.0 } else { 0.0 };
    let networks = stats.networks.iter().flatten();
    let (received, sent) = networks.fold((0, 0), |(received, sent), (_, io)| {
        (received + io.rx_bytes, sent + io.tx_bytes)
    });
    let (read, written) = block_io(
        stats
            .blkio_stats
            .io_service_bytes_recursive
            .as_deref()
            .unwrap_or_default(),
    );
    let container = if full || name.len() != stats.id.len() {
        name.to_string()
    } else {
        id.clone()
    };
    Value::map([
        ("BlockIO", format!("{} / {}", shown(read), shown(written))),
        ("CPUPerc", format!("{:.2}%", processor_share(stats))),
        ("Container", container),
        ("ID", id),
        ("MemPerc", format!("{share:.2}%")),
        (
            "MemUsage",
            format!("{} / {}", units::binary_size(memory), units::binary_size(limit)),
        ),
        ("Name", stats.name.trim_start_matches('/').to_string()),
        ("NetIO", format!("{} / {}", shown(received), shown(sent))),
        ("PIDs", stats.pids_stats.current.unwrap_or(0).to_string()),
    ])
}

/// Percent of one processor.
fn processor_share(stats: &Stats) -> f64 {
    let (now, before) = (&stats.cpu_stats, &stats.precpu_stats);
    let own = now.cpu_usage.total_usage as f64 - before.cpu_usage.total_usage as f64;
    let all = now.system_cpu_usage.unwrap_or(0) as f64 - before.system_cpu_usage.unwrap_or(0) as f64;
    let counted = now.cpu_usage.percpu_usage.as_ref().map_or(0, Vec::len) as f64;
    let processors = now.online_cpus.filter(|count| *count > 0).map_or(counted, f64::from);
    if own > 0.0 && all > 0.0 {
        own / all * processors * 100.0
    } else {
        0.0
    }
}

/// What is used without the inactive part of the page cache, whose name tells the cgroup version.
fn used_memory(stats: &Stats) -> u64 {
    let usage = stats.memory_stats.usage.unwrap_or(0);
    let counters = stats.memory_stats.stats.as_ref();
    let inactive = counters.and_then(|map| map.get("total_inactive_file").or_else(|| map.get("inactive_file")));
    match inactive {
        Some(inactive) if *inactive < usage => usage - inactive,
        _ => usage,
    }
}

fn block_io(entries: &[BlkioEntry]) -> (u64, u64) {
    let sum = |operation: &str| {
        entries
            .iter()
            .filter(|entry| entry.op.eq_ignore_ascii_case(operation))
            .map(|entry| entry.value)
            .sum()
    };
    (sum("read"), sum("write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_come_from_two_samples() {
        let stats: Stats = serde_json::from_str(
            r#"{"name":"/web","id":"0123456789abcdef",
                "cpu_stats":{"cpu_usage":{"total_usage":300},"system_cpu_usage":2000,"online_cpus":2},
                "precpu_stats":{"cpu_usage":{"total_usage":100},"system_cpu_usage":1000},
                "memory_stats":{"usage":2097152,"limit":4194304,"stats":{"total_inactive_file":1048576,"inactive_file":7}},
                "blkio_stats":{"io_service_bytes_recursive":[
                    {"major":8,"minor":0,"op":"Read","value":1000},{"major":8,"minor":0,"op":"Write","value":2000},
                    {"major":8,"minor":0,"op":"Total","value":3000}]},
                "networks":{"eth0":{"rx_bytes":1500,"tx_bytes":10}},"pids_stats":{"current":3}}"#,
        )
        .unwrap();
        let row = row("web", &stats, false);
        assert_eq!(
            row.json(),
            concat!(
                r#"{"BlockIO":"1kB / 2kB","CPUPerc":"40.00%","Container":"web","ID":"0123456789ab","#,
                r#""MemPerc":"25.00%","MemUsage":"1MiB / 4MiB","Name":"web","NetIO":"1.5kB / 10B","PIDs":"3"}"#
            )
        );
    }
}

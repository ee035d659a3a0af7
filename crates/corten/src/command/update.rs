//! `update`: other limits and another restart policy for containers.
use serde_json::{Map, Value, json};

use crate::arguments::{Arity, Command, Flag, Matches, Outcome, integer, unsigned16};
use crate::failure::Failure;
use crate::flags::{limits, request};
use crate::session::Session;
use crate::units::{self, bytes};
use crate::{errln, outln};

static FLAGS: &[Flag] = &[
    Flag::single("blkio-weight", "uint16", "Weight of block I/O, 10 to 1000, 0 for none").check(unsigned16),
    Flag::single("cpu-period", "int", "Period of the scheduler's limit in microseconds").check(integer),
    Flag::single("cpu-quota", "int", "Time per period in microseconds").check(integer),
    Flag::single("cpu-rt-period", "int", "Period of the real-time limit in microseconds").check(integer),
    Flag::single("cpu-rt-runtime", "int", "Real time per period in microseconds").check(integer),
    Flag::single("cpu-shares", "int", "Weight of processor time")
        .short('c')
        .check(integer),
    Flag::single("cpus", "decimal", "Number of processors").check(limits::cpus),
    Flag::single("cpuset-cpus", "string", "Processors to run on (0-3, 0,1)"),
    Flag::single("cpuset-mems", "string", "Memory nodes to allocate from (0-3, 0,1)"),
    Flag::list("hugepages", "list", limits::HUGEPAGES_HELP).check(limits::hugepage),
    Flag::single(
        "kernel-memory",
        "bytes",
        "Limit of kernel memory (no kernel has it any more)",
    )
    .check(bytes),
    Flag::single("memory", "bytes", "Limit of memory")
        .short('m')
        .check(bytes),
    Flag::single("memory-reservation", "bytes", "Soft limit of memory").check(bytes),
    Flag::single("memory-swap", "bytes", "Limit of memory and swap together, -1 for none").check(limits::swap),
    Flag::single("pids-limit", "int", "Limit of processes, -1 for none").check(integer),
    Flag::single("restart", "string", "What to do when the container exits"),
];

pub static UPDATE: Command = Command {
    name: "update",
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Change limits and restart policy of one or more containers",
    aliases: &["container update", "update"],
    flags: &[FLAGS],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |session, matches| Box::pin(update(session, matches)),
};

async fn update(session: Session, matches: Matches) -> Outcome {
    if !FLAGS.iter().any(|flag| matches.given(flag.long)) {
        return Err(Failure::new(
            "you must provide one or more flags when using this command",
        ));
    }
    let request = request(&matches)?;
    let client = session.client().await?;
    let (mut warnings, mut failed) = (Vec::new(), false);
    for name in &matches.arguments {
        match client.update(name, &request).await {
            Ok(answer) => {
                outln!("{name}");
                warnings.extend(answer.warnings.unwrap_or_default());
            }
            Err(error) => {
                errln!("{error}");
                failed = true;
            }
        }
    }
    for warning in warnings {
        outln!("{warning}");
    }
    if failed { Err(Failure::silent(1)) } else { Ok(0) }
}

/// Only what was given: what is absent stays.
fn request(matches: &Matches) -> Result<Value, String> {
    let mut request = Map::new();
    for (flag, member) in [
        ("blkio-weight", "BlkioWeight"),
        ("cpu-period", "CpuPeriod"),
        ("cpu-quota", "CpuQuota"),
        ("cpu-rt-period", "CpuRealtimePeriod"),
        ("cpu-rt-runtime", "CpuRealtimeRuntime"),
        ("cpu-shares", "CpuShares"),
        ("pids-limit", "PidsLimit"),
    ] {
        if let Some(number) = matches.number(flag) {
            request.insert(member.to_string(), json!(number));
        }
    }
    for (flag, member) in [("cpuset-cpus", "CpusetCpus"), ("cpuset-mems", "CpusetMems")] {
        if let Some(list) = matches.some(flag) {
            request.insert(member.to_string(), json!(list));
        }
    }
    for (flag, member, parse) in [
        (
            "kernel-memory",
            "KernelMemory",
            units::parse_bytes as fn(&str) -> Result<i64, String>,
        ),
        ("memory", "Memory", units::parse_bytes),
        ("memory-reservation", "MemoryReservation", units::parse_bytes),
        ("memory-swap", "MemorySwap", limits::parse_swap),
        ("cpus", "NanoCpus", limits::parse_cpus),
    ] {
        if let Some(text) = matches.some(flag) {
            request.insert(member.to_string(), json!(parse(text)?));
        }
    }
    if let Some(limits) = limits::hugepages(matches)? {
        request.insert("HugepageLimits".to_string(), json!(limits));
    }
    if let Some(text) = matches.some("restart") {
        request.insert("RestartPolicy".to_string(), json!(request::parse_restart_policy(text)?));
    }
    Ok(Value::Object(request))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments;

    #[test]
    fn only_what_is_given_is_asked_for() {
        let words: Vec<String> =
            "-m 64m --memory-swap -1 --hugepages 2MB=4m --cpus 1.5 --cpuset-cpus 0-1 --pids-limit 0 --restart on-failure:3 web"
                .split(' ')
                .map(str::to_string)
                .collect();
        let matches = arguments::parse(&[FLAGS], true, &words).unwrap();
        assert_eq!(
            request(&matches).unwrap(),
            json!({
                "Memory": 64 << 20, "MemorySwap": -1, "NanoCpus": 1_500_000_000,
                "HugepageLimits": [{"PageSize": "2MB", "Limit": 4 << 20}], "CpusetCpus": "0-1", "PidsLimit": 0,
                "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
            })
        );
    }
}

//! `top`: a container's processes, in ps(1)'s columns.
//!
//! The usual form (`-ef`) is read from /proc directly. Other arguments are ps's own business: the host's ps runs with
//! them, and its rows are filtered by process id, as Docker does.
use std::{
    collections::{HashMap, HashSet},
    fs,
    process::Command,
};

use crate::{
    container::view::Top,
    error::{Error, Result},
};

const TITLES: [&str; 8] = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];

pub fn top(pids: &[i32], ps_args: &str) -> Result<Top> {
    let ps_args = ps_args.trim();
    if matches!(ps_args, "" | "-ef") {
        Ok(from_proc(pids))
    } else {
        from_ps(pids, ps_args)
    }
}

fn from_proc(pids: &[i32]) -> Top {
    let clock = Clock::now();
    let users = users();
    Top {
        titles: TITLES.map(str::to_owned).to_vec(),
        // A process that ended meanwhile has no row.
        processes: pids.iter().filter_map(|pid| row(*pid, &clock, &users)).collect(),
    }
}

struct Clock {
    ticks_per_second: u64,
    /// Seconds since the epoch when the host started.
    boot: i64,
    uptime: u64,
}

impl Clock {
    fn now() -> Clock {
        let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
        let uptime = uptime
            .split(['.', ' '])
            .next()
            .and_then(|seconds| seconds.parse().ok())
            .unwrap_or_default();
        Clock {
            ticks_per_second: rustix::param::clock_ticks_per_second().max(1),
            boot: jiff::Timestamp::now().as_second() - i64::try_from(uptime).unwrap_or_default(),
            uptime,
        }
    }
}

fn row(pid: i32, clock: &Clock, users: &HashMap<u32, String>) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, parentheses too: the last one ends it.
    let (front, back) = stat.rsplit_once(')')?;
    let name = front.split_once('(')?.1;
    let fields: Vec<&str> = back.split_whitespace().collect();
    let number = |index: usize| {
        fields
            .get(index)
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or_default()
    };
    let cpu_seconds = (number(11) + number(12)) / clock.ticks_per_second;
    let started = number(19) / clock.ticks_per_second;
    let lived = clock.uptime.saturating_sub(started).max(1);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let uid: u32 = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()?;
    Some(vec![
        users.get(&uid).cloned().unwrap_or_else(|| uid.to_string()),
        pid.to_string(),
        number(1).to_string(),
        (cpu_seconds * 100 / lived).min(99).to_string(),
        start_time(clock.boot + i64::try_from(started).unwrap_or_default()),
        terminal(number(4)),
        format!(
            "{:02}:{:02}:{:02}",
            cpu_seconds / 3600,
            cpu_seconds / 60 % 60,
            cpu_seconds % 60
        ),
        command_line(pid, name),
    ])
}

/// The hour of today, the day of this year, or the year.
fn start_time(seconds: i64) -> String {
    let zone = jiff::tz::TimeZone::system();
    let start = jiff::Timestamp::from_second(seconds)
        .unwrap_or_default()
        .to_zoned_datetime(zone.clone());
    let now = jiff::Timestamp::now().to_zoned_datetime(zone);
    let format = match (start.date() == now.date(), start.year() == now.year()) {
        (true, _) => "%H:%M",
        (false, true) => "%b%d",
        (false, false) => "%Y",
    };
    start.strftime(format).to_string()
}

/// The name of a device number, as far as terminals of containers go.
fn terminal(device: u64) -> String {
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff_ff00);
    match major {
        0 => "?".to_owned(),
        4 => format!("tty{minor}"),
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        _ => "?".to_owned(),
    }
}

fn command_line(pid: i32, name: &str) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if words.is_empty() {
        return format!("[{name}]");
    }
    String::from_utf8_lossy(&words)
        .trim_end_matches('\0')
        .replace('\0', " ")
}

/// The host's names for users, as ps shows them.
fn users() -> HashMap<u32, String> {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        Some((fields.nth(1)?.parse().ok()?, name.to_owned()))
    };
    text.lines().filter_map(user).collect()
}

fn from_ps(pids: &[i32], ps_args: &str) -> Result<Top> {
    // Passed as words, never through a shell.
    let output = Command::new("ps")
        .args(ps_args.split_whitespace())
        .output()
        .map_err(|error| {
            Error::system("error running ps: it must be installed on the host for arguments other than -ef")
                .because(error)
        })?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(Error::invalid(format!("error running ps: {}", complaint.trim())));
    }
    parse_ps(&String::from_utf8_lossy(&output.stdout), pids)
}

fn parse_ps(output: &str, pids: &[i32]) -> Result<Top> {
    let mut lines = output.lines();
    let titles: Vec<String> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let column = titles
        .iter()
        .position(|title| title == "PID")
        .ok_or_else(|| Error::invalid("Couldn't find PID field in ps output"))?;
    let pids: HashSet<String> = pids.iter().map(i32::to_string).collect();
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        if !pids.contains(*words.get(column)?) || words.len() < titles.len() {
            return None;
        }
        // The last column takes the rest of the line.
        let (front, rest) = words.split_at(titles.len() - 1);
        let mut row: Vec<String> = front.iter().map(|&word| word.to_owned()).collect();
        row.push(rest.join(" "));
        Some(row)
    };
    Ok(Top {
        processes: lines.filter_map(row).collect(),
        titles,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_a_row_in_ps_columns() {
        let own = i32::try_from(std::process::id()).expect("fits");
        let top = top(&[own, i32::MAX], "-ef").expect("readable");
        assert_eq!(top.processes.len(), 1);
        assert_eq!(top.processes[0].len(), TITLES.len());
        assert_eq!(top.processes[0][1], own.to_string());
    }

    #[test]
    fn rows_of_ps_are_found_by_pid_and_keep_their_command() {
        let output = "  PID TTY  CMD\n    7 ?    sleep 1 2\n    8 ?    other\n";
        let top = parse_ps(output, &[7]).expect("has PID");
        assert_eq!(top.processes, [["7", "?", "sleep 1 2"].map(str::to_owned).to_vec()]);
        assert!(parse_ps("A B\n", &[7]).is_err());
    }
}

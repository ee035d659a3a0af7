//! Help and usage texts, in Docker's layout.
//!
//! The layout matters to people and to shells that complete from it: two columns, flags first, wrapped at 80.
use std::fmt::Write;

use crate::arguments::{Command, Flag, Kind};

const WIDTH: usize = 80;

/// The whole help of one command.
pub fn command(program: &str, path: &str, command: &Command) -> String {
    let mut text = format!("Usage:  {program} {path} {}\n\n{}\n", command.usage, command.about);
    trim_usage(&mut text);
    if command.aliases.len() > 1 {
        let names: Vec<String> = command
            .aliases
            .iter()
            .map(|alias| format!("{program} {alias}"))
            .collect();
        let _ = write!(text, "\nAliases:\n  {}\n", names.join(", "));
    }
    let flags: Vec<&Flag> = command.flags.iter().flat_map(|group| group.iter()).collect();
    if !flags.is_empty() {
        text.push_str("\nOptions:\n");
        text.push_str(&options(flags));
    }
    text
}

/// The usage line alone, as errors quote it.
pub fn usage(program: &str, path: &str, command: &Command) -> String {
    let mut text = format!("Usage:  {program} {path} {}\n", command.usage);
    trim_usage(&mut text);
    text
}

/// A command without flags or arguments leaves a blank before its line's end.
fn trim_usage(text: &mut String) {
    if let Some(at) = text.find(" \n") {
        text.remove(at);
    }
}

/// The two columns of flags, in alphabetical order.
pub fn options(mut flags: Vec<&Flag>) -> String {
    flags.sort_by_key(|flag| flag.long);
    let left: Vec<String> = flags.iter().map(|flag| spelling(flag)).collect();
    let column = left.iter().map(String::len).max().unwrap_or(0) + 3;
    let mut text = String::new();
    for (flag, spelled) in flags.iter().zip(&left) {
        let help = match flag.kind {
            Kind::Switch(true) => format!("{} (default true)", flag.help),
            _ => flag.help.to_string(),
        };
        let mut first = true;
        for line in help
            .lines()
            .flat_map(|line| wrap(line, WIDTH.saturating_sub(column + 1).max(24)))
        {
            let left = if first { spelled.as_str() } else { "" };
            first = false;
            let _ = writeln!(text, "{left:column$}{line}");
        }
    }
    text
}

fn spelling(flag: &Flag) -> String {
    let mut text = match flag.short {
        Some(letter) => format!("  -{letter}, --{}", flag.long),
        None => format!("      --{}", flag.long),
    };
    if !flag.value.is_empty() {
        let _ = write!(text, " {}", flag.value);
    }
    text
}

/// Breaks a line at blanks.
fn wrap(line: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in line.split_inclusive(' ') {
        let current = lines.last_mut().expect("there is always one line");
        if !current.is_empty() && current.len() + word.trim_end().len() > width {
            lines.push(word.to_string());
        } else {
            current.push_str(word);
        }
    }
    for line in &mut lines {
        line.truncate(line.trim_end().len());
    }
    lines
}

/// A list of names and what they do, aligned.
pub fn listing<'a>(entries: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> String {
    let column = entries.clone().map(|(name, _)| name.len()).max().unwrap_or(0).max(11);
    let mut text = String::new();
    for (name, about) in entries {
        let _ = writeln!(text, "  {name:column$} {about}");
    }
    text
}

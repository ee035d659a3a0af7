//! Environment, labels and other `NAME=value` lists, from flags and from files.
//!
//! A bare `NAME` means the client's own value. On the command line one that is not set is sent bare, which removes the
//! image's; in a file it is left out.
use std::collections::BTreeMap;

use crate::failure;

/// A check: `NAME` or `NAME=value`.
pub fn check_variable(text: &str) -> Result<(), String> {
    if text.is_empty() || text.starts_with('=') {
        return Err(format!("invalid environment variable: {text}"));
    }
    Ok(())
}

/// A check: `key` or `key=value`.
pub fn check_label(text: &str) -> Result<(), String> {
    if text.starts_with('=') {
        return Err(format!("invalid label '{text}': empty name"));
    }
    Ok(())
}

/// Files first, then flags, so that a flag wins.
pub fn environment<'a>(
    files: impl Iterator<Item = &'a str>,
    flags: impl Iterator<Item = &'a str>,
) -> Result<Vec<String>, String> {
    let mut variables = read_files(files, "env", true)?;
    for flag in flags {
        let inherited = || std::env::var(flag).map(|value| format!("{flag}={value}")).ok();
        let variable = if flag.contains('=') { None } else { inherited() };
        variables.push(variable.unwrap_or_else(|| flag.to_string()));
    }
    Ok(variables)
}

/// Labels of files and flags.
pub fn labels<'a>(
    files: impl Iterator<Item = &'a str>,
    flags: impl Iterator<Item = &'a str>,
) -> Result<BTreeMap<String, String>, String> {
    let lines = read_files(files, "label", false)?;
    let mut labels = map(lines.iter().map(String::as_str));
    labels.extend(map(flags));
    Ok(labels)
}

/// `key=value` texts as a map; without `=` the value is empty.
pub fn map<'a>(texts: impl Iterator<Item = &'a str>) -> BTreeMap<String, String> {
    texts
        .map(|text| text.split_once('=').unwrap_or((text, "")))
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

fn read_files<'a>(paths: impl Iterator<Item = &'a str>, kind: &str, inherits: bool) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    for path in paths {
        let bytes = std::fs::read(path).map_err(|error| format!("open {path}: {}", failure::reason(&error)))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| format!("invalid {kind} file ({path}): it contains invalid utf8 bytes"))?;
        parse_file(&text, inherits, &mut lines).map_err(|reason| format!("invalid {kind} file ({path}): {reason}"))?;
    }
    Ok(lines)
}

fn parse_file(text: &str, inherits: bool, out: &mut Vec<String>) -> Result<(), String> {
    for line in text.trim_start_matches('\u{feff}').lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (line, None),
        };
        if name.is_empty() {
            return Err(format!("no variable name on line '{line}'"));
        }
        if name.contains(char::is_whitespace) {
            return Err(format!("variable '{name}' contains whitespaces"));
        }
        match value {
            Some(value) => out.push(format!("{name}={value}")),
            None if inherits => out.extend(std::env::var(name).map(|value| format!("{name}={value}"))),
            None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_skips_comments_and_what_is_not_set() {
        let mut lines = Vec::new();
        parse_file(
            "A=1\n# c\n\nCORTEN_NOT_SET\n  B=two words \nC=\nPATH\n",
            true,
            &mut lines,
        )
        .unwrap();
        let path = format!("PATH={}", std::env::var("PATH").unwrap());
        assert_eq!(lines, ["A=1", "B=two words ", "C=", path.as_str()]);
        assert_eq!(
            parse_file("x y=1", true, &mut lines).unwrap_err(),
            "variable 'x y' contains whitespaces"
        );
        assert_eq!(
            parse_file("=1", true, &mut lines).unwrap_err(),
            "no variable name on line '=1'"
        );
    }

    #[test]
    fn a_flag_that_is_not_set_is_sent_bare() {
        let variables = environment([].into_iter(), ["A=1", "CORTEN_NOT_SET"].into_iter()).unwrap();
        assert_eq!(variables, ["A=1", "CORTEN_NOT_SET"]);
    }
}

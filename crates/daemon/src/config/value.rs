//! Values as flags and `daemon.json` spell them.
use std::fmt::Display;

use corten_api::types::container::Ulimit;
use serde_json::Value;

use crate::config::error::{ConfigError, invalid};

/// A flag that was given, as dockerd shows it beside the file's value; absent when it was not.
pub fn one(flag: &Option<impl Display>) -> Option<String> {
    flag.as_ref().map(ToString::to_string)
}

/// As [`one`], of a flag that may be repeated.
pub fn list(flag: &[String]) -> Option<String> {
    (!flag.is_empty()).then(|| format!("[{}]", flag.join(" ")))
}

/// A value of the file in the form that Go prints: no quotes, lists in brackets, maps as `map[a:b]`.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
        Value::Object(members) => {
            let members = members.iter().map(|(key, value)| format!("{key}:{}", shown(value)));
            format!("map[{}]", members.collect::<Vec<_>>().join(" "))
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

pub fn pair(name: &'static str, text: &str) -> Result<(String, String), ConfigError> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(invalid(
            name,
            format!("bad attribute format: {text} (it is not KEY=VALUE)"),
        )),
    }
}

/// `nofile=1024:2048`; without a hard limit both are the same.
pub fn ulimit(text: &str) -> Result<Ulimit, ConfigError> {
    const NAME: &str = "default-ulimit";
    let (name, limits) = pair(NAME, text)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((&limits, &limits));
    let number = |text: &str| match text {
        "unlimited" => Ok(-1),
        _ => text
            .parse()
            .map_err(|_| invalid(NAME, format!("\"{text}\" is no limit"))),
    };
    let (soft, hard) = (number(soft)?, number(hard)?);
    if hard != -1 && (soft > hard || soft == -1) {
        let reason = format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}");
        return Err(invalid(NAME, reason));
    }
    Ok(Ulimit { name, soft, hard })
}

/// A number of bytes, or one with a unit (`64M`, `1gb`).
pub fn size(value: &Value) -> Result<i64, ConfigError> {
    let refused = || invalid("default-shm-size", format!("{value} is no size"));
    if let Some(bytes) = value.as_i64() {
        return Ok(bytes);
    }
    let text = value.as_str().ok_or_else(refused)?.trim().to_ascii_lowercase();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: i64 = text[..digits].parse().map_err(|_| refused())?;
    let shift = match text[digits..].trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(refused()),
    };
    number.checked_mul(1 << shift).ok_or_else(refused)
}

pub fn level(text: Option<&str>, debug: bool) -> Result<tracing::Level, ConfigError> {
    Ok(match text.unwrap_or("info") {
        _ if debug => tracing::Level::DEBUG,
        "trace" => tracing::Level::TRACE,
        "debug" => tracing::Level::DEBUG,
        "info" => tracing::Level::INFO,
        "warn" | "warning" => tracing::Level::WARN,
        "error" | "fatal" | "panic" => tracing::Level::ERROR,
        other => return Err(invalid("log-level", format!("\"{other}\" is no logging level"))),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_shown_as_dockerd_shows_them() {
        assert_eq!(one(&Some(true)), Some("true".to_owned()));
        assert_eq!(list(&["a=b".to_owned(), "c".to_owned()]), Some("[a=b c]".to_owned()));
        assert_eq!(list(&[]), None);
        let value = json!({"a": ["x", 1, true], "b": "y"});
        assert_eq!(shown(&value), "map[a:[x 1 true] b:y]");
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size(&json!("1G")).unwrap(), 1 << 30);
        assert_eq!(size(&json!("64mib")).unwrap(), 64 << 20);
        assert_eq!(size(&json!(5)).unwrap(), 5);
        assert!(size(&json!("1x")).is_err() && size(&json!("")).is_err());
    }
}

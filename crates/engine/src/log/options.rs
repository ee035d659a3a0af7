//! What a container's log is to be: driver and options, completed and checked once at create, in Docker's words.
use std::collections::BTreeMap;

use corten_api::types::container::LogConfig;
use regex::Regex;

use crate::{
    error::{Error, Result},
    log::{
        facts::Facts,
        remote::{fluentd, gelf, syslog},
        sizes::{boolean, bytes, decimal_bytes},
        tag,
    },
};

/// As `GET /info` lists them. `none` is no driver, but the word for having none.
pub const DRIVERS: [&str; 6] = ["fluentd", "gelf", "journald", "json-file", "local", "syslog"];
pub const NONE: &str = "none";

/// Of every driver.
const MODE: [&str; 2] = ["mode", "max-buffer-size"];
const CACHE: [&str; 4] = ["cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"];
const FILE: [&str; 3] = ["max-size", "max-file", "compress"];
const ATTRIBUTES: [&str; 5] = ["labels", "labels-regex", "env", "env-regex", "tag"];

/// Completes the configuration of a new container with the daemon's, and checks it.
pub fn check(config: &mut LogConfig, driver: &str, options: &BTreeMap<String, String>, facts: &Facts) -> Result<()> {
    if config.driver.is_empty() {
        config.driver = driver.to_owned();
    }
    let same = config.driver == driver;
    for (key, value) in options {
        if same || CACHE.contains(&key.as_str()) {
            config.config.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    validate(&config.driver, &config.config)?;
    if config.driver != NONE
        && let Some(template) = config.config.get("tag")
    {
        tag::render(template, facts)?;
    }
    Ok(())
}

/// Checks everything but what depends on the container.
pub fn validate(driver: &str, options: &BTreeMap<String, String>) -> Result<()> {
    if driver == NONE {
        return Ok(());
    }
    let option = |key: &str| options.get(key).map(String::as_str);
    let mode = option("mode").unwrap_or_default();
    if !matches!(mode, "" | "blocking" | "non-blocking") {
        return Err(Error::invalid(format!("logger: logging mode not supported: {mode}")));
    }
    if let Some(size) = option("max-buffer-size") {
        if mode != "non-blocking" {
            return Err(Error::invalid(
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
            ));
        }
        bytes(size).map_err(|error| Error::invalid(format!("error parsing option max-buffer-size: {error}")))?;
    }
    if !DRIVERS.contains(&driver) {
        return Err(Error::invalid(format!(
            "logger: no log driver named '{driver}' is registered"
        )));
    }
    if let Some(value) = option("cache-disabled").filter(|value| !value.is_empty())
        && boolean(value).is_none()
    {
        return Err(Error::invalid(format!(
            "invalid value for option cache-disabled: {value}"
        )));
    }
    let known: &[&[&str]] = match driver {
        "json-file" => &[&FILE, &ATTRIBUTES],
        "local" => &[&FILE],
        "journald" => &[&ATTRIBUTES],
        "syslog" => &[&ATTRIBUTES, &syslog::OPTIONS],
        "gelf" => &[&ATTRIBUTES, &gelf::OPTIONS],
        _ => &[&ATTRIBUTES, &fluentd::OPTIONS],
    };
    for key in options.keys().map(String::as_str) {
        let common = MODE.contains(&key) || CACHE.contains(&key);
        if !common && !known.iter().any(|known| known.contains(&key)) {
            return Err(Error::invalid(match driver {
                "local" => format!("unknown log opt '{key}' for log driver local"),
                "gelf" => format!("unknown log opt \"{key}\" for gelf log driver"),
                _ => format!("unknown log opt '{key}' for {driver} log driver"),
            }));
        }
    }
    for key in ["labels-regex", "env-regex"] {
        if let Some(pattern) = option(key) {
            Regex::new(pattern).map_err(|error| Error::invalid(format!("invalid {key}")).because(error))?;
        }
    }
    match driver {
        "json-file" => check_json_file(options),
        "local" => Files::local(options, "").map(drop),
        "syslog" => syslog::check(options),
        "gelf" => gelf::check(options),
        "fluentd" => fluentd::check(options),
        _ => Ok(()),
    }?;
    if is_remote(driver) {
        Files::local(options, "cache-")?;
    }
    Ok(())
}

fn check_json_file(options: &BTreeMap<String, String>) -> Result<()> {
    let files = Files::json(options)?;
    if files.compress && (files.max_files < 2 || files.max_bytes.is_none()) {
        return Err(Error::invalid(
            "compress cannot be true when max-file is less than 2 or max-size is not set",
        ));
    }
    Ok(())
}

/// Does a driver send lines away?
pub fn is_remote(driver: &str) -> bool {
    matches!(driver, "syslog" | "gelf" | "fluentd" | "journald")
}

/// May the container have to wait for its log?
pub fn is_blocking(options: &BTreeMap<String, String>) -> bool {
    options.get("mode").is_none_or(|mode| mode != "non-blocking")
}

/// Has a remote driver a copy that `logs` reads?
pub fn has_cache(options: &BTreeMap<String, String>) -> bool {
    options
        .get("cache-disabled")
        .is_none_or(|value| boolean(value) != Some(true))
}

/// How a log's files rotate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Files {
    pub max_bytes: Option<u64>,
    pub max_files: u32,
    pub compress: bool,
}

/// What lies between the container and a remote, where nobody is to read it.
const SPOOL_BYTES_MIN: u64 = 1 << 20;

impl Files {
    pub fn json(options: &BTreeMap<String, String>) -> Result<Files> {
        let option = |key: &str| options.get(key).map(String::as_str);
        let max_bytes = option("max-size").map(decimal_bytes).transpose()?;
        if max_bytes == Some(0) {
            return Err(Error::invalid("max-size must be a positive number"));
        }
        Ok(Files {
            max_bytes,
            max_files: match option("max-file").map(str::parse::<u32>) {
                None => 1,
                Some(Ok(count)) if count > 0 => count,
                Some(_) => return Err(Error::invalid("max-file cannot be less than 1")),
            },
            compress: parsed_boolean("compress", option("compress"), false)?,
        })
    }

    /// Of driver `local`, or of a remote driver's copy, whose options have a prefix.
    pub fn local(options: &BTreeMap<String, String>, prefix: &str) -> Result<Files> {
        let option = |key: &str| options.get(&format!("{prefix}{key}")).map(String::as_str);
        let max_bytes = match option("max-size") {
            None => 20 << 20,
            Some(size) => decimal_bytes(size)
                .map_err(|error| Error::invalid(format!("invalid value for {prefix}max-size: {size}: {error}")))?,
        };
        let max_files: i64 = match option("max-file") {
            None => 5,
            Some(count) => count
                .parse::<i64>()
                .map_err(|error| Error::invalid(format!("invalid value for {prefix}max-file: {count}: {error}")))?,
        };
        let max_files =
            u32::try_from(max_files).map_err(|_| Error::invalid(format!("{prefix}max-file must not be negative")))?;
        let compress = parsed_boolean(&format!("{prefix}compress"), option("compress"), true)?;
        if compress && max_files <= 1 {
            return Err(Error::invalid("compression cannot be enabled when max file count is 1"));
        }
        Ok(Files {
            max_bytes: (max_bytes > 0).then_some(max_bytes),
            max_files: max_files.max(1),
            compress,
        })
    }

    /// Of a remote driver: its cache, or the least that it needs to be fed from.
    pub fn remote(options: &BTreeMap<String, String>) -> Result<Files> {
        if has_cache(options) {
            let files = Files::local(options, "cache-")?;
            // One is written, another delivered.
            return Ok(Files {
                max_files: files.max_files.max(2),
                ..files
            });
        }
        let buffer = options.get("max-buffer-size").map(|size| bytes(size)).transpose()?;
        Ok(Files {
            max_bytes: Some(buffer.unwrap_or(0).max(SPOOL_BYTES_MIN)),
            max_files: 2,
            compress: false,
        })
    }
}

fn parsed_boolean(key: &str, value: Option<&str>, default: bool) -> Result<bool> {
    match value {
        None => Ok(default),
        Some(value) => boolean(value).ok_or_else(|| {
            Error::invalid(format!(
                "invalid boolean value for {key}: strconv.ParseBool: parsing \"{value}\": invalid syntax"
            ))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::facts;

    fn config(driver: &str, options: &[(&str, &str)]) -> LogConfig {
        LogConfig {
            driver: driver.to_owned(),
            config: options
                .iter()
                .map(|&(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        }
    }

    #[track_caller]
    fn refuse(driver: &str, options: &[(&str, &str)], reason: &str) {
        let mut config = config(driver, options);
        let refused = check(&mut config, "json-file", &BTreeMap::new(), &facts::example());
        let error = refused.expect_err(reason).to_string();
        assert!(error.contains(reason), "{error}");
    }

    #[test]
    fn what_is_wrong_is_refused_in_dockers_words() {
        for (driver, options, reason) in [
            (
                "",
                &[("color", "red")][..],
                "unknown log opt 'color' for json-file log driver",
            ),
            ("", &[("max-file", "0")], "max-file cannot be less than 1"),
            ("", &[("max-size", "0")], "max-size must be a positive number"),
            ("", &[("max-size", "big")], "invalid size: 'big'"),
            (
                "",
                &[("compress", "true")],
                "compress cannot be true when max-file is less than 2",
            ),
            ("", &[("mode", "maybe")], "logger: logging mode not supported: maybe"),
            (
                "",
                &[("max-buffer-size", "1m")],
                "only supported with 'mode=non-blocking'",
            ),
            ("", &[("tag", "{{.Nope}}")], "can't evaluate field Nope"),
            ("", &[("labels-regex", "(")], "invalid labels-regex"),
            ("local", &[("tag", "x")], "unknown log opt 'tag' for log driver local"),
            (
                "local",
                &[("max-file", "1")],
                "compression cannot be enabled when max file count is 1",
            ),
            ("local", &[("max-file", "-1")], "max-file must not be negative"),
            (
                "local",
                &[("compress", "perhaps")],
                "invalid boolean value for compress",
            ),
            ("awslogs", &[], "logger: no log driver named 'awslogs' is registered"),
            (
                "journald",
                &[("max-size", "1m")],
                "unknown log opt 'max-size' for journald log driver",
            ),
            (
                "syslog",
                &[("cache-disabled", "maybe")],
                "invalid value for option cache-disabled: maybe",
            ),
            (
                "syslog",
                &[("cache-max-file", "x")],
                "invalid value for cache-max-file: x",
            ),
            (
                "syslog",
                &[("syslog-address", "http://x")],
                "unsupported scheme: 'http'",
            ),
            ("syslog", &[("syslog-facility", "kitchen")], "invalid syslog facility"),
            ("syslog", &[("syslog-format", "xml")], "invalid syslog format"),
            (
                "syslog",
                &[("syslog-address", "unix:///no/such")],
                "no such file or directory",
            ),
            ("gelf", &[], "gelf-address is a required parameter"),
            (
                "gelf",
                &[("gelf-address", "http://x:1")],
                "gelf: endpoint needs to be TCP or UDP",
            ),
            (
                "gelf",
                &[("gelf-address", "udp://x")],
                "gelf: please provide gelf-address as proto://host:port",
            ),
            (
                "gelf",
                &[("gelf-address", "tcp://x:1"), ("gelf-compression-type", "gzip")],
                "compression is only supported on UDP",
            ),
            (
                "gelf",
                &[("gelf-address", "udp://x:1"), ("gelf-compression-level", "10")],
                "unknown value \"10\" for log opt \"gelf-compression-level\" for gelf log driver",
            ),
            (
                "gelf",
                &[("gelf-address", "udp://x:1"), ("gelf-tcp-max-reconnect", "1")],
                "\"gelf-tcp-max-reconnect\" is only valid for TCP",
            ),
            (
                "gelf",
                &[("gelf-address", "udp://x:1"), ("a", "b")],
                "unknown log opt \"a\" for gelf log driver",
            ),
            ("fluentd", &[("fluentd-async", "maybe")], "strconv.ParseBool"),
            (
                "fluentd",
                &[("fluentd-retry-wait", "soon")],
                "time: invalid duration \"soon\"",
            ),
            (
                "fluentd",
                &[("fluentd-async", "true"), ("fluentd-async-connect", "true")],
                "conflicting options: cannot specify both 'fluentd-async' and 'fluentd-async-connect'",
            ),
            (
                "fluentd",
                &[("fluentd-address", "tcp://h:x")],
                "invalid fluentd-address tcp://h:x",
            ),
        ] {
            refuse(driver, options, reason);
        }
    }

    #[test]
    fn the_daemons_options_are_the_default() {
        let daemon: BTreeMap<String, String> = [("max-size", "5m"), ("max-file", "2"), ("cache-disabled", "true")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        let mut own = config("", &[("max-size", "1m")]);
        check(&mut own, "json-file", &daemon, &facts::example()).expect("valid");
        assert_eq!(own.driver, "json-file");
        assert_eq!(
            (own.config["max-size"].as_str(), own.config["max-file"].as_str()),
            ("1m", "2")
        );
        // Of another driver, only what all have.
        let mut other = config("syslog", &[]);
        check(&mut other, "json-file", &daemon, &facts::example()).expect("valid");
        assert_eq!(other.config.keys().collect::<Vec<_>>(), ["cache-disabled"]);
        let mut none = config("none", &[("what", "ever")]);
        check(&mut none, "json-file", &daemon, &facts::example()).expect("valid");
    }

    #[test]
    fn files_have_dockers_defaults() {
        let none = BTreeMap::new();
        let files = Files::local(&none, "").expect("valid");
        assert_eq!(
            (files.max_bytes, files.max_files, files.compress),
            (Some(20 << 20), 5, true)
        );
        let files = Files::json(&none).expect("valid");
        assert_eq!((files.max_bytes, files.max_files, files.compress), (None, 1, false));
        assert_eq!(Files::remote(&none).expect("valid").max_files, 5);
        let disabled = [("cache-disabled".to_owned(), "1".to_owned())].into();
        assert_eq!(Files::remote(&disabled).expect("valid").max_bytes, Some(1 << 20));
    }
}

//! What a container's log is to be: driver and options, checked once at create.
use std::{collections::BTreeMap, path::Path};

use corten_api::types::container::LogConfig;
use corten_runtime::process::task::LogFile;
use regex::Regex;

use crate::{
    container::record::Record,
    error::{Error, Result},
};

/// The drivers that Docker has and this version does not.
const LATER: [&str; 10] = [
    "local",
    "journald",
    "syslog",
    "gelf",
    "fluentd",
    "awslogs",
    "splunk",
    "gcplogs",
    "logentries",
    "etwlogs",
];

/// Completes and checks the configuration of a new container.
pub fn check(config: &mut LogConfig, driver: &str, options: &BTreeMap<String, String>) -> Result<()> {
    if config.driver.is_empty() {
        config.driver = driver.to_owned();
    }
    match config.driver.as_str() {
        "json-file" if driver == "json-file" => {
            for (key, value) in options {
                config.config.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        "json-file" | "none" => {}
        other if LATER.contains(&other) => return Err(Error::not_implemented(format!("log driver {other}"))),
        other => {
            return Err(Error::invalid(format!(
                "logger: no log driver named '{other}' is registered"
            )));
        }
    }
    if config.driver == "none" {
        return Ok(());
    }
    for (key, value) in &config.config {
        match key.as_str() {
            "max-size" => {
                size(value)?;
            }
            "max-file" => {
                files(value)?;
            }
            "labels" | "env" | "tag" => {}
            "labels-regex" | "env-regex" => {
                Regex::new(value).map_err(|error| Error::invalid(format!("invalid {key}")).because(error))?;
            }
            "compress" if value == "false" => {}
            "compress" => return Err(Error::not_implemented("compressing logs")),
            "mode" if value == "blocking" => {}
            "mode" | "max-buffer-size" => return Err(Error::not_implemented("non-blocking logs")),
            other => {
                return Err(Error::invalid(format!(
                    "unknown log opt '{other}' for json-file log driver"
                )));
            }
        }
    }
    let text = |key: &str| config.config.get(key);
    if text("max-file").is_some_and(|value| value != "1") && text("max-size").is_none() {
        return Err(Error::invalid("max-file cannot be specified without max-size"));
    }
    Ok(())
}

/// The file that the shim writes; absent for driver `none`.
pub fn file(record: &Record, directory: &Path) -> Option<LogFile> {
    let log = &record.host_config.log_config;
    (log.driver == "json-file").then(|| LogFile {
        path: directory.join(format!("{}-json.log", record.id)),
        max_bytes: log.config.get("max-size").and_then(|text| size(text).ok()),
        max_files: log
            .config
            .get("max-file")
            .and_then(|text| files(text).ok())
            .unwrap_or(1),
    })
}

/// What `logs --details` shows: the labels and variables that the options name.
pub fn details(record: &Record) -> BTreeMap<String, String> {
    let options = &record.host_config.log_config.config;
    let named = |key: &str| -> Vec<&str> {
        options
            .get(key)
            .map(|names| names.split(',').collect())
            .unwrap_or_default()
    };
    let pattern = |key: &str| options.get(key).and_then(|text| Regex::new(text).ok());
    let mut details = BTreeMap::new();
    let mut add = |names: &[&str], pattern: Option<Regex>, name: &str, value: &str| {
        if names.contains(&name) || pattern.is_some_and(|pattern| pattern.is_match(name)) {
            details.insert(name.to_owned(), value.to_owned());
        }
    };
    for (name, value) in &record.config.labels {
        add(&named("labels"), pattern("labels-regex"), name, value);
    }
    for (name, value) in record.config.env.iter().filter_map(|variable| variable.split_once('=')) {
        add(&named("env"), pattern("env-regex"), name, value);
    }
    details
}

/// `10m`, `1.5 GB`, `4096`: bytes, in powers of 1024.
fn size(text: &str) -> Result<u64> {
    let refused = || Error::invalid(format!("invalid size: '{text}'"));
    let split = text
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| refused())?;
    let shift = match unit
        .trim()
        .to_ascii_lowercase()
        .trim_end_matches('b')
        .trim_end_matches('i')
    {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(refused()),
    };
    let bytes = number * (1_u64 << shift) as f64;
    if bytes < 1.0 { Err(refused()) } else { Ok(bytes as u64) }
}

fn files(text: &str) -> Result<u32> {
    match text.parse() {
        Ok(0) | Err(_) => Err(Error::invalid("max-file cannot be less than 1")),
        Ok(count) => Ok(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(options: &[(&str, &str)]) -> LogConfig {
        LogConfig {
            driver: String::new(),
            config: options
                .iter()
                .map(|&(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        }
    }

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, bytes) in [
            ("10m", 10 << 20),
            ("4096", 4096),
            ("1.5k", 1536),
            ("1GB", 1 << 30),
            ("2KiB", 2048),
        ] {
            assert_eq!(size(text).expect(text), bytes);
        }
        for text in ["", "m", "1x", "-1", "0"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn unknown_options_and_drivers_are_refused() {
        let refuse = |mut config: LogConfig| {
            check(&mut config, "json-file", &BTreeMap::new())
                .expect_err("refused")
                .to_string()
        };
        assert_eq!(
            refuse(config(&[("color", "red")])),
            "unknown log opt 'color' for json-file log driver"
        );
        assert_eq!(
            refuse(config(&[("max-file", "3")])),
            "max-file cannot be specified without max-size"
        );
        let mut odd = config(&[]);
        odd.driver = "carrier-pigeon".to_owned();
        assert_eq!(
            refuse(odd),
            "logger: no log driver named 'carrier-pigeon' is registered"
        );
    }

    #[test]
    fn the_daemons_options_are_the_default() {
        let mut own = config(&[("max-size", "1m")]);
        let daemon = [
            ("max-size".to_owned(), "5m".to_owned()),
            ("max-file".to_owned(), "2".to_owned()),
        ]
        .into();
        check(&mut own, "json-file", &daemon).expect("valid");
        assert_eq!(own.driver, "json-file");
        assert_eq!(
            (own.config["max-size"].as_str(), own.config["max-file"].as_str()),
            ("1m", "2")
        );
    }
}

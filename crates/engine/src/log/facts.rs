//! What a log's driver may tell of a container beside its lines: names for tags, and labels and variables as attributes.
use std::collections::BTreeMap;

use corten_api::types::container::{ContainerConfig, LogConfig};
use jiff::Timestamp;
use regex::Regex;

use crate::{container::record::Record, log::tag};

/// As in Docker, where it is a constant too.
const DAEMON_NAME: &str = "docker";
const SHORT_ID: usize = 12;

#[derive(Debug, Clone)]
pub struct Facts {
    pub id: String,
    pub name: String,
    pub image_id: String,
    pub image_name: String,
    pub command: String,
    pub created: Timestamp,
    pub labels: BTreeMap<String, String>,
    pub environment: Vec<String>,
    pub options: BTreeMap<String, String>,
}

impl Facts {
    pub fn of(record: &Record) -> Facts {
        Facts {
            id: record.id.clone(),
            name: record.name.clone(),
            image_id: record.image_id.clone(),
            image_name: record.config.image.clone(),
            command: record.argv().join(" "),
            created: record.created,
            labels: record.config.labels.clone(),
            environment: record.config.env.clone(),
            options: record.host_config.log_config.config.clone(),
        }
    }

    /// Of a container that has no id and no image yet: enough to try a tag's template.
    pub fn before_create(config: &ContainerConfig, log: &LogConfig) -> Facts {
        Facts {
            id: "0".repeat(64),
            name: String::new(),
            image_id: String::new(),
            image_name: config.image.clone(),
            command: String::new(),
            created: Timestamp::now(),
            labels: config.labels.clone(),
            environment: config.env.clone(),
            options: log.config.clone(),
        }
    }

    /// What a tag's `{{.Name}}` stands for.
    pub fn field(&self, name: &str) -> Option<&str> {
        let short = |id: &'_ str| id.len().min(SHORT_ID);
        Some(match name {
            "ID" => &self.id[..short(&self.id)],
            "FullID" | "ContainerID" => &self.id,
            "Name" => &self.name,
            "ContainerName" => &self.name,
            "ImageID" => &self.image_id[..short(&self.image_id)],
            "ImageFullID" | "ContainerImageID" => &self.image_id,
            "ImageName" | "ContainerImageName" => &self.image_name,
            "Command" => &self.command,
            "DaemonName" => DAEMON_NAME,
            _ => return None,
        })
    }

    /// The short id, unless the options have another template. It was checked at create.
    pub fn tag(&self) -> String {
        self.chosen_tag()
            .unwrap_or_else(|| self.field("ID").unwrap_or_default().to_owned())
    }

    /// Absent where the options have none.
    pub fn chosen_tag(&self) -> Option<String> {
        let template = self.options.get("tag").filter(|template| !template.is_empty())?;
        tag::render(template, self).ok()
    }

    /// The labels and variables that the options name, exactly or by a pattern.
    pub fn attributes(&self) -> BTreeMap<String, String> {
        let names = |key: &str| -> Vec<&str> {
            let names = self.options.get(key).map(String::as_str).unwrap_or_default();
            names.split(',').filter(|name| !name.is_empty()).collect()
        };
        let pattern = |key: &str| {
            let text = self.options.get(key).filter(|text| !text.is_empty())?;
            Regex::new(text).ok()
        };
        let mut attributes = BTreeMap::new();
        let mut add = |names: &[&str], pattern: Option<&Regex>, name: &str, value: &str| {
            if names.contains(&name) || pattern.is_some_and(|pattern| pattern.is_match(name)) {
                attributes.insert(name.to_owned(), value.to_owned());
            }
        };
        let (labels, labels_pattern) = (names("labels"), pattern("labels-regex"));
        for (name, value) in &self.labels {
            add(&labels, labels_pattern.as_ref(), name, value);
        }
        let (variables, variables_pattern) = (names("env"), pattern("env-regex"));
        for (name, value) in self.environment.iter().filter_map(|variable| variable.split_once('=')) {
            add(&variables, variables_pattern.as_ref(), name, value);
        }
        attributes
    }

    /// Those, and the tag where the options have one: what `logs --details` shows.
    pub fn details(&self) -> BTreeMap<String, String> {
        let mut details = self.attributes();
        if let Some(tag) = self.chosen_tag() {
            details.insert("tag".to_owned(), tag);
        }
        details
    }
}

#[cfg(test)]
pub fn example() -> Facts {
    let text = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    Facts {
        id: "0123456789abcdef".repeat(4),
        name: "web".to_owned(),
        image_id: format!("sha256:{}", "ab".repeat(32)),
        image_name: "nginx:1".to_owned(),
        command: "nginx -g daemon".to_owned(),
        created: "2026-01-02T03:04:05Z".parse().expect("a time"),
        labels: text(&[("team", "blue"), ("com.a", "1"), ("com.b", "2")]),
        environment: vec!["STAGE=test".to_owned(), "PATH=/bin".to_owned()],
        options: text(&[("labels", "team,absent"), ("labels-regex", "^com"), ("env", "STAGE")]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_named_or_match_a_pattern() {
        let attributes = example().attributes();
        let keys: Vec<_> = attributes.keys().map(String::as_str).collect();
        assert_eq!(keys, ["STAGE", "com.a", "com.b", "team"]);
        assert_eq!(attributes["STAGE"], "test");
    }
}

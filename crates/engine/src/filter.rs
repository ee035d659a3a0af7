//! Filters, as clients send them: key to values. Which keys exist, and what matches.
//!
//! Values of one key are alternatives, except labels, which must all be there. Names and ids match as regular
//! expressions, anywhere in the text.
use std::collections::BTreeMap;

use corten_network::model::PublishedPort;
use jiff::Timestamp;
use regex::Regex;

use crate::{
    container::{
        record::Record,
        state::State,
        view::{ContainerView, Filters},
    },
    error::{Error, Result},
    events::Event,
};

const CONTAINER_KEYS: [&str; 17] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
    "label!",
    "until",
];
const EVENT_KEYS: [&str; 15] = [
    "builder",
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];
const STATES: [&str; 7] = [
    "paused",
    "restarting",
    "removing",
    "running",
    "dead",
    "created",
    "exited",
];

/// Refuses keys that are not among `known`.
pub fn check_keys(filters: &Filters, known: &[&str]) -> Result<()> {
    match filters.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(Error::invalid(format!("invalid filter '{key}'"))),
        None => Ok(()),
    }
}

fn values<'a>(filters: &'a Filters, key: &str) -> &'a [String] {
    filters.get(key).map(Vec::as_slice).unwrap_or_default()
}

fn bad_value(key: &str, value: &str) -> Error {
    Error::invalid(format!("invalid filter '{key}={value}'"))
}

/// `key` or `key=value`, all of them.
pub fn labels_match(wanted: &[String], labels: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|wanted| match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|own| own == value),
        None => labels.contains_key(wanted),
    })
}

/// Any of `texts` equals the name or matches it as a regular expression; no text matches everything.
pub fn any_name_matches(texts: &[String], name: &str) -> bool {
    text_matches(&Pattern::all(texts), &[name])
}

/// Any of `patterns` equals one of `texts` or matches it; no pattern matches everything.
fn text_matches(patterns: &[Pattern], texts: &[&str]) -> bool {
    patterns.is_empty()
        || patterns
            .iter()
            .any(|pattern| texts.iter().any(|text| pattern.matches(text)))
}

#[derive(Debug)]
struct Pattern {
    text: String,
    expression: Option<Regex>,
}

impl Pattern {
    fn all(texts: &[String]) -> Vec<Pattern> {
        // What is no regular expression can still be a name.
        let pattern = |text: &String| Pattern {
            text: text.clone(),
            expression: Regex::new(text).ok(),
        };
        texts.iter().map(pattern).collect()
    }

    fn matches(&self, text: &str) -> bool {
        self.text == text
            || self
                .expression
                .as_ref()
                .is_some_and(|expression| expression.is_match(text))
    }
}

/// What of other objects a container filter refers to, looked up by the caller.
pub trait Lookup {
    /// When the container named by `before` or `since` was created.
    fn created(&self, reference: &str) -> Result<Timestamp>;
    /// The id and layers of an image; absent when there is none.
    fn image(&self, reference: &str) -> Option<(String, Vec<String>)>;
}

/// A filter on containers, parsed once and asked for each.
#[derive(Debug)]
pub struct ContainerFilter {
    ids: Vec<Pattern>,
    names: Vec<Pattern>,
    labels: Vec<String>,
    statuses: Vec<String>,
    exited: Vec<i32>,
    before: Vec<Timestamp>,
    since: Vec<Timestamp>,
    /// Absent when nobody asked; empty when what was asked for does not exist.
    ancestors: Option<Vec<(String, Vec<String>)>>,
    volumes: Vec<String>,
    networks: Vec<String>,
    healths: Vec<String>,
    expose: Vec<PortRange>,
    publish: Vec<PortRange>,
    is_task: Option<bool>,
}

impl ContainerFilter {
    pub fn parse(filters: &Filters, lookup: &impl Lookup) -> Result<ContainerFilter> {
        check_keys(filters, &CONTAINER_KEYS[..15])?;
        for status in values(filters, "status") {
            if !STATES.contains(&status.as_str()) {
                return Err(bad_value("status", status));
            }
        }
        for health in values(filters, "health") {
            if !["none", "starting", "healthy", "unhealthy"].contains(&health.as_str()) {
                return Err(bad_value("health", health));
            }
        }
        let exited = values(filters, "exited").iter();
        let exited = exited.map(|code| code.parse().map_err(|_| bad_value("exited", code)));
        let times = |key| {
            values(filters, key)
                .iter()
                .map(|name| lookup.created(name))
                .collect::<Result<Vec<_>>>()
        };
        let ports = |key: &'static str| {
            values(filters, key)
                .iter()
                .map(|text| PortRange::parse(key, text))
                .collect::<Result<Vec<_>>>()
        };
        let ancestors = filters
            .get("ancestor")
            .map(|names| names.iter().filter_map(|name| lookup.image(name)).collect());
        Ok(ContainerFilter {
            ids: Pattern::all(values(filters, "id")),
            names: Pattern::all(values(filters, "name")),
            labels: values(filters, "label").to_vec(),
            statuses: values(filters, "status").to_vec(),
            exited: exited.collect::<Result<Vec<_>>>()?,
            before: times("before")?,
            since: times("since")?,
            ancestors,
            volumes: values(filters, "volume").to_vec(),
            networks: values(filters, "network").to_vec(),
            healths: values(filters, "health").to_vec(),
            expose: ports("expose")?,
            publish: ports("publish")?,
            is_task: values(filters, "is-task")
                .first()
                .map(|text| boolean("is-task", text))
                .transpose()?,
        })
    }

    /// A state asked for by name shows those that do not run too.
    pub fn names_a_status(&self) -> bool {
        !self.statuses.is_empty()
    }

    pub fn matches(&self, view: &ContainerView) -> bool {
        let (record, state) = (view.record.as_ref(), &view.state);
        let slashed = format!("/{}", record.name);
        let one_of = |wanted: &[String], own: &str| wanted.is_empty() || wanted.iter().any(|text| text == own);
        text_matches(&self.ids, &[&record.id])
            && text_matches(&self.names, &[&record.name, &slashed])
            && labels_match(&self.labels, &record.config.labels)
            && one_of(&self.statuses, state.phase.status())
            && (self.exited.is_empty()
                || (state.finished_at.is_some() && !state.phase.is_up() && self.exited.contains(&state.exit_code)))
            && self.before.iter().all(|time| record.created < *time)
            && self.since.iter().all(|time| record.created > *time)
            && self.has_ancestor(record)
            && self.has_volume(record)
            && self.is_on_network(view)
            && one_of(
                &self.healths,
                state.health.as_ref().map_or("none", |health| health.status.name()),
            )
            && self.exposes(record)
            && self.publishes(state)
            && self.is_task != Some(true)
    }

    fn has_ancestor(&self, record: &Record) -> bool {
        self.ancestors.as_ref().is_none_or(|ancestors| {
            ancestors
                .iter()
                .any(|(id, layers)| record.image_id == *id || (!layers.is_empty() && record.layers.starts_with(layers)))
        })
    }

    fn has_volume(&self, record: &Record) -> bool {
        self.volumes.is_empty()
            || record.mounts.iter().any(|mount| {
                self.volumes.iter().any(|wanted| {
                    mount.name.as_ref() == Some(wanted) || mount.destination == *wanted || mount.source == *wanted
                })
            })
    }

    /// By name, or by id while it runs there.
    fn is_on_network(&self, view: &ContainerView) -> bool {
        let record = &view.record;
        let is_on = |wanted: &String| {
            let attachment = view.state.attachment.iter();
            record.networking.endpoints_config.contains_key(wanted)
                || record.host_config.network_mode == *wanted
                || attachment
                    .flat_map(|all| &all.endpoints)
                    .any(|end| end.network == *wanted)
        };
        self.networks.is_empty() || self.networks.iter().any(is_on)
    }

    /// By ports of the host, those that were chosen for a container too.
    fn publishes(&self, state: &State) -> bool {
        let attached = state.attachment.iter();
        let mut ports = attached.flat_map(|attachment| &attachment.ports);
        let asked = |port: &PublishedPort| {
            let wished = format!("{}/{}", port.host_port, port.protocol.name());
            self.publish.iter().any(|range| range.contains(&wished))
        };
        self.publish.is_empty() || ports.any(asked)
    }

    fn exposes(&self, record: &Record) -> bool {
        let ports = || record.config.exposed_ports.iter().flat_map(|ports| ports.keys());
        self.expose.is_empty() || ports().any(|port| self.expose.iter().any(|range| range.contains(port)))
    }
}

/// `80`, `8000-8080/udp`.
#[derive(Debug)]
struct PortRange {
    first: u16,
    last: u16,
    protocol: String,
}

impl PortRange {
    fn parse(key: &str, text: &str) -> Result<PortRange> {
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) if first <= last => Ok(PortRange {
                first,
                last,
                protocol: protocol.to_owned(),
            }),
            _ => Err(bad_value(key, text)),
        }
    }

    fn contains(&self, port: &str) -> bool {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        protocol == self.protocol
            && number
                .parse()
                .is_ok_and(|number| (self.first..=self.last).contains(&number))
    }
}

fn boolean(key: &str, text: &str) -> Result<bool> {
    match text {
        "1" | "true" | "True" | "TRUE" | "t" | "T" => Ok(true),
        "0" | "false" | "False" | "FALSE" | "f" | "F" => Ok(false),
        _ => Err(bad_value(key, text)),
    }
}

/// A filter on events, parsed once and asked for each.
#[derive(Debug)]
pub struct EventFilter {
    filters: Filters,
    names: BTreeMap<&'static str, Vec<Pattern>>,
}

impl EventFilter {
    pub fn parse(filters: &Filters) -> Result<EventFilter> {
        check_keys(filters, &EVENT_KEYS)?;
        let objects = EVENT_KEYS
            .into_iter()
            .filter(|key| !["event", "type", "scope", "label"].contains(key));
        let names = objects
            .filter_map(|key| Some((key, Pattern::all(filters.get(key)?))))
            .collect();
        Ok(EventFilter {
            filters: filters.clone(),
            names,
        })
    }

    pub fn matches(&self, event: &Event) -> bool {
        let one_of = |key: &str, own: &str| {
            let wanted = values(&self.filters, key);
            wanted.is_empty() || wanted.iter().any(|text| text == own)
        };
        self.action_matches(&event.action)
            && one_of("type", &event.kind)
            && one_of("scope", "local")
            && labels_match(values(&self.filters, "label"), &event.attributes)
            && self.names.iter().all(|(kind, patterns)| match *kind {
                "image" => image_matches(patterns, event),
                kind => event.kind == kind && object_matches(patterns, event),
            })
    }

    /// `exec_create` and `health_status` stand for all actions that begin so.
    fn action_matches(&self, action: &str) -> bool {
        let wanted = values(&self.filters, "event");
        wanted.is_empty()
            || wanted.iter().any(|wanted| {
                let family = wanted.starts_with("exec_") || wanted == "health_status";
                wanted == action || (family && action.starts_with(&format!("{wanted}:")))
            })
    }
}

/// An object is named by the beginning of its name or of its id.
fn object_matches(patterns: &[Pattern], event: &Event) -> bool {
    let name = event.attributes.get("name").map(String::as_str).unwrap_or_default();
    patterns
        .iter()
        .any(|pattern| event.actor.starts_with(&pattern.text) || name.starts_with(&pattern.text))
}

/// With and without tag; containers' events name their image too.
fn image_matches(patterns: &[Pattern], event: &Event) -> bool {
    let bare = |name: &str| match name.rsplit_once(':') {
        Some((bare, tag)) if !tag.contains('/') => bare.to_owned(),
        _ => name.to_owned(),
    };
    let attribute = if event.kind == "image" { "name" } else { "image" };
    let name = event.attributes.get(attribute).map(String::as_str).unwrap_or_default();
    let texts = match event.kind.as_str() {
        "image" => vec![event.actor.as_str(), name],
        _ => vec![name],
    };
    patterns.iter().any(|pattern| {
        texts
            .iter()
            .any(|text| !text.is_empty() && (pattern.text == *text || pattern.text == bare(text)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(pairs: &[(&str, &str)]) -> Filters {
        let mut filters = Filters::new();
        for (key, value) in pairs {
            filters.entry((*key).to_owned()).or_default().push((*value).to_owned());
        }
        filters
    }

    fn event(kind: &str, action: &str, attributes: &[(&str, &str)]) -> Event {
        Event {
            kind: kind.to_owned(),
            action: action.to_owned(),
            actor: "abcdef".to_owned(),
            attributes: attributes
                .iter()
                .map(|&(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            time_nanoseconds: 1,
        }
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let error = EventFilter::parse(&filters(&[("color", "red")])).expect_err("refused");
        assert_eq!(error.to_string(), "invalid filter 'color'");
    }

    #[test]
    fn events_are_found_by_object_image_label_and_action() {
        let start = event(
            "container",
            "start",
            &[("name", "web"), ("image", "nginx:1"), ("tier", "front")],
        );
        let matches = |pairs: &[(&str, &str)]| EventFilter::parse(&filters(pairs)).expect("valid").matches(&start);
        assert!(matches(&[]));
        assert!(matches(&[("container", "web")]) && matches(&[("container", "abc")]));
        assert!(matches(&[("container", "we")]) && !matches(&[("container", "eb")]));
        assert!(matches(&[("image", "nginx")]) && matches(&[("image", "nginx:1")]) && !matches(&[("image", "ngin")]));
        assert!(matches(&[
            ("label", "tier=front"),
            ("type", "container"),
            ("event", "start")
        ]));
        assert!(matches(&[("event", "die"), ("event", "start")]) && !matches(&[("event", "die")]));
        let healthy = event("container", "health_status: healthy", &[]);
        assert!(
            EventFilter::parse(&filters(&[("event", "health_status")]))
                .expect("valid")
                .matches(&healthy)
        );
    }

    #[test]
    fn ports_are_ranges_with_a_protocol() {
        let range = PortRange::parse("expose", "8000-8010/udp").expect("valid");
        assert!(range.contains("8005/udp") && !range.contains("8005/tcp") && !range.contains("8011/udp"));
        assert!(PortRange::parse("expose", "x").is_err());
    }
}

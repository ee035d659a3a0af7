//! `GET /events`: what happens, one JSON object a line, as it happens.
//!
//! Headers leave before the first event. With `until` in the past, the answer is what is remembered, and ends.
use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::State,
    response::Response,
};
use corten_api::{
    filters::Filters,
    types::system::{EventActor, EventMessage},
};
use corten_engine::events::Event;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::Instant,
};

use crate::{
    docker::{
        door::{Door, stream},
        query::Parameters,
        version::ApiVersion,
        versions,
    },
    error::ApiError,
};

pub async fn events(State(door): State<Door>, version: ApiVersion, query: Parameters) -> Result<Response, ApiError> {
    let (since, until) = (query.time("since")?, query.time("until")?);
    if since.zip(until).is_some_and(|(since, until)| until < since) {
        return Err(ApiError::invalid(
            "`since` time (`since`) cannot be after `until` time (`until`)",
        ));
    }
    let filters = query.filters()?;
    // An end in the past without a beginning asks for everything that is remembered up to it.
    let from = since.or_else(|| until.map(|_| Timestamp::UNIX_EPOCH)).map(nanoseconds);
    let (past, receiver) = door.engine().events().subscribe(from);
    let end = until.map(nanoseconds);
    let wanted = move |event: &Event| {
        end.is_none_or(|end| event.time_nanoseconds <= end)
            && versions::knows_event(version, &event.kind, &event.action)
            && matches(event, &filters)
    };
    let past = stream::iter(past);
    let lines = past.chain(future(receiver, until)).filter_map(move |event| {
        let line = wanted(&event).then(|| Ok::<_, Infallible>(line(event)));
        async move { line }
    });
    Ok(stream("application/json", Body::from_stream(lines)))
}

fn nanoseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

/// Everything from now on, until a time.
fn future(receiver: Receiver<Event>, until: Option<Timestamp>) -> impl stream::Stream<Item = Event> {
    let left = until.map(|until| Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default());
    let end = left.map(|left| Instant::now() + left);
    stream::unfold(receiver, move |mut receiver| async move {
        loop {
            let received = match end {
                None => receiver.recv().await,
                Some(end) => tokio::time::timeout_at(end, receiver.recv()).await.ok()?,
            };
            match received {
                Ok(event) => return Some((event, receiver)),
                Err(RecvError::Lagged(count)) => {
                    tracing::warn!("a client of events missed {count}: it reads too slowly")
                }
                Err(RecvError::Closed) => return None,
            }
        }
    })
}

fn line(event: Event) -> Bytes {
    let mut bytes = serde_json::to_vec(&message(event)).expect("an event always serializes");
    bytes.push(b'\n');
    Bytes::from(bytes)
}

fn message(event: Event) -> EventMessage {
    // The members that came before `Type` and `Actor`, which some clients still read.
    let old = matches!(event.kind.as_str(), "container" | "image");
    let image = event.attributes.get("image").filter(|_| event.kind == "container");
    EventMessage {
        status: old.then(|| event.action.clone()),
        id: old.then(|| event.actor.clone()),
        from: image.cloned(),
        kind: event.kind,
        action: event.action,
        actor: EventActor {
            id: event.actor,
            attributes: event.attributes,
        },
        scope: "local".to_owned(),
        time: event.time_nanoseconds.div_euclid(1_000_000_000),
        time_nano: event.time_nanoseconds,
    }
}

/// Values of one key are alternatives; keys all have to match.
fn matches(event: &Event, filters: &Filters) -> bool {
    filters
        .iter()
        .all(|(key, values)| values.is_empty() || key_matches(event, key, values))
}

fn key_matches(event: &Event, key: &str, values: &[String]) -> bool {
    let any = |test: &dyn Fn(&str) -> bool| values.iter().any(|value| test(value));
    let name = event.attributes.get("name").map(String::as_str).unwrap_or_default();
    match key {
        "event" => {
            let by_prefix = values
                .iter()
                .any(|v| matches!(v.as_str(), "health_status" | "exec_create" | "exec_start"));
            any(&|value| event.action == value || by_prefix && event.action.starts_with(value))
        }
        "type" => any(&|value| event.kind == value),
        "scope" => any(&|value| value == "local"),
        "label" => values.iter().all(|value| has_label(&event.attributes, value)),
        "image" => {
            let attribute = if event.kind == "image" { "name" } else { "image" };
            let named = event.attributes.get(attribute).map(String::as_str).unwrap_or_default();
            let forms = [&event.actor, named, without_tag(&event.actor), without_tag(named)];
            any(&|value| forms.contains(&value))
        }
        "daemon" => any(&|value| event.actor == value || name == value),
        "container" | "volume" | "network" | "plugin" | "service" | "node" | "secret" | "config" => {
            any(&|value| event.actor.starts_with(value) || name.starts_with(value))
        }
        _ => true,
    }
}

fn has_label(attributes: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => attributes.get(key).is_some_and(|found| found == value),
        None => attributes.contains_key(wanted),
    }
}

fn without_tag(reference: &str) -> &str {
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => reference,
    }
}

#[cfg(test)]
mod tests {
    use corten_api::filters;

    use super::*;

    fn event() -> Event {
        let attributes = [("name", "web"), ("image", "localhost:5000/app:1"), ("colour", "red")];
        Event {
            kind: "container".to_owned(),
            action: "exec_create: ls".to_owned(),
            actor: "abcdef".to_owned(),
            attributes: attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            time_nanoseconds: 1_700_000_000_000_000_001,
        }
    }

    #[test]
    fn filters_of_one_key_are_alternatives_and_keys_add_up() {
        let cases = [
            (r#"{"container":["we"]}"#, true),
            (r#"{"container":["abc"]}"#, true),
            (r#"{"container":["db","web"]}"#, true),
            (r#"{"container":["db"]}"#, false),
            (r#"{"event":["exec_create"]}"#, true),
            (r#"{"event":["exec"]}"#, false),
            (r#"{"type":["container"],"label":["colour=red"]}"#, true),
            (r#"{"type":["image"],"label":["colour=red"]}"#, false),
            (r#"{"label":["colour","shape"]}"#, false),
            (r#"{"image":["localhost:5000/app"]}"#, true),
            (r#"{"image":["localhost:5000/app:1"]}"#, true),
            (r#"{"image":["localhost"]}"#, false),
            (r#"{"scope":["swarm"]}"#, false),
            (r#"{"label":[]}"#, true),
        ];
        for (text, expected) in cases {
            assert_eq!(matches(&event(), &filters::parse(text).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn a_line_has_the_old_members_and_the_new() {
        let value: serde_json::Value = serde_json::from_slice(&line(event())).unwrap();
        assert_eq!(value["status"], value["Action"]);
        assert_eq!(value["from"], "localhost:5000/app:1");
        assert_eq!(value["Actor"]["Attributes"]["colour"], "red");
        assert_eq!(value["time"], 1_700_000_000);
        assert_eq!(value["timeNano"], 1_700_000_000_000_000_001_i64);
    }
}

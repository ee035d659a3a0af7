//! `GET /events`: what happens, one JSON object a line, as it happens.
//!
//! Headers leave before the first event. With `until` in the past, the answer is what is remembered, and ends. A client
//! that reads too slowly to hear everything is cut off, so that it knows.
use std::{io, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::State,
    response::Response,
};
use corten_api::types::system::{EventActor, EventMessage};
use corten_engine::{events::Event, filter::EventFilter};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::Instant,
};

use crate::{
    docker::{
        door::{Door, endless},
        query::Parameters,
        version::ApiVersion,
        versions,
    },
    error::ApiError,
};

pub async fn events(State(door): State<Door>, version: ApiVersion, query: Parameters) -> Result<Response, ApiError> {
    let (since, until) = (query.time("since")?, query.time("until")?);
    if since.zip(until).is_some_and(|(since, until)| until < since) {
        let asked = |name| query.text(name).unwrap_or_default();
        return Err(ApiError::invalid(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            asked("since"),
            asked("until")
        )));
    }
    let filter = EventFilter::parse(&query.filters()?)?;
    // An end in the past without a beginning asks for everything that is remembered up to it.
    let from = since.or_else(|| until.map(|_| Timestamp::UNIX_EPOCH)).map(nanoseconds);
    let (past, receiver) = door.engine().events().subscribe(from);
    let end = until.map(nanoseconds);
    let wanted = move |event: &Event| {
        end.is_none_or(|end| event.time_nanoseconds <= end)
            && versions::knows_event(version, &event.kind, &event.action)
            && filter.matches(event)
    };
    let past = stream::iter(past.into_iter().map(Ok));
    let lines = past.chain(future(receiver, until)).filter_map(move |event| {
        let line = match event {
            Ok(event) => wanted(&event).then(|| Ok(line(&event))),
            Err(error) => Some(Err(error)),
        };
        async move { line }
    });
    Ok(endless("application/json", Body::from_stream(lines)))
}

fn nanoseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

/// Everything from now on, until a time. What was missed ends it with an error.
fn future(
    receiver: Receiver<Arc<Event>>,
    until: Option<Timestamp>,
) -> impl stream::Stream<Item = io::Result<Arc<Event>>> {
    let left = until.map(|until| Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default());
    let end = left.map(|left| Instant::now() + left);
    stream::unfold(Some(receiver), move |receiver| async move {
        let mut receiver = receiver?;
        let received = match end {
            None => receiver.recv().await,
            Some(end) => tokio::time::timeout_at(end, receiver.recv()).await.ok()?,
        };
        match received {
            Ok(event) => Some((Ok(event), Some(receiver))),
            Err(RecvError::Lagged(count)) => {
                tracing::warn!("cutting off a client of events that missed {count}: it reads too slowly");
                Some((Err(io::Error::other("events were missed")), None))
            }
            Err(RecvError::Closed) => None,
        }
    })
}

fn line(event: &Event) -> Bytes {
    let mut bytes = serde_json::to_vec(&message(event)).expect("an event always serializes");
    bytes.push(b'\n');
    Bytes::from(bytes)
}

fn message(event: &Event) -> EventMessage {
    // The members that came before `Type` and `Actor`, which some clients still read.
    let old = matches!(event.kind.as_str(), "container" | "image");
    let image = event.attributes.get("image").filter(|_| event.kind == "container");
    EventMessage {
        status: old.then(|| event.action.clone()),
        id: old.then(|| event.actor.clone()),
        from: image.cloned(),
        kind: event.kind.clone(),
        action: event.action.clone(),
        actor: EventActor {
            id: event.actor.clone(),
            attributes: event.attributes.clone(),
        },
        scope: "local".to_owned(),
        time: event.time_nanoseconds.div_euclid(1_000_000_000),
        time_nano: event.time_nanoseconds,
    }
}

#[cfg(test)]
mod tests {
    use corten_engine::events::EventBus;

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

    #[tokio::test]
    async fn who_missed_something_is_told_by_the_end() {
        let bus = EventBus::new();
        let (_, receiver) = bus.subscribe(None);
        let publish = |count| (0..count).for_each(|_| bus.publish("container", "start", "x", Default::default()));
        publish(2);
        let mut heard = std::pin::pin!(future(receiver, None));
        assert!(heard.next().await.is_some_and(|event| event.is_ok()));
        publish(5000);
        assert!(heard.next().await.is_some_and(|event| event.is_err()));
        assert!(heard.next().await.is_none());
    }

    #[test]
    fn a_line_has_the_old_members_and_the_new() {
        let value: serde_json::Value = serde_json::from_slice(&line(&event())).unwrap();
        assert_eq!(value["status"], value["Action"]);
        assert_eq!(value["from"], "localhost:5000/app:1");
        assert_eq!(value["Actor"]["Attributes"]["colour"], "red");
        assert_eq!(value["time"], 1_700_000_000);
        assert_eq!(value["timeNano"], 1_700_000_000_000_000_001_i64);
    }
}

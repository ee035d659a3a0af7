//! `events`: what happens, as it happens.
use std::collections::BTreeMap;
use std::io::Write;

use corten_api::types::system::EventMessage;
use jiff::Timestamp;

use crate::arguments::{Arity, Command, Flag, Matches, Outcome};
use crate::command::inspect::template;
use crate::command::{documents, filter};
use crate::failure::Failure;
use crate::session::Session;
use crate::template::evaluate;
use crate::template::parse::Template;
use crate::template::value::Value;
use crate::units;

pub static EVENTS: Command = Command {
    name: "events",
    usage: "[OPTIONS]",
    about: "Show what happens, as it happens",
    aliases: &["system events", "events"],
    flags: &[&[
        Flag::list("filter", "filter", "Show only what meets the condition")
            .short('f')
            .check(filter::check),
        Flag::single("format", "string", "'json' or a template in Go's language"),
        Flag::single("since", "string", "Show what happened since this time, too"),
        Flag::single("until", "string", "End at this time"),
    ]],
    arity: Arity::Exactly(0),
    interspersed: true,
    run: |session, matches| Box::pin(events(session, matches)),
};

async fn events(session: Session, matches: Matches) -> Outcome {
    let template = match matches.some("format") {
        None => None,
        Some("json") => Some(template("{{json .}}")?),
        Some(format) => {
            let format = format.replace("\\t", "\t").replace("\\n", "\n");
            Some(template(&format)?)
        }
    };
    let now = Timestamp::now();
    let time = |name: &str| {
        matches
            .some(name)
            .map(|text| units::point_in_time(text, now))
            .transpose()
    };
    let (since, until) = (time("since")?, time("until")?);
    let filters = filter::collect(matches.list("filter"));
    let mut body = session
        .client()
        .await?
        .events(since.as_deref(), until.as_deref(), &filters)
        .await?;
    let mut buffer = Vec::new();
    while let Some(piece) = body.next().await {
        buffer.extend_from_slice(&piece.map_err(|error| Failure::io("reading from the daemon", &error))?);
        let mut values = serde_json::Deserializer::from_slice(&buffer).into_iter::<Value>();
        let mut used = 0;
        let mut text = String::new();
        while let Some(Ok(value)) = values.next() {
            used = values.byte_offset();
            text.push_str(&line(value, template.as_ref())?);
            text.push('\n');
        }
        buffer.drain(..used);
        let mut out = std::io::stdout().lock();
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            break;
        }
    }
    Ok(0)
}

fn line(value: Value, template: Option<&Template>) -> Result<String, Failure> {
    if let Some(template) = template {
        return Ok(evaluate::execute(template, &documents::EVENT.complete(value))?);
    }
    let event: EventMessage = serde_json::from_str(&value.json())
        .map_err(|error| Failure::new(format!("cannot understand the daemon: {error}")))?;
    let nanoseconds = if event.time_nano != 0 {
        event.time_nano
    } else {
        event.time * 1_000_000_000
    };
    let time = Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or(Timestamp::UNIX_EPOCH);
    let time = time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ");
    let attributes: BTreeMap<&String, &String> = event.actor.attributes.iter().collect();
    let attributes: Vec<String> = attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let attributes = if attributes.is_empty() {
        String::new()
    } else {
        format!(" ({})", attributes.join(", "))
    };
    Ok(format!(
        "{time} {} {} {}{attributes}",
        event.kind, event.action, event.actor.id
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let value = serde_json::from_str(
            r#"{"Type":"container","Action":"die","Actor":{"ID":"abc","Attributes":{"name":"web","exitCode":"3"}},
                "scope":"local","time":1700000000,"timeNano":1700000000000000005}"#,
        );
        let text = line(value.unwrap(), None).unwrap();
        assert_eq!(
            text,
            "2023-11-14T22:13:20.000000005Z container die abc (exitCode=3, name=web)"
        );
    }
}

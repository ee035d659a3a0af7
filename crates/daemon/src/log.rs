//! What the daemon says on standard error: lines for people, or one JSON object a line.
use std::{
    fmt,
    io::{self, IsTerminal},
    sync::OnceLock,
};

use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    Layer, Registry,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt,
    registry::LookupSpan,
    reload::{self, Handle},
};

use crate::config::load::Log;

/// The level in force; there is one log in a process.
static LEVEL: OnceLock<Handle<LevelFilter, Registry>> = OnceLock::new();

/// From now on the log is as it was decided. An embedding program may have one of its own, which then stays.
pub fn start(log: &Log) {
    let (filter, handle) = reload::Layer::new(LevelFilter::from_level(log.level));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(!log.raw && io::stderr().is_terminal())
        .with_target(false);
    let layer: Box<dyn Layer<_> + Send + Sync> = match log.json {
        true => Box::new(lines.with_ansi(false).event_format(Json)),
        false => Box::new(lines),
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(layer);
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        let _ = LEVEL.set(handle);
    }
}

/// Another level, from now on.
pub fn set_level(level: Level) {
    if let Some(handle) = LEVEL.get() {
        // It fails only without a log, and then there is nobody to tell.
        let _ = handle.reload(LevelFilter::from_level(level));
    }
}

/// dockerd's members: `level`, `msg`, `time`, and what else is told.
struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut members = Members::default();
        event.record(&mut members);
        let level = match *event.metadata().level() {
            Level::TRACE => "trace",
            Level::DEBUG => "debug",
            Level::INFO => "info",
            Level::WARN => "warning",
            Level::ERROR => "error",
        };
        members.0.insert("level".to_owned(), level.into());
        members.0.insert("time".to_owned(), Timestamp::now().to_string().into());
        writeln!(writer, "{}", Value::Object(members.0))
    }
}

#[derive(Default)]
struct Members(Map<String, Value>);

impl Members {
    fn put(&mut self, field: &Field, value: Value) {
        let name = if field.name() == "message" { "msg" } else { field.name() };
        self.0.insert(name.to_owned(), value);
    }
}

impl Visit for Members {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn json_lines_have_dockerds_members() {
        let kept = Kept::default();
        let writer = kept.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .event_format(Json);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!(status = 500_u16, path = "/x", "cannot \"do\" it");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let line: Value = serde_json::from_str(&text).expect("one JSON object");
        assert_eq!(
            (&line["level"], &line["msg"]),
            (&"warning".into(), &"cannot \"do\" it".into())
        );
        assert_eq!((&line["status"], &line["path"]), (&500.into(), &"/x".into()));
        assert!(line["time"].as_str().unwrap().parse::<Timestamp>().is_ok());
    }
}

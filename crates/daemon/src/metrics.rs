//! Counters and times for Prometheus, in its text format.
//!
//! What dockerd measures too has dockerd's names (`engine_daemon_…`); the rest is `corten_…`. Labels come from closed
//! sets: an operation is a method and a route, never a path, so the number of series is bounded by the code.
use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{Method, StatusCode};

/// Upper bounds in seconds: Prometheus' own defaults.
const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// dockerd's names of what is done to containers, and our operations.
const CONTAINER_ACTIONS: [(&str, &str); 5] = [
    ("changes", "GET /containers/{name}/changes"),
    ("commit", "POST /commit"),
    ("create", "POST /containers/create"),
    ("delete", "DELETE /containers/{name}"),
    ("start", "POST /containers/{name}/start"),
];
/// The last parts that tell the operations of images apart.
const IMAGE_VERBS: [&str; 5] = ["/json", "/history", "/get", "/tag", "/push"];
const IMAGES: &str = "/images/{*rest}";

/// Times, sorted into [`BOUNDS`].
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    counts: [u64; BOUNDS.len()],
    count: u64,
    sum_seconds: f64,
}

impl Histogram {
    fn observe(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        if let Some(place) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.counts[place] += 1;
        }
        self.count += 1;
        self.sum_seconds += seconds;
    }
}

#[derive(Debug, Default)]
struct Operation {
    /// By class of status: 1xx to 5xx.
    answers: [u64; 5],
    times: Histogram,
}

/// What is counted while the daemon runs.
#[derive(Debug, Default)]
pub struct Metrics {
    operations: Mutex<BTreeMap<String, Operation>>,
    pub connections: AtomicU64,
    pub refused: AtomicU64,
}

impl Metrics {
    /// A request was answered, up to the head of the answer.
    pub fn answered(&self, method: &Method, route: Option<&str>, path: &str, status: StatusCode, time: Duration) {
        let Some(name) = operation(method, route, path) else {
            return;
        };
        let mut operations = self.operations.lock().expect("no panic while locked");
        let operation = operations.entry(name).or_default();
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        operation.answers[class] += 1;
        operation.times.observe(time);
    }

    /// The part of the page that is known here.
    pub fn write(&self, page: &mut Page) {
        let operations = self.operations.lock().expect("no panic while locked");
        page.family(
            "engine_daemon_container_actions_seconds",
            "histogram",
            "The number of seconds it takes to process each container action",
        );
        for (action, operation) in CONTAINER_ACTIONS {
            let times = operations.get(operation).map(|operation| &operation.times);
            page.histogram(&[("action", action)], times.unwrap_or(&Histogram::default()));
        }
        page.family(
            "corten_api_requests_total",
            "counter",
            "Requests answered, by operation and class of status",
        );
        for (name, operation) in operations.iter() {
            for (class, count) in operation.answers.iter().enumerate().filter(|(_, count)| **count > 0) {
                let class = format!("{}xx", class + 1);
                page.sample(&[("operation", name), ("status", &class)], *count as f64);
            }
        }
        page.family(
            "corten_api_request_seconds",
            "histogram",
            "The time from a request to the head of its answer",
        );
        for (name, operation) in operations.iter() {
            page.histogram(&[("operation", name)], &operation.times);
        }
        drop(operations);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        page.single(
            "corten_api_connections",
            "gauge",
            "Clients that are connected",
            count(&self.connections),
        );
        page.single(
            "corten_api_refused_connections_total",
            "counter",
            "Clients that found no room",
            count(&self.refused),
        );
    }
}

/// A method and a route; nothing for what no route has.
fn operation(method: &Method, route: Option<&str>, path: &str) -> Option<String> {
    let route = route?;
    // Routes take the methods that they name only; this keeps invented ones out all the same.
    let method = match *method {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::DELETE => method.as_str(),
        _ => "other",
    };
    if route == IMAGES {
        let verb = IMAGE_VERBS.iter().find(|verb| path.ends_with(*verb));
        return Some(format!("{method} /images/{{name}}{}", verb.unwrap_or(&"")));
    }
    Some(format!("{method} {route}"))
}

/// A page in the text format, written family by family.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    family: String,
}

impl Page {
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        name.clone_into(&mut self.family);
    }

    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.line("", labels, None, value);
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample(&[], value);
    }

    pub fn histogram(&mut self, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut sum = 0;
        for (bound, count) in BOUNDS.iter().zip(histogram.counts) {
            sum += count;
            self.line("_bucket", labels, Some(&bound.to_string()), sum as f64);
        }
        self.line("_bucket", labels, Some("+Inf"), histogram.count as f64);
        self.line("_sum", labels, None, histogram.sum_seconds);
        self.line("_count", labels, None, histogram.count as f64);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], bound: Option<&str>, value: f64) {
        let bound = bound.map(|bound| ("le", bound));
        let labels: Vec<_> = labels
            .iter()
            .copied()
            .chain(bound)
            .map(|(name, text)| format!("{name}=\"{}\"", escaped(text)))
            .collect();
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", labels.join(","))
        };
        let _ = writeln!(self.text, "{}{suffix}{labels} {value}", self.family);
    }

    pub fn finish(self) -> String {
        self.text
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_routes_and_never_paths() {
        let name = |method: &str, route, path| operation(&method.parse().unwrap(), route, path);
        let json = "/containers/{name}/json";
        assert_eq!(
            name("GET", Some(json), "/containers/a/json"),
            Some(format!("GET {json}"))
        );
        assert_eq!(
            name("BREW", Some(json), "/containers/a/json"),
            Some(format!("other {json}"))
        );
        assert_eq!(
            name("POST", Some(IMAGES), "/images/a/b/tag").as_deref(),
            Some("POST /images/{name}/tag")
        );
        assert_eq!(
            name("DELETE", Some(IMAGES), "/images/a/b").as_deref(),
            Some("DELETE /images/{name}")
        );
        assert_eq!(name("GET", None, "/nowhere"), None);
    }

    #[test]
    fn a_page_is_what_prometheus_reads() {
        let metrics = Metrics::default();
        let path = "/containers/create";
        let times = [3, 30, 20_000].map(Duration::from_millis);
        for time in times {
            metrics.answered(&Method::POST, Some(path), path, StatusCode::CREATED, time);
        }
        let mut page = Page::default();
        metrics.write(&mut page);
        page.family("a", "gauge", "Odd labels");
        page.sample(&[("b", "c\"d\\e")], 1.5);
        let text = page.finish();
        for line in [
            "# TYPE engine_daemon_container_actions_seconds histogram",
            "engine_daemon_container_actions_seconds_bucket{action=\"create\",le=\"0.005\"} 1",
            "engine_daemon_container_actions_seconds_bucket{action=\"create\",le=\"0.05\"} 2",
            "engine_daemon_container_actions_seconds_bucket{action=\"create\",le=\"10\"} 2",
            "engine_daemon_container_actions_seconds_bucket{action=\"create\",le=\"+Inf\"} 3",
            "engine_daemon_container_actions_seconds_count{action=\"create\"} 3",
            "engine_daemon_container_actions_seconds_count{action=\"start\"} 0",
            "corten_api_requests_total{operation=\"POST /containers/create\",status=\"2xx\"} 3",
            "corten_api_connections 0",
            "a{b=\"c\\\"d\\\\e\"} 1.5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}

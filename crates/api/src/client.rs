//! A client of the Engine API: requests, answers, errors, and connections that become streams.
//!
//! No round trip is spent on asking for versions: a request goes out under the newest version we speak, and only a
//! daemon that finds it too new (it says so with its own maximum) makes the client go down and ask again.
use std::io;
use std::sync::Mutex;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::transport::{Connection, Endpoint};

/// The newest Engine API version that this client speaks.
pub const API_VERSION: &str = "1.51";

pub(crate) const USER_AGENT: &str = concat!("corten/", env!("CARGO_PKG_VERSION"));

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What can go wrong between a command and its answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The daemon refused, in its own words.
    #[error("Error response from daemon: {message}")]
    Refused { status: u16, message: String },
    #[error("Cannot connect to the Docker daemon at {endpoint}. Is the docker daemon running?")]
    Unreachable {
        endpoint: Endpoint,
        #[source]
        source: io::Error,
    },
    #[error("permission denied while trying to connect to the Docker daemon socket at {endpoint}: {source}")]
    Forbidden {
        endpoint: Endpoint,
        #[source]
        source: io::Error,
    },
    /// Certificates or the protocol stand between us and a daemon that is there.
    #[error("error during connect: {endpoint}: {source}")]
    Handshake {
        endpoint: Endpoint,
        #[source]
        source: io::Error,
    },
    /// A daemon was started on demand and did not come up.
    #[error("cannot start the daemon: {reason} (its log is {log})")]
    NotStarted { reason: String, log: String },
    #[error("error during connect: {doing}: {}", with_causes(.source))]
    Broken {
        doing: String,
        #[source]
        source: hyper::Error,
    },
    #[error("unexpected answer from daemon: {what}")]
    Unexpected { what: String },
    #[error("cannot understand the daemon's answer to {doing}")]
    Document {
        doing: String,
        #[source]
        source: serde_json::Error,
    },
}

/// An error of a library, and why: its own sentence is often only where it happened.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

impl Error {
    /// The HTTP status of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Error::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    pub fn is_unreachable(&self) -> bool {
        matches!(self, Error::Unreachable { .. } | Error::Forbidden { .. })
    }
}

/// A request's body.
#[derive(Default)]
pub enum Payload {
    #[default]
    Empty,
    Json(Bytes),
    /// A tar archive of unknown length.
    Archive(BoxStream<'static, io::Result<Bytes>>),
}

/// One request, before a version is put in front of its path.
pub struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    payload: Payload,
}

impl Call {
    pub fn new(method: Method, path: impl Into<String>) -> Call {
        Call {
            method,
            path: path.into(),
            headers: Vec::new(),
            payload: Payload::Empty,
        }
    }

    pub fn get(path: impl Into<String>) -> Call {
        Call::new(Method::GET, path)
    }

    pub fn post(path: impl Into<String>) -> Call {
        Call::new(Method::POST, path)
    }

    pub fn head(path: impl Into<String>) -> Call {
        Call::new(Method::HEAD, path)
    }

    pub fn put(path: impl Into<String>) -> Call {
        Call::new(Method::PUT, path)
    }

    pub fn delete(path: impl Into<String>) -> Call {
        Call::new(Method::DELETE, path)
    }

    /// Adds one member of the query string.
    pub fn query(mut self, name: &str, value: &str) -> Call {
        self.path.push(if self.path.contains('?') { '&' } else { '?' });
        self.path.push_str(name);
        self.path.push('=');
        self.path.push_str(&escape(value));
        self
    }

    /// Adds `name=1` where `on`.
    pub fn flag(self, name: &str, on: bool) -> Call {
        if on { self.query(name, "1") } else { self }
    }

    /// Adds a member where there is a value.
    pub fn maybe(self, name: &str, value: Option<&str>) -> Call {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Call {
        self.headers.push((name, value.into()));
        self
    }

    pub fn json<T: Serialize>(mut self, document: &T) -> Call {
        let bytes = serde_json::to_vec(document).expect("wire documents have string keys only");
        self.payload = Payload::Json(bytes.into());
        self
    }

    pub fn archive(mut self, stream: BoxStream<'static, io::Result<Bytes>>) -> Call {
        self.payload = Payload::Archive(stream);
        self
    }

    pub(crate) fn doing(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// Escapes one value of a query string, or one element of a path when nothing of it may stay a separator.
pub fn escape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => text.push(byte as char),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// Escapes a name inside a path, where `/` and `:` (of image references) stay readable.
pub fn escape_path(value: &str) -> String {
    escape(value)
        .replace("%2F", "/")
        .replace("%3A", ":")
        .replace("%40", "@")
}

/// A connection that stopped being HTTP: bytes both ways, with half-close.
pub struct Hijacked {
    pub stream: TokioIo<Upgraded>,
    /// Whether output comes in frames of [`crate::stream`], or raw.
    pub multiplexed: Option<bool>,
}

/// An answer whose body is read piece by piece.
pub struct Streaming {
    pub multiplexed: Option<bool>,
    pub headers: HeaderMap,
    body: Incoming,
}

impl Streaming {
    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Some(Ok(data)),
                    Err(_trailers) => {}
                },
                Err(error) => return Some(Err(io::Error::other(error))),
            }
        }
    }
}

/// A client of one daemon. Connections are kept and used again, one request at a time on each.
pub struct Client {
    endpoint: Endpoint,
    /// The version in use, and whether it is settled (told by the user, or heard from the daemon).
    version: Mutex<(String, bool)>,
    idle: Mutex<Vec<SendRequest<Body>>>,
}

impl Client {
    /// `version` pins the API version, as `DOCKER_API_VERSION` does.
    pub fn new(endpoint: Endpoint, version: Option<String>) -> Client {
        let settled = version.is_some();
        let version = version.unwrap_or_else(|| API_VERSION.to_string());
        Client {
            endpoint,
            version: Mutex::new((version, settled)),
            idle: Mutex::new(Vec::new()),
        }
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The API version that requests are sent under.
    pub fn version(&self) -> String {
        self.version.lock().expect("no panic under the lock").0.clone()
    }

    /// The answer as a document.
    pub async fn document<T: DeserializeOwned>(&self, call: Call) -> Result<T, Error> {
        let doing = call.doing();
        let bytes = self.bytes(call).await?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Document { doing, source })
    }

    /// The answer's body as it came, with the status checked.
    pub async fn bytes(&self, call: Call) -> Result<Bytes, Error> {
        self.exchange(call).await.map(|(_, bytes)| bytes)
    }

    /// Status and body of a call that did not fail (which includes 304).
    pub async fn exchange(&self, call: Call) -> Result<(StatusCode, Bytes), Error> {
        let doing = call.doing();
        let (response, sender) = self.send(call).await?;
        let status = response.status();
        let bytes = read(response.into_body(), doing).await?;
        self.keep(sender);
        Ok((status, bytes))
    }

    /// An answer to be read piece by piece: headers have arrived when this returns.
    pub async fn streaming(&self, call: Call) -> Result<Streaming, Error> {
        let (response, _) = self.send(call).await?;
        Ok(Streaming {
            multiplexed: multiplexed(&response),
            headers: response.headers().clone(),
            body: response.into_body(),
        })
    }

    /// The headers of an answer without a body.
    pub async fn headers(&self, call: Call) -> Result<HeaderMap, Error> {
        let (response, sender) = self.send(call).await?;
        self.keep(sender);
        Ok(response.into_parts().0.headers)
    }

    /// Turns a connection into a raw stream.
    pub async fn hijack(&self, call: Call) -> Result<Hijacked, Error> {
        let doing = call.doing();
        let call = call.header("connection", "Upgrade").header("upgrade", "tcp");
        let (response, _) = self.send(call).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::Unexpected {
                what: format!("{doing} did not become a stream: {}", response.status()),
            });
        }
        let multiplexed = multiplexed(&response);
        let stream = hyper::upgrade::on(response)
            .await
            .map_err(|source| Error::Broken { doing, source })?;
        Ok(Hijacked {
            stream: TokioIo::new(stream),
            multiplexed,
        })
    }

    async fn send(&self, mut call: Call) -> Result<(Response<Incoming>, SendRequest<Body>), Error> {
        if matches!(call.payload, Payload::Archive(_)) {
            self.settle().await?; // An archive cannot be sent twice.
        }
        let doing = call.doing();
        loop {
            let (response, sender) = self.send_once(&mut call, &doing).await?;
            if response.status().is_client_error() || response.status().is_server_error() {
                let status = response.status();
                let message = explain(status, &read(response.into_body(), doing.clone()).await?);
                if status == StatusCode::BAD_REQUEST && self.step_down(&message) {
                    continue;
                }
                self.keep(sender);
                return Err(Error::Refused {
                    status: status.as_u16(),
                    message,
                });
            }
            return Ok((response, sender));
        }
    }

    async fn send_once(&self, call: &mut Call, doing: &str) -> Result<(Response<Incoming>, SendRequest<Body>), Error> {
        let (mut sender, reused) = match self.reuse() {
            Some(sender) => (sender, true),
            None => (self.connect().await?, false),
        };
        let request = self.request(call);
        match sender.try_send_request(request).await {
            Ok(response) => Ok((response, sender)),
            // The daemon closed an idle connection in the very moment that we used it: nothing was sent.
            Err(mut failure) if reused => match failure.take_message() {
                Some(request) => {
                    let mut sender = self.connect().await?;
                    let response = sender.send_request(request).await;
                    let response = response.map_err(|source| Error::Broken {
                        doing: doing.to_string(),
                        source,
                    })?;
                    Ok((response, sender))
                }
                None => Err(Error::Broken {
                    doing: doing.to_string(),
                    source: failure.into_error(),
                }),
            },
            Err(failure) => Err(Error::Broken {
                doing: doing.to_string(),
                source: failure.into_error(),
            }),
        }
    }

    fn request(&self, call: &mut Call) -> Request<Body> {
        let mut builder = Request::builder()
            .method(call.method.clone())
            .uri(format!("/v{}{}", self.version(), call.path))
            .header(header::HOST, self.endpoint.authority())
            .header(header::USER_AGENT, USER_AGENT);
        for (name, value) in &call.headers {
            builder = builder.header(*name, value);
        }
        let body = match &mut call.payload {
            Payload::Empty => {
                if call.method == Method::POST {
                    builder = builder.header(header::CONTENT_LENGTH, 0);
                }
                Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync()
            }
            Payload::Json(bytes) => {
                builder = builder.header(header::CONTENT_TYPE, "application/json");
                Full::new(bytes.clone()).map_err(|never| match never {}).boxed_unsync()
            }
            Payload::Archive(stream) => {
                builder = builder.header(header::CONTENT_TYPE, "application/x-tar");
                let stream = std::mem::replace(stream, futures_util::stream::empty().boxed());
                BodyExt::boxed_unsync(StreamBody::new(stream.map_ok(Frame::data)))
            }
        };
        builder
            .body(body)
            .expect("paths are escaped and headers are plain text")
    }

    /// Makes a connection and keeps it for the first request.
    pub async fn warm_up(&self) -> Result<(), Error> {
        let sender = self.connect().await?;
        self.keep(sender);
        Ok(())
    }

    pub(crate) async fn open(&self) -> Result<Connection, Error> {
        self.endpoint.connect().await.map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => Error::Forbidden {
                endpoint: self.endpoint.clone(),
                source,
            },
            io::ErrorKind::Other | io::ErrorKind::InvalidData => Error::Handshake {
                endpoint: self.endpoint.clone(),
                source,
            },
            _ => Error::Unreachable {
                endpoint: self.endpoint.clone(),
                source,
            },
        })
    }

    async fn connect(&self) -> Result<SendRequest<Body>, Error> {
        let (sender, driver) = http1::handshake(TokioIo::new(self.open().await?))
            .await
            .map_err(|source| Error::Broken {
                doing: "connect".to_string(),
                source,
            })?;
        // The driver ends with the connection; its errors reach whoever waits for an answer.
        tokio::spawn(driver.with_upgrades());
        Ok(sender)
    }

    fn reuse(&self) -> Option<SendRequest<Body>> {
        let mut idle = self.idle.lock().expect("no panic under the lock");
        while let Some(sender) = idle.pop() {
            if !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    fn keep(&self, sender: SendRequest<Body>) {
        if !sender.is_closed() {
            self.idle.lock().expect("no panic under the lock").push(sender);
        }
    }

    /// Asks the daemon for its version where that is not known yet.
    pub async fn settle(&self) -> Result<(), Error> {
        let settled = self.version.lock().expect("no panic under the lock").1;
        if settled {
            return Ok(());
        }
        let mut sender = self.connect().await?;
        let request = Request::builder()
            .uri("/_ping")
            .header(header::HOST, self.endpoint.authority())
            .body(Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync())
            .expect("the request is constant");
        let doing = "GET /_ping".to_string();
        let response = sender.send_request(request).await;
        let response = response.map_err(|source| Error::Broken {
            doing: doing.clone(),
            source,
        })?;
        let newest = response
            .headers()
            .get("api-version")
            .and_then(|value| value.to_str().ok())
            .map(str::to_string);
        read(response.into_body(), doing).await?;
        self.keep(sender);
        let mut version = self.version.lock().expect("no panic under the lock");
        if let Some(newest) = newest.filter(|newest| older(newest, &version.0)) {
            version.0 = newest;
        }
        version.1 = true;
        Ok(())
    }

    /// Whether a refusal said that our version is too new, and names one to go down to.
    fn step_down(&self, message: &str) -> bool {
        let Some(newest) = too_new(message) else { return false };
        let mut version = self.version.lock().expect("no panic under the lock");
        if version.1 || !older(newest, &version.0) {
            return false;
        }
        *version = (newest.to_string(), true);
        true
    }
}

async fn read(body: Incoming, doing: String) -> Result<Bytes, Error> {
    let collected = body.collect().await.map_err(|source| Error::Broken { doing, source })?;
    Ok(collected.to_bytes())
}

/// The `message` of an error document, or what came instead.
pub(crate) fn explain(status: StatusCode, body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Document {
        message: String,
    }
    match serde_json::from_slice::<Document>(body) {
        Ok(document) => document.message.trim_end().to_string(),
        Err(_) if body.is_empty() => status.to_string(),
        Err(_) => String::from_utf8_lossy(body).trim_end().to_string(),
    }
}

fn too_new(message: &str) -> Option<&str> {
    let tail = message.split_once("is too new. Maximum supported API version is ")?.1;
    Some(tail.split_whitespace().next()?.trim_end_matches(['.', ',']))
}

/// Whether API version `a` is older than `b`.
pub fn older(a: &str, b: &str) -> bool {
    fn parts(version: &str) -> (u32, u32) {
        let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
        (major.parse().unwrap_or(0), minor.parse().unwrap_or(0))
    }
    parts(a) < parts(b)
}

fn multiplexed(response: &Response<Incoming>) -> Option<bool> {
    let kind = response.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
    match kind {
        "application/vnd.docker.multiplexed-stream" => Some(true),
        "application/vnd.docker.raw-stream" => None, // Before 1.42 both forms came under this name.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_for_a_new_version_names_the_one_to_use() {
        let message = "client version 1.51 is too new. Maximum supported API version is 1.41";
        assert_eq!(too_new(message), Some("1.41"));
        assert_eq!(too_new("No such container: web"), None);
        assert!(older("1.41", "1.51"));
        assert!(older("1.9", "1.24"));
        assert!(!older("1.51", "1.51"));
    }

    #[test]
    fn queries_are_escaped_and_paths_stay_readable() {
        let call = Call::get("/containers/json")
            .query("filters", r#"{"a":["b c"]}"#)
            .flag("all", true);
        assert_eq!(
            call.path,
            "/containers/json?filters=%7B%22a%22%3A%5B%22b%20c%22%5D%7D&all=1"
        );
        assert_eq!(escape_path("host:5000/a/b@sha256:1"), "host:5000/a/b@sha256:1");
        assert_eq!(escape_path("a b?"), "a%20b%3F");
    }
}

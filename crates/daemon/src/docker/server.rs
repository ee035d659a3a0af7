//! Connections: one task each, HTTP/1 with upgrades, the same headers on every answer.
//!
//! A request can leave HTTP in two ways: by an upgrade, which hyper does, and by [`Takeover`], which is done here.
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, response::IntoResponse};
use bytes::{Bytes, BytesMut};
use corten_api::types::system::headers;
use http::{HeaderMap, HeaderValue, Request, Response, Uri, header::SERVER, uri::PathAndQuery};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{io::AsyncReadExt, sync::watch, time::timeout};
use tower_service::Service as _;

use crate::{
    config::load::Limits,
    docker::{
        connection::{Bare, Presence, Socket, Takeover},
        door::Endless,
        gate::Caller,
        unread,
        version::{self, NEWEST},
    },
    listen::{access::Access, client::Client},
};

/// A request's head fits, nearly always.
const FIRST_READ_BYTES: usize = 4096;

/// Larger ones are mapped anew for every read of a long body, page by page.
const READ_BYTES_MAX: usize = 96 * 1024;

/// How long a TLS handshake may take.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(30);

/// What all connections of one door share.
pub struct Service {
    pub router: Router,
    pub access: Arc<Access>,
    pub limits: Limits,
}

/// Serves one client until it ends, or until `closing` says so and the request at hand is answered.
pub async fn serve(client: Client, service: Arc<Service>, mut closing: watch::Receiver<bool>) {
    let user = client.user;
    let patience = service.limits.header_timeout;
    let socket = tokio::select! {
        socket = client.ready(patience.min(HANDSHAKE_PATIENCE)) => match socket {
            Ok(socket) => socket,
            Err(error) => return tracing::debug!("{}: a client did not get in: {error}", service.access.door),
        },
        () = closed(&mut closing) => return,
    };
    // Without a way to tell that the client is gone, the end of its side has to count as that.
    let presence = socket.presence();
    let direct = socket.is_direct();
    let first = tokio::select! {
        first = timeout(patience, begin(socket)) => first.ok().flatten(),
        () = closed(&mut closing) => return,
    };
    let Some(bare) = first else {
        return;
    };
    let (takeover, mut taken) = Takeover::channel(direct);
    let endless = Arc::new(AtomicBool::new(false));
    let answers = {
        let endless = Arc::clone(&endless);
        service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(takeover.clone());
            request.extensions_mut().insert(Caller {
                access: Arc::clone(&service.access),
                user,
            });
            answer(service.router.clone(), request, Arc::clone(&endless))
        })
    };
    let mut builder = http1::Builder::new();
    // The time limit holds for the silence between two requests as well.
    builder
        .half_close(presence.is_some())
        .title_case_headers(true)
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(READ_BYTES_MAX);
    let mut connection = builder.serve_connection(TokioIo::new(bare), answers).with_upgrades();
    let result = tokio::select! {
        result = &mut connection => result,
        Some(work) = taken.recv() => {
            if let Some(parts) = connection.into_parts() {
                work(parts.io.into_inner().rewind(parts.read_buf)).await;
            }
            return;
        }
        () = gone(presence.as_ref()) => return,
        () = closed(&mut closing) => {
            if endless.load(Ordering::Relaxed) {
                return;
            }
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!("connection ended: {error}");
    }
}

/// Waits for the first request, and makes its path acceptable; `None` when the client leaves without a word.
async fn begin(socket: Socket) -> Option<Bare> {
    let mut bare = Bare {
        read: Bytes::new(),
        socket,
    };
    let mut buffer = BytesMut::with_capacity(FIRST_READ_BYTES);
    let count = bare.socket.read_buf(&mut buffer).await.ok()?;
    bare.read = escape_target(buffer.freeze());
    (count > 0).then_some(bare)
}

/// Escapes quotation marks and angle brackets in the first line.
///
/// They are illegal there and HTTP's parser refuses them, but Go's takes them, and `curl '…?filters={"label":["a"]}'`
/// stands in many people's scripts. Only a connection's first request is looked at: scripts send no second.
fn escape_target(bytes: Bytes) -> Bytes {
    let line = bytes.iter().position(|byte| *byte == b'\r').unwrap_or(bytes.len());
    if !bytes[..line].iter().any(|byte| b"\"<>".contains(byte)) {
        return bytes;
    }
    let mut escaped = BytesMut::with_capacity(bytes.len() + 64);
    for byte in &bytes[..line] {
        match byte {
            b'"' => escaped.extend_from_slice(b"%22"),
            b'<' => escaped.extend_from_slice(b"%3C"),
            b'>' => escaped.extend_from_slice(b"%3E"),
            _ => escaped.extend_from_slice(&[*byte]),
        }
    }
    escaped.extend_from_slice(&bytes[line..]);
    escaped.freeze()
}

async fn gone(presence: Option<&Presence>) {
    match presence {
        Some(presence) => presence.ended().await,
        None => std::future::pending().await,
    }
}

/// Waits for the daemon's end.
pub async fn closed(closing: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = closing.wait_for(|closing| *closing).await;
}

async fn answer(
    router: Router,
    request: Request<Incoming>,
    endless: Arc<AtomicBool>,
) -> Result<Response<Body>, Infallible> {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let (parts, body) = request.into_parts();
    let (body, lender) = unread::lend(body);
    let mut response = match route(router, Request::from_parts(parts, Body::new(body))).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    };
    lender.read_rest().await;
    common_headers(response.headers_mut());
    endless.store(response.extensions().get::<Endless>().is_some(), Ordering::Relaxed);
    tracing::debug!(%method, path, status = response.status().as_u16());
    Ok(response)
}

/// Takes the version off the path, remembers it, and asks the router.
async fn route(mut router: Router, request: Request<Body>) -> Result<Response<Body>, crate::error::ApiError> {
    let (mut parts, body) = request.into_parts();
    let (version, rest) = version::split(parts.uri.path())?;
    if rest.len() != parts.uri.path().len() {
        let query = parts.uri.query().map_or_else(String::new, |query| format!("?{query}"));
        let path: PathAndQuery = format!("{rest}{query}")
            .parse()
            .expect("the end of a good path is a good path");
        parts.uri = Uri::from(path);
    }
    parts.extensions.insert(version);
    let request = Request::from_parts(parts, body);
    Ok(router.call(request).await.unwrap_or_else(|never| match never {}))
}

/// What every answer carries.
pub fn common_headers(map: &mut HeaderMap) {
    let newest = HeaderValue::from_str(&NEWEST.to_string()).expect("digits and a dot");
    map.insert(headers::API_VERSION, newest);
    map.insert(headers::EXPERIMENTAL, HeaderValue::from_static("false"));
    map.insert(headers::OS_TYPE, HeaderValue::from_static("linux"));
    map.insert(
        SERVER,
        HeaderValue::from_static(concat!("Corten/", env!("CARGO_PKG_VERSION"), " (linux)")),
    );
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::{Extension, routing::get};
    use futures_util::stream;
    use tokio::{io::AsyncWriteExt, net::UnixStream, sync::oneshot};

    use super::*;
    use crate::{
        docker::{connection::Work, version::ApiVersion},
        listen::client::Stream,
    };

    /// A client of `router`.
    fn client(router: Router) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        // The sender is leaked, because dropping it closes the door.
        let (sender, closing) = watch::channel(false);
        std::mem::forget(sender);
        let service = Service {
            router,
            access: Arc::new(Access::everything("unix:///test")),
            limits: Limits {
                connections: 10,
                header_timeout: std::time::Duration::from_secs(60),
            },
        };
        let client = Client::new(Stream::Unix(theirs), Some(0));
        tokio::spawn(serve(client, Arc::new(service), closing));
        ours
    }

    fn router() -> Router {
        Router::new()
            .route(
                "/version",
                get(|version: ApiVersion| async move { version.to_string() }),
            )
            .fallback(crate::docker::absent::not_found)
    }

    async fn exchange(router: Router, request: &str) -> String {
        let mut client = client(router);
        client.write_all(request.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn every_answer_says_who_answers_even_after_the_client_is_done_sending() {
        let answer = exchange(router(), "GET /v1.41/version?x=1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n1.41"), "{answer}");
        for line in [
            "Api-Version: 1.51",
            "Ostype: linux",
            "Docker-Experimental: false",
            "Server: Corten/",
        ] {
            assert!(answer.contains(line), "{line} in {answer}");
        }
        let answer = exchange(router(), "GET /v1.99/version HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains("Api-Version: 1.51"),
            "{answer}"
        );
        let answer = exchange(
            router(),
            "GET /version?filters={\"a\":[\"<b>\"]} HTTP/1.1\r\nHost: a\r\n\r\n",
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let answer = exchange(router(), "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(answer.ends_with("{\"message\":\"page not found\"}\n"), "{answer}");
    }

    #[tokio::test]
    async fn a_client_that_leaves_ends_its_stream() {
        struct Alarm(Option<oneshot::Sender<()>>);
        impl Drop for Alarm {
            fn drop(&mut self) {
                let _ = self.0.take().map(|sender| sender.send(()));
            }
        }
        let (sender, dropped) = oneshot::channel();
        let alarm = std::sync::Arc::new(std::sync::Mutex::new(Some(Alarm(Some(sender)))));
        let endless = move || {
            let alarm = alarm.lock().unwrap().take();
            let never = stream::once(async move {
                let _alarm = alarm;
                std::future::pending::<Result<Bytes, Infallible>>().await
            });
            async { Body::from_stream(never) }
        };
        let mut client = client(Router::new().route("/events", get(endless)));
        client
            .write_all(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let mut first = [0; 4];
        client
            .read_exact(&mut first)
            .await
            .expect("headers come before the first event");
        drop(client);
        dropped.await.expect("the stream is dropped");
    }

    #[tokio::test]
    async fn what_a_handler_leaves_unread_is_read_before_the_answer() {
        let body = [b'x'; 100_000];
        for begun in [0, 1] {
            let mut client = client(router());
            let head = format!(
                "POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            client.write_all(head.as_bytes()).await.unwrap();
            client.write_all(&body[..begun]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            client.write_all(&body[begun..]).await.expect("somebody reads");
            client.shutdown().await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_request_can_take_its_connection_away() {
        let handler = |Extension(takeover): Extension<Takeover>| async move {
            let work: Work = Box::new(|mut bare| {
                Box::pin(async move {
                    let mut words = [0; 5];
                    bare.read_exact(&mut words).await.unwrap();
                    bare.write_all(b"heard ").await.unwrap();
                    bare.write_all(&words).await.unwrap();
                })
            });
            match takeover.take(work).await {}
            #[allow(unreachable_code, reason = "the type of an answer has to be known")]
            ""
        };
        let request = "GET /attach HTTP/1.1\r\nHost: a\r\n\r\nhello";
        let answer = exchange(Router::new().route("/attach", get(handler)), request).await;
        assert_eq!(answer, "heard hello");
    }
}

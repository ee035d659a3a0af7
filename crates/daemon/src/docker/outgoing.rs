//! Archives on their way to a client: written by a thread straight onto the connection.
//!
//! The answer's head is ours and the connection is taken from HTTP: files then go from the kernel's cache to the client
//! without ever coming into this process. A client that leaves makes the next write fail, and everything ends; one that
//! only stops reading costs a thread that sleeps. An archive that breaks off ends without HTTP's last chunk, so nobody takes
//! it for whole.
use std::{convert::Infallible, io, thread};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use corten_linux::transfer::{Chunked, Sink};
use http::{Extensions, HeaderMap, HeaderValue, header};
use tokio::sync::{mpsc, oneshot};

use crate::docker::{
    connection::{Bare, Takeover, Work},
    server::common_headers,
};

/// Pieces that may wait for a client whose connection cannot be taken.
const WAITING: usize = 4;
const PIECE_BYTES: usize = 256 * 1024;

/// Answers 200 with these headers and whatever `write` writes.
pub async fn send(
    extensions: &Extensions,
    headers: HeaderMap,
    write: impl FnOnce(&mut dyn Sink) -> io::Result<()> + Send + 'static,
) -> Response {
    match extensions
        .get::<Takeover>()
        .filter(|takeover| takeover.is_direct())
        .cloned()
    {
        Some(takeover) => match taken(takeover, headers, write).await {},
        None => streamed(headers, write),
    }
}

async fn taken(
    takeover: Takeover,
    mut headers: HeaderMap,
    write: impl FnOnce(&mut dyn Sink) -> io::Result<()> + Send + 'static,
) -> Infallible {
    common_headers(&mut headers);
    headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
    for (name, value) in &headers {
        head.extend_from_slice(&[title_case(name.as_str()).as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    head.extend_from_slice(b"\r\n");
    let work: Work = Box::new(move |bare: Bare| {
        Box::pin(async move {
            let Ok(socket) = bare.socket.into_blocking() else {
                return;
            };
            let (done, end) = oneshot::channel();
            let run = move || {
                let result = Chunked::begin(socket, &head).and_then(|mut chunks| {
                    write(&mut chunks)?;
                    chunks.finish()
                });
                if let Err(error) = result {
                    tracing::debug!("an archive broke off: {error}");
                }
                let _ = done.send(());
            };
            match thread::Builder::new().name("archive".to_owned()).spawn(run) {
                Ok(_) => drop(end.await),
                Err(error) => tracing::error!("cannot start a thread for an archive: {error}"),
            }
        })
    });
    takeover.take(work).await
}

/// `content-type` as hyper writes it for us elsewhere.
fn title_case(name: &str) -> String {
    let parts = name.split('-').map(|part| {
        let mut letters = part.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    });
    parts.collect::<Vec<_>>().join("-")
}

/// Within HTTP, for connections whose bytes we cannot write ourselves.
fn streamed(headers: HeaderMap, write: impl FnOnce(&mut dyn Sink) -> io::Result<()> + Send + 'static) -> Response {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        let mut pieces = Pieces(sender);
        if let Err(error) = write(&mut pieces) {
            let _ = pieces.0.blocking_send(Err(error));
        }
    });
    let pieces = futures_util::stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    *response.headers_mut() = headers;
    response
}

struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Sink for Pieces {
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(PIECE_BYTES).try_for_each(|piece| {
            let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(piece)));
            sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_written_as_elsewhere() {
        assert_eq!(
            title_case("x-docker-container-path-stat"),
            "X-Docker-Container-Path-Stat"
        );
    }
}

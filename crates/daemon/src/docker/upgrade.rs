//! `attach`, and an exec's start: a request that becomes a stream in both directions.
//!
//! Clients ask with an `Upgrade` header and get `101 UPGRADED`; from then on the connection is the container's. A client
//! that does not ask gets the connection all the same, after `200 OK`; unless it sends input as the request's body, which
//! makes the exchange plain HTTP in both directions.
use std::{convert::Infallible, future::pending, io};

use axum::{
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use corten_engine::container::{attach::Attachment, view::AttachOptions};
use futures_util::TryStreamExt;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use hyper::{body::Body as _, ext::ReasonPhrase, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio_util::{
    io::{ReaderStream, StreamReader},
    sync::CancellationToken,
};

use crate::{
    docker::{
        connection::{Bare, Socket, Takeover, Work, head_read},
        door::Door,
        query::Parameters,
        server::common_headers,
        version::ApiVersion,
        versions,
    },
    error::ApiError,
};

const PIPE_BYTES: usize = 64 * 1024;

/// `POST /containers/{name}/attach`.
pub async fn attach(
    State(door): State<Door>,
    version: ApiVersion,
    Path(name): Path<String>,
    query: Parameters,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let options = AttachOptions {
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        logs: query.flag("logs"),
        stream: query.flag("stream"),
        detach_keys: query.text("detachKeys").map(str::to_owned),
    };
    let attachment = door.engine().containers().attach(&name, options).await?;
    streams(request, version, attachment).await
}

/// The answer to a request that is to become a stream.
pub async fn streams(
    request: Request<Body>,
    version: ApiVersion,
    attachment: Attachment,
) -> Result<Response, ApiError> {
    let content_type = HeaderValue::from_static(versions::stream_type(version, attachment.tty()));
    if request.headers().contains_key(header::UPGRADE) {
        return Ok(upgraded(request, attachment, content_type));
    }
    if request.body().is_end_stream()
        && let Some(takeover) = request.extensions().get::<Takeover>().cloned()
    {
        match taken(takeover, attachment).await {}
    }
    Ok(plain(request, attachment))
}

/// `101 UPGRADED`, and the connection is the container's.
fn upgraded(mut request: Request<Body>, attachment: Attachment, content_type: HeaderValue) -> Response {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(hand_over(upgrade, attachment));
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static("tcp")),
    ];
    let mut response = (StatusCode::SWITCHING_PROTOCOLS, headers).into_response();
    response.extensions_mut().insert(ReasonPhrase::from_static(b"UPGRADED"));
    response
}

async fn hand_over(upgrade: OnUpgrade, attachment: Attachment) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return tracing::debug!("attach: the client left before the answer: {error}"),
    };
    match upgraded.downcast::<TokioIo<Bare>>() {
        Ok(parts) => run(attachment, parts.io.into_inner().rewind(parts.read_buf)).await,
        Err(upgraded) => attachment.run(TokioIo::new(upgraded), pending()).await,
    }
}

/// `200` on the bare connection: what older clients take for granted, bytes both ways without chunks.
async fn taken(takeover: Takeover, attachment: Attachment) -> Infallible {
    let mut headers = HeaderMap::new();
    common_headers(&mut headers);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(versions::RAW_STREAM));
    let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
    for (name, value) in &headers {
        head.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    head.extend_from_slice(b"\r\n");
    let work: Work = Box::new(move |mut bare| {
        Box::pin(async move {
            if bare.write_all(&head).await.is_ok() {
                run(attachment, bare).await;
            }
        })
    });
    takeover.take(work).await
}

async fn run(attachment: Attachment, bare: Bare) {
    if let Socket::Unix(stream) = &bare.socket {
        head_read(stream).await;
    }
    let presence = bare.socket.presence();
    let gone = async {
        match &presence {
            Some(presence) => presence.ended().await,
            None => pending().await,
        }
    };
    match bare.socket {
        // The bare stream: nothing between the client and the container.
        Socket::Unix(stream) if bare.read.is_empty() => attachment.run(stream, gone).await,
        socket => {
            let bare = Bare {
                read: bare.read,
                socket,
            };
            attachment.run(bare, gone).await
        }
    }
}

/// `200` within HTTP: output as the answer's body, the request's body as input.
fn plain(request: Request<Body>, attachment: Attachment) -> Response {
    let (ours, containers) = tokio::io::duplex(PIPE_BYTES);
    let input = StreamReader::new(request.into_body().into_data_stream().map_err(io::Error::other));
    let (output, mut sink) = tokio::io::split(ours);
    tokio::spawn(async move {
        let mut input = std::pin::pin!(input);
        let copied = tokio::io::copy(&mut input, &mut sink).await;
        if copied.is_ok() {
            let _ = sink.shutdown().await;
        }
    });
    // The body goes when the client does.
    let gone = CancellationToken::new();
    let guard = gone.clone().drop_guard();
    let body = ReaderStream::new(output).inspect_ok(move |_| {
        let _guard = &guard;
    });
    tokio::spawn(async move { attachment.run(containers, gone.cancelled()).await });
    let content_type = HeaderValue::from_static(versions::RAW_STREAM);
    ([(header::CONTENT_TYPE, content_type)], Body::from_stream(body)).into_response()
}

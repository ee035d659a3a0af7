//! `attach/ws`: a container's streams over a web socket, in binary messages and never multiplexed.
//!
//! A web socket has no half that could be closed: a client that closes it is gone.
use axum::{
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use corten_api::stream::Decoder;
use corten_engine::container::{attach::Attachment, view::AttachOptions};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};
use tokio_util::sync::CancellationToken;

use crate::{
    docker::{
        door::Door,
        query::Parameters,
        version::{ApiVersion, v},
    },
    error::ApiError,
};

const PIPE_BYTES: usize = 64 * 1024;
/// Larger messages end the connection.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// `GET /containers/{name}/attach/ws`.
pub async fn attach(
    State(door): State<Door>,
    version: ApiVersion,
    Path(name): Path<String>,
    query: Parameters,
    mut request: Request<Body>,
) -> Result<Response, ApiError> {
    let headers = handshake(request.headers())?;
    // Before 1.42 nobody could choose.
    let wants = |stream: &str| version < v(42) || query.flag(stream);
    let options = AttachOptions {
        stdin: wants("stdin"),
        stdout: wants("stdout"),
        stderr: wants("stderr"),
        logs: query.flag("logs"),
        stream: query.flag("stream"),
        detach_keys: query.text("detachKeys").map(str::to_owned),
    };
    let attachment = door.engine().containers().attach(&name, options).await?;
    tokio::spawn(serve(hyper::upgrade::on(&mut request), attachment));
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// The headers that accept the client's, where those are a web socket's.
fn handshake(asked: &HeaderMap) -> Result<HeaderMap, ApiError> {
    let says = |name: header::HeaderName, word: &str| {
        let values = asked.get_all(name).iter().filter_map(|value| value.to_str().ok());
        let mut words = values.flat_map(|value| value.split(','));
        words.any(|found| found.trim().eq_ignore_ascii_case(word))
    };
    let key = asked.get(header::SEC_WEBSOCKET_KEY);
    let proper = says(header::CONNECTION, "upgrade") && says(header::UPGRADE, "websocket");
    let Some(key) = key.filter(|_| proper && says(header::SEC_WEBSOCKET_VERSION, "13")) else {
        return Err(ApiError::invalid("this endpoint speaks web sockets (RFC 6455) only"));
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).expect("base64 is plain text");
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    // One protocol is as good as none here; of several none could be chosen.
    if let Some(protocol) = asked.get(header::SEC_WEBSOCKET_PROTOCOL)
        && !protocol.as_bytes().contains(&b',')
    {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol.clone());
    }
    Ok(headers)
}

async fn serve(upgrade: OnUpgrade, attachment: Attachment) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return tracing::debug!("attach: the client left before the answer: {error}"),
    };
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(MESSAGE_BYTES_MAX);
    config.max_frame_size = Some(MESSAGE_BYTES_MAX);
    let socket: Socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let (sink, stream) = socket.split();
    let (ours, containers) = tokio::io::duplex(PIPE_BYTES);
    let (from, to) = tokio::io::split(ours);
    let framed = !attachment.tty();
    let gone = CancellationToken::new();
    tokio::join!(
        attachment.run(containers, gone.cancelled()),
        output(from, sink, framed, &gone),
        input(stream, to, &gone),
    );
}

/// Until the container's end, or until the client takes no more.
async fn output(
    mut from: ReadHalf<DuplexStream>,
    mut sink: SplitSink<Socket, Message>,
    framed: bool,
    gone: &CancellationToken,
) {
    let mut buffer = vec![0; PIPE_BYTES];
    let mut decoder = Decoder::new();
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let printed = &buffer[..count];
        let sent = if framed {
            decoder.push(printed);
            send_payloads(&mut decoder, &mut sink).await
        } else {
            send(printed.to_vec().into(), &mut sink).await
        };
        if !sent {
            break;
        }
    }
    let _ = sink.close().await;
    gone.cancel();
}

/// Every frame that is complete, without its header.
async fn send_payloads(decoder: &mut Decoder, sink: &mut SplitSink<Socket, Message>) -> bool {
    while let Ok(Some((_, payload))) = decoder.next() {
        if !send(payload, sink).await {
            return false;
        }
    }
    true
}

async fn send(payload: Bytes, sink: &mut SplitSink<Socket, Message>) -> bool {
    sink.send(Message::Binary(payload)).await.is_ok()
}

/// Until the client closes; what it sends is the container's input.
async fn input(mut stream: SplitStream<Socket>, mut to: WriteHalf<DuplexStream>, gone: &CancellationToken) {
    let sending = async {
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Binary(bytes) if to.write_all(&bytes).await.is_err() => break,
                Message::Text(text) if to.write_all(text.as_bytes()).await.is_err() => break,
                Message::Close(_) => return,
                _ => {}
            }
        }
    };
    tokio::select! {
        () = sending => gone.cancel(),
        () = gone.cancelled() => {}
    }
}

//! A client that was let in, before it says anything.
use std::{io, time::Duration};

use rustix::net::sockopt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::docker::connection::Socket;

/// How soon a client that vanished without a word (its machine lost power) is noticed: after a minute of silence it is
/// asked three times.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;
/// As long may what was sent stay unanswered.
const UNANSWERED_MAX_MILLISECONDS: u32 = 90_000;
/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 0x16;

/// A connection as it was accepted.
pub struct Client {
    stream: Stream,
    /// Of this machine; absent where the connection came over a network.
    pub user: Option<u32>,
}

pub enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
    /// A handshake is to come.
    Tls(TcpStream, TlsAcceptor),
}

impl Client {
    pub fn new(stream: Stream, user: Option<u32>) -> Client {
        Client { stream, user }
    }

    /// Makes the connection ready for HTTP; a TLS handshake must be over within `limit`.
    pub async fn ready(self, limit: Duration) -> io::Result<Socket> {
        match self.stream {
            Stream::Unix(stream) => Ok(Socket::Unix(stream)),
            Stream::Tcp(stream) => {
                prepare(&stream)?;
                Ok(Socket::Tcp(stream))
            }
            Stream::Tls(stream, acceptor) => {
                prepare(&stream)?;
                let handshake = timeout(limit, handshake(stream, acceptor)).await;
                handshake.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
            }
        }
    }

    /// Says that there is no room and closes; never waits.
    pub fn refuse(self) {
        let body = r#"{"message":"too many connections: try again later, or raise api-max-connections"}"#;
        let answer = format!(
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: \
             {}\r\n\r\n{body}",
            body.len()
        );
        match &self.stream {
            Stream::Unix(stream) => drop(stream.try_write(answer.as_bytes())),
            Stream::Tcp(stream) => drop(stream.try_write(answer.as_bytes())),
            Stream::Tls(..) => {}
        }
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    // Answers are small and come in pieces; waiting to fill a packet would stall them.
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    sockopt::set_tcp_user_timeout(stream, UNANSWERED_MAX_MILLISECONDS)?;
    Ok(())
}

async fn handshake(mut stream: TcpStream, acceptor: TlsAcceptor) -> io::Result<Socket> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first[0] != HANDSHAKE {
        // What is left unread at the end would cut off the answer.
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await?;
        let answer = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
        stream.write_all(answer).await?;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it speaks without TLS"));
    }
    let stream = acceptor.accept(stream).await?;
    Ok(Socket::Tls(Box::new(stream)))
}

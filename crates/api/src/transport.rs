//! Where a daemon listens, and one connection to it.
//!
//! An address is parsed once, at the door, into an [`Endpoint`]; everything else passes the type.
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// The socket of the daemon that the command line uses (and starts) when it is told nothing else.
pub const DEFAULT_SOCKET: &str = "/run/corten/corten.sock";
/// Docker's socket, offered by the daemon where nobody else owns it.
pub const DOCKER_SOCKET: &str = "/var/run/docker.sock";
/// The port of `tcp://host` without a port.
const DEFAULT_TCP_PORT: u16 = 2375;

/// An address of a daemon, as `-H` and `DOCKER_HOST` spell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    Unix(PathBuf),
    /// `host:port`, resolved when connecting.
    Tcp(String),
}

/// Why an address is no address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EndpointError {
    #[error("unable to parse docker host `{0}`")]
    Malformed(String),
    #[error("the transport of `{0}` is not implemented yet: use unix:// or tcp://")]
    Transport(String),
}

impl Default for Endpoint {
    fn default() -> Endpoint {
        Endpoint::Unix(PathBuf::from(DEFAULT_SOCKET))
    }
}

impl Endpoint {
    /// Parses `unix:///path`, `tcp://host[:port]`, or a bare absolute path.
    pub fn parse(address: &str) -> Result<Endpoint, EndpointError> {
        let malformed = || EndpointError::Malformed(address.to_string());
        if address.starts_with('/') {
            return Ok(Endpoint::Unix(PathBuf::from(address)));
        }
        let (scheme, rest) = address.split_once("://").ok_or_else(malformed)?;
        match scheme {
            "unix" if rest.is_empty() => Err(malformed()),
            "unix" => Ok(Endpoint::Unix(PathBuf::from(rest))),
            "tcp" | "http" => {
                let authority = rest.split('/').next().unwrap_or_default();
                let authority = if authority.is_empty() { "127.0.0.1" } else { authority };
                let with_port = match authority.rsplit_once(':') {
                    Some((_, port)) if !port.ends_with(']') => port.parse::<u16>().is_ok(),
                    _ => false,
                };
                let authority = if with_port {
                    authority.to_string()
                } else {
                    format!("{authority}:{DEFAULT_TCP_PORT}")
                };
                Ok(Endpoint::Tcp(authority))
            }
            "ssh" | "npipe" | "fd" | "https" => Err(EndpointError::Transport(address.to_string())),
            _ => Err(malformed()),
        }
    }

    pub fn unix_path(&self) -> Option<&Path> {
        match self {
            Endpoint::Unix(path) => Some(path),
            Endpoint::Tcp(_) => None,
        }
    }

    /// What the `Host` header says: nobody looks at it, but HTTP demands one.
    pub fn authority(&self) -> &str {
        match self {
            Endpoint::Unix(_) => "api.corten.local",
            Endpoint::Tcp(authority) => authority,
        }
    }

    pub async fn connect(&self) -> io::Result<Connection> {
        match self {
            Endpoint::Unix(path) => UnixStream::connect(path).await.map(Connection::Unix),
            Endpoint::Tcp(authority) => {
                let stream = TcpStream::connect(authority).await?;
                stream.set_nodelay(true)?;
                Ok(Connection::Tcp(stream))
            }
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            Endpoint::Tcp(authority) => write!(f, "tcp://{authority}"),
        }
    }
}

/// A connected stream; shutting down its writing side is a half-close that the daemon sees as end of input.
#[derive(Debug)]
pub enum Connection {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Connection::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Connection::Unix(stream) => Pin::new(stream).poll_write(cx, data),
            Connection::Tcp(stream) => Pin::new(stream).poll_write(cx, data),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Connection::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Connection::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Connection::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_docker_reads_them() {
        assert_eq!(
            Endpoint::parse("unix:///run/x.sock"),
            Ok(Endpoint::Unix("/run/x.sock".into()))
        );
        assert_eq!(
            Endpoint::parse("tcp://127.0.0.1:5555"),
            Ok(Endpoint::Tcp("127.0.0.1:5555".into()))
        );
        assert_eq!(Endpoint::parse("tcp://host"), Ok(Endpoint::Tcp("host:2375".into())));
        assert_eq!(Endpoint::parse("tcp://[::1]"), Ok(Endpoint::Tcp("[::1]:2375".into())));
        assert_eq!(Endpoint::parse("tcp://[::1]:99"), Ok(Endpoint::Tcp("[::1]:99".into())));
        assert_eq!(
            Endpoint::parse("nonsense"),
            Err(EndpointError::Malformed("nonsense".into()))
        );
        assert!(matches!(Endpoint::parse("ssh://a"), Err(EndpointError::Transport(_))));
    }
}

//! Where a daemon listens, and one connection to it.
//!
//! An address is parsed once, at the door, into an [`Endpoint`]; everything else passes the type.
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use crate::tls::TlsFiles;

/// The socket of the daemon that the command line uses (and starts) when it is told nothing else.
pub const DEFAULT_SOCKET: &str = "/run/corten/corten.sock";
/// Docker's socket, offered by the daemon where nobody else owns it.
pub const DOCKER_SOCKET: &str = "/var/run/docker.sock";
/// The port of `tcp://host` without a port.
const DEFAULT_TCP_PORT: u16 = 2375;
/// The same with TLS.
const DEFAULT_TLS_PORT: u16 = 2376;
/// What is executed on a host reached by ssh: ours where it is, else Docker's.
const REMOTE: &str = "if command -v corten >/dev/null 2>&1; then exec corten";
const REMOTE_ELSE: &str = "else exec docker";

/// An address of a daemon, as `-H` and `DOCKER_HOST` spell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    Unix(PathBuf),
    /// `host:port`, resolved when connecting.
    Tcp(String),
    Tls {
        authority: String,
        files: Arc<TlsFiles>,
    },
    Ssh(SshAddress),
}

/// `ssh://[user@]host[:port][/socket]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshAddress {
    pub user: Option<String>,
    pub host: String,
    pub port: Option<u16>,
    /// The daemon's socket on that host, where it is not the default one.
    pub socket: Option<String>,
}

/// Why an address is no address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EndpointError {
    #[error("unable to parse docker host `{0}`")]
    Malformed(String),
    #[error("the transport of `{0}` does not exist here: use unix://, tcp:// or ssh://")]
    Transport(String),
    #[error("unable to parse docker host `{address}`: {reason}")]
    Ssh { address: String, reason: &'static str },
}

impl Default for Endpoint {
    fn default() -> Endpoint {
        Endpoint::Unix(PathBuf::from(DEFAULT_SOCKET))
    }
}

impl Endpoint {
    /// Parses `unix:///path`, `tcp://host[:port]`, `ssh://[user@]host[:port]`, or a bare absolute path.
    pub fn parse(address: &str) -> Result<Endpoint, EndpointError> {
        let malformed = || EndpointError::Malformed(address.to_string());
        if address.starts_with('/') {
            return Ok(Endpoint::Unix(PathBuf::from(address)));
        }
        let (scheme, rest) = address.split_once("://").ok_or_else(malformed)?;
        match scheme {
            "unix" if rest.is_empty() => Err(malformed()),
            "unix" => Ok(Endpoint::Unix(PathBuf::from(rest))),
            "tcp" | "http" => Ok(Endpoint::Tcp(tcp_authority(rest))),
            "ssh" => ssh_address(rest)
                .map(Endpoint::Ssh)
                .map_err(|reason| EndpointError::Ssh {
                    address: address.to_string(),
                    reason,
                }),
            "npipe" | "fd" | "https" => Err(EndpointError::Transport(address.to_string())),
            _ => Err(malformed()),
        }
    }

    /// A TCP address, spoken to with TLS. A port that nobody named is TLS's.
    pub fn tls(authority: String, files: Arc<TlsFiles>) -> Endpoint {
        let authority = match authority.strip_suffix(&format!(":{DEFAULT_TCP_PORT}")) {
            Some(host) => format!("{host}:{DEFAULT_TLS_PORT}"),
            None => authority,
        };
        Endpoint::Tls { authority, files }
    }

    pub fn unix_path(&self) -> Option<&Path> {
        match self {
            Endpoint::Unix(path) => Some(path),
            _ => None,
        }
    }

    /// What the `Host` header says: nobody looks at it, but HTTP demands one.
    pub fn authority(&self) -> &str {
        match self {
            Endpoint::Unix(_) | Endpoint::Ssh(_) => "api.corten.local",
            Endpoint::Tcp(authority) | Endpoint::Tls { authority, .. } => authority,
        }
    }

    pub async fn connect(&self) -> io::Result<Connection> {
        match self {
            Endpoint::Unix(path) => UnixStream::connect(path).await.map(Connection::Unix),
            Endpoint::Tcp(authority) => connect_tcp(authority).await.map(Connection::Tcp),
            Endpoint::Tls { authority, files } => {
                // Files first: what is wrong with them needs no daemon.
                let (connector, name) = files.connector(authority)?;
                let stream = connector.connect(name, connect_tcp(authority).await?).await?;
                Ok(Connection::Tls(Box::new(stream)))
            }
            Endpoint::Ssh(address) => address.connect().map(Connection::Unix),
        }
    }
}

async fn connect_tcp(authority: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// `host[:port][/path]` with a port.
fn tcp_authority(rest: &str) -> String {
    let authority = rest.split('/').next().unwrap_or_default();
    let authority = if authority.is_empty() { "127.0.0.1" } else { authority };
    let with_port = match authority.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => port.parse::<u16>().is_ok(),
        _ => false,
    };
    if with_port {
        authority.to_string()
    } else {
        format!("{authority}:{DEFAULT_TCP_PORT}")
    }
}

fn ssh_address(rest: &str) -> Result<SshAddress, &'static str> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, place) = match authority.rsplit_once('@') {
        Some((user, place)) => (Some(user.to_string()), place),
        None => (None, authority),
    };
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (
            host,
            Some(port.parse().map_err(|_| "the port is not a number up to 65535")?),
        ),
        _ => (place, None),
    };
    if user.as_deref().is_some_and(|user| user.contains(':')) {
        return Err("plain-text password is not supported");
    }
    let host = host.trim_start_matches('[').trim_end_matches(']');
    // ssh would take them for options.
    if host.is_empty() || host.starts_with('-') || user.as_deref().is_some_and(|user| user.starts_with('-')) {
        return Err("no host specified");
    }
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-".contains(letter);
    if !path.chars().all(plain) {
        return Err("the path of the socket may have letters, digits, dots, dashes, underscores and slashes");
    }
    Ok(SshAddress {
        user,
        host: host.to_string(),
        port,
        socket: (!path.is_empty()).then(|| format!("/{path}")),
    })
}

impl SshAddress {
    /// `ssh`, which knows the user's keys and hosts, carries the bytes: one process for each connection.
    fn connect(&self) -> io::Result<UnixStream> {
        let (ours, theirs) = StdUnixStream::pair()?;
        let output = theirs.try_clone()?;
        self.command()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(OwnedFd::from(output)))
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("cannot execute ssh: {error}")))?;
        ours.set_nonblocking(true)?;
        UnixStream::from_std(ours)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("ssh");
        command.args(["-T", "-o", "ConnectTimeout=30"]);
        if let Some(user) = &self.user {
            command.args(["-l", user]);
        }
        if let Some(port) = self.port {
            command.args(["-p", &port.to_string()]);
        }
        let host = match &self.socket {
            Some(socket) => format!(" --host unix://{socket}"),
            None => String::new(),
        };
        let dial = "system dial-stdio";
        let remote = format!("{REMOTE}{host} {dial}; {REMOTE_ELSE}{host} {dial}; fi");
        command.args(["--", &self.host, &remote]);
        command
    }
}

impl fmt::Display for SshAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ssh://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        f.write_str(&self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(self.socket.as_deref().unwrap_or_default())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            Endpoint::Tcp(authority) | Endpoint::Tls { authority, .. } => write!(f, "tcp://{authority}"),
            Endpoint::Ssh(address) => address.fmt(f),
        }
    }
}

/// A connected stream; shutting down its writing side is a half-close that the daemon sees as end of input.
#[derive(Debug)]
pub enum Connection {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Forwards to the stream inside.
macro_rules! forward {
    ($($method:ident($($argument:ident: $kind:ty),*) -> $result:ty;)*) => {$(
        fn $method(self: Pin<&mut Self>, context: &mut Context<'_>, $($argument: $kind),*) -> Poll<io::Result<$result>> {
            match self.get_mut() {
                Connection::Unix(stream) => Pin::new(stream).$method(context, $($argument),*),
                Connection::Tcp(stream) => Pin::new(stream).$method(context, $($argument),*),
                Connection::Tls(stream) => Pin::new(stream).$method(context, $($argument),*),
            }
        }
    )*};
}

impl AsyncRead for Connection {
    forward! {
        poll_read(buffer: &mut ReadBuf<'_>) -> ();
    }
}

impl AsyncWrite for Connection {
    forward! {
        poll_write(data: &[u8]) -> usize;
        poll_flush() -> ();
        poll_shutdown() -> ();
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
        assert!(matches!(Endpoint::parse("npipe://a"), Err(EndpointError::Transport(_))));
    }

    #[test]
    fn ssh_is_asked_for_as_docker_users_write_it() {
        let words = |address: &str| {
            let Ok(Endpoint::Ssh(parsed)) = Endpoint::parse(address) else {
                panic!("{address} is an address");
            };
            assert_eq!(parsed.to_string(), address);
            let command = parsed.command();
            let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
            words.collect::<Vec<_>>()
        };
        let dial = "if command -v corten >/dev/null 2>&1; then exec corten system dial-stdio; \
                    else exec docker system dial-stdio; fi";
        assert_eq!(
            words("ssh://me@box:2222"),
            [
                "-T",
                "-o",
                "ConnectTimeout=30",
                "-l",
                "me",
                "-p",
                "2222",
                "--",
                "box",
                dial
            ]
        );
        assert!(
            words("ssh://box/run/x.sock")[4..]
                .concat()
                .contains("corten --host unix:///run/x.sock system dial-stdio")
        );
        for bad in [
            "ssh://",
            "ssh://-oProxyCommand=x",
            "ssh://me:pw@box",
            "ssh://box/a;b",
            "ssh://box:x",
        ] {
            assert!(matches!(Endpoint::parse(bad), Err(EndpointError::Ssh { .. })), "{bad}");
        }
    }
}

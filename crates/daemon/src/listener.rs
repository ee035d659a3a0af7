//! Where clients come in: unix sockets, TCP ports, sockets that systemd opened for us.
//!
//! A unix socket that nobody listens on is left over from a crash and is replaced; one that answers belongs to another
//! daemon and is left alone.
use std::{
    fs, io,
    net::TcpListener as StdTcpListener,
    os::{fd::OwnedFd, unix::fs::FileTypeExt, unix::net::UnixListener as StdUnixListener},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Gid, Mode, Uid},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt},
};
use tokio::net::{TcpListener, UnixListener};

use crate::docker::connection::Socket;

/// dockerd's port without TLS.
const DEFAULT_TCP_PORT: u16 = 2375;
/// Clients that may wait to be accepted.
const BACKLOG: i32 = 4096;
const DEFAULT_GROUP: &str = "docker";

/// An address, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Unix(PathBuf),
    /// `host:port`.
    Tcp(String),
    /// Sockets that were opened for us (`LISTEN_FDS`).
    Inherited,
}

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("invalid bind address \"{0}\": use unix://PATH, tcp://HOST:PORT or fd://")]
    Address(String),
    #[error("can't create unix socket {path}: another daemon listens there")]
    Taken { path: String },
    #[error("can't listen on {address}")]
    Listen {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("could not change group of {path} to {group}: group {group} not found")]
    NoGroup { path: String, group: String },
    #[error("no sockets found via socket activation: make sure the service was started by systemd")]
    NothingInherited,
}

impl Address {
    pub fn parse(text: &str) -> Result<Address, ListenError> {
        let refused = || ListenError::Address(text.to_owned());
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.starts_with('/') {
                Ok(Address::Unix(PathBuf::from(path)))
            } else {
                Err(refused())
            };
        }
        if text.starts_with("fd://") {
            return Ok(Address::Inherited);
        }
        if let Some(address) = text.strip_prefix("tcp://") {
            return tcp_address(address.trim_end_matches('/'))
                .ok_or_else(refused)
                .map(Address::Tcp);
        }
        if text.starts_with('/') {
            return Ok(Address::Unix(PathBuf::from(text)));
        }
        Err(refused())
    }
}

fn tcp_address(text: &str) -> Option<String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ => (text, DEFAULT_TCP_PORT),
    };
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    Some(format!("{host}:{port}"))
}

/// An open door. Dropping it closes and, where it made a socket file, removes that.
#[derive(Debug)]
pub struct Listener {
    kind: Kind,
    /// For the log.
    pub address: String,
    made: Option<PathBuf>,
}

#[derive(Debug)]
enum Kind {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    /// The next client.
    pub async fn accept(&self) -> io::Result<Socket> {
        match &self.kind {
            Kind::Unix(listener) => Ok(Socket::Unix(listener.accept().await?.0)),
            Kind::Tcp(listener) => {
                let stream = listener.accept().await?.0;
                // Answers are small and come in pieces; waiting to fill a packet would stall them.
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.made {
            let _ = fs::remove_file(path);
        }
    }
}

/// Opens an address; socket activation may bring several listeners. Needs a tokio runtime.
pub fn open(address: &Address, group: Option<&str>) -> Result<Vec<Listener>, ListenError> {
    match address {
        Address::Unix(path) => Ok(vec![unix(path, group)?]),
        Address::Tcp(address) => Ok(vec![tcp(address)?]),
        Address::Inherited => inherited(),
    }
}

fn unix(path: &Path, group: Option<&str>) -> Result<Listener, ListenError> {
    let shown = path.display().to_string();
    let failed = |source: io::Error| ListenError::Listen {
        address: format!("unix://{}", path.display()),
        source,
    };
    let group = socket_group(&shown, group)?;
    if is_socket(path) {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(ListenError::Taken { path: shown });
        }
        fs::remove_file(path).map_err(failed)?;
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let listener = bind(path).map_err(failed)?;
    let secure = || -> io::Result<UnixListener> {
        rustix::fs::chown(path, Some(Uid::ROOT), Some(Gid::from_raw(group)))?;
        rustix::fs::chmod(path, Mode::from_raw_mode(0o660))?;
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    };
    let listener = secure().inspect_err(|_| drop(fs::remove_file(path))).map_err(failed)?;
    Ok(Listener {
        kind: Kind::Unix(listener),
        address: format!("unix://{shown}"),
        made: Some(path.to_owned()),
    })
}

/// A listening socket that nobody but root may connect to yet.
fn bind(path: &Path) -> io::Result<StdUnixListener> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // The kernel gives the file the mode of the unbound socket: there is no moment at which it is open to others.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600))?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(StdUnixListener::from(socket))
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// Does a daemon answer there?
pub fn is_taken(path: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(path).is_ok()
}

/// The group that may use a socket: the one that was named, else `docker` where there is one, else root.
fn socket_group(path: &str, group: Option<&str>) -> Result<u32, ListenError> {
    let name = group.unwrap_or(DEFAULT_GROUP);
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    match (find_group(&groups, name), group) {
        (Some(number), _) => Ok(number),
        (None, None) => Ok(0),
        (None, Some(group)) => Err(ListenError::NoGroup {
            path: path.to_owned(),
            group: group.to_owned(),
        }),
    }
}

fn find_group(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}

fn tcp(address: &str) -> Result<Listener, ListenError> {
    let failed = |source| ListenError::Listen {
        address: format!("tcp://{address}"),
        source,
    };
    let listener = StdTcpListener::bind(address).map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?;
    if !port.ip().is_loopback() {
        tracing::warn!("binding tcp://{port} without TLS gives root on this machine to everybody who can reach it");
    }
    listener.set_nonblocking(true).map_err(failed)?;
    let listener = TcpListener::from_std(listener).map_err(failed)?;
    Ok(Listener {
        kind: Kind::Tcp(listener),
        address: format!("tcp://{port}"),
        made: None,
    })
}

fn inherited() -> Result<Vec<Listener>, ListenError> {
    let sockets = corten_linux::activation::listen_fds();
    if sockets.is_empty() {
        return Err(ListenError::NothingInherited);
    }
    let adopt = |(number, socket): (usize, OwnedFd)| {
        let address = format!("fd://{number}");
        let kind = adopt(socket).map_err(|source| ListenError::Listen {
            address: address.clone(),
            source,
        })?;
        Ok(Listener {
            kind,
            address,
            made: None,
        })
    };
    sockets.into_iter().enumerate().map(adopt).collect()
}

fn adopt(socket: OwnedFd) -> io::Result<Kind> {
    let family = sockopt::socket_domain(&socket)?;
    if family == AddressFamily::UNIX {
        let listener = StdUnixListener::from(socket);
        listener.set_nonblocking(true)?;
        return Ok(Kind::Unix(UnixListener::from_std(listener)?));
    }
    let listener = StdTcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(Kind::Tcp(TcpListener::from_std(listener)?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    #[test]
    fn addresses_are_those_of_dockerd() {
        let parse = |text| Address::parse(text).ok();
        assert_eq!(parse("unix:///run/a.sock"), Some(Address::Unix("/run/a.sock".into())));
        assert_eq!(
            parse("tcp://127.0.0.1:4243"),
            Some(Address::Tcp("127.0.0.1:4243".to_owned()))
        );
        assert_eq!(parse("tcp://0.0.0.0"), Some(Address::Tcp("0.0.0.0:2375".to_owned())));
        assert_eq!(parse("tcp://:1"), Some(Address::Tcp("127.0.0.1:1".to_owned())));
        assert_eq!(parse("tcp://[::1]:1"), Some(Address::Tcp("[::1]:1".to_owned())));
        assert_eq!(parse("tcp://[::1]"), Some(Address::Tcp("[::1]:2375".to_owned())));
        assert_eq!(parse("fd://"), Some(Address::Inherited));
        for text in ["", "unix://", "unix://relative", "ssh://a", "tcp://a:b"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn groups_are_found_by_name() {
        let groups = "root:x:0:\nno number\ndocker:x:998:me,you\n";
        assert_eq!(find_group(groups, "docker"), Some(998));
        assert_eq!(find_group(groups, "nobody"), None);
    }

    #[tokio::test]
    async fn a_socket_is_private_replaced_when_stale_and_removed_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/a.sock");
        let address = Address::Unix(path.clone());
        let first = open(&address, Some("0")).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.permissions().mode() & 0o777, metadata.gid()), (0o660, 0));
        assert!(matches!(open(&address, None), Err(ListenError::Taken { .. })));
        drop(first);
        assert!(!path.exists());

        drop(StdUnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a crash leaves its socket behind");
        assert_eq!(open(&address, None).unwrap().len(), 1);
        assert!(matches!(
            open(&address, Some("no-such-group")),
            Err(ListenError::NoGroup { .. })
        ));
    }
}

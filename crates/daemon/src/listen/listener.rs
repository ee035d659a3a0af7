//! Where clients come in: unix sockets, TCP ports, sockets that systemd opened for us.
//!
//! A unix socket that nobody listens on is left over from a crash and is replaced; one that answers belongs to another
//! daemon and is left alone.
use std::{
    fs, io,
    net::TcpListener as StdTcpListener,
    os::{fd::OwnedFd, unix::fs::FileTypeExt, unix::net::UnixListener as StdUnixListener},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{Gid, Mode, Uid},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt},
};
use tokio::net::{TcpListener, UnixListener};

use crate::listen::{
    access::Access,
    address::{Address, AddressError, Place, UnixPlace},
    client::{Client, Stream},
    tls::{Tls, TlsError},
};

/// Clients that may wait to be accepted.
const BACKLOG: i32 = 4096;
const DEFAULT_GROUP: &str = "docker";

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(transparent)]
    Address(#[from] AddressError),
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
    #[error("no socket \"{0}\" found via socket activation: fd:// takes all, fd://3 one by number, fd://NAME by name")]
    NotInherited(String),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// An open door. Dropping it closes and, where it made a socket file, removes that.
#[derive(Debug)]
pub struct Listener {
    kind: Kind,
    /// For the log.
    pub address: String,
    pub access: Arc<Access>,
    made: Option<PathBuf>,
}

#[derive(Debug)]
enum Kind {
    Unix(UnixListener),
    Tcp(TcpListener, Option<Arc<Tls>>),
}

impl Listener {
    /// The next client.
    pub async fn accept(&self) -> io::Result<Client> {
        match &self.kind {
            Kind::Unix(listener) => {
                let stream = listener.accept().await?.0;
                let user = stream.peer_cred().ok().map(|peer| peer.uid());
                Ok(Client::new(Stream::Unix(stream), user))
            }
            Kind::Tcp(listener, tls) => {
                let stream = listener.accept().await?.0;
                let stream = match tls {
                    None => Stream::Tcp(stream),
                    Some(tls) => Stream::Tls(stream, tls.acceptor()),
                };
                Ok(Client::new(stream, None))
            }
        }
    }

    /// What `/info` has to warn of.
    pub fn warning(&self) -> Option<String> {
        let Kind::Tcp(_, tls) = &self.kind else {
            return None;
        };
        let address = self.address.trim_start_matches("tcp://");
        let danger = match tls {
            None => format!("API is accessible on http://{address} without encryption."),
            Some(tls) if !tls.verifies_clients() => {
                format!("API is accessible on https://{address} without TLS client verification.")
            }
            Some(_) => return None,
        };
        Some(format!(
            "WARNING: {danger}\n         Access to the remote API is equivalent to root access on the host. Refer\n         \
             to the 'Docker daemon attack surface' section in the documentation for\n         more information: \
             https://docs.docker.com/go/attack-surface/"
        ))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.made {
            let _ = fs::remove_file(path);
        }
    }
}

/// What opening a door depends on besides its address.
#[derive(Debug, Default)]
pub struct Opening {
    /// Who may use unix sockets besides root; absent means `docker` where that group exists.
    pub group: Option<String>,
    pub tls: Option<Arc<Tls>>,
    /// What a service manager opened for us, by number and name; each is taken once.
    pub inherited: Vec<Inherited>,
}

/// A listening socket from a service manager.
#[derive(Debug)]
pub struct Inherited {
    pub number: usize,
    pub name: String,
    pub socket: OwnedFd,
}

/// Sockets that a service manager opened for this process. The second call finds none.
pub fn inherited() -> Vec<Inherited> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').map(str::to_owned);
    let sockets = corten_linux::activation::listen_fds().into_iter().enumerate();
    sockets
        .map(|(position, socket)| Inherited {
            number: position + 3,
            name: names.next().unwrap_or_default(),
            socket,
        })
        .collect()
}

impl Opening {
    /// Opens an address; socket activation may bring several listeners. Needs a tokio runtime.
    pub fn open(&mut self, address: &Address) -> Result<Vec<Listener>, ListenError> {
        let access = Arc::new(address.access.clone());
        match &address.place {
            Place::Unix(place) => Ok(vec![unix(place, self.group.as_deref(), access)?]),
            Place::Tcp { host, port } => {
                let address = Place::tcp_address(host, *port, self.tls.is_some());
                Ok(vec![tcp(&address, self.tls.clone(), access)?])
            }
            Place::Inherited(which) => self.adopt(which, &access),
        }
    }

    fn adopt(&mut self, which: &str, access: &Arc<Access>) -> Result<Vec<Listener>, ListenError> {
        if self.inherited.is_empty() && which.is_empty() {
            return Err(ListenError::NothingInherited);
        }
        let wanted =
            |socket: &Inherited| which.is_empty() || socket.name == which || which.parse() == Ok(socket.number);
        let (taken, left) = std::mem::take(&mut self.inherited).into_iter().partition(wanted);
        self.inherited = left;
        if Vec::is_empty(&taken) {
            return Err(ListenError::NotInherited(which.to_owned()));
        }
        let adopt = |Inherited { number, socket, .. }| {
            let address = format!("fd://{number}");
            let kind = adopt(socket, self.tls.clone()).map_err(|source| ListenError::Listen {
                address: address.clone(),
                source,
            })?;
            Ok(Listener {
                kind,
                address,
                access: Arc::clone(access),
                made: None,
            })
        };
        taken.into_iter().map(adopt).collect()
    }
}

fn unix(place: &UnixPlace, default_group: Option<&str>, access: Arc<Access>) -> Result<Listener, ListenError> {
    let path = &place.path;
    let shown = path.display().to_string();
    let failed = |source: io::Error| ListenError::Listen {
        address: format!("unix://{}", path.display()),
        source,
    };
    let group = socket_group(&shown, place.group.as_deref().or(default_group))?;
    // Where users are let in by number, the file need not keep anybody out.
    let default_mode = if access.users.is_some() { 0o666 } else { 0o660 };
    let mode = Mode::from_raw_mode(place.mode.unwrap_or(default_mode));
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
        rustix::fs::chmod(path, mode)?;
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    };
    let listener = secure().inspect_err(|_| drop(fs::remove_file(path))).map_err(failed)?;
    Ok(Listener {
        kind: Kind::Unix(listener),
        address: format!("unix://{shown}"),
        access,
        made: Some(path.clone()),
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

fn tcp(address: &str, tls: Option<Arc<Tls>>, access: Arc<Access>) -> Result<Listener, ListenError> {
    let failed = |source| ListenError::Listen {
        address: format!("tcp://{address}"),
        source,
    };
    let listener = StdTcpListener::bind(address).map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?;
    if tls.is_none() && !port.ip().is_loopback() {
        tracing::warn!("binding tcp://{port} without TLS gives root on this machine to everybody who can reach it");
    }
    listener.set_nonblocking(true).map_err(failed)?;
    let listener = TcpListener::from_std(listener).map_err(failed)?;
    Ok(Listener {
        kind: Kind::Tcp(listener, tls),
        address: format!("tcp://{port}"),
        access,
        made: None,
    })
}

fn adopt(socket: OwnedFd, tls: Option<Arc<Tls>>) -> io::Result<Kind> {
    let family = sockopt::socket_domain(&socket)?;
    if family == AddressFamily::UNIX {
        let listener = StdUnixListener::from(socket);
        listener.set_nonblocking(true)?;
        return Ok(Kind::Unix(UnixListener::from_std(listener)?));
    }
    let listener = StdTcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(Kind::Tcp(TcpListener::from_std(listener)?, tls))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

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
        let address = Address::unix(path.to_str().unwrap());
        let open = |address: &Address, group: Option<&str>| {
            let group = group.map(str::to_owned);
            let mut opening = Opening {
                group,
                ..Opening::default()
            };
            opening.open(address)
        };
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

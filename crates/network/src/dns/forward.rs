//! Questions for others: asked as they came, under an id and from a port of our own.
//!
//! A server that is silent, unreachable or declines is followed by the next one. An answer counts only when it comes
//! from whom we asked, has our id and repeats the question.
use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdUdpSocket},
    os::fd::{BorrowedFd, OwnedFd},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, connect, socket_with},
    rand::{GetRandomFlags, getrandom},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use crate::{dns::message, namespace::inside};

/// How long one server may think; Docker's.
const PATIENCE: Duration = Duration::from_secs(4);

/// For how long one that was silent is asked last.
const FORGIVEN: Duration = Duration::from_secs(30);

/// Whom to ask, and from where.
pub struct Servers<'a> {
    pub addresses: Vec<SocketAddr>,
    pub silent: &'a Silent,
    /// The namespace that they are asked from; our own when absent.
    pub namespace: Option<BorrowedFd<'a>>,
}

/// Servers that did not answer lately. Not every question has to wait for the same dead one.
#[derive(Debug, Default)]
pub struct Silent(Mutex<Vec<(SocketAddr, Instant)>>);

impl Silent {
    /// Writes down how it went with one; servers that are configured no more are forgotten with time.
    fn note(&self, server: SocketAddr, silent: bool) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(address, since)| *address != server && since.elapsed() < FORGIVEN);
        if silent {
            known.push((server, Instant::now()));
        }
    }

    /// Those who answer first, otherwise in their order.
    fn last(&self, mut servers: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = |server: &SocketAddr| {
            let mut known = known.iter();
            known.any(|(address, since)| address == server && since.elapsed() < FORGIVEN)
        };
        servers.sort_by_key(silent);
        servers
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// The first answer; of servers that only decline the last one's word. `None` when none said anything.
/// The answer has the query's id.
pub async fn ask(servers: &Servers<'_>, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let mut declined = None;
    for server in servers.silent.last(servers.addresses.clone()) {
        let answer = timeout(PATIENCE, exchange(servers, server, query, transport)).await;
        servers.silent.note(server, answer.is_err());
        let Ok(Ok(mut answer)) = answer else {
            continue;
        };
        if transport == Transport::Udp && message::is_truncated(&answer) {
            let whole = timeout(PATIENCE, exchange(servers, server, query, Transport::Tcp)).await;
            if let Ok(Ok(whole)) = whole {
                answer = whole;
            }
        }
        answer[..2].copy_from_slice(&query[..2]);
        if message::declines(&answer) {
            declined = Some(answer);
            continue;
        }
        return Some(answer);
    }
    declined
}

async fn exchange(
    servers: &Servers<'_>,
    server: SocketAddr,
    query: &[u8],
    transport: Transport,
) -> io::Result<Vec<u8>> {
    let mut id = [0; 2];
    getrandom(&mut id, GetRandomFlags::empty())?;
    let mut sent = Vec::with_capacity(query.len() + 2);
    sent.extend_from_slice(&u16::try_from(query.len()).map_err(io::Error::other)?.to_be_bytes());
    sent.extend_from_slice(query);
    sent[2..4].copy_from_slice(&id);
    match transport {
        Transport::Udp => over_udp(servers, server, &sent[2..], id).await,
        Transport::Tcp => over_tcp(servers, server, &sent, id).await,
    }
}

async fn over_udp(servers: &Servers<'_>, server: SocketAddr, sent: &[u8], id: [u8; 2]) -> io::Result<Vec<u8>> {
    let socket = servers.made_there(|| {
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = StdUdpSocket::bind(any)?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    })?;
    let socket = UdpSocket::from_std(socket)?;
    socket.send(sent).await?;
    loop {
        // Nobody there: that is an error of the socket's, and no packet.
        let ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
        if ready.is_error()
            && let Some(error) = socket.take_error()?
        {
            return Err(error);
        }
        match receive(&socket) {
            Ok(answer) if message::answers(&answer, sent, id) => return Ok(answer),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Takes what has arrived. The space for the largest packet is the stack's, and only while it is looked at.
fn receive(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    let mut buffer = [0; 65536];
    let length = socket.try_recv(&mut buffer)?;
    Ok(buffer[..length].to_vec())
}

async fn over_tcp(servers: &Servers<'_>, server: SocketAddr, sent: &[u8], id: [u8; 2]) -> io::Result<Vec<u8>> {
    let socket = servers.made_there(|| {
        let family = match server {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket: OwnedFd = socket_with(family, SocketType::STREAM, flags, None)?;
        match connect(&socket, &server) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
            Err(error) => Err(error.into()),
        }
    })?;
    let mut stream = TcpStream::from_std(socket.into())?;
    stream.writable().await?;
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    stream.write_all(sent).await?;
    let length = stream.read_u16().await?;
    let mut answer = Vec::new();
    // What is not there yet is not paid for yet.
    (&mut stream).take(length.into()).read_to_end(&mut answer).await?;
    if answer.len() < usize::from(length) || !message::answers(&answer, &sent[2..], id) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(answer)
}

impl Servers<'_> {
    fn made_there<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self.namespace {
            Some(namespace) => inside(namespace, work),
            None => work(),
        }
    }
}

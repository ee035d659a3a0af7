//! The proxy: forwards what the kernel cannot, from sockets on the host to the container.
//!
//! That is [`::1`], IPv6 to containers without IPv6, and the neighbours of containers on networks without inter-container
//! communication. The container sees the host's address. Everything else never comes here.
use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use corten_linux::datagram;
use rustix::{io::Errno, net::sockopt::set_socket_linger};
use tokio::{
    io::{Interest, copy_bidirectional},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

/// TCP connections that are forwarded at one time, for all containers together.
pub(super) const CONNECTIONS: usize = 4096;
/// Clients of one UDP port at one time.
const CLIENTS: usize = 1024;
/// How long a UDP client is remembered that says nothing and is told nothing (Docker's).
const UDP_IDLE: Duration = Duration::from_secs(90);
/// How long a container may take to answer a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Before the next try when the process has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);
const DATAGRAM: usize = 64 << 10;

/// A container's addresses.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Targets {
    pub ipv4: Option<IpAddr>,
    pub ipv6: Option<IpAddr>,
}

/// Where a socket leads, as of now.
#[derive(Clone)]
pub(super) struct Route {
    pub targets: Arc<Mutex<Targets>>,
    pub port: u16,
}

impl Route {
    fn target(&self, peer: SocketAddr) -> Option<SocketAddr> {
        let targets = *self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.choose(peer.ip(), self.port)
    }
}

/// Forwards connections until it is aborted; those that are open end with it.
pub(super) async fn tcp(listener: Arc<TcpListener>, route: Route, permits: Arc<Semaphore>) {
    let mut connections = JoinSet::new();
    loop {
        let permit = permits.clone().acquire_owned().await.expect("it is never closed");
        match listener.accept().await {
            Ok((stream, peer)) => {
                let target = route.target(peer);
                connections.spawn(async move {
                    forward(stream, target).await;
                    drop(permit);
                });
            }
            // Not a socket any more: the claim is gone.
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::NOTSOCK) => return,
                Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) => sleep(PAUSE).await,
                // A connection that was reset while it waited.
                _ => {}
            },
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn forward(mut client: TcpStream, target: Option<SocketAddr>) {
    let Some(mut container) = connect(target).await else {
        // A reset, as if nobody listened.
        let _ = set_socket_linger(&client, Some(Duration::ZERO));
        return;
    };
    let _ = client.set_nodelay(true);
    let _ = container.set_nodelay(true);
    // Either side may close its half and go on reading. An error ends both.
    let _ = copy_bidirectional(&mut client, &mut container).await;
}

async fn connect(target: Option<SocketAddr>) -> Option<TcpStream> {
    timeout(CONNECT, TcpStream::connect(target?)).await.ok()?.ok()
}

/// A client of a UDP port has a socket of its own towards the container, so that answers find back.
struct Client {
    socket: Arc<UdpSocket>,
    seen: Arc<Mutex<Instant>>,
}

/// Who asks, and at which address of ours: answers come from there.
type Asker = (SocketAddr, Option<IpAddr>);

type Clients = Arc<Mutex<HashMap<Asker, Client>>>;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forwards datagrams until it is aborted.
pub(super) async fn udp(socket: Arc<UdpSocket>, route: Route) {
    let clients = Clients::default();
    let mut answers = JoinSet::new();
    loop {
        // The buffer lives only while there is something to read: thousands of ports may wait.
        let ready = socket.readable().await;
        let mut datagram = vec![0; DATAGRAM];
        let received =
            ready.and_then(|()| socket.try_io(Interest::READABLE, || datagram::receive(socket.as_fd(), &mut datagram)));
        let asker = match received {
            Ok((length, peer, asked)) => {
                datagram.truncate(length);
                (peer, asked)
            }
            Err(error) if error.raw_os_error() == Some(Errno::NOTSOCK.raw_os_error()) => return,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            // What an earlier answer met on its way.
            Err(_) => continue,
        };
        while answers.try_join_next().is_some() {}
        let known = locked(&clients).get(&asker).map(|client| {
            *locked(&client.seen) = Instant::now();
            client.socket.clone()
        });
        let towards = match known {
            Some(towards) => Some(towards),
            None => match welcome(&clients, asker, &route).await {
                Some((towards, seen)) => {
                    let (host, clients) = (socket.clone(), clients.clone());
                    let container = towards.clone();
                    answers.spawn(async move {
                        answer(&host, asker, &container, &seen).await;
                        locked(&clients).remove(&asker);
                    });
                    Some(towards)
                }
                None => None,
            },
        };
        if let Some(towards) = towards {
            // Like on any wire, what cannot be delivered now is lost.
            let _ = towards.try_send(&datagram);
        }
    }
}

/// A socket for a new client; none when there are too many, or nowhere to go.
async fn welcome(clients: &Clients, asker: Asker, route: &Route) -> Option<(Arc<UdpSocket>, Arc<Mutex<Instant>>)> {
    if locked(clients).len() >= CLIENTS {
        return None;
    }
    let target = route.target(asker.0)?;
    let any = match target {
        SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0)).await.ok()?;
    socket.connect(target).await.ok()?;
    // Registered with the runtime, so that the first `try_send` below finds it writable.
    socket.writable().await.ok()?;
    let (socket, seen) = (Arc::new(socket), Arc::new(Mutex::new(Instant::now())));
    let client = Client {
        socket: socket.clone(),
        seen: seen.clone(),
    };
    locked(clients).insert(asker, client);
    Some((socket, seen))
}

/// Brings a client what the container answers, until both have been silent for a while.
async fn answer(host: &UdpSocket, (peer, asked): Asker, container: &UdpSocket, seen: &Mutex<Instant>) {
    loop {
        let silent_until = *locked(seen) + UDP_IDLE;
        let Ok(ready) = timeout(
            silent_until.saturating_duration_since(Instant::now()),
            container.readable(),
        )
        .await
        else {
            if locked(seen).elapsed() >= UDP_IDLE {
                return;
            }
            continue;
        };
        let mut datagram = Vec::with_capacity(DATAGRAM);
        match ready.and_then(|()| container.try_recv_buf(&mut datagram)) {
            Ok(_) => {
                *locked(seen) = Instant::now();
                let send = || datagram::send(host.as_fd(), &datagram, peer, asked);
                let _ = host.async_io(Interest::WRITABLE, send).await;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Nobody listens there yet.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(_) => return,
        }
    }
}

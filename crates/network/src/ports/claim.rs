//! A container's host ports, held until the claim is dropped.
//!
//! The kernel's translation takes what it can before it reaches the sockets here. The rest is forwarded by tasks; dropping
//! the claim closes the sockets at once, even those that a task is just using.
use std::{
    fs::File,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use corten_linux::socket::replace;
use tokio::{
    net::{TcpListener, UdpSocket},
    runtime::Handle,
    sync::Semaphore,
    task::AbortHandle,
};

use crate::{
    model::{Protocol, PublishedPort},
    ports::{
        proxy::{self, Route, Targets},
        publisher::Ledger,
    },
};

pub struct Claim {
    pub ports: Vec<PublishedPort>,
    /// Why some ports are not held by a socket ([`Publisher::reclaim`](crate::ports::publisher::Publisher::reclaim)).
    pub missing: Vec<String>,
    held: Mutex<Vec<Held>>,
    targets: Arc<Mutex<Targets>>,
    shared: Shared,
}

/// What all claims of a publisher have in common.
#[derive(Clone)]
pub(super) struct Shared {
    pub runtime: Handle,
    /// Does what reaches the sockets go on to the container?
    pub proxy: bool,
    pub ledger: Arc<Mutex<Ledger>>,
    /// Of connections that are forwarded at one time.
    pub permits: Arc<Semaphore>,
}

/// A socket on a host port.
struct Held {
    socket: Socket,
    protocol: Protocol,
    container_port: u16,
}

enum Socket {
    Idle(OwnedFd),
    Tcp(Arc<TcpListener>, AbortHandle),
    Udp(Arc<UdpSocket>, AbortHandle),
}

impl Claim {
    pub(super) fn new(shared: Shared) -> Claim {
        Claim {
            ports: Vec::new(),
            missing: Vec::new(),
            held: Mutex::default(),
            targets: Arc::default(),
            shared,
        }
    }

    pub(super) fn hold(&mut self, socket: OwnedFd, protocol: Protocol, container_port: u16) {
        self.held().push(Held {
            socket: Socket::Idle(socket),
            protocol,
            container_port,
        });
    }

    /// Forwards what reaches the sockets to the container's addresses, or to others than before. Without addresses, or
    /// where there shall be no proxy, connections are refused.
    pub fn serve(&self, target4: Option<IpAddr>, target6: Option<IpAddr>) {
        {
            let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
            if self.shared.proxy {
                (targets.ipv4, targets.ipv6) = (target4, target6);
            }
        }
        let _runtime = self.shared.runtime.enter();
        for held in self.held().iter_mut() {
            if let Err(error) = self.start(held) {
                tracing::warn!(port = held.container_port, "cannot forward a published port: {error}");
            }
        }
    }

    fn start(&self, held: &mut Held) -> io::Result<()> {
        let Socket::Idle(socket) = &held.socket else {
            return Ok(());
        };
        let route = Route {
            targets: self.targets.clone(),
            port: held.container_port,
        };
        let runtime = &self.shared.runtime;
        held.socket = match held.protocol {
            Protocol::Tcp => {
                let listener = Arc::new(TcpListener::from_std(socket.try_clone()?.into())?);
                let permits = self.shared.permits.clone();
                let task = runtime.spawn(proxy::tcp(listener.clone(), route, permits));
                Socket::Tcp(listener, task.abort_handle())
            }
            Protocol::Udp => {
                let socket = Arc::new(UdpSocket::from_std(socket.try_clone()?.into())?);
                let task = runtime.spawn(proxy::udp(socket.clone(), route));
                Socket::Udp(socket, task.abort_handle())
            }
            // Only the kernel forwards it.
            Protocol::Sctp => return Ok(()),
        };
        Ok(())
    }

    fn held(&self) -> MutexGuard<'_, Vec<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tasks that are aborted end a moment later; their sockets must not last that long.
fn close(held: Vec<Held>) {
    let mut nothing: Option<File> = None;
    for Held { socket, .. } in held {
        let (descriptor, task): (Arc<dyn AsFd>, _) = match socket {
            Socket::Idle(_) => continue,
            Socket::Tcp(listener, task) => (listener, task),
            Socket::Udp(socket, task) => (socket, task),
        };
        task.abort();
        if let Err(error) = close_now(descriptor.as_fd(), &mut nothing) {
            tracing::warn!("a host port is freed late: {error}");
        }
    }
}

fn close_now(descriptor: BorrowedFd, nothing: &mut Option<File>) -> io::Result<()> {
    let instead = match nothing {
        Some(file) => file,
        None => nothing.insert(File::open("/dev/null")?),
    };
    replace(descriptor, instead.as_fd())
}

impl Drop for Claim {
    fn drop(&mut self) {
        close(std::mem::take(&mut *self.held()));
        let mut ledger = self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        for port in &self.ports {
            ledger.free(port);
        }
    }
}

impl Targets {
    /// Where what comes from `peer` goes: an address of the same family if there is one.
    pub(super) fn choose(&self, peer: IpAddr, port: u16) -> Option<SocketAddr> {
        let address = match peer.to_canonical() {
            IpAddr::V4(_) => self.ipv4.or(self.ipv6),
            IpAddr::V6(_) => self.ipv6.or(self.ipv4),
        };
        address.map(|address| SocketAddr::new(address, port))
    }
}

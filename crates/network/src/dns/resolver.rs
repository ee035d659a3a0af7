//! The resolver: starts and ends the serving of containers.
//!
//! It holds a network namespace for as long as it serves it; who ends a container must say so with [`Resolver::stop`].
use std::{
    collections::HashMap,
    io,
    os::fd::BorrowedFd,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    net::{TcpListener, UdpSocket},
    runtime::Handle,
    task::AbortHandle,
};

use crate::{
    dns::{
        entrance::Entrance,
        lookup::View,
        names::Names,
        serve::{self, Client, Shared},
        upstream::HostServers,
    },
    error::{Error, Result},
};

#[derive(Debug, Clone)]
pub struct Config {
    /// The host's resolver configuration: `/etc/resolv.conf`. Its servers are asked for containers that name none.
    pub resolv_conf: PathBuf,
}

#[derive(Debug)]
pub struct Resolver {
    runtime: Handle,
    shared: Arc<Shared>,
    /// By the container's id.
    served: Mutex<HashMap<String, Served>>,
}

#[derive(Debug)]
struct Served {
    client: Arc<Client>,
    task: AbortHandle,
}

/// The serving ends with it, and the sockets are closed.
impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Resolver {
    /// The tasks run on `runtime`, whose threads must be in the host's namespace.
    pub fn open(runtime: Handle, config: Config) -> Resolver {
        Resolver {
            runtime,
            shared: Arc::new(Shared::new(HostServers::new(config.resolv_conf))),
            served: Mutex::default(),
        }
    }

    /// Who is called what.
    pub fn names(&self) -> &Names {
        &self.shared.names
    }

    /// Makes names work in a container's namespace; in place of what an earlier daemon left there, too. The loopback
    /// interface must be up.
    pub fn serve(&self, container: &str, namespace: BorrowedFd, view: View) -> Result<()> {
        let failed = |error: io::Error| Error::system("cannot serve names inside the container").because(error);
        let entrance = Entrance::open(namespace).map_err(failed)?;
        let client = Arc::new(Client::new(namespace.try_clone_to_owned().map_err(failed)?, view));
        let (udp, tcp) = {
            let _inside = self.runtime.enter();
            (
                UdpSocket::from_std(entrance.udp).map_err(failed)?,
                TcpListener::from_std(entrance.tcp).map_err(failed)?,
            )
        };
        let task = serve::serve(Arc::clone(&self.shared), Arc::clone(&client), udp, tcp);
        let maker = entrance.maker;
        let task = self.runtime.spawn(async move {
            drop(maker);
            task.await;
        });
        let task = task.abort_handle();
        self.served().insert(container.to_owned(), Served { client, task });
        Ok(())
    }

    /// Changes what a container sees: it joined or left a network. Nothing happens where it is not served.
    pub fn update(&self, container: &str, view: View) {
        if let Some(served) = self.served().get(container) {
            served.client.set_view(view);
        }
    }

    /// Is a container served?
    pub fn serves(&self, container: &str) -> bool {
        self.served().contains_key(container)
    }

    /// Lets go of a container's namespace.
    pub fn stop(&self, container: &str) {
        drop(self.served().remove(container));
    }

    fn served(&self) -> MutexGuard<'_, HashMap<String, Served>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

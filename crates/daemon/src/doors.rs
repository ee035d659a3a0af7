//! All doors of a daemon: opened together, served side by side, closed together.
use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::Router;
use corten_api::transport::{DEFAULT_SOCKET, DOCKER_SOCKET};
use tokio::{sync::watch, task::JoinSet, time::timeout};

use crate::{
    config::load::{Config, Limits},
    daemon::chain,
    docker::server::{self, Service},
    listen::{
        address::{Address, Place},
        listener::{self, ListenError, Listener, Opening},
        tls::Tls,
    },
    metrics::Metrics,
};

/// How long requests that are being answered may take when the daemon ends.
const PATIENCE: Duration = Duration::from_secs(10);

/// Open doors. Dropping them cuts everybody off.
pub struct Doors {
    listeners: Vec<Listener>,
    tls: Option<Arc<Tls>>,
    limits: Limits,
    close: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// Would the doors open, as far as can be told without opening them?
pub fn check(config: &Config) -> Result<(), ListenError> {
    for host in &config.doors.hosts {
        Address::parse(host)?;
    }
    config.doors.tls.as_ref().map(Tls::load).transpose()?;
    Ok(())
}

impl Doors {
    /// The sockets that were asked for; else our own, and Docker's where nobody else has it.
    pub fn open(config: &Config) -> Result<Doors, ListenError> {
        let tls = config.doors.tls.as_ref().map(Tls::load).transpose()?.map(Arc::new);
        let mut opening = Opening {
            group: config.doors.group.clone(),
            tls: tls.clone(),
            inherited: listener::inherited(),
        };
        let mut listeners = Vec::new();
        // Those with a number or a name first: `fd://` takes what is left.
        let addresses: Result<Vec<_>, _> = config.doors.hosts.iter().map(|host| Address::parse(host)).collect();
        let mut addresses = addresses?;
        addresses.sort_by_key(|address| matches!(&address.place, Place::Inherited(which) if which.is_empty()));
        for address in &addresses {
            listeners.extend(opening.open(address)?);
        }
        if addresses.is_empty() {
            listeners.extend(default_sockets(&mut opening)?);
        }
        Ok(Doors {
            listeners,
            tls,
            limits: config.doors.limits,
            close: watch::channel(false).0,
            tasks: JoinSet::new(),
        })
    }

    /// What `/info` has to warn of.
    pub fn warnings(&self) -> Vec<String> {
        self.listeners.iter().filter_map(Listener::warning).collect()
    }

    pub fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.clone()
    }

    /// Lets clients in, from now on.
    pub fn serve(&mut self, router: Router, metrics: &Arc<Metrics>) {
        for listener in std::mem::take(&mut self.listeners) {
            self.spawn(listener, router.clone(), Arc::clone(metrics));
        }
    }

    /// Another door, in the clear, for numbers only. Its clients are not counted among the API's.
    pub fn serve_metrics(&mut self, address: &str, router: Router) -> Result<(), ListenError> {
        let address = Address::parse(&format!("tcp://{address}"))?;
        for listener in Opening::default().open(&address)? {
            self.spawn(listener, router.clone(), Arc::default());
        }
        Ok(())
    }

    fn spawn(&mut self, listener: Listener, router: Router, metrics: Arc<Metrics>) {
        tracing::info!("API listen on {}", listener.address);
        let service = Arc::new(Service {
            router,
            access: Arc::clone(&listener.access),
            limits: self.limits,
        });
        self.tasks
            .spawn(serve(listener, service, metrics, self.close.subscribe()));
    }

    /// Lets nobody in any more; requests that are being answered get to finish, within bounds.
    pub async fn close(mut self) {
        let _ = self.close.send(true);
        let finished = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(PATIENCE, finished).await.is_err() {
            tracing::warn!("some requests took too long and are cut off");
        }
        self.tasks.shutdown().await;
    }
}

fn default_sockets(opening: &mut Opening) -> Result<Vec<Listener>, ListenError> {
    let mut listeners = opening.open(&Address::unix(DEFAULT_SOCKET))?;
    if listener::is_taken(Path::new(DOCKER_SOCKET)) {
        tracing::info!("{DOCKER_SOCKET} belongs to another engine: serving {DEFAULT_SOCKET} only");
        return Ok(listeners);
    }
    match opening.open(&Address::unix(DOCKER_SOCKET)) {
        Ok(found) => listeners.extend(found),
        Err(error) => tracing::warn!("not serving {DOCKER_SOCKET}: {}", chain(&error)),
    }
    Ok(listeners)
}

/// Takes clients in at one door until the daemon closes, then lets those that are being answered finish.
async fn serve(listener: Listener, service: Arc<Service>, metrics: Arc<Metrics>, mut closing: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                // A limit for each door: who fills one does not close the others.
                Ok(client) if connections.len() >= service.limits.connections => {
                    metrics.refused.fetch_add(1, Ordering::Relaxed);
                    client.refuse();
                }
                Ok(client) => {
                    let counted = Counted::new(Arc::clone(&metrics));
                    let served = server::serve(client, Arc::clone(&service), closing.clone());
                    connections.spawn(async move {
                        let _counted = counted;
                        served.await;
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: waiting gives connections time to end.
                    tracing::error!("cannot accept a client on {}: {error}", listener.address);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = server::closed(&mut closing) => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// One of the connections that are counted.
struct Counted(Arc<Metrics>);

impl Counted {
    fn new(metrics: Arc<Metrics>) -> Counted {
        metrics.connections.fetch_add(1, Ordering::Relaxed);
        Counted(metrics)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

//! Flows at the moment when ports are published or taken back, and when who had them is gone.
//!
//! Translation is decided by a flow's first packet. Without this, a client that sends datagrams all the time would go on to
//! the container that had the port before, or to the host after the port was published; and one that writes on a
//! connection to a container that is gone would wait for an answer that nobody gives.
use std::{
    collections::{BTreeSet, HashMap},
    io,
    net::IpAddr,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::Duration,
};

use corten_linux::netlink::{
    conntrack::{Flow, Forgotten, forget_answered_by, forget_udp},
    socket::{Protocol as Netlink, Socket},
};

use crate::{firewall::model::PortRule, model::Protocol};

type Ports<'a> = HashMap<u16, Vec<&'a PortRule>>;

fn udp(rules: &[PortRule]) -> Ports<'_> {
    let mut ports = Ports::new();
    for rule in rules.iter().filter(|rule| rule.protocol == Protocol::Udp) {
        ports.entry(rule.host_port).or_default().push(rule);
    }
    ports
}

/// Forgets what the host itself answered on ports that are a container's now.
pub(super) fn published(socket: &mut Socket, rules: &[PortRule]) {
    forget(socket, &udp(rules), |rule, flow| {
        let here = rule.host.is_unspecified() || rule.host == flow.destination.ip();
        let untouched = flow.reply_source == flow.destination && flow.reply_destination == flow.source;
        here && untouched
    });
}

/// Forgets what went to containers by ports that are theirs no more.
pub(super) fn unpublished(socket: &mut Socket, rules: &[PortRule]) {
    forget(socket, &udp(rules), |rule, flow| flow.reply_source == rule.target);
}

/// Forgets what was translated to addresses that nobody has any more: the next packet of a connection reaches whoever has
/// the port now, or the host, and is answered with a reset. A thread does it, for the kernel's table is large, and to look
/// through it takes milliseconds that no container's end should last longer.
pub struct Forgetter {
    /// Absent at the end.
    gone: Option<Sender<IpAddr>>,
    thread: Option<JoinHandle<()>>,
}

impl Forgetter {
    /// In the calling thread's network namespace.
    pub fn start() -> io::Result<Forgetter> {
        let (gone, queue) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("flows".to_owned())
            .spawn(move || forget_gone(&queue))?;
        Ok(Forgetter {
            gone: Some(gone),
            thread: Some(thread),
        })
    }

    pub fn abandoned(&self, addresses: impl IntoIterator<Item = IpAddr>) {
        let Some(gone) = &self.gone else { return };
        for address in addresses {
            // Without the thread connections end by themselves, later.
            let _ = gone.send(address);
        }
    }
}

impl Drop for Forgetter {
    fn drop(&mut self) {
        drop(self.gone.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread does: all that has come while it was busy is one look. Connections that are in a flow table leave it with
/// their container's interface, which the kernel takes away in its own time: they are looked for again.
fn forget_gone(queue: &Receiver<IpAddr>) {
    const AGAIN: Duration = Duration::from_millis(200);
    const LOOKS: usize = 20;
    let translated = |flow: &Flow| flow.reply_source != flow.destination;
    while let Ok(first) = queue.recv() {
        let mut addresses = BTreeSet::from([first]);
        for _ in 0..LOOKS {
            addresses.extend(queue.try_iter());
            let forgotten = Socket::open(Netlink::Netfilter).and_then(|mut socket| {
                forget_answered_by(&mut socket, &addresses, translated).map_err(io::Error::from)
            });
            match forgotten {
                Ok(Forgotten { held: 0, .. }) => break,
                Ok(_) => match queue.recv_timeout(AGAIN) {
                    Err(RecvTimeoutError::Disconnected) => return,
                    more => addresses.extend(more),
                },
                Err(error) => {
                    tracing::warn!("connections to containers that are gone are not reset: {error}");
                    break;
                }
            }
        }
    }
}

fn forget(socket: &mut Socket, ports: &Ports, chosen: impl Fn(&PortRule, &Flow) -> bool) {
    if ports.is_empty() {
        return;
    }
    let result = forget_udp(socket, |flow| {
        let rules = ports.get(&flow.destination.port());
        rules.is_some_and(|rules| rules.iter().any(|rule| chosen(rule, flow)))
    });
    if let Err(refusal) = result {
        tracing::warn!("UDP flows of changed ports keep their way for a while: {refusal}");
    }
}

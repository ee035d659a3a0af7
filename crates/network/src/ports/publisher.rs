//! The publisher: which host ports are whose.
//!
//! A claim takes ports before anything else of a container exists, and frees them when it is dropped. That a port is free
//! is the kernel's word: a socket is bound to it for as long as the claim lives.
use std::{
    collections::HashMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    path::Path,
    sync::{Arc, MutexGuard, PoisonError},
};

use rustix::io::Errno;
use tokio::{runtime::Handle, sync::Semaphore};

use crate::{
    error::{Error, Result},
    model::{PortRequest, Protocol, PublishedPort},
    ports::{
        claim::{Claim, Shared},
        proxy::CONNECTIONS,
        socket::{self, Hold},
    },
};

/// Where clients of one family reach a container's ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Nowhere,
    /// On the host's addresses.
    Host,
    /// On the container's own address alone: no port of the host is taken.
    Routed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Families {
    pub ipv4: Way,
    pub ipv6: Way,
}

impl Families {
    /// What a wish takes on the host, and at which addresses it is written down without a port of the host's.
    fn places(self, wished: Option<IpAddr>) -> (Option<Hold>, Vec<IpAddr>) {
        let (any4, any6) = (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
        let (own, any) = match wished {
            Some(IpAddr::V4(_)) => (self.ipv4, any4),
            Some(IpAddr::V6(_)) => (self.ipv6, any6),
            None => {
                let hold = match (self.ipv4 == Way::Host, self.ipv6 == Way::Host) {
                    (true, true) => Some(Hold::Every),
                    (true, false) => Some(Hold::One(any4)),
                    (false, true) => Some(Hold::One(any6)),
                    (false, false) => None,
                };
                let ways = [(self.ipv4, any4), (self.ipv6, any6)].into_iter();
                let routed = ways.filter_map(|(way, any)| (way == Way::Routed).then_some(any));
                return (hold, routed.collect());
            }
        };
        match own {
            Way::Routed => (None, vec![any]),
            _ => (wished.map(Hold::One), Vec::new()),
        }
    }
}

pub struct Publisher {
    shared: Shared,
}

/// Who among us has what.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    taken: HashMap<(Protocol, u16), Vec<IpAddr>>,
    /// Where the search for an ephemeral port goes on, so that a port just freed is not given to somebody else at once.
    next: u16,
}

impl Ledger {
    fn is_taken(&self, protocol: Protocol, port: u16, addresses: &[IpAddr]) -> bool {
        self.taken
            .get(&(protocol, port))
            .is_some_and(|held| meet(held, addresses))
    }

    pub(super) fn free(&mut self, port: &PublishedPort) {
        let key = (port.protocol, port.host_port);
        if let Some(held) = self.taken.get_mut(&key) {
            if let Some(index) = held.iter().position(|address| *address == port.host_ip) {
                held.swap_remove(index);
            }
            if held.is_empty() {
                self.taken.remove(&key);
            }
        }
    }
}

/// One port of a container's, on one port of the host's: what was asked for on several addresses alike.
struct Wish<'a> {
    /// The first of them.
    request: &'a PortRequest,
    /// None of which meets another.
    holds: Vec<Hold>,
}

impl<'a> Wish<'a> {
    fn gather(requests: &'a [PortRequest], families: Families) -> Vec<Wish<'a>> {
        let mut wishes: Vec<Wish> = Vec::with_capacity(requests.len());
        let mut alike: HashMap<_, Vec<usize>> = HashMap::new();
        for request in requests {
            let (Some(hold), _) = families.places(request.host_ip) else {
                continue;
            };
            let key = (request.protocol, request.container_port, &request.host_ports);
            let known = alike.entry(key).or_default();
            match known.iter().find(|&&index| wishes[index].has_room_for(hold)) {
                Some(&index) => wishes[index].holds.push(hold),
                None => {
                    known.push(wishes.len());
                    wishes.push(Wish {
                        request,
                        holds: vec![hold],
                    });
                }
            }
        }
        wishes
    }

    fn has_room_for(&self, hold: Hold) -> bool {
        let own = addresses(hold);
        !self.holds.iter().any(|&other| meet(&addresses(other), &own))
    }

    /// Absent where any will do.
    fn host_ports(&self) -> Option<&RangeInclusive<u16>> {
        self.request.host_ports.as_ref().filter(|ports| **ports != (0..=0))
    }

    /// How much of a choice there is: none, some, any.
    fn choice(&self) -> u8 {
        match self.host_ports() {
            Some(ports) if ports.start() == ports.end() => 0,
            Some(_) => 1,
            None => 2,
        }
    }
}

/// Why a port cannot be had.
enum Denied {
    /// A container of ours has it.
    Ours,
    Host(Errno),
}

impl Publisher {
    /// Sockets are made in the network namespace of the thread that claims; what they receive is forwarded in `runtime`,
    /// whose threads must be in the same namespace, or refused without `proxy` (`userland-proxy`).
    pub fn new(runtime: Handle, proxy: bool) -> Publisher {
        Publisher {
            shared: Shared {
                runtime,
                proxy,
                ledger: Arc::default(),
                permits: Arc::new(Semaphore::new(CONNECTIONS)),
            },
        }
    }

    /// Takes every port that is asked for, or none. What has no choice goes first, and wishes that differ in nothing but
    /// their address get one port.
    pub fn claim(&self, requests: &[PortRequest], mut families: Families) -> Result<Claim> {
        let mut claim = Claim::new(self.shared.clone());
        if families.ipv6 == Way::Host && !socket::has_ipv6() {
            families.ipv6 = Way::Nowhere;
        }
        let mut wishes = Wish::gather(requests, families);
        wishes.sort_by_key(Wish::choice);
        for wish in &wishes {
            self.claim_one(&mut claim, wish)?;
        }
        for request in requests {
            let (_, routed) = families.places(request.host_ip);
            claim.ports.extend(routed.into_iter().map(|any| PublishedPort {
                container_port: request.container_port,
                protocol: request.protocol,
                host_ip: any,
                host_port: 0,
            }));
        }
        Ok(claim)
    }

    fn claim_one(&self, claim: &mut Claim, wish: &Wish) -> Result<()> {
        let candidates = match wish.host_ports() {
            Some(ports) => ports.clone(),
            None => ephemeral_ports(),
        };
        let mut ledger = self.ledger();
        let start = match wish.host_ports() {
            None if candidates.contains(&ledger.next) => ledger.next,
            _ => *candidates.start(),
        };
        let mut last = None;
        for port in (start..=*candidates.end()).chain(*candidates.start()..start) {
            match self.try_port(&mut ledger, claim, wish, port) {
                Ok(()) => {
                    if wish.host_ports().is_none() {
                        ledger.next = port.wrapping_add(1);
                    }
                    return Ok(());
                }
                Err((hold, denied @ (Denied::Ours | Denied::Host(Errno::ADDRINUSE)))) => {
                    last = Some((port, hold, denied));
                }
                Err((hold, denied)) => return Err(refusal(wish.request, hold, port, &denied)),
            }
        }
        let nothing = (*candidates.start(), wish.holds[0], Denied::Host(Errno::ADDRINUSE));
        let (port, hold, denied) = last.unwrap_or(nothing);
        if candidates.start() == candidates.end() {
            return Err(refusal(wish.request, hold, port, &denied));
        }
        Err(Error::conflict(format!(
            "Bind for {} failed: all ports are allocated",
            range_text(hold, &candidates)
        )))
    }

    /// One port on all of a wish's addresses; otherwise which of them cannot be had.
    fn try_port(&self, ledger: &mut Ledger, claim: &mut Claim, wish: &Wish, port: u16) -> Result<(), (Hold, Denied)> {
        let request = wish.request;
        let mut sockets = Vec::with_capacity(wish.holds.len());
        for &hold in &wish.holds {
            if ledger.is_taken(request.protocol, port, &addresses(hold)) {
                return Err((hold, Denied::Ours));
            }
            let socket = socket::hold(request.protocol, hold, port);
            sockets.extend(socket.map_err(|errno| (hold, Denied::Host(errno)))?);
        }
        for &hold in &wish.holds {
            self.record(ledger, claim, request, &addresses(hold), port);
        }
        for socket in sockets {
            claim.hold(socket, request.protocol, request.container_port);
        }
        Ok(())
    }

    fn record(&self, ledger: &mut Ledger, claim: &mut Claim, request: &PortRequest, addresses: &[IpAddr], port: u16) {
        ledger
            .taken
            .entry((request.protocol, port))
            .or_default()
            .extend(addresses);
        claim.ports.extend(addresses.iter().map(|address| PublishedPort {
            container_port: request.container_port,
            protocol: request.protocol,
            host_ip: *address,
            host_port: port,
        }));
    }

    /// Takes the ports of a container that already runs, after a restart. What somebody else has taken meanwhile is not
    /// held, which [`Claim::missing`] tells; the kernel's translation goes on without a socket.
    pub fn reclaim(&self, ports: &[PublishedPort]) -> Claim {
        let mut claim = Claim::new(self.shared.clone());
        let mut ledger = self.ledger();
        let (routed, held): (Vec<PublishedPort>, Vec<PublishedPort>) = ports.iter().partition(|port| port.is_routed());
        claim.ports = routed;
        for (request, hold, port) in group(&held) {
            let addresses = addresses(hold);
            match socket::hold(request.protocol, hold, port) {
                Ok(Some(socket)) => claim.hold(socket, request.protocol, request.container_port),
                Ok(None) => {}
                Err(errno) => claim
                    .missing
                    .push(refusal(&request, hold, port, &Denied::Host(errno)).to_string()),
            }
            self.record(&mut ledger, &mut claim, &request, &addresses, port);
        }
        drop(ledger);
        claim
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Is an address among these and among those, or all of its family?
fn meet(these: &[IpAddr], those: &[IpAddr]) -> bool {
    let meets = |one: &IpAddr, other: &IpAddr| {
        one.is_ipv4() == other.is_ipv4() && (one == other || one.is_unspecified() || other.is_unspecified())
    };
    these.iter().any(|one| those.iter().any(|other| meets(one, other)))
}

fn addresses(hold: Hold) -> Vec<IpAddr> {
    match hold {
        Hold::One(address) => vec![address],
        Hold::Every => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
    }
}

/// The wishes that ports came from: `0.0.0.0` and `::` of the same port were one.
fn group(ports: &[PublishedPort]) -> Vec<(PortRequest, Hold, u16)> {
    let any4 = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let any6 = IpAddr::from(Ipv6Addr::UNSPECIFIED);
    let twin = |port: &PublishedPort, host_ip| ports.contains(&PublishedPort { host_ip, ..*port });
    ports
        .iter()
        .filter_map(|port| {
            let hold = match port.host_ip {
                address if address == any4 && twin(port, any6) => Hold::Every,
                address if address == any6 && twin(port, any4) => return None,
                address => Hold::One(address),
            };
            let request = PortRequest {
                protocol: port.protocol,
                container_port: port.container_port,
                host_ip: None,
                host_ports: None,
            };
            Some((request, hold, port.host_port))
        })
        .collect()
}

/// `net.ipv4.ip_local_port_range` of this namespace; Docker's own range where it cannot be read.
fn ephemeral_ports() -> RangeInclusive<u16> {
    let read = |path: &Path| {
        let text = fs::read_to_string(path).ok()?;
        let mut numbers = text.split_whitespace().map(str::parse::<u16>);
        Some(numbers.next()?.ok()?..=numbers.next()?.ok()?)
    };
    read(Path::new("/proc/sys/net/ipv4/ip_local_port_range"))
        .filter(|range| !range.is_empty() && *range.start() > 0)
        .unwrap_or(49153..=65535)
}

fn shown(hold: Hold) -> String {
    match hold {
        Hold::One(IpAddr::V6(address)) => format!("[{address}]"),
        Hold::One(IpAddr::V4(address)) => address.to_string(),
        Hold::Every => Ipv4Addr::UNSPECIFIED.to_string(),
    }
}

fn range_text(hold: Hold, ports: &RangeInclusive<u16>) -> String {
    format!("{}:{}-{}", shown(hold), ports.start(), ports.end())
}

/// In Docker's words.
fn refusal(request: &PortRequest, hold: Hold, port: u16, denied: &Denied) -> Error {
    let address = shown(hold);
    let errno = match denied {
        Denied::Ours => return Error::conflict(format!("Bind for {address}:{port} failed: port is already allocated")),
        Denied::Host(errno) => *errno,
    };
    let protocol = request.protocol.name();
    let doing = format!("failed to bind host port {address}:{port}/{protocol}");
    match errno {
        Errno::ADDRINUSE => Error::conflict(format!("{doing}: address already in use")),
        Errno::ADDRNOTAVAIL => Error::conflict(format!("{doing}: cannot assign requested address")),
        Errno::MFILE => Error::system(format!(
            "{doing}: the daemon has as many open files as it may (RLIMIT_NOFILE), and each published port is one: raise \
             the limit (systemd: LimitNOFILE=)"
        )),
        errno => Error::system(doing).because(std::io::Error::from(errno)),
    }
}

//! Forwarding: packets pass between containers and the world, and between nobody else.
//!
//! A host that does not forward (`ip_forward` is 0) is not made a router. Interfaces of ours forward, and so do its other
//! ones, for a packet's way in is what the kernel asks about; which of those forward only because of us goes to the
//! firewall before they do, so that they do it for our networks only. IPv6 knows such a switch since Linux 6.17; before,
//! the whole host has to forward, and goes on to learn its own routes from its routers (`accept_ra` 2).
//! Interfaces that appear later are opened by a thread that follows the kernel's news.
use std::{
    collections::{BTreeMap, HashSet},
    io, mem,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use corten_linux::netlink::{
    route::{
        list::{self, Link},
        watch::{Event, Group, Watch},
    },
    socket::{Protocol, Socket},
};
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::Errno,
};

use crate::{
    error::{Error, Result},
    firewall::model::Opened,
    sysctl,
};

/// Guards interfaces that are about to forward; what it is told replaces what it was told before.
pub type Guard = Box<dyn FnMut(&Opened) -> Result<()> + Send>;

/// Told of interfaces that are gone, or that any may be; was one of them made anew?
pub type Lost = Box<dyn FnMut(Option<&[String]>) -> bool + Send>;

/// Told which interfaces, by index, are new, changed or (`None`) gone; that any may be, where nothing is said.
pub type Changed = Box<dyn FnMut(Option<&BTreeMap<u32, Option<Link>>>) + Send>;

/// Who is told what.
pub struct Listeners {
    pub guard: Guard,
    pub lost: Lost,
    pub changed: Changed,
}

/// The host's forwarding, followed until this is dropped. What was opened stays open: containers outlive the daemon.
pub struct Forwarding {
    state: Arc<Mutex<State>>,
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl Forwarding {
    /// Begins to follow the calling thread's network namespace. `owner` is whose bridges are ours, `before` what an earlier
    /// daemon opened. Nothing changes before the first [`Forwarding::enable`].
    pub fn open(owner: &str, before: &Opened, listeners: Listeners) -> Result<Forwarding> {
        let way = if has_single_ipv6() { Way::Single } else { Way::Global };
        Forwarding::open_by(way, owner, before, listeners)
    }

    fn open_by(way: Way, owner: &str, before: &Opened, listeners: Listeners) -> Result<Forwarding> {
        let Listeners { guard, lost, changed } = listeners;
        let failed = |error: io::Error| Error::system("cannot follow the host's interfaces").because(error);
        let watch = Watch::open(&[Group::Link, Group::Ipv4Settings, Group::Ipv6Settings]).map_err(failed)?;
        let state = State {
            socket: Socket::open(Protocol::Route).map_err(failed)?,
            guard,
            owner: owner.to_owned(),
            bridges: [HashSet::new(), HashSet::new()],
            ways: [Way::Single, way],
            opened: [BTreeMap::new(), BTreeMap::new()],
            before: [&before.ipv4, &before.ipv6].map(|names| names.iter().cloned().collect()),
            switched_all: !before.ipv6.is_empty(),
        };
        let state = Arc::new(Mutex::new(state));
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|error| failed(error.into()))?;
        let stopped = stop.try_clone().map_err(failed)?;
        let thread = thread::Builder::new().name("forwarding".to_owned()).spawn({
            let state = Arc::clone(&state);
            move || follow(watch, &stopped, &state, lost, changed)
        });
        let thread = Some(thread.map_err(failed)?);
        Ok(Forwarding { state, stop, thread })
    }

    /// Lets a bridge's packets through, and those to it from all other interfaces of the host.
    pub fn enable(&self, bridge: &str, ipv4: bool, ipv6: bool) -> Result<()> {
        let mut state = lock(&self.state);
        for (family, wanted) in [(Family::Ipv4, ipv4), (Family::Ipv6, ipv6)] {
            if wanted {
                state.bridges[family as usize].insert(bridge.to_owned());
            }
        }
        state.look_around()
    }

    /// A bridge is gone.
    pub fn forget(&self, bridge: &str) {
        for bridges in &mut lock(&self.state).bridges {
            bridges.remove(bridge);
        }
    }

    /// Which interfaces forward only because of us.
    pub fn opened(&self) -> Opened {
        lock(&self.state).report()
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    const BOTH: [Family; 2] = [Family::Ipv4, Family::Ipv6];

    /// The switch of one interface.
    fn switch(self, interface: &str) -> String {
        match self {
            Family::Ipv4 => format!("ipv4/conf/{interface}/forwarding"),
            Family::Ipv6 => format!("ipv6/conf/{interface}/force_forwarding"),
        }
    }

    /// The switch of the whole host.
    fn global_switch(self) -> &'static str {
        match self {
            Family::Ipv4 => "ipv4/ip_forward",
            Family::Ipv6 => "ipv6/conf/all/forwarding",
        }
    }
}

/// How a family is made to forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// One interface at a time.
    Single,
    /// All or nothing.
    Global,
}

/// Can IPv6 forward from one interface (6.17)?
fn has_single_ipv6() -> bool {
    matches!(sysctl::read("ipv6/conf/default/force_forwarding"), Ok(Some(_)))
}

/// By family where there are two.
struct State {
    socket: Socket,
    guard: Guard,
    owner: String,
    /// Ours that forward.
    bridges: [HashSet<String>; 2],
    ways: [Way; 2],
    /// Interfaces that forward only because of us: index and name, for names change.
    opened: [BTreeMap<u32, String>; 2],
    /// Names of those that an earlier daemon opened.
    before: [HashSet<String>; 2],
    /// It was us who made the whole host forward IPv6.
    switched_all: bool,
}

impl State {
    /// Looks at everything: bridges of ours forward, and so do all other interfaces.
    fn look_around(&mut self) -> Result<()> {
        let links = list::links(&mut self.socket)
            .map_err(|refusal| Error::system("cannot list the host's interfaces").because(refusal))?;
        for opened in &mut self.opened {
            opened.retain(|index, _| links.iter().any(|link| link.index == *index));
        }
        for family in Family::BOTH {
            if self.ways[family as usize] == Way::Single {
                for bridge in &self.bridges[family as usize] {
                    sysctl::write_if_there(&family.switch(bridge), "1").map_err(cannot_open)?;
                }
            }
        }
        self.consider(&links)
    }

    /// Opens those of `links` that should be and are not.
    fn consider(&mut self, links: &[Link]) -> Result<()> {
        let uplinks: Vec<_> = links.iter().filter(|link| self.is_uplink(link)).collect();
        let mut next = self.opened.clone();
        let mut switches = Vec::new();
        for family in Family::BOTH {
            if self.bridges[family as usize].is_empty() {
                continue;
            }
            let opened = &mut next[family as usize];
            let everything = sysctl::read(family.global_switch()).map_err(cannot_open)?;
            let ours = self.ways[family as usize] == Way::Global && self.switched_all;
            match (self.ways[family as usize], everything) {
                // The kernel lacks the family.
                (_, None) => continue,
                // Somebody made the host a router, and means it.
                (_, Some(1)) if !ours => opened.clear(),
                (Way::Global, state) => {
                    opened.extend(uplinks.iter().map(|link| (link.index, link.name.clone())));
                    if state == Some(0) {
                        switches.push(family.global_switch().to_owned());
                    }
                }
                (Way::Single, _) => {
                    let before = &self.before[family as usize];
                    for link in &uplinks {
                        open_one(family, link, before, opened, &mut switches).map_err(cannot_open)?;
                    }
                }
            }
        }
        self.commit(next, &switches)
    }

    /// The firewall first, then the switches.
    fn commit(&mut self, next: [BTreeMap<u32, String>; 2], switches: &[String]) -> Result<()> {
        if next != self.opened {
            let previous = mem::replace(&mut self.opened, next);
            let report = self.report();
            if let Err(error) = (self.guard)(&report) {
                self.opened = previous;
                return Err(error);
            }
        }
        for switch in switches {
            if switch == Family::Ipv6.global_switch() {
                keep_learning_routes(&mut self.socket).map_err(cannot_open)?;
                self.switched_all = true;
            }
            sysctl::write_if_there(switch, "1").map_err(cannot_open)?;
        }
        Ok(())
    }

    /// Does the world's traffic come through it? Ports of bridges and bonds are none: their master is.
    fn is_uplink(&self, link: &Link) -> bool {
        let named = self.bridges.iter().any(|bridges| bridges.contains(&link.name));
        let ours = named || link.alias.as_deref() == Some(&self.owner);
        link.up && !link.loopback && link.master.is_none() && !ours
    }

    fn report(&self) -> Opened {
        let [ipv4, ipv6] = self.opened.each_ref().map(|opened| opened.values().cloned().collect());
        Opened { ipv4, ipv6 }
    }
}

fn open_one(
    family: Family,
    link: &Link,
    before: &HashSet<String>,
    opened: &mut BTreeMap<u32, String>,
    switches: &mut Vec<String>,
) -> io::Result<()> {
    let switch = family.switch(&link.name);
    let Some(state) = sysctl::read(&switch)? else {
        return Ok(());
    };
    if state == 0 {
        switches.push(switch);
    } else if !opened.contains_key(&link.index) && !before.contains(&link.name) {
        // It forwarded before we came.
        return Ok(());
    }
    opened.insert(link.index, link.name.clone());
    Ok(())
}

/// A router does not listen to routers, unless it is told to.
fn keep_learning_routes(socket: &mut Socket) -> io::Result<()> {
    let links = list::links(socket).map_err(io::Error::from)?;
    let names = links.iter().map(|link| link.name.as_str());
    for name in names.chain(["default"]) {
        let switch = format!("ipv6/conf/{name}/accept_ra");
        let forwarding = sysctl::read(&format!("ipv6/conf/{name}/forwarding"))?;
        if sysctl::read(&switch)? == Some(1) && forwarding == Some(0) {
            sysctl::write_if_there(&switch, "2")?;
        }
    }
    Ok(())
}

/// What the thread does.
fn follow(mut watch: Watch, stop: &OwnedFd, state: &Mutex<State>, mut lost: Lost, mut changed: Changed) {
    // A container's start is news in many pieces: all of them are looked at together, once it is over.
    const CALM: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 20_000_000,
    };
    const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        if !ready(&[watch.as_fd(), stop.as_fd()], None) || ready(&[stop.as_fd()], Some(&CALM)) {
            return;
        }
        let mut news = News::default();
        while ready(&[watch.as_fd()], Some(&NOW)) {
            match watch.read(|event| news.add(event)) {
                Ok(complete) => news.everything |= !complete,
                Err(error) => {
                    tracing::error!(%error, "the host's interfaces are not followed any more");
                    return;
                }
            }
        }
        // Before the lock: whoever makes networks holds another one, and takes this one.
        news.everything |= lost((!news.everything).then_some(news.gone.as_slice()));
        changed((!news.everything).then_some(&news.links));
        if let Err(error) = react(&mut lock(state), news) {
            let source = std::error::Error::source(&error)
                .map(ToString::to_string)
                .unwrap_or_default();
            tracing::warn!(%error, source, "an interface of the host may not forward to containers");
        }
    }
}

/// What happened, interface by interface.
#[derive(Default)]
struct News {
    /// The last state of each; gone where there is none.
    links: BTreeMap<u32, Option<Link>>,
    /// Names of those that are gone.
    gone: Vec<String>,
    everything: bool,
}

impl News {
    fn add(&mut self, event: Event) {
        match event {
            Event::Link(link) => drop(self.links.insert(link.index, Some(link))),
            Event::LinkGone(link) => {
                self.links.insert(link.index, None);
                self.gone.push(link.name);
            }
            Event::Settings => self.everything = true,
            Event::Address | Event::Route => {}
        }
    }
}

fn react(state: &mut State, news: News) -> Result<()> {
    if news.everything {
        return state.look_around();
    }
    let gone = |index: &u32| news.links.get(index).is_some_and(Option::is_none);
    let mut next = state.opened.clone();
    for opened in &mut next {
        opened.retain(|index, _| !gone(index));
    }
    state.commit(next, &[])?;
    let mut links = Vec::new();
    for link in news.links.values().flatten() {
        if !state.is_uplink(link) {
            continue;
        }
        // It may be something else by now.
        let now = list::link(&mut state.socket, &link.name);
        links.extend(now.map_err(|refusal| Error::system("cannot ask about an interface").because(refusal))?);
    }
    match links.is_empty() {
        true => Ok(()),
        false => state.consider(&links),
    }
}

/// Is one of them readable? Waits until one is, or as long as it may.
fn ready(fds: &[std::os::fd::BorrowedFd], patience: Option<&Timespec>) -> bool {
    let mut polled: Vec<_> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    loop {
        match poll(&mut polled, patience) {
            Err(Errno::INTR) => {}
            result => return result.is_ok_and(|count| count > 0),
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // What a panicking verb left half done, the next look around mends.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cannot_open(error: io::Error) -> Error {
    Error::system("cannot enable forwarding").because(error)
}

#[cfg(test)]
mod tests {
    use std::{
        net::{SocketAddr, TcpListener, TcpStream},
        time::Duration,
    };

    use corten_linux::netlink::{
        message::Batch,
        route::{
            address,
            link::{self, Changes, Kind, NewLink, Peer, Port, Target},
        },
    };
    use ipnet::IpNet;

    use super::*;
    use crate::{
        bridge::{self, BridgeSpec},
        namespace::inside,
        testing::{alone, new_namespace},
        wire::{self, Gateway, Plug, Wire},
    };

    const CONTAINER: [&str; 2] = ["10.7.0.2/24", "fd00:7::2/64"];

    fn only(guard: Guard) -> Listeners {
        Listeners {
            guard,
            lost: Box::new(|_| false),
            changed: Box::new(|_| {}),
        }
    }

    fn net(text: &str) -> IpNet {
        text.parse().expect("valid")
    }

    /// The calling thread's namespace becomes a host with a container on `br0`.
    fn container() -> OwnedFd {
        let gateways = ["10.7.0.1/24", "fd00:7::1/64"].map(net);
        bridge::create(&BridgeSpec {
            name: "br0",
            owner: "corten-test",
            mtu: None,
            mac: None,
            addresses: &gateways,
            route_localnet: false,
        })
        .expect("root");
        let namespace = new_namespace();
        let wire = Wire {
            network: "web",
            plug: Plug::Bridge {
                bridge: "br0",
                host_interface: "veth1",
                port: Port::default(),
            },
            interface: "eth0",
            mac: None,
            addresses: CONTAINER.map(net).to_vec(),
            defaults: gateways.iter().map(|gateway| Gateway::Via(gateway.addr())).collect(),
            mtu: None,
            sysctls: Vec::new(),
        };
        wire::connect(namespace.as_fd(), &[wire]).expect("root");
        namespace
    }

    /// Connects the host with another one, which sends everything to it.
    fn uplink(name: &str, number: u8) -> OwnedFd {
        let other = new_namespace();
        let mut socket = Socket::open(Protocol::Route).expect("netlink");
        let mut batch = Batch::new();
        let peer = Peer {
            name: "eth0",
            mac: None,
            mtu: None,
            namespace: Some(other.as_fd()),
        };
        let veth = NewLink {
            up: true,
            ..NewLink::new(name, Kind::Veth { peer })
        };
        link::create(&mut batch, &veth);
        socket.transact(&mut batch).expect("root");
        let nets = |last: u8| {
            [
                net(&format!("10.8.{number}.{last}/24")),
                net(&format!("fd00:8:{number}::{last}/64")),
            ]
        };
        equip(&mut socket, name, &nets(1));
        inside(other.as_fd(), || {
            equip(&mut Socket::open(Protocol::Route)?, "eth0", &nets(2));
            Ok(())
        })
        .expect("root");
        let [ipv4, ipv6] = nets(1).map(|net| Some(("eth0", Gateway::Via(net.addr()))));
        wire::set_default_routes(other.as_fd(), ipv4, ipv6).expect("root");
        link::settle(&socket, name).expect("there");
        other
    }

    fn equip(socket: &mut Socket, name: &str, nets: &[IpNet]) {
        let index = link::index(socket, name).expect("allowed").expect("there");
        let mut batch = Batch::new();
        let up = Changes {
            up: Some(true),
            ..Changes::default()
        };
        link::change(&mut batch, Target::Index(index), &up);
        for net in nets {
            address::add(&mut batch, index, net.addr(), net.prefix_len());
        }
        socket.transact(&mut batch).expect("root");
    }

    /// Does the other host reach the container? IPv6 may need its time.
    fn reaches(other: &OwnedFd, container: &OwnedFd, family: Family) -> bool {
        let address = SocketAddr::new(net(CONTAINER[family as usize]).addr(), 80);
        let _server = inside(container.as_fd(), || TcpListener::bind(address)).expect("its own address");
        let patience = Duration::from_millis(2500);
        inside(other.as_fd(), || TcpStream::connect_timeout(&address, patience)).is_ok()
    }

    type Told = Arc<Mutex<Vec<Opened>>>;

    fn guard() -> (Told, Guard) {
        let told = Told::default();
        let guard = Arc::clone(&told);
        (
            told,
            Box::new(move |opened: &Opened| {
                guard.lock().expect("nobody panicked").push(opened.clone());
                Ok(())
            }),
        )
    }

    fn opened(ipv4: &[&str], ipv6: &[&str]) -> Opened {
        let owned = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        Opened {
            ipv4: owned(ipv4),
            ipv6: owned(ipv6),
        }
    }

    /// Waits until it is so.
    fn becomes(what: &str, so: impl Fn() -> bool) {
        for _ in 0..3000 {
            if so() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("never: {what}");
    }

    #[test]
    fn interfaces_are_opened_one_by_one_and_followed() {
        alone(|| {
            let container = container();
            let first = uplink("up0", 0);
            sysctl::write("ipv4/ip_forward", "0").expect("root");
            let (told, guard) = guard();
            let forwarding = Forwarding::open("corten-test", &Opened::default(), only(guard)).expect("root");
            assert!(!reaches(&first, &container, Family::Ipv4));
            forwarding.enable("br0", true, true).expect("root");
            let both = opened(&["up0"], &["up0"]);
            assert_eq!(forwarding.opened(), both);
            assert_eq!(*told.lock().expect("nobody panicked"), [both]);
            for family in Family::BOTH {
                assert!(reaches(&first, &container, family), "{family:?}");
                let whole = matches!(family, Family::Ipv6) && !has_single_ipv6();
                let expected = Some(whole.into());
                assert_eq!(sysctl::read(family.global_switch()).expect("there"), expected);
            }
            // The uplink is replaced.
            let mut socket = Socket::open(Protocol::Route).expect("netlink");
            let mut batch = Batch::new();
            link::delete(&mut batch, Target::Name("up0"));
            socket.transact(&mut batch).expect("root");
            let second = uplink("up1", 1);
            becomes("up1 is opened", || forwarding.opened() == opened(&["up1"], &["up1"]));
            becomes("up1 forwards", || reaches(&second, &container, Family::Ipv4));
            assert!(reaches(&second, &container, Family::Ipv6));
            // Somebody says no to everything, and everything of ours goes on.
            sysctl::write("ipv4/ip_forward", "1").expect("root");
            becomes("the host is a router", || forwarding.opened().ipv4.is_empty());
            sysctl::write("ipv4/ip_forward", "0").expect("root");
            becomes("the host is no router", || forwarding.opened().ipv4 == ["up1"]);
            becomes("up1 forwards again", || reaches(&second, &container, Family::Ipv4));
        });
    }

    #[test]
    fn what_forwards_already_is_not_ours_unless_an_earlier_daemon_opened_it() {
        alone(|| {
            let _container = container();
            let _other = uplink("up0", 0);
            sysctl::write("ipv4/ip_forward", "0").expect("root");
            sysctl::write("ipv4/conf/up0/forwarding", "1").expect("root");
            let (_, nobody) = guard();
            let forwarding = Forwarding::open("corten-test", &Opened::default(), only(nobody)).expect("root");
            forwarding.enable("br0", true, false).expect("root");
            assert_eq!(forwarding.opened(), Opened::default());
            drop(forwarding);
            let (_, nobody) = guard();
            let forwarding = Forwarding::open("corten-test", &opened(&["up0"], &[]), only(nobody)).expect("root");
            forwarding.enable("br0", true, false).expect("root");
            assert_eq!(forwarding.opened(), opened(&["up0"], &[]));
        });
    }

    #[test]
    fn older_kernels_forward_ipv6_as_a_whole_and_go_on_to_learn_routes() {
        alone(|| {
            let container = container();
            let other = uplink("up0", 0);
            let (told, guard) = guard();
            let forwarding =
                Forwarding::open_by(Way::Global, "corten-test", &Opened::default(), only(guard)).expect("root");
            forwarding.enable("br0", false, true).expect("root");
            assert_eq!(*told.lock().expect("nobody panicked"), [opened(&[], &["up0"])]);
            assert_eq!(sysctl::read("ipv6/conf/all/forwarding").expect("there"), Some(1));
            for (name, accepts) in [("up0", 2), ("default", 2), ("br0", 0)] {
                let switch = format!("ipv6/conf/{name}/accept_ra");
                assert_eq!(sysctl::read(&switch).expect("there"), Some(accepts), "{name}");
            }
            assert!(reaches(&other, &container, Family::Ipv6));
            let _another = uplink("up1", 1);
            becomes("up1 is guarded", || forwarding.opened() == opened(&[], &["up0", "up1"]));
        });
    }

    #[test]
    fn nothing_is_opened_that_cannot_be_guarded() {
        alone(|| {
            let _container = container();
            let _other = uplink("up0", 0);
            sysctl::write("ipv4/ip_forward", "0").expect("root");
            let guard: Guard = Box::new(|_| Err(Error::system("no firewall")));
            let forwarding = Forwarding::open("corten-test", &Opened::default(), only(guard)).expect("root");
            assert_eq!(
                forwarding.enable("br0", true, true).expect_err("no guard").to_string(),
                "no firewall"
            );
            assert_eq!(sysctl::read("ipv4/conf/up0/forwarding").expect("there"), Some(0));
            assert_eq!(sysctl::read("ipv6/conf/all/forwarding").expect("there"), Some(0));
            assert_ne!(sysctl::read("ipv6/conf/up0/force_forwarding").expect("there"), Some(1));
        });
    }
}

//! The flow table: established connections of TCP pass the host without a rule being asked.
//!
//! Connection tracking, translation, the rules and the bridge are most of what a packet costs on its way to a container.
//! Where the kernel has flow tables (`nf_flow_table`), a connection's packets are found by one look at the interface where
//! they come in, translated, and sent on to the container's. `tcpdump` sees them on both, but not on the bridge, and no
//! chain of `prerouting`, `forward` or `postrouting` does: therefore it is done only while no chain is there but ours, and
//! what was let through by all rules once would be let through again. The
//! [`Keeper`](crate::firewall::keeper::Keeper) hears of new chains at once.
//!
//! UDP is left out: its flows are forgotten one by one when ports are published and taken back (`flows.rs`), and the kernel
//! does not forget those that are in a flow table. So is what passes between two networks of ours: with
//! `bridge-nf-call-iptables` that may be a frame on its way between two ports of one bridge.
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
};

use corten_linux::{
    iptables,
    netlink::{
        nft::{
            list::{self, Chain},
            transaction::{Family, Hook, Transaction},
        },
        route::list::{self as links, Link},
        socket::{Protocol, Refusal, Socket},
    },
    version,
};
use rustix::io::Errno;

use crate::firewall::{
    phrases::{Phrase, accept, from_any, offload, protocol, rule, to_any},
    rules::{BRIDGES, SETTLED, USER},
    table::{Firewall, State},
};

const FLOWS: &str = "flows";
/// The oldest kernel on which this is tested; how connections leave a flow table was mended more than once before.
const TRUSTED: (u32, u32) = (6, 1);
/// As many interfaces as the kernel takes in one message (`NFT_NETDEVICE_MAX`, less one) and `nft` can list. Connections of
/// containers beyond pass by their bridge.
const INTERFACES_MAX: usize = 255;

/// Index and name of interfaces.
pub(super) type Interfaces = BTreeMap<u32, String>;

/// Whether established connections of TCP between containers and the world pass by the kernel's flow table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FlowTable {
    /// It has these interfaces.
    InUse(Interfaces),
    Unused(Reason),
}

/// Why the rules are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reason {
    /// The operator said so.
    SwitchedOff,
    /// There is no network that would need it.
    NoNetwork,
    /// The kernel has no flow tables. It is asked once: it looks for its module each time.
    Missing,
    /// The kernel's are not trusted.
    TooOld,
    /// Nobody would hear of new rules.
    Unwatched,
    /// Somebody else looks at what is forwarded.
    Watched(String),
    Failed(String),
}

impl fmt::Display for FlowTable {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let reason = match self {
            FlowTable::InUse(_) => return f.write_str("in use"),
            FlowTable::Unused(reason) => reason,
        };
        f.write_str("not in use: ")?;
        match reason {
            Reason::SwitchedOff => f.write_str("--flow-offload=false"),
            Reason::NoNetwork => f.write_str("there is no bridge network"),
            Reason::Unwatched => f.write_str("new rules of others would not be noticed"),
            Reason::TooOld => f.write_str("this kernel is older than 6.1"),
            Reason::Missing => f.write_str("this kernel has no nf_flow_table"),
            Reason::Watched(by) => write!(f, "{by} sees what is forwarded"),
            Reason::Failed(why) => f.write_str(why),
        }
    }
}

impl Firewall {
    /// Looks whether established connections may pass by the flow table, and lets them, or lets them no more.
    pub fn tend_flows(&self) {
        self.tend(&mut self.state());
    }

    /// Interfaces of the host, by index, are new, changed or (`None`) gone.
    pub fn interfaces_changed(&self, news: &BTreeMap<u32, Option<Link>>) {
        let mut state = self.state();
        match &state.flow_table {
            FlowTable::InUse(known) => {
                let mut left = known.clone();
                left.retain(|index, _| news.get(index).is_none_or(Option::is_some));
                let links: Vec<_> = news.values().flatten().collect();
                let next = FlowTable::InUse(choose(left, &links, &bridges(&state), &self.table));
                self.take(&mut state, next.clone());
                // One that was new may be gone already.
                if state.flow_table != next {
                    self.tend(&mut state);
                }
            }
            FlowTable::Unused(Reason::Failed(_)) => self.tend(&mut state),
            FlowTable::Unused(_) => {}
        }
    }

    /// Nobody looks any more whether they may: from now on they may not.
    pub fn end_flows(&self) {
        self.take(&mut self.state(), FlowTable::Unused(Reason::Unwatched));
    }

    /// Do they?
    pub fn has_flows(&self) -> bool {
        matches!(self.state().flow_table, FlowTable::InUse(_))
    }

    /// `in use`, or why not, for people.
    pub fn described_flows(&self) -> String {
        self.state().flow_table.to_string()
    }

    pub(super) fn tend(&self, state: &mut State) {
        let for_good = [Reason::Missing, Reason::Unwatched].map(FlowTable::Unused);
        if !state.built || self.switched().is_off() || for_good.contains(&state.flow_table) {
            return;
        }
        let wanted = self
            .wanted(state)
            .unwrap_or_else(|error| FlowTable::Unused(Reason::Failed(error.to_string())));
        self.take(state, wanted);
    }

    fn wanted(&self, state: &mut State) -> io::Result<FlowTable> {
        if !self.offload {
            return Ok(FlowTable::Unused(Reason::SwitchedOff));
        }
        if version::kernel() < TRUSTED {
            return Ok(FlowTable::Unused(Reason::TooOld));
        }
        let chains = list::chains(state.line.socket()?)?;
        if let Some(by) = watcher(&chains, &self.table)? {
            return Ok(FlowTable::Unused(Reason::Watched(by)));
        }
        let bridges = bridges(state);
        if bridges.is_empty() {
            return Ok(FlowTable::Unused(Reason::NoNetwork));
        }
        let links = links::links(&mut Socket::open(Protocol::Route)?)?;
        let links: Vec<_> = links.iter().collect();
        Ok(FlowTable::InUse(choose(
            Interfaces::new(),
            &links,
            &bridges,
            &self.table,
        )))
    }

    fn take(&self, state: &mut State, wanted: FlowTable) {
        let had = matches!(state.flow_table, FlowTable::InUse(_));
        let mut change = Transaction::new(Family::Inet, &self.table);
        match (&state.flow_table, &wanted) {
            (FlowTable::Unused(_), FlowTable::Unused(_)) => {}
            (FlowTable::InUse(old), FlowTable::InUse(new)) => {
                let new = new.iter().filter(|(index, _)| !old.contains_key(index));
                let mut names = new.map(|(_, name)| name).peekable();
                if names.peek().is_some() {
                    change.flow_table(FLOWS, names);
                }
            }
            (FlowTable::Unused(_), FlowTable::InUse(interfaces)) => {
                change.flow_table(FLOWS, interfaces.values());
                write_settled(&mut change, true);
            }
            (FlowTable::InUse(_), FlowTable::Unused(_)) => {
                write_settled(&mut change, false);
                change.delete_flow_table(FLOWS);
            }
        }
        match state.line.socket().and_then(|socket| change.commit(socket)) {
            Ok(()) => state.flow_table = wanted,
            // An interface may be gone, or the whole table: of both there is news, and it is tried again.
            Err(refusal) if had && refusal.errno == Errno::NOENT => {}
            Err(refusal) if had => {
                tracing::warn!("cannot change the firewall's flow table: {refusal}; tried again soon")
            }
            Err(refusal) if self.is_missing(state, &wanted, &refusal) => {
                state.flow_table = FlowTable::Unused(Reason::Missing)
            }
            Err(refusal) => state.flow_table = FlowTable::Unused(Reason::Failed(refusal.to_string())),
        }
    }

    /// Is it the kernel that lacks something, when everything else is there?
    fn is_missing(&self, state: &mut State, wanted: &FlowTable, refusal: &Refusal) -> bool {
        if !matches!(refusal.errno, Errno::NOENT | Errno::OPNOTSUPP) {
            return false;
        }
        let chains = state.line.socket().and_then(list::chains).unwrap_or_default();
        let has_table = chains.iter().any(|chain| is_ours(chain, &self.table));
        has_table && self.wanted(state).is_ok_and(|now| now == *wanted)
    }
}

/// What an established connection meets; `flows` says whether there is a flow table.
pub(super) fn write_settled(change: &mut Transaction, flows: bool) {
    change.flush_chain(SETTLED);
    for rule in settled(flows) {
        change.rule(SETTLED, &rule);
    }
}

fn settled(flows: bool) -> Vec<Phrase> {
    const TCP: u8 = 6;
    let mut rules = Vec::new();
    if flows {
        rules.push(rule([from_any(BRIDGES), to_any(BRIDGES), accept()]));
        rules.push(rule([protocol(TCP), from_any(BRIDGES), offload(FLOWS), accept()]));
        rules.push(rule([protocol(TCP), to_any(BRIDGES), offload(FLOWS), accept()]));
    }
    rules.push(accept());
    rules
}

fn is_ours(chain: &Chain, table: &str) -> bool {
    chain.family == Family::Inet as u8 && chain.table == table
}

/// Does a chain matter to whether [`watcher`] finds somebody? `table` is ours.
pub(super) fn may_watch(family: u8, table: &str, chain: &str, ours: &str) -> bool {
    (family, table) != (Family::Inet as u8, ours) || chain.starts_with(USER)
}

/// Who, besides us, looks at packets that pass the host.
pub(super) fn watcher(chains: &[Chain], table: &str) -> io::Result<Option<String>> {
    let chain = chains.iter().find(|chain| watches(chain, table));
    if let Some(chain) = chain {
        let family = Family::name_of(chain.family);
        return Ok(Some(format!("the chain {family} {} {}", chain.table, chain.name)));
    }
    for (family, command) in [
        (iptables::Family::Ipv4, "iptables-legacy"),
        (iptables::Family::Ipv6, "ip6tables-legacy"),
    ] {
        let tables = iptables::tables(family)?;
        // Translation is decided by a connection's first packet.
        if let Some(table) = tables.iter().find(|table| *table != "nat") {
            return Ok(Some(format!("the table {table} of {command}")));
        }
    }
    Ok(None)
}

fn watches(chain: &Chain, table: &str) -> bool {
    if is_ours(chain, table) && !chain.name.starts_with(USER) {
        return false;
    }
    match &chain.base {
        // Our own forward chain jumps there.
        None => is_ours(chain, table) && chain.name == USER && chain.uses > 1,
        Some(base) => {
            let families = [Family::Inet, Family::Ipv4, Family::Ipv6, Family::Bridge].map(|family| family as u8);
            // What is for the host itself, or from it, is not forwarded; but a bridge is a host of its own.
            let on_the_way = [Hook::Prerouting, Hook::Forward, Hook::Postrouting].map(|hook| hook as u32);
            let hooks = on_the_way.contains(&base.hook) || chain.family == Family::Bridge as u8;
            let says_something = chain.uses > 0 || base.drops;
            families.contains(&chain.family) && hooks && base.kind != "nat" && says_something
        }
    }
}

/// The bridges of networks that lead somewhere.
fn bridges(state: &State) -> Vec<&str> {
    let networks = state.networks.iter().filter(|network| !network.internal);
    networks.map(|network| network.bridge.as_str()).collect()
}

/// Adds to the known interfaces those where packets come in that may belong to a connection: at our bridges, at every
/// interface of the host that is up, and at ports of our bridges.
pub(super) fn choose(known: Interfaces, links: &[&Link], bridges: &[&str], owner: &str) -> Interfaces {
    let is_bridge = |name: &str| bridges.contains(&name);
    let leads_out = |link: &Link| {
        let is_ours = link.alias.as_deref() == Some(owner);
        // Ports of bridges and bonds meet none: their master does.
        link.up && !link.loopback && link.master.is_none() && !is_ours
    };
    let named = known.iter().map(|(index, name)| (*index, name));
    let named = named.chain(links.iter().map(|link| (link.index, &link.name)));
    let masters: BTreeSet<u32> = named
        .filter(|(_, name)| is_bridge(name))
        .map(|(index, _)| index)
        .collect();
    let is_port = |link: &Link| link.up && link.master.is_some_and(|master| masters.contains(&master));
    // Ports come last: they are the ones that can be done without.
    let first = links.iter().filter(|link| is_bridge(&link.name) || leads_out(link));
    let ports = links.iter().filter(|link| is_port(link));
    let mut chosen = known;
    for link in first.chain(ports) {
        if chosen.len() < INTERFACES_MAX {
            chosen.insert(link.index, link.name.clone());
        }
    }
    chosen
}

//! The firewall table: what the controller changes in it.
//!
//! The table belongs to us but for the chains and sets whose names begin with `user`, which are the operator's. Each verb
//! is one transaction. Should somebody have taken the table away (`nft flush ruleset`), the next verb makes it anew, or the
//! [`Keeper`](crate::firewall::keeper::Keeper) before.
use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use corten_linux::netlink::{
    nft::{
        list,
        transaction::{Family, Transaction},
    },
    socket::{Protocol, Refusal, Socket},
};
use rustix::io::Errno;

use crate::{
    error::{Error, Result},
    firewall::{
        flows,
        links::{erase_links, write_links},
        model::{BridgeRules, Opened, PortRule, Switched},
        offload::{FlowTable, Reason},
        ports::{erase_ports, write_ports},
        rules::{self, UPLINKS4, UPLINKS6, erase_network, write_inner, write_network, write_skeleton, write_strangers},
    },
    model::LinkedPort,
};

/// The table, in the network namespace of the thread that opened it.
pub struct Firewall {
    pub(super) table: String,
    switched: Switched,
    /// Established connections may pass by a flow table.
    pub(super) offload: bool,
    state: Mutex<State>,
}

/// The socket, and what the kernel should have.
pub(super) struct State {
    pub(super) line: Line,
    pub(super) networks: Vec<BridgeRules>,
    ports: BTreeSet<PortRule>,
    links: BTreeSet<LinkedPort>,
    /// As far as it was said to us; before that the table itself knows.
    opened: Option<Opened>,
    /// We have made the table.
    pub(super) built: bool,
    pub(super) flow_table: FlowTable,
}

/// The kernel's end; absent where it has no netfilter, until it has.
pub(super) struct Line(Option<Socket>);

impl Line {
    pub(super) fn socket(&mut self) -> Result<&mut Socket, Refusal> {
        if self.0.is_none() {
            let opened = Socket::open(Protocol::Netfilter);
            self.0 = Some(opened.map_err(|error| Refusal {
                message: Some("this kernel has no nftables; Help: modprobe nf_tables".to_owned()),
                ..Errno::from_io_error(&error).unwrap_or(Errno::PROTONOSUPPORT).into()
            })?);
        }
        Ok(self.0.as_mut().expect("it was just opened"))
    }

    fn with(&mut self, work: impl FnOnce(&mut Socket)) {
        if let Some(socket) = &mut self.0 {
            work(socket);
        }
    }
}

impl Firewall {
    /// Of the calling thread's network namespace. Nothing is touched before [`Firewall::rebuild`], and a kernel without
    /// nftables is met there: containers that need no firewall run on it.
    pub fn open(table: &str) -> Firewall {
        Firewall::open_for(table, Switched::ON)
    }

    /// [`Firewall::open`], with rules for some families only; for none there is no table at all.
    pub fn open_for(table: &str, switched: Switched) -> Firewall {
        let line = Line(Socket::open(Protocol::Netfilter).ok());
        Firewall {
            table: table.to_owned(),
            switched,
            offload: false,
            state: Mutex::new(State {
                line,
                networks: Vec::new(),
                ports: BTreeSet::new(),
                links: BTreeSet::new(),
                opened: None,
                built: false,
                flow_table: FlowTable::Unused(Reason::NoNetwork),
            }),
        }
    }

    /// Lets established connections pass by a flow table while nobody else looks at what is forwarded
    /// ([`Firewall::tend_flows`]).
    pub fn with_flows(self) -> Firewall {
        Firewall { offload: true, ..self }
    }

    /// Makes sure that the table is there, for a container that must not be without it. Tries once more where it could
    /// not be made before: somebody may have loaded the kernel's module meanwhile.
    pub fn ready(&self) -> Result<()> {
        let mut state = self.state();
        if state.built {
            Ok(())
        } else {
            self.rebuild_from(&mut state)
        }
    }

    /// Makes the table what it should be, whatever it was, in one transaction: no packet meets a table half made. The
    /// operator's chains stay, and so does what [`Firewall::set_opened`] and [`Firewall::link`] said.
    pub fn rebuild(&self, networks: &[BridgeRules], ports: &[PortRule]) -> Result<()> {
        let mut state = self.state();
        state.networks = networks.to_vec();
        state.ports = ports.iter().copied().collect();
        self.rebuild_from(&mut state)
    }

    fn rebuild_from(&self, state: &mut State) -> Result<()> {
        self.try_rebuild(state)
            .map_err(|refusal| self.failed("cannot build the firewall", refusal))?;
        state.built = true;
        if matches!(state.flow_table, FlowTable::InUse(_)) {
            state.flow_table = FlowTable::Unused(Reason::NoNetwork);
        }
        self.tend(state);
        Ok(())
    }

    fn try_rebuild(&self, state: &mut State) -> Result<(), Refusal> {
        if self.switched.is_off() {
            return self.take_away(state);
        }
        let opened = match &state.opened {
            Some(opened) => opened.clone(),
            None => self.read_opened(state)?,
        };
        let chains = list::chains(state.line.socket()?)?
            .into_iter()
            .filter(|chain| {
                chain.family == Family::Inet as u8 && chain.table == self.table && !rules::kept(&chain.name)
            })
            .map(|chain| chain.name)
            .collect::<Vec<_>>();
        let mut sets = list::sets(state.line.socket()?, Family::Inet, &self.table)?;
        sets.retain(|set| !rules::kept(set));
        let mut flow_tables = list::flow_tables(state.line.socket()?, Family::Inet, &self.table)?;
        flow_tables.retain(|flows| !rules::kept(flows));
        let mut change = self.change();
        change.table();
        // What refers to others goes first: rules, then elements, then what they referred to.
        chains.iter().for_each(|chain| change.flush_chain(chain));
        sets.iter().for_each(|set| change.flush_set(set));
        sets.iter().for_each(|set| change.delete_set(set));
        flow_tables.iter().for_each(|flows| change.delete_flow_table(flows));
        chains.iter().for_each(|chain| change.delete_chain(chain));
        write_skeleton(&mut change, self.switched);
        write_strangers(&mut change, &opened, self.switched);
        write_inner(&mut change, &state.networks);
        for network in &state.networks {
            write_network(&mut change, network, self.switched);
        }
        let ports = self.filtered(state.ports.iter().copied());
        write_ports(&mut change, &state.networks, &ports);
        write_links(
            &mut change,
            state.links.iter().filter(|port| self.switched.has(port.source)),
        );
        change.commit(state.line.socket()?)
    }

    /// Adds a network, or changes the one on the same bridge.
    pub fn add_network(&self, network: &BridgeRules) -> Result<()> {
        let mut state = self.state();
        let mut change = self.change();
        let known = state.networks.iter().position(|known| known.bridge == network.bridge);
        if let Some(index) = known {
            let old = state.networks.remove(index);
            erase_network(&mut change, &old);
        }
        state.networks.push(network.clone());
        write_network(&mut change, network, self.switched);
        write_inner(&mut change, &state.networks);
        let result = self.commit(&mut state, change, "cannot add a network to the firewall");
        match result {
            Ok(()) => self.tend(&mut state),
            Err(_) => state.networks.retain(|known| known.bridge != network.bridge),
        }
        result
    }

    /// Removes the network on a bridge; one that is not there is no error.
    pub fn remove_network(&self, bridge: &str) -> Result<()> {
        let mut state = self.state();
        let Some(index) = state.networks.iter().position(|known| known.bridge == bridge) else {
            return Ok(());
        };
        let network = state.networks.remove(index);
        let mut change = self.change();
        erase_network(&mut change, &network);
        write_inner(&mut change, &state.networks);
        self.commit(&mut state, change, "cannot remove a network from the firewall")
    }

    /// Publishes ports, all or none.
    pub fn publish(&self, ports: &[PortRule]) -> Result<()> {
        let mut state = self.state();
        let new = self.filtered(ports.iter().copied().filter(|port| !state.ports.contains(port)));
        let mut change = self.change();
        write_ports(&mut change, &state.networks, &new);
        state.ports.extend(&new);
        let result = self.commit(&mut state, change, "cannot publish ports");
        match &result {
            Ok(()) => state.line.with(|socket| flows::published(socket, &new)),
            Err(_) => new.iter().for_each(|port| {
                state.ports.remove(port);
            }),
        }
        result
    }

    /// Takes published ports back; what is not there is no error.
    pub fn unpublish(&self, ports: &[PortRule]) -> Result<()> {
        let mut state = self.state();
        let old: Vec<_> = ports.iter().copied().filter(|port| state.ports.remove(port)).collect();
        let mut change = self.change();
        erase_ports(&mut change, &state.networks, &self.filtered(old.iter().copied()));
        let result = self.commit(&mut state, change, "cannot take back published ports");
        state.line.with(|socket| flows::unpublished(socket, &old));
        result
    }

    /// Lets links through that are new, and those no more that are `old`; what is there, or is not, is no error. Before the
    /// table is made this is only what it will be made with.
    pub fn link(&self, old: &[LinkedPort], new: &[LinkedPort]) -> Result<()> {
        let mut state = self.state();
        let mut change = self.change();
        let on = |port: &&LinkedPort| self.switched.has(port.source);
        let old: Vec<_> = old.iter().filter(|port| state.links.remove(port)).collect();
        let new: Vec<_> = new.iter().filter(|port| state.links.insert(**port)).collect();
        if !state.built {
            return Ok(());
        }
        erase_links(&mut change, old.into_iter().filter(on));
        write_links(&mut change, new.iter().copied().filter(on));
        let result = self.commit(&mut state, change, "cannot let links through the firewall");
        if result.is_err() {
            new.into_iter().for_each(|port| {
                state.links.remove(port);
            });
        }
        result
    }

    /// Says what of the host forwards only because we made it. The kernel remembers it across our restarts.
    pub fn set_opened(&self, opened: &Opened) -> Result<()> {
        let mut state = self.state();
        let mut change = self.change();
        write_strangers(&mut change, opened, self.switched);
        state.opened = Some(opened.clone());
        self.commit(&mut state, change, "cannot guard the host's interfaces")
    }

    /// What [`Firewall::set_opened`] said last, perhaps by an earlier daemon. Nothing where there is no table.
    pub fn opened(&self) -> Result<Opened> {
        let mut state = self.state();
        self.read_opened(&mut state)
            .map_err(|refusal| self.failed("cannot read the firewall", refusal))
    }

    fn read_opened(&self, state: &mut State) -> Result<Opened, Refusal> {
        let mut names = |set| match list::keys(state.line.socket()?, Family::Inet, &self.table, set) {
            Err(refusal) if refusal.errno == Errno::NOENT => Ok(Vec::new()),
            Err(refusal) => Err(refusal),
            Ok(keys) => Ok(keys.iter().map(|key| interface_name(key)).collect()),
        };
        Ok(Opened {
            ipv4: names(UPLINKS4)?,
            ipv6: names(UPLINKS6)?,
        })
    }

    /// Those that the kernel is told of.
    fn filtered(&self, ports: impl Iterator<Item = PortRule>) -> Vec<PortRule> {
        ports.filter(|port| self.switched.has(port.host)).collect()
    }

    /// Makes the table anew if we made it and it is there no more, or only what the operator has put into it.
    pub fn mend(&self) -> Result<()> {
        if self.switched.is_off() {
            return Ok(());
        }
        let mut state = self.state();
        let listed = state.line.socket().and_then(list::chains);
        let chains = listed.map_err(|refusal| self.failed("cannot read the firewall", refusal))?;
        let ours = |chain: &list::Chain| {
            chain.family == Family::Inet as u8 && chain.table == self.table && chain.name == rules::FORWARD
        };
        if !state.built || chains.iter().any(ours) {
            return Ok(());
        }
        self.rebuild_lost(&mut state)
    }

    /// Takes the whole table away, the operator's part with it.
    pub fn destroy(&self) -> Result<()> {
        let mut state = self.state();
        state.networks.clear();
        state.ports.clear();
        state.links.clear();
        state.built = false;
        state.flow_table = FlowTable::Unused(Reason::NoNetwork);
        self.take_away(&mut state)
            .map_err(|refusal| self.failed("cannot remove the firewall", refusal))
    }

    fn take_away(&self, state: &mut State) -> Result<(), Refusal> {
        // A kernel without nftables has no table of ours.
        let Ok(socket) = state.line.socket() else { return Ok(()) };
        let mut change = self.change();
        change.delete_table();
        match change.commit(socket) {
            Err(refusal) if refusal.errno != Errno::NOENT => Err(refusal),
            _ => Ok(()),
        }
    }

    /// For which families there are rules.
    pub fn switched(&self) -> Switched {
        self.switched
    }

    /// The table's name.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Names of the bridges of all networks.
    pub fn bridges(&self) -> Vec<String> {
        self.state()
            .networks
            .iter()
            .map(|network| network.bridge.clone())
            .collect()
    }

    fn change(&self) -> Transaction {
        Transaction::new(Family::Inet, &self.table)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Every verb leaves the state as the kernel's should be, whatever happens on the way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change; `state` is already what it leads to.
    fn commit(&self, state: &mut State, change: Transaction, doing: &str) -> Result<()> {
        if self.switched.is_off() {
            return Ok(());
        }
        match state.line.socket().and_then(|socket| change.commit(socket)) {
            Ok(()) => Ok(()),
            Err(refusal) if refusal.errno == Errno::NOENT => self.rebuild_lost(state),
            Err(refusal) => Err(self.failed(doing, refusal)),
        }
    }

    fn rebuild_lost(&self, state: &mut State) -> Result<()> {
        if state.built {
            tracing::warn!("somebody changed the nftables table {}: it is made anew", self.table);
        }
        self.rebuild_from(state)
    }

    fn failed(&self, doing: &str, refusal: Refusal) -> Error {
        Error::system(format!("{doing} (nftables table {})", self.table)).because(refusal)
    }
}

fn interface_name(key: &[u8]) -> String {
    let name = key.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

//! Lists of what is there: tables, chains, rules, sets and flow tables of any family, and the keys of a set.
use crate::netlink::{
    message::{Batch, Received, flags},
    nft::{
        rule::{Rule, interface},
        set::ANONYMOUS,
        transaction::{Family, Message, header},
    },
    socket::{Refusal, Socket},
};

/// Bytes of `struct nfgenmsg`.
const HEADER: usize = 4;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// `NFPROTO_*`.
    pub family: u8,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// `NFPROTO_*`.
    pub family: u8,
    pub table: String,
    pub name: String,
    /// Of base chains.
    pub base: Option<ListedBase>,
    /// How many rules it has, and how many jump to it.
    pub uses: u32,
}

/// How a base chain is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedBase {
    /// `NF_INET_*`, as in [`Hook`](crate::netlink::nft::transaction::Hook).
    pub hook: u32,
    pub priority: i32,
    /// `filter`, `nat`, `route`.
    pub kind: String,
    /// What no rule decides about is dropped.
    pub drops: bool,
}

fn dump(
    socket: &mut Socket,
    message: Message,
    family: u8,
    table: Option<(&str, u16, &str)>,
    mut each: impl FnMut(u8, Received),
) -> Result<(), Refusal> {
    let mut batch = Batch::new();
    batch.message(
        message.kind(),
        flags::REQUEST | flags::DUMP,
        &header(family, 0),
        |attributes| {
            if let Some((table, kind, name)) = table {
                attributes.text(1, table).text(kind, name);
            }
        },
    );
    socket.dump(&mut batch, |_, payload| {
        if let Some((header, attributes)) = payload.split_at_checked(HEADER) {
            each(header[0], Received::new(attributes));
        }
    })
}

/// Every table of every family.
pub fn tables(socket: &mut Socket) -> Result<Vec<Table>, Refusal> {
    let mut tables = Vec::new();
    dump(socket, Message::GetTable, 0, None, |family, attributes| {
        let name = attributes.text(1).unwrap_or_default().to_owned();
        tables.push(Table { family, name });
    })?;
    Ok(tables)
}

/// Every chain of every table, without those that belong to a rule.
pub fn chains(socket: &mut Socket) -> Result<Vec<Chain>, Refusal> {
    let mut chains = Vec::new();
    dump(socket, Message::GetChain, 0, None, |family, attributes| {
        const FLAGS: u16 = 11;
        const OF_A_RULE: u32 = 1 << 2;
        if attributes.u32_be(FLAGS).unwrap_or(0) & OF_A_RULE != 0 {
            return;
        }
        let text = |kind| attributes.text(kind).unwrap_or_default().to_owned();
        let base = attributes.nested(4).map(|hook| ListedBase {
            hook: hook.u32_be(1).unwrap_or(u32::MAX),
            priority: hook.u32_be(2).unwrap_or(0) as i32,
            kind: text(7),
            drops: attributes.u32_be(5) == Some(0),
        });
        chains.push(Chain {
            family,
            table: text(1),
            name: text(3),
            base,
            uses: attributes.u32_be(6).unwrap_or(0),
        });
    })?;
    Ok(chains)
}

/// The rules of all chains of a table, in their order. `family` is an `NFPROTO_*`.
pub fn rules(socket: &mut Socket, family: u8, table: &str) -> Result<Vec<Rule>, Refusal> {
    let mut rules = Vec::new();
    dump(socket, Message::GetRule, family, None, |_, attributes| {
        if attributes.text(1) == Some(table) {
            rules.push(Rule::read(&attributes));
        }
    })?;
    for rule in &mut rules {
        for set in std::mem::take(&mut rule.sets) {
            let keys = keys_of(socket, family, table, &set)?;
            rule.interfaces.extend(keys.iter().map(|key| interface(key)));
        }
    }
    Ok(rules)
}

/// The names of a table's sets and maps, without those that belong to a rule.
pub fn sets(socket: &mut Socket, family: Family, table: &str) -> Result<Vec<String>, Refusal> {
    let mut sets = Vec::new();
    dump(socket, Message::GetSet, family as u8, None, |_, attributes| {
        let anonymous = attributes.u32_be(3).unwrap_or(0) & ANONYMOUS != 0;
        if attributes.text(1) == Some(table) && !anonymous {
            sets.extend(attributes.text(2).map(str::to_owned));
        }
    })?;
    Ok(sets)
}

/// The names of a table's flow tables.
pub fn flow_tables(socket: &mut Socket, family: Family, table: &str) -> Result<Vec<String>, Refusal> {
    let mut flow_tables = Vec::new();
    dump(socket, Message::GetFlowTable, family as u8, None, |of, attributes| {
        if of == family as u8 && attributes.text(1) == Some(table) {
            flow_tables.extend(attributes.text(2).map(str::to_owned));
        }
    })?;
    Ok(flow_tables)
}

/// The keys of a set's elements.
pub fn keys(socket: &mut Socket, family: Family, table: &str, set: &str) -> Result<Vec<Vec<u8>>, Refusal> {
    keys_of(socket, family as u8, table, set)
}

fn keys_of(socket: &mut Socket, family: u8, table: &str, set: &str) -> Result<Vec<Vec<u8>>, Refusal> {
    let mut keys = Vec::new();
    let of = Some((table, 2, set));
    dump(socket, Message::GetElement, family, of, |_, attributes| {
        let Some(list) = attributes.nested(3) else { return };
        for (_, element) in list {
            let key = Received::new(element).nested(1).and_then(|key| key.find(1));
            keys.extend(key.map(<[u8]>::to_vec));
        }
    })?;
    Ok(keys)
}

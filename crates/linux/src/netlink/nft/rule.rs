//! Rules as they are read back, as far as needed to see whom they are about and whether anything gets past them.
use crate::netlink::message::Received;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub chain: String,
    /// Interfaces that packets come from or go to, where it asks for them by name. A beginning of names ends in `*`.
    pub interfaces: Vec<String>,
    /// It drops or rejects whatever comes to it.
    pub drops_everything: bool,
    /// Sets in which it looks interfaces' names up.
    pub(super) sets: Vec<String>,
}

/// What one expression has to do with it.
enum Part {
    /// Loads the name of an interface.
    Name,
    /// Compares what was loaded last.
    Compare(Vec<u8>),
    LookUp(String),
    Drop,
    /// Counts or logs.
    Passes,
    Other,
}

impl Rule {
    /// Reads the attributes of a message about a rule.
    pub(super) fn read(attributes: &Received) -> Rule {
        let mut rule = Rule {
            chain: attributes.text(2).unwrap_or_default().to_owned(),
            interfaces: Vec::new(),
            drops_everything: false,
            sets: Vec::new(),
        };
        let mut conditional = false;
        let mut named = false;
        for (_, expression) in attributes.nested(4).into_iter().flatten() {
            let part = part(&Received::new(expression));
            conditional |= !matches!(part, Part::Passes | Part::Drop);
            let was_named = std::mem::replace(&mut named, matches!(part, Part::Name));
            match part {
                Part::Compare(with) if was_named => rule.interfaces.push(interface(&with)),
                Part::LookUp(set) if was_named => rule.sets.push(set),
                Part::Drop => rule.drops_everything = !conditional,
                _ => {}
            }
        }
        rule
    }
}

fn part(expression: &Received) -> Part {
    const INPUT_NAME: u32 = 6;
    const OUTPUT_NAME: u32 = 7;
    const EQUAL: u32 = 0;
    const DROP: u32 = 0;
    let Some(data) = expression.nested(2) else {
        return Part::Other;
    };
    match expression.text(1).unwrap_or_default() {
        "meta" if matches!(data.u32_be(2), Some(INPUT_NAME | OUTPUT_NAME)) => Part::Name,
        "cmp" if data.u32_be(2) == Some(EQUAL) => {
            let value = data.nested(3).and_then(|value| value.find(1));
            value.map_or(Part::Other, |value| Part::Compare(value.to_vec()))
        }
        "lookup" => data.text(1).map_or(Part::Other, |set| Part::LookUp(set.to_owned())),
        "reject" => Part::Drop,
        "immediate" => {
            let verdict = data.nested(2).and_then(|value| value.nested(2));
            match verdict.and_then(|verdict| verdict.u32_be(1)) {
                Some(DROP) => Part::Drop,
                _ => Part::Other,
            }
        }
        // Of iptables.
        "target" if data.text(1) == Some("REJECT") => Part::Drop,
        "match" if data.text(1) == Some("comment") => Part::Passes,
        "counter" | "log" => Part::Passes,
        _ => Part::Other,
    }
}

/// A name of 16 bytes, or the beginning of names, which has no NUL.
pub(super) fn interface(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0);
    let text = String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]);
    match end {
        Some(_) => text.into_owned(),
        None => format!("{text}*"),
    }
}

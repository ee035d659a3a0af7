//! Names for containers that nobody named, random identifiers, and the grammar of names.
use std::fmt::Write;

use crate::error::{Error, Result};

const QUALITIES: [&str; 64] = [
    "able", "amber", "ample", "apt", "autumn", "azure", "balmy", "bold", "brisk", "bronze", "calm", "candid", "cedar",
    "civil", "clear", "copper", "coral", "crisp", "dapper", "deft", "dewy", "early", "even", "fair", "fleet", "frank",
    "fresh", "gentle", "golden", "hardy", "hazel", "honest", "ivory", "jade", "jolly", "keen", "kind", "late", "light",
    "lively", "lucid", "mellow", "merry", "misty", "modest", "neat", "noble", "opal", "patient", "plain", "prompt",
    "proud", "quiet", "ready", "rustic", "silver", "snug", "solid", "spry", "steady", "sunny", "tidy", "vivid", "warm",
];
const THINGS: [&str; 64] = [
    "acorn", "anchor", "anvil", "arch", "aspen", "badger", "beacon", "birch", "bison", "bobbin", "bridge", "brook",
    "canal", "cliff", "clover", "comet", "cove", "crane", "delta", "dune", "elm", "falcon", "fern", "finch", "fjord",
    "girder", "glacier", "grove", "gull", "harbor", "heron", "hinge", "island", "ivy", "kettle", "lagoon", "lantern",
    "larch", "lathe", "marten", "meadow", "mesa", "orchard", "otter", "pebble", "pier", "plover", "quarry", "rafter",
    "reef", "river", "rivet", "rowan", "sail", "spruce", "summit", "thicket", "thistle", "trellis", "tundra", "valley",
    "walnut", "willow", "wren",
];

/// Random bytes from the kernel.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("the kernel's random numbers cannot fail once it is up: {error}"),
        }
    }
    bytes
}

/// 64 hexadecimal digits.
pub fn random_id() -> String {
    loop {
        let id = random::<32>().iter().fold(String::with_capacity(64), |mut id, byte| {
            write!(id, "{byte:02x}").expect("strings take everything");
            id
        });
        // The short form becomes a host name; one of digits only is taken for a number by some resolvers.
        if id[..12].bytes().any(|byte| byte.is_ascii_alphabetic()) {
            return id;
        }
    }
}

/// The form that people see.
pub fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// `quality_thing`; with a digit from the third try on, as the plain ones seem to be taken.
pub fn generate(attempt: u32) -> String {
    let [a, b, c] = random::<3>();
    let mut name = format!("{}_{}", QUALITIES[usize::from(a) % 64], THINGS[usize::from(b) % 64]);
    if attempt > 1 {
        write!(name, "{c}").expect("strings take everything");
    }
    name
}

/// The grammar of container and volume names: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`. `what` completes "Invalid … name".
pub fn check(what: &str, name: &str) -> Result<()> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = name.len() > 1 && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if first && rest {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "Invalid {what} name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_keep_to_the_grammar() {
        for attempt in 0..200 {
            check("container", &generate(attempt % 4)).expect("a good name");
        }
        assert_eq!(random_id().len(), 64);
    }

    #[test]
    fn bad_names_are_refused_in_words_that_clients_know() {
        for name in ["", "a", "_ab", "-x", "a b", "ä", "a/b"] {
            let message = check("container", name).expect_err(name).to_string();
            assert_eq!(
                message,
                format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
            );
        }
    }
}

//! The two networks that every engine has, `none` and `host`, as the Engine API shows them.
use std::collections::BTreeMap;

use corten_api::types::network::{Ipam, Network};
use jiff::Timestamp;

use crate::docker::convert::time::rfc3339;

/// Name and driver, in the order of `network ls`.
const PREDEFINED: [(&str, &str); 2] = [("host", "host"), ("none", "null")];

/// All of them, as documents.
pub fn predefined(engine_id: &str, created: Timestamp) -> Vec<Network> {
    let document = |(name, driver): &(&str, &str)| Network {
        name: (*name).to_owned(),
        id: identifier(&[engine_id, name]),
        created: rfc3339(Some(created)),
        scope: "local".to_owned(),
        driver: (*driver).to_owned(),
        enable_ipv4: true,
        ipam: Ipam {
            driver: "default".to_owned(),
            options: None,
            config: None,
        },
        containers: BTreeMap::new(),
        ..Network::default()
    };
    PREDEFINED.iter().map(document).collect()
}

/// The id of a predefined network, by its name.
pub fn predefined_id(name: &str, engine_id: &str) -> Option<String> {
    let known = PREDEFINED.iter().any(|(predefined, _)| *predefined == name);
    known.then(|| identifier(&[engine_id, name]))
}

/// The id of a container's end of a predefined network.
pub fn endpoint_id(network_id: &str, container_id: &str) -> String {
    identifier(&[network_id, container_id])
}

/// 64 hexadecimal digits that are the same for the same words: these ids must survive restarts, and nothing keeps them.
fn identifier(words: &[&str]) -> String {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    let lane = |lane: u8| {
        let bytes = words.iter().flat_map(|word| word.bytes().chain([0]));
        // A finishing round, so that the lanes differ in all digits.
        let hash = bytes.fold(mix(OFFSET, lane), mix);
        (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    (1..=4).map(|number| format!("{:016x}", lane(number))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_stable_and_differ() {
        let networks = predefined("engine", Timestamp::UNIX_EPOCH);
        assert_eq!(networks.len(), 2);
        assert_eq!(networks[1].driver, "null");
        assert_eq!(Some(&networks[1].id), predefined_id("none", "engine").as_ref());
        assert_eq!(networks[0].id.len(), 64);
        assert_ne!(networks[0].id, networks[1].id);
        assert_ne!(predefined_id("none", "engine"), predefined_id("none", "other"));
        assert_eq!(predefined_id("bridge", "engine"), None);
    }
}

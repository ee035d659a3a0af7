//! What `HostConfig.NetworkMode` says, parsed once.
use corten_api::types::container::{ContainerConfig, HostConfig};

/// The name of the network that a container is on when it does not say otherwise.
pub const DEFAULT_NETWORK: &str = "bridge";
pub const CONTAINER: &str = "container:";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkMode<'a> {
    /// `""`, `default`, `bridge`.
    Bridge,
    None,
    Host,
    /// Another container's namespace; by name or id.
    Container(&'a str),
    /// A user's network; by name or id.
    Network(&'a str),
}

impl<'a> NetworkMode<'a> {
    pub fn parse(text: &'a str) -> NetworkMode<'a> {
        match text {
            "" | "default" | DEFAULT_NETWORK => NetworkMode::Bridge,
            "none" => NetworkMode::None,
            "host" => NetworkMode::Host,
            other => match other.strip_prefix(CONTAINER) {
                Some(container) => NetworkMode::Container(container),
                None => NetworkMode::Network(other),
            },
        }
    }

    /// `NetworkDisabled` is an older way to say `none`.
    pub fn of(config: &ContainerConfig, host: &'a HostConfig) -> NetworkMode<'a> {
        match NetworkMode::parse(&host.network_mode) {
            NetworkMode::Bridge | NetworkMode::Network(_) if config.network_disabled => NetworkMode::None,
            mode => mode,
        }
    }

    /// The network that it names, where it names one.
    pub fn network(self) -> Option<&'a str> {
        match self {
            NetworkMode::Bridge => Some(DEFAULT_NETWORK),
            NetworkMode::None => Some("none"),
            NetworkMode::Host => Some("host"),
            NetworkMode::Container(_) => None,
            NetworkMode::Network(name) => Some(name),
        }
    }

    /// May the container have interfaces of its own?
    pub fn has_endpoints(self) -> bool {
        matches!(self, NetworkMode::Bridge | NetworkMode::Network(_))
    }
}

/// `container:` and an id.
pub fn of_container(id: &str) -> String {
    format!("{CONTAINER}{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_told_apart() {
        for text in ["", "default", "bridge"] {
            assert_eq!(NetworkMode::parse(text), NetworkMode::Bridge);
        }
        assert_eq!(NetworkMode::parse("container:web"), NetworkMode::Container("web"));
        assert_eq!(NetworkMode::parse("backend"), NetworkMode::Network("backend"));
        assert_eq!(NetworkMode::parse("host").network(), Some("host"));
        let disabled = ContainerConfig {
            network_disabled: true,
            ..ContainerConfig::default()
        };
        assert_eq!(NetworkMode::of(&disabled, &HostConfig::default()), NetworkMode::None);
    }
}

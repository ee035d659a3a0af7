//! resolv.conf(5): the host's, read, and what becomes of it in a container.
//!
//! Addresses stay text here: a link-local one carries its interface, and what is no address is passed on to whoever reads.
use std::{fmt, fs, net::IpAddr, path::Path};

use crate::{dns::entrance::ADDRESS, model::Endpoint};

/// The network whose containers find no names but the host's, by Docker's fixed name for it.
const DEFAULT_NETWORK: &str = "bridge";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    pub servers: Vec<String>,
    pub search: Vec<String>,
    pub options: Vec<String>,
    /// Lines with other keywords.
    pub other: Vec<String>,
}

impl ResolvConf {
    pub fn parse(text: &str) -> ResolvConf {
        let mut found = ResolvConf::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let Some(keyword) = words.next().filter(|word| !word.starts_with(['#', ';'])) else {
                continue;
            };
            let mut words = words.map(str::to_owned).peekable();
            match keyword {
                "nameserver" => found.servers.extend(words.next()),
                // The last one counts. `domain` is an old word for a list of one.
                "search" | "domain" if words.peek().is_some() => found.search = words.collect(),
                "options" => found.options.extend(words),
                "search" | "domain" => {}
                _ => found.other.push(line.to_owned()),
            }
        }
        found
    }

    /// Nothing when there is no such file.
    pub fn load(path: &Path) -> ResolvConf {
        ResolvConf::parse(&fs::read_to_string(path).unwrap_or_default())
    }

    /// Leaves out the servers that only the host can reach: on its loopback interface, by one of its interfaces, or over
    /// IPv6 where a container has none.
    pub fn retain_reachable(&mut self, ipv6: bool) {
        self.servers.retain(|server| match server.parse::<IpAddr>() {
            Ok(address) => !address.is_loopback() && (address.is_ipv4() || ipv6),
            Err(_) => false,
        });
    }

    /// Leads to the embedded resolver. Names without dots are asked there as they are before any search domain is tried.
    pub fn use_resolver(&mut self) {
        self.servers = vec![ADDRESS.to_string()];
        self.options.retain(|option| match option.strip_prefix("ndots") {
            Some(value) => value
                .strip_prefix(':')
                .is_some_and(|number| number.parse::<u32>().is_ok()),
            None => true,
        });
        if !self.options.iter().any(|option| option.starts_with("ndots:")) {
            self.options.push("ndots:0".to_owned());
        }
    }
}

/// The file's text.
impl fmt::Display for ResolvConf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for server in &self.servers {
            writeln!(f, "nameserver {server}")?;
        }
        for (keyword, words) in [("search", &self.search), ("options", &self.options)] {
            if !words.is_empty() {
                writeln!(f, "{keyword} {}", words.join(" "))?;
            }
        }
        for line in &self.other {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

/// Has a container with these endpoints to be served by the embedded resolver? All on user networks have. Those on the
/// default bridge alone have only when of the host's servers none can be reached from there and they name none.
pub fn needs_resolver(endpoints: &[Endpoint], named: &[IpAddr], host: &ResolvConf) -> bool {
    if endpoints.is_empty() {
        return false;
    }
    if endpoints
        .iter()
        .any(|endpoint| endpoint.network_name != DEFAULT_NETWORK)
    {
        return true;
    }
    let mut reachable = host.clone();
    reachable.retain_reachable(endpoints.iter().any(|endpoint| endpoint.ipv6.is_some()));
    named.is_empty() && reachable.servers.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "# mine\n; too\nnameserver 127.0.0.53\nnameserver 10.0.0.1\nnameserver fd00::1\n\
                        nameserver fe80::1%eth0\nsearch a\nsearch b c\ndomain\noptions edns0\noptions trust-ad ndots:x\n\
                        sortlist 10.0.0.0\n\nnameserver\n";

    #[test]
    fn a_file_is_read_and_written() {
        let text = ResolvConf::parse(HOST).to_string();
        assert_eq!(
            text,
            "nameserver 127.0.0.53\nnameserver 10.0.0.1\nnameserver fd00::1\nnameserver fe80::1%eth0\nsearch b c\n\
             options edns0 trust-ad ndots:x\nsortlist 10.0.0.0\n"
        );
        assert_eq!(ResolvConf::parse(&text).to_string(), text);
    }

    #[test]
    fn the_default_bridge_keeps_what_it_can_reach() {
        for (ipv6, left) in [(false, &["10.0.0.1"][..]), (true, &["10.0.0.1", "fd00::1"])] {
            let mut conf = ResolvConf::parse(HOST);
            conf.retain_reachable(ipv6);
            assert_eq!(conf.servers, left);
        }
    }

    #[test]
    fn ndots_is_ours_unless_the_user_has_one() {
        for (options, expected) in [
            ("", "ndots:0"),
            ("options edns0", "edns0 ndots:0"),
            ("options ndots:5 edns0", "ndots:5 edns0"),
            ("options ndots:x", "ndots:0"),
            ("options ndots", "ndots:0"),
        ] {
            let mut conf = ResolvConf::parse(options);
            conf.use_resolver();
            assert_eq!(conf.to_string(), format!("nameserver 127.0.0.11\noptions {expected}\n"));
        }
    }
}

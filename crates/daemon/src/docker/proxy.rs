//! Proxies: who is asked in place of a server, as `--http-proxy`, `--https-proxy`, `--no-proxy` and the environment say.
use std::{env, net::IpAddr};

use corten_engine::config;
use ipnet::IpNet;

/// By the scheme of what is asked for, and for whom there is none.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    http: String,
    https: String,
    none: String,
}

impl Proxies {
    /// What is configured, and else what the daemon's environment says.
    pub fn of(chosen: &config::Proxies) -> Proxies {
        let or_environment = |chosen: &str, name: &str| {
            let named = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
            match chosen {
                "" => named(name)
                    .or_else(|| named(&name.to_ascii_lowercase()))
                    .unwrap_or_default(),
                chosen => chosen.to_owned(),
            }
        };
        Proxies {
            http: or_environment(&chosen.http, "HTTP_PROXY"),
            https: or_environment(&chosen.https, "HTTPS_PROXY"),
            none: or_environment(&chosen.none, "NO_PROXY"),
        }
    }

    /// The URL of the proxy for a server. This host itself is never asked for by one.
    pub fn for_server(&self, secure: bool, host: &str, port: u16) -> Option<&str> {
        let proxy = if secure { &self.https } else { &self.http };
        let address = host.parse::<IpAddr>().ok();
        let here = host == "localhost" || address.is_some_and(|address| address.is_loopback());
        let mut exceptions = self.none.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let direct = here || exceptions.any(|entry| excepts(entry, host, address, port));
        Some(proxy.as_str()).filter(|proxy| !proxy.is_empty() && !direct)
    }
}

/// `*`, an address, a subnet, `example.org` with what is below it, `.example.org` with only that; each with a port or not.
fn excepts(entry: &str, host: &str, address: Option<IpAddr>, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    if let (Some(address), Ok(subnet)) = (address, entry.parse::<IpNet>()) {
        return subnet.contains(&address);
    }
    let whole = entry.trim_matches(['[', ']']);
    if let (Some(address), Ok(excepted)) = (address, whole.parse::<IpAddr>()) {
        return address == excepted;
    }
    let (name, wanted) = match entry.rsplit_once(':') {
        Some((name, number)) if number.parse::<u16>().is_ok() => (name.trim_matches(['[', ']']), number.parse().ok()),
        _ => (whole, None),
    };
    if wanted.is_some_and(|wanted: u16| wanted != port) {
        return false;
    }
    let name = name.strip_prefix('*').unwrap_or(name).to_ascii_lowercase();
    let host = host.to_ascii_lowercase();
    let bare = name.strip_prefix('.');
    let below = host.strip_suffix(bare.unwrap_or(&name));
    below.is_some_and(|rest| rest.ends_with('.') || rest.is_empty() && bare.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_have_the_proxy_of_their_scheme_unless_they_are_excepted() {
        let proxies = Proxies {
            http: "http://proxy:3128".to_owned(),
            https: String::new(),
            none: "example.org, .sub.net,10.0.0.0/8,192.0.2.1,other.org:8080,[fd00::1]".to_owned(),
        };
        let has = |host: &str, port| proxies.for_server(false, host, port).is_some();
        for host in [
            "example.com",
            "notexample.org",
            "sub.net",
            "11.0.0.1",
            "192.0.2.2",
            "fd00::2",
        ] {
            assert!(has(host, 80), "{host}");
        }
        for host in [
            "localhost",
            "127.0.0.9",
            "::1",
            "example.org",
            "a.Example.org",
            "a.sub.net",
            "10.1.2.3",
            "192.0.2.1",
            "fd00::1",
        ] {
            assert!(!has(host, 80), "{host}");
        }
        assert!(has("other.org", 80) && !has("other.org", 8080));
        assert_eq!(proxies.for_server(true, "example.com", 443), None);
        let none = Proxies {
            none: "*".to_owned(),
            ..proxies
        };
        assert_eq!(none.for_server(false, "example.com", 80), None);
    }
}

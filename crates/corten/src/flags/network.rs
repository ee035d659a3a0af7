//! `--network` and what belongs to it: addresses, aliases, links, names of hosts.
use std::collections::BTreeMap;
use std::net::IpAddr;

use corten_api::types::network::{EndpointIpam, EndpointSettings};

use crate::arguments::Matches;
use crate::flags::csv;

/// One `--network`: a name, and options where the long form was used.
#[derive(Debug, Default)]
struct Attachment {
    name: String,
    aliases: Vec<String>,
    ipv4: String,
    ipv6: String,
    link_local: Vec<String>,
    links: Vec<String>,
    driver_options: BTreeMap<String, String>,
    mac_address: String,
    priority: i64,
}

/// A check: a network.
pub fn network(text: &str) -> Result<(), String> {
    parse(text).map(drop)
}

fn parse(text: &str) -> Result<Attachment, String> {
    let mut found = Attachment::default();
    if !text.contains('=') {
        found.name = text.to_string();
        return Ok(found);
    }
    for field in csv::fields(text)? {
        let (key, value) = field.split_once('=').ok_or_else(|| format!("invalid field {field}"))?;
        let value = value.trim().to_string();
        match key.trim().to_lowercase().as_str() {
            "name" => found.name = value,
            "alias" => found.aliases.push(value),
            "ip" => found.ipv4 = value,
            "ip6" => found.ipv6 = value,
            "link-local-ip" => found.link_local.push(value),
            "mac-address" => found.mac_address = value,
            "driver-opt" => {
                let (name, value) = value
                    .split_once('=')
                    .ok_or("invalid key value pair format in driver options")?;
                found.driver_options.insert(name.to_string(), value.to_string());
            }
            "gw-priority" => {
                let number = value.parse();
                found.priority = number.map_err(|_| format!("invalid gw-priority ({value}): invalid syntax"))?;
            }
            key => return Err(format!("invalid field key {key}")),
        }
    }
    if found.name.is_empty() {
        return Err("network name/id is not specified".to_string());
    }
    Ok(found)
}

/// The network mode, and the endpoints by network.
pub fn endpoints(matches: &Matches) -> Result<(String, BTreeMap<String, Option<EndpointSettings>>), String> {
    let mut wanted = matches
        .list("network")
        .map(parse)
        .collect::<Result<Vec<Attachment>, String>>()?;
    let given = !wanted.is_empty();
    if !given {
        wanted.push(Attachment {
            name: "default".to_string(),
            ..Attachment::default()
        });
    }
    // Docker's single flags belong to the first network.
    let first = wanted.first_mut().expect("one was pushed above");
    first.take_single_flags(matches)?;
    let mode = first.name.clone();
    let own = wanted
        .iter()
        .filter(|attachment| is_user_defined(&attachment.name))
        .count();
    if own != 0 && own != wanted.len() {
        return Err(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes".to_string(),
        );
    }
    let mut endpoints = BTreeMap::new();
    let alone = wanted.len() == 1;
    for attachment in wanted {
        let (name, settings) = attachment.settings()?;
        // One network without wishes is the mode alone.
        if given && alone && settings == EndpointSettings::default() {
            continue;
        }
        if endpoints.insert(name.clone(), Some(settings)).is_some() {
            return Err(format!("network {name:?} is specified multiple times"));
        }
    }
    Ok((mode, endpoints))
}

fn is_user_defined(name: &str) -> bool {
    !["bridge", "default", "host", "none", ""].contains(&name) && !name.starts_with("container:")
}

impl Attachment {
    /// `--ip` and its like, which must not say what `--network` says already.
    fn take_single_flags(&mut self, matches: &Matches) -> Result<(), String> {
        let both = |flag: &str, own: &str| {
            Err(format!(
                "conflicting options: cannot specify both --{flag} and per-network {own}"
            ))
        };
        let lists = [
            ("network-alias", "alias", &mut self.aliases),
            ("link", "links", &mut self.links),
            ("link-local-ip", "link-local IP addresses", &mut self.link_local),
        ];
        for (flag, own, slot) in lists {
            let values = matches.texts(flag);
            if !values.is_empty() && !slot.is_empty() {
                return both(flag, own);
            }
            slot.extend(values);
        }
        let texts = [
            ("ip", "IPv4 address", &mut self.ipv4),
            ("ip6", "IPv6 address", &mut self.ipv6),
            ("mac-address", "MAC address", &mut self.mac_address),
        ];
        for (flag, own, slot) in texts {
            if let Some(value) = matches.some(flag) {
                if !slot.is_empty() {
                    return both(flag, own);
                }
                *slot = value.to_string();
            }
        }
        Ok(())
    }

    fn settings(self) -> Result<(String, EndpointSettings), String> {
        if self.name.trim().is_empty() {
            return Err("no name set for network".to_string());
        }
        let own = is_user_defined(&self.name);
        if !self.aliases.is_empty() && !own {
            return Err("network-scoped aliases are only supported for user-defined networks".to_string());
        }
        if !self.mac_address.is_empty() && !is_mac(&self.mac_address) {
            return Err(format!("{} is not a valid mac address", self.mac_address));
        }
        let addresses = EndpointIpam {
            ipv4_address: self.ipv4,
            ipv6_address: self.ipv6,
            link_local_ips: (!self.link_local.is_empty()).then_some(self.link_local),
        };
        let settings = EndpointSettings {
            ipam_config: (addresses != EndpointIpam::default()).then_some(addresses),
            links: (own && !self.links.is_empty()).then_some(self.links),
            aliases: (!self.aliases.is_empty()).then_some(self.aliases),
            mac_address: self.mac_address,
            driver_opts: (!self.driver_options.is_empty()).then_some(self.driver_options),
            gw_priority: self.priority,
            ..EndpointSettings::default()
        };
        Ok((self.name, settings))
    }
}

/// Two digits between colons or hyphens, or four between dots; 6, 8 or 20 bytes.
fn is_mac(text: &str) -> bool {
    let groups = |separator: char, width: usize| {
        let parts: Vec<&str> = text.split(separator).collect();
        let hexadecimal = |part: &&str| part.len() == width && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        parts.iter().all(hexadecimal).then_some(parts.len() * width / 2)
    };
    [groups(':', 2), groups('-', 2), groups('.', 4)]
        .into_iter()
        .flatten()
        .any(|bytes| [6, 8, 20].contains(&bytes))
}

/// A check: a domain to search names in, or `.` for none.
pub fn search_domain(text: &str) -> Result<(), String> {
    parse_search_domain(text).map(drop)
}

/// The domain without the dot at its end.
pub fn parse_search_domain(text: &str) -> Result<String, String> {
    let domain = text.trim();
    if domain == "." {
        return Ok(domain.to_string());
    }
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let good = domain.split('.').all(label) && domain.bytes().any(|byte| byte.is_ascii_alphabetic());
    if good && domain.len() < 255 {
        return Ok(domain.to_string());
    }
    Err(format!("{text} is not a valid domain"))
}

/// A name server that no container can reach under this address.
pub fn local_resolver(addresses: &[String]) -> Option<&String> {
    let is_local = |text: &&String| text.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    addresses.iter().find(is_local)
}

/// A check: an address.
pub fn address(text: &str) -> Result<(), String> {
    match text.trim().parse::<IpAddr>() {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("IP address is not correctly formatted: {text}")),
    }
}

/// A check: `name[:alias]`.
pub fn link(text: &str) -> Result<(), String> {
    match text.split(':').count() {
        _ if text.is_empty() => Err("empty string specified for links".to_string()),
        1 | 2 => Ok(()),
        _ => Err(format!("bad format for links: {text}")),
    }
}

/// `host:ip` or `host=ip`, as the API takes it: `host:ip`.
pub fn parse_host(text: &str) -> Result<String, String> {
    let parts = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .filter(|(host, _)| !host.is_empty());
    let (host, ip) = parts.ok_or_else(|| format!("bad format for add-host: {text:?}"))?;
    let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    if bare != "host-gateway" && bare.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {ip:?}"));
    }
    Ok(format!("{host}:{bare}"))
}

/// A check: a name and its address.
pub fn host(text: &str) -> Result<(), String> {
    parse_host(text).map(drop)
}

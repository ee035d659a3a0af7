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
    first.aliases.extend(matches.texts("network-alias"));
    first.link_local.extend(matches.texts("link-local-ip"));
    first.links.extend(matches.texts("link"));
    for (name, slot) in [
        ("ip", &mut first.ipv4),
        ("ip6", &mut first.ipv6),
        ("mac-address", &mut first.mac_address),
    ] {
        if let Some(value) = matches.some(name) {
            *slot = value.to_string();
        }
    }
    let mode = first.name.clone();
    let plain = ["bridge", "default", "host", "none", ""];
    let user_defined = |name: &str| !plain.contains(&name) && !name.starts_with("container:");
    let mut endpoints = BTreeMap::new();
    let alone = wanted.len() == 1;
    for attachment in wanted {
        if !attachment.aliases.is_empty() && !user_defined(&attachment.name) {
            return Err("network-scoped aliases are only supported for user-defined networks".to_string());
        }
        let own = user_defined(&attachment.name);
        if given && alone && !own && !attachment.has_options() {
            continue;
        }
        let (name, settings) = attachment.settings(own);
        if endpoints.insert(name.clone(), Some(settings)).is_some() {
            return Err(format!("network {name:?} is specified multiple times"));
        }
    }
    Ok((mode, endpoints))
}

impl Attachment {
    fn has_options(&self) -> bool {
        let texts = [&self.ipv4, &self.ipv6, &self.mac_address];
        texts.iter().any(|text| !text.is_empty())
            || !self.link_local.is_empty()
            || !self.driver_options.is_empty()
            || self.priority != 0
    }

    fn settings(self, user_defined: bool) -> (String, EndpointSettings) {
        let addresses = EndpointIpam {
            ipv4_address: self.ipv4,
            ipv6_address: self.ipv6,
            link_local_ips: (!self.link_local.is_empty()).then_some(self.link_local),
        };
        let settings = EndpointSettings {
            ipam_config: (addresses != EndpointIpam::default()).then_some(addresses),
            links: (user_defined && !self.links.is_empty()).then_some(self.links),
            aliases: (!self.aliases.is_empty()).then_some(self.aliases),
            mac_address: self.mac_address,
            driver_opts: (!self.driver_options.is_empty()).then_some(self.driver_options),
            gw_priority: self.priority,
            ..EndpointSettings::default()
        };
        (self.name, settings)
    }
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

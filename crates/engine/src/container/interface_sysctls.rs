//! `--sysctl net.ipv4.conf.eth0.…`: settings of an interface, which can be made only once it exists.
//!
//! They are taken out of the specification, whose settings are made while interfaces are still being plugged in, and go
//! with the endpoint as the driver option that does the same.
use std::collections::BTreeMap;

use corten_api::types::container::HostConfig;
use corten_network::model::EndpointRequest;

const OPTION: &str = "com.docker.network.endpoint.sysctls";
const NAME_OPTION: &str = "com.docker.network.endpoint.ifname";

/// The interface that a setting is about, and the setting with its name left open.
pub fn split(key: &str) -> Option<(&str, String)> {
    let parts: Vec<&str> = key.split('.').collect();
    match parts.as_slice() {
        ["net", family, group @ ("conf" | "neigh"), interface, name]
            if !matches!(*interface, "all" | "default" | "lo") =>
        {
            Some((interface, format!("net.{family}.{group}.IFNAME.{name}")))
        }
        _ => None,
    }
}

/// Gives endpoints the settings of their interfaces; endpoints are in the order of their interfaces.
pub fn hand_over(host: &HostConfig, endpoints: &mut [EndpointRequest]) {
    let mut by_interface: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (key, value) in host.sysctls.iter().flatten() {
        if let Some((interface, setting)) = split(key) {
            by_interface
                .entry(interface)
                .or_default()
                .push(format!("{setting}={value}"));
        }
    }
    for (number, endpoint) in endpoints.iter_mut().enumerate() {
        let name = endpoint.options.get(NAME_OPTION).cloned();
        let name = name.unwrap_or_else(|| format!("eth{number}"));
        let Some(mut settings) = by_interface.remove(name.as_str()) else {
            continue;
        };
        // What the endpoint itself says comes last, and holds.
        settings.extend(endpoint.options.get(OPTION).filter(|own| !own.is_empty()).cloned());
        endpoint.options.insert(OPTION.to_owned(), settings.join(","));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_go_with_their_interface() {
        let sysctls = [
            ("net.ipv4.conf.eth1.forwarding", "1"),
            ("net.ipv4.conf.all.forwarding", "0"),
            ("net.core.somaxconn", "9"),
        ];
        let sysctls = sysctls.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let host = HostConfig {
            sysctls: Some(sysctls.into()),
            ..HostConfig::default()
        };
        let mut endpoints = vec![EndpointRequest::default(), EndpointRequest::default()];
        hand_over(&host, &mut endpoints);
        assert!(endpoints[0].options.is_empty());
        assert_eq!(endpoints[1].options[OPTION], "net.ipv4.conf.IFNAME.forwarding=1");
    }
}

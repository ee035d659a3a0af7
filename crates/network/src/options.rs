//! Driver options: the strings of a network's `Options`, parsed once.
//!
//! Unknown names are ignored, as Docker does, so that what was made for another engine can be made here; unknown names of
//! our own (`com.corten.…`) are mistakes.
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use corten_linux::netlink::route::link::{IpvlanFlag, IpvlanMode, MacvlanMode};

use crate::{
    bridge::check_name,
    error::{Error, Result},
    firewall::model::GatewayMode,
    vlan,
};

const OURS: &str = "com.corten.";

/// What a network of driver `bridge` is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeOptions {
    /// Of the bridge; derived from the network's id when absent.
    pub name: Option<String>,
    pub icc: bool,
    pub masquerade: bool,
    /// Where ports are published that name no address.
    pub host_binding: Option<IpAddr>,
    pub mtu: Option<u32>,
    /// Of interfaces in containers: `eth`.
    pub interface_prefix: String,
    /// The bridge gets no IPv4 address.
    pub inhibit_ipv4: bool,
    /// What outgoing packets' sources become, in place of the outgoing interface's address.
    pub source4: Option<Ipv4Addr>,
    pub source6: Option<Ipv6Addr>,
    pub mode4: GatewayMode,
    pub mode6: GatewayMode,
    /// From these of the host's interfaces, published ports are reached by the containers' own addresses too.
    pub trusted: Vec<String>,
}

/// What a network of driver `macvlan` or `ipvlan` is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VlanOptions {
    /// The host's interface (`eth0`, or `eth0.10` for a VLAN of it).
    pub parent: Option<String>,
    pub mtu: Option<u32>,
    pub macvlan: MacvlanMode,
    pub ipvlan: IpvlanMode,
    pub flag: IpvlanFlag,
    pub interface_prefix: String,
}

type Options = BTreeMap<String, String>;

impl BridgeOptions {
    pub fn parse(options: &Options) -> Result<BridgeOptions> {
        refuse_unknown(options)?;
        let bridge = |key: &str| format!("com.docker.network.bridge.{key}");
        let name = text(options, &bridge("name"));
        name.iter().try_for_each(|name| check_name(name))?;
        let trusted = text(options, &bridge("trusted_host_interfaces")).unwrap_or_default();
        let trusted: Vec<String> = trusted
            .split(':')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        trusted.iter().try_for_each(|name| check_name(name))?;
        Ok(BridgeOptions {
            name,
            icc: switch(options, &bridge("enable_icc"), true)?,
            masquerade: switch(options, &bridge("enable_ip_masquerade"), true)?,
            host_binding: parsed(options, &bridge("host_binding_ipv4"), "an IP address")?,
            mtu: mtu(options)?,
            interface_prefix: prefix(options)?,
            inhibit_ipv4: switch(options, &bridge("inhibit_ipv4"), false)?,
            source4: parsed(options, "com.docker.network.host_ipv4", "an IPv4 address")?,
            source6: parsed(options, "com.docker.network.host_ipv6", "an IPv6 address")?,
            mode4: mode(options, &bridge("gateway_mode_ipv4"))?,
            mode6: mode(options, &bridge("gateway_mode_ipv6"))?,
            trusted,
        })
    }
}

impl VlanOptions {
    pub fn parse(options: &Options) -> Result<VlanOptions> {
        refuse_unknown(options)?;
        let word = |key: &str| options.get(key).map(String::as_str).unwrap_or_default();
        let parent = text(options, "parent");
        parent.iter().try_for_each(|name| check_name(name))?;
        Ok(VlanOptions {
            parent,
            mtu: mtu(options)?,
            macvlan: vlan::macvlan_mode(word("macvlan_mode"))?,
            ipvlan: vlan::ipvlan_mode(word("ipvlan_mode"))?,
            flag: vlan::ipvlan_flag(word("ipvlan_flag"))?,
            interface_prefix: prefix(options)?,
        })
    }
}

/// `com.docker.network.enable_ipv4` and `…6`: how clients said it before there was a field.
pub fn family_switch(options: &Options, key: &str) -> Result<Option<bool>> {
    match options.contains_key(key) {
        true => switch(options, key, true).map(Some),
        false => Ok(None),
    }
}

fn refuse_unknown(options: &Options) -> Result<()> {
    match options.keys().find(|key| key.starts_with(OURS)) {
        Some(key) => Err(Error::invalid(format!("unknown network option {key}"))),
        None => Ok(()),
    }
}

fn text(options: &Options, key: &str) -> Option<String> {
    options.get(key).filter(|value| !value.is_empty()).cloned()
}

fn switch(options: &Options, key: &str, default: bool) -> Result<bool> {
    match options.get(key).map(String::as_str) {
        None | Some("") => Ok(default),
        Some("1" | "t" | "T" | "true" | "True" | "TRUE") => Ok(true),
        Some("0" | "f" | "F" | "false" | "False" | "FALSE") => Ok(false),
        Some(other) => Err(Error::invalid(format!(
            "failed to parse {key} value: {other:?} is neither true nor false"
        ))),
    }
}

fn parsed<T: std::str::FromStr>(options: &Options, key: &str, what: &str) -> Result<Option<T>> {
    let refuse = |value: &String| Error::invalid(format!("failed to parse {key} value: {value:?} is not {what}"));
    text(options, key)
        .map(|value| value.parse().map_err(|_| refuse(&value)))
        .transpose()
}

fn mode(options: &Options, key: &str) -> Result<GatewayMode> {
    match options.get(key).map(String::as_str).unwrap_or_default() {
        "" | "nat" => Ok(GatewayMode::Nat),
        "nat-unprotected" => Ok(GatewayMode::NatUnprotected),
        "routed" => Ok(GatewayMode::Routed),
        "isolated" => Ok(GatewayMode::Isolated),
        other => Err(Error::invalid(format!(
            "unknown {key} {other:?}: it is one of nat, nat-unprotected, routed, isolated"
        ))),
    }
}

fn mtu(options: &Options) -> Result<Option<u32>> {
    let key = "com.docker.network.driver.mtu";
    let mtu: Option<u32> = parsed(options, key, "a number")?;
    match mtu {
        // The smallest that the kernel lets IPv4 have; zero means the default.
        Some(0) | None => Ok(None),
        Some(68..=65535) => Ok(mtu),
        Some(other) => Err(Error::invalid(format!(
            "failed to parse {key} value: {other} is not between 68 and 65535"
        ))),
    }
}

fn prefix(options: &Options) -> Result<String> {
    let prefix = text(options, "com.docker.network.container_iface_prefix").unwrap_or_else(|| "eth".to_owned());
    // There must be room for a number.
    check_name(&format!("{prefix}000"))?;
    Ok(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn compose_files_options_are_understood() {
        let parsed = BridgeOptions::parse(&options(&[
            ("com.docker.network.bridge.name", "web0"),
            ("com.docker.network.bridge.enable_icc", "false"),
            ("com.docker.network.bridge.enable_ip_masquerade", "0"),
            ("com.docker.network.bridge.host_binding_ipv4", "127.0.0.1"),
            ("com.docker.network.driver.mtu", "1400"),
            ("com.docker.network.container_iface_prefix", "net"),
            ("com.docker.network.bridge.gateway_mode_ipv6", "routed"),
            ("com.docker.network.bridge.trusted_host_interfaces", "vxlan.1:eth0"),
            ("com.example.other", "x"),
        ]));
        // A colon separates trusted interfaces, so that none of them can have one.
        let parsed = parsed.expect("valid");
        assert_eq!(
            (parsed.name.as_deref(), parsed.icc, parsed.masquerade),
            (Some("web0"), false, false)
        );
        assert_eq!((parsed.mtu, parsed.interface_prefix.as_str()), (Some(1400), "net"));
        assert_eq!((parsed.mode4, parsed.mode6), (GatewayMode::Nat, GatewayMode::Routed));
        assert_eq!(parsed.trusted, ["vxlan.1", "eth0"]);
        let nothing = BridgeOptions::parse(&options(&[])).expect("valid");
        assert!(nothing.icc && nothing.masquerade && nothing.interface_prefix == "eth" && nothing.mtu.is_none());
    }

    #[test]
    fn mistakes_are_refused_and_name_the_option() {
        for (key, value) in [
            ("com.docker.network.bridge.name", "much-too-long-for-it"),
            ("com.docker.network.bridge.name", "a/b"),
            ("com.docker.network.bridge.enable_icc", "perhaps"),
            ("com.docker.network.driver.mtu", "-1"),
            ("com.docker.network.driver.mtu", "10"),
            ("com.docker.network.bridge.host_binding_ipv4", "localhost"),
            ("com.docker.network.bridge.gateway_mode_ipv4", "natural"),
            ("com.corten.network.unknown", "1"),
        ] {
            let error = BridgeOptions::parse(&options(&[(key, value)])).expect_err(value);
            assert!(
                error.to_string().contains(value) || error.to_string().contains(key),
                "{error}"
            );
        }
        VlanOptions::parse(&options(&[("macvlan_mode", "fast")])).expect_err("no such mode");
        let vlan = VlanOptions::parse(&options(&[("parent", "eth0.10"), ("ipvlan_mode", "l3")])).expect("valid");
        assert_eq!(
            (vlan.parent.as_deref(), vlan.ipvlan, vlan.macvlan),
            (Some("eth0.10"), IpvlanMode::L3, MacvlanMode::Bridge)
        );
    }
}

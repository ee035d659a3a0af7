//! What an operator decides about networks: dockerd's flags and the keys of `daemon.json`, as the engine's configuration.
//!
//! Most of it shapes one network, the default bridge. What would need iptables is refused.
use std::{net::IpAddr, path::Path};

use corten_engine::config::NetworkConfig;
use corten_network::{bridge::check_name, firewall::model::Switched};

use crate::config::{
    error::{ConfigError, invalid as value},
    network_bridge::Family,
    network_file::NetworkFile,
    network_flags::NetworkFlags,
    network_value::{addresses, host_gateways, pools},
};

const DEFAULT_RUN_ROOT: &str = "/run/corten";
const BRIDGE: &str = "com.docker.network.bridge";
const MTU: &str = "com.docker.network.driver.mtu";

fn either(flag: &[String], file: Vec<String>) -> Vec<String> {
    if flag.is_empty() { file } else { flag.to_vec() }
}

/// No setting is in both: whichever is there is meant.
pub fn join(
    flags: &NetworkFlags,
    file: NetworkFile,
    data_root: &Path,
    run_root: &Path,
) -> Result<NetworkConfig, ConfigError> {
    let text = |flag: &Option<String>, file: &Option<String>| {
        flag.clone().or_else(|| file.clone()).filter(|text| !text.is_empty())
    };
    refuse_absent(flags, &file)?;
    let mut config = NetworkConfig::default();
    let suffix = suffix(run_root);
    config.controller.table.push_str(&suffix);
    config.controller.bridge.push_str(&suffix);
    config.controller.identity = data_root.to_string_lossy().into_owned();
    config.controller.proxy = flags.userland_proxy.or(file.userland_proxy).unwrap_or(true);
    config.controller.flow_offload = flags.flow_offload.or(file.flow_offload).unwrap_or(true);
    config.controller.address_pools = pools(&flags.default_address_pools, &file.default_address_pools)?;
    config.controller.dns = addresses("dns", &either(&flags.dns, file.dns))?;
    config.dns_search = either(&flags.dns_search, file.dns_search);
    config.dns_options = either(&flags.dns_opts, file.dns_opts);
    let gateways = either(&flags.host_gateway_ips, file.host_gateway_ips);
    let gateways = file.host_gateway_ip.into_iter().chain(gateways).collect::<Vec<_>>();
    config.host_gateway_ips = host_gateways(&gateways)?;
    config.default_options = file.default_network_opts;
    for option in &flags.default_network_opts {
        let mut parts = option.splitn(3, '=');
        let (Some(driver), Some(key), Some(text)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(value(
                "default-network-opt",
                format!("\"{option}\" is not DRIVER=KEY=VALUE"),
            ));
        };
        let options = config.default_options.entry(driver.to_owned()).or_default();
        options.insert(key.to_owned(), text.to_owned());
    }
    match text(&flags.bridge, &file.bridge).as_deref() {
        None => {}
        Some("none") => config.no_default_bridge = true,
        Some(name) => {
            if text(&flags.bip, &file.bip).is_some() {
                let reason = "the bridge has its own address: --bridge and --bip exclude each other";
                return Err(value("bridge", reason));
            }
            check_name(name).map_err(|error| value("bridge", error.to_string()))?;
            name.clone_into(&mut config.controller.bridge);
            config.controller.bridge_is_made = true;
        }
    }
    config.controller.firewall = Switched {
        ipv4: flags.iptables.or(file.iptables).unwrap_or(true),
        ipv6: flags.ip6tables.or(file.ip6tables).unwrap_or(true),
    };
    config.controller.forward = flags.ip_forward.or(file.ip_forward).unwrap_or(true);
    config.controller.direct_routing = flags
        .allow_direct_routing
        .or(file.allow_direct_routing)
        .unwrap_or(false);
    let bridge = &mut config.default_bridge;
    bridge.ipv6 = flags.ipv6.or(file.ipv6);
    let families = [
        Family {
            bip: ("bip", text(&flags.bip, &file.bip)),
            range: ("fixed-cidr", text(&flags.fixed_cidr, &file.fixed_cidr)),
            gateway: ("default-gateway", text(&flags.default_gateway, &file.default_gateway)),
            is_ipv4: true,
        },
        Family {
            bip: ("bip6", text(&flags.bip6, &file.bip6)),
            range: ("fixed-cidr-v6", text(&flags.fixed_cidr_v6, &file.fixed_cidr_v6)),
            gateway: (
                "default-gateway-v6",
                text(&flags.default_gateway_v6, &file.default_gateway_v6),
            ),
            is_ipv4: false,
        },
    ];
    for family in families {
        bridge.subnets.extend(family.subnet()?);
    }
    let switches = [
        ("enable_icc", flags.icc.or(file.icc)),
        ("enable_ip_masquerade", flags.ip_masq.or(file.ip_masq)),
    ];
    for (name, switch) in switches {
        if let Some(on) = switch {
            bridge.options.insert(format!("{BRIDGE}.{name}"), on.to_string());
        }
    }
    if let Some(text) = text(&flags.ip, &file.ip) {
        let address: IpAddr = text
            .parse()
            .map_err(|_| value("ip", format!("\"{text}\" is no address")))?;
        bridge
            .options
            .insert(format!("{BRIDGE}.host_binding_ipv4"), address.to_string());
    }
    match flags.mtu.or(file.mtu) {
        None | Some(0) => {}
        Some(mtu @ 68..=65535) => {
            bridge.options.insert(MTU.to_owned(), mtu.to_string());
        }
        Some(mtu) => return Err(value("mtu", format!("{mtu} is not between 68 and 65535"))),
    }
    Ok(config)
}

fn refuse_absent(flags: &NetworkFlags, file: &NetworkFile) -> Result<(), ConfigError> {
    match flags.firewall_backend.as_deref().or(file.firewall_backend.as_deref()) {
        None | Some("" | "nftables") => Ok(()),
        Some(other) => Err(ConfigError::NotImplemented(format!(
            "firewall backend {other} (use nftables)"
        ))),
    }
}

/// Two daemons on one host must not share a table or a bridge: what tells them apart is the run root.
fn suffix(run_root: &Path) -> String {
    if run_root == Path::new(DEFAULT_RUN_ROOT) {
        return String::new();
    }
    let bytes = run_root.as_os_str().as_encoded_bytes().iter();
    // FNV-1a: the same for the same path, for ever.
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("-{:06x}", (hash ^ (hash >> 24) ^ (hash >> 48)) & 0xff_ffff)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::flags::Flags;

    fn load(arguments: &[&str], file: &str) -> Result<NetworkConfig, String> {
        let flags = Flags::try_parse_from(["dockerd"].iter().chain(arguments)).expect("good flags");
        let file: NetworkFile = serde_json::from_str(file).expect("a good file");
        join(&flags.network, file, Path::new("/data"), Path::new(DEFAULT_RUN_ROOT)).map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_word_everything_is_the_engines_default() {
        let config = load(&[], "{}").unwrap();
        assert_eq!(config.controller.table, "corten");
        assert_eq!(config.controller.bridge, "corten0");
        assert!(config.controller.proxy && !config.no_default_bridge);
        assert_eq!(config.default_bridge, Default::default());
    }

    #[test]
    fn another_run_root_has_another_table_and_bridge() {
        let config = |root: &str| {
            join(
                &NetworkFlags::default(),
                NetworkFile::default(),
                Path::new("/data"),
                Path::new(root),
            )
            .unwrap()
        };
        let (one, other) = (config("/run/a").controller, config("/run/b").controller);
        assert_ne!(one.table, other.table);
        assert!(
            one.bridge.starts_with("corten0-") && one.bridge.len() <= 15,
            "{}",
            one.bridge
        );
        assert_eq!(one.table, config("/run/a").controller.table);
    }

    #[test]
    fn the_default_bridge_is_shaped_by_flags_or_file() {
        let by_flags = [
            "--bip=10.9.0.5/16",
            "--fixed-cidr=10.9.1.0/24",
            "--bip6=fd00:1::1/64",
            "--ipv6",
            "--icc=false",
            "--ip-masq=false",
            "--ip=127.0.0.1",
            "--mtu=1400",
        ];
        let by_file = r#"{"bip": "10.9.0.5/16", "fixed-cidr": "10.9.1.0/24", "bip6": "fd00:1::1/64", "ipv6": true,
            "icc": false, "ip-masq": false, "ip": "127.0.0.1", "mtu": 1400}"#;
        for config in [load(&by_flags, "{}").unwrap(), load(&[], by_file).unwrap()] {
            let bridge = config.default_bridge;
            assert_eq!(bridge.ipv6, Some(true));
            let [v4, v6] = &bridge.subnets[..] else {
                panic!("two subnets")
            };
            assert_eq!(v4.subnet, "10.9.0.0/16".parse().ok());
            assert_eq!(v4.range, "10.9.1.0/24".parse().ok());
            assert_eq!(v4.gateway, "10.9.0.5".parse().ok());
            assert_eq!((v6.subnet, v6.range), ("fd00:1::/64".parse().ok(), None));
            let option = |name: &str| bridge.options[&format!("com.docker.network.{name}")].as_str();
            assert_eq!(option("bridge.enable_icc"), "false");
            assert_eq!(option("bridge.enable_ip_masquerade"), "false");
            assert_eq!(option("bridge.host_binding_ipv4"), "127.0.0.1");
            assert_eq!(option("driver.mtu"), "1400");
        }
        assert!(load(&["--bridge", "none"], "{}").unwrap().no_default_bridge);
        let only_range = load(&["--fixed-cidr", "10.9.1.0/24"], "{}").unwrap();
        assert_eq!(only_range.default_bridge.subnets[0].subnet, "10.9.1.0/24".parse().ok());
    }

    #[test]
    fn operators_may_keep_bridge_firewall_and_forwarding_for_themselves() {
        let flags = [
            "--bridge=br0",
            "--iptables=false",
            "--ip-forward=false",
            "--allow-direct-routing",
        ];
        let network = load(&flags, "{}").unwrap().controller;
        assert_eq!((network.bridge.as_str(), network.bridge_is_made), ("br0", true));
        assert!(!network.firewall.ipv4 && network.firewall.ipv6);
        assert!(!network.forward && network.direct_routing);
        let file = load(&[], r#"{"ip6tables": false, "ip-forward": false}"#)
            .unwrap()
            .controller;
        assert!(file.firewall.ipv4 && !file.firewall.ipv6 && !file.forward && !file.direct_routing);
    }

    #[test]
    fn another_router_on_the_default_bridge_is_an_auxiliary_address() {
        let config = load(&["--bip=10.9.0.1/16", "--default-gateway=10.9.0.254"], "{}").unwrap();
        let subnet = &config.default_bridge.subnets[0];
        assert_eq!(subnet.gateway, "10.9.0.1".parse().ok());
        let router: IpAddr = "10.9.0.254".parse().unwrap();
        assert_eq!(subnet.auxiliary["DefaultGatewayIPv4"], router);
        let config = load(&["--bip=10.9.0.1/16", "--default-gateway=10.9.0.1"], "{}").unwrap();
        assert!(config.default_bridge.subnets[0].auxiliary.is_empty());
    }

    #[test]
    fn the_rest_is_for_all_networks() {
        let config = load(
            &[
                "--default-address-pool",
                "base=10.8.0.0/16,size=24",
                "--default-network-opt",
                "bridge=com.docker.network.driver.mtu=9000",
                "--dns=1.1.1.1",
                "--dns-opt=ndots:2",
                "--dns-search=a.example",
                "--host-gateway-ip=192.0.2.1",
                "--userland-proxy=false",
            ],
            "{}",
        )
        .unwrap();
        assert_eq!(config.controller.address_pools, [("10.8.0.0/16".parse().unwrap(), 24)]);
        assert_eq!(
            config.default_options["bridge"]["com.docker.network.driver.mtu"],
            "9000"
        );
        assert_eq!(config.controller.dns, ["1.1.1.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(
            (config.dns_options, config.dns_search),
            (vec!["ndots:2".to_owned()], vec!["a.example".to_owned()])
        );
        assert_eq!(config.host_gateway_ips.len(), 1);
        assert!(!config.controller.proxy);
        let file = r#"{"default-address-pools": [{"base": "10.8.0.0/16", "size": 24}], "host-gateway-ips": ["fd00::1"],
            "default-network-opts": {"bridge": {"a": "b"}}, "dns": ["::1"], "firewall-backend": "nftables"}"#;
        let config = load(&[], file).unwrap();
        assert_eq!(config.controller.address_pools.len(), 1);
        assert_eq!(config.default_options["bridge"]["a"], "b");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let cases: [(&[&str], &str); 11] = [
            (
                &["--firewall-backend=iptables"],
                "firewall backend iptables (use nftables)",
            ),
            (
                &["--bridge=br0", "--bip=10.0.0.1/24"],
                "--bridge and --bip exclude each other",
            ),
            (&["--bridge=no/bridge"], "invalid interface name"),
            (&["--bip=10.0.0.1"], "invalid value for bip: \"10.0.0.1\""),
            (&["--bip=fd00::1/64"], "of the other family"),
            (
                &["--bip=10.0.0.1/16", "--fixed-cidr=10.1.0.0/24"],
                "10.1.0.0/24 is not part of 10.0.0.0/16",
            ),
            (
                &["--bip=10.0.0.1/16", "--default-gateway=10.1.0.9"],
                "10.1.0.9 is not part of 10.0.0.0/16",
            ),
            (&["--dns=one"], "one is not an ip address"),
            (
                &["--host-gateway-ip=1.1.1.1", "--host-gateway-ip=2.2.2.2"],
                "only one IPv4 host gateway",
            ),
            (&["--default-address-pool=base=10.0.0.0/16,size=8"], "cannot be divided"),
            (&["--mtu=1"], "1 is not between 68 and 65535"),
        ];
        for (arguments, expected) in cases {
            let message = load(arguments, "{}").expect_err("refused");
            assert!(message.contains(expected), "{message}");
        }
    }
}

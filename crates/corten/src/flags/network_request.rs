//! From flags to the bodies of `POST /networks/create` and `/networks/{name}/connect`.
use std::collections::BTreeMap;
use std::net::IpAddr;

use corten_api::types::network::{
    ConfigReference, EndpointIpam, EndpointSettings, Ipam, IpamPool, NetworkCreateRequest,
};

use crate::arguments::Matches;
use crate::flags::{csv, environment};

/// A check: values between commas.
pub fn check_list(text: &str) -> Result<(), String> {
    fields(text).map(drop)
}

/// An empty text has no fields.
fn fields(text: &str) -> Result<Vec<String>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    csv::fields(text)
}

/// All values of a flag that may be repeated and may list several at once.
fn all(matches: &Matches, flag: &str) -> Result<Vec<String>, String> {
    let lists = matches.list(flag).map(fields).collect::<Result<Vec<_>, String>>()?;
    Ok(lists.into_iter().flatten().collect())
}

pub fn create(matches: &Matches) -> Result<NetworkCreateRequest, String> {
    let text = |flag: &str, default: &str| matches.text(flag).unwrap_or(default).to_string();
    Ok(NetworkCreateRequest {
        name: matches.argument(0).to_string(),
        check_duplicate: None,
        driver: text("driver", "bridge"),
        scope: matches.owned("scope"),
        enable_ipv4: matches.given("ipv4").then(|| matches.on_by_default("ipv4")),
        enable_ipv6: matches.given("ipv6").then(|| matches.on("ipv6")),
        ipam: Some(Ipam {
            driver: text("ipam-driver", "default"),
            options: Some(environment::map(matches.list("ipam-opt"))),
            config: Some(pools(matches)?),
        }),
        internal: matches.on("internal"),
        attachable: matches.on("attachable"),
        ingress: matches.on("ingress"),
        config_only: matches.on("config-only"),
        config_from: matches.some("config-from").map(|network| ConfigReference {
            network: network.to_string(),
        }),
        options: environment::map(matches.list("opt")),
        labels: environment::map(matches.list("label")),
    })
}

/// A subnet as far as it can be understood: what is none is the daemon's to refuse.
#[derive(Clone, Copy)]
struct Prefix {
    address: IpAddr,
    bits: u8,
}

impl Prefix {
    fn parse(text: &str) -> Result<Prefix, String> {
        let refuse = || format!("invalid CIDR address: {text}");
        let (address, bits) = text.split_once('/').ok_or_else(refuse)?;
        let address: IpAddr = address.parse().map_err(|_| refuse())?;
        let widest = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.parse().ok().filter(|bits| *bits <= widest);
        let bits: u8 = bits.ok_or_else(refuse)?;
        Ok(Prefix { address, bits })
    }

    fn contains(self, address: IpAddr) -> bool {
        let wide = |address: IpAddr| match address {
            IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
            IpAddr::V6(address) => u128::from(address),
        };
        let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
        self.address.is_ipv4() == address.is_ipv4() && (wide(self.address) ^ wide(address)) & mask == 0
    }
}

/// Is `text`, an address or a prefix, within `subnet`?
fn within(subnet: &str, text: &str) -> Result<bool, String> {
    let subnet = Prefix::parse(subnet)?;
    let address = match text.contains('/') {
        true => Some(Prefix::parse(text)?.address),
        false => text.parse().ok(),
    };
    Ok(address.is_some_and(|address| subnet.contains(address)))
}

fn pools(matches: &Matches) -> Result<Vec<IpamPool>, String> {
    let (subnets, ranges, gateways) = (
        all(matches, "subnet")?,
        all(matches, "ip-range")?,
        all(matches, "gateway")?,
    );
    if subnets.len() < ranges.len() || subnets.len() < gateways.len() {
        return Err("every ip-range or gateway must have a corresponding subnet".to_string());
    }
    let mut pools: Vec<IpamPool> = Vec::new();
    for subnet in subnets {
        for known in &pools {
            if within(&subnet, &known.subnet)? || within(&known.subnet, &subnet)? {
                return Err("multiple overlapping subnet configuration is not supported".to_string());
            }
        }
        pools.push(IpamPool {
            subnet,
            ..IpamPool::default()
        });
    }
    for range in &ranges {
        let pool = matching(&mut pools, range)?.ok_or_else(|| format!("no matching subnet for range {range}"))?;
        if !pool.ip_range.is_empty() {
            return Err(format!(
                "cannot configure multiple ranges ({range}, {}) on the same subnet ({})",
                pool.ip_range, pool.subnet
            ));
        }
        pool.ip_range.clone_from(range);
    }
    for gateway in &gateways {
        let pool = matching(&mut pools, gateway)?.ok_or_else(|| format!("no matching subnet for gateway {gateway}"))?;
        if !pool.gateway.is_empty() {
            return Err(format!(
                "cannot configure multiple gateways ({gateway}, {}) for the same subnet ({})",
                pool.gateway, pool.subnet
            ));
        }
        pool.gateway.clone_from(gateway);
    }
    let auxiliary: BTreeMap<String, String> = environment::map(matches.list("aux-address"));
    for (name, address) in auxiliary {
        let pool =
            matching(&mut pools, &address)?.ok_or_else(|| format!("no matching subnet for aux-address {address}"))?;
        pool.auxiliary_addresses.insert(name, address);
    }
    Ok(pools)
}

fn matching<'a>(pools: &'a mut [IpamPool], text: &str) -> Result<Option<&'a mut IpamPool>, String> {
    for pool in pools {
        if within(&pool.subnet, text)? {
            return Ok(Some(pool));
        }
    }
    Ok(None)
}

/// The wishes of `network connect`.
pub fn endpoint(matches: &Matches) -> Result<EndpointSettings, String> {
    let mut driver_opts = BTreeMap::new();
    for option in all(matches, "driver-opt")? {
        let pair = option.split_once('=').filter(|(key, _)| !key.is_empty());
        let (key, value) = pair.ok_or("invalid key/value pair format in driver options")?;
        driver_opts.insert(key.to_string(), value.to_string());
    }
    let links = matches.texts("link");
    Ok(EndpointSettings {
        ipam_config: Some(EndpointIpam {
            ipv4_address: matches.owned("ip"),
            ipv6_address: matches.owned("ip6"),
            link_local_ips: Some(all(matches, "link-local-ip")?).filter(|list| !list.is_empty()),
        }),
        links: Some(links).filter(|list| !list.is_empty()),
        aliases: Some(all(matches, "alias")?),
        driver_opts: Some(driver_opts),
        gw_priority: matches.number("gw-priority").unwrap_or(0),
        ..EndpointSettings::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::arguments;
    use crate::command::network::{CONNECT, CREATE};

    fn read(flags: &'static [&'static [arguments::Flag]], line: &str) -> Matches {
        let words: Vec<String> = line.split(' ').map(str::to_string).collect();
        arguments::parse(flags, true, &words).unwrap()
    }

    /// What docker's client (28.2.2) sent to a listener of ours, and the changes that flags make to it.
    #[test]
    fn the_request_is_what_dockers_client_sends() {
        let base = json!({"Driver": "bridge", "Scope": "", "IPAM": {"Driver": "default", "Options": {}, "Config": []},
            "Internal": false, "Attachable": false, "Ingress": false, "ConfigOnly": false, "ConfigFrom": null,
            "Options": {}, "Labels": {}, "Name": "n"});
        let ipam = |config: Value| json!({"IPAM": {"Driver": "default", "Options": {}, "Config": config}});
        let cases = [
            ("n", json!({})),
            (
                "--ipv6 --ipv4=false --internal --attachable -d macvlan -o parent=eth0 -o a --label x=y --label z n",
                json!({"Driver": "macvlan", "EnableIPv4": false, "EnableIPv6": true, "Internal": true,
                    "Attachable": true, "Options": {"a": "", "parent": "eth0"}, "Labels": {"x": "y", "z": ""}}),
            ),
            (
                "--subnet 10.1.0.0/16 --gateway 10.1.0.1 --ip-range 10.1.2.0/24 --aux-address r=10.1.0.5 n",
                ipam(
                    json!([{"Subnet": "10.1.0.0/16", "IPRange": "10.1.2.0/24", "Gateway": "10.1.0.1",
                    "AuxiliaryAddresses": {"r": "10.1.0.5"}}]),
                ),
            ),
            (
                "--subnet 10.1.0.0/16,fd00::/64 --gateway fd00::1,10.1.0.1 n",
                ipam(json!([{"Subnet": "10.1.0.0/16", "Gateway": "10.1.0.1"},
                    {"Subnet": "fd00::/64", "Gateway": "fd00::1"}])),
            ),
            ("--subnet foo n", ipam(json!([{"Subnet": "foo"}]))),
            (
                "--ipam-opt k=v --ipam-driver foo n",
                json!({"IPAM": {"Driver": "foo", "Options": {"k": "v"}, "Config": []}}),
            ),
            (
                "--scope local --config-from other --config-only --ingress n",
                json!({"Scope": "local", "ConfigFrom": {"Network": "other"}, "ConfigOnly": true, "Ingress": true}),
            ),
        ];
        for (line, changes) in cases {
            let mut expected = base.clone();
            for (key, value) in changes.as_object().unwrap() {
                expected[key] = value.clone();
            }
            let request = create(&read(CREATE.flags, line)).unwrap();
            assert_eq!(serde_json::to_value(request).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused_in_dockers_words() {
        let cases = [
            (
                "--gateway 10.0.0.1 n",
                "every ip-range or gateway must have a corresponding subnet",
            ),
            (
                "--subnet 10.1.0.0/16 --subnet 10.1.2.0/24 n",
                "multiple overlapping subnet configuration is not supported",
            ),
            (
                "--subnet 10.1.0.0/16 --ip-range 10.2.0.0/24 n",
                "no matching subnet for range 10.2.0.0/24",
            ),
            (
                "--subnet 10.1.0.0/16 --gateway 10.2.0.1 n",
                "no matching subnet for gateway 10.2.0.1",
            ),
            (
                "--subnet 10.1.0.0/16,10.2.0.0/16 --gateway 10.2.0.1,10.2.0.2 n",
                "cannot configure multiple gateways (10.2.0.2, 10.2.0.1) for the same subnet (10.2.0.0/16)",
            ),
            (
                "--subnet 10.1.0.0/16,10.2.0.0/16 --ip-range 10.2.0.0/24,10.2.2.0/24 n",
                "cannot configure multiple ranges (10.2.2.0/24, 10.2.0.0/24) on the same subnet (10.2.0.0/16)",
            ),
            (
                "--subnet 10.1.0.0/16 --aux-address r=10.2.0.5 n",
                "no matching subnet for aux-address 10.2.0.5",
            ),
            (
                "--aux-address r=1.2.3.4 n",
                "no matching subnet for aux-address 1.2.3.4",
            ),
            (
                "--subnet 10.1.0.0/16 --gateway foo n",
                "no matching subnet for gateway foo",
            ),
            ("--subnet 10.1.0.0/16 --ip-range foo/1 n", "invalid CIDR address: foo/1"),
        ];
        for (line, expected) in cases {
            assert_eq!(create(&read(CREATE.flags, line)).unwrap_err(), expected, "{line}");
        }
    }

    #[test]
    fn wishes_travel_as_dockers_client_sends_them() {
        let line = "--ip 10.0.0.1 --ip6 fd00::1 --alias a,b --alias c --link x:y --link z --link-local-ip 169.254.1.1 \
                    --driver-opt k=v --driver-opt l=m --gw-priority -3 n c";
        let sent = serde_json::to_value(endpoint(&read(CONNECT.flags, line)).unwrap()).unwrap();
        assert_eq!(
            sent,
            json!({"IPAMConfig": {"IPv4Address": "10.0.0.1", "IPv6Address": "fd00::1",
                "LinkLocalIPs": ["169.254.1.1"]}, "Links": ["x:y", "z"], "Aliases": ["a", "b", "c"], "MacAddress": "",
                "DriverOpts": {"k": "v", "l": "m"}, "GwPriority": -3, "NetworkID": "", "EndpointID": "", "Gateway": "",
                "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "", "GlobalIPv6Address": "",
                "GlobalIPv6PrefixLen": 0, "DNSNames": null})
        );
        let plain = serde_json::to_value(endpoint(&read(CONNECT.flags, "n c")).unwrap()).unwrap();
        assert_eq!(
            (
                &plain["IPAMConfig"],
                &plain["Aliases"],
                &plain["Links"],
                &plain["DriverOpts"]
            ),
            (&json!({}), &json!([]), &Value::Null, &json!({}))
        );
        assert_eq!(
            endpoint(&read(CONNECT.flags, "--driver-opt k n c")).unwrap_err(),
            "invalid key/value pair format in driver options"
        );
    }
}

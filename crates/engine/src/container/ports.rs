//! Exposed and published ports, from the API's words to numbers.
use std::{net::IpAddr, ops::RangeInclusive};

use corten_api::types::container::{ContainerConfig, HostConfig, PortBinding};
use corten_network::model::{PortRequest, Protocol};

use crate::error::{Error, Result};

/// `80/tcp`, `53/udp`, or a range of `ExposedPorts` (`8000-8010/tcp`). Without a protocol it is TCP.
pub fn exposed(text: &str) -> Result<(Protocol, RangeInclusive<u16>)> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "" | "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        other => return Err(Error::invalid(format!("invalid proto: {other}"))),
    };
    let range = range(ports).ok_or_else(|| refused(ports))?;
    if *range.start() == 0 {
        return Err(refused(ports));
    }
    Ok((protocol, range))
}

/// Every exposed port, one by one.
pub fn all_exposed(config: &ContainerConfig) -> Result<Vec<(Protocol, u16)>> {
    let mut all = Vec::new();
    for text in config.exposed_ports.iter().flatten().map(|(text, _)| text) {
        let (protocol, ports) = exposed(text)?;
        all.extend(ports.map(|port| (protocol, port)));
    }
    Ok(all)
}

/// What `-p` comes to.
pub fn published(host: &HostConfig) -> Result<Vec<PortRequest>> {
    let mut requests = Vec::new();
    for (text, bindings) in host.port_bindings.iter().flatten() {
        let (protocol, ports) = exposed(text)?;
        if ports.start() != ports.end() {
            return Err(refused(text.split('/').next().unwrap_or(text)));
        }
        for binding in bindings.iter().flatten() {
            requests.push(PortRequest {
                protocol,
                container_port: *ports.start(),
                host_ip: address(binding)?,
                host_ports: host_ports(binding)?,
            });
        }
    }
    Ok(requests)
}

/// Ports that `--publish-all` gives a host port: exposed ones, and those of empty `PortBindings`, that no binding names.
pub fn published_at_random(config: &ContainerConfig, host: &HostConfig) -> Result<Vec<(Protocol, u16)>> {
    if !host.publish_all_ports {
        return Ok(Vec::new());
    }
    let mut wanted = all_exposed(config)?;
    for (text, _) in host.port_bindings.iter().flatten() {
        let (protocol, ports) = exposed(text)?;
        wanted.push((protocol, *ports.start()));
    }
    let bound = published(host)?;
    wanted.retain(|(protocol, port)| {
        !bound
            .iter()
            .any(|request| request.protocol == *protocol && request.container_port == *port)
    });
    wanted.sort_unstable();
    wanted.dedup();
    Ok(wanted)
}

fn address(binding: &PortBinding) -> Result<Option<IpAddr>> {
    let text = binding.host_ip.trim_start_matches('[').trim_end_matches(']');
    if text.is_empty() {
        return Ok(None);
    }
    // An IPv4 address may come as `::ffff:192.0.2.1`.
    let address = text.parse().map(|address: IpAddr| address.to_canonical());
    address
        .map(Some)
        .map_err(|_| Error::invalid(format!("invalid IP address: {}", binding.host_ip)))
}

/// Absent where the kernel may choose: empty, or 0.
fn host_ports(binding: &PortBinding) -> Result<Option<RangeInclusive<u16>>> {
    // A protocol is tolerated here, and means nothing.
    let text = binding.host_port.split('/').next().unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    let range = range(text).ok_or_else(|| refused(text))?;
    Ok((range != (0..=0)).then_some(range))
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten()
    };
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..=last)
}

fn refused(port: &str) -> Error {
    Error::invalid(format!("invalid port specification: {port:?}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn host(port: &str, address: &str, host_port: &str) -> HostConfig {
        let binding = PortBinding {
            host_ip: address.to_owned(),
            host_port: host_port.to_owned(),
        };
        HostConfig {
            port_bindings: Some([(port.to_owned(), Some(vec![binding]))].into()),
            ..HostConfig::default()
        }
    }

    #[test]
    fn bindings_become_requests() {
        let one = |port, address, host_port| published(&host(port, address, host_port)).expect("valid")[0].clone();
        let request = one("80/tcp", "", "8080");
        assert_eq!((request.container_port, request.host_ip), (80, None));
        assert_eq!(request.host_ports, Some(8080..=8080));
        assert_eq!(one("53/udp", "127.0.0.1", "").host_ports, None);
        assert_eq!(one("53", "::1", "0").host_ports, None);
        assert_eq!(
            one("53", "[::1]", "0").host_ip,
            Some("::1".parse().expect("an address"))
        );
        assert_eq!(
            one("53", "[::ffff:127.0.0.1]", "0").host_ip,
            Some("127.0.0.1".parse().expect("an address"))
        );
        assert_eq!(one("9/sctp", "", "9000-9010").host_ports, Some(9000..=9010));
    }

    #[test]
    fn nonsense_is_refused_in_dockers_words() {
        for (port, address, host_port, words) in [
            ("70000/tcp", "", "", "invalid port specification: \"70000\""),
            ("0/tcp", "", "", "invalid port specification: \"0\""),
            ("80/tcp", "", "70000", "invalid port specification: \"70000\""),
            ("80/tcp", "", "9-8", "invalid port specification: \"9-8\""),
            ("80/tcp", "", "x", "invalid port specification: \"x\""),
            ("80-82/tcp", "", "", "invalid port specification: \"80-82\""),
            ("80/icmp", "", "", "invalid proto: icmp"),
            ("80/tcp", "nowhere", "", "invalid IP address: nowhere"),
        ] {
            let error = published(&host(port, address, host_port)).expect_err(words);
            assert_eq!(error.to_string(), words);
        }
    }

    #[test]
    fn publish_all_takes_what_is_exposed_and_not_bound() {
        let exposed = ["80/tcp", "90-92/udp"].map(|port| (port.to_owned(), Default::default()));
        let config = ContainerConfig {
            exposed_ports: Some(BTreeMap::from(exposed)),
            ..ContainerConfig::default()
        };
        let mut host = host("80/tcp", "", "8080");
        assert!(published_at_random(&config, &host).expect("valid").is_empty());
        host.publish_all_ports = true;
        let ports = published_at_random(&config, &host).expect("valid");
        assert_eq!(ports, [90, 91, 92].map(|port| (Protocol::Udp, port)));
    }
}

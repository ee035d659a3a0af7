//! `--publish` and `--expose`.
use std::collections::BTreeMap;
use std::net::IpAddr;

use corten_api::types::container::{Empty, PortBinding};

/// Ports of the container, and where they are published.
pub type Bindings = BTreeMap<String, Option<Vec<PortBinding>>>;

/// Reads all `--publish` and `--expose` flags.
pub fn parse<'a>(
    published: impl Iterator<Item = &'a str>,
    exposed: impl Iterator<Item = &'a str>,
) -> Result<(BTreeMap<String, Empty>, Bindings), String> {
    let mut ports = BTreeMap::new();
    let mut bindings = Bindings::new();
    for text in published {
        for (port, binding) in publish(text)? {
            ports.insert(port.clone(), Empty {});
            bindings.entry(port).or_default().get_or_insert_default().push(binding);
        }
    }
    for text in exposed {
        if text.contains(':') {
            return Err(format!("invalid port format for --expose: {text}"));
        }
        let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = number_range(range).map_err(|word| {
            let refuse = |reason: String| format!("invalid range format for --expose: {text}, error: {reason}");
            if word.is_empty() {
                return refuse("empty string specified for ports".to_string());
            }
            if word.contains('-') {
                return refuse(format!("invalid range specified for port: {word}"));
            }
            let reason = if word.bytes().all(|byte| byte.is_ascii_digit()) {
                "value out of range"
            } else {
                "invalid syntax"
            };
            refuse(format!("strconv.ParseUint: parsing {word:?}: {reason}"))
        })?;
        for port in first..=last {
            ports.insert(format!("{port}/{protocol}"), Empty {});
        }
    }
    Ok((ports, bindings))
}

/// `[ip:][host]:container[/protocol]`, with ranges, or `target=…,published=…,protocol=…`.
fn publish(text: &str) -> Result<Vec<(String, PortBinding)>, String> {
    let spelled = if text.contains('=') {
        long_form(text)?
    } else {
        text.to_string()
    };
    let (address, protocol) = spelled.split_once('/').unwrap_or((&spelled, "tcp"));
    let protocol = protocol.to_lowercase();
    let (rest, container) = match address.rsplit_once(':') {
        Some((rest, container)) => (Some(rest), container),
        None => (None, address),
    };
    let (ip, host) = match rest.map(|rest| (rest, rest.rsplit_once(':'))) {
        None => ("", ""),
        Some((_, Some((ip, host)))) => (ip, host),
        Some((host, None)) => ("", host),
    };
    if container.is_empty() {
        return Err(format!("no port specified: {spelled}<empty>"));
    }
    let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address: {ip}"));
    }
    let (first, last) = number_range(container).map_err(|_| format!("invalid containerPort: {container}"))?;
    let host_range = match host {
        "" => None,
        host => Some(number_range(host).map_err(|_| format!("invalid hostPort: {host}"))?),
    };
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(format!("invalid proto: {protocol}"));
    }
    let binding = |host_port: String| PortBinding {
        host_ip: ip.to_string(),
        host_port,
    };
    let Some((host_first, host_last)) = host_range else {
        return Ok((first..=last)
            .map(|port| (format!("{port}/{protocol}"), binding(String::new())))
            .collect());
    };
    if first == last && host_first != host_last {
        // One port, and the daemon chooses a free one of the range.
        return Ok(vec![(format!("{first}/{protocol}"), binding(host.to_string()))]);
    }
    if last - first != host_last - host_first {
        return Err(format!(
            "invalid ranges specified for container and host Ports: {container} and {host}"
        ));
    }
    let pairs = (first..=last).zip(host_first..=host_last);
    Ok(pairs
        .map(|(port, host)| (format!("{port}/{protocol}"), binding(host.to_string())))
        .collect())
}

fn long_form(text: &str) -> Result<String, String> {
    let (mut target, mut published, mut protocol) = ("", "", "tcp");
    for field in text.split(',') {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("invalid publish opts format (should be name=value but got '{field}')"))?;
        match key {
            "target" => target = value,
            "published" => published = value,
            "protocol" => protocol = value,
            "mode" => {}
            // Docker's client reads over what it does not know, too.
            _ => {}
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

/// `80` or `80-90`; the error is the word that is no port.
fn number_range(text: &str) -> Result<(u16, u16), String> {
    let number = |text: &str| text.parse::<u16>().map_err(|_| text.to_string());
    let Some((first, last)) = text.split_once('-') else {
        let port = number(text)?;
        return Ok((port, port));
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        Err(text.to_string())
    } else {
        Ok((first, last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(published: &[&str], exposed: &[&str]) -> String {
        match parse(published.iter().copied(), exposed.iter().copied()) {
            Ok(found) => serde_json::to_string(&found).unwrap(),
            Err(reason) => format!("! {reason}"),
        }
    }

    #[test]
    fn ports_travel_as_dockers_client_sends_them() {
        assert_eq!(
            show(
                &["80", "8080:80", "127.0.0.1:90:90/udp", "5000-5001:6000-6001"],
                &["70", "71-72/udp"]
            ),
            concat!(
                r#"[{"6000/tcp":{},"6001/tcp":{},"70/tcp":{},"71/udp":{},"72/udp":{},"80/tcp":{},"90/udp":{}},"#,
                r#"{"6000/tcp":[{"HostIp":"","HostPort":"5000"}],"6001/tcp":[{"HostIp":"","HostPort":"5001"}],"#,
                r#""80/tcp":[{"HostIp":"","HostPort":""},{"HostIp":"","HostPort":"8080"}],"#,
                r#""90/udp":[{"HostIp":"127.0.0.1","HostPort":"90"}]}]"#
            )
        );
        assert_eq!(
            show(
                &["[::1]:80:80", "5000-5010:81", "target=82,published=8080,protocol=udp"],
                &[]
            ),
            concat!(
                r#"[{"80/tcp":{},"81/tcp":{},"82/udp":{}},{"80/tcp":[{"HostIp":"::1","HostPort":"80"}],"#,
                r#""81/tcp":[{"HostIp":"","HostPort":"5000-5010"}],"82/udp":[{"HostIp":"","HostPort":"8080"}]}]"#
            )
        );
    }

    #[test]
    fn what_is_no_port_is_refused_in_dockers_words() {
        let cases = [
            ("zz", "! invalid containerPort: zz"),
            ("zz:80", "! invalid hostPort: zz"),
            ("70000", "! invalid containerPort: 70000"),
            ("1:2:3:4", "! invalid IP address: 1:2"),
            ("80/foo", "! invalid proto: foo"),
            (
                "1-3:5-6",
                "! invalid ranges specified for container and host Ports: 5-6 and 1-3",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(show(&[text], &[]), expected);
        }
        assert_eq!(
            show(&[], &["1-x"]),
            "! invalid range format for --expose: 1-x, error: strconv.ParseUint: parsing \"x\": invalid syntax"
        );
    }
}

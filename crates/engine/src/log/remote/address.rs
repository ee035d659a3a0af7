//! Where a remote is: `udp://host:514`, `tcp+tls://host:6514`, `unix:///dev/log`.
use std::{io, path::PathBuf};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Host and port.
    Udp(String),
    Tcp(String),
    Tls(String),
    Unix(PathBuf),
    UnixDatagram(PathBuf),
}

impl Address {
    /// The network's name, as Go has it.
    pub fn network(&self) -> &'static str {
        match self {
            Address::Udp(_) => "udp",
            Address::Tcp(_) | Address::Tls(_) => "tcp",
            Address::Unix(_) => "unix",
            Address::UnixDatagram(_) => "unixgram",
        }
    }

    pub fn place(&self) -> String {
        match self {
            Address::Udp(place) | Address::Tcp(place) | Address::Tls(place) => place.clone(),
            Address::Unix(path) | Address::UnixDatagram(path) => path.display().to_string(),
        }
    }
}

/// Scheme, and what follows it: a path keeps its slash, of a host everything after it is dropped.
pub fn split(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    if rest.starts_with('/') {
        return Some((scheme, rest));
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let host = &rest[..end];
    Some((scheme, host.rsplit_once('@').map_or(host, |(_, host)| host)))
}

/// Host and port of `host:port`; the port is absent where there is none. An IPv6 address stands in brackets.
pub fn host_port(text: &str) -> Result<(&str, Option<&str>), String> {
    let refused = |reason: &str| Err(format!("address {text}: {reason}"));
    if let Some(rest) = text.strip_prefix('[') {
        let Some((host, rest)) = rest.split_once(']') else {
            return refused("missing ']' in address");
        };
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => refused("unexpected ']' in address"),
        };
    }
    match text.split_once(':') {
        None => Ok((text, None)),
        Some((_, port)) if port.contains(':') => refused("too many colons in address"),
        Some((host, port)) => Ok((host, Some(port))),
    }
}

/// `host:port` with a port where there was none.
pub fn with_port(text: &str, default: &str) -> Result<String, String> {
    let (host, port) = host_port(text)?;
    let port = port.unwrap_or(default);
    Ok(if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    })
}

/// The system's reason in Go's words: `connection refused`.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters
        .next()
        .map_or(String::new(), |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        assert_eq!(split("tcp://host:1/path?x"), Some(("tcp", "host:1")));
        assert_eq!(split("unix:///dev/log"), Some(("unix", "/dev/log")));
        assert_eq!(split("host:1"), None);
        assert_eq!(with_port("host", "514").as_deref(), Ok("host:514"));
        assert_eq!(with_port("[::1]", "514").as_deref(), Ok("[::1]:514"));
        assert_eq!(with_port("[::1]:9", "514").as_deref(), Ok("[::1]:9"));
        assert!(with_port("::1", "514").is_err_and(|error| error.contains("too many colons")));
        assert!(host_port("[::1").is_err());
        assert_eq!(reason(&io::Error::from_raw_os_error(111)), "connection refused");
    }
}

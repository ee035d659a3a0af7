//! Addresses of doors, as `-H` spells them: where, and for whom.
//!
//! `unix:///run/read.sock?access=read&group=monitoring` is a place and an access; both are parsed once, here.
use std::path::PathBuf;

use crate::listen::access::{Access, Level};

/// dockerd's ports without and with TLS.
const DEFAULT_PORT: u16 = 2375;
const DEFAULT_TLS_PORT: u16 = 2376;

/// An address, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub place: Place,
    pub access: Access,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Unix(UnixPlace),
    Tcp {
        host: String,
        port: Option<u16>,
    },
    /// Sockets that were opened for us (`LISTEN_FDS`): all, one by its number, or those of a name.
    Inherited(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixPlace {
    pub path: PathBuf,
    /// Absent means the daemon's (`--group`).
    pub group: Option<String>,
    pub mode: Option<u32>,
}

#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    #[error("invalid bind address \"{0}\": use unix://PATH, tcp://HOST:PORT or fd://")]
    Malformed(String),
    #[error("invalid bind address \"{address}\": {reason}")]
    Parameter { address: String, reason: String },
}

impl Address {
    pub fn parse(text: &str) -> Result<Address, AddressError> {
        let malformed = || AddressError::Malformed(text.to_owned());
        let (whole, query) = text.split_once('?').unwrap_or((text, ""));
        let mut place = place(whole).ok_or_else(malformed)?;
        let mut access = Access::everything(whole);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            parameter(pair, &mut place, &mut access).map_err(|reason| AddressError::Parameter {
                address: text.to_owned(),
                reason,
            })?;
        }
        Ok(Address { place, access })
    }

    /// A unix socket for everything.
    pub fn unix(path: &str) -> Address {
        Address {
            place: Place::Unix(UnixPlace {
                path: PathBuf::from(path),
                group: None,
                mode: None,
            }),
            access: Access::everything(&format!("unix://{path}")),
        }
    }
}

impl Place {
    /// `host:port`, with dockerd's port where none was given.
    pub fn tcp_address(host: &str, port: Option<u16>, tls: bool) -> String {
        let default = if tls { DEFAULT_TLS_PORT } else { DEFAULT_PORT };
        format!("{host}:{}", port.unwrap_or(default))
    }
}

fn place(text: &str) -> Option<Place> {
    let unix = |path: &str| {
        path.starts_with('/').then(|| {
            Place::Unix(UnixPlace {
                path: PathBuf::from(path),
                group: None,
                mode: None,
            })
        })
    };
    if let Some(path) = text.strip_prefix("unix://") {
        return unix(path);
    }
    if let Some(which) = text.strip_prefix("fd://") {
        return Some(Place::Inherited(which.trim_matches('*').to_owned()));
    }
    if let Some(address) = text.strip_prefix("tcp://") {
        return tcp(address.trim_end_matches('/'));
    }
    unix(text)
}

fn tcp(text: &str) -> Option<Place> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port.parse().ok()?)),
        _ => (text, None),
    };
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    Some(Place::Tcp {
        host: host.to_owned(),
        port,
    })
}

/// Failures complete the sentence "invalid bind address …: …".
fn parameter(pair: &str, place: &mut Place, access: &mut Access) -> Result<(), String> {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    match (key, &mut *place) {
        ("access", _) => {
            access.level = match value {
                "read" => Level::Read,
                "full" => Level::Full,
                _ => return Err(format!("access is \"read\" or \"full\", not \"{value}\"")),
            };
        }
        ("group", Place::Unix(unix)) if !value.is_empty() => unix.group = Some(value.to_owned()),
        ("mode", Place::Unix(unix)) => {
            let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o777);
            unix.mode = Some(mode.ok_or_else(|| format!("mode is three octal digits, not \"{value}\""))?);
        }
        ("allow", Place::Unix(_) | Place::Inherited(_)) => {
            let users: Result<Vec<u32>, _> = value.split(',').map(str::parse).collect();
            access.users = Some(users.map_err(|_| format!("allow is a list of user ids, not \"{value}\""))?);
        }
        ("group" | "mode" | "allow", _) => return Err(format!("{key} is for unix sockets only")),
        _ => {
            return Err(format!(
                "unknown parameter \"{key}\": there are access, group, mode and allow"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Place> {
        Address::parse(text).ok().map(|address| address.place)
    }

    #[test]
    fn addresses_are_those_of_dockerd() {
        let unix = |path: &str| Some(Address::unix(path).place);
        let tcp = |host: &str, port| {
            let host = host.to_owned();
            Some(Place::Tcp { host, port })
        };
        assert_eq!(parse("unix:///run/a.sock"), unix("/run/a.sock"));
        assert_eq!(parse("/run/a.sock"), unix("/run/a.sock"));
        assert_eq!(parse("tcp://127.0.0.1:4243"), tcp("127.0.0.1", Some(4243)));
        assert_eq!(parse("tcp://0.0.0.0"), tcp("0.0.0.0", None));
        assert_eq!(parse("tcp://:1"), tcp("127.0.0.1", Some(1)));
        assert_eq!(parse("tcp://[::1]:1"), tcp("[::1]", Some(1)));
        assert_eq!(parse("tcp://[::1]"), tcp("[::1]", None));
        assert_eq!(parse("fd://"), Some(Place::Inherited(String::new())));
        assert_eq!(parse("fd://*"), Some(Place::Inherited(String::new())));
        assert_eq!(parse("fd://3"), Some(Place::Inherited("3".to_owned())));
        assert_eq!(Place::tcp_address("a", None, false), "a:2375");
        assert_eq!(Place::tcp_address("a", None, true), "a:2376");
        for text in ["", "unix://", "unix://relative", "ssh://a", "tcp://a:b"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn parameters_say_who_may_do_what() {
        let address = Address::parse("unix:///a?access=read&group=staff&mode=0666&allow=1000,1001").unwrap();
        assert_eq!(address.access.level, Level::Read);
        assert_eq!(address.access.users, Some(vec![1000, 1001]));
        let Place::Unix(unix) = address.place else {
            panic!("a unix socket")
        };
        assert_eq!((unix.group.as_deref(), unix.mode), (Some("staff"), Some(0o666)));
        for (text, expected) in [
            ("unix:///a?access=write", "not \"write\""),
            ("unix:///a?mode=9", "octal"),
            ("unix:///a?allow=me", "user ids"),
            ("unix:///a?colour=red", "unknown parameter \"colour\""),
            ("tcp://a?allow=1", "allow is for unix sockets only"),
        ] {
            let message = Address::parse(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}

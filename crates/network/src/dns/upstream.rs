//! The host's resolvers: what /etc/resolv.conf says, read again when it changes.
use std::{
    fs, io,
    net::{IpAddr, SocketAddr, SocketAddrV6},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice::name_to_index, socket_with};

use crate::dns::{entrance::ADDRESS, resolv_conf::ResolvConf};

const PORT: u16 = 53;
/// How many servers are asked, one after the other; glibc's and Docker's number.
pub const SERVERS_MAX: usize = 3;
/// How long a reading counts without another look at the file.
const FRESH: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct HostServers {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    checked: Option<Instant>,
    stamp: Option<Stamp>,
    servers: Arc<[SocketAddr]>,
}

/// By what a changed file is recognised.
#[derive(Debug, PartialEq, Eq)]
struct Stamp(u64, u64, u64, i64, i64);

impl HostServers {
    pub fn new(path: PathBuf) -> HostServers {
        HostServers {
            path,
            known: Mutex::default(),
        }
    }

    /// In the file's order, at most [`SERVERS_MAX`].
    pub fn current(&self) -> Arc<[SocketAddr]> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.checked.is_none_or(|checked| checked.elapsed() >= FRESH) {
            known.checked = Some(Instant::now());
            let stamp = stamp(&self.path).ok();
            if stamp.is_none() || stamp != known.stamp {
                known.servers = read(&self.path).into();
                known.stamp = stamp;
            }
        }
        Arc::clone(&known.servers)
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let found = fs::metadata(path)?;
    Ok(Stamp(
        found.dev(),
        found.ino(),
        found.size(),
        found.mtime(),
        found.mtime_nsec(),
    ))
}

fn read(path: &Path) -> Vec<SocketAddr> {
    let found = ResolvConf::load(path).servers;
    found.iter().filter_map(|text| server(text)).take(SERVERS_MAX).collect()
}

/// An address, with `%interface` where it is link-local.
fn server(text: &str) -> Option<SocketAddr> {
    let Some((address, zone)) = text.split_once('%') else {
        return Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, PORT));
    };
    let index = zone.parse().ok().or_else(|| {
        let socket = socket_with(AddressFamily::INET6, SocketType::DGRAM, SocketFlags::CLOEXEC, None).ok()?;
        name_to_index(&socket, zone).ok()
    })?;
    Some(SocketAddrV6::new(address.parse().ok()?, PORT, 0, index).into())
}

/// The servers that a container names itself. We are none of them: a question would go round in circles.
pub fn named(servers: &[IpAddr]) -> impl Iterator<Item = SocketAddr> + '_ {
    servers
        .iter()
        .filter(|&&address| address != ADDRESS)
        .take(SERVERS_MAX)
        .map(|&address| SocketAddr::new(address, PORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_an_address_is_a_server() {
        let texts = ["10.0.0.1", "::1", "nowhere", "fe80::1%lo", "fe80::1%nowhere", ""];
        let found: Vec<_> = texts
            .iter()
            .filter_map(|text| server(text))
            .map(|server| server.to_string())
            .collect();
        assert_eq!(found, ["10.0.0.1:53", "[::1]:53", "[fe80::1%1]:53"]);
    }

    #[test]
    fn a_changed_file_is_read_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("resolv.conf");
        let servers = HostServers::new(path.clone());
        assert!(servers.current().is_empty());
        for address in ["10.0.0.1", "10.0.0.2"] {
            fs::write(&path, format!("nameserver {address}\n")).expect("written");
            servers.known.lock().expect("whole").checked = None;
            assert_eq!(servers.current()[0].ip().to_string(), address);
        }
    }
}

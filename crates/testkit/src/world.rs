//! A daemon's host and another host beside it, joined by a cable.
//!
//! The other host is the daemon's default gateway and stands for the rest of the world: it has no route back to
//! containers, so whatever answers a container from there was translated on the way.
use std::{fs, path::Path};

use crate::{
    daemon::{Daemon, Setup},
    namespace::Namespace,
};

/// The daemon's host on the cable.
pub const HOST: &str = "10.99.0.1";
pub const HOST6: &str = "fd99::1";
/// The other host on the cable.
pub const OTHER: &str = "10.99.0.2";
pub const OTHER6: &str = "fd99::2";
/// A second address of the other host, reached by the default route alone.
pub const FAR: &str = "192.0.2.1";
pub const FAR6: &str = "2001:db8::1";

/// The host of a daemon that is yet to be started: its namespace, and the other host.
pub struct World {
    pub host: Namespace,
    pub other: Namespace,
}

impl World {
    pub fn new() -> World {
        let (host, other) = (Namespace::new(), Namespace::new());
        let world = World { host, other };
        world.plug();
        world
    }

    /// Joins the two again, after one of them lost its interfaces.
    pub fn plug(&self) {
        let World { host, other } = self;
        other.join("eth0", host, "eth0");
        host.add_address("eth0", &format!("{HOST}/24"));
        host.add_address("eth0", &format!("{HOST6}/64"));
        other.add_address("eth0", &format!("{OTHER}/24"));
        other.add_address("eth0", &format!("{OTHER6}/64"));
        other.add_address("lo", &format!("{FAR}/32"));
        other.add_address("lo", &format!("{FAR6}/128"));
        host.ip(["route", "add", "default", "via", OTHER]);
        host.ip(["-6", "route", "add", "default", "via", OTHER6]);
    }

    /// A daemon on this host.
    #[track_caller]
    pub fn start(&self, setup: Setup) -> Daemon {
        setup.network(&self.host).start()
    }
}

impl Default for World {
    fn default() -> World {
        World::new()
    }
}

/// What executes a daemon that finds `file` as its /etc/resolv.conf: for [`Setup::wrapper`].
pub fn with_resolv_conf(file: &Path, content: &str) -> Vec<String> {
    fs::write(file, content).expect("the directory is ours");
    let script = format!(
        "mount --bind '{}' \"$(readlink -f /etc/resolv.conf)\" && exec \"$0\" \"$@\"",
        file.display()
    );
    let words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script];
    words.map(str::to_owned).to_vec()
}

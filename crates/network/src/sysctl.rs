//! Switches of the calling thread's network namespace, below /proc/sys/net.
use std::{fs, io, path::Path, sync::LazyLock};

/// Does this kernel speak IPv6?
pub fn has_ipv6() -> bool {
    static HAS: LazyLock<bool> = LazyLock::new(|| Path::new("/proc/net/if_inet6").exists());
    *HAS
}

/// `path` is relative to /proc/sys/net: `ipv4/conf/eth0/forwarding`.
pub fn write(path: &str, value: &str) -> io::Result<()> {
    let path = format!("/proc/sys/net/{path}");
    fs::write(&path, value).map_err(|error| io::Error::new(error.kind(), format!("cannot set {path}: {error}")))
}

/// Like [`write`], for switches that not every kernel or interface has: `false` where it is missing.
pub fn write_if_there(path: &str, value: &str) -> io::Result<bool> {
    match write(path, value) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A number; `None` where the switch is missing.
pub fn read(path: &str) -> io::Result<Option<i64>> {
    match fs::read_to_string(format!("/proc/sys/net/{path}")) {
        Ok(text) => text.trim().parse().map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

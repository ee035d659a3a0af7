//! Options of the `local` driver: what a volume is mounted from, in mount(8)'s words.
//!
//! Without `device` a volume is a plain directory. With it, the file system is mounted when a container uses the volume
//! and unmounted after the last one.
use std::{
    collections::BTreeMap,
    ffi::CString,
    io,
    net::{IpAddr, ToSocketAddrs},
    path::Path,
};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change, mount_remount};

use crate::error::{Error, Result};

/// What a volume is mounted from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// `nfs`, `tmpfs`, `ext4`, `none`, …
    pub kind: String,
    pub device: String,
    pub words: String,
}

/// Checks the options of `volume create`, in Docker's words.
pub fn check(name: &str, options: &BTreeMap<String, String>) -> Result<()> {
    let refused = |why: String| Err(Error::invalid(format!("create {name}: {why}")));
    let needs: [(&str, &[&str]); 3] = [("device", &["type"]), ("o", &["device", "type"]), ("type", &["device"])];
    if let Some(unknown) = options
        .keys()
        .find(|key| !["device", "o", "size", "type"].contains(&key.as_str()))
    {
        return refused(format!("invalid option: {unknown:?}"));
    }
    for (option, needed) in needs {
        if !options.contains_key(option) {
            continue;
        }
        if let Some(missing) = needed.iter().find(|needed| !options.contains_key(**needed)) {
            return refused(format!("missing required option: {missing:?}"));
        }
    }
    if let Some(nul) = options.values().find(|value| value.contains('\0')) {
        return refused(format!("invalid option value: {nul:?} contains a NUL byte"));
    }
    Ok(())
}

/// How many bytes a volume may take, where that is asked for.
pub fn size(name: &str, options: &BTreeMap<String, String>) -> Result<Option<u64>> {
    let Some(text) = options.get("size") else {
        return Ok(None);
    };
    match bytes(text) {
        Some(bytes) => Ok(Some(bytes)),
        None => Err(Error::invalid(format!("create {name}: invalid size: '{text}'"))),
    }
}

/// `10m`, `1.5GiB`: a number of bytes as Docker's own options are written, in powers of 1024. Absent when it is none.
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim_start();
    let factor = match unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(unit) {
        "" => 1_u64,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        "p" => 1 << 50,
        _ => return None,
    };
    let bytes = number * factor as f64;
    (bytes >= 1.0 && bytes < i64::MAX as f64).then_some(bytes as u64)
}

impl Device {
    /// Absent for a volume that is a plain directory.
    pub fn of(options: &BTreeMap<String, String>) -> Option<Device> {
        let option = |key: &str| options.get(key).cloned().unwrap_or_default();
        let device = Device {
            kind: option("type"),
            device: option("device"),
            words: option("o"),
        };
        (!device.device.is_empty()).then_some(device)
    }

    /// Mounts it on a directory, in the mount namespace of this thread.
    pub fn mount(&self, target: &Path) -> io::Result<()> {
        let (source, words) = self.resolved()?;
        let parsed = Words::parse(&words);
        let mounted = self.mount_parsed(&source, target, &parsed);
        mounted.map_err(|error| self.explain(&source, target, &parsed, error))
    }

    fn mount_parsed(&self, source: &str, target: &Path, parsed: &Words) -> io::Result<()> {
        let data = CString::new(parsed.data.join(","))?;
        if parsed.flags.contains(MountFlags::BIND) {
            let only = parsed.flags & (MountFlags::BIND | MountFlags::REC);
            mount(source, target, "", only, None)?;
            let rest = parsed.flags - only;
            if !rest.is_empty() {
                mount_remount(target, MountFlags::BIND | rest, c"")?;
            }
        } else {
            mount(source, target, self.kind.as_str(), parsed.flags, data.as_c_str())?;
        }
        if !parsed.propagation.is_empty() {
            mount_change(target, parsed.propagation)?;
        }
        Ok(())
    }

    /// Names of servers are looked up here: the kernel takes addresses only.
    fn resolved(&self) -> io::Result<(String, String)> {
        if !matches!(self.kind.as_str(), "nfs" | "nfs4" | "cifs") {
            return Ok((self.device.clone(), self.words.clone()));
        }
        let named = self.words.split(',').find_map(|word| word.strip_prefix("addr="));
        let Some(name) = named.filter(|name| !name.is_empty() && name.parse::<IpAddr>().is_err()) else {
            return Ok((self.device.clone(), self.words.clone()));
        };
        let say = |why: &dyn std::fmt::Display| {
            io::Error::other(format!(
                "error resolving passed in network volume address: {name}: {why}"
            ))
        };
        let mut found = (name, 0).to_socket_addrs().map_err(|error| say(&error))?;
        let address = found.next().ok_or_else(|| say(&"no such host"))?.ip();
        let words = self
            .words
            .replacen(&format!("addr={name}"), &format!("addr={address}"), 1);
        Ok((self.device.clone(), words))
    }

    /// As Docker words it; passwords are nobody's business.
    fn explain(&self, source: &str, target: &Path, parsed: &Words, error: io::Error) -> io::Error {
        let hidden = |word: &String| match word.split_once('=') {
            Some((key @ ("password" | "pass"), _)) => format!("{key}=********"),
            _ => word.clone(),
        };
        let data: Vec<String> = parsed.data.iter().map(hidden).collect();
        let flags = match parsed.flags.bits() {
            0 => String::new(),
            bits => format!(", flags: 0x{bits:x}"),
        };
        let data = match data.join(",") {
            data if data.is_empty() => data,
            data => format!(", data: {data}"),
        };
        let hint = match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(rustix::io::Errno::NODEV) => format!(" (this kernel has no file system {:?})", self.kind),
            _ => String::new(),
        };
        io::Error::new(
            error.kind(),
            format!(
                "failed to mount local volume: mount {source}:{}{flags}{data}: {error}{hint}",
                target.display()
            ),
        )
    }
}

/// The words of `o`, sorted by who understands them.
#[derive(Debug, PartialEq, Eq)]
struct Words {
    flags: MountFlags,
    propagation: MountPropagationFlags,
    /// The file system's own.
    data: Vec<String>,
}

impl Words {
    fn parse(text: &str) -> Words {
        let mut words = Words {
            flags: MountFlags::empty(),
            propagation: MountPropagationFlags::empty(),
            data: Vec::new(),
        };
        for word in text.split(',').filter(|word| !word.is_empty()) {
            if let Some((set, clear)) = flag(word) {
                words.flags = (words.flags - clear) | set;
            } else if let Some(propagation) = propagation(word) {
                words.propagation |= propagation;
            } else {
                words.data.push(word.to_owned());
            }
        }
        words
    }
}

/// (set, clear).
fn flag(word: &str) -> Option<(MountFlags, MountFlags)> {
    let none = MountFlags::empty();
    Some(match word {
        "defaults" | "loud" | "nomand" => (none, none),
        "ro" => (MountFlags::RDONLY, none),
        "rw" => (none, MountFlags::RDONLY),
        "nosuid" => (MountFlags::NOSUID, none),
        "suid" => (none, MountFlags::NOSUID),
        "nodev" => (MountFlags::NODEV, none),
        "dev" => (none, MountFlags::NODEV),
        "noexec" => (MountFlags::NOEXEC, none),
        "exec" => (none, MountFlags::NOEXEC),
        "sync" => (MountFlags::SYNCHRONOUS, none),
        "async" => (none, MountFlags::SYNCHRONOUS),
        "dirsync" => (MountFlags::DIRSYNC, none),
        "noatime" => (MountFlags::NOATIME, none),
        "atime" => (none, MountFlags::NOATIME),
        "nodiratime" => (MountFlags::NODIRATIME, none),
        "diratime" => (none, MountFlags::NODIRATIME),
        "relatime" => (MountFlags::RELATIME, none),
        "norelatime" => (none, MountFlags::RELATIME),
        "strictatime" => (MountFlags::STRICTATIME, none),
        "nostrictatime" => (none, MountFlags::STRICTATIME),
        "lazytime" => (MountFlags::LAZYTIME, none),
        "nolazytime" => (none, MountFlags::LAZYTIME),
        "bind" => (MountFlags::BIND, none),
        "rbind" => (MountFlags::BIND | MountFlags::REC, none),
        _ => return None,
    })
}

fn propagation(word: &str) -> Option<MountPropagationFlags> {
    let recursive = match word.starts_with('r') {
        true => MountPropagationFlags::REC,
        false => MountPropagationFlags::empty(),
    };
    let kind = match word.trim_start_matches('r') {
        "private" => MountPropagationFlags::PRIVATE,
        "shared" => MountPropagationFlags::SHARED,
        "slave" => MountPropagationFlags::DOWNSTREAM,
        "unbindable" => MountPropagationFlags::UNBINDABLE,
        _ => return None,
    };
    Some(kind | recursive)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn options_are_refused_in_dockers_words() {
        for (given, message) in [
            (&[("foo", "bar")][..], "create v: invalid option: \"foo\""),
            (&[("device", "/x")], "create v: missing required option: \"type\""),
            (&[("type", "nfs")], "create v: missing required option: \"device\""),
            (&[("o", "ro")], "create v: missing required option: \"device\""),
        ] {
            assert_eq!(check("v", &options(given)).expect_err("refused").to_string(), message);
        }
        let good = options(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m,uid=1000")]);
        check("v", &good).expect("valid");
        assert!(Device::of(&good).is_some());
        assert_eq!(Device::of(&options(&[("size", "1m")])), None);
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, expected) in [
            ("10m", Some(10 << 20)),
            ("1.5GiB", Some(3 << 29)),
            ("4096", Some(4096)),
            ("2 KB", Some(2048)),
            ("", None),
            ("m", None),
            ("-1m", None),
            ("10x", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn words_are_the_kernels_or_the_file_systems() {
        let words = Words::parse("addr=1.2.3.4,ro,rw,noexec,nfsvers=4,rslave,,soft");
        assert_eq!(words.flags, MountFlags::NOEXEC);
        assert_eq!(words.data, ["addr=1.2.3.4", "nfsvers=4", "soft"]);
        assert_eq!(
            words.propagation,
            MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC
        );
        assert_eq!(
            Words::parse("rbind,ro").flags,
            MountFlags::BIND | MountFlags::REC | MountFlags::RDONLY
        );
    }

    #[test]
    fn a_password_is_not_repeated() {
        let device = Device {
            kind: "none".to_owned(),
            device: "//host/share".to_owned(),
            words: "username=me,password=secret,ro".to_owned(),
        };
        let error = device
            .mount(Path::new("/no/such/place"))
            .expect_err("no such place")
            .to_string();
        assert!(
            error.contains("password=********") && !error.contains("secret"),
            "{error}"
        );
        assert!(error.starts_with("failed to mount local volume: mount //host/share:/no/such/place, flags: 0x1"));
    }
}

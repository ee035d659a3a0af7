//! `--userns-remap`: who containers' users are on the host.
//!
//! Nothing on the disk depends on it: files of layers and volumes belong to containers' users as containers know them,
//! and are mounted with other owners.
use std::{fs, path::Path};

use corten_runtime::rootfs::owners::{IdMaps, IdRange};

use crate::error::{Error, Result};

/// Whom Docker makes for `default`.
const DEFAULT_USER: &str = "dockremap";
/// Where ranges of daemons' own begin: above what useradd(8) and systemd hand out, below the kernel's own.
const OWN_FIRST: u32 = 0x7000_0000;
const OWN_RANGES: u32 = 0x0f00;
const OWN_COUNT: u32 = 65536;

/// The files that say who there is, for tests elsewhere than in /etc.
pub struct Etc<'a>(pub &'a Path);

impl Etc<'_> {
    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

/// `default`, `user`, `user:group`, `uid` or `uid:gid`; `data_root` tells daemons apart that need a range of their own.
pub fn resolve(value: &str, etc: &Etc<'_>, data_root: &Path) -> Result<IdMaps> {
    if value == "default" {
        return default(etc, data_root);
    }
    let (user, group) = match value.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (value, None),
    };
    if user.is_empty() || group == Some("") {
        return Err(Error::invalid(format!(
            "invalid user/group specification in --userns-remap: {value:?}"
        )));
    }
    let (user, uid) = named("passwd", user, etc)?;
    let (group, gid) = match group {
        Some(group) => named("group", group, etc)?,
        None => named("group", &user, etc).unwrap_or((user.clone(), uid.clone())),
    };
    Ok(IdMaps {
        users: subordinate("subuid", &user, &uid, etc)?,
        groups: subordinate("subgid", &group, &gid, etc)?,
    })
}

/// Docker's user where somebody made it; otherwise a range that is this daemon's alone and nobody else's.
fn default(etc: &Etc<'_>, data_root: &Path) -> Result<IdMaps> {
    let listed = |file: &str| ranges(&etc.read(file), DEFAULT_USER, DEFAULT_USER);
    let maps = IdMaps {
        users: listed("subuid"),
        groups: listed("subgid"),
    };
    if !maps.users.is_empty() && !maps.groups.is_empty() {
        return Ok(maps);
    }
    // Of the data root's path, so that daemons beside each other differ, and each stays who it was.
    let hash = data_root
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let number = u32::try_from(hash % u64::from(OWN_RANGES)).expect("less than it");
    let own = vec![IdRange {
        inside: 0,
        outside: OWN_FIRST + number * OWN_COUNT,
        count: OWN_COUNT,
    }];
    Ok(IdMaps {
        users: own.clone(),
        groups: own,
    })
}

/// Name and number of somebody who is given by one of them.
fn named(file: &str, who: &str, etc: &Etc<'_>) -> Result<(String, String)> {
    let text = etc.read(file);
    let numeric = who.bytes().all(|byte| byte.is_ascii_digit());
    let entries = text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        Some((fields.next()?.to_owned(), fields.nth(1)?.to_owned()))
    });
    let mut found = entries.filter(|(name, number)| if numeric { number == who } else { name == who });
    match (found.next(), numeric) {
        (Some(entry), _) => Ok(entry),
        // Somebody whom only the ranges know.
        (None, true) => Ok((who.to_owned(), who.to_owned())),
        (None, false) => Err(Error::invalid(format!(
            "--userns-remap: there is no {who:?} in {}",
            etc.path(file)
        ))),
    }
}

fn subordinate(file: &str, name: &str, number: &str, etc: &Etc<'_>) -> Result<Vec<IdRange>> {
    let found = ranges(&etc.read(file), name, number);
    if found.is_empty() {
        let path = etc.path(file);
        return Err(Error::invalid(format!(
            "--userns-remap: no ranges for {name:?} in {path} (add a line such as \"{name}:100000:65536\")"
        )));
    }
    Ok(found)
}

/// `name:first:count` lines, one after the other from 0 on within the container.
fn ranges(text: &str, name: &str, number: &str) -> Vec<IdRange> {
    let mut found: Vec<(u32, u32)> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let who = fields.next()?;
            let first: u32 = fields.next()?.parse().ok()?;
            let count: u32 = fields.next()?.parse().ok()?;
            let sane = count > 0 && first > 0 && first.checked_add(count).is_some();
            ((who == name || who == number) && sane).then_some((first, count))
        })
        .collect();
    found.sort_unstable();
    let mut inside = 0_u32;
    let mut all = Vec::new();
    for (first, count) in found {
        let Some(next) = inside.checked_add(count) else { break };
        all.push(IdRange {
            inside,
            outside: first,
            count,
        });
        inside = next;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn etc(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            fs::write(directory.path().join(name), text).expect("the directory is ours");
        }
        directory
    }

    fn range(inside: u32, outside: u32, count: u32) -> IdRange {
        IdRange { inside, outside, count }
    }

    const PASSWD: (&str, &str) = ("passwd", "root:x:0:0::/:/bin/sh\nweb:x:1000:1000::/:/bin/sh\n");
    const GROUP: (&str, &str) = ("group", "root:x:0:\nweb:x:1000:\nstaff:x:50:\n");

    #[test]
    fn users_and_groups_are_found_by_name_and_by_number() {
        let directory = etc(&[
            PASSWD,
            GROUP,
            ("subuid", "other:1:1\nweb:200000:65536\nweb:100000:1000\n"),
            ("subgid", "web:300000:65536\nstaff:400000:65536\n50:500000:10\n"),
        ]);
        let resolve = |value: &str| resolve(value, &Etc(directory.path()), Path::new("/data"));
        let maps = resolve("web").expect("valid");
        assert_eq!(maps.users, [range(0, 100_000, 1000), range(1000, 200_000, 65536)]);
        assert_eq!(maps.groups, [range(0, 300_000, 65536)]);
        assert_eq!(resolve("1000").expect("valid"), maps);
        let maps = resolve("web:staff").expect("valid");
        assert_eq!(maps.groups, [range(0, 400_000, 65536), range(65536, 500_000, 10)]);
        assert_eq!(resolve("1000:50").expect("valid"), maps);
        assert_eq!(maps.host_user(1001), Some(200_001));
    }

    #[test]
    fn who_has_no_ranges_is_told_where_to_add_them() {
        let directory = etc(&[
            PASSWD,
            GROUP,
            ("subuid", "web:100000:65536\n"),
            ("subgid", "web:0:65536\n"),
        ]);
        let refusal = |value: &str| {
            resolve(value, &Etc(directory.path()), Path::new("/data"))
                .expect_err("refused")
                .to_string()
        };
        assert!(refusal("nobody").contains("there is no \"nobody\" in"));
        assert!(refusal("root").contains("no ranges for \"root\""));
        // A range that begins with the host's root is none.
        assert!(refusal("web").contains("subgid"));
        assert!(refusal(":x").contains("invalid user/group specification"));
    }

    #[test]
    fn a_daemon_has_a_range_of_its_own_by_default() {
        let directory = etc(&[]);
        let of = |root: &str| resolve("default", &Etc(directory.path()), Path::new(root)).expect("always");
        assert_eq!(of("/a"), of("/a"));
        assert_ne!(of("/a"), of("/b"));
        assert!(of("/a").users[0].outside >= OWN_FIRST && of("/a").users[0].outside < 0x7f00_0000);
        let directory = etc(&[
            ("subuid", "dockremap:100000:65536\n"),
            ("subgid", "dockremap:100000:65536\n"),
        ]);
        let maps = resolve("default", &Etc(directory.path()), Path::new("/a")).expect("valid");
        assert_eq!(maps.users, [range(0, 100_000, 65536)]);
    }
}

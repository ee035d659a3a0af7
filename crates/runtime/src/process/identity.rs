//! Who the process is: users and groups, looked up in the container's own files.
//!
//! A name is a number only when all of it is digits, and a number only counts up to 2^31-1: anything looser has let
//! people become root elsewhere.
use std::{
    io::Read,
    os::fd::{AsFd, BorrowedFd},
};

use corten_linux::fd;
use rustix::fs::{FileType, OFlags};

use crate::shim::protocol::Failure;

/// More than any image has; less than what would hurt.
const FILE_BYTES_MAX: u64 = 16 << 20;
const ID_MAX: u32 = i32::MAX as u32;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// The primary group first.
    pub groups: Vec<u32>,
    pub home: String,
}

/// `user` is `name`, `uid`, `name:group`, `uid:gid`, or empty for root.
pub fn look_up(root: BorrowedFd, user: &str, additional_groups: &[String]) -> Result<Identity, Failure> {
    let passwd = read_file(root, "etc/passwd");
    let group = read_file(root, "etc/group");
    resolve(user, additional_groups, &passwd, &group)
}

/// A file that is missing, too large or not a file has no entries.
fn read_file(root: BorrowedFd, path: &str) -> String {
    let Ok(file) = fd::open_in_root(root, path, OFlags::RDONLY | OFlags::NONBLOCK) else {
        return String::new();
    };
    if !fd::file_type(file.as_fd()).is_ok_and(|kind| kind == FileType::RegularFile) {
        return String::new();
    }
    let mut bytes = Vec::new();
    let _ = std::fs::File::from(file).take(FILE_BYTES_MAX).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn users(passwd: &str) -> impl Iterator<Item = User<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields
            .next()
            .filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or_default();
        Some(User { name, uid, gid, home })
    })
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields
            .next()
            .filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let gid = fields.nth(1)?.parse().ok()?;
        let members = fields.next().unwrap_or_default();
        Some(Group { name, gid, members })
    })
}

/// `Some` when all of it is digits; an error when the number is out of range.
fn number(text: &str) -> Result<Option<u32>, Failure> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(number) if number <= ID_MAX => Ok(Some(number)),
        _ => Err(out_of_range()),
    }
}

fn out_of_range() -> Failure {
    Failure::invalid(format!("uids and gids must be in range 0-{ID_MAX}"))
}

fn resolve(user: &str, additional: &[String], passwd: &str, group: &str) -> Result<Identity, Failure> {
    let (user, explicit_group) = match user.split_once(':') {
        Some((user, group)) => (user, group),
        None => (user, ""),
    };
    let user = if user.is_empty() { "0" } else { user };
    let wanted = number(user)?;
    // A name of digits is looked up as a name first, as everywhere.
    let found = users(passwd)
        .find(|entry| entry.name == user)
        .or_else(|| users(passwd).find(|entry| Some(entry.uid) == wanted));
    let (uid, mut gid, home, name) = match (&found, wanted) {
        (Some(entry), _) => (entry.uid, entry.gid, entry.home, Some(entry.name)),
        (None, Some(uid)) => (uid, 0, "", None),
        (None, None) => {
            return Err(Failure::invalid(format!(
                "unable to find user {user}: no matching entries in passwd file"
            )));
        }
    };
    let mut memberships = Vec::new();
    if explicit_group.is_empty() {
        let member = |entry: &Group| name.is_some_and(|name| entry.members.split(',').any(|member| member == name));
        memberships.extend(groups(group).filter(member).map(|entry| entry.gid));
    } else {
        gid = group_id(explicit_group, group)?;
    }
    for name in additional {
        memberships.push(group_id(name, group)?);
    }
    if [uid, gid].iter().chain(&memberships).any(|&id| id > ID_MAX) {
        return Err(out_of_range());
    }
    let mut all = vec![gid];
    for gid in memberships {
        if !all.contains(&gid) {
            all.push(gid);
        }
    }
    let home = if home.is_empty() { "/" } else { home };
    Ok(Identity {
        uid,
        gid,
        groups: all,
        home: home.to_owned(),
    })
}

fn group_id(name: &str, group: &str) -> Result<u32, Failure> {
    let wanted = number(name)?;
    if let Some(entry) = groups(group).find(|entry| entry.name == name) {
        return Ok(entry.gid);
    }
    wanted.ok_or_else(|| {
        Failure::invalid(format!(
            "unable to find group {name}: no matching entries in group file"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/var/www:/bin/sh\n1234:x:77:78::/odd:/bin/sh\n";
    const GROUP: &str = "root:x:0:\naudio:x:29:web,root\nweb:x:34:\nvideo:x:44:web\nstaff:x:50:\n";

    fn who(user: &str, additional: &[&str]) -> Result<Identity, String> {
        let additional: Vec<_> = additional.iter().map(|name| name.to_string()).collect();
        resolve(user, &additional, PASSWD, GROUP).map_err(|failure| failure.message)
    }

    fn identity(uid: u32, groups: &[u32], home: &str) -> Result<Identity, String> {
        Ok(Identity {
            uid,
            gid: groups[0],
            groups: groups.to_vec(),
            home: home.to_owned(),
        })
    }

    #[test]
    fn nobody_named_is_root_with_its_groups() {
        assert_eq!(who("", &[]), identity(0, &[0, 29], "/root"));
        assert_eq!(
            resolve("", &[], "", "").unwrap(),
            Identity {
                uid: 0,
                gid: 0,
                groups: vec![0],
                home: "/".into()
            }
        );
    }

    #[test]
    fn names_and_numbers() {
        assert_eq!(who("web", &[]), identity(33, &[34, 29, 44], "/var/www"));
        assert_eq!(who("33", &[]), identity(33, &[34, 29, 44], "/var/www"));
        assert_eq!(who("web:staff", &[]), identity(33, &[50], "/var/www"));
        assert_eq!(
            who("web:99", &["staff", "101"]),
            identity(33, &[99, 50, 101], "/var/www")
        );
        assert_eq!(who("4000", &[]), identity(4000, &[0], "/"));
        assert_eq!(who("1234", &[]), identity(77, &[78], "/odd"));
    }

    #[test]
    fn what_is_neither_is_refused() {
        for user in ["nobody", "1000foo", "-1", "+0", " 0", "0x0", "０"] {
            let message = format!("unable to find user {user}: no matching entries in passwd file");
            assert_eq!(who(user, &[]), Err(message));
        }
        let message = "unable to find group none: no matching entries in group file";
        assert_eq!(who("web:none", &[]), Err(message.to_owned()));
        assert_eq!(who("web", &["none"]), Err(message.to_owned()));
    }

    #[test]
    fn numbers_that_would_wrap_are_refused() {
        let message = "uids and gids must be in range 0-2147483647";
        for user in [
            "2147483648",
            "4294967295",
            "4294967296",
            "99999999999999999999",
            "0:4294967296",
            "0:2147483648",
        ] {
            assert_eq!(who(user, &[]), Err(message.to_owned()), "{user}");
        }
        let wide = "evil:x:4294967295:0::/:\n";
        assert_eq!(resolve("evil", &[], wide, "").unwrap_err().message, message);
    }
}

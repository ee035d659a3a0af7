//! Whose files are whose: owners of a mount shown as others than the disk says.
//!
//! Maps of a mount are those of a user namespace, which only the shim makes: it is outside of any, and a process that it
//! forks for the purpose takes no number in the container.
use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use corten_linux::{mount, user_namespace};
use rustix::{
    fs::{fstat, fstatfs},
    io::Errno,
};
use serde::{Deserialize, Serialize};

/// `count` ids from `inside` on, as the container or the disk has them, are those from `outside` on for the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

impl From<&IdRange> for user_namespace::IdRange {
    fn from(range: &IdRange) -> user_namespace::IdRange {
        let &IdRange { inside, outside, count } = range;
        user_namespace::IdRange { inside, outside, count }
    }
}

/// The maps of a user namespace: users, groups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    pub users: Vec<IdRange>,
    pub groups: Vec<IdRange>,
}

impl IdMaps {
    fn kernel(ranges: &[IdRange]) -> Vec<user_namespace::IdRange> {
        ranges.iter().map(Into::into).collect()
    }

    /// The maps as the kernel takes them.
    pub fn ranges(&self) -> (Vec<user_namespace::IdRange>, Vec<user_namespace::IdRange>) {
        (IdMaps::kernel(&self.users), IdMaps::kernel(&self.groups))
    }

    /// Who a user of the container's is for the host.
    pub fn host_user(&self, id: u32) -> Option<u32> {
        outside(&self.users, id)
    }

    pub fn host_group(&self, id: u32) -> Option<u32> {
        outside(&self.groups, id)
    }

    /// Who the container's root is for the host: user, group.
    pub fn root(&self) -> (u32, u32) {
        self.host_user(0)
            .zip(self.host_group(0))
            .expect("whoever makes maps begins with root")
    }
}

fn outside(ranges: &[IdRange], id: u32) -> Option<u32> {
    let range = ranges
        .iter()
        .find(|range| id.checked_sub(range.inside).is_some_and(|offset| offset < range.count))?;
    Some(range.outside + (id - range.inside))
}

/// How the owners of a mount's files are shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owners {
    /// Whoever owns the mount's root is the container's user, or this one (`name`, `uid`, `name:group`, `uid:gid`).
    MatchUser(Option<String>),
    /// By these maps: what the disk says, what the host sees.
    Maps(IdMaps),
}

/// What a child asks its shim for. Beside it: the mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapRequest {
    pub owners: Wanted,
    pub recursive: bool,
}

/// [`Owners`] with all names looked up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wanted {
    /// The owner of the mount's root is this user and group of the container's.
    Match {
        user: u32,
        group: u32,
    },
    Maps(IdMaps),
}

/// In the shim: does what a child asks for. `container` is the container's own user namespace, where it has one.
pub(crate) fn answer(request: &MapRequest, tree: BorrowedFd, container: Option<&IdMaps>) -> Result<(), String> {
    let maps = match &request.owners {
        Wanted::Maps(maps) => maps.clone(),
        &Wanted::Match { user, group } => match_user(tree, (user, group), container)?,
    };
    map(tree, &maps, request.recursive)
}

fn match_user(tree: BorrowedFd, (user, group): (u32, u32), container: Option<&IdMaps>) -> Result<IdMaps, String> {
    let found = fstat(tree).map_err(|error| io::Error::from(error).to_string())?;
    let (user, group) = match container {
        None => (user, group),
        Some(maps) => maps
            .host_user(user)
            .zip(maps.host_group(group))
            .ok_or_else(|| format!("user {user}:{group} is not in the container's user namespace"))?,
    };
    Ok(IdMaps {
        users: one_as(found.st_uid, user),
        groups: one_as(found.st_gid, group),
    })
}

/// One id on the disk is shown as another, and all but these two as they are. What the disk has of the second belongs to
/// nobody, and nobody can make files of the first: otherwise a user of the container could leave files of another's.
fn one_as(on_disk: u32, shown: u32) -> Vec<IdRange> {
    let same = |from: u32, to: u32| IdRange {
        inside: from,
        outside: from,
        count: to - from,
    };
    if on_disk == shown {
        return vec![same(0, u32::MAX)];
    }
    let (low, high) = (on_disk.min(shown), on_disk.max(shown));
    let mut ranges = vec![IdRange {
        inside: on_disk,
        outside: shown,
        count: 1,
    }];
    ranges.extend([same(0, low), same(low + 1, high), same(high + 1, u32::MAX)]);
    ranges.retain(|range| range.count > 0);
    ranges
}

/// Maps a detached mount. In the shim.
pub(crate) fn map(tree: BorrowedFd, maps: &IdMaps, recursive: bool) -> Result<(), String> {
    let (users, groups) = maps.ranges();
    // SAFETY: the shim has one thread.
    let namespace = unsafe { user_namespace::make(&users, &groups) }
        .map_err(|error| format!("cannot make a user namespace: {error}"))?;
    match mount::set_id_map(tree, namespace.as_fd(), recursive) {
        Ok(()) => Ok(()),
        Err(error) => Err(explain(tree, error, recursive)),
    }
}

fn explain(tree: BorrowedFd, error: io::Error, recursive: bool) -> String {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            let name = fstatfs(tree).map_or("its file system", |found| file_system(found.f_type as u64));
            let beneath = if recursive { ", or one mounted beneath it," } else { "" };
            format!("{name}{beneath} cannot be mounted with other owners on this kernel")
        }
        Some(Errno::PERM) => "the source is mounted with other owners already".to_owned(),
        _ => error.to_string(),
    }
}

/// Names of those that people have, from linux/magic.h.
fn file_system(magic: u64) -> &'static str {
    match magic {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x6969 => "nfs",
        0x6573_5546 => "fuse",
        0x794c_7630 => "overlay",
        0x0102_1997 => "9p",
        0x4d44 => "vfat",
        0x9fa0 => "proc",
        0x6265_6572 => "sysfs",
        0xff53_4d42 | 0xfe53_4d42 => "cifs",
        0x2fc1_2fc1 => "zfs",
        _ => "its file system",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(ranges: &[IdRange], id: u32) -> Option<u32> {
        outside(ranges, id)
    }

    #[test]
    fn one_owner_takes_the_place_of_another_and_no_one_else_does() {
        let ranges = one_as(1000, 0);
        assert_eq!(shown(&ranges, 1000), Some(0));
        assert_eq!(shown(&ranges, 0), None);
        assert_eq!(shown(&ranges, 999), Some(999));
        assert_eq!(shown(&ranges, 1001), Some(1001));
        assert_eq!(shown(&ranges, u32::MAX - 1), Some(u32::MAX - 1));
        assert!(ranges.iter().all(|range| range.count > 0));
        // Nobody is shown as the owner that was moved away.
        assert!((0..2000).all(|id| shown(&ranges, id) != Some(1000)));
    }

    #[test]
    fn neighbours_and_equals_leave_no_empty_ranges() {
        assert_eq!(one_as(7, 7).len(), 1);
        assert_eq!(one_as(0, 1).len(), 2);
        assert_eq!(shown(&one_as(0, 1), 0), Some(1));
        assert_eq!(shown(&one_as(5, 6), 5), Some(6));
        assert_eq!(one_as(5, 6).len(), 3);
    }
}

//! Owners in a tree of a container with a user namespace: in the tree they are who the host sees, in archives who the
//! container sees.
use corten_linux::user_namespace::IdRange;

/// Whom the kernel shows in place of an owner that has no number in a user namespace.
const NOBODY: u32 = 65534;

/// Who is who. `inside` is the container's number, and the archive's; `outside` the host's, and the tree's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owners {
    pub users: Vec<IdRange>,
    pub groups: Vec<IdRange>,
    /// Mounts whose files have the container's own numbers in the tree too.
    pub plain_mounts: Vec<u64>,
}

impl Owners {
    /// Who owns a file on this mount, for the container.
    pub(crate) fn in_archive(&self, mount: u64, (user, group): (u32, u32)) -> (u32, u32) {
        if self.plain_mounts.contains(&mount) {
            return (user, group);
        }
        let inside = |ranges: &[IdRange], id| translate(ranges, id, |range| (range.outside, range.inside));
        (
            inside(&self.users, user).unwrap_or(NOBODY),
            inside(&self.groups, group).unwrap_or(NOBODY),
        )
    }

    /// Who is to own a file on this mount. `None` for who is not in the container's user namespace.
    pub(crate) fn in_tree(&self, mount: u64, (user, group): (u32, u32)) -> Option<(u32, u32)> {
        let outside = |ranges: &[IdRange], id| translate(ranges, id, |range| (range.inside, range.outside));
        let translated = (outside(&self.users, user)?, outside(&self.groups, group)?);
        Some(match self.plain_mounts.contains(&mount) {
            true => (user, group),
            false => translated,
        })
    }
}

impl Owners {
    /// Capabilities for a file on this mount: where it is shown to others too, they hold in the container alone.
    pub(crate) fn capabilities_in_tree(&self, mount: u64, capabilities: &[u8]) -> Vec<u8> {
        let mut capabilities = capabilities.to_vec();
        let root = translate(&self.users, 0, |range| (range.inside, range.outside));
        if let Some(root) = root
            && !self.plain_mounts.contains(&mount)
            && capabilities.len() == 20
            && capabilities[REVISION] == 2
        {
            capabilities[REVISION] = 3;
            capabilities.extend(root.to_le_bytes());
        }
        capabilities
    }
}

fn translate(ranges: &[IdRange], id: u32, way: impl Fn(&IdRange) -> (u32, u32)) -> Option<u32> {
    ranges.iter().find_map(|range| {
        let (from, to) = way(range);
        let offset = id.checked_sub(from).filter(|offset| *offset < range.count)?;
        Some(to + offset)
    })
}

/// The attribute of a file's capabilities: `struct vfs_cap_data`, or `struct vfs_ns_cap_data` with one member more, the root of
/// the user namespace that they hold in. The revision is the highest byte of the first member, which is little-endian.
pub(crate) const CAPABILITY: &[u8] = b"security.capability";
const REVISION: usize = 3;

/// Capabilities that hold in one user namespace become those that hold wherever the file is.
pub(crate) fn forget_namespace(capabilities: &mut Vec<u8>) {
    if capabilities.len() == 24 && capabilities[REVISION] == 3 {
        capabilities.truncate(20);
        capabilities[REVISION] = 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners() -> Owners {
        let range = |inside, outside, count| IdRange { inside, outside, count };
        Owners {
            users: vec![range(0, 100_000, 1000), range(1000, 200_000, 10)],
            groups: vec![range(0, 300_000, 65536)],
            plain_mounts: vec![7],
        }
    }

    #[test]
    fn owners_are_the_hosts_in_the_tree_and_the_containers_in_archives() {
        let owners = owners();
        for (inside, outside) in [((0, 0), (100_000, 300_000)), ((1009, 5), (200_009, 300_005))] {
            assert_eq!(owners.in_tree(1, inside), Some(outside));
            assert_eq!(owners.in_archive(1, outside), inside);
            assert_eq!(owners.in_tree(7, inside), Some(inside));
            assert_eq!(owners.in_archive(7, inside), inside);
        }
        assert_eq!(owners.in_archive(1, (0, 0)), (NOBODY, NOBODY));
        assert_eq!(owners.in_archive(1, (200_010, 300_001)), (NOBODY, 1));
    }

    #[test]
    fn who_is_not_in_the_namespace_can_own_nothing() {
        assert_eq!(owners().in_tree(1, (1010, 0)), None);
        assert_eq!(owners().in_tree(7, (0, 65536)), None);
    }

    #[test]
    fn capabilities_hold_in_the_container_alone_and_in_archives_anywhere() {
        let anywhere = [&[1, 0, 0, 2][..], &[9; 16]].concat();
        let of_namespace = [&[1, 0, 0, 3][..], &[9; 16], &[0xa0, 0x86, 1, 0]].concat();
        assert_eq!(owners().capabilities_in_tree(1, &anywhere), of_namespace);
        assert_eq!(owners().capabilities_in_tree(7, &anywhere), anywhere);
        for mut capabilities in [of_namespace, anywhere.clone()] {
            forget_namespace(&mut capabilities);
            assert_eq!(capabilities, anywhere);
        }
    }
}

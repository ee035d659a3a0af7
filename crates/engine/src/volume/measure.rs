//! What is in a directory, measured while somebody may be changing it: links are never followed.
use std::{
    collections::HashSet,
    io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat},
    io::Errno,
};

/// Deeper trees are not looked into: recursion must end.
const DEPTH: usize = 256;
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Bytes in all files beneath `directory`, hard links counted once, as Docker counts: not what they take on disk. What
/// vanishes meanwhile counts as nothing.
pub fn tree_bytes(directory: &Path) -> io::Result<u64> {
    let root = openat(CWD, directory, DIRECTORY, Mode::empty())?;
    measure(root.as_fd(), &mut HashSet::new(), 0)
}

fn measure(directory: BorrowedFd, seen: &mut HashSet<(u64, u64)>, depth: usize) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            stat => stat?,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && (stat.st_nlink == 1 || seen.insert((stat.st_dev, stat.st_ino))) {
            bytes += u64::try_from(stat.st_size).unwrap_or_default();
        }
        if kind == FileType::Directory && depth < DEPTH {
            match openat(directory, name, DIRECTORY, Mode::empty()) {
                Ok(inner) => bytes += measure(inner.as_fd(), seen, depth + 1)?,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn links_lead_nowhere_and_count_once() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("x"), vec![1; 100_000]).unwrap();
        assert_eq!(tree_bytes(directory.path()).unwrap(), 100_000);
        fs::hard_link(inner.join("x"), directory.path().join("y")).unwrap();
        symlink("/usr", directory.path().join("usr")).unwrap();
        symlink("..", inner.join("up")).unwrap();
        // The links themselves are as long as what they say.
        let links = "/usr".len() + "..".len();
        assert_eq!(tree_bytes(directory.path()).unwrap(), 100_000 + links as u64);
    }
}

//! Masked and read-only paths: what a container may not look into, and what it may not change.
use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use corten_linux::{
    fd,
    mount::{self, Attributes},
};
use rustix::{
    fs::{FileType, OFlags},
    mount::{MountAttrFlags, fsconfig_set_string},
};

use crate::{error::Context, process::plan::ChildPlan, shim::protocol::Failure};

/// Covers what is to be hidden, then makes read-only what is to stay as it is. Paths that do not exist are no error.
pub(crate) fn apply(plan: &ChildPlan, root: BorrowedFd, null: BorrowedFd) -> Result<(), Failure> {
    for path in &plan.read_only {
        make_read_only(path, root).context(|| format!("cannot make {} read-only", path.display()))?;
    }
    let mut empty = None;
    for path in &plan.masked {
        cover(path, root, null, &mut empty).context(|| format!("cannot mask {}", path.display()))?;
    }
    if plan.read_only_root {
        let say = || "cannot make the root file system read-only";
        mount::set_attributes(root, read_only(), false).context(say)?;
    }
    Ok(())
}

fn read_only() -> Attributes {
    Attributes {
        set: u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits()),
        ..Attributes::default()
    }
}

fn find(path: &Path, root: BorrowedFd) -> std::io::Result<Option<OwnedFd>> {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    match fd::open_in_root(root, path, OFlags::PATH) {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

fn make_read_only(path: &Path, root: BorrowedFd) -> std::io::Result<()> {
    let Some(place) = find(path, root)? else { return Ok(()) };
    let copy = mount::clone_tree(place.as_fd(), true)?;
    mount::set_attributes(copy.as_fd(), read_only(), true)?;
    mount::attach(copy.as_fd(), place.as_fd())
}

/// Directories share one empty read-only tmpfs: a file system of its own for each costs five times as much.
fn cover(path: &Path, root: BorrowedFd, null: BorrowedFd, empty: &mut Option<OwnedFd>) -> std::io::Result<()> {
    let Some(place) = find(path, root)? else { return Ok(()) };
    if fd::file_type(place.as_fd())? != FileType::Directory {
        let copy = mount::clone_tree(null, false)?;
        return mount::attach(copy.as_fd(), place.as_fd());
    }
    match empty {
        None => {
            let made = empty_directory()?;
            mount::attach(made.as_fd(), place.as_fd())?;
            *empty = Some(made);
            Ok(())
        }
        Some(empty) => {
            let copy = mount::clone_tree(empty.as_fd(), false)?;
            mount::attach(copy.as_fd(), place.as_fd())
        }
    }
}

fn empty_directory() -> std::io::Result<OwnedFd> {
    let context = mount::open_filesystem("tmpfs")?;
    fsconfig_set_string(&context, "mode", "755")?;
    fsconfig_set_string(&context, "nr_inodes", "1")?;
    mount::finish(context.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY)
}

//! The change of root: afterwards nothing of the host's file system can be named.
use std::os::fd::BorrowedFd;

use rustix::{
    mount::{UnmountFlags, unmount},
    process::{chdir, fchdir, pivot_root},
};

use crate::{error::Context, shim::protocol::Failure};

/// Makes the mount behind `root` the root of this mount namespace and lets go of the old one.
///
/// The old root is stacked on the new one at the same place, so that no directory is needed for it.
pub(crate) fn pivot(root: BorrowedFd) -> Result<(), Failure> {
    let say = || "cannot change to the root file system";
    fchdir(root).context(say)?;
    pivot_root(".", ".").context(say)?;
    unmount(".", UnmountFlags::DETACH).context(say)?;
    chdir("/").context(say)
}

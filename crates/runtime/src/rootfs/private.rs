//! A mount namespace that nobody lives in: for mounts that are to be there, and not to be seen on the host.
//!
//! It follows what the host mounts and shows it nothing. Threads of the daemon enter it, each for one piece of work, and
//! end there.
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    thread,
};

use corten_linux::namespace;
use rustix::fs::{Mode, OFlags, open};

const CLONE_NEWNS: u64 = 0x0002_0000;

/// There as long as a descriptor of it is, in whatever process.
#[derive(Debug)]
pub struct PrivateMounts {
    namespace: OwnedFd,
}

impl PrivateMounts {
    /// As the host's namespace is now.
    pub fn new() -> io::Result<PrivateMounts> {
        let namespace = apart(|| {
            namespace::unshare(CLONE_NEWNS)?;
            super::mounts::cut_off().map_err(|failure| io::Error::other(failure.message))?;
            Ok(open(
                "/proc/thread-self/ns/mnt",
                OFlags::RDONLY | OFlags::CLOEXEC,
                Mode::empty(),
            )?)
        })?;
        Ok(PrivateMounts { namespace })
    }

    /// One that somebody has kept.
    pub fn kept(namespace: OwnedFd) -> PrivateMounts {
        PrivateMounts { namespace }
    }

    /// To keep it in another process.
    pub fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// Does something there, where paths mean what is mounted there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        apart(|| {
            namespace::unshare_directories()?;
            namespace::enter(self.namespace.as_fd(), CLONE_NEWNS)?;
            work()
        })
    }
}

/// By a thread that ends with it.
fn apart<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|_| Err(io::Error::other("a thread died")))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_mounted_there_is_seen_there_alone() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path();
        let private = PrivateMounts::new().unwrap();
        let mount = || {
            rustix::mount::mount("none", place, "tmpfs", rustix::mount::MountFlags::empty(), c"")?;
            fs::write(place.join("x"), "")
        };
        private.inside(mount).unwrap();
        assert!(private.inside(|| fs::metadata(place.join("x"))).is_ok());
        assert!(!place.join("x").exists());
        let again = PrivateMounts::kept(private.namespace().try_clone_to_owned().unwrap());
        drop(private);
        assert!(again.inside(|| fs::metadata(place.join("x"))).is_ok());
    }
}

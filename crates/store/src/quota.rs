//! How much a directory of the data root may hold: a project of its own, on file systems that count by project.
//!
//! Projects are numbered from a number of ours on; which are taken is read from the directories themselves.
use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Mutex,
};

use corten_linux::quota;
use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
};

use crate::{error::Error, layout::Layout};

/// Far from where operators and other engines begin to count.
const FIRST: u32 = 0x436f_0000;

#[derive(Debug, Default)]
pub struct Projects {
    next: Mutex<Option<u32>>,
}

impl Projects {
    /// Lets new, empty directories hold so many bytes together.
    pub fn limit(&self, layout: &Layout, directories: &[PathBuf], bytes: u64) -> Result<(), Error> {
        let directory = &directories[0];
        let failed = |error: io::Error| match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOTTY | Errno::OPNOTSUPP | Errno::SRCH | Errno::NOSYS | Errno::INVAL | Errno::NXIO) => {
                Error::NoQuota {
                    path: directory.to_owned(),
                }
            }
            _ => Error::Io {
                doing: "limit the size of",
                path: directory.to_owned(),
                source: error,
            },
        };
        let project = self.take(layout).map_err(failed)?;
        // The limit first: a directory that counts for a project has its limit.
        let opened = open(directory).map_err(failed)?;
        quota::set_limit(opened.as_fd(), project, bytes).map_err(failed)?;
        for directory in directories {
            let opened = open(directory).map_err(failed)?;
            quota::set_project(opened.as_fd(), project).map_err(failed)?;
        }
        Ok(())
    }

    fn take(&self, layout: &Layout) -> io::Result<u32> {
        let mut next = self.next.lock().expect("no panic while locked");
        let project = match *next {
            Some(project) => project,
            None => highest(layout)?.map_or(FIRST, |project| project + 1),
        };
        *next = Some(project + 1);
        Ok(project)
    }
}

/// Among what there is and what is being deleted.
fn highest(layout: &Layout) -> io::Result<Option<u32>> {
    let mut highest = None;
    for room in [layout.actives(), layout.volumes(), layout.trash()] {
        for entry in fs::read_dir(room)? {
            let path = entry?.path();
            for path in [path.join("_data"), path] {
                let found = open(&path).and_then(|opened| quota::project(opened.as_fd()));
                highest = highest.max(found.ok().filter(|project| *project >= FIRST));
            }
        }
    }
    Ok(highest)
}

/// A directory that goes takes its limit along.
pub fn forget(directory: &Path) {
    let forget = || {
        let opened = open(directory)?;
        match quota::project(opened.as_fd())? {
            project if project >= FIRST => quota::set_limit(opened.as_fd(), project, 0),
            _ => Ok(()),
        }
    };
    // Most have none, and most file systems know of none.
    let _: io::Result<()> = forget();
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}

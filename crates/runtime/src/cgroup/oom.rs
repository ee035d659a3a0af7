//! Notice of memory kills as they happen: a descriptor for a poll set.
//!
//! On v1 it becomes ready just before the kernel kills, on v2 with every change of `memory.events`: how many were killed
//! is for [`Cgroup::oom_kills`] to say.
use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    event::{EventfdFlags, eventfd},
    fs::{Mode, OFlags, open},
};

use super::{files, manager::Cgroup};

pub(crate) enum OomWatch {
    /// An eventfd: readable.
    Legacy(OwnedFd),
    /// `memory.events`: urgent, in poll(2)'s words.
    Unified(OwnedFd),
}

impl OomWatch {
    /// `None` where nobody counts memory.
    pub fn of(cgroup: &Cgroup) -> io::Result<Option<OomWatch>> {
        match cgroup.memory_directory() {
            None => Ok(None),
            Some((path, true)) => legacy(path).map(Some),
            Some((path, false)) => {
                let events = open(
                    path.join("memory.events"),
                    OFlags::RDONLY | OFlags::CLOEXEC,
                    Mode::empty(),
                )?;
                let watch = OomWatch::Unified(events);
                watch.acknowledge();
                Ok(Some(watch))
            }
        }
    }

    pub fn is_urgent(&self) -> bool {
        matches!(self, OomWatch::Unified(_))
    }

    /// Not ready again before the next event.
    pub fn acknowledge(&self) {
        let _ = match self {
            OomWatch::Legacy(fd) => rustix::io::read(fd, &mut [0; 8]),
            OomWatch::Unified(fd) => rustix::io::pread(fd, &mut [0; 512], 0),
        };
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            OomWatch::Legacy(fd) | OomWatch::Unified(fd) => fd.as_fd(),
        }
    }
}

fn legacy(directory: &Path) -> io::Result<OomWatch> {
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let control = File::open(directory.join("memory.oom_control"))?;
    let request = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
    files::write(&directory.join("cgroup.event_control"), &request)?;
    Ok(OomWatch::Legacy(event))
}

//! A reserve: disk space held back, so that a full disk can still be made emptier.
//!
//! Removing a container or an image begins in the database, and every change of a database needs room first. Where
//! there is none, the reserve is given up and the change made again; once room is back, so is the reserve.
use std::{
    fs::{self, File},
    io,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::fs::{FallocateFlags, fallocate};

/// Some dozens of changes: what they free ends the need.
const BYTES: u64 = 512 * 1024;

#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    spent: AtomicBool,
}

impl Reserve {
    /// Takes what can be had: on a disk that is full already there is none.
    pub fn open(path: PathBuf) -> Reserve {
        let spent = AtomicBool::new(fill(&path).is_err());
        Reserve { path, spent }
    }

    /// Gives it up; false when there was none.
    pub fn spend(&self) -> bool {
        !self.spent.swap(true, Ordering::Relaxed) && fs::remove_file(&self.path).is_ok()
    }

    /// Takes it back where it was given up and there is room again.
    pub fn replenish(&self) {
        if self.spent.load(Ordering::Relaxed) && fill(&self.path).is_ok() {
            self.spent.store(false, Ordering::Relaxed);
        }
    }
}

/// Blocks without contents: nothing is written.
fn fill(path: &PathBuf) -> io::Result<()> {
    let file = File::options().create(true).append(true).open(path)?;
    let filled = fallocate(&file, FallocateFlags::empty(), 0, BYTES).map_err(io::Error::from);
    if filled.is_err() {
        let _ = fs::remove_file(path);
    }
    filled
}

//! Deletion off the critical path: a rename into `trash`, then a thread that unlinks.
//!
//! Once `discard` returned, the name is free; a crash before the thread is done leaves work for the next `open`.
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{Sender, channel},
    },
    thread::{self, JoinHandle},
};

use crate::error::Error;

/// What the thread does, in this order.
#[derive(Debug)]
enum Work {
    Delete(PathBuf),
    /// Says that all before is done.
    Tell(Sender<()>),
}

#[derive(Debug)]
pub struct Sweeper {
    trash: PathBuf,
    next: AtomicU64,
    queue: Option<Sender<Work>>,
    thread: Option<JoinHandle<()>>,
}

impl Sweeper {
    /// Takes up what an earlier process left.
    pub fn start(trash: PathBuf) -> Result<Sweeper, Error> {
        let mut left = Vec::new();
        let mut next = 0;
        for entry in fs::read_dir(&trash).map_err(Error::io("read", &trash))? {
            let entry = entry.map_err(Error::io("read", &trash))?;
            let number = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
            next = next.max(number.map_or(0, |number| number + 1));
            left.push(entry.path());
        }
        let (queue, work) = channel();
        let thread = thread::Builder::new()
            .name("sweeper".to_owned())
            .spawn(move || work.into_iter().for_each(Work::carry_out))
            .map_err(Error::io("start a thread for", &trash))?;
        for path in left {
            let _ = queue.send(Work::Delete(path));
        }
        Ok(Sweeper {
            trash,
            next: AtomicU64::new(next),
            queue: Some(queue),
            thread: Some(thread),
        })
    }

    /// Takes `path` away at once and deletes it later. Nothing there is fine.
    pub fn discard(&self, path: &Path) -> Result<(), Error> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let target = self.trash.join(number.to_string());
        match fs::rename(path, &target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => result.map_err(Error::io("remove", path))?,
        }
        if let Some(queue) = &self.queue {
            let _ = queue.send(Work::Delete(target));
        }
        Ok(())
    }

    /// Waits until all that was discarded is deleted, and its room on the disk free.
    pub fn finish(&self) {
        let (done, finished) = channel();
        if let Some(queue) = &self.queue
            && queue.send(Work::Tell(done)).is_ok()
        {
            let _ = finished.recv();
        }
    }
}

impl Work {
    fn carry_out(self) {
        match self {
            Work::Delete(path) => delete(&path),
            Work::Tell(done) => drop(done.send(())),
        }
    }
}

/// Waits until everything is deleted.
impl Drop for Sweeper {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn delete(path: &Path) {
    let result = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        tracing::warn!("cannot delete {}: {error}", path.display());
    }
}

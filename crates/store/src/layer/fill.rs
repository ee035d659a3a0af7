//! Small files of an archive, filled by a second thread while the first creates what comes next.
//!
//! Creating is most of what a small file costs, and follows the archive's order. Whatever else a file needs goes through
//! its descriptor alone: which directory it stands in, whether something has replaced it since, or links to it, is all the
//! same. The first thing that fails is what [`Filler::finish`] says, for it always belongs to an earlier entry than the
//! one that is being created.
use std::{
    io::BufRead,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{Builder, JoinHandle},
    time::Duration,
};

use crate::layer::{
    error::LayerError,
    make::{Maker, read_all},
    tar::{Entry, Reader},
};

/// A larger file, in bytes, is filled at once: its data would be copied once more, and from one processor to another.
const SMALL: u64 = 4 << 10;
/// Small files that come first, filled at once: a few are not worth a thread.
const FEW: usize = 16;
/// Files that wait for the second thread, which is woken but once for them. What does not fit is filled by the first.
const BATCH: usize = 64;
/// How long a file waits for its batch to become full, as when a client pauses.
const LINGER: Duration = Duration::from_millis(2);

/// Fills the new files of one archive.
pub(crate) struct Filler {
    shared: Arc<Shared>,
    /// Of a small file.
    data: Vec<u8>,
    /// Small files so far, as long as there is no thread.
    few: usize,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    maker: Arc<Maker>,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    batch: Batch,
    /// The second thread waits for the first file of a batch.
    idle: bool,
    /// Nothing follows.
    closed: bool,
    failed: Option<LayerError>,
}

/// New files that lack data, owner, mode, attributes and time.
#[derive(Default)]
struct Batch {
    files: Vec<(OwnedFd, Entry)>,
    /// Of all of them, one after the other.
    data: Vec<u8>,
}

impl Filler {
    pub fn new(maker: Arc<Maker>) -> Filler {
        Filler {
            shared: Arc::new(Shared {
                maker,
                queue: Mutex::default(),
                changed: Condvar::new(),
            }),
            data: Vec::new(),
            few: 0,
            thread: None,
        }
    }

    /// Fills a new file, now or soon. `entry.path` is its name in the archive.
    pub fn fill<R: BufRead>(&mut self, reader: &mut Reader<R>, entry: Entry, file: OwnedFd) -> Result<(), LayerError> {
        let small = entry.sparse.is_none() && entry.size <= SMALL;
        if !small || !self.has_thread() {
            return self.shared.maker.fill(reader, &entry, file.as_fd(), true);
        }
        self.data.clear();
        read_all(reader, &entry, &mut self.data)?;
        match self.shared.put(file, entry, &self.data) {
            None => Ok(()),
            Some((file, entry)) => self.shared.maker.fill_from(&self.data, &entry, file.as_fd()),
        }
    }

    /// Whether something has failed: going on is in vain.
    pub fn failed(&self) -> bool {
        self.thread.is_some() && self.shared.lock().failed.is_some()
    }

    fn has_thread(&mut self) -> bool {
        if self.thread.is_none() && self.few >= FEW {
            let shared = Arc::clone(&self.shared);
            // Where there can be none, the first thread does everything.
            self.thread = Builder::new().name("fill".to_owned()).spawn(move || shared.work()).ok();
        }
        self.few += 1;
        self.thread.is_some()
    }

    /// Waits for everything; says what failed first.
    pub fn finish(&mut self) -> Result<(), LayerError> {
        self.end();
        self.shared.lock().failed.take().map_or(Ok(()), Err)
    }

    fn end(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.shared.lock().closed = true;
            self.shared.changed.notify_one();
            thread.join().expect("filling does not panic");
        }
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a file to the second thread; gives it back when that has enough to do.
    fn put(&self, file: OwnedFd, entry: Entry, data: &[u8]) -> Option<(OwnedFd, Entry)> {
        let mut queue = self.lock();
        if queue.batch.is_full() {
            return Some((file, entry));
        }
        queue.batch.files.push((file, entry));
        queue.batch.data.extend_from_slice(data);
        if queue.idle || queue.batch.is_full() {
            queue.idle = false;
            drop(queue);
            self.changed.notify_one();
        }
        None
    }

    /// The second thread, until nothing follows or something fails.
    fn work(&self) {
        let mut batch = Batch::default();
        while self.take(&mut batch) {
            let mut rest = batch.data.as_slice();
            for (file, entry) in batch.files.drain(..) {
                let (data, after) = rest.split_at(entry.size as usize);
                rest = after;
                if let Err(error) = self.maker.fill_from(data, &entry, file.as_fd()) {
                    self.lock().failed = Some(error);
                    return;
                }
            }
            batch.data.clear();
        }
    }

    /// What waits; `batch` is empty, and its memory is what the next one grows in. False at the end.
    fn take(&self, batch: &mut Batch) -> bool {
        let mut queue = self.lock();
        loop {
            let growing = |queue: &mut Queue| !queue.batch.is_full() && !queue.closed;
            let waited = self.changed.wait_timeout_while(queue, LINGER, growing);
            (queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if !queue.batch.files.is_empty() {
                std::mem::swap(&mut queue.batch, batch);
                return true;
            }
            if queue.closed {
                return false;
            }
            queue.idle = true;
            let idle = |queue: &mut Queue| queue.idle && !queue.closed;
            let waited = self.changed.wait_while(queue, idle);
            queue = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Batch {
    fn is_full(&self) -> bool {
        self.files.len() >= BATCH
    }
}

//! Who waits for a log to grow sleeps until the kernel says so; nobody polls.
//!
//! One inotify instance serves all readers, because a user may have 128 of them only. A watch is of a log's directory,
//! not of its file: rotation makes another one.
use std::{
    collections::HashMap,
    io,
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags},
    io::Errno,
};
use tokio::{io::unix::AsyncFd, sync::Notify};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::ready;

/// What a watcher wants to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Anything that is written, and files that come.
    Growth,
    /// Files that got another name: rotations.
    Rotation,
}

impl Interest {
    fn flags(self) -> WatchFlags {
        match self {
            Interest::Growth => WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO,
            Interest::Rotation => WatchFlags::MOVED_TO,
        }
    }
}

pub struct Watcher {
    shared: Arc<Shared>,
    _end: DropGuard,
}

struct Shared {
    fd: AsyncFd<OwnedFd>,
    watches: Mutex<HashMap<i32, Watched>>,
    next: AtomicU64,
}

#[derive(Default)]
struct Watched {
    path: PathBuf,
    waiting: Vec<(u64, Interest, Arc<Notify>)>,
}

/// A watch on a directory, until it is dropped.
pub struct Watch {
    shared: Arc<Shared>,
    descriptor: i32,
    number: u64,
    notify: Arc<Notify>,
}

impl Watcher {
    /// Needs a tokio runtime around it.
    pub fn new() -> io::Result<Watcher> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let shared = Arc::new(Shared {
            fd: ready::watched(fd)?,
            watches: Mutex::default(),
            next: AtomicU64::new(0),
        });
        let end = CancellationToken::new();
        tokio::spawn(dispatch(Arc::clone(&shared), end.clone()));
        Ok(Watcher {
            shared,
            _end: end.drop_guard(),
        })
    }

    /// What happens from now on is heard of.
    pub fn watch(&self, directory: &Path, interest: Interest) -> io::Result<Watch> {
        let mut watches = self.shared.lock();
        // The kernel has one watch for each directory; the flags of the others must stay.
        let flags = interest.flags() | WatchFlags::MASK_ADD | WatchFlags::ONLYDIR;
        let descriptor = inotify::add_watch(self.shared.fd.get_ref(), directory, flags)?;
        let watched = watches.entry(descriptor).or_default();
        watched.path = directory.to_owned();
        let (number, notify) = (self.shared.next.fetch_add(1, Ordering::Relaxed), Arc::default());
        watched.waiting.push((number, interest, Arc::clone(&notify)));
        Ok(Watch {
            shared: Arc::clone(&self.shared),
            descriptor,
            number,
            notify,
        })
    }
}

impl Watch {
    /// Waits for something to have happened since the last time.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watches = self.shared.lock();
        let Some(watched) = watches.get_mut(&self.descriptor) else {
            return;
        };
        watched.waiting.retain(|(number, ..)| *number != self.number);
        let fd = self.shared.fd.get_ref();
        if watched.waiting.is_empty() {
            watches.remove(&self.descriptor);
            let _ = inotify::remove_watch(fd, self.descriptor);
        } else if watched
            .waiting
            .iter()
            .all(|(_, interest, _)| *interest == Interest::Rotation)
        {
            // Those who stay do not want to hear of each write.
            let _ = inotify::add_watch(fd, &watched.path, Interest::Rotation.flags());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<i32, Watched>> {
        self.watches.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn read_all(&self) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(self.fd.get_ref(), &mut buffer);
        let mut watches = self.lock();
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => {
                    for (_, _, notify) in watches.values().flat_map(|watched| &watched.waiting) {
                        notify.notify_one();
                    }
                }
                Ok(event) => {
                    let rotated = event.events().intersects(ReadFlags::MOVED_TO | ReadFlags::IGNORED);
                    let waiting = watches.get(&event.wd()).map(|watched| &watched.waiting);
                    for (_, interest, notify) in waiting.into_iter().flatten() {
                        if rotated || *interest == Interest::Growth {
                            notify.notify_one();
                        }
                    }
                    if event.events().contains(ReadFlags::IGNORED) {
                        watches.remove(&event.wd());
                    }
                }
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

async fn dispatch(shared: Arc<Shared>, end: CancellationToken) {
    loop {
        tokio::select! {
            ready = shared.fd.readable() => {
                let Ok(mut ready) = ready else { return };
                // Cleared first: what comes while we read makes it ready again.
                ready.clear_ready();
                shared.read_all();
            }
            () = end.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;

    #[tokio::test]
    async fn watchers_hear_of_what_they_asked_for() {
        let directory = tempfile::tempdir().expect("writable");
        let watcher = Watcher::new().expect("inotify");
        let rotation = watcher.watch(directory.path(), Interest::Rotation).expect("watched");
        let growth = watcher.watch(directory.path(), Interest::Growth).expect("watched");
        fs::write(directory.path().join("log"), "x").expect("written");
        growth.changed().await;
        assert!(
            tokio::time::timeout(Duration::from_millis(50), rotation.changed())
                .await
                .is_err()
        );
        fs::rename(directory.path().join("log"), directory.path().join("log.1")).expect("renamed");
        rotation.changed().await;
        growth.changed().await;
        drop(growth);
        fs::rename(directory.path().join("log.1"), directory.path().join("log.2")).expect("renamed");
        rotation.changed().await;
        drop(rotation);
        assert!(watcher.shared.lock().is_empty());
    }
}

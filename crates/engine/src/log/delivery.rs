//! A container's log is delivered to its remote: followed on disk, sent, and how far it has come is kept on disk too.
//!
//! The shim writes the log whether anybody takes it or not, so a daemon that is killed loses nothing: the next one goes
//! on at the position, and what it sends twice is one batch at most. While a remote is away its lines wait on disk, as
//! many as the files hold. Where a remote is there but takes nothing, a container in blocking mode waits for it; one in
//! non-blocking mode, and one whose remote is away, never waits: its oldest lines go.
use std::{
    fs::File,
    future::Future,
    io,
    os::fd::AsFd,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use corten_runtime::shim::{connection, log::position::Position, protocol::ToShim};
use tokio_util::sync::CancellationToken;

use crate::log::{
    archive,
    feed::Feed,
    files,
    place::Place,
    remote::{driver::Sender, message::Batch},
    watch::Watch,
};

/// What a removed container's last lines may take to be delivered.
const LAST_PATIENCE: Duration = Duration::from_secs(10);

pub struct Delivery {
    pub container: String,
    pub place: Place,
    /// Where its shim listens, while it runs.
    pub task: PathBuf,
    pub feed: SharedFeed,
    pub sender: Sender,
    pub watch: Watch,
    /// The position's file.
    pub saved: File,
    /// The container has been removed.
    pub gone: CancellationToken,
    pub closing: CancellationToken,
}

/// Who removes a container takes hold of its files.
#[derive(Clone)]
pub struct SharedFeed(Arc<Mutex<Feed>>);

impl SharedFeed {
    pub fn new(feed: Feed) -> SharedFeed {
        SharedFeed(Arc::new(Mutex::new(feed)))
    }

    pub fn lock(&self) -> MutexGuard<'_, Feed> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

type End = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Delivery {
    /// Until the container is removed and its last lines are delivered, or the engine closes.
    pub async fn run(mut self) {
        let (gone, closing) = (self.gone.clone(), self.closing.clone());
        let mut end: End = Box::pin(async move {
            tokio::select! {
                () = closing.cancelled() => {}
                () = async { gone.cancelled().await; tokio::time::sleep(LAST_PATIENCE).await } => {}
            }
        });
        let mut batch = Batch::default();
        loop {
            // Asked first: what is there when it is gone is all there will be.
            let gone = self.gone.is_cancelled();
            let feed = self.feed.clone();
            let read = tokio::task::spawn_blocking(move || {
                let next = feed.lock().next(&mut batch);
                (batch, next)
            });
            let Ok((filled, next)) = read.await else { return };
            batch = filled;
            match next {
                Ok(Some(behind)) => {
                    if !self.deliver(&batch, behind, &mut end).await {
                        return;
                    }
                }
                Ok(None) if gone => return,
                Ok(None) => tokio::select! {
                    () = self.watch.changed() => {}
                    () = self.gone.cancelled() => {}
                    () = &mut end => return,
                },
                Err(error) => {
                    tracing::error!(container = %self.container, %error, "cannot read a log that is to be delivered");
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_secs(1)) => {}
                        () = &mut end => return,
                    }
                }
            }
        }
    }

    /// False when there is no time left for it.
    async fn deliver(&mut self, batch: &Batch, behind: Position, end: &mut End) -> bool {
        let before = self.feed.lock().position;
        if before.inode != behind.inode {
            // From now on this is the file that must not be dropped.
            let begin = Position {
                offset: 0,
                pieces: before.pieces,
                ..behind
            };
            self.save(begin);
            self.next_file(before).await;
        }
        let mut attempts = 0;
        while !batch.ends.is_empty() {
            let failed = tokio::select! {
                sent = self.sender.send(batch) => match sent {
                    Ok(()) => break,
                    Err(error) => error,
                },
                () = &mut *end => return false,
            };
            attempts += 1;
            if attempts == 1 {
                let error = failed.to_string();
                tracing::warn!(container = %self.container, error, "a log's remote is away: lines wait on disk");
                self.hold(false).await;
            }
            if self.sender.attempts_max.is_some_and(|most| attempts > most) {
                tracing::error!(container = %self.container, attempts, "lines of a log could not be delivered and are dropped");
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(self.sender.wait_after(attempts)) => {}
                () = &mut *end => return false,
            }
        }
        if attempts > 0 {
            tracing::info!(container = %self.container, attempts, "a log is being delivered again");
            self.hold(self.place.blocking).await;
        }
        let hold = self.feed.lock().position.hold;
        self.save(Position { hold, ..behind });
        true
    }

    fn save(&self, position: Position) {
        self.feed.lock().position = position;
        if let Err(error) = position.write(&self.saved) {
            tracing::error!(container = %self.container, %error, "cannot save how far a log is delivered");
        }
    }

    /// Must the container wait for us, or not?
    async fn hold(&self, hold: bool) {
        let position = self.feed.lock().position;
        if position.hold != hold {
            self.save(Position { hold, ..position });
            self.tell_shim().await;
        }
    }

    /// A file is done with: the container may write on, and the file can be compressed.
    async fn next_file(&self, before: Position) {
        if before.inode != 0 && self.place.blocking {
            self.tell_shim().await;
        }
        if !self.place.files.compress || self.gone.is_cancelled() {
            return;
        }
        let (place, inode) = (self.place.clone(), self.feed.lock().position.inode);
        let compressed = tokio::task::spawn_blocking(move || -> io::Result<()> {
            match files::age_of(&place.path, inode)? {
                Some(age) => archive::compress(&place.path, age, place.files.max_files),
                None => Ok(()),
            }
        });
        if let Ok(Err(error)) = compressed.await {
            tracing::warn!(container = %self.container, %error, "cannot compress a log");
        }
    }

    /// It may not run any more, and need not answer.
    async fn tell_shim(&self) {
        let task = self.task.clone();
        let told = tokio::task::spawn_blocking(move || -> io::Result<()> {
            let shim = connection::reconnect(&task)?;
            connection::send(shim.as_fd(), &ToShim::LogDelivered, &[])
        });
        if let Ok(Err(error)) = told.await {
            tracing::debug!(container = %self.container, %error, "a shim was not told of its log");
        }
    }
}

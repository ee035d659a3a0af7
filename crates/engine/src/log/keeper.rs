//! What a daemon does for logs while shims write them: deliver to remotes, compress what was rotated, wake readers.
//!
//! A container has at most one task here, from its first start until it is removed.
use std::{
    collections::HashMap,
    fs::File,
    io,
    path::Path,
    sync::{Mutex, MutexGuard},
};

use corten_runtime::shim::log::position::Position;
use corten_store::layout::Layout;
use tokio_util::sync::CancellationToken;

use crate::{
    container::record::Record,
    error::{Error, Result},
    log::{
        archive,
        delivery::{Delivery, SharedFeed},
        facts::Facts,
        feed::Feed,
        files,
        place::Place,
        remote::driver::Driver,
        watch::{Interest, Watch, Watcher},
    },
};

pub struct Keeper {
    watcher: Watcher,
    kept: Mutex<HashMap<String, Kept>>,
    closing: CancellationToken,
}

/// A container's task.
struct Kept {
    gone: CancellationToken,
    feed: Option<SharedFeed>,
}

impl Keeper {
    /// Needs a tokio runtime around it.
    pub fn new() -> io::Result<Keeper> {
        Ok(Keeper {
            watcher: Watcher::new()?,
            kept: Mutex::default(),
            closing: CancellationToken::new(),
        })
    }

    /// Wakes a reader of the log in `directory`.
    pub fn watch(&self, directory: &Path) -> io::Result<Watch> {
        self.watcher.watch(directory, Interest::Growth)
    }

    /// Before a container starts. Fails where its remote must be there and is not.
    pub async fn prepare(&self, record: &Record, layout: &Layout) -> Result<()> {
        let Some(place) = Place::of(record, &layout.container(&record.id).join("log")) else {
            return Ok(());
        };
        if !place.remote {
            return self.begin(record, layout, place, None);
        }
        let name = &record.host_config.log_config.driver;
        let mut driver = Driver::of(name, &Facts::of(record))?;
        driver.probe(name).await?;
        self.begin(record, layout, place, Some(driver))
    }

    /// For a container that a new daemon finds: what is not delivered yet will be.
    pub fn resume(&self, record: &Record, layout: &Layout) {
        let Some(place) = Place::of(record, &layout.container(&record.id).join("log")) else {
            return;
        };
        let begun = if place.remote {
            Driver::of(&record.host_config.log_config.driver, &Facts::of(record))
                .and_then(|driver| self.begin(record, layout, place, Some(driver)))
        } else {
            self.begin(record, layout, place, None)
        };
        if let Err(error) = begun {
            tracing::error!(container = %record.id, %error, "a container's log is not looked after");
        }
    }

    /// The container is being removed, and its log with it: what is to be delivered is held on to.
    pub fn let_go(&self, container: &str) {
        let Some(kept) = self.lock().remove(container) else {
            return;
        };
        if let Some(feed) = &kept.feed
            && let Err(error) = feed.lock().let_go()
        {
            tracing::warn!(%container, %error, "the last lines of a removed container's log may not be delivered");
        }
        kept.gone.cancel();
    }

    /// What is under way stops, and is gone on with by the next daemon.
    pub fn close(&self) {
        self.closing.cancel();
    }

    fn begin(&self, record: &Record, layout: &Layout, place: Place, driver: Option<Driver>) -> Result<()> {
        if self.lock().contains_key(&record.id) || (driver.is_none() && !place.files.compress) {
            return Ok(());
        }
        let failed = |error: io::Error| Error::system("cannot look after the container's log").because(error);
        let gone = CancellationToken::new();
        let feed = match driver {
            Some(driver) => Some(
                self.deliver(record, layout, place, driver, gone.clone())
                    .map_err(failed)?,
            ),
            None => {
                let watch = self
                    .watcher
                    .watch(place.directory(), Interest::Rotation)
                    .map_err(failed)?;
                let (id, gone, closing) = (record.id.clone(), gone.clone(), self.closing.clone());
                tokio::spawn(compress(id, place, watch, gone, closing));
                None
            }
        };
        self.lock().insert(record.id.clone(), Kept { gone, feed });
        Ok(())
    }

    fn deliver(
        &self,
        record: &Record,
        layout: &Layout,
        place: Place,
        driver: Driver,
        gone: CancellationToken,
    ) -> io::Result<SharedFeed> {
        // Watched before the first read, so that nothing written in between goes unnoticed.
        let watch = self.watcher.watch(place.directory(), Interest::Growth)?;
        let saved = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(Position::path(place.directory()))?;
        let feed = SharedFeed::new(Feed::open(&place, &record.id, driver.encoder, &saved)?);
        let delivery = Delivery {
            container: record.id.clone(),
            place,
            task: layout.task(&record.id),
            feed: feed.clone(),
            sender: driver.sender,
            watch,
            saved,
            gone,
            closing: self.closing.clone(),
        };
        tokio::spawn(delivery.run());
        Ok(feed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Compresses a log's files as they are rotated.
async fn compress(container: String, place: Place, watch: Watch, gone: CancellationToken, closing: CancellationToken) {
    loop {
        let (path, max_files) = (place.path.clone(), place.files.max_files);
        let done = tokio::task::spawn_blocking(move || -> io::Result<()> {
            match files::has_plain(&path)? {
                true => archive::compress(&path, 0, max_files),
                false => Ok(()),
            }
        });
        match done.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) if gone.is_cancelled() => {
                tracing::debug!(%container, %error, "a log went while it was compressed")
            }
            Ok(Err(error)) => tracing::warn!(%container, %error, "cannot compress a log"),
            Err(_) => return,
        }
        tokio::select! {
            () = watch.changed() => {}
            () = gone.cancelled() => return,
            () = closing.cancelled() => return,
        }
    }
}

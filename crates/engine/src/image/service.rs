//! Every verb on images, for every door.
//!
//! A `reference` is an id (with or without `sha256:`), the unique beginning of one, `name`, `name:tag` or `name@digest`.
use std::{io::Read, sync::Arc};

use corten_store::store::Store;
use tokio::{io::AsyncRead, sync::mpsc};

use crate::{
    container::view::Filters,
    error::{Error, Result},
    events::EventBus,
    image::view::{HistoryLine, ImageView, ImportOptions, Progress, Removed},
};

/// Who holds on to images. Asked before an image is removed.
pub trait ImageUsers: Send + Sync {
    /// Containers made from the image `sha256:…`, with whether they run.
    fn containers_of(&self, image_id: &str) -> Vec<(String, bool)>;
}

pub struct ImageService {
    store: Arc<Store>,
    events: EventBus,
    users: Arc<dyn ImageUsers>,
}

impl ImageService {
    pub fn new(store: Arc<Store>, events: EventBus, users: Arc<dyn ImageUsers>) -> ImageService {
        ImageService { store, events, users }
    }

    /// Reads a docker-archive or an OCI archive, compressed or not.
    pub async fn load(&self, archive: impl Read + Send + 'static, progress: mpsc::Sender<Progress>) -> Result<()> {
        let _ = (&self.store, &self.events, &self.users, archive, progress);
        Err(Error::not_implemented("load"))
    }

    /// Makes an image of one layer out of a file system's tar; returns its id.
    pub async fn import(
        &self,
        archive: impl Read + Send + 'static,
        options: ImportOptions,
        progress: mpsc::Sender<Progress>,
    ) -> Result<String> {
        let _ = (archive, options, progress);
        Err(Error::not_implemented("import"))
    }

    /// A docker-archive that is an OCI layout too.
    pub async fn save(&self, references: &[String]) -> Result<Box<dyn AsyncRead + Send + Unpin>> {
        let _ = references;
        Err(Error::not_implemented("save"))
    }

    /// Newest first.
    pub async fn list(&self, all: bool, filters: &Filters) -> Result<Vec<ImageView>> {
        let _ = (all, filters);
        Err(Error::not_implemented("list"))
    }

    pub fn inspect(&self, reference: &str) -> Result<ImageView> {
        let _ = reference;
        Err(Error::not_implemented("inspect"))
    }

    pub async fn tag(&self, source: &str, repository: &str, tag: &str) -> Result<()> {
        let _ = (source, repository, tag);
        Err(Error::not_implemented("tag"))
    }

    /// Newest first.
    pub async fn history(&self, reference: &str) -> Result<Vec<HistoryLine>> {
        let _ = reference;
        Err(Error::not_implemented("history"))
    }

    pub async fn remove(&self, reference: &str, force: bool, prune_children: bool) -> Result<Vec<Removed>> {
        let _ = (reference, force, prune_children);
        Err(Error::not_implemented("remove"))
    }

    /// What went, and how many bytes that freed.
    pub async fn prune(&self, filters: &Filters) -> Result<(Vec<Removed>, u64)> {
        let _ = filters;
        Err(Error::not_implemented("prune"))
    }
}

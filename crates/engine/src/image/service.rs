//! Every verb on images, for every door.
//!
//! A `reference` is an id (with or without `sha256:`), the unique beginning of one, `name`, `name:tag` or `name@digest`.
use std::{collections::BTreeMap, io::Read, sync::Arc};

use corten_api::types::platform::Platform;
use corten_linux::transfer::Sink;
use corten_store::{images::Image, layer::error::LayerError, store::Store};
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::{
    container::view::Filters,
    error::{Error, Kind, Result},
    events::EventBus,
    image::{
        commit::{Child, Parent},
        platform,
        reference::{Reference, familiar},
        save::Saved,
        view::{HistoryLine, ImageView, ImportOptions, Progress, Removed},
    },
};

/// Who holds on to images. Asked before an image is removed.
pub trait ImageUsers: Send + Sync {
    /// Containers made from the image `sha256:…`, with whether they run.
    fn containers_of(&self, image_id: &str) -> Vec<(String, bool)>;
}

pub struct ImageService {
    pub(super) inner: Arc<Inner>,
}

/// What verbs need on the threads that may block.
pub(super) struct Inner {
    pub(super) store: Arc<Store>,
    pub(super) events: EventBus,
    pub(super) users: Arc<dyn ImageUsers>,
}

impl ImageService {
    pub fn new(store: Arc<Store>, events: EventBus, users: Arc<dyn ImageUsers>) -> ImageService {
        ImageService {
            inner: Arc::new(Inner { store, events, users }),
        }
    }

    /// Reads a docker-archive or an OCI archive, compressed or not; of several platforms one.
    pub async fn load(
        &self,
        archive: impl Read + Send + 'static,
        platform: Option<Platform>,
        progress: mpsc::Sender<Progress>,
    ) -> Result<()> {
        let load = move |inner: &Inner| inner.load(archive, platform.as_ref(), &progress);
        let loaded = self.blocking(load).await;
        self.settle();
        loaded
    }

    /// Makes an image of one layer out of a file system's tar; returns its id.
    pub async fn import(
        &self,
        archive: impl Read + Send + 'static,
        options: ImportOptions,
        progress: mpsc::Sender<Progress>,
    ) -> Result<String> {
        let import = move |inner: &Inner| inner.import(archive, &options, &progress);
        let imported = self.blocking(import).await;
        self.settle();
        imported
    }

    /// Makes an image of what `walk` writes on top of another's layers; returns its id.
    pub async fn commit(
        &self,
        parent: Parent,
        child: Child,
        walk: impl FnOnce(&mut dyn Sink) -> Result<Result<u64, LayerError>> + Send + 'static,
    ) -> Result<String> {
        let commit = move |inner: &Inner| inner.commit(&parent, &child, Box::new(walk));
        let committed = self.blocking(commit).await;
        self.settle();
        committed
    }

    /// A docker-archive that is an OCI layout too. All of it must be for `platform`.
    pub async fn save(&self, references: &[String], platform: Option<Platform>) -> Result<Saved> {
        let references = references.to_vec();
        let prepare = move |inner: &Inner| inner.prepare_save(&references, platform.as_ref());
        let archive = self.blocking(prepare).await?;
        Saved::start(archive)
    }

    /// Newest first. Without intermediate images, as there are none, `all` changes nothing.
    pub async fn list(&self, _all: bool, filters: &Filters) -> Result<Vec<ImageView>> {
        self.inner.list(filters)
    }

    pub fn inspect(&self, reference: &str) -> Result<ImageView> {
        self.inspect_for(reference, None)
    }

    /// An image for a platform.
    pub fn inspect_for(&self, reference: &str, platform: Option<&Platform>) -> Result<ImageView> {
        let image = self.inner.find(reference)?;
        platform::check(reference, &platform::of(&image.configuration), platform)?;
        Ok(view(&image))
    }

    pub async fn tag(&self, source: &str, repository: &str, tag: &str) -> Result<()> {
        let image = self.inner.find(source)?;
        let reference = Reference::parse_tagged(repository, tag)?;
        self.blocking(move |inner| {
            inner.name(&image, &reference)?;
            inner.tell(&image, "tag", &reference.familiar());
            Ok(())
        })
        .await
    }

    /// Newest first.
    pub async fn history(&self, reference: &str, platform: Option<&Platform>) -> Result<Vec<HistoryLine>> {
        let image = self.inner.find(reference)?;
        platform::check(reference, &platform::of(&image.configuration), platform)?;
        Ok(super::list::history(&image))
    }

    pub async fn remove(&self, reference: &str, force: bool, _prune_children: bool) -> Result<Vec<Removed>> {
        let reference = reference.to_owned();
        self.blocking(move |inner| inner.remove(&reference, force)).await
    }

    /// What went, and how many bytes that freed.
    pub async fn prune(&self, filters: &Filters) -> Result<(Vec<Removed>, u64)> {
        let filters = filters.clone();
        let pruned = self.blocking(move |inner| inner.prune(&filters)).await?;
        let reclaimed = [("reclaimed".to_owned(), pruned.1.to_string())];
        self.inner.events.publish("image", "prune", "", reclaimed.into());
        Ok(pruned)
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Inner) -> Result<T> + Send + 'static) -> Result<T> {
        let inner = self.inner.clone();
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(result) => result,
            Err(error) => Err(Error::system("an image operation broke off").because(error)),
        }
    }

    /// Writes new layers to the disk while nobody waits for it.
    fn settle(&self) {
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = inner.store.settle() {
                tracing::warn!("{}", from_store(error));
            }
        });
    }
}

impl Inner {
    pub(super) fn find(&self, text: &str) -> Result<Arc<Image>> {
        let bare = text.strip_prefix("sha256:").unwrap_or(text);
        let is_hex = !bare.is_empty() && bare.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if is_hex && bare.len() == 64 {
            return self
                .store
                .image(bare)
                .ok_or_else(|| no_such_image(&format!("sha256:{bare}")));
        }
        let name = match Reference::parse(text) {
            Ok(reference) => reference.or_latest(),
            Err(error) if !is_hex => return Err(error),
            Err(_) => return self.find_by_prefix(bare, text),
        };
        if let Some(image) = self.store.image_named(&name.canonical()) {
            return Ok(image);
        }
        match is_hex {
            true => self.find_by_prefix(bare, &name.familiar()),
            false => Err(no_such_image(&name.familiar())),
        }
    }

    fn find_by_prefix(&self, prefix: &str, text: &str) -> Result<Arc<Image>> {
        match &*self.store.images_beginning(prefix) {
            [image] => Ok(image.clone()),
            _ => Err(no_such_image(text)),
        }
    }

    /// Sets a name; what had it before keeps its other names.
    pub(super) fn name(&self, image: &Image, reference: &Reference) -> Result<Option<String>> {
        let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        let previous = self.store.name_image(&reference.canonical(), &image.id, now);
        previous.map_err(from_store)
    }

    /// `name` is what the event is about in users' words.
    pub(super) fn tell(&self, image: &Image, action: &str, name: &str) {
        let mut attributes: BTreeMap<String, String> = labels(image);
        attributes.insert("name".to_owned(), name.to_owned());
        self.events.publish("image", action, full_id(image), attributes);
    }
}

pub(super) fn full_id(image: &Image) -> String {
    format!("sha256:{}", image.id)
}

pub(super) fn labels(image: &Image) -> BTreeMap<String, String> {
    let config = image.configuration.config().as_ref();
    let labels = config.and_then(|config| config.labels().as_ref());
    labels
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

pub(super) fn created(image: &Image) -> Option<Timestamp> {
    image.configuration.created().as_ref()?.parse().ok()
}

pub(super) fn view(image: &Image) -> ImageView {
    let (digests, tags) = image
        .names
        .iter()
        .map(|name| familiar(name))
        .partition(|name| name.contains('@'));
    let nanoseconds = image.tagged_nanoseconds.map(i128::from);
    ImageView {
        id: full_id(image),
        tags,
        digests,
        created: created(image),
        last_tagged: nanoseconds.and_then(|time| Timestamp::from_nanosecond(time).ok()),
        size: image.layers.iter().map(|layer| layer.size).sum(),
        configuration: (*image.configuration).clone(),
        raw: image.raw.to_vec(),
        layers: image
            .layers
            .iter()
            .map(|layer| format!("sha256:{}", layer.id))
            .collect(),
        layer_sizes: image.layers.iter().map(|layer| layer.size).collect(),
    }
}

fn no_such_image(name: &str) -> Error {
    Error::not_found(format!("No such image: {name}"))
}

/// A store's failure in an engine's form: bad archives are the caller's fault.
pub(super) fn from_store(error: corten_store::error::Error) -> Error {
    use corten_store::error::Error as Store;
    let kind = match &error {
        Store::Layer(corten_store::layer::error::LayerError::File { .. }) => Kind::System,
        Store::Layer(_) | Store::Digest { .. } | Store::Configuration(_) => Kind::Invalid,
        _ => Kind::System,
    };
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    let sentence: Vec<String> = causes.map(ToString::to_string).collect();
    Error::new(kind, sentence.join(": "))
}

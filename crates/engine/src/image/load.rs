//! `load`: an archive of images, in one pass over its bytes.
//!
//! What an entry is for is only known at the end, when manifests were read: they may come first or last. So whatever looks
//! like a layer is unpacked at once, and collected again if no image lists it. Problems of an entry are reported when an
//! image turns out to need it.
use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Read},
};

use corten_api::types::platform::Platform;
use corten_store::{
    error::Error as StoreError,
    images::{Image, parse_configuration},
    layer::{
        compress::{Compression, MAGIC, Peeked, detect, inflate},
        error::LayerError,
        tar::{Data, Entry, Kind, Reader, is_tar},
    },
    lease::Lease,
    unpack::Layer,
};
use tokio::sync::mpsc;

use crate::{
    error::{Error, Result},
    image::{
        archive::{self, Plan},
        platform,
        reference::Reference,
        service::{Inner, from_store, full_id},
        view::Progress,
    },
};

/// Of a manifest or configuration.
const MAX_DOCUMENT: u64 = 8 << 20;
/// Of all documents of an archive together.
const MAX_DOCUMENTS: u64 = 128 << 20;

/// What entries of an archive turned out to be, by their plain names.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) documents: HashMap<String, Vec<u8>>,
    layers: HashMap<String, Result<LoadedLayer, String>>,
    /// Symbolic and hard links to other entries.
    links: HashMap<String, String>,
    documents_size: u64,
}

struct LoadedLayer {
    layer: Layer,
    /// The hexadecimal digest of the entry's bytes.
    digest: String,
}

impl Inner {
    pub(super) fn load(
        &self,
        archive: impl Read,
        platform: Option<&Platform>,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<()> {
        let lease = self.store.lease();
        let loaded = self.load_under(&lease, archive, platform, progress);
        drop(lease);
        // What no image listed goes again, whether or not that went well.
        let collected = self.store.collect().map_err(from_store);
        loaded.and(collected.map(drop))
    }

    fn load_under(
        &self,
        lease: &Lease<'_>,
        archive: impl Read,
        asked: Option<&Platform>,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<()> {
        let contents = self.read_archive(lease, archive, progress)?;
        let plans = archive::plans(&contents, asked)?;
        let mut others = Vec::new();
        for plan in &plans {
            others.extend(self.load_image(&contents, plan, asked, progress)?);
        }
        match asked.filter(|_| others.len() == plans.len()) {
            None => Ok(()),
            Some(asked) => Err(archive::not_for(asked, others)),
        }
    }

    fn read_archive(
        &self,
        lease: &Lease<'_>,
        archive: impl Read,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<Contents> {
        let unreadable = |error: io::Error| invalid_archive(&LayerError::Read(error));
        let archive = Peeked::new(archive, MAGIC).map_err(unreadable)?;
        let compression = detect(archive.start()).map_err(|error| invalid_archive(&error))?;
        let inflated = inflate(compression, BufReader::with_capacity(256 << 10, archive)).map_err(unreadable)?;
        let mut reader = Reader::new(BufReader::with_capacity(256 << 10, inflated));
        let mut contents = Contents::default();
        while let Some(entry) = reader.next_entry().map_err(|error| invalid_archive(&error))? {
            let Some(name) = plain_name(&entry.path) else {
                let name = String::from_utf8_lossy(&entry.path);
                return Err(Error::invalid(format!(
                    "invalid archive: entry {name:?} leads out of it"
                )));
            };
            match entry.kind {
                Kind::File => self.read_entry(lease, &mut contents, name, &entry, reader.data(), progress)?,
                Kind::Symlink | Kind::HardLink => {
                    let base = if entry.kind == Kind::Symlink { parent(&name) } else { "" };
                    let target = [base.as_bytes(), b"/", &entry.link].concat();
                    if let Some(target) = plain_name(&target) {
                        contents.links.insert(name, target);
                    }
                }
                _ => {}
            }
        }
        // A client that is cut off while it sends may not read the answer.
        io::copy(&mut reader.into_inner(), &mut io::sink()).map_err(unreadable)?;
        Ok(contents)
    }

    fn read_entry<R: BufRead>(
        &self,
        lease: &Lease<'_>,
        contents: &mut Contents,
        name: String,
        entry: &Entry,
        data: Data<'_, R>,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<()> {
        if let Some(known) = self.known_layer(lease, &name)? {
            contents.layers.insert(name, Ok(known));
            return Ok(());
        }
        let mut data = Peeked::new(data, 512).map_err(|error| invalid_archive(&LayerError::Read(error)))?;
        let compression = detect(data.start());
        let is_layer = is_tar(data.start()) || !matches!(compression, Ok(Compression::None));
        if !is_layer {
            contents.documents_size += entry.size;
            if entry.size <= MAX_DOCUMENT && contents.documents_size <= MAX_DOCUMENTS {
                let mut document = Vec::new();
                let read = data.read_to_end(&mut document);
                read.map_err(|error| invalid_archive(&LayerError::Read(error)))?;
                contents.documents.insert(name, document);
            }
            return Ok(());
        }
        let id = layer_label(&name);
        let total = Some(entry.size);
        let mut report = |current| {
            // Who does not keep up misses some.
            let _ = progress.try_send(Progress::Layer {
                id: id.clone(),
                status: "Loading layer".to_owned(),
                current,
                total,
            });
        };
        let loaded = match self.store.unpack(lease, data, &mut report) {
            Ok(unpacked) => Ok(LoadedLayer {
                digest: unpacked
                    .compressed
                    .map_or_else(|| unpacked.layer.id.clone(), |(digest, _)| digest),
                layer: unpacked.layer,
            }),
            // Something that only looks like a layer is nobody's problem yet; a full disk is one at once.
            Err(StoreError::Layer(error)) if !matches!(error, LayerError::File { .. }) => {
                Err(from_store(StoreError::Layer(error)).to_string())
            }
            Err(error) => return Err(from_store(error)),
        };
        contents.layers.insert(name, loaded);
        Ok(())
    }

    /// A blob that its name says is here already need not be read.
    fn known_layer(&self, lease: &Lease<'_>, name: &str) -> Result<Option<LoadedLayer>> {
        let Some(digest) = blob_digest(name) else {
            return Ok(None);
        };
        let found = match self.store.find_layer(lease, digest).map_err(from_store)? {
            Some(layer) => Some(layer),
            None => self.store.find_source(lease, digest).map_err(from_store)?,
        };
        Ok(found.map(|layer| LoadedLayer {
            layer,
            digest: digest.to_owned(),
        }))
    }

    /// Answers with the image's platform where another was asked for.
    fn load_image(
        &self,
        contents: &Contents,
        plan: &Plan,
        asked: Option<&Platform>,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<Option<Platform>> {
        let layers: Vec<_> = plan
            .layers
            .iter()
            .map(|name| contents.layer(name))
            .collect::<Result<_>>()?;
        let raw = plan.configuration(layers.iter().map(|layer| layer.layer.id.as_str()))?;
        let configuration = parse_configuration(&raw).map_err(|error| from_store(StoreError::Configuration(error)))?;
        let platform = platform::of(&configuration);
        if asked.is_some_and(|asked| !asked.has(&platform)) {
            return Ok(Some(platform));
        }
        let diff_ids = configuration.rootfs().diff_ids();
        if diff_ids.len() != layers.len() {
            return Err(Error::invalid(format!(
                "invalid archive: its configuration lists {} layers, its manifest {}",
                diff_ids.len(),
                layers.len()
            )));
        }
        for (index, (layer, expected)) in layers.iter().zip(diff_ids).enumerate() {
            let found = format!("sha256:{}", layer.layer.id);
            if found != *expected {
                return Err(Error::invalid(format!(
                    "invalid diffID for layer {index}: expected {expected:?}, got {found:?}"
                )));
            }
        }
        let image = self.store.put_image(&raw).map_err(from_store)?;
        self.name_loaded(&image, &plan.names, progress).map(|()| None)
    }

    fn name_loaded(&self, image: &Image, names: &[Reference], progress: &mpsc::Sender<Progress>) -> Result<()> {
        let say = |message: String| {
            let _ = progress.blocking_send(Progress::Message(message));
        };
        for name in names {
            if let Some(previous) = self.name(image, name)? {
                say(format!(
                    "The image {name} already exists, renaming the old one with ID sha256:{previous} to empty string"
                ));
            }
            say(format!("Loaded image: {name}"));
        }
        let id = full_id(image);
        if names.is_empty() {
            say(format!("Loaded image ID: {id}"));
        }
        self.tell(image, "load", &id);
        Ok(())
    }
}

impl Contents {
    pub(super) fn document(&self, name: &str) -> Option<&[u8]> {
        let name = self.resolve(name)?;
        self.documents.get(&name).map(Vec::as_slice)
    }

    /// A document whose name is its digest must be what it says.
    pub(super) fn blob(&self, name: &str) -> Result<&[u8]> {
        let missing = || Error::invalid(format!("invalid archive: {name} is not in it"));
        let document = self.document(name).ok_or_else(missing)?;
        let found = corten_store::content::digest(document);
        match blob_digest(name) {
            Some(expected) if expected != found => Err(Error::invalid(format!(
                "invalid archive: the content of {name} is sha256:{found}"
            ))),
            _ => Ok(document),
        }
    }

    fn layer(&self, name: &str) -> Result<&LoadedLayer> {
        let missing = || Error::invalid(format!("invalid archive: layer {name} is not in it"));
        let resolved = self.resolve(name).ok_or_else(missing)?;
        let layer = match self.layers.get(&resolved) {
            None => return Err(missing()),
            Some(Err(problem)) => return Err(Error::invalid(format!("invalid layer {name}: {problem}"))),
            Some(Ok(layer)) => layer,
        };
        match blob_digest(&resolved) {
            Some(expected) if expected != layer.digest => Err(Error::invalid(format!(
                "invalid archive: the content of {name} is sha256:{}",
                layer.digest
            ))),
            _ => Ok(layer),
        }
    }

    /// Follows links, not in circles.
    fn resolve(&self, name: &str) -> Option<String> {
        let mut name = plain_name(name.as_bytes())?;
        for _ in 0..8 {
            match self.links.get(&name) {
                Some(target) => name.clone_from(target),
                None => return Some(name),
            }
        }
        None
    }
}

fn invalid_archive(error: &LayerError) -> Error {
    let source = std::error::Error::source(error);
    let cause = source.map(|source| format!(": {source}")).unwrap_or_default();
    Error::invalid(format!("invalid archive: {error}{cause}"))
}

/// Without leading `/` and `./`, with `..` resolved.
fn plain_name(name: &[u8]) -> Option<String> {
    let name = corten_store::layer::walk::clean(name).ok()?;
    String::from_utf8(name).ok()
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The digest in `blobs/sha256/<digest>`.
fn blob_digest(name: &str) -> Option<&str> {
    let hex = name.strip_prefix("blobs/sha256/")?;
    let digits = hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (hex.len() == 64 && digits).then_some(hex)
}

/// Twelve letters of the digest that is part of the entry's name.
fn layer_label(name: &str) -> String {
    let part = name.split('/').find(|part| part.len() >= 64).unwrap_or(name);
    part.chars().take(12).collect()
}

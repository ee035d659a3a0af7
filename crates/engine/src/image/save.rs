//! `save`: images as a docker-archive that is an OCI image layout too.
//!
//! Layers are their tars as they came, so saving and loading again gives the same digests. All files are opened before the
//! first byte leaves: removing an image meanwhile does no harm.
use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::{self, PipeWriter, Write},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use corten_api::types::platform::Platform;
use corten_store::{
    content::digest,
    images::Image,
    layer::write::{directory_header, end, file_header, padding},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::unix::pipe,
    task::JoinHandle,
};

use crate::{
    error::{Error, Result},
    image::{
        platform,
        reference::Reference,
        service::{Inner, from_store, full_id},
    },
};

/// Everything that will be written.
pub(super) struct Archive {
    entries: Vec<(String, Content)>,
}

enum Content {
    Bytes(Vec<u8>),
    File(File, u64),
}

/// The archive's bytes. Fails at its end when writing failed.
pub struct Saved {
    pipe: pipe::Receiver,
    writer: Option<JoinHandle<io::Result<()>>>,
}

/// An image with the names that were asked for.
type Wanted = Vec<(Arc<Image>, Vec<Reference>)>;

impl Inner {
    pub(super) fn prepare_save(&self, references: &[String], platform: Option<&Platform>) -> Result<Archive> {
        let mut wanted: Wanted = Vec::new();
        for text in references {
            self.want(text, &mut wanted)?;
        }
        if wanted.is_empty() {
            return Err(Error::invalid("no images to save were named"));
        }
        if let Some(platform) = platform
            && !wanted
                .iter()
                .all(|(image, _)| platform.has(&platform::of(&image.configuration)))
        {
            return Err(Error::system(format!(
                "no suitable export target found for platform {platform}"
            )));
        }
        let mut archive = Archive { entries: Vec::new() };
        let mut seen = HashSet::new();
        let mut documents = Documents::default();
        for (image, names) in &wanted {
            let mut sizes = Vec::new();
            for layer in &image.layers {
                let (file, size) = self.store.content().open_blob(&layer.id).map_err(from_store)?;
                sizes.push(size);
                if seen.insert(layer.id.clone()) {
                    archive.entries.push((blob(&layer.id), Content::File(file, size)));
                }
            }
            let manifest = manifest(image, &sizes);
            documents.add(image, names, &manifest);
            for (hex, bytes) in [(image.id.clone(), image.raw.to_vec()), (digest(&manifest), manifest)] {
                if seen.insert(hex.clone()) {
                    archive.entries.push((blob(&hex), Content::Bytes(bytes)));
                }
            }
        }
        archive.entries.sort_by(|first, second| first.0.cmp(&second.0));
        archive.entries.extend(documents.finish());
        for (image, _) in &wanted {
            self.tell(image, "save", &full_id(image));
        }
        Ok(archive)
    }

    /// A repository's name without tag means all its tags; an id means the image without names.
    fn want(&self, text: &str, wanted: &mut Wanted) -> Result<()> {
        let repository = Reference::parse(text).ok().filter(Reference::is_name_only);
        let mut found = Vec::new();
        if let Some(repository) = repository {
            for image in self.store.images() {
                let names = image.names.iter().filter_map(|name| Reference::parse(name).ok());
                let names = names.filter(|name| name.tag().is_some() && name.same_repository(&repository));
                found.extend(names.map(|name| (image.clone(), Some(name))));
            }
        }
        if found.is_empty() {
            let image = self.find(text)?;
            let name = Reference::parse(text).ok().map(Reference::or_latest);
            let name = name.filter(|name| name.digest().is_none() && image.names.contains(&name.canonical()));
            found.push((image, name));
        }
        for (image, name) in found {
            let known = wanted.iter().position(|(known, _)| known.id == image.id);
            let index = known.unwrap_or_else(|| {
                wanted.push((image, Vec::new()));
                wanted.len() - 1
            });
            let names = &mut wanted[index].1;
            names.extend(name.filter(|name| !names.contains(name)));
        }
        Ok(())
    }
}

/// The lists of what is in the archive, in three dialects.
#[derive(Default)]
struct Documents {
    docker: Vec<Value>,
    oci: Vec<Value>,
    repositories: BTreeMap<String, BTreeMap<String, String>>,
}

impl Documents {
    fn add(&mut self, image: &Image, names: &[Reference], manifest: &[u8]) {
        let layers: Vec<String> = image.layers.iter().map(|layer| blob(&layer.id)).collect();
        let tags: Vec<String> = names.iter().map(Reference::familiar).collect();
        self.docker.push(json!({
            "Config": blob(&image.id),
            "RepoTags": if tags.is_empty() { Value::Null } else { tags.into() },
            "Layers": layers,
        }));
        let descriptor = json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": format!("sha256:{}", digest(manifest)),
            "size": manifest.len(),
        });
        if names.is_empty() {
            self.oci.push(descriptor.clone());
        }
        for name in names {
            let mut descriptor = descriptor.clone();
            descriptor["annotations"] = json!({
                "io.containerd.image.name": name.canonical(),
                "org.opencontainers.image.ref.name": name.tag().unwrap_or_default(),
            });
            self.oci.push(descriptor);
            if let (Some(tag), Some(top)) = (name.tag(), image.layers.last()) {
                let tags = self.repositories.entry(name.familiar_repository()).or_default();
                tags.insert(tag.to_owned(), top.id.clone());
            }
        }
    }

    fn finish(self) -> Vec<(String, Content)> {
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": self.oci,
        });
        let documents = [
            ("index.json", index),
            ("manifest.json", self.docker.into()),
            ("oci-layout", json!({"imageLayoutVersion": "1.0.0"})),
            ("repositories", json!(self.repositories)),
        ];
        let documents = documents.into_iter();
        documents
            .map(|(name, value)| (name.to_owned(), Content::Bytes(value.to_string().into_bytes())))
            .collect()
    }
}

/// The image's OCI manifest, with its layers uncompressed.
fn manifest(image: &Image, sizes: &[u64]) -> Vec<u8> {
    let layer = |(layer, size): (&corten_store::unpack::Layer, &u64)| {
        json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": format!("sha256:{}", layer.id),
            "size": size,
        })
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": full_id(image),
            "size": image.raw.len(),
        },
        "layers": image.layers.iter().zip(sizes).map(layer).collect::<Vec<_>>(),
    });
    manifest.to_string().into_bytes()
}

fn blob(hex: &str) -> String {
    format!("blobs/sha256/{hex}")
}

impl Archive {
    fn write(mut self, mut pipe: PipeWriter) -> io::Result<()> {
        for directory in ["blobs/", "blobs/sha256/"] {
            pipe.write_all(&directory_header(directory))?;
        }
        for (name, content) in &mut self.entries {
            let size = match content {
                Content::Bytes(bytes) => bytes.len() as u64,
                Content::File(_, size) => *size,
            };
            pipe.write_all(&file_header(name, size))?;
            match content {
                Content::Bytes(bytes) => pipe.write_all(bytes)?,
                // Spliced by the kernel.
                Content::File(file, _) => {
                    if io::copy(file, &mut pipe)? != size {
                        return Err(io::Error::other(format!("{name} changed its size")));
                    }
                }
            }
            pipe.write_all(padding(size))?;
        }
        pipe.write_all(&end())
    }
}

impl Saved {
    /// Begins to write; must be called inside a runtime.
    pub(super) fn start(archive: Archive) -> Result<Saved> {
        let failed = |error: io::Error| Error::system("cannot make a pipe").because(error);
        let (receiver, sender) = io::pipe().map_err(failed)?;
        rustix::io::ioctl_fionbio(&receiver, true).map_err(|error| failed(error.into()))?;
        let pipe = pipe::Receiver::from_owned_fd(receiver.into()).map_err(failed)?;
        let writer = tokio::task::spawn_blocking(move || archive.write(sender));
        Ok(Saved {
            pipe,
            writer: Some(writer),
        })
    }
}

impl AsyncRead for Saved {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.pipe).poll_read(context, buffer))?;
        if buffer.filled().len() > before || buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let Some(writer) = &mut self.writer else {
            return Poll::Ready(Ok(()));
        };
        let ended = ready!(Pin::new(writer).poll(context));
        self.writer = None;
        Poll::Ready(ended.unwrap_or_else(|error| Err(io::Error::other(error))))
    }
}

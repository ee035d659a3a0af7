//! `commit`, the image's side: a new layer on the layers of another image.
use corten_linux::transfer::Sink;
use corten_store::{layer::error::LayerError, unpack::Layer};
use jiff::Timestamp;
use oci_spec::image::Arch;
use serde_json::{Map, Value, json};

use crate::{
    error::{Error, Result},
    image::{
        reference::Reference,
        service::{Inner, from_store, full_id},
    },
};

/// What the new image stands on.
#[derive(Debug, Clone)]
pub struct Parent {
    /// `sha256:…`; it may be gone by now, which its layers are not.
    pub image: String,
    /// diffIDs, lowest first.
    pub layers: Vec<String>,
    /// Of what was made from it.
    pub created: Timestamp,
}

/// What is said about the new image.
#[derive(Debug, Clone)]
pub struct Child {
    pub container: String,
    pub created_by: String,
    pub author: String,
    pub comment: String,
    /// In Docker's words.
    pub config: Map<String, Value>,
    pub name: Option<Reference>,
}

/// Writes the layer's tar and says how many entries it has.
pub type Walk = Box<dyn FnOnce(&mut dyn Sink) -> Result<Result<u64, LayerError>> + Send>;

impl Inner {
    pub(super) fn commit(&self, parent: &Parent, child: &Child, walk: Walk) -> Result<String> {
        let lease = self.store.lease();
        let mut entries = 0;
        let mut refused = None;
        let written = self.store.write_layer(&lease, |sink| match walk(sink) {
            Ok(counted) => {
                entries = counted?;
                Ok(())
            }
            Err(error) => {
                refused = Some(error);
                Err(LayerError::Write(std::io::ErrorKind::BrokenPipe.into()))
            }
        });
        let layer = match (written, refused) {
            (_, Some(error)) => return Err(error),
            (written, None) => written.map_err(from_store)?,
        };
        let layer = (entries > 0).then_some(layer);
        let document = self.document(parent, child, layer.as_ref());
        let raw = serde_json::to_vec(&document)
            .map_err(|error| Error::system("cannot write a configuration").because(error))?;
        let image = match &child.name {
            Some(name) => {
                let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
                self.store.put_named_image(&raw, &name.canonical(), now)
            }
            None => self.store.put_image(&raw),
        };
        let image = image.map_err(from_store)?;
        drop(lease);
        if layer.is_none() {
            // Nobody stands on the layer that turned out to have nothing in it.
            self.store.collect().map_err(from_store)?;
        }
        if let Some(name) = &child.name {
            self.tell(&image, "tag", &name.familiar());
        }
        Ok(full_id(&image))
    }

    fn document(&self, parent: &Parent, child: &Child, layer: Option<&Layer>) -> Value {
        let created = Timestamp::now().to_string();
        let mut document = self.inherited(parent);
        let mut step = json!({"created": created});
        let texts = [
            ("author", &child.author),
            ("created_by", &child.created_by),
            ("comment", &child.comment),
        ];
        for (key, text) in texts.iter().filter(|(_, text)| !text.is_empty()) {
            step[*key] = text.as_str().into();
            if *key != "created_by" {
                document[*key] = text.as_str().into();
            }
        }
        match layer {
            Some(layer) => push(
                &mut document["rootfs"]["diff_ids"],
                format!("sha256:{}", layer.id).into(),
            ),
            None => step["empty_layer"] = true.into(),
        }
        push(&mut document["history"], step);
        document["created"] = created.into();
        document["container"] = child.container.as_str().into();
        document["config"] = child.config.clone().into();
        document
    }

    /// What the new image has of its parent: the platform, the layers and how they came to be.
    fn inherited(&self, parent: &Parent) -> Value {
        let id = parent.image.strip_prefix("sha256:").unwrap_or(&parent.image);
        let image = self.store.image(id);
        let known: Option<Map<String, Value>> = image.and_then(|image| serde_json::from_slice(&image.raw).ok());
        let mut document = Map::new();
        if let Some(mut known) = known {
            for key in ["architecture", "variant", "os", "os.version", "os.features", "history"] {
                if let Some(value) = known.remove(key).filter(|value| !value.is_null()) {
                    document.insert(key.to_owned(), value);
                }
            }
        }
        document
            .entry("architecture")
            .or_insert_with(|| Arch::default().to_string().into());
        document.entry("os").or_insert_with(|| "linux".into());
        // An image that is gone took its history with it, but there must be a line for every layer.
        document.entry("history").or_insert_with(|| {
            let line = json!({"created": parent.created.to_string(), "comment": "from an image that was removed"});
            vec![line; parent.layers.len()].into()
        });
        let layers = parent.layers.iter().map(|layer| match layer.starts_with("sha256:") {
            true => layer.clone(),
            false => format!("sha256:{layer}"),
        });
        let layers: Vec<String> = layers.collect();
        document.insert("rootfs".to_owned(), json!({"type": "layers", "diff_ids": layers}));
        document.into()
    }
}

fn push(list: &mut Value, item: Value) {
    match list.as_array_mut() {
        Some(list) => list.push(item),
        None => *list = vec![item].into(),
    }
}

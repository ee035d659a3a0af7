//! `import`: the tar of a file system becomes an image of one layer.
use std::io::Read;

use corten_api::types::platform::Platform;
use corten_store::unpack::Layer;
use jiff::Timestamp;
use oci_spec::image::Arch;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::{
    error::{Error, Result},
    image::{
        change,
        reference::Reference,
        service::{Inner, from_store, full_id},
        view::{ImportOptions, Progress},
    },
};

impl Inner {
    pub(super) fn import(
        &self,
        archive: impl Read,
        options: &ImportOptions,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<String> {
        let Parsed { name, config, platform } = options.parse()?;
        let lease = self.store.lease();
        let mut report = |current| {
            let _ = progress.try_send(Progress::Layer {
                id: String::new(),
                status: "Importing".to_owned(),
                current,
                total: options.total,
            });
        };
        let unpacked = self.store.unpack(&lease, archive, &mut report).map_err(from_store)?;
        let raw = configuration(&unpacked.layer, config, &platform, &options.message)?;
        let image = self.store.put_image(&raw).map_err(from_store)?;
        drop(lease);
        if let Some(name) = &name {
            self.name(&image, name)?;
        }
        let id = full_id(&image);
        self.tell(
            &image,
            "import",
            name.map_or(id.clone(), |name| name.familiar()).as_str(),
        );
        Ok(id)
    }
}

/// What the options mean.
struct Parsed {
    name: Option<Reference>,
    config: Map<String, Value>,
    platform: Platform,
}

impl ImportOptions {
    /// Says what is wrong with a request before its archive is read.
    pub fn check(&self) -> Result<()> {
        self.parse().map(drop)
    }

    fn parse(&self) -> Result<Parsed> {
        let name = self.reference.as_ref().filter(|reference| !reference.is_empty());
        let name = name
            .map(|reference| Reference::parse_tagged(reference, ""))
            .transpose()?;
        let mut config = Map::new();
        for line in &self.changes {
            change::apply(&mut config, line)?;
        }
        let platform = match self.platform.as_deref().filter(|text| !text.is_empty()) {
            None => Platform::new("linux", &Arch::default().to_string(), ""),
            Some(text) => Platform::parse(text).map_err(|error| Error::invalid(error.to_string()))?,
        };
        match platform.os.as_str() {
            "linux" => Ok(Parsed { name, config, platform }),
            other => Err(Error::invalid(format!("operating system is not supported: {other:?}"))),
        }
    }
}

fn configuration(layer: &Layer, config: Map<String, Value>, platform: &Platform, comment: &str) -> Result<Vec<u8>> {
    let created = Timestamp::now().to_string();
    let mut document = json!({
        "created": created,
        "architecture": platform.architecture,
        "os": platform.os,
        "comment": comment,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", layer.id)]},
        "history": [{"created": created, "comment": comment}],
    });
    if !platform.variant.is_empty() {
        document["variant"] = platform.variant.clone().into();
    }
    serde_json::to_vec(&document).map_err(|error| Error::system("cannot write a configuration").because(error))
}

//! `import`: the tar of a file system becomes an image of one layer.
use std::io::Read;

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
        // What is wrong with the request is said before the archive is read.
        let name = options.reference.as_ref().filter(|reference| !reference.is_empty());
        let name = name
            .map(|reference| Reference::parse_tagged(reference, ""))
            .transpose()?;
        let mut config = Map::new();
        for line in &options.changes {
            change::apply(&mut config, line)?;
        }
        let platform = platform(options.platform.as_deref())?;
        let lease = self.store.lease();
        let mut report = |current| {
            let _ = progress.try_send(Progress::Layer {
                id: String::new(),
                status: "Importing".to_owned(),
                current,
                total: None,
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

fn platform(text: Option<&str>) -> Result<(String, String, Option<String>)> {
    let here = Arch::default().to_string();
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(("linux".to_owned(), here, None));
    };
    let mut parts = text.split('/').map(str::to_owned);
    let parsed = (parts.next(), parts.next(), parts.next(), parts.next());
    match parsed {
        (Some(os), architecture, variant, None) if os == "linux" => Ok((os, architecture.unwrap_or(here), variant)),
        _ => Err(Error::invalid(format!("operating system is not supported: {text:?}"))),
    }
}

fn configuration(
    layer: &Layer,
    config: Map<String, Value>,
    (os, architecture, variant): &(String, String, Option<String>),
    message: &str,
) -> Result<Vec<u8>> {
    let created = Timestamp::now().to_string();
    let comment = if message.is_empty() { "Imported from -" } else { message };
    let mut document = json!({
        "created": created,
        "architecture": architecture,
        "os": os,
        "comment": comment,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", layer.id)]},
        "history": [{"created": created, "comment": comment}],
    });
    if let Some(variant) = variant {
        document["variant"] = variant.clone().into();
    }
    serde_json::to_vec(&document).map_err(|error| Error::system("cannot write a configuration").because(error))
}

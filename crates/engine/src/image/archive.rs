//! What an archive says is in it: Docker's `manifest.json`, an OCI image layout's `index.json`, or `repositories` of old.
//!
//! Archives of today are two of these at once; Docker's comes first, as it has the tags as users gave them.
use corten_api::types::platform::Platform;
use oci_spec::image::Arch;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    error::{Error, Result},
    image::{load::Contents, reference::Reference},
};

const MAX_NESTING: usize = 4;

/// One image of an archive.
pub(super) struct Plan {
    pub(super) names: Vec<Reference>,
    /// Names of entries, lowest layer first.
    pub(super) layers: Vec<String>,
    configuration: Configuration,
}

enum Configuration {
    Whole(Vec<u8>),
    /// Of old archives, which lacks the list of layers.
    Legacy(Map<String, Value>),
}

impl Plan {
    /// The configuration's bytes, given the layers' hexadecimal diffIDs.
    pub(super) fn configuration<'a>(&self, diff_ids: impl Iterator<Item = &'a str>) -> Result<Vec<u8>> {
        match &self.configuration {
            Configuration::Whole(bytes) => Ok(bytes.clone()),
            Configuration::Legacy(document) => {
                let mut document = document.clone();
                let diff_ids: Vec<Value> = diff_ids.map(|id| format!("sha256:{id}").into()).collect();
                document.insert(
                    "rootfs".to_owned(),
                    serde_json::json!({"type": "layers", "diff_ids": diff_ids}),
                );
                serde_json::to_vec(&document)
                    .map_err(|error| Error::system("cannot write a configuration").because(error))
            }
        }
    }
}

/// `asked` chooses among several platforms of one image.
pub(super) fn plans(contents: &Contents, asked: Option<&Platform>) -> Result<Vec<Plan>> {
    let plans = if let Some(manifest) = contents.document("manifest.json") {
        docker(contents, manifest)?
    } else if let Some(index) = contents.document("index.json") {
        oci(contents, index, asked)?
    } else if let Some(repositories) = contents.document("repositories") {
        legacy(contents, repositories)?
    } else {
        return Err(Error::invalid(
            "invalid archive: it has neither manifest.json nor index.json nor repositories",
        ));
    };
    match plans.is_empty() {
        true => Err(Error::invalid("invalid archive: it has no images")),
        false => Ok(plans),
    }
}

fn docker(contents: &Contents, manifest: &[u8]) -> Result<Vec<Plan>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Item {
        config: String,
        repo_tags: Option<Vec<String>>,
        layers: Option<Vec<String>>,
    }
    let items: Vec<Item> = parse("manifest.json", manifest)?;
    let plan = |item: Item| {
        let names = item.repo_tags.unwrap_or_default();
        let names = names.iter().map(|name| Reference::parse_tagged(name, ""));
        Ok(Plan {
            names: names.collect::<Result<_>>()?,
            layers: item.layers.unwrap_or_default(),
            configuration: Configuration::Whole(contents.blob(&item.config)?.to_vec()),
        })
    };
    items.into_iter().map(plan).collect()
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    annotations: Option<Map<String, Value>>,
    platform: Option<Platform>,
}

/// An index or a manifest: which of both, its fields tell.
#[derive(Debug, Deserialize)]
struct Document {
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

fn oci(contents: &Contents, index: &[u8], asked: Option<&Platform>) -> Result<Vec<Plan>> {
    let index: Document = parse("index.json", index)?;
    let mut plans = Vec::new();
    for descriptor in index.manifests.unwrap_or_default() {
        if is_attestation(&descriptor) {
            continue;
        }
        let names = oci_names(&descriptor)?;
        let mut plan = oci_plan(contents, &descriptor, asked, 0)?;
        plan.names = names;
        plans.push(plan);
    }
    Ok(plans)
}

fn oci_plan(contents: &Contents, descriptor: &Descriptor, asked: Option<&Platform>, depth: usize) -> Result<Plan> {
    let name = blob_name(&descriptor.digest)?;
    let document: Document = parse(&name, contents.blob(&name)?)?;
    match (document.manifests, document.config) {
        (Some(_), Some(_)) => Err(Error::invalid(format!(
            "invalid archive: {name} is a manifest and an index at once"
        ))),
        (Some(_), None) if document.layers.is_some() || depth == MAX_NESTING => {
            Err(Error::invalid(format!("invalid archive: {name} is no usable index")))
        }
        (Some(manifests), None) => oci_plan(contents, choose(contents, &manifests, asked)?, asked, depth + 1),
        (None, Some(config)) => {
            let layers = document.layers.unwrap_or_default();
            let layers = layers.iter().map(|layer| blob_name(&layer.digest));
            Ok(Plan {
                names: Vec::new(),
                layers: layers.collect::<Result<_>>()?,
                configuration: Configuration::Whole(contents.blob(&blob_name(&config.digest)?)?.to_vec()),
            })
        }
        (None, None) => Err(Error::invalid(format!(
            "invalid archive: {name} ({}) is no image",
            descriptor.media_type
        ))),
    }
}

/// The manifest for a platform, or for this machine: of those that name it the first that is in the archive.
fn choose<'a>(contents: &Contents, manifests: &'a [Descriptor], asked: Option<&Platform>) -> Result<&'a Descriptor> {
    let here = || Platform::new("linux", &Arch::default().to_string(), "");
    let wanted = asked.cloned().unwrap_or_else(here);
    let candidates: Vec<_> = manifests
        .iter()
        .filter(|descriptor| !is_attestation(descriptor))
        .collect();
    let fits = |descriptor: &&&Descriptor| match &descriptor.platform {
        Some(platform) => wanted.has(platform),
        None => true,
    };
    let is_there =
        |descriptor: &&&Descriptor| blob_name(&descriptor.digest).is_ok_and(|name| contents.document(&name).is_some());
    let fitting = || candidates.iter().filter(fits);
    if let Some(found) = fitting().find(is_there).or_else(|| fitting().next()) {
        return Ok(found);
    }
    let others = candidates.iter().filter_map(|descriptor| descriptor.platform.clone());
    Err(not_for(&wanted, others))
}

/// What an archive lacks, and what it has.
pub(super) fn not_for(wanted: &Platform, others: impl IntoIterator<Item = Platform>) -> Error {
    let mut others: Vec<_> = others.into_iter().map(|platform| platform.to_string()).collect();
    others.dedup();
    Error::invalid(format!(
        "the archive has no image for {wanted}, only for {}",
        others.join(", ")
    ))
}

fn is_attestation(descriptor: &Descriptor) -> bool {
    let annotated = descriptor.annotations.as_ref();
    annotated.is_some_and(|annotations| annotations.contains_key("vnd.docker.reference.type"))
}

/// `io.containerd.image.name` is a whole name; `org.opencontainers.image.ref.name` may be one, or a mere tag.
fn oci_names(descriptor: &Descriptor) -> Result<Vec<Reference>> {
    let annotation = |key: &str| {
        let annotations = descriptor.annotations.as_ref()?;
        annotations.get(key)?.as_str()
    };
    let name = annotation("io.containerd.image.name")
        .or_else(|| annotation("org.opencontainers.image.ref.name").filter(|name| name.contains([':', '/'])));
    let names = name.into_iter().map(|name| Reference::parse_tagged(name, ""));
    names.collect()
}

fn blob_name(digest: &str) -> Result<String> {
    match corten_store::content::sha256_hex(digest) {
        Some(hex) => Ok(format!("blobs/sha256/{hex}")),
        None => Err(Error::invalid(format!(
            "invalid archive: {digest:?} is no sha256 digest"
        ))),
    }
}

/// Archives from before 2016: a directory per layer, each with a description of an image that names its parent.
fn legacy(contents: &Contents, repositories: &[u8]) -> Result<Vec<Plan>> {
    let repositories: Map<String, Value> = parse("repositories", repositories)?;
    let mut plans: Vec<(String, Plan)> = Vec::new();
    for (repository, tags) in &repositories {
        for (tag, id) in tags.as_object().into_iter().flatten() {
            let name = Reference::parse_tagged(repository, tag)?;
            let id = id.as_str().unwrap_or_default().to_owned();
            match plans.iter_mut().find(|(known, _)| *known == id) {
                Some((_, plan)) => plan.names.push(name),
                None => {
                    let mut plan = legacy_plan(contents, &id)?;
                    plan.names.push(name);
                    plans.push((id, plan));
                }
            }
        }
    }
    Ok(plans.into_iter().map(|(_, plan)| plan).collect())
}

fn legacy_plan(contents: &Contents, id: &str) -> Result<Plan> {
    const MAX_LAYERS: usize = 500;
    let mut layers = Vec::new();
    let mut history = Vec::new();
    let mut top = None;
    let mut next = Some(id.to_owned());
    while let Some(id) = next {
        if layers.len() == MAX_LAYERS {
            return Err(Error::invalid("invalid archive: its layers are parents of each other"));
        }
        let name = format!("{id}/json");
        let missing = || Error::invalid(format!("invalid archive: {name} is not in it"));
        let document: Map<String, Value> = parse(&name, contents.document(&name).ok_or_else(missing)?)?;
        next = document.get("parent").and_then(Value::as_str).map(str::to_owned);
        layers.push(format!("{id}/layer.tar"));
        history.push(legacy_step(&document));
        top.get_or_insert(document);
    }
    layers.reverse();
    history.reverse();
    let mut document = top.expect("the loop ran once");
    for key in ["id", "parent", "Size", "parent_id", "layer_id", "throwaway"] {
        document.remove(key);
    }
    document.insert("history".to_owned(), history.into());
    Ok(Plan {
        names: Vec::new(),
        layers,
        configuration: Configuration::Legacy(document),
    })
}

fn legacy_step(document: &Map<String, Value>) -> Value {
    let mut step = Map::new();
    for key in ["created", "author", "comment"] {
        if let Some(value) = document.get(key).filter(|value| value.is_string()) {
            step.insert(key.to_owned(), value.clone());
        }
    }
    let command = document.get("container_config").and_then(|config| config.get("Cmd"));
    let words = command
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    step.insert("created_by".to_owned(), words.collect::<Vec<_>>().join(" ").into());
    Value::Object(step)
}

fn parse<'a, T: Deserialize<'a>>(name: &str, bytes: &'a [u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::invalid(format!("invalid archive: {name} is not what it should be")).because(error))
}

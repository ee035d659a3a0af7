//! An image as the Engine API shows it.
//!
//! Its `Config` is built from the bytes that the image came with, because the OCI type drops what Docker adds to it
//! (`Healthcheck`, `OnBuild`, `Shell`).
use std::collections::{BTreeMap, HashMap};

use corten_api::types::{
    container_answers::GraphDriver,
    image::{DeleteItem, HistoryItem, ImageInspect, ImageMetadata, ImageSummary, RootFs},
};
use corten_engine::{
    container::view::ContainerView,
    image::view::{HistoryLine, ImageView, Removed},
};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::docker::{convert::time::rfc3339, decode::member};

/// An entry of `GET /images/json`. `containers` are all that exist, to count those of this image.
pub fn summary(view: &ImageView, containers: &[ContainerView]) -> ImageSummary {
    let users = containers
        .iter()
        .filter(|container| container.record.image_id == view.id)
        .count();
    ImageSummary {
        containers: i64::try_from(users).unwrap_or(i64::MAX),
        created: seconds(view.created),
        id: view.id.clone(),
        labels: labels(view),
        parent_id: String::new(),
        repo_digests: view.digests.clone(),
        repo_tags: view.tags.clone(),
        shared_size: -1,
        size: bytes(view.size),
        virtual_size: None,
    }
}

/// How images share layers: of each layer its bytes, and how many images have it.
#[derive(Debug, Default)]
pub struct Shares<'v>(HashMap<&'v str, (u64, usize)>);

impl<'v> Shares<'v> {
    pub fn of(views: &'v [ImageView]) -> Shares<'v> {
        let mut shares = Shares::default();
        for view in views {
            // An image may have one layer twice, which does not make it shared.
            let own: HashMap<_, _> = view.layers.iter().zip(&view.layer_sizes).collect();
            for (layer, size) in own {
                let entry = shares.0.entry(layer).or_insert((*size, 0));
                entry.1 += 1;
            }
        }
        shares
    }

    /// Bytes of all layers, each counted once.
    pub fn total(&self) -> i64 {
        bytes(self.0.values().map(|(size, _)| size).sum())
    }

    /// Bytes of those layers of an image that another image has too.
    pub fn shared(&self, view: &ImageView) -> i64 {
        let shared = view.layers.iter().zip(&view.layer_sizes);
        let shared = shared.filter(|(layer, _)| self.0.get(layer.as_str()).is_some_and(|(_, images)| *images > 1));
        bytes(shared.map(|(_, size)| size).sum())
    }
}

fn labels(view: &ImageView) -> BTreeMap<String, String> {
    let config = view.configuration.config().as_ref();
    let labels = config.and_then(|config| config.labels().as_ref());
    labels
        .map(|labels| labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
        .unwrap_or_default()
}

/// Go's zero time is a date long before the epoch; lists print it as such.
fn seconds(time: Option<Timestamp>) -> i64 {
    const YEAR_1: i64 = -62_135_596_800;
    time.map_or(YEAR_1, Timestamp::as_second)
}

fn bytes(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// `GET /images/{name}/json`.
pub fn inspect(view: &ImageView) -> ImageInspect {
    let raw: Value = serde_json::from_slice(&view.raw).unwrap_or_default();
    let text = |name: &str| {
        member(&raw, name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let last_comment = || {
        let history = member(&raw, "history").and_then(Value::as_array);
        let comment = history
            .and_then(|lines| lines.last())
            .and_then(|line| member(line, "comment"));
        comment.and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    ImageInspect {
        id: view.id.clone(),
        repo_tags: view.tags.clone(),
        repo_digests: view.digests.clone(),
        parent: String::new(),
        comment: Some(text("comment"))
            .filter(|comment| !comment.is_empty())
            .unwrap_or_else(last_comment),
        created: view.created.map(|time| rfc3339(Some(time))),
        docker_version: text("docker_version"),
        author: text("author"),
        config: config(member(&raw, "config")),
        architecture: text("architecture"),
        variant: Some(text("variant")).filter(|variant| !variant.is_empty()),
        os: text("os"),
        os_version: Some(text("os.version")).filter(|version| !version.is_empty()),
        size: bytes(view.size),
        virtual_size: None,
        graph_driver: GraphDriver {
            data: None,
            name: "overlay2".to_owned(),
        },
        root_fs: RootFs {
            kind: "layers".to_owned(),
            layers: view.layers.clone(),
        },
        metadata: ImageMetadata {
            last_tag_time: rfc3339(view.last_tagged),
        },
    }
}

/// The image's configuration under Docker's names; the members that always were there are there.
fn config(raw: Option<&Value>) -> Value {
    const ALWAYS: [&str; 8] = [
        "User",
        "Env",
        "Cmd",
        "Volumes",
        "WorkingDir",
        "Entrypoint",
        "OnBuild",
        "Labels",
    ];
    const SOMETIMES: [&str; 5] = ["ExposedPorts", "StopSignal", "ArgsEscaped", "Healthcheck", "Shell"];
    let found = |name: &str| {
        raw.and_then(|raw| member(raw, name))
            .filter(|value| !value.is_null())
            .cloned()
    };
    let mut shown = Map::new();
    for name in ALWAYS {
        let nothing = match name {
            "User" | "WorkingDir" => Value::from(""),
            _ => Value::Null,
        };
        shown.insert(name.to_owned(), found(name).unwrap_or(nothing));
    }
    for name in SOMETIMES {
        if let Some(value) = found(name) {
            shown.insert(name.to_owned(), value);
        }
    }
    Value::Object(shown)
}

/// An entry of `GET /images/{name}/history`.
pub fn history(line: &HistoryLine) -> HistoryItem {
    HistoryItem {
        comment: line.comment.clone(),
        created: seconds(line.created),
        created_by: line.created_by.clone(),
        id: line.id.clone(),
        size: bytes(line.size),
        tags: Some(line.tags.clone()).filter(|tags| !tags.is_empty()),
    }
}

/// An entry of the answer to a removal.
pub fn removed(removed: Removed) -> DeleteItem {
    match removed {
        Removed::Untagged(name) => DeleteItem {
            deleted: None,
            untagged: Some(name),
        },
        Removed::Deleted(id) => DeleteItem {
            deleted: Some(id),
            untagged: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::image::ImageConfiguration;
    use serde_json::json;

    use super::*;

    fn view() -> ImageView {
        let raw = json!({
            "architecture": "amd64", "os": "linux", "created": "2024-01-02T03:04:05Z", "comment": "made by hand",
            "config": {"Env": ["A=b"], "Labels": {"a": "b"}, "Healthcheck": {"Test": ["NONE"]}, "Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": []}, "docker_version": "28"
        });
        ImageView {
            id: "sha256:00".to_owned(),
            tags: vec!["a:b".to_owned()],
            digests: Vec::new(),
            created: "2024-01-02T03:04:05Z".parse().ok(),
            last_tagged: None,
            size: 7,
            configuration: ImageConfiguration::from_reader(raw.to_string().as_bytes()).unwrap(),
            raw: raw.to_string().into_bytes(),
            layers: vec!["sha256:11".to_owned()],
            layer_sizes: vec![7],
        }
    }

    #[test]
    fn layers_that_images_share_are_counted_once() {
        let with = |layers: &[(&str, u64)]| ImageView {
            layers: layers.iter().map(|(layer, _)| (*layer).to_owned()).collect(),
            layer_sizes: layers.iter().map(|(_, size)| *size).collect(),
            ..view()
        };
        let views = [
            with(&[("base", 100), ("one", 5)]),
            with(&[("base", 100), ("other", 7)]),
            with(&[("alone", 1), ("alone", 1)]),
        ];
        let shares = Shares::of(&views);
        assert_eq!(shares.total(), 113);
        assert_eq!(views.each_ref().map(|view| shares.shared(view)), [100, 100, 0]);
    }

    #[test]
    fn an_inspection_keeps_what_only_docker_knows() {
        let inspect = inspect(&view());
        assert_eq!(inspect.config["Healthcheck"]["Test"][0], "NONE");
        assert_eq!(inspect.config["Cmd"][0], "sh");
        assert_eq!(inspect.config["Volumes"], Value::Null);
        assert_eq!(inspect.comment, "made by hand");
        assert_eq!(inspect.docker_version, "28");
        assert_eq!(inspect.created.as_deref(), Some("2024-01-02T03:04:05Z"));
        assert_eq!(inspect.root_fs.layers, ["sha256:11"]);
    }

    #[test]
    fn a_summary_counts_nothing_that_is_not_there() {
        let summary = summary(&view(), &[]);
        assert_eq!(
            (summary.containers, summary.size, summary.created),
            (0, 7, 1_704_164_645)
        );
        assert_eq!(summary.labels["a"], "b");
    }
}

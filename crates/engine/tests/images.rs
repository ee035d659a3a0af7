//! Verbs on images against a real store: archives in, archives out, names, and who may go.
use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
};

use corten_api::types::platform::Platform;
use corten_engine::{
    error::{Kind, Result},
    events::EventBus,
    image::{
        service::{ImageService, ImageUsers},
        view::{ImportOptions, Progress, Removed},
    },
};
use corten_store::{
    content::digest,
    layer::write::{end, file_header, padding},
    layout::Layout,
    store::Store,
};
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, sync::mpsc};

#[derive(Default)]
struct Users(Mutex<Vec<(String, String, bool)>>);

impl ImageUsers for Users {
    fn containers_of(&self, image_id: &str) -> Vec<(String, bool)> {
        let users = self.0.lock().unwrap();
        let users = users.iter().filter(|(image, ..)| image == image_id);
        users
            .map(|(_, container, running)| (container.clone(), *running))
            .collect()
    }
}

struct World {
    directory: tempfile::TempDir,
    events: EventBus,
    images: ImageService,
    users: Arc<Users>,
}

impl World {
    fn new() -> World {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path().join("data"), directory.path().join("run"));
        let store = Arc::new(Store::open(layout).unwrap());
        let events = EventBus::new();
        let users = Arc::new(Users::default());
        World {
            images: ImageService::new(store, events.clone(), users.clone()),
            directory,
            events,
            users,
        }
    }

    async fn load(&self, archive: Vec<u8>) -> Result<Vec<String>> {
        let (sender, mut receiver) = mpsc::channel(64);
        let messages = tokio::spawn(async move {
            let mut messages = Vec::new();
            while let Some(progress) = receiver.recv().await {
                if let Progress::Message(message) = progress {
                    messages.push(message);
                }
            }
            messages
        });
        self.images.load(std::io::Cursor::new(archive), None, sender).await?;
        Ok(messages.await.unwrap())
    }

    async fn import(&self, name: &str, archive: Vec<u8>, changes: &[&str]) -> Result<String> {
        let options = ImportOptions {
            reference: (!name.is_empty()).then(|| name.to_owned()),
            changes: changes.iter().map(|&change| change.to_owned()).collect(),
            ..ImportOptions::default()
        };
        let (sender, _receiver) = mpsc::channel(1);
        self.images.import(std::io::Cursor::new(archive), options, sender).await
    }

    async fn save(&self, names: &[&str]) -> Result<Vec<u8>> {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut archive = Vec::new();
        self.images
            .save(&names, None)
            .await?
            .read_to_end(&mut archive)
            .await
            .unwrap();
        Ok(archive)
    }

    async fn names(&self, filter: &[(&str, &str)]) -> Vec<String> {
        let mut filters: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, value) in filter {
            filters.entry(key.to_string()).or_default().push(value.to_string());
        }
        let images = self.images.list(true, &filters).await.unwrap();
        let names = images.into_iter().flat_map(|image| match image.tags.is_empty() {
            true => vec![image.id],
            false => image.tags,
        });
        names.collect()
    }

    async fn remove(&self, name: &str, force: bool) -> Result<Vec<Removed>> {
        self.images.remove(name, force, true).await
    }

    fn data(&self, path: &str) -> PathBuf {
        self.directory.path().join("data").join(path)
    }

    fn count(&self, path: &str) -> usize {
        fs::read_dir(self.data(path)).unwrap().count()
    }
}

fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, bytes) in entries {
        archive.extend(file_header(name, bytes.len() as u64));
        archive.extend(*bytes);
        archive.extend(padding(bytes.len() as u64));
    }
    archive.extend(end());
    archive
}

/// What `tar -t` says is in an archive.
fn listed(archive: &[u8]) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    fs::write(&path, archive).unwrap();
    let output = Command::new("tar").arg("-tf").arg(&path).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    fs::write(&path, bytes).unwrap();
    Command::new("gzip").arg("-c").arg(&path).output().unwrap().stdout
}

fn configuration(layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| format!("sha256:{}", digest(layer))).collect();
    // Unknown fields, nulls and odd spacing must survive.
    let history: Vec<_> = layers.iter().map(|_| json!({"created_by": "step"})).collect();
    let document = json!({
        "architecture": "amd64", "os": "linux", "created": "2024-01-02T03:04:05.678901234Z",
        "config": {"Cmd": ["sh"], "Volumes": null, "Labels": {"a": "1"}, "Healthcheck": {"Test": ["NONE"]}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": history, "docker_version": "1.2.3",
    });
    format!(" {document:#}\n").into_bytes()
}

/// An archive as `docker save` wrote it before version 25.
fn docker_archive(names: &[&str], layers: &[&[u8]]) -> Vec<(String, Vec<u8>)> {
    let config = configuration(layers);
    let config_name = format!("{}.json", digest(&config));
    let mut entries = vec![(config_name.clone(), config)];
    let mut paths = Vec::new();
    for layer in layers {
        let path = format!("{}/layer.tar", digest(layer));
        entries.push((path.clone(), layer.to_vec()));
        paths.push(path);
    }
    let manifest = json!([{"Config": config_name, "RepoTags": names, "Layers": paths}]);
    entries.push(("manifest.json".to_owned(), manifest.to_string().into_bytes()));
    entries
}

fn pack(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<_> = entries
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    tar(&entries)
}

#[tokio::test]
async fn a_docker_archive_loads_whatever_its_order_and_compression() {
    let (base, top) = (tar(&[("a", b"1")]), tar(&[("b", &[7; 5000])]));
    let mut entries = docker_archive(&["app:1", "me/other"], &[&base, &top]);
    let last = pack(&entries);
    entries.reverse();
    let first = pack(&entries);
    let expected = digest(&configuration(&[&base, &top]));
    for archive in [last.clone(), first, gzip(&last)] {
        let world = World::new();
        let messages = world.load(archive).await.unwrap();
        assert_eq!(messages, ["Loaded image: app:1", "Loaded image: me/other:latest"]);
        let image = world.images.inspect("app:1").unwrap();
        assert_eq!(image.id, format!("sha256:{expected}"));
        assert_eq!(image.raw, configuration(&[&base, &top]));
        assert_eq!(image.tags, ["app:1", "me/other:latest"]);
        assert_eq!(image.size, 5001);
        for reference in [&image.id, &expected[..12], &expected, "docker.io/library/app:1"] {
            assert_eq!(world.images.inspect(reference).unwrap().id, image.id);
        }
        let history = world.images.history("app:1", None).await.unwrap();
        assert_eq!(history.iter().map(|line| line.size).collect::<Vec<_>>(), [5000, 1]);
        assert_eq!(
            (history[0].id.as_str(), history[1].id.as_str()),
            (image.id.as_str(), "<missing>")
        );
    }
}

#[tokio::test]
async fn what_is_saved_loads_bit_by_bit() {
    let world = World::new();
    // Odd bytes behind the end mark belong to the layer.
    let base = [tar(&[("a", b"1")]), vec![0; 9000]].concat();
    let top = tar(&[("b", b"2")]);
    world
        .load(pack(&docker_archive(&["app:1"], &[&base, &top])))
        .await
        .unwrap();
    world.images.tag("app:1", "app", "2").await.unwrap();
    world.import("plain", tar(&[("c", b"3")]), &[]).await.unwrap();
    let archive = world.save(&["app", "plain:latest"]).await.unwrap();
    let names = listed(&archive);
    for name in [
        "blobs/",
        "blobs/sha256/",
        "oci-layout",
        "index.json",
        "manifest.json",
        "repositories",
    ] {
        assert!(names.contains(&name.to_owned()), "{name}");
    }
    assert!(names.contains(&format!("blobs/sha256/{}", digest(&base))));
    let ids = |world: &World| {
        let inspect = |name| world.images.inspect(name).unwrap();
        ["app:1", "app:2", "plain"].map(|name| (inspect(name).id, inspect(name).layers))
    };
    let other = World::new();
    other.load(archive.clone()).await.unwrap();
    assert_eq!(ids(&world), ids(&other));
    assert_eq!(other.save(&["app", "plain:latest"]).await.unwrap(), archive);
    assert_eq!(other.load(archive).await.unwrap().len(), 3, "again is fine");
}

/// Takes the OCI half of a saved archive only.
fn without_docker_half(archive: &[u8]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.tar");
    fs::write(&path, archive).unwrap();
    let deleted = Command::new("tar")
        .args(["--delete", "-f"])
        .arg(&path)
        .args(["manifest.json", "repositories"])
        .status()
        .unwrap();
    assert!(deleted.success());
    fs::read(path).unwrap()
}

#[tokio::test]
async fn the_other_half_of_what_is_saved_is_an_oci_layout() {
    let world = World::new();
    let id = world.import("me/app:3", tar(&[("c", b"3")]), &[]).await.unwrap();
    let archive = without_docker_half(&world.save(&["me/app:3"]).await.unwrap());
    assert!(!listed(&archive).contains(&"manifest.json".to_owned()));
    let other = World::new();
    assert_eq!(other.load(archive).await.unwrap(), ["Loaded image: me/app:3"]);
    assert_eq!(other.images.inspect("me/app:3").unwrap().id, id);
    let nameless = without_docker_half(&world.save(&[&id]).await.unwrap());
    let third = World::new();
    assert_eq!(third.load(nameless).await.unwrap(), [format!("Loaded image ID: {id}")]);
}

#[tokio::test]
async fn an_oci_archive_with_nested_indexes_and_compressed_layers() {
    let layer = tar(&[("a", b"amd64")]);
    let compressed = gzip(&layer);
    let config = configuration(&[&layer]);
    let mut blobs: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |bytes: &[u8]| -> Value {
        blobs.push((format!("blobs/sha256/{}", digest(bytes)), bytes.to_vec()));
        json!({"digest": format!("sha256:{}", digest(bytes)), "size": bytes.len()})
    };
    let manifest = json!({"schemaVersion": 2, "config": add(&config), "layers": [add(&compressed)]}).to_string();
    let mut here = add(manifest.as_bytes());
    here["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let attestation = json!({"digest": format!("sha256:{}", digest(b"x")), "size": 1,
        "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
        "platform": {"os": "unknown", "architecture": "unknown"}});
    let elsewhere = json!({"digest": format!("sha256:{}", digest(b"y")), "size": 1,
        "platform": {"os": "linux", "architecture": "s390x"}});
    let inner = json!({"schemaVersion": 2, "manifests": [attestation, elsewhere.clone(), here]}).to_string();
    let mut top = add(inner.as_bytes());
    top["annotations"] = json!({"org.opencontainers.image.ref.name": "quay.io/me/app:7"});
    let index = json!({"schemaVersion": 2, "manifests": [top]}).to_string();
    let foreign = json!({"schemaVersion": 2, "manifests": [elsewhere]}).to_string();
    let foreign_top = add(foreign.as_bytes());
    let foreign_index = json!({"schemaVersion": 2, "manifests": [foreign_top]}).to_string();

    let world = World::new();
    let archive = |index: &str| {
        let mut entries = vec![("index.json".to_owned(), index.as_bytes().to_vec())];
        entries.extend(blobs.iter().cloned());
        pack(&entries)
    };
    assert_eq!(
        world.load(archive(&index)).await.unwrap(),
        ["Loaded image: quay.io/me/app:7"]
    );
    assert_eq!(
        world.images.inspect("quay.io/me/app:7").unwrap().layers,
        [format!("sha256:{}", digest(&layer))]
    );
    let error = World::new()
        .load(archive(&foreign_index))
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(error, "the archive has no image for linux/amd64, only for linux/s390x");
    let (sender, _receiver) = mpsc::channel(1);
    let platform = Platform::parse("linux/riscv64").ok();
    let load = world
        .images
        .load(std::io::Cursor::new(archive(&index)), platform, sender);
    assert_eq!(
        load.await.unwrap_err().to_string(),
        "the archive has no image for linux/riscv64, only for linux/s390x, linux/amd64"
    );
}

#[tokio::test]
async fn archives_of_old_with_links_between_layers() {
    let directory = tempfile::tempdir().unwrap();
    let layer = tar(&[("a", b"1")]);
    fs::create_dir(directory.path().join("x")).unwrap();
    fs::create_dir(directory.path().join("y")).unwrap();
    fs::write(directory.path().join("x/layer.tar"), &layer).unwrap();
    let step = |parent: Option<&str>| {
        json!({"id": "x", "parent": parent, "created": "2015-01-01T00:00:00Z", "architecture": "amd64", "os": "linux",
            "config": {"Cmd": ["sh"]}, "container_config": {"Cmd": ["/bin/sh", "-c", "make"]}})
        .to_string()
    };
    fs::write(directory.path().join("x/json"), step(None)).unwrap();
    fs::write(directory.path().join("y/json"), step(Some("x"))).unwrap();
    std::os::unix::fs::symlink("../x/layer.tar", directory.path().join("y/layer.tar")).unwrap();
    fs::write(
        directory.path().join("repositories"),
        r#"{"old": {"1": "y", "2": "y"}}"#,
    )
    .unwrap();
    let packed = Command::new("tar")
        .args(["-c", "."])
        .current_dir(directory.path())
        .output()
        .unwrap();
    let world = World::new();
    let messages = world.load(packed.stdout).await.unwrap();
    assert_eq!(messages, ["Loaded image: old:1", "Loaded image: old:2"]);
    let image = world.images.inspect("old:1").unwrap();
    let id = format!("sha256:{}", digest(&layer));
    assert_eq!(image.layers, [id.clone(), id]);
    let history = world.images.history("old:1", None).await.unwrap();
    assert_eq!(history[0].created_by, "/bin/sh -c make");
}

#[tokio::test]
async fn a_bad_archive_says_what_is_wrong_and_leaves_nothing() {
    let layer = tar(&[("a", b"1")]);
    let good = docker_archive(&["app"], &[&layer]);
    let change = |name: &str, bytes: &[u8]| {
        let mut entries = good.clone();
        let entry = entries.iter_mut().find(|(known, _)| known.ends_with(name)).unwrap();
        entry.1 = bytes.to_vec();
        pack(&entries)
    };
    let without = |name: &str| {
        let mut entries = good.clone();
        entries.retain(|(known, _)| !known.ends_with(name));
        pack(&entries)
    };
    let hostile = tar(&[("fine", b"1"), ("../../escape", b"2")]);
    let cut = pack(&good);
    for (archive, message) in [
        (b"hello".to_vec(), "invalid archive: not a tar archive"),
        (
            Vec::new(),
            "invalid archive: it has neither manifest.json nor index.json nor repositories",
        ),
        (without("manifest.json"), "invalid archive: it has neither"),
        (without("layer.tar"), "invalid archive: layer "),
        (
            change("layer.tar", &tar(&[("other", b"1")])),
            "invalid diffID for layer 0: expected",
        ),
        (change("layer.tar", &hostile), "its name leads out of the root"),
        (change("layer.tar", &layer[..512]), "its data is cut off"),
        (
            change("manifest.json", b"{"),
            "invalid archive: manifest.json is not what it should be",
        ),
        (change("manifest.json", b"[]"), "invalid archive: it has no images"),
        (cut[..cut.len() / 2].to_vec(), "cut off"),
        (
            tar(&[("../x", b"1")]),
            "invalid archive: entry \"../x\" leads out of it",
        ),
    ] {
        let world = World::new();
        let error = world.load(archive).await.unwrap_err();
        assert!(error.to_string().contains(message), "{error}\n{message}");
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
        assert_eq!(world.count("content/blobs/sha256"), 0);
        assert_eq!(world.count("layers"), 1);
        assert!(world.names(&[]).await.is_empty());
    }
}

#[tokio::test]
async fn import_makes_an_image_with_changes() {
    let world = World::new();
    let root = gzip(&tar(&[("bin/true", b"x")]));
    let changes = ["CMD [\"/bin/true\"]", "ENV A=1", "LABEL of=test"];
    let id = world.import("base:1", root.clone(), &changes).await.unwrap();
    let image = world.images.inspect("base:1").unwrap();
    assert_eq!(image.id, id);
    let config = image.configuration.config().as_ref().unwrap();
    assert_eq!(config.cmd().as_ref().unwrap(), &["/bin/true"]);
    let nameless = world.import("", root.clone(), &[]).await.unwrap();
    assert_eq!(world.names(&[("dangling", "true")]).await, [nameless]);
    assert_eq!(world.names(&[("label", "of=test")]).await, ["base:1"]);
    for (name, change, message) in [
        (
            "UPPER",
            "CMD x",
            "invalid reference format: repository name (library/UPPER) must be lowercase",
        ),
        ("fine", "RUN x", "RUN is not a valid change command"),
    ] {
        let error = world.import(name, root.clone(), &[change]).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Invalid, message));
    }
    let events: Vec<_> = world.events.subscribe(Some(0)).0;
    assert_eq!(
        (events[0].action.as_str(), events[0].actor.as_str()),
        ("import", id.as_str())
    );
    assert_eq!(events[0].attributes["of"], "test");
}

#[tokio::test]
async fn names_come_and_go() {
    let world = World::new();
    let id = world.import("a:1", tar(&[("f", b"1")]), &[]).await.unwrap();
    let other = world.import("b:1", tar(&[("f", b"2")]), &[]).await.unwrap();
    world.images.tag("a:1", "localhost:5000/x/y", "").await.unwrap();
    assert_eq!(
        world.images.inspect(&id).unwrap().tags,
        ["a:1", "localhost:5000/x/y:latest"]
    );
    assert_eq!(world.names(&[("reference", "a*")]).await, ["a:1"]);
    assert_eq!(world.names(&[("since", "a:1")]).await, ["b:1"]);
    world.images.tag("b:1", "a", "1").await.unwrap();
    assert_eq!(world.images.inspect("a:1").unwrap().id, other);
    for (source, repository, tag, message) in [
        ("nothing", "x", "", "No such image: nothing:latest"),
        (
            "a:1",
            "UP",
            "",
            "invalid reference format: repository name (library/UP) must be lowercase",
        ),
        ("a:1", "x", "y z", "invalid tag format"),
    ] {
        let error = world.images.tag(source, repository, tag).await.unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    let missing = "0".repeat(64);
    assert_eq!(
        world.images.inspect(&missing).unwrap_err().to_string(),
        format!("No such image: sha256:{missing}")
    );
}

#[tokio::test]
async fn removal_follows_dockers_rules() {
    let world = World::new();
    let id = world.import("a:1", tar(&[("f", b"1")]), &[]).await.unwrap();
    let short = &id[7..19];
    world.images.tag("a:1", "b", "1").await.unwrap();
    let error = world.remove(short, false).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories")
    );
    assert_eq!(
        world.remove("b:1", false).await.unwrap(),
        [Removed::Untagged("b:1".to_owned())]
    );
    let use_it = |running| *world.users.0.lock().unwrap() = vec![(id.clone(), "c".repeat(64), running)];
    use_it(false);
    let error = world.remove("a:1", false).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "conflict: unable to remove repository reference \"a:1\" (must force) - container cccccccccccc is using \
             its referenced image {short}"
        )
    );
    assert_eq!(error.kind(), Kind::Conflict);
    let error = world.remove(short, false).await.unwrap_err().to_string();
    assert!(
        error.ends_with("(must be forced) - image is being used by stopped container cccccccccccc"),
        "{error}"
    );
    use_it(true);
    let error = world.remove(short, true).await.unwrap_err().to_string();
    assert!(
        error.ends_with("(cannot be forced) - image is being used by running container cccccccccccc"),
        "{error}"
    );
    assert_eq!(world.images.prune(&BTreeMap::new()).await.unwrap().0, []);
    world.users.0.lock().unwrap().clear();
    let removed = world.remove("a:1", false).await.unwrap();
    assert_eq!(removed, [Removed::Untagged("a:1".to_owned()), Removed::Deleted(id)]);
    assert_eq!(
        world.remove("a:1", false).await.unwrap_err().to_string(),
        "No such image: a:1"
    );
    assert_eq!((world.count("content/blobs/sha256"), world.count("layers")), (0, 1));
}

#[tokio::test]
async fn prune_takes_nameless_images_or_all_unused() {
    let world = World::new();
    let named = world.import("a:1", tar(&[("f", &[1; 1000])]), &[]).await.unwrap();
    let nameless = world.import("", tar(&[("f", &[2; 3000])]), &[]).await.unwrap();
    let (removed, freed) = world.images.prune(&BTreeMap::new()).await.unwrap();
    assert_eq!((removed, freed), (vec![Removed::Deleted(nameless)], 3000));
    let all = BTreeMap::from([("dangling".to_owned(), vec!["false".to_owned()])]);
    let (removed, freed) = world.images.prune(&all).await.unwrap();
    assert_eq!(removed, [Removed::Untagged("a:1".to_owned()), Removed::Deleted(named)]);
    assert_eq!(freed, 1000);
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing() {
    struct Broken(std::io::Cursor<Vec<u8>>);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            match Read::read(&mut self.0, buffer)? {
                0 => Err(std::io::Error::other("gone")),
                count => Ok(count),
            }
        }
    }
    let world = World::new();
    let layer = tar(&[("a", &[1; 100_000])]);
    let whole = pack(&docker_archive(&["app"], &[&layer]));
    let (sender, _receiver) = mpsc::channel(64);
    let broken = Broken(std::io::Cursor::new(whole[..60_000].to_vec()));
    let error = world.images.load(broken, None, sender).await.unwrap_err();
    assert!(error.to_string().contains("gone"), "{error}");
    assert_eq!((world.count("content/blobs/sha256"), world.count("layers")), (0, 1));
}

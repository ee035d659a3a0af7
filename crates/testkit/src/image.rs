//! Images made on the spot: layers and a configuration, written as the archives that `load` takes.
use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::archive::Tar;

/// `sha256:` and 64 hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hexadecimal(bytes))
}

fn hexadecimal(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An image: what `docker build` would have made of a few lines.
#[derive(Debug, Clone)]
pub struct Image {
    pub tag: String,
    /// Uncompressed tar archives, lowest first.
    pub layers: Vec<Vec<u8>>,
    /// The `config` member of the configuration: `Cmd`, `Env`, `User`, …
    pub config: Value,
    pub architecture: String,
}

impl Image {
    pub fn new(tag: &str, layer: Tar) -> Image {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Image {
            tag: tag.to_owned(),
            layers: vec![layer.finish()],
            config: json!({
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Cmd": ["sh"],
            }),
            architecture: architecture.to_owned(),
        }
    }

    pub fn layer(mut self, layer: Tar) -> Image {
        self.layers.push(layer.finish());
        self
    }

    /// Sets one member of the configuration.
    pub fn with(mut self, key: &str, value: Value) -> Image {
        self.config[key] = value;
        self
    }

    pub fn tagged(mut self, tag: &str) -> Image {
        self.tag = tag.to_owned();
        self
    }

    pub fn configuration(&self) -> Vec<u8> {
        let history = self
            .layers
            .iter()
            .map(|_| json!({"created": "2023-11-14T22:13:20Z", "created_by": "testkit"}));
        let configuration = json!({
            "architecture": self.architecture,
            "os": "linux",
            "created": "2023-11-14T22:13:20Z",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": self.layers.iter().map(|layer| digest(layer)).collect::<Vec<_>>()},
            "history": history.collect::<Vec<_>>(),
        });
        configuration.to_string().into_bytes()
    }

    /// What `docker inspect` must give as `Id`.
    pub fn id(&self) -> String {
        digest(&self.configuration())
    }

    /// The form of `docker save` since 2014.
    pub fn docker_archive(&self) -> Vec<u8> {
        let configuration = self.configuration();
        let configuration_name = format!("{}.json", hexadecimal(&configuration));
        let names: Vec<_> = self
            .layers
            .iter()
            .map(|layer| format!("{}/layer.tar", hexadecimal(layer)))
            .collect();
        let manifest = json!([{"Config": configuration_name, "RepoTags": [self.tag], "Layers": names}]);
        let mut tar = Tar::new().file(&configuration_name, 0o644, &configuration);
        for (name, layer) in names.iter().zip(&self.layers) {
            tar = tar.file(name, 0o644, layer);
        }
        tar.file("manifest.json", 0o644, manifest.to_string().as_bytes())
            .finish()
    }

    /// An OCI image layout in a tar archive, without `manifest.json`.
    pub fn oci_archive(&self) -> Vec<u8> {
        let mut tar = Tar::new().file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#);
        let mut layers = Vec::new();
        for layer in &self.layers {
            layers.push(descriptor("application/vnd.oci.image.layer.v1.tar", layer));
            tar = tar.file(&blob(layer), 0o644, layer);
        }
        let configuration = self.configuration();
        tar = tar.file(&blob(&configuration), 0o644, &configuration);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &configuration),
            "layers": layers,
        });
        let manifest = manifest.to_string().into_bytes();
        tar = tar.file(&blob(&manifest), 0o644, &manifest);
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
        let name = format!("docker.io/library/{}", self.tag);
        entry["annotations"] =
            json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag_of(&self.tag)});
        let index = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry],
        });
        tar.file("index.json", 0o644, index.to_string().as_bytes()).finish()
    }
}

fn tag_of(reference: &str) -> &str {
    reference.split_once(':').map_or("latest", |(_, tag)| tag)
}

fn blob(bytes: &[u8]) -> String {
    format!("blobs/sha256/{}", hexadecimal(bytes))
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

/// `busybox:latest`: the machine's static busybox with all its applets, three users, and nothing else.
///
/// `app` (1000) belongs to `app` (1000), `audio` (29) and `games` (60).
pub fn busybox() -> Image {
    Image::new("busybox:latest", busybox_layer())
}

pub fn busybox_layer() -> Tar {
    let path = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    let path = path.expect("busybox-static is installed");
    let program = fs::read(path).expect("busybox can be read");
    let list = Command::new(path).arg("--list").output().expect("busybox runs").stdout;
    let mut tar = Tar::new();
    for (directory, mode) in [
        ("bin/", 0o755),
        ("etc/", 0o755),
        ("home/", 0o755),
        ("root/", 0o700),
        ("tmp/", 0o1777),
    ] {
        tar = tar.directory(directory, mode);
    }
    tar = tar.file("bin/busybox", 0o755, &program);
    let list = String::from_utf8(list).expect("applets have plain names");
    for applet in list.lines().filter(|&applet| applet != "busybox") {
        tar = tar.symlink(&format!("bin/{applet}"), "busybox");
    }
    let users =
        "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\napp:x:1000:1000::/home/app:/bin/sh\n";
    let groups = "root:x:0:\ndaemon:x:1:\naudio:x:29:app\ngames:x:60:app\napp:x:1000:\n";
    tar.file("etc/passwd", 0o644, users.as_bytes())
        .file("etc/group", 0o644, groups.as_bytes())
}

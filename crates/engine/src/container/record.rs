//! A container's record: what it was asked to be. Written once at create, changed only by rename, update,
//! and by joining and leaving networks.
//!
//! The words are those of the Engine API's documents: they are the field's common language, and any other door
//! translates into them.
use std::collections::BTreeMap;

use corten_api::types::container::{ContainerConfig, HostConfig, IdMapping, NetworkingConfig};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Without a leading slash.
    pub name: String,
    pub created: Timestamp,
    /// `sha256:…` of the image's configuration.
    pub image_id: String,
    /// `linux`.
    pub platform: String,
    /// With the image's defaults merged in.
    pub config: ContainerConfig,
    pub host_config: HostConfig,
    pub networking: NetworkingConfig,
    /// What binds, mounts and volumes came to.
    pub mounts: Vec<MountPoint>,
    /// Layer ids of the image, lowest first: the root file system stays what it was even when the image is removed.
    pub layers: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Of `host_config.links`, on the default bridge: whom they mean.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<ContainerLink>,
}

/// A container that another knows by a name of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerLink {
    /// Its id.
    pub container: String,
    pub alias: String,
}

impl Record {
    /// What is executed: entry point, then command.
    pub fn argv(&self) -> Vec<String> {
        let parts = [&self.config.entrypoint, &self.config.cmd];
        parts.into_iter().flatten().flatten().cloned().collect()
    }
}

/// One mount beyond Docker's default set, resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// `bind`, `volume`, `tmpfs` or `image`.
    pub kind: String,
    /// The volume's name, for volumes.
    pub name: Option<String>,
    /// A path of the host; empty for tmpfs; the image as it was named.
    pub source: String,
    pub destination: String,
    /// `local` for volumes.
    pub driver: Option<String>,
    /// As given (`ro`, `z`, …).
    pub mode: String,
    pub writable: bool,
    /// `rprivate` unless asked otherwise.
    pub propagation: String,
    /// tmpfs options, in mount(8)'s words.
    #[serde(default)]
    pub options: Vec<String>,
    /// An anonymous volume: removed with its container when that is asked (`rm -v`, `--rm`).
    #[serde(default)]
    pub anonymous: bool,
    /// Of a volume or an image: only this part of it, relative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subpath: Option<String>,
    /// A bind's source is made when it is missing, at every start.
    #[serde(default, skip_serializing_if = "is_false")]
    pub create_source: bool,
    /// A volume that is mounted from somewhere takes the image's files when it is empty, at every start.
    #[serde(default, skip_serializing_if = "is_false")]
    pub copy_up: bool,
    /// A bind shows other owners than the disk says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owners: Option<IdMapping>,
    /// Of an image: its layers, lowest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
}

fn is_false(value: &bool) -> bool {
    !*value
}

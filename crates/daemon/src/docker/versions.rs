//! What differs for clients of older API versions: documents on their way out, requests on their way in.
//!
//! Everything else in the door speaks the newest version only. A boundary `V` means: for versions below `V`.
use corten_api::types::{
    container::{CreateRequest, HostConfig, Mount},
    container_answers::ContainerSummary,
    image::{ImageInspect, ImageSummary},
    system::Info,
};
use serde_json::{Map, Value, json};

use crate::{
    docker::{
        convert::{container::Host, time::NEVER},
        version::{ApiVersion, v},
        version_networks,
    },
    error::ApiError,
};

pub const RAW_STREAM: &str = "application/vnd.docker.raw-stream";
pub const MULTIPLEXED_STREAM: &str = "application/vnd.docker.multiplexed-stream";

/// The content type of a container's output. Before 1.42 both kinds had one name.
pub fn stream_type(version: ApiVersion, tty: bool) -> &'static str {
    if tty || version < v(42) {
        RAW_STREAM
    } else {
        MULTIPLEXED_STREAM
    }
}

/// An entry of `GET /containers/json`.
pub fn container_summary(version: ApiVersion, summary: &mut ContainerSummary) {
    if version < v(46) {
        summary.host_config.annotations = None;
    }
}

/// An entry of `GET /images/json`.
pub fn image_summary(version: ApiVersion, summary: &mut ImageSummary) {
    if version < v(51) {
        summary.containers = -1;
    }
    if version < v(44) {
        summary.virtual_size = Some(summary.size);
    }
    if version < v(43) && summary.repo_tags.is_empty() && summary.repo_digests.is_empty() {
        summary.repo_tags.push("<none>:<none>".to_owned());
        summary.repo_digests.push("<none>@<none>".to_owned());
    }
}

/// `GET /images/{name}/json`.
pub fn image_inspect(version: ApiVersion, mut inspect: ImageInspect) -> Value {
    if version < v(44) {
        inspect.virtual_size = Some(inspect.size);
        inspect.created.get_or_insert_with(|| NEVER.to_owned());
    }
    let mut document = object(&inspect);
    if version < v(50)
        && let Some(config) = document.get_mut("Config").and_then(Value::as_object_mut)
    {
        fill_with_container_members(config);
    }
    if version < v(45) {
        let mut config = Map::new();
        fill_with_container_members(&mut config);
        for name in ["Env", "Cmd", "Volumes", "Entrypoint", "OnBuild", "Labels"] {
            config.insert(name.to_owned(), Value::Null);
        }
        for name in ["User", "WorkingDir"] {
            config.insert(name.to_owned(), json!(""));
        }
        document.insert("Container".to_owned(), json!(""));
        document.insert("ContainerConfig".to_owned(), Value::Object(config));
    }
    Value::Object(document)
}

/// An image's configuration used to be printed as if it were a container's.
fn fill_with_container_members(config: &mut Map<String, Value>) {
    for name in ["Hostname", "Domainname", "Image"] {
        config.entry(name).or_insert_with(|| json!(""));
    }
    for name in [
        "AttachStdin",
        "AttachStdout",
        "AttachStderr",
        "Tty",
        "OpenStdin",
        "StdinOnce",
    ] {
        config.entry(name).or_insert_with(|| json!(false));
    }
}

/// `GET /info`.
pub fn info(version: ApiVersion, info: Info) -> Value {
    let mut document = object(&info);
    if version < v(50) {
        document.remove("DiscoveredDevices");
        document.insert("BridgeNfIptables".to_owned(), json!(false));
        document.insert("BridgeNfIp6tables".to_owned(), json!(false));
    }
    if version < v(49) {
        document.remove("FirewallBackend");
        for name in ["ContainerdCommit", "RuncCommit", "InitCommit"] {
            if let Some(commit) = document.get_mut(name).and_then(Value::as_object_mut) {
                let id = commit.get("ID").cloned().unwrap_or_default();
                commit.insert("Expected".to_owned(), id);
            }
        }
    }
    if version < v(47)
        && let Some(registries) = document.get_mut("RegistryConfig").and_then(Value::as_object_mut)
    {
        registries.insert("AllowNondistributableArtifactsCIDRs".to_owned(), Value::Null);
        registries.insert("AllowNondistributableArtifactsHostnames".to_owned(), Value::Null);
    }
    if version < v(44)
        && let Some(runtimes) = document.get_mut("Runtimes").and_then(Value::as_object_mut)
    {
        runtimes
            .values_mut()
            .filter_map(Value::as_object_mut)
            .for_each(|runtime| {
                runtime.remove("status");
            });
    }
    Value::Object(document)
}

/// Is the event one that clients of this version know?
pub fn knows_event(version: ApiVersion, kind: &str, action: &str) -> bool {
    version >= v(46) || (kind, action) != ("image", "create")
}

fn object(document: &impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(document) {
        Ok(Value::Object(members)) => members,
        _ => unreachable!("the API's documents are objects"),
    }
}

/// `POST /containers/create`; what to warn of.
pub fn create_request(version: ApiVersion, host: &Host, request: &mut CreateRequest) -> Result<Vec<String>, ApiError> {
    let (daemon, host) = (host, &mut request.host_config);
    if version < v(40) {
        each_mount(host, |mount| {
            edit(&mut mount.bind_options, |bind| bind.non_recursive = false)
        });
        if host.ipc_mode.is_empty() {
            "shareable".clone_into(&mut host.ipc_mode);
        }
    }
    if version < v(41) && !daemon.cgroup_version_2 && host.cgroupns_mode.is_empty() {
        "host".clone_into(&mut host.cgroupns_mode);
    }
    if version < v(42) {
        host.console_size = [0, 0];
        each_mount(host, |mount| {
            edit(&mut mount.bind_options, |bind| bind.create_mountpoint = false);
            if mount.kind != "volume" {
                mount.volume_options = None;
            }
            if mount.kind != "tmpfs" {
                mount.tmpfs_options = None;
            }
        });
    }
    if version < v(43) {
        host.annotations = None;
    }
    if version < v(44) {
        create_request_before_44(request)?;
    }
    let mounts = request.host_config.mounts.as_deref().unwrap_or_default();
    let has_subpath = |mount: &Mount| {
        let options = mount.volume_options.as_ref();
        options.is_some_and(|options| !options.subpath.is_empty())
    };
    if version < v(45) && mounts.iter().any(has_subpath) {
        return Err(ApiError::invalid("VolumeOptions.Subpath needs API v1.45 or newer"));
    }
    if version < v(48) && mounts.iter().any(|mount| mount.kind == "image") {
        return Err(ApiError::invalid("Mount type \"image\" needs API v1.48 or newer"));
    }
    normalize(&mut request.host_config);
    version_networks::create_container(version, &daemon.default_network, request)
}

/// `POST /containers/{name}/update`. Limits of single devices can be changed from 1.55 on.
pub fn update_request(version: ApiVersion, resources: &mut HostConfig) {
    if version < v(40) {
        resources.pids_limit = None;
    }
    // Whatever is not positive takes the limit away.
    resources.pids_limit = resources.pids_limit.map(|limit| limit.max(0));
    if version < v(55) {
        resources.blkio_weight_device = None;
        for rates in [
            &mut resources.blkio_device_read_bps,
            &mut resources.blkio_device_write_bps,
            &mut resources.blkio_device_read_iops,
            &mut resources.blkio_device_write_iops,
        ] {
            *rates = None;
        }
    }
}

/// A limit that clients before 1.42 knew and that no kernel of today has; what to warn of.
pub fn kernel_memory(version: ApiVersion, resources: &Value) -> Vec<String> {
    let asked = crate::docker::decode::member(resources, "KernelMemory").and_then(Value::as_i64);
    let warned = version < v(42) && asked.is_some_and(|bytes| bytes > 0);
    warned
        .then(|| {
            "Your kernel does not support kernel memory limit capabilities or the cgroup is not mounted. Limitation \
             discarded."
                .to_owned()
        })
        .into_iter()
        .collect()
}

fn create_request_before_44(request: &mut CreateRequest) -> Result<(), ApiError> {
    if let Some(health) = &mut request.config.healthcheck {
        health.start_interval = 0;
    }
    let asked = request
        .host_config
        .mounts
        .iter()
        .flatten()
        .filter_map(|mount| mount.bind_options.as_ref());
    for bind in asked {
        if bind.read_only_force_recursive {
            return Err(ApiError::invalid(
                "BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer",
            ));
        }
    }
    each_mount(&mut request.host_config, |mount| {
        if mount.kind == "bind" && mount.read_only {
            mount.bind_options.get_or_insert_default().read_only_non_recursive = true;
        }
    });
    let endpoints = &request.networking_config.endpoints_config;
    if endpoints.len() > 1 {
        let names: Vec<_> = endpoints.keys().map(String::as_str).collect();
        return Err(ApiError::invalid(format!(
            "Container cannot be created with multiple network endpoints: {}",
            names.join(", ")
        )));
    }
    Ok(())
}

/// Spellings of "not set" that clients of all versions send.
fn normalize(host: &mut HostConfig) {
    host.memory_swappiness = host.memory_swappiness.filter(|value| *value != -1);
    host.pids_limit = host.pids_limit.filter(|limit| *limit > 0);
}

fn each_mount(host: &mut HostConfig, change: impl FnMut(&mut Mount)) {
    host.mounts.iter_mut().flatten().for_each(change);
}

fn edit<T>(value: &mut Option<T>, change: impl FnOnce(&mut T)) {
    if let Some(value) = value {
        change(value);
    }
}

#[cfg(test)]
mod tests {
    use corten_api::types::{
        container::BindOptions,
        container_answers::HostConfigSummary,
        system::{Commit, RegistryConfig, Runtime},
    };

    use super::*;

    #[test]
    fn before_42_every_stream_is_called_raw() {
        assert_eq!(stream_type(v(41), false), RAW_STREAM);
        assert_eq!(stream_type(v(42), false), MULTIPLEXED_STREAM);
        assert_eq!(stream_type(v(42), true), RAW_STREAM);
    }

    #[test]
    fn before_46_lists_have_no_annotations() {
        let annotated = || ContainerSummary {
            host_config: HostConfigSummary {
                annotations: Some(Default::default()),
                ..Default::default()
            },
            ..Default::default()
        };
        let (mut old, mut new) = (annotated(), annotated());
        container_summary(v(45), &mut old);
        container_summary(v(46), &mut new);
        assert!(old.host_config.annotations.is_none() && new.host_config.annotations.is_some());
    }

    #[test]
    fn image_lists_at_each_boundary() {
        let at = |minor| {
            let mut summary = ImageSummary {
                size: 5,
                containers: 2,
                ..Default::default()
            };
            image_summary(v(minor), &mut summary);
            summary
        };
        assert_eq!((at(50).containers, at(51).containers), (-1, 2));
        assert_eq!((at(43).virtual_size, at(44).virtual_size), (Some(5), None));
        assert_eq!(at(42).repo_tags, ["<none>:<none>"]);
        assert_eq!(at(42).repo_digests, ["<none>@<none>"]);
        assert!(at(43).repo_tags.is_empty());
    }

    #[test]
    fn image_inspections_at_each_boundary() {
        let at = |minor| {
            let config = json!({"Env": ["A=b"]});
            image_inspect(
                v(minor),
                ImageInspect {
                    size: 5,
                    config,
                    ..Default::default()
                },
            )
        };
        assert_eq!(
            (at(43)["VirtualSize"].as_i64(), at(44)["VirtualSize"].as_i64()),
            (Some(5), None)
        );
        assert_eq!(at(43)["Created"], NEVER);
        assert!(at(44).get("Created").is_none());
        assert!(at(44).get("ContainerConfig").is_some() && at(45).get("ContainerConfig").is_none());
        assert_eq!(at(49)["Config"]["Hostname"], "");
        assert_eq!(at(49)["Config"]["Tty"], false);
        assert_eq!(at(49)["Config"]["Env"][0], "A=b");
        assert!(at(50)["Config"].get("Hostname").is_none());
    }

    #[test]
    fn information_at_each_boundary() {
        let at = |minor| {
            let status = Some(Default::default());
            let runtime = Runtime {
                path: "corten".to_owned(),
                status,
            };
            info(
                v(minor),
                Info {
                    firewall_backend: Some(Default::default()),
                    discovered_devices: Some(Vec::new()),
                    registry_config: Some(RegistryConfig::default()),
                    runc_commit: Commit { id: "a".to_owned() },
                    runtimes: [("corten".to_owned(), runtime)].into(),
                    ..Default::default()
                },
            )
        };
        assert_eq!(
            (at(49).get("BridgeNfIptables"), at(50).get("BridgeNfIptables")),
            (Some(&json!(false)), None)
        );
        assert_eq!(
            (
                at(48)["RuncCommit"].get("Expected"),
                at(49)["RuncCommit"].get("Expected")
            ),
            (Some(&json!("a")), None)
        );
        let devices = |minor| at(minor).get("DiscoveredDevices").is_some();
        assert_eq!((devices(49), devices(50)), (false, true));
        let firewall = |minor| at(minor).get("FirewallBackend").is_some();
        assert_eq!((firewall(48), firewall(49)), (false, true));
        let artifacts = "AllowNondistributableArtifactsCIDRs";
        assert_eq!(at(46)["RegistryConfig"].get(artifacts), Some(&Value::Null));
        assert_eq!(at(47)["RegistryConfig"].get(artifacts), None);
        assert!(at(43)["Runtimes"]["corten"].get("status").is_none());
        assert!(at(44)["Runtimes"]["corten"].get("status").is_some());
    }

    #[test]
    fn before_46_images_are_not_seen_to_be_created() {
        assert!(!knows_event(v(45), "image", "create"));
        assert!(knows_event(v(46), "image", "create"));
        assert!(knows_event(v(45), "container", "create"));
    }

    fn created(minor: u16, change: impl FnOnce(&mut CreateRequest)) -> Result<CreateRequest, ApiError> {
        let mut request = CreateRequest::default();
        change(&mut request);
        create_request(v(minor), &Host::default(), &mut request).map(|_| request)
    }

    #[test]
    fn updates_at_each_boundary() {
        let at = |minor, limit| {
            let mut resources = HostConfig {
                pids_limit: Some(limit),
                blkio_weight_device: Some(Vec::new()),
                ..Default::default()
            };
            update_request(v(minor), &mut resources);
            (resources.pids_limit, resources.blkio_weight_device.is_some())
        };
        assert_eq!((at(39, 5), at(40, 5)), ((None, false), (Some(5), false)));
        assert_eq!(at(51, -7), (Some(0), false));
        assert_eq!(at(55, 5), (Some(5), true));
        let warned = |minor| kernel_memory(v(minor), &json!({"kernelMemory": 4 << 20})).len();
        assert_eq!((warned(41), warned(42)), (1, 0));
        assert!(kernel_memory(v(24), &json!({"KernelMemory": 0})).is_empty());
    }

    fn with_mount(minor: u16, mount: Mount) -> Result<Mount, ApiError> {
        let request = created(minor, |request| request.host_config.mounts = Some(vec![mount]))?;
        Ok(request.host_config.mounts.unwrap().remove(0))
    }

    #[test]
    fn requests_before_40_to_43() {
        let host = |minor| {
            created(minor, |request| {
                request.host_config.annotations = Some(Default::default());
                request.host_config.console_size = [24, 80];
            })
            .unwrap()
            .host_config
        };
        assert_eq!(
            (host(39).ipc_mode.as_str(), host(40).ipc_mode.as_str()),
            ("shareable", "")
        );
        assert_eq!(
            (host(40).cgroupns_mode.as_str(), host(41).cgroupns_mode.as_str()),
            ("host", "")
        );
        assert_eq!((host(41).console_size, host(42).console_size), ([0, 0], [24, 80]));
        assert!(host(42).annotations.is_none() && host(43).annotations.is_some());
    }

    #[test]
    fn mounts_of_older_clients() {
        let bind = |change: fn(&mut BindOptions)| {
            let mut options = BindOptions::default();
            change(&mut options);
            Mount {
                kind: "bind".to_owned(),
                read_only: true,
                bind_options: Some(options),
                ..Default::default()
            }
        };
        let options = |minor, change| with_mount(minor, bind(change)).map(|mount| mount.bind_options.unwrap());
        assert!(!options(39, |bind| bind.non_recursive = true).unwrap().non_recursive);
        assert!(options(40, |bind| bind.non_recursive = true).unwrap().non_recursive);
        assert!(
            !options(41, |bind| bind.create_mountpoint = true)
                .unwrap()
                .create_mountpoint
        );
        assert!(
            options(42, |bind| bind.create_mountpoint = true)
                .unwrap()
                .create_mountpoint
        );
        assert!(options(43, |_| {}).unwrap().read_only_non_recursive);
        assert!(!options(44, |_| {}).unwrap().read_only_non_recursive);
        assert!(options(43, |bind| bind.read_only_force_recursive = true).is_err());
        assert!(options(44, |bind| bind.read_only_force_recursive = true).is_ok());
    }

    #[test]
    fn mount_types_of_older_clients() {
        let stray = Mount {
            kind: "bind".to_owned(),
            volume_options: Some(Default::default()),
            ..Default::default()
        };
        assert!(with_mount(41, stray.clone()).unwrap().volume_options.is_none());
        assert!(with_mount(42, stray).unwrap().volume_options.is_some());
        let subpath = corten_api::types::container::VolumeOptions {
            subpath: "a".to_owned(),
            ..Default::default()
        };
        let subpath = Mount {
            kind: "volume".to_owned(),
            volume_options: Some(subpath),
            ..Default::default()
        };
        assert!(with_mount(44, subpath.clone()).is_err() && with_mount(45, subpath).is_ok());
        let image = Mount {
            kind: "image".to_owned(),
            ..Default::default()
        };
        assert!(with_mount(47, image.clone()).is_err() && with_mount(48, image).is_ok());
    }

    #[test]
    fn before_44_a_container_has_one_network() {
        let two = |request: &mut CreateRequest| {
            let endpoints = ["a", "b"].map(|name| (name.to_owned(), None));
            request.networking_config.endpoints_config = endpoints.into();
        };
        let message = created(43, two).unwrap_err();
        assert_eq!(
            message.message(),
            "Container cannot be created with multiple network endpoints: a, b"
        );
        assert!(created(44, two).is_ok());
    }

    #[test]
    fn not_set_has_many_spellings() {
        let host = created(51, |request| {
            request.host_config.memory_swappiness = Some(-1);
            request.host_config.pids_limit = Some(0);
        });
        let host = host.unwrap().host_config;
        assert_eq!((host.memory_swappiness, host.pids_limit), (None, None));
    }
}

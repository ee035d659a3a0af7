//! A container as the Engine API shows it: the summary of a list, the document of an inspection.
//!
//! dockerd writes its defaults into a container when it makes it, and clients read them back; here the record keeps what
//! was asked for, and the defaults are filled in on the way out.
use std::collections::BTreeMap;

use corten_api::types::{
    container::HostConfig,
    container_answers::{
        ContainerInspect, ContainerState, ContainerSummary, GraphDriver, HostConfigSummary, MountPoint, NetworkSummary,
    },
};
use corten_engine::container::{
    health::{Health, Probe, Status},
    record::{self, Record},
    state::{Phase, State},
    view::ContainerView,
};
use corten_engine::task::{
    mounts::DEFAULT_SHM_BYTES,
    spec::{MASKED, READ_ONLY},
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::docker::convert::{
    container_network::{self, Networks},
    time::{human_duration, rfc3339},
};

/// What a document says about the host that no record knows.
#[derive(Debug, Clone, Default)]
pub struct Host {
    pub cgroup_version_2: bool,
    /// Log driver and options of containers that do not name any.
    pub log_driver: String,
    pub log_options: BTreeMap<String, String>,
    /// What "default" means for a container: `bridge`, or `none` where the operator wants no bridge.
    pub default_network: String,
}

/// An entry of `GET /containers/json`.
pub fn summary(view: &ContainerView, networks: &Networks, now: Timestamp) -> ContainerSummary {
    let record = &*view.record;
    ContainerSummary {
        id: record.id.clone(),
        names: vec![format!("/{}", record.name)],
        image: view.image_name.clone(),
        image_id: record.image_id.clone(),
        command: command(record),
        created: record.created.as_second(),
        ports: container_network::ports(view),
        size_rw: view.size_rw,
        size_root_fs: view.size_root_fs,
        labels: record.config.labels.clone(),
        state: view.state.phase.status().to_owned(),
        status: status(&view.state, now),
        host_config: HostConfigSummary {
            network_mode: container_network::mode(&record.host_config.network_mode).to_owned(),
            annotations: record.host_config.annotations.clone().filter(|set| !set.is_empty()),
        },
        network_settings: NetworkSummary {
            networks: container_network::endpoints(view, networks),
        },
        mounts: mounts(record),
    }
}

/// `GET /containers/{name}/json`.
pub fn inspect(view: &ContainerView, host: &Host, networks: &Networks) -> ContainerInspect {
    let record = &*view.record;
    let argv = record.argv();
    let mut config = record.config.clone();
    config.network_disabled = false;
    config.mac_address = container_network::asked_mac(view);
    ContainerInspect {
        id: record.id.clone(),
        created: rfc3339(Some(record.created)),
        path: argv.first().cloned().unwrap_or_default(),
        args: argv.get(1..).unwrap_or_default().to_vec(),
        state: state(&view.state),
        image: record.image_id.clone(),
        resolv_conf_path: view.places.resolv_conf_path.clone(),
        hostname_path: view.places.hostname_path.clone(),
        hosts_path: view.places.hosts_path.clone(),
        log_path: view.places.log_path.clone().unwrap_or_default(),
        name: format!("/{}", record.name),
        restart_count: view.state.restart_count.into(),
        driver: view.places.storage_driver.clone(),
        platform: record.platform.split('/').next().unwrap_or_default().to_owned(),
        mount_label: String::new(),
        process_label: String::new(),
        apparmor_profile: String::new(),
        exec_ids: Some(view.places.execs.clone()).filter(|ids| !ids.is_empty()),
        host_config: host_config(&record.host_config, host),
        graph_driver: GraphDriver {
            data: Some(view.places.storage_data.clone()),
            name: view.places.storage_driver.clone(),
        },
        size_rw: view.size_rw,
        size_root_fs: view.size_root_fs,
        mounts: mounts(record),
        config,
        network_settings: container_network::settings(view, networks),
    }
}

fn state(state: &State) -> ContainerState {
    ContainerState {
        status: state.phase.status().to_owned(),
        running: state.phase.is_up(),
        paused: state.phase == Phase::Paused,
        restarting: state.phase == Phase::Restarting,
        oom_killed: state.oom_killed,
        dead: state.phase == Phase::Dead,
        pid: state.pid,
        exit_code: state.exit_code,
        error: state.error.clone(),
        started_at: rfc3339(state.started_at),
        finished_at: rfc3339(state.finished_at),
        health: state.health.as_ref().map(health),
    }
}

fn health(health: &Health) -> Value {
    let entry = |probe: &Probe| {
        json!({
            "Start": rfc3339(Some(probe.start)),
            "End": rfc3339(Some(probe.end)),
            "ExitCode": probe.exit_code,
            "Output": probe.output,
        })
    };
    json!({
        "Status": health.status.name(),
        "FailingStreak": health.failing_streak,
        "Log": health.log.iter().map(entry).collect::<Vec<_>>(),
    })
}

/// The sentence that `ps` prints.
pub fn status(state: &State, now: Timestamp) -> String {
    let since = |time: Option<Timestamp>| time.map(|time| human_duration(time, now));
    match state.phase {
        Phase::Created | Phase::Starting => "Created".to_owned(),
        Phase::Running => {
            let health = match state.health.as_ref().map(|health| health.status) {
                None => String::new(),
                Some(Status::Starting) => " (health: starting)".to_owned(),
                Some(status) => format!(" ({})", status.name()),
            };
            format!("Up {}{health}", since(state.started_at).unwrap_or_default())
        }
        Phase::Paused => format!("Up {} (Paused)", since(state.started_at).unwrap_or_default()),
        Phase::Removing => "Removal In Progress".to_owned(),
        Phase::Dead => "Dead".to_owned(),
        Phase::Restarting => format!(
            "Restarting ({}) {} ago",
            state.exit_code,
            since(state.finished_at).unwrap_or_default()
        ),
        Phase::Exited => match since(state.finished_at) {
            Some(ago) => format!("Exited ({}) {ago} ago", state.exit_code),
            None => "Created".to_owned(),
        },
    }
}

/// The command line as one text; words that a shell would split are quoted.
fn command(record: &Record) -> String {
    let argv = record.argv();
    let Some((program, arguments)) = argv.split_first() else {
        return String::new();
    };
    let quoted = |word: &String| match word.contains(' ') {
        true => format!("'{word}'"),
        false => word.clone(),
    };
    let words = std::iter::once(program.clone()).chain(arguments.iter().map(quoted));
    words.collect::<Vec<_>>().join(" ")
}

fn mounts(record: &Record) -> Vec<MountPoint> {
    // A tmpfs of `--tmpfs` is not a mount in Docker's sense; one of `--mount` is.
    let plain_tmpfs = |mount: &&record::MountPoint| {
        let listed = record
            .host_config
            .tmpfs
            .as_ref()
            .is_some_and(|set| set.contains_key(&mount.destination));
        mount.kind == "tmpfs" && listed
    };
    let shown = record.mounts.iter().filter(|mount| !plain_tmpfs(mount));
    shown
        .map(|mount| MountPoint {
            kind: mount.kind.clone(),
            name: mount.name.clone(),
            source: mount.source.clone(),
            destination: mount.destination.clone(),
            driver: mount.driver.clone(),
            mode: mount.mode.clone(),
            writable: mount.writable,
            propagation: if mount.kind == "bind" {
                mount.propagation.clone()
            } else {
                String::new()
            },
        })
        .collect()
}

/// What was asked for, with the defaults that dockerd would have written in.
fn host_config(asked: &HostConfig, host: &Host) -> HostConfig {
    let mut shown = asked.clone();
    let fill = |text: &mut String, default: &str| {
        if text.is_empty() {
            default.clone_into(text);
        }
    };
    shown.network_mode = container_network::mode(&asked.network_mode).to_owned();
    if shown.log_config.driver.is_empty() {
        shown.log_config.driver.clone_from(&host.log_driver);
        if shown.log_config.config.is_empty() {
            shown.log_config.config.clone_from(&host.log_options);
        }
    }
    fill(&mut shown.restart_policy.name, "no");
    fill(&mut shown.ipc_mode, "private");
    fill(
        &mut shown.cgroupns_mode,
        if host.cgroup_version_2 && !asked.privileged {
            "private"
        } else {
            "host"
        },
    );
    if shown.shm_size == 0 {
        shown.shm_size = DEFAULT_SHM_BYTES;
    }
    shown.runtime.get_or_insert_with(|| "corten".to_owned());
    shown.port_bindings.get_or_insert_default();
    shown.blkio_weight_device.get_or_insert_default();
    if !host.cgroup_version_2 {
        shown.oom_kill_disable.get_or_insert(false);
    }
    if shown.memory > 0 && shown.memory_swap == 0 {
        shown.memory_swap = shown.memory * 2;
    }
    if !asked.privileged {
        let default = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
        shown.masked_paths.get_or_insert_with(|| default(&MASKED));
        shown.readonly_paths.get_or_insert_with(|| default(&READ_ONLY));
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use corten_api::types::container::{ContainerConfig, NetworkingConfig};

    use super::*;

    fn host() -> Host {
        Host {
            cgroup_version_2: true,
            log_driver: "json-file".to_owned(),
            log_options: BTreeMap::new(),
            default_network: "bridge".to_owned(),
        }
    }

    fn view(phase: Phase) -> ContainerView {
        let words = |words: &[&str]| Some(words.iter().map(|word| word.to_string()).collect());
        let record = Record {
            id: "ab".repeat(32),
            name: "web".to_owned(),
            created: Timestamp::from_second(1_700_000_000).unwrap(),
            image_id: "sha256:00".to_owned(),
            platform: "linux".to_owned(),
            config: ContainerConfig {
                entrypoint: words(&["/bin/sh", "-c"]),
                cmd: words(&["echo a b"]),
                ..ContainerConfig::default()
            },
            host_config: HostConfig {
                network_mode: "none".to_owned(),
                ..HostConfig::default()
            },
            networking: NetworkingConfig::default(),
            mounts: Vec::new(),
            layers: Vec::new(),
            annotations: BTreeMap::new(),
            links: Vec::new(),
        };
        ContainerView {
            record: Arc::new(record),
            state: Arc::new(State {
                phase,
                started_at: Timestamp::from_second(1_700_000_000).ok(),
                finished_at: matches!(phase, Phase::Exited | Phase::Restarting)
                    .then(|| Timestamp::from_second(1_700_000_060).unwrap()),
                ..State::default()
            }),
            image_name: "busybox:latest".to_owned(),
            places: Default::default(),
            size_rw: None,
            size_root_fs: None,
        }
    }

    #[test]
    fn status_reads_as_dockers() {
        let now = Timestamp::from_second(1_700_000_063).unwrap();
        let expected = [
            (Phase::Created, "Created"),
            (Phase::Running, "Up About a minute"),
            (Phase::Paused, "Up About a minute (Paused)"),
            (Phase::Exited, "Exited (0) 3 seconds ago"),
            (Phase::Removing, "Removal In Progress"),
            (Phase::Dead, "Dead"),
            (Phase::Restarting, "Restarting (0) 3 seconds ago"),
        ];
        for (phase, text) in expected {
            assert_eq!(status(&view(phase).state, now), text);
        }
    }

    #[test]
    fn a_summary_quotes_words_with_spaces() {
        let summary = summary(&view(Phase::Running), &Networks::default(), Timestamp::now());
        assert_eq!(summary.command, "/bin/sh -c 'echo a b'");
        assert_eq!(summary.names, ["/web"]);
        assert!(summary.network_settings.networks.contains_key("none"));
    }

    #[test]
    fn an_inspection_has_dockerds_defaults() {
        let document = inspect(&view(Phase::Created), &host(), &Networks::default());
        assert_eq!(document.path, "/bin/sh");
        assert_eq!(document.args, ["-c", "echo a b"]);
        assert_eq!(document.state.finished_at, "0001-01-01T00:00:00Z");
        let host_config = document.host_config;
        assert_eq!(host_config.shm_size, 67_108_864);
        assert_eq!(host_config.log_config.driver, "json-file");
        assert_eq!(host_config.ipc_mode, "private");
        assert_eq!(host_config.cgroupns_mode, "private");
        assert_eq!(host_config.restart_policy.name, "no");
        assert_eq!(host_config.masked_paths.unwrap().len(), MASKED.len());
    }

    #[test]
    fn privileged_containers_see_everything() {
        let mut view = view(Phase::Created);
        Arc::get_mut(&mut view.record).unwrap().host_config.privileged = true;
        let host_config = inspect(&view, &host(), &Networks::default()).host_config;
        assert_eq!((host_config.masked_paths, host_config.readonly_paths), (None, None));
    }

    #[test]
    fn every_member_that_dockerd_prints_is_printed() {
        let value = serde_json::to_value(inspect(&view(Phase::Running), &host(), &Networks::default())).unwrap();
        for member in [
            "ExecIDs",
            "AppArmorProfile",
            "MountLabel",
            "GraphDriver",
            "Mounts",
            "NetworkSettings",
        ] {
            assert!(value.get(member).is_some(), "{member}");
        }
        for member in [
            "Binds",
            "CapAdd",
            "PidsLimit",
            "Ulimits",
            "MaskedPaths",
            "UTSMode",
            "CgroupnsMode",
        ] {
            assert!(value["HostConfig"].get(member).is_some(), "{member}");
        }
        assert!(value["NetworkSettings"]["Ports"].is_object());
        assert!(value["State"]["OOMKilled"].is_boolean());
    }
}

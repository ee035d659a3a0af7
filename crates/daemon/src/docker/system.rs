//! The engine about itself: `_ping`, `version`, `info`, `system/df`, `auth`.
use std::{collections::BTreeMap, path::Path};

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use corten_api::types::{
    container_answers::ContainerSummary,
    image::ImageSummary,
    system::{
        AddressPool, ComponentVersion, DiscoveredDevice, DiskUsage, FirewallBackend, IndexConfig, Info, Platform,
        PluginsInfo, RegistryConfig, Runtime, SwarmInfo, Version, headers,
    },
};
use corten_engine::{container::view::ListOptions, log::options, system::SystemView};
use corten_network::config::Config;
use http::{HeaderName, HeaderValue, Method, header};
use jiff::Timestamp;

use crate::{
    docker::{
        convert::{container, image},
        door::{Door, ok},
        query::Parameters,
        version::{ApiVersion, NEWEST, OLDEST, v},
        versions, volumes,
    },
    error::ApiError,
};

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `GET` and `HEAD /_ping`. The CLI begins everything with it.
pub async fn ping(method: Method) -> Response {
    let text = |value: &'static str| HeaderValue::from_static(value);
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        Body::from("OK")
    };
    let length = if method == Method::HEAD { "0" } else { "2" };
    let answers = [
        (header::CACHE_CONTROL, text("no-cache, no-store, must-revalidate")),
        (header::PRAGMA, text("no-cache")),
        (header::CONTENT_TYPE, text("text/plain; charset=utf-8")),
        (header::CONTENT_LENGTH, text(length)),
        // The classic builder: with "2", clients would look for BuildKit's service, which is not there yet.
        (HeaderName::from_static("builder-version"), text("1")),
        (HeaderName::from_static("swarm"), text("inactive")),
    ];
    debug_assert!(headers::BUILDER_VERSION.eq_ignore_ascii_case("builder-version"));
    (answers, body).into_response()
}

/// `GET /version`.
pub async fn version(State(door): State<Door>) -> Result<Response, ApiError> {
    let system = door.engine().info().await?;
    let facts = [
        ("ApiVersion", NEWEST.to_string()),
        ("Arch", go_architecture(&system.architecture).to_owned()),
        ("Experimental", "false".to_owned()),
        ("KernelVersion", system.kernel_version.clone()),
        ("MinAPIVersion", OLDEST.to_string()),
        ("Os", "linux".to_owned()),
    ];
    let details: BTreeMap<_, _> = facts
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    Ok(ok(&Version {
        platform: Platform {
            name: "Corten".to_owned(),
        },
        components: vec![ComponentVersion {
            name: "Engine".to_owned(),
            version: VERSION.to_owned(),
            details,
        }],
        version: VERSION.to_owned(),
        api_version: NEWEST.to_string(),
        min_api_version: OLDEST.to_string(),
        os: "linux".to_owned(),
        arch: go_architecture(&system.architecture).to_owned(),
        kernel_version: system.kernel_version,
        ..Version::default()
    }))
}

/// Go's names of processors, which are also those of images.
pub fn go_architecture(kernel: &str) -> &str {
    match kernel {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn own_runtime() -> Runtime {
    Runtime {
        path: "corten".to_owned(),
        status: None,
    }
}

/// `GET /info`.
pub async fn info(State(door): State<Door>, version: ApiVersion) -> Result<Response, ApiError> {
    let system = door.engine().info().await?;
    let networks = &door.engine().config().network.controller;
    let mut info = describe(system, networks);
    if !door.warnings().is_empty() {
        let warnings = info.warnings.get_or_insert_default();
        warnings.splice(0..0, door.warnings().iter().cloned());
    }
    let proxies = &door.engine().config().proxies;
    for (chosen, shown) in [
        (&proxies.http, &mut info.http_proxy),
        (&proxies.https, &mut info.https_proxy),
        (&proxies.none, &mut info.no_proxy),
    ] {
        if !chosen.is_empty() {
            chosen.clone_into(shown);
        }
        *shown = without_credentials(shown);
    }
    Ok(match version < v(50) {
        true => ok(&versions::info(version, info)),
        false => ok(&info),
    })
}

fn describe(system: SystemView, networks: &Config) -> Info {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let limits = system.limits;
    Info {
        id: system.id,
        containers: count(system.containers),
        containers_running: count(system.containers_running),
        containers_paused: count(system.containers_paused),
        containers_stopped: count(system.containers_stopped),
        images: count(system.images),
        driver: system.storage_driver,
        driver_status: system
            .storage_status
            .into_iter()
            .map(|(name, value)| [name, value])
            .collect(),
        plugins: PluginsInfo {
            volume: words(&["local"]),
            network: network_drivers(),
            authorization: None,
            log: words(&options::DRIVERS),
        },
        memory_limit: limits.memory,
        swap_limit: limits.swap,
        cpu_cfs_period: limits.cpu_quota,
        cpu_cfs_quota: limits.cpu_quota,
        cpu_shares: limits.cpu_shares,
        cpu_set: limits.cpuset,
        pids_limit: limits.pids,
        ipv4_forwarding: system.ipv4_forwarding,
        debug: system.debug,
        n_fd: count(system.open_files),
        oom_kill_disable: limits.oom_kill_disable,
        n_goroutines: count(system.tasks),
        system_time: system.system_time.to_string(),
        logging_driver: system.log_driver,
        cgroup_driver: system.cgroup_driver,
        cgroup_version: system.cgroup_version,
        n_events_listener: count(system.event_listeners),
        kernel_version: system.kernel_version,
        operating_system: system.operating_system,
        os_version: system.os_version,
        os_type: "linux".to_owned(),
        architecture: system.architecture,
        index_server_address: "https://index.docker.io/v1/".to_owned(),
        registry_config: Some(registries(system.insecure_registries, system.registry_mirrors)),
        n_cpu: count(system.cpus),
        mem_total: i64::try_from(system.memory).unwrap_or(i64::MAX),
        generic_resources: None,
        docker_root_dir: system.data_root,
        http_proxy: environment("HTTP_PROXY"),
        https_proxy: environment("HTTPS_PROXY"),
        no_proxy: environment("NO_PROXY"),
        name: system.name,
        labels: system.labels,
        experimental_build: false,
        server_version: VERSION.to_owned(),
        // The second name is the one that clients and configurations written for Docker know.
        runtimes: ["corten", "runc"].map(|name| (name.to_owned(), own_runtime())).into(),
        default_runtime: "corten".to_owned(),
        swarm: SwarmInfo {
            local_node_state: "inactive".to_owned(),
            ..SwarmInfo::default()
        },
        live_restore_enabled: system.live_restore,
        init_binary: "docker-init".to_owned(),
        security_options: system.security_options,
        default_address_pools: address_pools(networks),
        firewall_backend: (!networks.firewall.is_off()).then(|| FirewallBackend {
            driver: "nftables".to_owned(),
            info: Some(vec![["FlowTable".to_owned(), system.flow_table]]),
        }),
        cdi_spec_dirs: system.cdi_spec_dirs,
        discovered_devices: discovered(system.cdi_devices),
        warnings: Some(system.warnings).filter(|list| !list.is_empty()),
        ..Info::default()
    }
}

fn discovered(devices: Vec<String>) -> Option<Vec<DiscoveredDevice>> {
    let devices = devices.into_iter().map(|id| DiscoveredDevice {
        source: "cdi".to_owned(),
        id,
    });
    Some(devices.collect::<Vec<_>>()).filter(|list| !list.is_empty())
}

/// All that a network can be made with on this host, by name.
fn network_drivers() -> Vec<String> {
    let mut drivers = vec!["bridge", "host", "macvlan", "null"];
    if has_module("ipvlan") {
        drivers.insert(2, "ipvlan");
    }
    drivers.into_iter().map(str::to_owned).collect()
}

/// Is it in the kernel now, built into it, or a module that the kernel would load?
fn has_module(name: &str) -> bool {
    if Path::new("/sys/module").join(name).exists() {
        return true;
    }
    let modules = Path::new("/lib/modules").join(rustix::system::uname().release().to_string_lossy().as_ref());
    let listed = |file: &str| {
        let text = std::fs::read_to_string(modules.join(file)).unwrap_or_default();
        let paths = text.lines().filter_map(|line| line.split([':', ' ']).next());
        paths.filter_map(|path| path.rsplit('/').next()).any(|file| {
            let stem = file.split('.').next().unwrap_or_default();
            stem == name
        })
    };
    listed("modules.builtin") || listed("modules.dep")
}

/// Only pools that the operator chose.
fn address_pools(networks: &Config) -> Option<Vec<AddressPool>> {
    let pools = networks.address_pools.iter().map(|(base, size)| AddressPool {
        base: base.to_string(),
        size: *size,
    });
    Some(pools.collect()).filter(|pools: &Vec<_>| !pools.is_empty())
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn environment(name: &str) -> String {
    std::env::var(name)
        .or_else(|_| std::env::var(name.to_ascii_lowercase()))
        .unwrap_or_default()
}

/// A URL whose user and password are not for everybody's eyes.
fn without_credentials(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => match rest.split_once('@') {
            Some((_, host)) => format!("{scheme}://xxxxx:xxxxx@{host}"),
            None => url.to_owned(),
        },
        None => url.to_owned(),
    }
}

fn registries(insecure: Vec<String>, mirrors: Vec<String>) -> RegistryConfig {
    let hub = IndexConfig {
        name: "docker.io".to_owned(),
        mirrors: mirrors.clone(),
        secure: true,
        official: true,
    };
    let mut index_configs = BTreeMap::from([(hub.name.clone(), hub)]);
    let (networks, hosts): (Vec<_>, Vec<_>) = insecure.into_iter().partition(|entry| entry.contains('/'));
    for name in hosts {
        index_configs.insert(
            name.clone(),
            IndexConfig {
                name,
                ..IndexConfig::default()
            },
        );
    }
    let insecure_registry_cidrs = networks
        .into_iter()
        .chain(["::1/128".to_owned(), "127.0.0.0/8".to_owned()])
        .collect();
    RegistryConfig {
        insecure_registry_cidrs,
        index_configs,
        mirrors,
    }
}

/// `GET /system/df`.
pub async fn disk_usage(
    State(door): State<Door>,
    version: ApiVersion,
    query: Parameters,
) -> Result<Response, ApiError> {
    let asked = if version < v(42) { Vec::new() } else { query.all("type") };
    const KNOWN: [&str; 4] = ["container", "image", "volume", "build-cache"];
    if let Some(unknown) = asked.iter().find(|kind| !KNOWN.contains(&kind.as_str())) {
        return Err(ApiError::invalid(format!("unknown object type: {unknown}")));
    }
    let wanted = |kind: &str| asked.is_empty() || asked.iter().any(|known| known == kind);
    let mut usage = DiskUsage::default();
    if wanted("image") {
        (usage.images, usage.layers_size) = images(&door, version).await?;
    }
    if wanted("container") {
        usage.containers = containers(&door, version).await?;
    }
    if wanted("volume") {
        usage.volumes = volumes::measured(&door).await?;
    }
    Ok(ok(&usage))
}

/// All images, and the bytes of their layers, each counted once.
async fn images(door: &Door, version: ApiVersion) -> Result<(Vec<ImageSummary>, i64), ApiError> {
    let views = door.engine().images().list(false, &BTreeMap::new()).await?;
    let containers = door
        .engine()
        .containers()
        .list(ListOptions {
            all: true,
            ..ListOptions::default()
        })
        .await?;
    let shares = image::Shares::of(&views);
    let documents = views.iter().map(|view| {
        let mut summary = image::summary(view, &containers);
        summary.shared_size = shares.shared(view);
        let containers = summary.containers.max(0);
        versions::image_summary(version, &mut summary);
        // Disk usage counts users at every version, unlike the list of images.
        summary.containers = containers;
        summary
    });
    Ok((documents.collect(), shares.total()))
}

async fn containers(door: &Door, version: ApiVersion) -> Result<Vec<ContainerSummary>, ApiError> {
    let options = ListOptions {
        all: true,
        size: true,
        ..ListOptions::default()
    };
    let views = door.engine().containers().list(options).await?;
    let (networks, now) = (door.networks(), Timestamp::now());
    let documents = views.iter().map(|view| {
        let mut summary = container::summary(view, &networks, now);
        versions::container_summary(version, &mut summary);
        summary
    });
    Ok(documents.collect())
}

/// `POST /auth`.
pub async fn auth() -> ApiError {
    ApiError::not_implemented("logging in to registries")
}

//! From flags to the body of `POST /containers/create`.
use std::collections::BTreeMap;

use corten_api::types::container::{
    BindOptions, ContainerConfig, CreateRequest, DeviceRequest, Empty, HealthConfig, HostConfig, LogConfig, Mount,
    NetworkingConfig, RestartPolicy,
};

use crate::arguments::Matches;
use crate::flags::devices::{self, Device};
use crate::flags::mounts::{self, Volume};
use crate::flags::{environment, limits, network, ports, security};
use crate::units;

/// Builds the request. The first argument is the image, the rest is the command.
pub fn create(matches: &Matches) -> Result<CreateRequest, String> {
    check_modes(matches)?;
    let volumes = matches
        .list("volume")
        .map(mounts::parse_volume)
        .collect::<Result<Vec<Volume>, String>>()?;
    let (exposed, bindings) = ports::parse(matches.list("publish"), matches.list("expose"))?;
    let (network_mode, endpoints_config) = network::endpoints(matches)?;
    let mut host_config = host_config(matches)?;
    host_config.network_mode = network_mode;
    host_config.port_bindings = Some(bindings);
    host_config.binds = some(volumes.iter().filter_map(|volume| match volume {
        Volume::Bind(bind) => Some(bind.clone()),
        Volume::Anonymous(_) => None,
    }));
    let mut config = config(matches)?;
    config.exposed_ports = (!exposed.is_empty()).then_some(exposed);
    config.volumes = Some(
        volumes
            .into_iter()
            .filter_map(|volume| match volume {
                Volume::Anonymous(path) => Some((path, Empty {})),
                Volume::Bind(_) => None,
            })
            .collect(),
    );
    Ok(CreateRequest {
        config,
        host_config,
        networking_config: NetworkingConfig { endpoints_config },
    })
}

/// A list, or nothing where it is empty: Go's nil slice.
fn some<T>(items: impl Iterator<Item = T>) -> Option<Vec<T>> {
    let items: Vec<T> = items.collect();
    (!items.is_empty()).then_some(items)
}

fn config(matches: &Matches) -> Result<ContainerConfig, String> {
    let image = matches.argument(0);
    if image.is_empty() {
        return Err("invalid reference format".to_string());
    }
    let attached = |stream: &str| matches.list("attach").any(|name| name.eq_ignore_ascii_case(stream));
    let by_default = !matches.given("attach");
    let interactive = matches.on("interactive");
    let environment = environment::environment(matches.list("env-file"), matches.list("env"))?;
    let config = ContainerConfig {
        hostname: matches.owned("hostname"),
        domainname: matches.owned("domainname"),
        user: matches.owned("user"),
        attach_stdin: attached("stdin") || interactive,
        attach_stdout: attached("stdout") || by_default,
        attach_stderr: attached("stderr") || by_default,
        tty: matches.on("tty"),
        open_stdin: interactive,
        stdin_once: interactive,
        env: environment,
        cmd: some(matches.arguments[1..].iter().cloned()),
        healthcheck: health(matches)?,
        image: image.to_string(),
        working_dir: matches.owned("workdir"),
        // An empty entry point is sent as one empty word: it takes the image's away.
        entrypoint: matches.text("entrypoint").map(|word| vec![word.to_string()]),
        labels: environment::labels(matches.list("label-file"), matches.list("label"))?,
        stop_signal: matches.some("stop-signal").map(str::to_string),
        stop_timeout_seconds: matches.number("stop-timeout"),
        ..ContainerConfig::default()
    };
    Ok(config)
}

/// The same without anything attached, for a container that runs in the background.
pub fn detach(request: &mut CreateRequest) {
    let config = &mut request.config;
    config.attach_stdin = false;
    config.attach_stdout = false;
    config.attach_stderr = false;
    config.stdin_once = false;
}

fn host_config(matches: &Matches) -> Result<HostConfig, String> {
    let mut paths = Vec::new();
    let mut requests = matches
        .list("gpus")
        .map(devices::parse_gpus)
        .collect::<Result<Vec<_>, String>>()?;
    for text in matches.list("device") {
        match devices::parse_device(text)? {
            Device::Path(mapping) => paths.push(mapping),
            Device::Interface(name) => requests.push(DeviceRequest {
                driver: "cdi".to_string(),
                device_ids: Some(vec![name]),
                ..DeviceRequest::default()
            }),
        }
    }
    let security = security::parse(matches.list("security-opt"))?;
    let hidden = security.bare_system_paths.then(Vec::new);
    let mut config = HostConfig {
        container_id_file: matches.owned("cidfile"),
        log_config: log_config(matches)?,
        restart_policy: restart_policy(matches)?,
        auto_remove: matches.on("rm"),
        volume_driver: matches.owned("volume-driver"),
        volumes_from: some(matches.texts("volumes-from").into_iter()),
        annotations: some_map(environment::map(matches.list("annotation"))),
        cap_add: some(security::capabilities(matches.list("cap-add")).into_iter()),
        cap_drop: some(security::capabilities(matches.list("cap-drop")).into_iter()),
        cgroupns_mode: matches.owned("cgroupns"),
        dns: Some(matches.list("dns").map(|address| address.trim().to_string()).collect()),
        dns_options: Some(matches.texts("dns-option")),
        dns_search: Some(
            matches
                .list("dns-search")
                .map(network::parse_search_domain)
                .collect::<Result<_, String>>()?,
        ),
        extra_hosts: some(
            matches
                .list("add-host")
                .map(network::parse_host)
                .collect::<Result<Vec<_>, String>>()?
                .into_iter(),
        ),
        group_add: some(matches.texts("group-add").into_iter()),
        ipc_mode: matches.owned("ipc"),
        links: some(matches.texts("link").into_iter()),
        oom_score_adj: matches.number("oom-score-adj").unwrap_or(0) as i32,
        pid_mode: matches.owned("pid"),
        privileged: matches.on("privileged"),
        publish_all_ports: matches.on("publish-all"),
        readonly_rootfs: matches.on("read-only"),
        security_opt: some(security.options.into_iter()),
        storage_opt: storage_options(matches)?,
        tmpfs: some_map(tmpfs(matches)),
        uts_mode: matches.owned("uts"),
        userns_mode: matches.owned("userns"),
        sysctls: some_map(environment::map(matches.list("sysctl"))),
        runtime: matches.some("runtime").map(str::to_string),
        isolation: matches.owned("isolation"),
        cgroup_parent: matches.owned("cgroup-parent"),
        devices: Some(paths),
        device_cgroup_rules: some(matches.texts("device-cgroup-rule").into_iter()),
        device_requests: some(requests.into_iter()),
        mounts: some(
            matches
                .list("mount")
                .map(mounts::parse_mount)
                .collect::<Result<Vec<_>, String>>()?
                .into_iter(),
        ),
        masked_paths: hidden.clone(),
        readonly_paths: hidden,
        init: matches.given("init").then(|| matches.on("init")),
        ..HostConfig::default()
    };
    resources(matches, &mut config)?;
    Ok(config)
}

fn resources(matches: &Matches, config: &mut HostConfig) -> Result<(), String> {
    let size = |name: &str| matches.some(name).map_or(Ok(0), units::parse_bytes);
    let number = |name: &str| matches.number(name).unwrap_or(0);
    let swappiness = matches.number("memory-swappiness").unwrap_or(-1);
    if !(-1..=100).contains(&swappiness) {
        return Err(format!(
            "invalid value: {swappiness}. Valid memory swappiness range is 0-100"
        ));
    }
    config.memory = size("memory")?;
    config.memory_reservation = size("memory-reservation")?;
    config.memory_swap = matches.some("memory-swap").map_or(Ok(0), limits::parse_swap)?;
    config.memory_swappiness = Some(swappiness);
    config.shm_size = size("shm-size")?;
    config.nano_cpus = matches.some("cpus").map_or(Ok(0), limits::parse_cpus)?;
    config.cpu_shares = number("cpu-shares");
    config.cpu_period = number("cpu-period");
    config.cpu_quota = number("cpu-quota");
    config.cpu_realtime_period = number("cpu-rt-period");
    config.cpu_realtime_runtime = number("cpu-rt-runtime");
    config.cpuset_cpus = matches.owned("cpuset-cpus");
    config.cpuset_mems = matches.owned("cpuset-mems");
    config.cpu_count = number("cpu-count");
    config.cpu_percent = number("cpu-percent");
    config.io_maximum_iops = number("io-maxiops") as u64;
    config.io_maximum_bandwidth = size("io-maxbandwidth")? as u64;
    config.blkio_weight = number("blkio-weight") as u16;
    let weights = matches.list("blkio-weight-device").map(limits::parse_weight);
    config.blkio_weight_device = Some(weights.collect::<Result<_, String>>()?);
    let byte_rates = |name| {
        matches
            .list(name)
            .map(limits::parse_byte_rate)
            .collect::<Result<Vec<_>, String>>()
    };
    let rates = |name| {
        matches
            .list(name)
            .map(limits::parse_operation_rate)
            .collect::<Result<Vec<_>, String>>()
    };
    config.blkio_device_read_bps = Some(byte_rates("device-read-bps")?);
    config.blkio_device_write_bps = Some(byte_rates("device-write-bps")?);
    config.blkio_device_read_iops = Some(rates("device-read-iops")?);
    config.blkio_device_write_iops = Some(rates("device-write-iops")?);
    config.hugepage_limits = limits::hugepages(matches)?;
    config.oom_kill_disable = Some(matches.on("oom-kill-disable"));
    config.pids_limit = Some(number("pids-limit"));
    let mut ulimits = BTreeMap::new();
    for text in matches.list("ulimit") {
        let limit = limits::parse_ulimit(text)?;
        ulimits.insert(limit.name.clone(), limit);
    }
    config.ulimits = Some(ulimits.into_values().collect());
    Ok(())
}

fn some_map<V>(map: BTreeMap<String, V>) -> Option<BTreeMap<String, V>> {
    (!map.is_empty()).then_some(map)
}

fn tmpfs(matches: &Matches) -> BTreeMap<String, String> {
    let pairs = matches
        .list("tmpfs")
        .map(|text| text.split_once(':').unwrap_or((text, "")));
    pairs
        .map(|(path, options)| (path.to_string(), options.to_string()))
        .collect()
}

fn storage_options(matches: &Matches) -> Result<Option<BTreeMap<String, String>>, String> {
    if matches.list("storage-opt").any(|text| !text.contains('=')) {
        return Err("invalid storage option".to_string());
    }
    Ok(some_map(environment::map(matches.list("storage-opt"))))
}

fn log_config(matches: &Matches) -> Result<LogConfig, String> {
    let driver = matches.owned("log-driver");
    let config = environment::map(matches.list("log-opt"));
    if driver == "none" && !config.is_empty() {
        return Err(format!("invalid logging opts for driver {driver}"));
    }
    Ok(LogConfig { driver, config })
}

fn restart_policy(matches: &Matches) -> Result<RestartPolicy, String> {
    let policy = parse_restart_policy(matches.some("restart").unwrap_or("no"))?;
    if matches.on("rm") && policy.name != "no" {
        return Err("conflicting options: cannot specify both --restart and --rm".to_string());
    }
    Ok(policy)
}

/// `on-failure:5`.
pub fn parse_restart_policy(text: &str) -> Result<RestartPolicy, String> {
    let (name, count) = text.split_once(':').unwrap_or((text, ""));
    let maximum_retry_count = match count {
        "" => 0,
        count => count
            .parse()
            .map_err(|_| "invalid restart policy format: maximum retry count must be an integer".to_string())?,
    };
    Ok(RestartPolicy {
        name: name.to_string(),
        maximum_retry_count,
    })
}

fn health(matches: &Matches) -> Result<Option<HealthConfig>, String> {
    const DURATIONS: [&str; 4] = [
        "health-interval",
        "health-timeout",
        "health-start-period",
        "health-start-interval",
    ];
    let asked = matches.some("health-cmd").is_some()
        || matches.number("health-retries").is_some_and(|count| count != 0)
        || DURATIONS.iter().any(|name| matches.given(name));
    if matches.on("no-healthcheck") {
        if asked {
            return Err("--no-healthcheck conflicts with --health-* options".to_string());
        }
        return Ok(Some(HealthConfig {
            test: Some(vec!["NONE".to_string()]),
            ..HealthConfig::default()
        }));
    }
    if !asked {
        return Ok(None);
    }
    let nanoseconds = |name: &str| match matches.text(name).map_or(Ok(0), units::parse_duration)? {
        negative if negative < 0 => Err(format!("--{name} cannot be negative")),
        nanoseconds => Ok(nanoseconds),
    };
    let retries = matches.number("health-retries").unwrap_or(0);
    if retries < 0 {
        return Err("--health-retries cannot be negative".to_string());
    }
    Ok(Some(HealthConfig {
        test: matches
            .some("health-cmd")
            .map(|command| vec!["CMD-SHELL".to_string(), command.to_string()]),
        interval: nanoseconds("health-interval")?,
        timeout: nanoseconds("health-timeout")?,
        start_period: nanoseconds("health-start-period")?,
        start_interval: nanoseconds("health-start-interval")?,
        retries,
    }))
}

/// Modes that can only be one of a few words, and flags that no Linux daemon knows.
fn check_modes(matches: &Matches) -> Result<(), String> {
    for name in ["cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops"] {
        if matches.given(name) {
            let hosts = "on a Docker daemon running on windows, but the Docker daemon is running on linux";
            return Err(format!("\"--{name}\" is only supported {hosts}"));
        }
    }
    let one_of = |name: &str, words: &[&str]| {
        let value = matches.text(name).unwrap_or_default();
        value.is_empty()
            || words
                .iter()
                .any(|word| value == *word || (word.ends_with(':') && value.starts_with(word)))
    };
    if !one_of("pid", &["host", "container:"]) {
        return Err("--pid: invalid PID mode".to_string());
    }
    if !one_of("uts", &["host"]) {
        return Err("--uts: invalid UTS mode".to_string());
    }
    if !one_of("userns", &["host"]) {
        return Err("--userns: invalid USER mode".to_string());
    }
    if !one_of("cgroupns", &["host", "private"]) {
        return Err("--cgroupns: invalid CGROUP mode".to_string());
    }
    let pull = matches.text("pull").unwrap_or("missing");
    if !["always", "missing", "never"].contains(&pull) {
        return Err(format!(
            r#"invalid pull option: '{pull}': must be one of "always", "missing" or "never""#
        ));
    }
    Ok(())
}

/// `--use-api-socket`: the daemon's own socket, where Docker's clients look for it.
pub fn mount_socket(request: &mut CreateRequest, socket: &str) {
    let mount = Mount {
        kind: "bind".to_string(),
        source: socket.to_string(),
        target: corten_api::transport::DOCKER_SOCKET.to_string(),
        bind_options: Some(BindOptions::default()),
        ..Mount::default()
    };
    request.host_config.mounts.get_or_insert_default().push(mount);
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Map, Value};

    use super::*;
    use crate::arguments;
    use crate::flags::known;

    /// What docker's client (28.2.2) sent to a listener of ours for these flags: the body without any, and what changes.
    #[derive(Deserialize)]
    struct Captured {
        base: Value,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        flags: Vec<String>,
        /// By path, with dots between names (which only names of the outermost two levels are split at).
        changes: Map<String, Value>,
    }

    fn apply(body: &mut Value, changes: &Map<String, Value>) {
        for (path, value) in changes {
            let place = match path.split_once('.') {
                Some(("HostConfig", inner)) => match inner.split_once('.') {
                    Some((outer @ ("LogConfig" | "RestartPolicy"), name)) => &mut body["HostConfig"][outer][name],
                    _ => &mut body["HostConfig"][inner],
                },
                _ => &mut body[path],
            };
            *place = value.clone();
        }
    }

    /// Go's nil and empty, and absent, where both sides mean the same; the order of binds is random in docker's client.
    fn normal(mut body: Value) -> Value {
        if body["Env"].as_array().is_some_and(Vec::is_empty) {
            body["Env"] = Value::Null;
        }
        for mount in body["HostConfig"]["Mounts"].as_array_mut().into_iter().flatten() {
            let mount = mount.as_object_mut().expect("a mount is an object");
            mount.retain(|name, value| name != "Source" || value != "");
        }
        if let Some(binds) = body["HostConfig"]["Binds"].as_array_mut() {
            binds.sort_by_key(|bind| bind.as_str().map(str::to_string));
        }
        without_nulls(body)
    }

    fn without_nulls(value: Value) -> Value {
        match value {
            Value::Object(members) => {
                let kept = members.into_iter().filter(|(_, value)| !value.is_null());
                Value::Object(kept.map(|(name, value)| (name, without_nulls(value))).collect())
            }
            Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
            other => other,
        }
    }

    #[test]
    fn the_request_is_what_dockers_client_sends() {
        let captured: Captured = serde_json::from_str(include_str!("captured.json")).unwrap();
        for case in captured.cases {
            let matches = arguments::parse(&[known::RUN_ONLY, known::CREATE], false, &case.flags).unwrap();
            let mut request = create(&matches).unwrap();
            if matches.on("detach") {
                detach(&mut request);
            }
            let mut expected = captured.base.clone();
            apply(&mut expected, &case.changes);
            let ours = serde_json::to_value(&request).unwrap();
            assert_eq!(normal(ours), normal(expected), "{:?}", case.flags);
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused_in_dockers_words() {
        let cases = [
            (
                "--restart always --rm i",
                "conflicting options: cannot specify both --restart and --rm",
            ),
            (
                "--health-cmd x --no-healthcheck i",
                "--no-healthcheck conflicts with --health-* options",
            ),
            (
                "--log-driver none --log-opt a=b i",
                "invalid logging opts for driver none",
            ),
            ("--pid foo i", "--pid: invalid PID mode"),
            ("--uts foo i", "--uts: invalid UTS mode"),
            (
                "--memory-swappiness 101 i",
                "invalid value: 101. Valid memory swappiness range is 0-100",
            ),
            (
                "--pull foo i",
                "invalid pull option: 'foo': must be one of \"always\", \"missing\" or \"never\"",
            ),
            (
                "--restart on-failure:x i",
                "invalid restart policy format: maximum retry count must be an integer",
            ),
            ("--health-interval -1s i", "--health-interval cannot be negative"),
            ("--storage-opt a i", "invalid storage option"),
            ("--network web --mac-address zz i", "zz is not a valid mac address"),
            (
                "--network bridge --network web i",
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
            ),
            (
                "--network name=web,ip=1.2.3.4 --ip 2.3.4.5 i",
                "conflicting options: cannot specify both --ip and per-network IPv4 address",
            ),
            (
                "--network name=web,alias=a --network-alias b i",
                "conflicting options: cannot specify both --network-alias and per-network alias",
            ),
            (
                "--network web --network web i",
                "network \"web\" is specified multiple times",
            ),
            (
                "--network bridge --network-alias a i",
                "network-scoped aliases are only supported for user-defined networks",
            ),
        ];
        for (line, expected) in cases {
            let words: Vec<String> = line.split(' ').map(str::to_string).collect();
            let matches = arguments::parse(&[known::RUN_ONLY, known::CREATE], false, &words).unwrap();
            assert_eq!(create(&matches).unwrap_err(), expected);
        }
    }
}

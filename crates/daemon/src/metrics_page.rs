//! `GET /metrics`: the numbers of this moment, for Prometheus. Nothing else is behind that door.
use std::{fs, sync::Arc};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use corten_engine::{engine::Engine, system::SystemView};
use http::header::CONTENT_TYPE;

use crate::{
    docker::{absent::not_found, system::VERSION},
    error::ApiError,
    metrics::{Metrics, Page},
};

pub fn router(engine: Engine, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/metrics", get(metrics_page))
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .with_state((engine, metrics))
}

async fn metrics_page(State((engine, metrics)): State<(Engine, Arc<Metrics>)>) -> Result<Response, ApiError> {
    let system = engine.info().await?;
    let mut page = Page::default();
    about_engine(&mut page, &system, &engine);
    metrics.write(&mut page);
    about_process(&mut page, &system);
    let kind = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, page.finish()).into_response())
}

fn about_engine(page: &mut Page, system: &SystemView, engine: &Engine) {
    page.family(
        "engine_daemon_engine_info",
        "gauge",
        "The information related to the engine and the OS it is running on",
    );
    page.sample(
        &[
            ("architecture", &system.architecture),
            ("commit", "corten"),
            ("daemon_id", &system.id),
            ("graphdriver", &system.storage_driver),
            ("kernel", &system.kernel_version),
            ("os", &system.operating_system),
            ("os_type", "linux"),
            ("os_version", &system.os_version),
            ("version", VERSION),
        ],
        1.0,
    );
    page.single(
        "engine_daemon_engine_cpus_cpus",
        "gauge",
        "The number of cpus that the host system of the engine has",
        system.cpus as f64,
    );
    page.single(
        "engine_daemon_engine_memory_bytes",
        "gauge",
        "The number of bytes of memory that the host system of the engine has",
        system.memory as f64,
    );
    page.family(
        "engine_daemon_container_states_containers",
        "gauge",
        "The count of containers in various states",
    );
    for (state, count) in [
        ("paused", system.containers_paused),
        ("running", system.containers_running),
        ("stopped", system.containers_stopped),
    ] {
        page.sample(&[("state", state)], count as f64);
    }
    page.family("corten_containers", "gauge", "Containers by State.Status");
    for (status, count) in engine.containers().count_by_status() {
        page.sample(&[("status", status)], count as f64);
    }
    page.single("corten_images", "gauge", "Images", system.images as f64);
    page.single(
        "engine_daemon_events_total",
        "counter",
        "The number of events logged",
        engine.events().published() as f64,
    );
    page.single(
        "engine_daemon_events_subscribers_total",
        "gauge",
        "The number of current subscribers to events",
        system.event_listeners as f64,
    );
}

fn about_process(page: &mut Page, system: &SystemView) {
    page.single(
        "corten_daemon_tasks",
        "gauge",
        "What the daemon has under way: a few for itself, one for each container, some for each client",
        tokio::runtime::Handle::current().metrics().num_alive_tasks() as f64,
    );
    page.single(
        "process_open_fds",
        "gauge",
        "Number of open file descriptors",
        system.open_files as f64,
    );
    if let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        page.single(
            "process_max_fds",
            "gauge",
            "Maximum number of open file descriptors",
            limit as f64,
        );
    }
    page.single("process_threads", "gauge", "Number of threads", system.tasks as f64);
    let Some(stat) = stat() else { return };
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    // Fields of proc(5), counted from the state on.
    let field = |number: usize| stat.get(number - 3).and_then(|text| text.parse::<f64>().ok());
    if let (Some(user), Some(kernel)) = (field(14), field(15)) {
        page.single(
            "process_cpu_seconds_total",
            "counter",
            "Total user and system CPU time spent in seconds",
            (user + kernel) / ticks,
        );
    }
    if let (Some(start), Some(boot)) = (field(22), boot_time()) {
        page.single(
            "process_start_time_seconds",
            "gauge",
            "Start time of the process since unix epoch in seconds",
            boot + start / ticks,
        );
    }
    if let Some(pages) = field(24) {
        let bytes = pages * rustix::param::page_size() as f64;
        page.single(
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory size in bytes",
            bytes,
        );
    }
    if let Some(bytes) = field(23) {
        page.single(
            "process_virtual_memory_bytes",
            "gauge",
            "Virtual memory size in bytes",
            bytes,
        );
    }
}

/// When the machine started, in seconds since the epoch.
fn boot_time() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

/// The fields of `/proc/self/stat` behind the program's name, which may have spaces in it.
fn stat() -> Option<Vec<String>> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_ascii_whitespace().map(str::to_owned).collect())
}

//! `/metrics`: numbers for Prometheus, on a port of their own.
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

use corten_testkit::{daemon::Daemon, namespace::Namespace};

use crate::{WAIT, background, setup};

/// One page of another port.
pub fn get(daemon: &Daemon, port: u16, path: &str) -> String {
    daemon.in_network(|| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    })
}

/// The value of one sample.
#[track_caller]
pub fn value(page: &str, sample: &str) -> f64 {
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("no {sample} in {page}"))
}

#[test]
fn prometheus_reads_what_dockerd_counts_and_more() {
    let daemon = setup().arguments("--metrics-addr 127.0.0.1:9323").start();
    daemon.load(&corten_testkit::image::busybox());
    background(&daemon, "--name one", WAIT);
    background(&daemon, "--name two", WAIT);
    daemon.docker("pause two").ok();
    daemon.docker("create --name three --network none busybox").ok();
    daemon.api().get("/containers/nothing/json").expect(404);
    let page = get(&daemon, 9323, "/metrics");
    assert!(page.starts_with("HTTP/1.1 200 OK"), "{page}");
    for (sample, expected) in [
        ("engine_daemon_container_states_containers{state=\"running\"}", 1.0),
        ("engine_daemon_container_states_containers{state=\"paused\"}", 1.0),
        ("engine_daemon_container_states_containers{state=\"stopped\"}", 1.0),
        ("engine_daemon_container_actions_seconds_count{action=\"create\"}", 3.0),
        ("engine_daemon_container_actions_seconds_count{action=\"start\"}", 2.0),
        ("corten_containers{status=\"created\"}", 1.0),
        (
            "corten_api_requests_total{operation=\"GET /containers/{name}/json\",status=\"4xx\"}",
            1.0,
        ),
        ("corten_images", 1.0),
    ] {
        assert_eq!(value(&page, sample), expected, "{sample}");
    }
    assert!(value(&page, "engine_daemon_events_total") >= 5.0);
    assert!(value(&page, "process_open_fds") > 10.0);
    assert!(page.contains("engine_daemon_engine_info{architecture="), "{page}");
    assert!(!page.contains("nothing"), "names of containers are no labels");
    // Only numbers are there, and only there.
    assert!(get(&daemon, 9323, "/containers/json").starts_with("HTTP/1.1 404"));
    assert!(get(&daemon, 9323, "/debug/pprof/").starts_with("HTTP/1.1 404"));
    daemon.api().get("/metrics").expect(404);
}

#[test]
fn series_do_not_grow_with_containers() {
    let daemon = setup().arguments("--metrics-addr 127.0.0.1:9323").start();
    daemon.load(&corten_testkit::image::busybox());
    let series = |page: &str| page.lines().filter(|line| !line.starts_with('#')).count();
    let round = |from: u32| {
        for number in from..from + 5 {
            daemon
                .docker(&format!("create --name c{number} --network none busybox"))
                .ok();
            daemon.api().get(&format!("/containers/c{number}/json")).expect(200);
            daemon.api().get(&format!("/images/unknown{number}/json")).expect(404);
        }
        get(&daemon, 9323, "/metrics")
    };
    let before = series(&round(0));
    assert_eq!(series(&round(10)), before);
}

#[test]
fn an_address_that_somebody_has_fails_the_start_before_anybody_is_served() {
    let network = Namespace::new();
    let _taken = network.inside(|| TcpListener::bind("127.0.0.1:9323")).unwrap();
    let setup = setup().network(&network).arguments("--metrics-addr 127.0.0.1:9323");
    let error = setup.start_in_vain().fails(1);
    assert!(
        error.contains("127.0.0.1:9323") && !error.contains("API listen on"),
        "{error}"
    );
}

//! Docker Compose, as Debian packages it, with the example that we ship.
use corten_testkit::{
    command::{Output, run},
    daemon::{Arguments, Daemon},
    wait::wait_until,
    world::HOST,
};

use crate::network::{address, world};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/compose/compose.yaml");

#[track_caller]
fn compose(daemon: &Daemon, arguments: &str) -> Output {
    let mut words = ["compose", "--ansi", "never", "-f", FILE].words();
    words.extend(arguments.words());
    run(daemon.docker_command(words).env("IMAGE", "busybox").env("PORT", "8080"))
}

/// The names of a service's containers that run.
#[track_caller]
pub fn containers(daemon: &Daemon, service: &str) -> Vec<String> {
    let filter = format!("label=com.docker.compose.service={service}");
    let listed = daemon.docker(["ps", "--format", "{{.Names}}", "-f", &filter]).ok();
    listed.lines().map(str::to_owned).collect()
}

#[test]
fn three_services_come_up_resolve_scale_and_go_down() {
    let (world, daemon) = world();
    let before = (world.host.interfaces(), daemon.docker("network ls -q").ok());
    compose(&daemon, "up -d").ok();
    let names = |service: &str| containers(&daemon, service);
    assert_eq!(names("front"), ["corten-example-front-1"]);
    let (_, front) = world.other.http(&format!("{HOST}:8080"), "/hostname");
    assert_eq!(
        front.trim_end(),
        daemon.inspect("corten-example-front-1")["Config"]["Hostname"]
    );
    let inside = daemon.network_of("corten-example-visitor-1");
    let stores = |services: &[String]| {
        let mut stores: Vec<String> = services
            .iter()
            .map(|name| address(&daemon, name, "corten-example_back"))
            .collect();
        stores.sort();
        stores
    };
    for name in ["store", "shelf", "corten-example-store-1"] {
        assert_eq!(inside.addresses_of(name), stores(&names("store")), "{name}");
    }
    assert!(!inside.addresses_of("front").is_empty());

    compose(&daemon, "up -d --no-recreate --scale store=3").ok();
    assert_eq!(names("store").len(), 3);
    assert_eq!(inside.addresses_of("store"), stores(&names("store")));
    let ids: Vec<String> = names("store")
        .iter()
        .map(|name| daemon.inspect(name)["Config"]["Hostname"].as_str().unwrap().to_owned())
        .collect();
    wait_until("the visitor met all three", || {
        let log = compose(&daemon, "logs --no-color --no-log-prefix visitor").ok();
        ids.iter().all(|id| log.contains(id))
    });
    let listed = compose(&daemon, "ps --format {{.Service}}").ok();
    let count = |service| listed.lines().filter(|line| *line == service).count();
    assert_eq!(
        (count("front"), count("store"), count("visitor")),
        (1, 3, 1),
        "{listed}"
    );

    compose(&daemon, "up -d --no-recreate --scale store=1").ok();
    assert_eq!(inside.addresses_of("store"), stores(&names("store")));
    drop(inside);
    compose(&daemon, "restart store").ok();
    assert_eq!(names("store").len(), 1);
    compose(&daemon, "down -t 1").ok();
    assert_eq!(daemon.docker("ps -aq").ok(), "");
    assert_eq!(daemon.docker("network ls -q").ok(), before.1);
    wait_until("no interface is left", || world.host.interfaces() == before.0);
    daemon.assert_nothing_remains();
}

#[test]
fn what_compose_files_say_about_networks_is_done() {
    let (world, daemon) = world();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("compose.yaml");
    let content = r#"
name: wide
services:
  one:
    image: busybox
    command: sleep 1000
    init: true
    hostname: uno
    mac_address: 02:00:00:00:00:01
    extra_hosts: ["db:192.0.2.7", "host.docker.internal:host-gateway"]
    dns: [192.0.2.53]
    dns_search: [office.test]
    dns_opt: ["ndots:3"]
    ports:
      - "127.0.0.1:7000-7001:80-81"
      - target: 90
        published: "7090"
        protocol: udp
        host_ip: 10.99.0.1
      - "8080"
    networks:
      lan: {ipv4_address: 10.7.0.77, aliases: [eins]}
  two:
    image: busybox
    command: sleep 1000
    init: true
    networks: {lan: {}, outside: {}}
  three:
    image: busybox
    command: sleep 1000
    network_mode: service:one
    init: true
  four:
    image: busybox
    command: sleep 1000
    network_mode: host
    init: true
networks:
  lan:
    driver: bridge
    driver_opts:
      com.docker.network.bridge.name: wide0
      com.docker.network.driver.mtu: "1400"
    ipam:
      config: [{subnet: 10.7.0.0/24, gateway: 10.7.0.254, ip_range: 10.7.0.128/25}]
    labels: {room: cellar}
  outside:
    external: true
"#;
    std::fs::write(&file, content).unwrap();
    daemon.docker("network create outside").ok();
    let compose = |arguments: &str| {
        let mut words = vec!["compose", "--ansi", "never", "-f", file.to_str().unwrap()];
        words.extend(arguments.split(' '));
        daemon.docker(words.as_slice()).ok()
    };
    compose("up -d");
    assert!(world.host.interfaces().contains(&"wide0".to_owned()));
    assert_eq!(address(&daemon, "wide-one-1", "wide_lan"), "10.7.0.77");
    assert_eq!(daemon.network_of("wide-two-1").addresses_of("eins"), ["10.7.0.77"]);
    assert_eq!(
        daemon.network_of("wide-one-1").inode(),
        daemon.network_of("wide-three-1").inode()
    );
    assert_eq!(daemon.network_of("wide-four-1").inode(), world.host.inode());
    assert_eq!(
        daemon.exec("wide-one-1", "cat /sys/class/net/eth0/address").ok(),
        "02:00:00:00:00:01"
    );
    let hosts = daemon.exec("wide-one-1", "cat /etc/hosts").ok();
    assert!(
        hosts.contains("192.0.2.7\tdb") && hosts.contains("\thost.docker.internal"),
        "{hosts}"
    );
    let resolv_conf = daemon.exec("wide-one-1", "cat /etc/resolv.conf").ok();
    assert!(
        resolv_conf.contains("search office.test") && resolv_conf.contains("ndots:3"),
        "{resolv_conf}"
    );
    assert_eq!(compose("port one 81"), "127.0.0.1:7001");
    assert_eq!(compose("port --protocol udp one 90"), "10.99.0.1:7090");
    // Nothing changed, nothing is made anew.
    let before = daemon.docker("ps -q --no-trunc").ok();
    compose("up -d");
    assert_eq!(daemon.docker("ps -q --no-trunc").ok(), before);
    compose("down -t 1");
    assert!(!world.host.interfaces().contains(&"wide0".to_owned()));
    assert_eq!(daemon.docker("network ls -q -f name=outside").ok().lines().count(), 1);
}

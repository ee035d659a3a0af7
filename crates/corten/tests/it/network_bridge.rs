//! The default network, and what every bridge network does: addresses, routes, ways out, and none in.
use corten_testkit::{
    daemon::Daemon,
    wait::wait_until,
    world::{FAR, HOST, OTHER, World},
};

use crate::{
    network::{address, default_bridge, endpoint, is_foreign, network, serve, up, world, world_with},
    setup,
};

/// `docker run --rm OPTIONS busybox sh -c SCRIPT`; what it printed.
#[track_caller]
fn run(daemon: &Daemon, options: &str, script: &str) -> String {
    let mut words = vec!["run", "--rm"];
    words.extend(options.split_ascii_whitespace());
    words.extend(["busybox", "sh", "-c", script]);
    daemon.docker(words.as_slice()).ok()
}

#[test]
fn a_container_has_an_address_a_route_and_a_name() {
    let (_world, daemon) = world();
    let seen = run(
        &daemon,
        "--hostname box",
        "ip -o address; ip route; hostname; cat /etc/hosts; cat /sys/class/net/eth0/mtu /sys/class/net/eth0/address",
    );
    let has = |part: &str| assert!(seen.contains(part), "no {part:?} in {seen}");
    has("inet 127.0.0.1/8");
    has("inet 172.17.0.2/16 brd 172.17.255.255");
    has("default via 172.17.0.1 dev eth0");
    has("\nbox\n");
    has("172.17.0.2\tbox");
    has("1500\n02:42:ac:11:00:02");
    // Without IPv6 on its network, an interface has none at all; loopback has.
    assert!(!seen.contains("fe80::"), "{seen}");
    has("inet6 ::1/128");
}

#[test]
fn inspect_says_what_the_container_has() {
    let (_world, daemon) = world();
    let id = up(&daemon, "box", "");
    let end = endpoint(&daemon, "box", "bridge");
    assert_eq!(end["IPAddress"], "172.17.0.2");
    assert_eq!(end["IPPrefixLen"], 16);
    assert_eq!(end["Gateway"], "172.17.0.1");
    assert_eq!(end["MacAddress"], "02:42:ac:11:00:02");
    assert_eq!(end["NetworkID"], network(&daemon, "bridge")["Id"]);
    assert_eq!(end["EndpointID"].as_str().map(str::len), Some(64));
    let settings = &daemon.inspect("box")["NetworkSettings"];
    assert_eq!(settings["IPAddress"], "172.17.0.2");
    assert_eq!(settings["SandboxID"].as_str().map(str::len), Some(64));
    let member = &network(&daemon, "bridge")["Containers"][&id];
    assert_eq!(member["Name"], "box");
    assert_eq!(member["IPv4Address"], "172.17.0.2/16");
    assert_eq!(member["EndpointID"], end["EndpointID"]);

    daemon.docker("stop box").ok();
    let end = endpoint(&daemon, "box", "bridge");
    assert_eq!(
        (end["IPAddress"].as_str(), end["EndpointID"].as_str()),
        (Some(""), Some(""))
    );
    assert_eq!(network(&daemon, "bridge")["Containers"], serde_json::json!({}));
}

#[test]
fn containers_reach_each_other_and_their_host_both_ways() {
    let (world, daemon) = world();
    up(&daemon, "one", "");
    up(&daemon, "two", "");
    let _server = serve(&daemon, "one", 80);
    let (one, two) = (address(&daemon, "one", "bridge"), address(&daemon, "two", "bridge"));
    assert_eq!(daemon.network_of("two").ask(&format!("{one}:80")), format!("one {two}"));
    assert_eq!(world.host.ask(&format!("{one}:80")), "one 172.17.0.1");
    let _host_server = world.host.serve("host", "0.0.0.0:7000");
    assert_eq!(daemon.network_of("one").ask("172.17.0.1:7000"), format!("host {one}"));
    daemon.exec("two", ["ping", "-c", "1", "-w", "20", &one]).ok();
    daemon.exec("two", ["ping", "-c", "1", "-w", "20", "172.17.0.1"]).ok();
}

#[test]
fn the_world_is_reached_with_the_hosts_address() {
    let (world, daemon) = world();
    up(&daemon, "box", "");
    let inside = daemon.network_of("box");
    let _tcp = world.other.serve("far", &format!("{FAR}:80"));
    let _udp = world.other.serve_udp("far", &format!("{FAR}:53"));
    assert_eq!(inside.ask(&format!("{FAR}:80")), format!("far {HOST}"));
    assert_eq!(inside.ask_udp(&format!("{FAR}:53")), format!("far {HOST}"));
    daemon.exec("box", ["ping", "-c", "1", "-w", "20", FAR]).ok();
}

#[test]
fn what_is_not_published_is_out_of_reach_for_other_hosts() {
    let (world, daemon) = world();
    up(&daemon, "box", "");
    let _server = serve(&daemon, "box", 80);
    let _udp = daemon.network_of("box").serve_udp("box", "0.0.0.0:80");
    world.other.ip(["route", "add", "172.17.0.0/16", "via", HOST]);
    let there = format!("{}:80", address(&daemon, "box", "bridge"));
    world.host.ask(&there);
    world.other.assert_closed(&there);
    assert!(world.other.try_ask_udp(&there).is_err());
}

#[test]
fn without_masquerade_containers_are_seen_as_themselves() {
    let (world, daemon) = world();
    daemon
        .docker("network create --subnet 10.7.0.0/24 -o com.docker.network.bridge.enable_ip_masquerade=false plain")
        .ok();
    up(&daemon, "box", "--network plain");
    world.other.ip(["route", "add", "10.7.0.0/24", "via", HOST]);
    let _far = world.other.serve("far", &format!("{FAR}:80"));
    assert_eq!(daemon.network_of("box").ask(&format!("{FAR}:80")), "far 10.7.0.2");
}

#[test]
fn the_bridge_has_the_name_and_mtu_that_were_asked_for() {
    let (world, daemon) = world();
    daemon
        .docker(
            "network create -o com.docker.network.bridge.name=lane0 -o com.docker.network.driver.mtu=1400 \
             -o com.docker.network.container_iface_prefix=lan lane",
        )
        .ok();
    assert!(world.host.interfaces().contains(&"lane0".to_owned()));
    let seen = run(&daemon, "--network lane", "cat /sys/class/net/lan0/mtu; ip -o link");
    assert!(seen.starts_with("1400\n"), "{seen}");
    daemon.docker("network rm lane").ok();
    assert!(!world.host.interfaces().contains(&"lane0".to_owned()));
}

#[test]
fn a_network_of_another_container_or_of_the_host_is_shared() {
    let (world, daemon) = world();
    up(&daemon, "one", "");
    up(&daemon, "two", "--network container:one");
    assert_eq!(daemon.network_of("one").inode(), daemon.network_of("two").inode());
    assert_eq!(
        daemon
            .docker("run --rm --network container:one busybox cat /etc/hostname")
            .ok(),
        daemon.docker("run --rm --network container:two busybox hostname").ok()
    );
    up(&daemon, "host", "--network host");
    assert_eq!(daemon.network_of("host").inode(), world.host.inode());
    up(&daemon, "none", "--network none");
    assert_eq!(daemon.network_of("none").interfaces(), ["lo"]);
    for options in [
        "--network container:one -p 80:80",
        "--network container:one --hostname box",
    ] {
        let error = daemon.docker(&format!("run --rm {options} busybox true"));
        let error = error.fails(125);
        assert!(error.contains("conflicting options"), "{error}");
    }
    let error = daemon
        .docker("run --rm --network container:nobody busybox true")
        .fails(125);
    assert!(error.contains("No such container: nobody"), "{error}");
    // What it shares must be there when it starts.
    daemon.docker("stop one two").ok();
    let error = daemon.docker("start two").fails(1);
    assert!(
        error.contains("is not running") || error.contains("non running container"),
        "{error}"
    );
}

#[test]
fn nothing_of_a_container_stays_on_the_host() {
    let (world, daemon) = world();
    up(&daemon, "gone", "");
    daemon.docker("rm -f gone").ok();
    let bridge = default_bridge(&daemon);
    wait_until("no veth is left", || {
        world.host.interfaces() == ordered([&bridge, "eth0", "lo"])
    });
    for _ in 0..3 {
        run(&daemon, "-p 8080:80", "true");
    }
    wait_until("no veth is left", || {
        world.host.interfaces() == ordered([&bridge, "eth0", "lo"])
    });
    daemon.assert_nothing_remains();
}

fn ordered<const N: usize>(names: [&str; N]) -> Vec<String> {
    let mut names = names.map(str::to_owned).to_vec();
    names.sort();
    names
}

#[test]
fn addresses_are_not_handed_out_again_at_once() {
    let (_world, daemon) = world();
    let first = run(&daemon, "", "hostname -i");
    let second = run(&daemon, "", "hostname -i");
    if is_foreign() {
        return;
    }
    assert_ne!(first, second);
    up(&daemon, "box", "");
    let before = address(&daemon, "box", "bridge");
    daemon.docker("restart -t 0 box").ok();
    assert!(before.starts_with("172.17.0."), "{before}");
}

#[test]
fn forwarding_is_switched_on_where_it_is_needed_and_nowhere_else() {
    if is_foreign() {
        return;
    }
    let (world, daemon) = world();
    let third = corten_testkit::namespace::Namespace::new();
    world.host.join("eth1", &third, "eth0");
    world.host.add_address("eth1", "10.98.0.1/24");
    third.add_address("eth0", "10.98.0.2/24");
    third.ip(["route", "add", "default", "via", "10.98.0.1"]);
    world.other.ip(["route", "add", "10.98.0.0/24", "via", HOST]);
    up(&daemon, "box", "");
    let _far = world.other.serve("far", &format!("{FAR}:80"));
    assert_eq!(
        daemon.network_of("box").ask(&format!("{FAR}:80")),
        format!("far {HOST}")
    );
    assert_eq!(world.host.sysctl("ipv4/ip_forward").unwrap(), "0");
    // Two neighbours that this host did not connect before are not connected now.
    let _near = third.serve("third", "0.0.0.0:80");
    third.assert_closed(&format!("{FAR}:80"));
    world.other.assert_closed("10.98.0.2:80");
}

#[test]
fn a_host_that_forwards_goes_on_forwarding() {
    let world = World::new();
    world.host.set_sysctl("ipv4/ip_forward", "1").unwrap();
    let third = corten_testkit::namespace::Namespace::new();
    world.host.join("eth1", &third, "eth0");
    world.host.add_address("eth1", "10.98.0.1/24");
    third.add_address("eth0", "10.98.0.2/24");
    third.ip(["route", "add", "default", "via", "10.98.0.1"]);
    world.other.ip(["route", "add", "10.98.0.0/24", "via", HOST]);
    let daemon = world.start(setup());
    daemon.load(&corten_testkit::image::busybox());
    up(&daemon, "box", "");
    let _far = world.other.serve("far", &format!("{FAR}:80"));
    assert_eq!(third.ask(&format!("{FAR}:80")), "far 10.98.0.2");
    assert_eq!(
        daemon.network_of("box").ask(&format!("{FAR}:80")),
        format!("far {HOST}")
    );
}

#[test]
fn an_uplink_may_come_after_the_daemon() {
    let world = World {
        host: Default::default(),
        other: Default::default(),
    };
    let daemon = world.start(setup());
    daemon.load(&corten_testkit::image::busybox());
    up(&daemon, "box", "-p 8080:80");
    let _server = serve(&daemon, "box", 80);
    world.plug();
    let _far = world.other.serve("far", &format!("{FAR}:80"));
    assert_eq!(
        daemon.network_of("box").ask(&format!("{FAR}:80")),
        format!("far {HOST}")
    );
    assert_eq!(world.other.ask(&format!("{HOST}:8080")), format!("box {OTHER}"));
}

#[test]
fn the_default_network_is_as_the_daemons_flags_say() {
    let flags = [
        "--bip",
        "10.9.0.1/24",
        "--fixed-cidr",
        "10.9.0.128/25",
        "--mtu",
        "1300",
        "--icc=false",
    ];
    let (world, daemon) = world_with(&flags);
    up(&daemon, "one", "");
    up(&daemon, "two", "");
    let one = address(&daemon, "one", "bridge");
    assert!(one.starts_with("10.9.0.1") && one.len() == "10.9.0.128".len(), "{one}");
    assert_eq!(endpoint(&daemon, "one", "bridge")["Gateway"], "10.9.0.1");
    assert_eq!(daemon.exec("one", "cat /sys/class/net/eth0/mtu").ok(), "1300");
    let _server = serve(&daemon, "one", 80);
    world.host.ask(&format!("{one}:80"));
    daemon.network_of("two").assert_unreachable(&format!("{one}:80"));
}

#[test]
fn the_default_network_can_be_left_out() {
    let (_world, daemon) = world_with(&["--bridge", "none"]);
    let names = daemon.docker("network ls --format {{.Name}}").ok();
    assert_eq!(names.lines().collect::<Vec<_>>(), ["host", "none"]);
    assert_eq!(run(&daemon, "", "ls /sys/class/net"), "lo");
}

//! Published ports: from other hosts, from the host itself on every one of its addresses, and from containers.
use std::{
    io::Write,
    net::{TcpListener, UdpSocket},
    time::Duration,
};

use corten_testkit::{
    daemon::Daemon,
    wait::wait_until,
    world::{HOST, HOST6, OTHER, OTHER6},
};

use crate::network::{address, address6, default_bridge, is_foreign, serve, up, world};

/// The host ports of one container port, as `docker port` lists them.
#[track_caller]
fn port(daemon: &Daemon, container: &str, port: &str) -> Vec<String> {
    let listed = daemon.docker(["port", container, port]).ok();
    listed.lines().map(str::to_owned).collect()
}

#[test]
fn a_port_is_reached_from_everywhere() {
    let (world, daemon) = world();
    up(&daemon, "web", "-p 8080:80");
    up(&daemon, "client", "");
    let _server = serve(&daemon, "web", 80);
    assert_eq!(port(&daemon, "web", "80"), ["0.0.0.0:8080", "[::]:8080"]);
    // Another host is seen as who it is.
    assert_eq!(world.other.ask(&format!("{HOST}:8080")), format!("web {OTHER}"));
    for address in ["127.0.0.1", "127.1.2.3", HOST, "172.17.0.1"] {
        let answer = world.host.ask(&format!("{address}:8080"));
        assert!(answer.starts_with("web "), "{address}: {answer}");
    }
    // Over IPv6 too, though the container has none.
    for (namespace, address) in [(&world.host, "::1"), (&world.host, HOST6), (&world.other, HOST6)] {
        let answer = namespace.ask(&format!("[{address}]:8080"));
        assert!(answer.starts_with("web "), "{address}: {answer}");
    }
    for client in ["client", "web"] {
        for address in [HOST, "172.17.0.1"] {
            let answer = daemon.network_of(client).ask(&format!("{address}:8080"));
            assert!(answer.starts_with("web "), "{client} at {address}: {answer}");
        }
    }
}

#[test]
fn a_container_reaches_published_ports_whatever_the_bridge_asks_the_firewall() {
    let (world, daemon) = world();
    let Some(_) = world.host.sysctl("bridge/bridge-nf-call-iptables") else {
        println!("skipped: this kernel has no br_netfilter");
        return;
    };
    daemon.docker("network create lane").ok();
    for name in ["web", "client"] {
        up(&daemon, name, "--network lane -P --expose 80 --expose 90/udp");
    }
    up(&daemon, "stranger", "");
    let (server, udp) = (
        serve(&daemon, "web", 80),
        daemon.network_of("web").serve_udp("web", "0.0.0.0:90"),
    );
    let tcp_port = port(&daemon, "web", "80/tcp")[0].replace("0.0.0.0", HOST);
    let udp_port = port(&daemon, "web", "90/udp")[0].replace("0.0.0.0", HOST);
    for state in ["0", "1"] {
        for name in ["iptables", "ip6tables"] {
            world
                .host
                .set_sysctl(&format!("bridge/bridge-nf-call-{name}"), state)
                .unwrap();
        }
        for client in ["web", "client", "stranger"] {
            let namespace = daemon.network_of(client);
            assert!(namespace.ask(&tcp_port).starts_with("web "), "{client}, {state}");
            // Docker's proxy answers from another address than was asked.
            assert!(
                is_foreign() || namespace.ask_udp(&udp_port).starts_with("web "),
                "{client}, {state}"
            );
        }
        assert!(world.host.ask(&tcp_port).starts_with("web "));
        assert_eq!(world.other.ask(&tcp_port), format!("web {OTHER}"));
    }
    drop((server, udp));
}

#[test]
fn datagrams_are_published_too() {
    let (world, daemon) = world();
    up(&daemon, "names", "-p 5353:53/udp -p 5353:53/tcp");
    let inside = daemon.network_of("names");
    let _udp = inside.serve_udp("udp", "0.0.0.0:53");
    let _tcp = inside.serve("tcp", "0.0.0.0:53");
    assert_eq!(port(&daemon, "names", "53/udp"), ["0.0.0.0:5353", "[::]:5353"]);
    assert_eq!(world.other.ask_udp(&format!("{HOST}:5353")), format!("udp {OTHER}"));
    assert_eq!(world.other.ask(&format!("{HOST}:5353")), format!("tcp {OTHER}"));
    for there in ["127.0.0.1:5353", "[::1]:5353", &format!("{HOST}:5353")] {
        assert!(world.host.ask_udp(there).starts_with("udp "), "{there}");
    }
    assert!(world.other.ask_udp(&format!("[{HOST6}]:5353")).starts_with("udp "));
    assert!(is_foreign() || inside.ask_udp(&format!("{HOST}:5353")).starts_with("udp "));
}

#[test]
fn a_restarted_server_of_datagrams_is_found_by_its_old_clients() {
    let (world, daemon) = world();
    up(&daemon, "names", "-p 5353:53/udp");
    let client = world.other.udp_to(&format!("{HOST}:5353")).unwrap();
    let said = |client: &UdpSocket| {
        client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        client.send(b"?").ok()?;
        let mut buffer = [0; 100];
        let length = client.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    let first = daemon.network_of("names").serve_udp("first", "0.0.0.0:53");
    wait_until("the first answers", || {
        said(&client).is_some_and(|text| text.starts_with("first"))
    });
    drop(first);
    // Its successor may have another address: what the kernel remembers of this client must go.
    daemon.docker("restart -t 0 names").ok();
    let _second = daemon.network_of("names").serve_udp("second", "0.0.0.0:53");
    wait_until("the second answers", || {
        said(&client).is_some_and(|text| text.starts_with("second"))
    });
}

#[test]
fn connections_to_a_container_that_is_gone_are_reset() {
    let (world, daemon) = world();
    daemon.docker("network create --ipv6 lane").ok();
    // Back with another address, gone, and no more on the network that its ports lead to.
    for command in ["restart -t 0 web", "rm -f web", "network disconnect lane web"] {
        let six = format!("[{HOST6}]");
        for (from, address) in [(&world.other, HOST), (&world.host, "127.0.0.1"), (&world.other, &six)] {
            up(&daemon, "web", "--network lane -p 8080:80");
            let server = serve(&daemon, "web", 80);
            let there = format!("{address}:8080");
            from.ask(&there);
            let mut stream = from.connect(&there, Duration::from_secs(5)).unwrap();
            stream.write_all(b"x").unwrap();
            daemon.docker(command).ok();
            wait_until("it is reset", || stream.write_all(b"y").is_err());
            drop(server);
            let _ = daemon.docker("rm -f web");
        }
    }
}

#[test]
fn ranges_are_published_one_to_one() {
    let (world, daemon) = world();
    up(
        &daemon,
        "web",
        "-p 8000-8004:9000-9004 -p 127.0.0.1:7000-7001:9000-9001/udp",
    );
    let servers: Vec<_> = (9000..9005).map(|port| serve(&daemon, "web", port)).collect();
    for port in 8000..8005 {
        world.other.ask(&format!("{HOST}:{port}"));
    }
    assert_eq!(port(&daemon, "web", "9004"), ["0.0.0.0:8004", "[::]:8004"]);
    assert_eq!(port(&daemon, "web", "9001/udp"), ["127.0.0.1:7001"]);
    let shown = daemon.docker("ps --format {{.Ports}}").ok();
    assert!(shown.contains("0.0.0.0:8004->9004/tcp"), "{shown}");
    assert!(shown.contains("127.0.0.1:7001->9001/udp"), "{shown}");
    let found = |filter: &str| daemon.docker(["ps", "--format", "{{.Names}}", "--filter", filter]).ok();
    for (filter, expected) in [
        ("publish=8004", "web"),
        ("publish=7000-7005/udp", "web"),
        ("publish=9004", ""),
        ("expose=9004", "web"),
        ("expose=8004", ""),
    ] {
        assert_eq!(found(filter), expected, "{filter}");
    }
    drop(servers);
}

#[test]
fn one_port_of_a_range_is_the_first_that_is_free() {
    if is_foreign() {
        return;
    }
    let (world, daemon) = world();
    let _taken = world.host.inside(|| TcpListener::bind("0.0.0.0:8100")).unwrap();
    up(&daemon, "one", "-p 8100-8102:80");
    up(&daemon, "two", "-p 8100-8102:80");
    assert_eq!(port(&daemon, "one", "80"), ["0.0.0.0:8101", "[::]:8101"]);
    assert_eq!(port(&daemon, "two", "80"), ["0.0.0.0:8102", "[::]:8102"]);
    let error = daemon
        .docker("run --name three -p 8100-8102:80 busybox true")
        .fails(125);
    assert!(error.contains("all ports are allocated"), "{error}");
}

#[test]
fn a_port_without_a_number_is_chosen() {
    let (world, daemon) = world();
    up(&daemon, "web", "-p 80 -p 127.0.0.1::90 --expose 70 -P");
    let server = serve(&daemon, "web", 80);
    let ports = port(&daemon, "web", "80");
    let (v4, v6) = (
        ports[0].strip_prefix("0.0.0.0:").unwrap(),
        ports[1].strip_prefix("[::]:").unwrap(),
    );
    assert!(v4 == v6 || is_foreign(), "{v4} {v6}");
    let number: u16 = v4.parse().unwrap();
    assert!(number >= 32768, "{number}");
    assert_eq!(world.other.ask(&format!("{HOST}:{number}")), format!("web {OTHER}"));
    assert!(port(&daemon, "web", "90")[0].starts_with("127.0.0.1:"));
    assert_eq!(port(&daemon, "web", "70").len(), 2);
    // While it does not run it has none; when it runs again it has some again.
    drop(server);
    daemon.docker("stop web").ok();
    assert_eq!(daemon.docker("port web").ok(), "");
    daemon.docker("start web").ok();
    let _server = serve(&daemon, "web", 80);
    let there = port(&daemon, "web", "80")[0].replace("0.0.0.0", HOST);
    world.other.ask(&there);
}

#[test]
fn a_port_of_one_address_is_not_on_the_others() {
    let (world, daemon) = world();
    up(&daemon, "local", "-p 127.0.0.1:8080:80");
    up(&daemon, "outer", &format!("-p {HOST}:8081:80"));
    up(&daemon, "six", "-p [::1]:8082:80");
    let _servers = ["local", "outer", "six"].map(|name| serve(&daemon, name, 80));
    assert!(world.host.ask("127.0.0.1:8080").starts_with("local "));
    world.host.assert_closed(&format!("{HOST}:8080"));
    world.host.assert_closed("[::1]:8080");
    world.other.assert_closed(&format!("{HOST}:8080"));
    assert_eq!(world.other.ask(&format!("{HOST}:8081")), format!("outer {OTHER}"));
    world.host.assert_closed("127.0.0.1:8081");
    assert!(world.host.ask("[::1]:8082").starts_with("six "));
    world.host.assert_closed("127.0.0.1:8082");
    world.other.assert_closed(&format!("[{HOST6}]:8082"));
    assert_eq!(port(&daemon, "six", "80"), ["[::1]:8082"]);
    // One port, two addresses, two containers.
    up(&daemon, "another", &format!("-p {HOST}:8080:80"));
    let _server = serve(&daemon, "another", 80);
    assert!(world.other.ask(&format!("{HOST}:8080")).starts_with("another "));
    assert!(world.host.ask("127.0.0.1:8080").starts_with("local "));
}

#[test]
fn loopback_is_out_of_reach_for_a_neighbour_that_sends_to_it() {
    let (world, daemon) = world();
    up(&daemon, "local", "-p 127.0.0.1:8080:80");
    let _server = serve(&daemon, "local", 80);
    assert!(world.host.ask("127.0.0.1:8080").starts_with("local "));
    let other = &world.other;
    other.set_sysctl("ipv4/conf/eth0/route_localnet", "1").unwrap();
    other.set_sysctl("ipv4/conf/all/route_localnet", "1").unwrap();
    other.ip("route del local 127.0.0.0/8 dev lo table local");
    other.run("ip route del local 127.0.0.1 dev lo table local").ok();
    other.ip(["route", "add", "127.0.0.1", "via", HOST, "src", OTHER]);
    other.assert_closed("127.0.0.1:8080");
}

#[test]
fn ports_of_a_network_with_ipv6_keep_the_address_of_their_clients() {
    if is_foreign() {
        return;
    }
    let (world, daemon) = world();
    daemon.docker("network create --ipv6 --subnet fd07::/64 dual").ok();
    up(&daemon, "web", "--network dual -p 8080:80 -p 5353:53/udp");
    let _server = serve(&daemon, "web", 80);
    let _udp = daemon.network_of("web").serve_udp("web", "[::]:53");
    assert_eq!(world.other.ask(&format!("[{HOST6}]:8080")), format!("web {OTHER6}"));
    assert_eq!(world.other.ask(&format!("{HOST}:8080")), format!("web {OTHER}"));
    assert_eq!(world.other.ask_udp(&format!("[{HOST6}]:5353")), format!("web {OTHER6}"));
    for there in ["[::1]:8080", "127.0.0.1:8080", &format!("[{HOST6}]:8080")] {
        assert!(world.host.ask(there).starts_with("web "), "{there}");
    }
    assert!(
        daemon
            .network_of("web")
            .ask(&format!("[{HOST6}]:8080"))
            .starts_with("web ")
    );
}

#[test]
fn ports_of_a_routed_family_take_none_of_the_hosts() {
    let (world, mut daemon) = world();
    let mode = "com.docker.network.bridge.gateway_mode_ipv6=routed";
    daemon
        .docker(&format!("network create --ipv6 --subnet fd07::/64 -o {mode} lane"))
        .ok();
    world.other.ip(["-6", "route", "add", "fd07::/64", "via", HOST6]);
    up(&daemon, "web", "--network lane -p 8080:80");
    // As many as like.
    up(&daemon, "other", "--network lane -p [::]:8080:80");
    let _server = serve(&daemon, "web", 80);
    let check = |daemon: &Daemon| {
        let own = format!("[{}]:80", address6(daemon, "web", "lane"));
        assert_eq!(world.other.ask(&own), format!("web {OTHER6}"));
        assert_eq!(world.other.ask(&format!("{HOST}:8080")), format!("web {OTHER}"));
        world.other.assert_closed(&format!("[{HOST6}]:8080"));
        assert_eq!(port(daemon, "web", "80"), ["0.0.0.0:8080", "[::]:"]);
        assert_eq!(port(daemon, "other", "80"), ["[::]:"]);
        let shown = daemon.docker("ps --filter name=web --format {{.Ports}}").ok();
        assert_eq!(shown, "0.0.0.0:8080->80/tcp, [::]:0->80/tcp");
    };
    check(&daemon);
    if !is_foreign() {
        daemon.kill_and_start();
        check(&daemon);
    }
    daemon.docker("rm -f web").ok();
    world
        .host
        .inside(|| TcpListener::bind("0.0.0.0:8080"))
        .expect("it is free");
}

#[test]
fn a_port_that_we_have_given_away_is_refused_and_nothing_is_left() {
    let (world, daemon) = world();
    up(&daemon, "one", "-p 8080:80");
    let before = world.host.interfaces();
    let error = daemon
        .docker("run -d --name two -p 8081:80 -p 8080:81 busybox true")
        .fails(125);
    assert!(error.contains("8080"), "{error}");
    assert!(error.contains("port is already allocated"), "{error}");
    assert_eq!(daemon.status("two"), "created");
    wait_until("no interface is left", || world.host.interfaces() == before);
    world
        .host
        .inside(|| TcpListener::bind("0.0.0.0:8081"))
        .expect("the other port is free again");
    daemon.docker("rm -f one").ok();
    daemon.docker("start two").ok();
}

#[test]
fn a_port_that_someone_on_the_host_has_is_refused_and_nothing_is_left() {
    let (world, daemon) = world();
    let before = world.host.interfaces();
    let tcp = world.host.inside(|| TcpListener::bind("127.0.0.1:8080")).unwrap();
    let udp = world.host.inside(|| UdpSocket::bind("0.0.0.0:5353")).unwrap();
    for (options, port) in [("-p 8080:80", "8080"), ("-p 5353:53/udp", "5353")] {
        let words = format!("run -d --name box {options} busybox true");
        let error = daemon.docker(&words).fails(125);
        assert!(
            error.contains(port) && error.contains("address already in use"),
            "{error}"
        );
        assert_eq!(daemon.status("box"), "created");
        daemon.docker("rm box").ok();
    }
    wait_until("no interface is left", || world.host.interfaces() == before);
    drop((tcp, udp));
    up(&daemon, "box", "-p 8080:80 -p 5353:53/udp");
    // And the other way round: what is published is taken.
    world
        .host
        .inside(|| TcpListener::bind("0.0.0.0:8080"))
        .expect_err("it is published");
    world
        .host
        .inside(|| UdpSocket::bind("0.0.0.0:5353"))
        .expect_err("it is published");
    daemon.docker("stop -t 0 box").ok();
    world
        .host
        .inside(|| TcpListener::bind("0.0.0.0:8080"))
        .expect("it is free again");
    world
        .host
        .inside(|| UdpSocket::bind("0.0.0.0:5353"))
        .expect("it is free again");
}

#[test]
fn a_thousand_ports_of_one_container() {
    if is_foreign() {
        return;
    }
    let (world, daemon) = world();
    up(&daemon, "many", "-p 20000-20999:20000-20999");
    let _servers = [20000, 20500, 20999].map(|port| serve(&daemon, "many", port));
    for port in [20000, 20500, 20999] {
        assert_eq!(world.other.ask(&format!("{HOST}:{port}")), format!("many {OTHER}"));
        world.host.ask(&format!("127.0.0.1:{port}"));
    }
    let shown = daemon.docker("ps --format {{.Ports}}").ok();
    assert!(shown.contains("0.0.0.0:20000-20999->20000-20999/tcp"), "{shown}");
    daemon.docker("rm -f many").ok();
    for port in [20000, 20500, 20999] {
        world
            .host
            .inside(|| TcpListener::bind(("0.0.0.0", port)))
            .expect("it is free again");
    }
}

#[test]
fn ports_mean_nothing_on_the_hosts_own_network_and_that_is_said() {
    let (_world, daemon) = world();
    let output = daemon.docker("run --rm --network host -p 8080:80 busybox true");
    assert!(
        output
            .error()
            .contains("Published ports are discarded when using host network mode"),
        "{output:?}"
    );
    output.ok();
}

#[test]
fn a_port_of_an_sctp_server_is_recorded() {
    if is_foreign() {
        return;
    }
    let (_world, daemon) = world();
    up(&daemon, "box", "-p 127.0.0.1:9999:9999/sctp");
    assert_eq!(port(&daemon, "box", "9999/sctp"), ["127.0.0.1:9999"]);
}

#[test]
fn the_host_listens_where_the_network_says() {
    let (world, daemon) = world();
    daemon
        .docker("network create -o com.docker.network.bridge.host_binding_ipv4=127.0.0.1 local")
        .ok();
    up(&daemon, "web", "--network local -p 8080:80");
    let _server = serve(&daemon, "web", 80);
    assert_eq!(port(&daemon, "web", "80"), ["127.0.0.1:8080"]);
    world.host.ask("127.0.0.1:8080");
    world.other.assert_closed(&format!("{HOST}:8080"));
}

#[test]
fn ports_stay_with_their_container_when_networks_change() {
    let (world, daemon) = world();
    daemon.docker("network create lane").ok();
    up(&daemon, "web", "-p 8080:80");
    let _server = serve(&daemon, "web", 80);
    assert_eq!(world.other.ask(&format!("{HOST}:8080")), format!("web {OTHER}"));
    daemon.docker("network connect lane web").ok();
    assert_eq!(world.other.ask(&format!("{HOST}:8080")), format!("web {OTHER}"));
    daemon.docker("network disconnect bridge web").ok();
    assert_eq!(world.other.ask(&format!("{HOST}:8080")), format!("web {OTHER}"));
    assert!(!address(&daemon, "web", "lane").is_empty());
    assert!(world.host.interfaces().contains(&default_bridge(&daemon)));
}

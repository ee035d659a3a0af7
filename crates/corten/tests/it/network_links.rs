//! `--link` where containers of the default network do not reach each other (`--icc=false`): what is exposed to whom, and
//! for how long.
use corten_testkit::{daemon::Daemon, namespace::Namespace, process, wait::wait_until};

use crate::network::{address, address6, default_bridge, is_foreign, serve, up, world_with};

const FLAGS: [&str; 1] = ["--icc=false"];

/// The elements of the firewall's sets of links.
fn elements(host: &Namespace) -> usize {
    let text = host.run("nft list ruleset").ok();
    let sets = text
        .split("set links")
        .skip(1)
        .filter_map(|rest| rest.split_once("\n\t}"));
    let sets = sets.map(|(set, _)| set);
    sets.filter_map(|set| set.split_once("elements = {")?.1.split_once('}'))
        .map(|(elements, _)| elements.split(',').count())
        .sum()
}

/// Does the host answer for its containers?
fn answers(daemon: &Daemon, host: &Namespace) -> (String, String) {
    let bridge = default_bridge(daemon);
    let read = |path: String| host.run(["cat", &path]).ok().trim().to_owned();
    (
        read(format!("/proc/sys/net/ipv4/conf/{bridge}/proxy_arp_pvlan")),
        read(format!("/proc/sys/net/ipv6/conf/{bridge}/proxy_ndp")),
    )
}

#[test]
fn a_link_leads_to_exposed_ports_and_nowhere_else() {
    let (_world, daemon) = world_with(&["--icc=false", "--ipv6", "--fixed-cidr-v6", "fd00:7::/64"]);
    up(&daemon, "server", "--expose 80 --expose 53/udp");
    up(&daemon, "client", "--link server:db");
    up(&daemon, "stranger", "--expose 80");
    let _servers = [80, 81].map(|port| serve(&daemon, "server", port));
    let _udp = [53, 54].map(|port| daemon.network_of("server").serve_udp("server", &format!("[::]:{port}")));
    let _others = ["client", "stranger"].map(|name| serve(&daemon, name, 80));
    let [server, client, stranger] = ["server", "client", "stranger"].map(|name| daemon.network_of(name));
    let there = address(&daemon, "server", "bridge");
    // The server sees who comes.
    let answer = format!("server {}", address(&daemon, "client", "bridge"));
    assert_eq!(client.ask(&format!("{there}:80")), answer);
    assert_eq!(client.ask_udp(&format!("{there}:53")), answer);
    if !is_foreign() {
        // Docker's links are of IPv4.
        let there6 = address6(&daemon, "server", "bridge");
        let answer6 = format!("server {}", address6(&daemon, "client", "bridge"));
        assert_eq!(client.ask(&format!("[{there6}]:80")), answer6);
        client.assert_unreachable(&format!("[{there6}]:81"));
        stranger.assert_unreachable(&format!("[{there6}]:80"));
    }
    client.assert_unreachable(&format!("{there}:81"));
    assert!(client.try_ask_udp(&format!("{there}:54")).is_err());
    // Nor does anybody reach whom no link leads to.
    stranger.assert_unreachable(&format!("{there}:80"));
    for name in ["client", "stranger"] {
        server.assert_unreachable(&format!("{}:80", address(&daemon, name, "bridge")));
    }
}

#[test]
fn a_link_follows_its_ends_and_goes_with_them() {
    let (world, mut daemon) = world_with(&FLAGS);
    up(&daemon, "server", "--expose 80");
    up(&daemon, "client", "--link server:db");
    let before = address(&daemon, "server", "bridge");
    let first = serve(&daemon, "server", 80);
    daemon.network_of("client").ask(&format!("{before}:80"));
    drop(first);
    daemon.docker("restart -t 0 server").ok();
    assert_ne!(address(&daemon, "server", "bridge"), before);
    let _server = serve(&daemon, "server", 80);
    let there = format!("{}:80", address(&daemon, "server", "bridge"));
    daemon.network_of("client").ask(&there);
    daemon.docker("restart -t 0 client").ok();
    daemon.network_of("client").ask(&there);
    // A daemon that is killed, and the next, keep connections and links.
    let client = daemon.network_of("client");
    let mut conversation = client.converse(&there);
    daemon.kill();
    conversation.goes_on();
    client.ask(&there);
    daemon.start_process();
    conversation.goes_on();
    client.ask(&there);
    if is_foreign() {
        return;
    }
    assert_eq!(
        (elements(&world.host), answers(&daemon, &world.host).0),
        (1, "1".to_owned())
    );
    daemon.docker("stop -t 0 server").ok();
    assert_eq!(
        (elements(&world.host), answers(&daemon, &world.host).0),
        (0, "0".to_owned())
    );
    daemon.docker("start server").ok();
    wait_until("the link leads there again", || elements(&world.host) == 1);
    daemon.docker("rm --link /client/db").ok();
    assert_eq!(
        (elements(&world.host), answers(&daemon, &world.host).0),
        (0, "0".to_owned())
    );
    let _server = serve(&daemon, "server", 80);
    let there = format!("{}:80", address(&daemon, "server", "bridge"));
    daemon.network_of("client").assert_unreachable(&there);
}

#[test]
fn what_ends_while_no_daemon_watches_is_linked_no_more() {
    if is_foreign() {
        return;
    }
    let (world, mut daemon) = world_with(&["--icc=false", "--ipv6", "--fixed-cidr-v6", "fd00:7::/64"]);
    up(&daemon, "server", "--expose 80-81");
    up(&daemon, "client", "--link server:db --link server:other");
    assert_eq!(elements(&world.host), 4);
    let proxies = || {
        let bridge = default_bridge(&daemon);
        world
            .host
            .run(["ip", "-6", "neighbour", "show", "proxy", "dev", &bridge])
            .ok()
    };
    assert_eq!(proxies().lines().count(), 2, "{}", proxies());
    let client = daemon.container_pid("client");
    daemon.kill();
    process::end_unseen(client);
    daemon.start_process();
    assert_eq!(elements(&world.host), 0);
    assert_eq!(answers(&daemon, &world.host), ("0".to_owned(), "0".to_owned()));
    let bridge = default_bridge(&daemon);
    let proxies = world
        .host
        .run(["ip", "-6", "neighbour", "show", "proxy", "dev", &bridge])
        .ok();
    assert_eq!(proxies, "");
}

#[test]
fn without_a_firewall_nobody_is_let_through() {
    if is_foreign() {
        return;
    }
    let (world, mut daemon) = world_with(&["--icc=false", "--iptables=false", "--ip6tables=false"]);
    up(&daemon, "server", "--expose 80");
    up(&daemon, "client", "--link server:db");
    let _server = serve(&daemon, "server", 80);
    let there = format!("{}:80", address(&daemon, "server", "bridge"));
    for _ in 0..2 {
        assert_eq!(answers(&daemon, &world.host).0, "0");
        daemon.network_of("client").assert_unreachable(&there);
        daemon.kill_and_start();
    }
}

#[test]
fn links_come_back_with_the_rules_and_the_bridge_that_somebody_took_away() {
    if is_foreign() {
        return;
    }
    let (world, daemon) = world_with(&FLAGS);
    up(&daemon, "server", "--expose 80");
    up(&daemon, "client", "--link server:db");
    let _server = serve(&daemon, "server", 80);
    let there = format!("{}:80", address(&daemon, "server", "bridge"));
    let client = daemon.network_of("client");
    world.host.run("nft flush ruleset").ok();
    wait_until("the table is there again", || elements(&world.host) == 1);
    client.ask(&there);
    let bridge = default_bridge(&daemon);
    world.host.ip(["link", "delete", &bridge]);
    wait_until("the bridge is there again", || {
        world.host.interfaces().contains(&bridge)
    });
    client.ask(&there);
}

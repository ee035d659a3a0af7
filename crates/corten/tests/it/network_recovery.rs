//! What outlives the daemon: connections, ports, names and addresses; and what a host needs after a power cut.
use corten_testkit::{
    names::A,
    wait::wait_until,
    world::{FAR, HOST, OTHER},
};

use crate::network::{address, default_bridge, is_foreign, network, serve, up, world};

#[test]
fn connections_go_on_while_the_daemon_is_dead_and_when_it_is_back() {
    if is_foreign() {
        return;
    }
    let (world, mut daemon) = world();
    daemon.docker("network create lane").ok();
    up(&daemon, "web", "--network lane -p 8080:80 --network-alias www");
    up(&daemon, "client", "--network lane");
    let _server = serve(&daemon, "web", 80);
    let _far = world.other.serve("far", &format!("{FAR}:80"));
    let there = address(&daemon, "web", "lane");
    let inside = daemon.network_of("client");
    let mut conversations = [
        world.other.converse(&format!("{HOST}:8080")),
        world.host.converse("127.0.0.1:8080"),
        inside.converse(&format!("{there}:80")),
        inside.converse(&format!("{FAR}:80")),
    ];
    daemon.kill();
    conversations.iter_mut().for_each(|one| one.goes_on());
    // New ones too: what the kernel does needs no daemon.
    assert_eq!(world.other.ask(&format!("{HOST}:8080")), format!("web {OTHER}"));
    assert_eq!(inside.ask(&format!("{FAR}:80")), format!("far {HOST}"));
    daemon.start_process();
    conversations.iter_mut().for_each(|one| one.goes_on());
    assert_eq!(world.other.ask(&format!("{HOST}:8080")), format!("web {OTHER}"));
    assert_eq!(inside.addresses_of("www"), std::slice::from_ref(&there));
    assert_eq!(inside.resolve_tcp("web", A).records, std::slice::from_ref(&there));
    assert_eq!(address(&daemon, "web", "lane"), there);
    world.host.ask("[::1]:8080");
}

#[test]
fn what_was_given_away_stays_given_away() {
    if is_foreign() {
        return;
    }
    let (world, mut daemon) = world();
    daemon.docker("network create --subnet 10.7.0.0/29 small").ok();
    up(&daemon, "one", "--network small -p 8080:80");
    let before = address(&daemon, "one", "small");
    daemon.kill_and_start();
    for number in 0..4 {
        up(&daemon, &format!("box{number}"), "--network small");
        assert_ne!(address(&daemon, &format!("box{number}"), "small"), before);
    }
    let error = daemon
        .docker("run -d --name late --network small busybox true")
        .fails(125);
    assert!(error.contains("no available IPv4 addresses"), "{error}");
    let error = daemon.docker("run -d --name double -p 8080:80 busybox true").fails(125);
    assert!(error.contains("port is already allocated"), "{error}");
    world
        .host
        .inside(|| std::net::TcpListener::bind("0.0.0.0:8080"))
        .expect_err("it is published");
    let error = daemon.docker("network rm small").fails(1);
    assert!(error.contains("has active endpoints"), "{error}");
    daemon.docker("rm -f one").ok();
    world
        .host
        .inside(|| std::net::TcpListener::bind("0.0.0.0:8080"))
        .expect("it is free");
}

#[test]
fn a_container_that_died_meanwhile_leaves_nothing() {
    if is_foreign() {
        return;
    }
    let (world, mut daemon) = world();
    up(&daemon, "box", "-p 8080:80");
    let pid = daemon.container_pid("box");
    daemon.kill();
    corten_testkit::process::end_unseen(pid);
    daemon.start_process();
    assert_eq!(daemon.status("box"), "exited");
    world
        .host
        .inside(|| std::net::TcpListener::bind("0.0.0.0:8080"))
        .expect("it is free");
    wait_until("its interface is gone", || world.host.interfaces().len() == 3);
    world.other.assert_closed(&format!("{HOST}:8080"));
    assert_eq!(network(&daemon, "bridge")["Containers"], serde_json::json!({}));
    daemon.docker("start box").ok();
    let _server = serve(&daemon, "box", 80);
    world.other.ask(&format!("{HOST}:8080"));
}

#[test]
fn networks_are_there_again_after_a_power_cut() {
    if is_foreign() {
        return;
    }
    let (world, mut daemon) = world();
    daemon
        .docker("network create --ipv6 --subnet 10.7.0.0/24 --subnet fd07::/64 -o com.docker.network.bridge.name=lane0 lane")
        .ok();
    daemon.docker("network create --internal cellar").ok();
    let before = [network(&daemon, "lane"), network(&daemon, "cellar")];
    up(&daemon, "web", "--network lane --ip 10.7.0.9 -p 8080:80");
    daemon.reboot();
    world.plug();
    daemon.start_process();
    let mut after = [network(&daemon, "lane"), network(&daemon, "cellar")];
    for (before, after) in before.iter().zip(&mut after) {
        assert_eq!(
            (&before["Id"], &before["IPAM"], &before["Options"]),
            (&after["Id"], &after["IPAM"], &after["Options"])
        );
    }
    assert!(world.host.interfaces().contains(&"lane0".to_owned()));
    assert!(world.host.interfaces().contains(&default_bridge(&daemon)));
    assert_eq!(daemon.status("web"), "exited");
    world.other.assert_closed(&format!("{HOST}:8080"));
    daemon.docker("start web").ok();
    assert_eq!(address(&daemon, "web", "lane"), "10.7.0.9");
    let _server = serve(&daemon, "web", 80);
    assert_eq!(world.other.ask(&format!("{HOST}:8080")), format!("web {OTHER}"));
    let _far = world.other.serve("far", &format!("{FAR}:80"));
    assert_eq!(
        daemon.network_of("web").ask(&format!("{FAR}:80")),
        format!("far {HOST}")
    );
}

#[test]
fn what_someone_took_away_is_put_back_and_what_nobody_needs_is_removed() {
    if is_foreign() {
        return;
    }
    let (world, mut daemon) = world();
    daemon
        .docker("network create -o com.docker.network.bridge.name=lane0 lane")
        .ok();
    daemon
        .docker("network create -o com.docker.network.bridge.name=idle0 idle")
        .ok();
    up(&daemon, "web", "--network lane -p 8080:80");
    let _server = serve(&daemon, "web", 80);
    daemon.kill();
    world.host.run("nft flush ruleset").ok();
    world.host.ip("link delete idle0");
    world.other.assert_closed(&format!("{HOST}:8080"));
    daemon.start_process();
    assert_eq!(world.other.ask(&format!("{HOST}:8080")), format!("web {OTHER}"));
    assert!(world.host.interfaces().contains(&"idle0".to_owned()));
}

/// Interfaces have other numbers when they were made anew.
fn without_numbers(text: &str) -> Vec<String> {
    let without = |line: &str| {
        line.trim_start_matches(|letter: char| letter.is_ascii_digit())
            .to_owned()
    };
    let mut lines: Vec<String> = text.lines().map(without).collect();
    lines.sort();
    lines
}

#[test]
fn a_leave_and_a_join_that_were_cut_short_are_undone() {
    if is_foreign() {
        return;
    }
    let (world, mut daemon) = world();
    for name in ["red", "blue"] {
        let option = format!("com.docker.network.bridge.name={name}0");
        daemon.docker(&format!("network create -o {option} {name}")).ok();
    }
    up(&daemon, "web", "--network blue -p 8080:80");
    daemon.docker("network connect red web").ok();
    up(&daemon, "other", "--network red");
    let inside = daemon.network_of("web");
    let look = || {
        [
            inside.interfaces().join(" "),
            inside.ip("-4 route"),
            inside.ip("-oneline -4 address"),
        ]
    };
    let before = look();
    assert!(before[1].contains("default via"), "{before:?}");
    daemon.kill();
    // As a daemon leaves it that took the container out of one network and put it on another, and wrote down neither.
    inside.ip("link delete eth0");
    world.host.join("half", &inside, "eth7");
    world.host.ip("link set half master red0");
    inside.ip("route replace default dev eth7");
    daemon.start_process();
    assert_eq!(
        look().map(|text| without_numbers(&text)),
        before.map(|text| without_numbers(&text))
    );
    assert!(!world.host.interfaces().contains(&"half".to_owned()));
}

#[test]
fn the_operators_chain_is_asked_first_and_never_touched() {
    if is_foreign() {
        return;
    }
    let (world, mut daemon) = world();
    up(&daemon, "web", "-p 8080:80 -p 8081:81");
    let _servers = [80, 81].map(|port| serve(&daemon, "web", port));
    let rules = world.host.run("nft list ruleset").ok();
    let table = rules
        .lines()
        .find_map(|line| line.strip_prefix("table inet "))
        .expect("there is a table of ours");
    let table = table.trim_end_matches(" {").to_owned();
    assert!(rules.contains("chain user {"), "{rules}");
    assert_eq!(rules.matches("table ").count(), 1, "one table: {rules}");
    let rule = "ip saddr 10.99.0.0/24 meta l4proto tcp ct original proto-dst 8081 drop";
    world
        .host
        .run(format!("nft add rule inet {table} user {rule}").as_str())
        .ok();
    assert_eq!(world.other.ask(&format!("{HOST}:8080")), format!("web {OTHER}"));
    world.other.assert_unreachable(&format!("{HOST}:8081"));
    daemon.kill_and_start();
    assert_eq!(world.other.ask(&format!("{HOST}:8080")), format!("web {OTHER}"));
    world.other.assert_unreachable(&format!("{HOST}:8081"));
    world
        .host
        .run(format!("nft flush chain inet {table} user").as_str())
        .ok();
    world.other.ask(&format!("{HOST}:8081"));
    // Published ports for one subnet only: what the container itself asks for still comes back.
    let _far = world.other.serve("far", &format!("{FAR}:80"));
    let rule = "iifname eth0 ip saddr != 192.0.2.0/24 ct status dnat drop";
    world
        .host
        .run(format!("nft add rule inet {table} user {rule}").as_str())
        .ok();
    world.other.assert_unreachable(&format!("{HOST}:8080"));
    daemon.network_of("web").ask(&format!("{FAR}:80"));
    world.host.ask("127.0.0.1:8080");
}

#[test]
fn two_daemons_of_one_host_do_not_meet() {
    if is_foreign() {
        return;
    }
    let (world, one) = world();
    let other = world.start(crate::setup());
    other.load(&corten_testkit::image::busybox());
    assert_ne!(default_bridge(&one), default_bridge(&other));
    up(&one, "web", "-p 8080:80");
    up(&other, "web", "-p 8081:80");
    let _servers = (serve(&one, "web", 80), serve(&other, "web", 80));
    assert_ne!(address(&one, "web", "bridge"), address(&other, "web", "bridge"));
    for port in [8080, 8081] {
        assert_eq!(world.other.ask(&format!("{HOST}:{port}")), format!("web {OTHER}"));
    }
    let error = other.docker("run --rm -p 8080:80 busybox true").fails(125);
    assert!(error.contains("address already in use"), "{error}");
}

#[test]
fn foreign_firewalls_are_named_with_their_remedy() {
    if is_foreign() {
        return;
    }
    let (world, daemon) = world();
    let quiet = daemon.api().get("/info").expect(200).json()["Warnings"].to_string();
    assert!(!quiet.contains("FORWARD"), "{quiet}");
    world.host.run("iptables -P FORWARD DROP").ok();
    let said = wait_for_warning(&daemon, "FORWARD");
    assert!(said.contains("iptables"), "{said}");
}

fn wait_for_warning(daemon: &corten_testkit::daemon::Daemon, word: &str) -> String {
    corten_testkit::wait::wait_for("info warns", || {
        let warnings = daemon.api().get("/info").expect(200).json()["Warnings"].to_string();
        warnings.contains(word).then_some(warnings)
    })
}

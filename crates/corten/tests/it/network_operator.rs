//! What operators keep for themselves: the default bridge, the firewall, forwarding; and what they allow beyond the usual.
use corten_testkit::{
    image,
    wait::wait_until,
    world::{HOST, OTHER, World},
};

use crate::{
    network::{address, default_bridge, endpoint, is_foreign, network, serve, up, world, world_with},
    setup,
};

#[test]
fn a_bridge_that_somebody_made_is_the_default_networks_and_stays() {
    let world = World::new();
    let refused = setup().network(&world.host).arguments("--bridge own0").start_in_vain();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned() + &String::from_utf8_lossy(&refused.stdout);
    assert!(
        said.contains("bridge device with non default name own0 must be created manually"),
        "{said}"
    );
    world.host.ip("link add own0 type bridge");
    world.host.ip("address add 10.44.0.1/24 dev own0");
    world.host.ip("link set own0 up");
    let mut daemon = world.start(setup().arguments("--bridge own0"));
    daemon.load(&image::busybox());
    up(&daemon, "box", "-p 8080:80");
    let _server = serve(&daemon, "box", 80);
    assert_eq!(default_bridge(&daemon), "own0");
    assert_eq!(endpoint(&daemon, "box", "bridge")["Gateway"], "10.44.0.1");
    assert_eq!(world.other.ask(&format!("{HOST}:8080")), format!("box {OTHER}"));
    daemon.docker("rm -f box").ok();
    daemon.stop();
    assert!(world.host.ip("-o address show dev own0").contains("10.44.0.1/24"));
}

#[test]
fn without_a_firewall_there_is_no_table_and_ports_are_the_proxys() {
    let (world, mut daemon) = world_with(&["--iptables=false", "--ip6tables=false"]);
    up(&daemon, "web", "-p 8080:80");
    let _server = serve(&daemon, "web", 80);
    let tables = || world.host.run("nft list tables").ok();
    for _ in 0..2 {
        if !is_foreign() {
            assert_eq!(tables(), "");
        }
        for (from, address) in [(&world.other, HOST), (&world.host, "127.0.0.1"), (&world.host, "[::1]")] {
            assert_eq!(from.ask(&format!("{address}:8080")), "web 172.17.0.1", "{address}");
        }
        if is_foreign() {
            return;
        }
        daemon.kill_and_start();
    }
    daemon.docker("rm -f web").ok();
    world.other.assert_closed(&format!("{HOST}:8080"));
}

#[test]
fn a_family_without_firewall_rules_is_not_spoken_of() {
    if is_foreign() {
        return;
    }
    let (world, daemon) = world_with(&["--ip6tables=false"]);
    daemon.docker("network create --ipv6 --subnet fd07::/64 lane").ok();
    up(&daemon, "web", "--network lane -p 8080:80");
    let _server = serve(&daemon, "web", 80);
    let ruleset = world.host.run("nft list ruleset").ok();
    assert!(
        ruleset.contains("tcp . 8080") && !ruleset.contains("fd07:"),
        "{ruleset}"
    );
    assert_eq!(world.other.ask(&format!("{HOST}:8080")), format!("web {OTHER}"));
    world.host.ask("[::1]:8080");
}

#[test]
fn forwarding_is_left_alone_where_the_operator_says_so() {
    let world = World::new();
    world.host.set_sysctl("ipv4/ip_forward", "0").unwrap();
    let daemon = world.start(setup().arguments("--ip-forward=false"));
    daemon.load(&image::busybox());
    up(&daemon, "box", "");
    for interface in [default_bridge(&daemon), "eth0".to_owned()] {
        let switch = world.host.sysctl(&format!("ipv4/conf/{interface}/forwarding"));
        assert_eq!(switch.as_deref(), Some("0"), "{interface}");
    }
}

#[test]
fn published_ports_are_reached_by_the_containers_address_where_that_is_allowed() {
    let (world, daemon) = world();
    let trusting = "-o com.docker.network.bridge.trusted_host_interfaces";
    daemon
        .docker(format!("network create {trusting}=eth7:eth0 open").as_str())
        .ok();
    daemon
        .docker(format!("network create {trusting}=eth7 closed").as_str())
        .ok();
    for name in ["open", "closed"] {
        up(&daemon, name, format!("--network {name} -p 80").as_str());
    }
    let _servers = ["open", "closed"].map(|name| [80, 81].map(|port| serve(&daemon, name, port)));
    world.other.ip(["route", "add", "172.16.0.0/12", "via", HOST]);
    let (open, closed) = (address(&daemon, "open", "open"), address(&daemon, "closed", "closed"));
    assert_eq!(world.other.ask(&format!("{open}:80")), format!("open {OTHER}"));
    world.other.assert_closed(&format!("{open}:81"));
    world.other.assert_closed(&format!("{closed}:80"));
}

#[test]
fn all_published_ports_are_where_the_daemon_allows_it() {
    let (world, daemon) = world_with(&["--allow-direct-routing"]);
    up(&daemon, "web", "-p 8080:80");
    let _servers = [80, 81].map(|port| serve(&daemon, "web", port));
    world.other.ip(["route", "add", "172.17.0.0/16", "via", HOST]);
    let there = address(&daemon, "web", "bridge");
    assert_eq!(world.other.ask(&format!("{there}:80")), format!("web {OTHER}"));
    assert_eq!(world.other.ask(&format!("{HOST}:8080")), format!("web {OTHER}"));
    world.other.assert_closed(&format!("{there}:81"));
    daemon.docker("rm -f web").ok();
    up(&daemon, "web", "");
    let _server = serve(&daemon, "web", 80);
    let there = address(&daemon, "web", "bridge");
    world.other.assert_closed(&format!("{there}:80"));
}

#[test]
fn another_router_on_the_default_bridge_has_the_default_route() {
    let (_world, daemon) = world_with(&["--bip=10.9.0.1/24", "--default-gateway=10.9.0.254"]);
    let routes = daemon.docker("run --rm busybox ip route").ok();
    assert!(routes.contains("default via 10.9.0.254 dev eth0"), "{routes}");
    let pools = &network(&daemon, "bridge")["IPAM"]["Config"];
    assert_eq!(
        pools[0]["AuxiliaryAddresses"]["DefaultGatewayIPv4"], "10.9.0.254",
        "{pools}"
    );
    // Nobody else gets its address.
    for number in 0..3 {
        let name = format!("box{number}");
        up(&daemon, &name, "");
        assert_ne!(address(&daemon, &name, "bridge"), "10.9.0.254");
    }
}

#[test]
fn a_configuration_makes_networks_and_is_none() {
    let (world, mut daemon) = world();
    daemon
        .docker("network create --config-only --subnet 10.7.0.0/24 --label of=plan -o com.docker.network.driver.mtu=1400 plan")
        .ok();
    let interfaces = world.host.interfaces();
    let error = daemon.docker("run --rm --network plan busybox true").fails(125);
    assert!(!error.is_empty());
    let error = daemon
        .docker("network create --config-from plan --subnet 10.8.0.0/24 lane")
        .fails(1);
    assert!(
        error.contains("user specified configurations are not supported"),
        "{error}"
    );
    let error = daemon.docker("network create --config-from bridge lane").fails(1);
    assert!(error.contains("bridge"), "{error}");
    assert_eq!(world.host.interfaces(), interfaces);
    daemon.docker("network create --config-from plan lane").ok();
    up(&daemon, "box", "--network lane");
    let seen = network(&daemon, "plan");
    assert_eq!(
        (seen["ConfigOnly"].as_bool(), seen["Driver"].as_str()),
        (Some(true), Some("null"))
    );
    let seen = network(&daemon, "lane");
    assert_eq!(seen["ConfigFrom"]["Network"], "plan");
    assert_eq!(
        (seen["Driver"].as_str(), seen["Labels"]["of"].as_str()),
        (Some("bridge"), Some("plan"))
    );
    assert_eq!(seen["IPAM"]["Config"][0]["Subnet"], "10.7.0.0/24");
    let mtu = daemon.exec("box", "cat /sys/class/net/eth0/mtu").ok();
    assert_eq!(mtu.trim(), "1400");
    if !is_foreign() {
        daemon.kill_and_start();
    }
    let error = daemon.docker("network rm plan").fails(1);
    assert!(error.contains("configuration network \"plan\" is in use"), "{error}");
    daemon.docker("network prune -f").ok();
    daemon.docker("rm -f box").ok();
    daemon.docker("network rm lane").ok();
    daemon.docker("network rm plan").ok();
}

#[test]
fn a_bridge_that_somebody_deletes_comes_back_with_its_containers() {
    if is_foreign() {
        return;
    }
    let (world, daemon) = world();
    daemon
        .docker("network create -o com.docker.network.bridge.name=lane0 lane")
        .ok();
    up(&daemon, "web", "--network lane -p 8080:80");
    up(&daemon, "client", "--network lane");
    let _server = serve(&daemon, "web", 80);
    world.other.ask(&format!("{HOST}:8080"));
    world.host.ip("link delete lane0");
    wait_until("the bridge is there again", || {
        world.other.try_ask(&format!("{HOST}:8080")).is_ok()
    });
    let there = address(&daemon, "web", "lane");
    daemon.network_of("client").ask(&format!("{there}:80"));
    // One that is taken away with its network stays away.
    daemon.docker("rm -f web client").ok();
    daemon.docker("network rm lane").ok();
    up(&daemon, "later", "");
    assert!(!world.host.interfaces().contains(&"lane0".to_owned()));
}

#[test]
fn ports_that_had_no_way_out_are_remembered_across_a_restart() {
    if is_foreign() {
        return;
    }
    let (world, mut daemon) = world();
    daemon.docker("network create --internal cellar").ok();
    up(&daemon, "web", "--network cellar -p 8080:80");
    daemon.kill_and_start();
    daemon.docker("network connect bridge web").ok();
    let _server = serve(&daemon, "web", 80);
    assert_eq!(world.other.ask(&format!("{HOST}:8080")), format!("web {OTHER}"));
}

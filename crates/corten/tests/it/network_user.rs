//! Networks that users make: their own subnets and addresses, several at once, joined and left while containers run.
use corten_testkit::{
    namespace::Namespace,
    process,
    wait::wait_until,
    world::{FAR, FAR6, HOST, HOST6, OTHER, World},
};
use rustix::process::Signal;
use serde_json::json;

use crate::network::{address, address6, endpoint, is_foreign, network, serve, up, world, world_with};

#[test]
fn networks_are_apart_and_each_has_a_subnet_of_its_own() {
    let (world, daemon) = world();
    daemon.docker("network create red").ok();
    daemon.docker("network create blue").ok();
    up(&daemon, "one", "--network red");
    up(&daemon, "two", "--network blue");
    up(&daemon, "three", "");
    let _servers = ["one", "two", "three"].map(|name| serve(&daemon, name, 80));
    let one = address(&daemon, "one", "red");
    assert_eq!(one, "172.18.0.2");
    assert_eq!(address(&daemon, "two", "blue"), "172.19.0.2");
    for stranger in ["two", "three"] {
        daemon.network_of(stranger).assert_closed(&format!("{one}:80"));
        daemon.network_of(stranger).assert_closed("172.18.0.1:80");
    }
    daemon
        .network_of("one")
        .assert_closed(&format!("{}:80", address(&daemon, "three", "bridge")));
    // The host reaches all of them, and all of them reach the world.
    world.host.ask(&format!("{one}:80"));
    let _far = world.other.serve("far", &format!("{FAR}:80"));
    assert_eq!(
        daemon.network_of("two").ask(&format!("{FAR}:80")),
        format!("far {HOST}")
    );
}

#[test]
fn a_subnet_that_the_host_uses_is_not_chosen() {
    if is_foreign() {
        return; // It looks only at what is on the link.
    }
    let (world, daemon) = world();
    world.host.ip(["route", "add", "172.18.0.0/16", "via", OTHER]);
    world.host.add_address("eth0", "172.20.3.4/24");
    for name in ["one", "two", "three"] {
        daemon.docker(&format!("network create {name}")).ok();
    }
    let subnets = ["one", "two", "three"].map(|name| network(&daemon, name)["IPAM"]["Config"][0]["Subnet"].clone());
    assert_eq!(subnets, ["172.19.0.0/16", "172.21.0.0/16", "172.22.0.0/16"]);
}

#[test]
fn addresses_can_be_chosen() {
    let (_world, daemon) = world();
    daemon
        .docker(
            "network create --subnet 10.7.0.0/16 --ip-range 10.7.5.0/24 --gateway 10.7.5.254 --aux-address nas=10.7.5.1 \
             --aux-address printer=10.7.5.3 lane",
        )
        .ok();
    up(&daemon, "one", "--network lane");
    up(&daemon, "two", "--network lane");
    let taken = [address(&daemon, "one", "lane"), address(&daemon, "two", "lane")];
    assert!(taken.iter().all(|address| address.starts_with("10.7.5.")), "{taken:?}");
    assert!(
        !taken
            .iter()
            .any(|address| ["10.7.5.1", "10.7.5.3", "10.7.5.254"].contains(&address.as_str()))
    );
    up(
        &daemon,
        "three",
        "--network lane --ip 10.7.9.9 --mac-address 02:00:00:00:00:09",
    );
    assert_eq!(address(&daemon, "three", "lane"), "10.7.9.9");
    let seen = daemon.exec("three", "ip -o address show eth0").ok();
    assert!(seen.contains("10.7.9.9/16"), "{seen}");
    assert_eq!(
        daemon.exec("three", "cat /sys/class/net/eth0/address").ok(),
        "02:00:00:00:00:09"
    );
    assert_eq!(endpoint(&daemon, "three", "lane")["MacAddress"], "02:00:00:00:00:09");
    assert_eq!(
        endpoint(&daemon, "three", "lane")["IPAMConfig"],
        json!({"IPv4Address": "10.7.9.9"})
    );
    assert_eq!(endpoint(&daemon, "three", "lane")["Gateway"], "10.7.5.254");
    // It keeps what it asked for across a restart.
    daemon.docker("restart -t 0 three").ok();
    assert_eq!(address(&daemon, "three", "lane"), "10.7.9.9");
    let config = &network(&daemon, "lane")["IPAM"]["Config"][0];
    assert_eq!(config["Gateway"], "10.7.5.254");
    assert_eq!(config["IPRange"], "10.7.5.0/24");
    assert_eq!(config["AuxiliaryAddresses"]["nas"], "10.7.5.1");
}

#[test]
fn both_families_with_subnets_of_ones_own() {
    let (world, daemon) = world();
    daemon
        .docker("network create --ipv6 --subnet 10.7.0.0/24 --subnet fd07:7::/64 --gateway fd07:7::7 dual")
        .ok();
    up(&daemon, "one", "--network dual --ip6 fd07:7::99");
    up(&daemon, "two", "--network dual");
    assert_eq!(address6(&daemon, "one", "dual"), "fd07:7::99");
    assert_eq!(endpoint(&daemon, "one", "dual")["IPv6Gateway"], "fd07:7::7");
    assert_eq!(endpoint(&daemon, "one", "dual")["GlobalIPv6PrefixLen"], 64);
    let _server = serve(&daemon, "one", 80);
    let two = address6(&daemon, "two", "dual");
    assert_eq!(daemon.network_of("two").ask("[fd07:7::99]:80"), format!("one {two}"));
    world.host.ask("[fd07:7::99]:80");
    assert_eq!(
        daemon.network_of("two").ask("10.7.0.2:80"),
        format!("one {}", address(&daemon, "two", "dual"))
    );
    if is_foreign() {
        return; // Docker before 27 translates no IPv6.
    }
    let _far = world.other.serve("far", &format!("[{FAR6}]:80"));
    assert_eq!(
        daemon.network_of("one").ask(&format!("[{FAR6}]:80")),
        format!("far {HOST6}")
    );
    world.other.ip(["-6", "route", "add", "fd07:7::/64", "via", HOST6]);
    world.other.assert_closed("[fd07:7::99]:80");
}

#[test]
fn ipv6_needs_no_subnet() {
    if is_foreign() {
        return; // Since 27.
    }
    let (_world, daemon) = world();
    daemon.docker("network create --ipv6 one").ok();
    daemon.docker("network create --ipv6 two").ok();
    up(&daemon, "box1", "--network one");
    up(&daemon, "box2", "--network two");
    let (a, b) = (address6(&daemon, "box1", "one"), address6(&daemon, "box2", "two"));
    assert!(a.starts_with("fd") && b.starts_with("fd"), "{a} {b}");
    assert_ne!(
        a.split(':').take(4).collect::<Vec<_>>(),
        b.split(':').take(4).collect::<Vec<_>>()
    );
}

#[test]
fn a_network_of_ipv6_alone() {
    if is_foreign() {
        return; // Since 28.
    }
    let (_world, daemon) = world();
    daemon
        .docker("network create --ipv4=false --ipv6 --subnet fd07::/64 six")
        .ok();
    up(&daemon, "one", "--network six");
    up(&daemon, "two", "--network six");
    let _server = serve(&daemon, "one", 80);
    let one = address6(&daemon, "one", "six");
    assert_eq!(endpoint(&daemon, "one", "six")["IPAddress"], "");
    daemon.network_of("two").ask(&format!("[{one}]:80"));
    assert_eq!(
        daemon
            .network_of("two")
            .resolve("one", corten_testkit::names::AAAA)
            .records,
        [one]
    );
}

#[test]
fn an_internal_network_has_no_way_out_and_none_in() {
    let (world, daemon) = world();
    daemon
        .docker("network create --internal --subnet 10.7.0.0/24 cellar")
        .ok();
    up(&daemon, "one", "--network cellar -p 8080:80");
    up(&daemon, "two", "--network cellar");
    let _servers = ["one", "two"].map(|name| serve(&daemon, name, 80));
    let (one, two) = (address(&daemon, "one", "cellar"), address(&daemon, "two", "cellar"));
    assert_eq!(daemon.network_of("two").ask(&format!("{one}:80")), format!("one {two}"));
    let _far = world.other.serve("far", &format!("{FAR}:80"));
    daemon.network_of("one").assert_closed(&format!("{FAR}:80"));
    daemon.network_of("one").assert_closed(&format!("{OTHER}:80"));
    assert!(!daemon.exec("one", "ip route").ok().contains("default"));
    // Not even with a route that it made itself, nor from a neighbour that has one.
    daemon.network_of("one").ip("route add default via 10.7.0.1");
    daemon.network_of("one").assert_closed(&format!("{FAR}:80"));
    world.other.ip(["route", "add", "10.7.0.0/24", "via", HOST]);
    world.other.assert_closed(&format!("{one}:80"));
    world.other.assert_closed(&format!("{HOST}:8080"));
    assert_eq!(network(&daemon, "cellar")["Internal"], true);
}

#[test]
fn without_icc_neighbours_do_not_meet() {
    let (world, daemon) = world();
    daemon
        .docker("network create -o com.docker.network.bridge.enable_icc=false quiet")
        .ok();
    up(&daemon, "one", "--network quiet -p 8080:80");
    up(&daemon, "two", "--network quiet");
    let _server = serve(&daemon, "one", 80);
    let _host = world.host.serve("host", "0.0.0.0:7000");
    let there = format!("{}:80", address(&daemon, "one", "quiet"));
    daemon.network_of("two").assert_unreachable(&there);
    world.host.ask(&there);
    daemon.network_of("two").ask("172.18.0.1:7000");
    let _far = world.other.serve("far", &format!("{FAR}:80"));
    assert_eq!(
        daemon.network_of("two").ask(&format!("{FAR}:80")),
        format!("far {HOST}")
    );
    // What is published is for everyone.
    assert_eq!(world.other.ask(&format!("{HOST}:8080")), format!("one {OTHER}"));
}

#[test]
fn a_running_container_joins_and_leaves() {
    let (world, daemon) = world();
    daemon.docker("network create red").ok();
    daemon.docker("network create blue").ok();
    up(&daemon, "one", "--network red");
    up(&daemon, "two", "--network blue");
    let _server = serve(&daemon, "two", 80);
    let two = address(&daemon, "two", "blue");
    daemon.network_of("one").assert_closed(&format!("{two}:80"));
    daemon.docker("network connect --alias helper blue one").ok();
    let inside = daemon.network_of("one");
    assert_eq!(inside.interfaces(), ["eth0", "eth1", "lo"]);
    assert_eq!(
        inside.ask(&format!("{two}:80")),
        format!("two {}", address(&daemon, "one", "blue"))
    );
    assert_eq!(inside.addresses_of("two"), std::slice::from_ref(&two));
    assert_eq!(
        daemon.network_of("two").addresses_of("helper"),
        [address(&daemon, "one", "blue")]
    );
    let _far = world.other.serve("far", &format!("{FAR}:80"));
    assert_eq!(inside.ask(&format!("{FAR}:80")), format!("far {HOST}"));

    daemon.docker("network disconnect red one").ok();
    wait_until("eth0 is gone", || inside.interfaces() == ["eth1", "lo"]);
    // The way out is now that of the other network.
    assert_eq!(inside.ask(&format!("{FAR}:80")), format!("far {HOST}"));
    assert_eq!(endpoint(&daemon, "one", "red"), serde_json::Value::Null);
    daemon.docker("network disconnect blue one").ok();
    wait_until("only loopback is left", || inside.interfaces() == ["lo"]);
    assert!(daemon.network_of("two").addresses_of("helper").is_empty());
    daemon.docker("network connect red one").ok();
    assert_eq!(inside.ask(&format!("{FAR}:80")), format!("far {HOST}"));
    // All of it holds for the next start.
    daemon.docker("restart -t 0 one").ok();
    assert!(address(&daemon, "one", "red").starts_with("172.18.0."));
}

#[test]
fn a_container_that_is_just_ending_joins_for_its_next_start() {
    if is_foreign() {
        return; // It asks for our companion process.
    }
    let (_world, daemon) = world();
    daemon.docker("network create red").ok();
    daemon.docker("network create blue").ok();
    up(&daemon, "one", "--network red");
    let (pid, shim) = (daemon.container_pid("one"), daemon.shim_pid("one"));
    // Dead, and nobody has heard of it.
    process::signal(shim, Signal::STOP);
    process::signal(pid, Signal::KILL);
    wait_until("its namespaces are gone", || {
        std::fs::read_link(format!("/proc/{pid}/ns/net")).is_err()
    });
    daemon.docker("network connect blue one").ok();
    daemon.docker("network disconnect red one").ok();
    process::signal(shim, Signal::CONT);
    daemon.wait_for_status("one", "exited");
    daemon.docker("start one").ok();
    assert_eq!(daemon.network_of("one").interfaces(), ["eth0", "lo"]);
    address(&daemon, "one", "blue");
}

#[test]
fn a_container_that_does_not_run_joins_for_its_next_start() {
    let (_world, daemon) = world();
    daemon.docker("network create red").ok();
    daemon.docker("network create --subnet 10.7.0.0/24 blue").ok();
    daemon.docker("create --name one --network red busybox sleep 1000").ok();
    daemon.docker("network connect --ip 10.7.0.77 blue one").ok();
    daemon.docker("start one").ok();
    assert_eq!(address(&daemon, "one", "blue"), "10.7.0.77");
    assert!(!address(&daemon, "one", "red").is_empty());
    daemon.docker("stop -t 0 one").ok();
    daemon.docker("network disconnect red one").ok();
    daemon.docker("start one").ok();
    let networks = daemon.inspect("one")["NetworkSettings"]["Networks"].clone();
    assert_eq!(networks.as_object().unwrap().keys().collect::<Vec<_>>(), ["blue"]);
}

#[test]
fn several_networks_from_the_start() {
    let (_world, daemon) = world();
    for name in ["red", "blue", "green"] {
        daemon.docker(&format!("network create {name}")).ok();
    }
    let body = json!({
        "Image": "busybox", "Cmd": ["sleep", "1000"],
        "HostConfig": {"NetworkMode": "red"},
        "NetworkingConfig": {"EndpointsConfig": {
            "red": {"Aliases": ["ruby"]}, "blue": {"Aliases": ["sapphire"]}, "green": {},
        }},
    });
    daemon
        .api()
        .post("/v1.44/containers/create?name=one", Some(&body))
        .expect(201);
    daemon.docker("start one").ok();
    assert_eq!(daemon.network_of("one").interfaces(), ["eth0", "eth1", "eth2", "lo"]);
    up(&daemon, "two", "--network blue");
    assert_eq!(
        daemon.network_of("two").addresses_of("sapphire"),
        [address(&daemon, "one", "blue")]
    );
    assert!(daemon.network_of("two").addresses_of("ruby").is_empty());
    assert!(!daemon.network_of("one").addresses_of("one").is_empty());
}

#[test]
fn several_networks_as_dockers_command_line_spells_them() {
    let (_world, daemon) = world();
    daemon.docker("network create --subnet 10.7.0.0/24 blue").ok();
    daemon.docker("network create --subnet 10.8.0.0/24 red").ok();
    // Values arrive in small letters.
    let switch = "driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1";
    let name = "driver-opt=com.docker.network.endpoint.ifname=west0";
    let blue = format!("name=blue,ip=10.7.0.9,alias=sea,{name},{switch}");
    let red = "name=red,mac-address=02:42:aa:bb:cc:dd,gw-priority=5";
    up(&daemon, "one", ["--network", &blue, "--network", red]);
    assert_eq!(address(&daemon, "one", "blue"), "10.7.0.9");
    let inside = daemon.network_of("one");
    assert_eq!(inside.interfaces(), ["eth0", "lo", "west0"]);
    assert_eq!(inside.sysctl("ipv4/conf/west0/log_martians").as_deref(), Some("1"));
    assert_eq!(inside.sysctl("ipv4/conf/eth0/log_martians").as_deref(), Some("0"));
    assert!(inside.ip("link show eth0").contains("02:42:aa:bb:cc:dd"));
    assert!(inside.ip("route").contains("default via 10.8.0.1 dev eth0"));
}

#[test]
fn what_holds_on_to_a_containers_namespace_makes_no_uplink_of_its_interface() {
    if is_foreign() {
        return;
    }
    let (world, daemon) = world();
    daemon
        .docker("network create -o com.docker.network.bridge.name=lane0 lane")
        .ok();
    up(&daemon, "one", "--network lane");
    // As `nsenter --net` does, for whatever it runs.
    let kept = daemon.network_of("one");
    let wire = endpoint_of_bridge(&world, "lane0");
    daemon.docker("rm -f one").ok();
    daemon.docker("network rm lane").ok();
    let settled = || !world.host.interfaces().contains(&"lane0".to_owned());
    wait_until("the bridge is gone", settled);
    assert!(world.host.interfaces().contains(&wire), "{wire}");
    // The daemon looks at every interface again when one more comes up.
    let neighbour = Namespace::new();
    world.host.join("eth1", &neighbour, "eth0");
    let forwards = |name: &str| world.host.sysctl(&format!("ipv4/conf/{name}/forwarding"));
    wait_until("the new one forwards", || forwards("eth1").as_deref() == Some("1"));
    assert_eq!(forwards(&wire).as_deref(), Some("0"));
    drop(kept);
}

/// The one port of a bridge.
fn endpoint_of_bridge(world: &World, bridge: &str) -> String {
    let listed = world.host.ip(["-brief", "link", "show", "master", bridge]);
    let name = listed.split(['@', ' ']).next().expect("a line begins with a name");
    name.to_owned()
}

#[test]
fn a_network_of_macvlan_is_on_the_wire_itself() {
    let (world, daemon) = world();
    let command = "network create -d macvlan --subnet 10.99.0.0/24 --gateway 10.99.0.2 --ip-range 10.99.0.128/28 \
                   -o parent=eth0 wire";
    daemon.docker(command).ok();
    up(&daemon, "one", "--network wire");
    up(
        &daemon,
        "two",
        "--network wire --ip 10.99.0.140 --mac-address 02:00:00:00:00:40",
    );
    let _server = serve(&daemon, "one", 80);
    let one = address(&daemon, "one", "wire");
    // The other host sees it, and is its way out; the host itself cannot reach it: that is what macvlan is.
    assert_eq!(world.other.ask(&format!("{one}:80")), format!("one {OTHER}"));
    assert_eq!(daemon.network_of("two").ask(&format!("{one}:80")), "one 10.99.0.140");
    let _far = world.other.serve("far", &format!("{FAR}:80"));
    assert_eq!(daemon.network_of("two").ask(&format!("{FAR}:80")), "far 10.99.0.140");
    world.host.assert_closed(&format!("{one}:80"));
    assert_eq!(daemon.network_of("two").addresses_of("one"), [one]);
    assert_eq!(
        daemon.exec("two", "cat /sys/class/net/eth0/address").ok(),
        "02:00:00:00:00:40"
    );
    daemon.docker("rm -f one two").ok();
    daemon.docker("network rm wire").ok();
    assert!(world.host.interfaces().contains(&"eth0".to_owned()));
}

#[test]
fn pools_are_the_operators_and_can_be_empty() {
    let (_world, daemon) = world_with(&["--default-address-pool", "base=10.200.0.0/22,size=24"]);
    let bridge = network(&daemon, "bridge")["IPAM"]["Config"][0]["Subnet"].clone();
    assert_eq!(bridge, "10.200.0.0/24");
    for name in ["one", "two", "three"] {
        daemon.docker(&format!("network create {name}")).ok();
    }
    assert_eq!(
        network(&daemon, "three")["IPAM"]["Config"][0]["Subnet"],
        "10.200.3.0/24"
    );
    let error = daemon.docker("network create four").fails(1);
    assert!(
        error.contains("all predefined address pools have been fully subnetted") || is_foreign(),
        "{error}"
    );
    daemon.docker("network rm two").ok();
    daemon.docker("network create four").ok();
    assert_eq!(network(&daemon, "four")["IPAM"]["Config"][0]["Subnet"], "10.200.2.0/24");
}

#[test]
fn addresses_of_a_small_network_run_out_and_come_back() {
    let (_world, daemon) = world();
    daemon.docker("network create --subnet 10.7.0.0/29 small").ok();
    for number in 0..5 {
        up(&daemon, &format!("box{number}"), "--network small");
    }
    let error = daemon
        .docker("run -d --name late --network small busybox sleep 1000")
        .fails(125);
    assert!(
        error.contains("no available IPv4 addresses on this network's address pools"),
        "{error}"
    );
    daemon.docker("rm -f box2").ok();
    daemon.docker("start late").ok();
    assert!(address(&daemon, "late", "small").starts_with("10.7.0."));
}

#[test]
fn links_of_the_default_network_and_of_others() {
    let (_world, daemon) = world();
    up(&daemon, "server", "");
    let server = address(&daemon, "server", "bridge");
    up(&daemon, "client", "--link server:db");
    let hosts = daemon.exec("client", "cat /etc/hosts").ok();
    assert!(hosts.contains(&format!("{server}\tdb")), "{hosts}");
    daemon.docker("network create lane").ok();
    up(&daemon, "far", "--network lane");
    up(&daemon, "near", "--network lane --link far:db");
    assert_eq!(
        daemon.network_of("near").addresses_of("db"),
        [address(&daemon, "far", "lane")]
    );
    assert!(daemon.network_of("far").addresses_of("db").is_empty());
    let error = daemon.docker("run --rm --link nobody:db busybox true").fails(125);
    assert!(error.contains("nobody"), "{error}");
}

#[test]
fn a_link_is_taken_away_by_the_name_that_its_owner_has_for_it() {
    let (_world, daemon) = world();
    up(&daemon, "server", "");
    up(&daemon, "client", "--link server:db");
    let knows = || daemon.exec("client", "cat /etc/hosts").ok().contains("\tdb ");
    assert!(knows());
    let error = daemon.docker("rm --link client").fails(1);
    assert!(error.contains("cannot remove the default link name"), "{error}");
    daemon.docker("rm --link /client/db").ok();
    assert!(!knows());
    let links = &daemon.inspect("client")["HostConfig"]["Links"];
    assert!(links.as_array().is_none_or(Vec::is_empty), "{links}");
    let error = daemon.docker("rm --link client/db").fails(1);
    assert!(error.contains("No such container: client/db"), "{error}");
    daemon.docker("restart -t 0 client").ok();
    assert!(!knows());
    assert_eq!(daemon.status("server"), "running");
}

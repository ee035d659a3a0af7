//! The API and the command line about networks: lists and filters, inspect, events, prune.
use serde_json::{Value, json};

use crate::network::{address, endpoint, is_foreign, network, up, world};

#[test]
fn lists_are_filtered() {
    let (_world, daemon) = world();
    daemon.docker("network create --label color=red red").ok();
    daemon.docker("network create --label color=blue --internal blue").ok();
    up(&daemon, "box", "--network red");
    let names = |filters: &str| {
        let listed = daemon
            .docker(&format!("network ls {filters} --format {{{{.Name}}}}"))
            .ok();
        let mut names: Vec<String> = listed.lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    assert_eq!(names(""), ["blue", "bridge", "host", "none", "red"]);
    assert_eq!(names("-f type=custom"), ["blue", "red"]);
    assert_eq!(names("-f type=builtin"), ["bridge", "host", "none"]);
    assert_eq!(names("-f driver=host"), ["host"]);
    assert_eq!(names("-f driver=bridge"), ["blue", "bridge", "red"]);
    assert_eq!(names("-f name=re"), ["red"]);
    assert_eq!(names("-f label=color=blue"), ["blue"]);
    assert_eq!(names("-f label=color"), ["blue", "red"]);
    assert_eq!(names("-f scope=local"), ["blue", "bridge", "host", "none", "red"]);
    assert!(is_foreign() || names("-f dangling=true") == ["blue"]);
    assert!(is_foreign() || names("-f dangling=false") == ["bridge", "host", "none", "red"]);
    let id = network(&daemon, "red")["Id"].as_str().unwrap().to_owned();
    assert_eq!(names(&format!("-f id={}", &id[..8])), ["red"]);
    assert_eq!(daemon.docker("network ls -q --no-trunc -f name=red").ok(), id);
    let error = daemon.docker("network ls -f nonsense=1").fails(1);
    assert!(error.contains("nonsense"), "{error}");
    // A list of containers knows networks too.
    assert_eq!(daemon.docker("ps -f network=red --format {{.Names}}").ok(), "box");
    assert_eq!(daemon.docker("ps -f network=blue -q").ok(), "");
    assert_eq!(daemon.docker("ps --format {{.Networks}}").ok(), "red");
}

#[test]
fn inspect_has_every_field_of_dockers() {
    let (_world, daemon) = world();
    daemon
        .docker(
            "network create --label a=b --attachable --subnet 10.7.0.0/24 -o com.docker.network.driver.mtu=1400 lane",
        )
        .ok();
    let shown = daemon.api().get("/v1.44/networks/lane").expect(200).json();
    let keys = [
        "Name",
        "Id",
        "Created",
        "Scope",
        "Driver",
        "EnableIPv6",
        "IPAM",
        "Internal",
        "Attachable",
        "Ingress",
        "ConfigFrom",
        "ConfigOnly",
        "Containers",
        "Options",
        "Labels",
    ];
    for key in keys {
        assert!(shown.get(key).is_some(), "no {key} in {shown}");
    }
    assert_eq!(
        (&shown["Name"], &shown["Scope"], &shown["Driver"]),
        (&json!("lane"), &json!("local"), &json!("bridge"))
    );
    assert_eq!(shown["Attachable"], true);
    assert_eq!(shown["Labels"], json!({"a": "b"}));
    assert_eq!(shown["Options"], json!({"com.docker.network.driver.mtu": "1400"}));
    assert_eq!(shown["IPAM"]["Driver"], "default");
    assert_eq!(shown["IPAM"]["Config"][0]["Subnet"], "10.7.0.0/24");
    assert_eq!(shown["IPAM"]["Config"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        daemon.docker("network inspect -f {{.Driver}}-{{.Id}} lane").ok(),
        format!("bridge-{}", shown["Id"].as_str().unwrap())
    );
    let options = network(&daemon, "bridge")["Options"].clone();
    for key in [
        "com.docker.network.bridge.default_bridge",
        "com.docker.network.bridge.enable_icc",
        "com.docker.network.bridge.enable_ip_masquerade",
        "com.docker.network.bridge.host_binding_ipv4",
        "com.docker.network.bridge.name",
        "com.docker.network.driver.mtu",
    ] {
        assert!(options[key].is_string(), "no {key} in {options}");
    }
}

#[test]
fn a_containers_networks_are_in_inspect_and_in_lists() {
    let (_world, daemon) = world();
    daemon.docker("network create lane").ok();
    let id = up(
        &daemon,
        "box",
        "--network lane --network-alias www -p 8080:80 -p 127.0.0.1:53:53/udp --expose 99",
    );
    let end = endpoint(&daemon, "box", "lane");
    assert_eq!(end["Aliases"], json!(["www"]));
    assert_eq!(end["DNSNames"], json!(["box", "www", &id[..12]]));
    for key in [
        "IPAMConfig",
        "Links",
        "DriverOpts",
        "GlobalIPv6Address",
        "GlobalIPv6PrefixLen",
        "IPv6Gateway",
    ] {
        assert!(end.get(key).is_some(), "no {key} in {end}");
    }
    let settings = daemon.inspect("box")["NetworkSettings"].clone();
    assert_eq!(
        settings["Ports"],
        json!({
            "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}],
            "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "53"}],
            "99/tcp": null,
        })
    );
    let key = settings["SandboxKey"].as_str().unwrap();
    if !is_foreign() {
        let there = std::fs::metadata(key).unwrap_or_else(|error| panic!("{key}: {error}"));
        assert_eq!(
            std::os::unix::fs::MetadataExt::ino(&there),
            daemon.network_of("box").inode()
        );
    }
    let listed = daemon.api().get("/v1.44/containers/json").expect(200).json();
    let mut ports: Vec<Value> = listed[0]["Ports"].as_array().unwrap().clone();
    ports.sort_by_key(Value::to_string);
    let mut expected = vec![
        json!({"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}),
        json!({"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}),
        json!({"IP": "127.0.0.1", "PrivatePort": 53, "PublicPort": 53, "Type": "udp"}),
        json!({"PrivatePort": 99, "Type": "tcp"}),
    ];
    expected.sort_by_key(Value::to_string);
    assert_eq!(ports, expected);
    assert_eq!(
        listed[0]["NetworkSettings"]["Networks"]["lane"]["IPAddress"],
        address(&daemon, "box", "lane")
    );
    assert_eq!(daemon.docker("port box").ok().lines().count(), 3);
    assert_eq!(daemon.docker("port box 53/udp").ok(), "127.0.0.1:53");
    let error = daemon.docker("port box 99").fails(1);
    assert!(error.contains("o public port '99' published for box"), "{error}");
    let shown = daemon.docker(["ps", "--format", "{{.Ports}}"]).ok();
    assert!(
        shown.contains("0.0.0.0:8080->80/tcp") && shown.contains("99/tcp"),
        "{shown}"
    );
}

#[test]
fn events_tell_of_networks_in_order() {
    let (_world, daemon) = world();
    daemon.docker("network create lane").ok();
    let id = network(&daemon, "lane")["Id"].as_str().unwrap().to_owned();
    let container = up(&daemon, "box", "--network lane");
    daemon.docker("stop -t 0 box").ok();
    daemon.docker("rm box").ok();
    daemon.docker("network rm lane").ok();
    let until = (std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 1).to_string();
    let told = daemon
        .docker([
            "events",
            "--since",
            "0",
            "--until",
            &until,
            "--format",
            "{{.Type}} {{.Action}}",
        ])
        .ok();
    let told: Vec<&str> = told.lines().filter(|line| !line.starts_with("image")).collect();
    let of_interest = [
        "network create",
        "container create",
        "network connect",
        "container start",
        "network disconnect",
        "container die",
        "container destroy",
        "network destroy",
    ];
    let found: Vec<&str> = told.iter().copied().filter(|line| of_interest.contains(line)).collect();
    let sorted_middle = |events: &[&str]| {
        let mut events = events.iter().map(|event| (*event).to_owned()).collect::<Vec<_>>();
        // Docker tells of the end and of the network's end in either order.
        events[4..6].sort();
        events
    };
    assert_eq!(found.len(), of_interest.len(), "{told:?}");
    assert_eq!(sorted_middle(&found), sorted_middle(&of_interest), "{told:?}");
    let line = daemon
        .docker([
            "events",
            "--since",
            "0",
            "--until",
            &until,
            "--filter",
            "event=connect",
            "--format",
            "{{json .Actor}}",
        ])
        .json();
    assert_eq!(line["ID"], id);
    assert_eq!(
        line["Attributes"],
        json!({"container": container, "name": "lane", "type": "bridge"})
    );
}

#[test]
fn prune_removes_what_nobody_uses() {
    let (world, daemon) = world();
    daemon.docker("network create --label keep=yes kept").ok();
    daemon.docker("network create used").ok();
    daemon.docker("network create idle").ok();
    up(&daemon, "box", "--network used");
    let before = world.host.interfaces().len();
    let output = daemon.docker("network prune -f --filter label!=keep=yes").ok();
    assert_eq!(output.trim_end(), "Deleted Networks:\nidle");
    assert_eq!(world.host.interfaces().len(), before - 1);
    let output = daemon.docker("network prune -f").ok();
    assert_eq!(output.trim_end(), "Deleted Networks:\nkept");
    let left = daemon.docker("network ls -f type=custom --format {{.Name}}").ok();
    assert_eq!(left, "used");
}

#[test]
fn networks_are_found_by_name_id_and_prefix() {
    let (_world, daemon) = world();
    let id = daemon.docker("network create lane").ok();
    for reference in [&id[..], &id[..12], "lane"] {
        assert_eq!(network(&daemon, reference)["Name"], "lane");
    }
    up(&daemon, "box", &format!("--network {}", &id[..12]));
    assert!(address(&daemon, "box", "lane").starts_with("172.18."));
    daemon.docker("network disconnect -f lane box").ok();
    daemon.docker(&format!("network rm {}", &id[..12])).ok();
}

#[test]
fn corten_draws_what_docker_draws() {
    if is_foreign() {
        return;
    }
    let (_world, daemon) = world();
    daemon.docker("network create lane").ok();
    up(&daemon, "box", "--network lane -p 8080:80 -p 9000-9002:9000-9002");
    for command in [
        "network ls",
        "network ls --no-trunc -q",
        "network inspect lane bridge",
        "port box",
        "port box 80",
        "ps --format {{.Names}}={{.Ports}}={{.Networks}}",
        "network inspect -f {{.Name}} lane",
    ] {
        assert_eq!(daemon.corten(command).ok(), daemon.docker(command).ok(), "{command}");
    }
}

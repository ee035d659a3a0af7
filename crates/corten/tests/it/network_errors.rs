//! What cannot be: each has a clear error, in Docker's words where clients match them, and leaves nothing behind.
use corten_testkit::{daemon::Daemon, wait::wait_until};
use serde_json::json;

use crate::network::{is_foreign, up, world};

/// Command, exit code, and what its error must say.
#[track_caller]
fn each_fails(daemon: &Daemon, cases: &[(&str, i32, &str)]) {
    let mut wrong = Vec::new();
    for (command, code, words) in cases {
        let output = daemon.docker(*command);
        if output.code != *code || !output.error().contains(words) {
            wrong.push(format!("{output:?}\n--- should have said with {code}: {words}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn networks_that_cannot_be() {
    let (world, daemon) = world();
    daemon.docker("network create --subnet 10.7.0.0/16 lane").ok();
    up(&daemon, "live", "");
    let (interfaces, networks) = (world.host.interfaces(), daemon.docker("network ls").ok());
    each_fails(
        &daemon,
        &[
            ("network create lane", 1, "network with name lane already exists"),
            (
                "network create bridge",
                1,
                "operation is not permitted on predefined bridge network",
            ),
            (
                "network create host",
                1,
                "operation is not permitted on predefined host network",
            ),
            (
                "network create --subnet 10.7.9.0/24 x",
                1,
                "Pool overlaps with other one on this address space",
            ),
            (
                "network create --subnet 10.0.0.0/8 x",
                1,
                "Pool overlaps with other one on this address space",
            ),
            (
                "network create --subnet 10.8.0.0/24 --gateway 10.9.0.1 x",
                1,
                "no matching subnet for gateway 10.9.0.1",
            ),
            (
                "network create --subnet 10.8.0.0/24 --ip-range 10.9.0.0/25 x",
                1,
                "no matching subnet for range",
            ),
            (
                "network create --subnet 10.8.0.0/24 --aux-address a=10.9.0.1 x",
                1,
                "no matching subnet for aux-address",
            ),
            (
                "network create --subnet 10.8.0.0/24 --subnet 10.8.0.0/25 x",
                1,
                "overlap",
            ),
            ("network create --driver nonsense x", 1, "nonsense"),
            ("network create --ipam-driver nonsense x", 1, "nonsense"),
            ("network create --subnet 10.8.0.0/33 x", 1, "10.8.0.0/33"),
            ("network create -o com.docker.network.driver.mtu=much x", 1, "much"),
            (
                "network create -d macvlan -o parent=nothing0 -o macvlan_mode=nonsense x",
                1,
                "nonsense",
            ),
            ("network rm nothing", 1, "network nothing not found"),
            (
                "network rm bridge",
                1,
                "bridge is a pre-defined network and cannot be removed",
            ),
            ("network inspect nothing", 1, "network nothing not found"),
            ("network connect nothing live", 1, "network nothing not found"),
            ("network connect lane nobody", 1, "No such container: nobody"),
            ("network disconnect -f lane nobody", 1, "endpoint nobody not found"),
            ("network disconnect -f nowhere nobody", 1, "network nowhere not found"),
            ("network disconnect lane nobody", 1, "nobody"),
        ],
    );
    if !is_foreign() {
        let name = "a-name-that-is-too-long";
        let words = format!("network create -o com.docker.network.bridge.name={name} x");
        each_fails(&daemon, &[(&words, 1, name)]);
    }
    wait_until("nothing is left", || world.host.interfaces() == interfaces);
    assert_eq!(daemon.docker("network ls").ok(), networks);
}

#[test]
fn endpoints_that_cannot_be() {
    let (_world, daemon) = world();
    daemon.docker("network create --subnet 10.7.0.0/16 lane").ok();
    daemon.docker("network create auto").ok();
    up(&daemon, "box", "--network lane --ip 10.7.0.9");
    up(&daemon, "host", "--network host");
    each_fails(
        &daemon,
        &[
            ("network rm lane", 1, "has active endpoints"),
            (
                "network connect lane box",
                1,
                "endpoint with name box already exists in network lane",
            ),
            ("network disconnect auto box", 1, "is not connected to"),
            ("network connect host box", 1, "host network"),
            ("network connect auto host", 1, "host"),
            (
                "run --network lane --ip 10.7.0.9 busybox true",
                125,
                "Address already in use",
            ),
            ("run --network lane --ip 10.8.0.9 busybox true", 125, "10.8.0.9"),
            ("run --network lane --ip nonsense busybox true", 125, "nonsense"),
            (
                "run --network bridge --ip 172.17.0.9 busybox true",
                125,
                "user specified IP address is supported on user defined networks only",
            ),
            (
                "run --network bridge --network-alias x busybox true",
                125,
                "network-scoped alias",
            ),
            (
                "run --network none --mac-address nonsense busybox true",
                125,
                "nonsense",
            ),
            ("run --network nothing busybox true", 125, "network nothing not found"),
            (
                "run --network container:box --dns 10.0.0.1 busybox true",
                125,
                "conflicting options",
            ),
            (
                "run --network container:box --add-host a:10.0.0.1 busybox true",
                125,
                "conflicting options",
            ),
            (
                "run --network host --link box:x busybox true",
                125,
                "conflicting options",
            ),
        ],
    );
    daemon.docker("network disconnect lane box").ok();
    each_fails(&daemon, &[("network disconnect lane box", 1, "is not connected to")]);
    daemon.docker("network rm lane").ok();
}

#[test]
fn ports_that_cannot_be() {
    let (_world, daemon) = world();
    each_fails(
        &daemon,
        &[
            ("run -p 70000:80 busybox true", 125, "70000"),
            ("run -p 80:70000 busybox true", 125, "70000"),
            ("run -p 80:80/nonsense busybox true", 125, "nonsense"),
            ("run -p 8000-8002:80-81 busybox true", 125, "8000-8002"),
            ("run -p 8002-8000:80 busybox true", 125, "8002-8000"),
            ("run -p 1.2.3:80:80 busybox true", 125, "1.2.3"),
            (
                "run -p 192.0.2.200:8080:80 busybox true",
                125,
                "cannot assign requested address",
            ),
        ],
    );
    if is_foreign() {
        return; // Some of these start, without that port.
    }
    // What no command line would send.
    for (bindings, word) in [
        (json!({"80/tcp": [{"HostPort": "70000"}]}), "70000"),
        (json!({"80/tcp": [{"HostPort": "-1"}]}), "-1"),
        (json!({"70000/tcp": [{"HostPort": "80"}]}), "70000"),
        (json!({"80/nonsense": [{"HostPort": "80"}]}), "nonsense"),
        (json!({"nonsense": [{"HostPort": "80"}]}), "nonsense"),
        (
            json!({"80/tcp": [{"HostIp": "nonsense", "HostPort": "80"}]}),
            "nonsense",
        ),
    ] {
        let body = json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"PortBindings": bindings}});
        let answer = daemon.api().post("/v1.44/containers/create", Some(&body));
        let answer = match answer.status {
            201 => {
                let id = answer.json()["Id"].as_str().unwrap().to_owned();
                daemon.api().post(&format!("/v1.44/containers/{id}/start"), None)
            }
            _ => answer,
        };
        assert!((400..500).contains(&answer.status), "{bindings}: {}", answer.text());
        assert!(answer.message().contains(word), "{bindings}: {}", answer.text());
    }
}

#[test]
fn statuses_are_dockers() {
    let (_world, daemon) = world();
    daemon.docker("network create --subnet 10.7.0.0/16 lane").ok();
    up(&daemon, "box", "--network lane");
    let create = |body: serde_json::Value| daemon.api().post("/v1.44/networks/create", Some(&body)).status;
    assert_eq!(create(json!({"Name": "lane"})), 409);
    assert_eq!(create(json!({"Name": ""})), 400);
    assert_eq!(create(json!({"Name": "host"})), 403);
    assert_eq!(create(json!({"Name": "x", "Driver": "nonsense"})), 404);
    assert_eq!(
        create(json!({"Name": "x", "IPAM": {"Config": [{"Subnet": "nonsense"}]}})),
        400
    );
    assert_eq!(
        create(json!({"Name": "x", "IPAM": {"Config": [{"Subnet": "10.7.0.0/24"}]}})),
        403
    );
    assert_eq!(daemon.api().get("/v1.44/networks/nothing").status, 404);
    assert_eq!(daemon.api().delete("/v1.44/networks/nothing").status, 404);
    assert_eq!(daemon.api().delete("/v1.44/networks/bridge").status, 403);
    assert_eq!(daemon.api().delete("/v1.44/networks/lane").status, 403);
    let connect = |network: &str, container: &str| {
        let body = json!({"Container": container});
        daemon
            .api()
            .post(&format!("/v1.44/networks/{network}/connect"), Some(&body))
            .status
    };
    assert_eq!(connect("nothing", "box"), 404);
    assert_eq!(connect("lane", "nobody"), 404);
    assert_eq!(connect("lane", "box"), 403);
    assert_eq!(connect("bridge", "box"), 200);
}

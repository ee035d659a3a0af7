//! Networks as clients see them: both command lines say the same, and the API has dockerd's statuses and shapes.
use serde_json::{Value, json};

use crate::{WAIT, daemon};

/// Two networks, and a container on both with a published port.
fn world() -> corten_testkit::daemon::Daemon {
    let daemon = daemon();
    daemon.docker("network create --label tier=front front").ok();
    let back = "network create --ipv6 --subnet 10.71.0.0/16 --ip-range 10.71.4.0/24 --gateway 10.71.0.9 \
                --aux-address router=10.71.0.10 -o com.docker.network.driver.mtu=1400 --internal back";
    daemon.docker(back).ok();
    daemon
        .docker([
            "run",
            "-d",
            "--name",
            "web",
            "--network",
            "front",
            "--network-alias",
            "site",
            "-p",
            "127.0.0.1:8080:80",
            "-p",
            "8443:443/udp",
            "--expose",
            "9000",
            "busybox",
            "sh",
            "-c",
            WAIT,
        ])
        .ok();
    daemon
        .docker("network connect --ip 10.71.0.40 --alias store back web")
        .ok();
    daemon
}

#[test]
fn both_clients_print_the_same() {
    let daemon = world();
    for words in [
        "network ls",
        "network ls --no-trunc",
        "network ls -q --filter type=custom",
        "network ls --format json --filter label=tier=front",
        "network ls --format {{.Name}}|{{.Driver}}|{{.Scope}}|{{.IPv4}}|{{.IPv6}}|{{.Internal}}|{{.Labels}}|{{.CreatedAt}}",
        "network ls --filter dangling=false --filter driver=bridge",
        "network inspect front back",
        "network inspect -f {{.IPAM.Driver}}|{{.EnableIPv6}} front",
        "inspect front",
        "inspect --type network back",
        "inspect web",
        "ps --format {{.Names}}|{{.Ports}}",
        "ps -aq --filter network=back",
        "ps -aq --filter publish=443/udp",
        "ps -aq --filter expose=8999-9001",
        "port web",
        "port web 80",
        "port web 443/udp",
    ] {
        let (theirs, ours) = (daemon.docker(words), daemon.corten(words));
        assert_eq!((theirs.text(), theirs.code), (ours.text(), ours.code), "{words}");
    }
}

#[test]
fn both_clients_fail_the_same() {
    let daemon = world();
    for words in [
        "network inspect nothing",
        "network rm nothing bridge",
        "network rm front",
        "network create front",
        "network create host",
        "network create -d weave other",
        "network create -d overlay other",
        "network create --config-from nothing other",
        "network create --subnet 10.71.9.0/24 other",
        "network create --subnet 10.0.0.0/33 other",
        "network create --gateway 10.0.0.1 other",
        "network create --subnet 10.72.0.0/16 --gateway 10.73.0.1 other",
        "network create --ipam-driver other other",
        "network connect front web",
        "network connect nothing web",
        "network connect front nothing",
        "network connect --ip nowhere back web",
        "network disconnect bridge web",
        "network disconnect front nothing",
        "network ls --filter color=red",
        "port web 9000",
        "port web x",
        "port nothing",
        "create --network front --network host busybox",
        "create --network front --mac-address x busybox",
        "create --network name=front,ip=1.2.3.4 --ip 1.2.3.5 busybox",
        "create -p 70000:80 busybox",
        "create -p 1-3:5-6 busybox",
        "create --network back --ip 10.99.0.1 busybox",
    ] {
        let (theirs, ours) = (daemon.docker(words), daemon.corten(words));
        assert_ne!(theirs.code, 0, "{words}");
        assert_eq!(theirs.code, ours.code, "{words}: {ours:?}");
        let program = |text: String| text.replace("docker:", "corten:").replace("'docker ", "'corten ");
        assert_eq!(program(theirs.error()), program(ours.error()), "{words}");
    }
}

#[test]
fn networks_that_cannot_be_are_refused_with_dockerds_statuses() {
    let daemon = daemon();
    let create = |body: Value| {
        let answer = daemon.api().post("/networks/create", Some(&body));
        (
            answer.status,
            answer.json()["message"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let with = |member: &str, value: Value| create(json!({"Name": "n", member: value}));
    assert_eq!(create(json!({})), (400, "invalid name: name is empty".to_owned()));
    assert_eq!(create(json!({"Name": "none"})).0, 403);
    assert_eq!(with("Driver", json!("weave")).0, 404);
    assert_eq!(with("Driver", json!("overlay")).0, 403);
    assert_eq!(with("Ingress", json!(true)).0, 403);
    assert_eq!(with("Scope", json!("swarm")).0, 403);
    assert_eq!(
        create(json!({"Name": "n", "ConfigOnly": true, "Internal": true})).0,
        403
    );
    assert_eq!(with("ConfigFrom", json!({"Network": "absent"})).0, 404);
    let pool = json!({"Config": [{"Subnet": "10.0.0.1/8", "Gateway": "x"}, {"Subnet": "y"}]});
    assert_eq!(
        with("IPAM", pool),
        (
            400,
            "invalid network config:\ninvalid subnet 10.0.0.1/8: it should be 10.0.0.0/8\ninvalid gateway x: invalid \
             address\ninvalid subnet y: invalid CIDR block notation"
                .to_owned()
        )
    );
    assert_eq!(
        create(json!({"name": "n", "checkduplicate": true, "ipam": null})).0,
        201
    );
    assert_eq!(create(json!({"Name": "n"})).0, 409);
}

#[test]
fn documents_have_the_shape_of_the_asked_version() {
    let daemon = world();
    let get = |path: &str| daemon.api().get(path).json();
    let members = |version: &str| {
        let list = get(&format!(
            "/v{version}/networks?filters=%7B%22name%22%3A%5B%22front%22%5D%7D"
        ));
        list[0]["Containers"].as_object().map(serde_json::Map::len)
    };
    assert_eq!((members("1.27"), members("1.28")), (Some(1), Some(0)));
    let aliases = |version: &str| {
        let document = get(&format!("/v{version}/containers/web/json"));
        let networks = &document["NetworkSettings"]["Networks"];
        networks["front"]["Aliases"].as_array().map(Vec::len)
    };
    assert_eq!((aliases("1.44"), aliases("1.45")), (Some(2), Some(1)));
    let info = |version: &str| get(&format!("/v{version}/info"));
    assert!(info("1.48").get("FirewallBackend").is_none());
    assert_eq!(info("1.49")["FirewallBackend"]["Driver"], "nftables");
    assert!(
        info("1.51")["Plugins"]["Network"]
            .as_array()
            .is_some_and(|all| all.contains(&json!("macvlan")))
    );
}

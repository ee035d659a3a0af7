//! Volumes by their own commands: made, listed, looked at, kept while they are used, removed.
use serde_json::json;

use crate::{daemon, setup};

#[test]
fn a_volume_is_made_once_and_found_by_its_filters() {
    let daemon = setup().start();
    assert_eq!(daemon.docker("volume create --label tier=db store").ok(), "store");
    assert_eq!(daemon.docker("volume create store").ok(), "store");
    daemon.docker("volume create other").ok();
    let list = |filter: &str| daemon.docker(["volume", "ls", "-q", "-f", filter]).ok();
    assert_eq!(list("name=sto"), "store");
    assert_eq!(list("label=tier=db"), "store");
    assert_eq!(list("dangling=false"), "");
    assert_eq!(list("driver=local"), "other\nstore");
    let document = daemon.api().get("/volumes/store").expect(200).json();
    assert_eq!(document["Driver"], "local");
    assert_eq!(document["Scope"], "local");
    assert_eq!(document["Labels"], json!({"tier": "db"}));
    let path = daemon.data_root().join("volumes/store/_data");
    assert_eq!(document["Mountpoint"].as_str(), path.to_str());
    assert!(path.is_dir());
}

#[test]
fn a_volume_stays_while_a_container_mentions_it() {
    let daemon = daemon();
    daemon
        .docker("run --name user --network none -v store:/data busybox touch /data/file")
        .ok();
    let answer = daemon.api().delete("/volumes/store").expect(409);
    assert!(
        answer.message().starts_with("remove store: volume is in use - ["),
        "{}",
        answer.message()
    );
    daemon.docker("volume prune -af").ok();
    assert!(daemon.data_root().join("volumes/store/_data/file").exists());
    daemon.docker("rm user").ok();
    daemon.api().delete("/volumes/store").expect(204);
    assert!(!daemon.data_root().join("volumes/store").exists());
}

#[test]
fn pruning_takes_nameless_volumes_first() {
    let daemon = setup().start();
    daemon.docker("volume create named").ok();
    let nameless = daemon.docker("volume create").ok();
    daemon.docker("volume prune -f").ok();
    assert_eq!(daemon.docker("volume ls -q").ok(), "named");
    daemon.api().get(&format!("/volumes/{nameless}")).expect(404);
    daemon.docker("volume prune -af").ok();
    assert_eq!(daemon.docker("volume ls -q").ok(), "");
}

#[test]
fn what_is_no_volume_is_refused() {
    let daemon = setup().start();
    let api = daemon.api();
    assert_eq!(
        api.get("/volumes/none").expect(404).message(),
        "get none: no such volume"
    );
    api.delete("/volumes/none").expect(404);
    api.delete("/volumes/none?force=1").expect(204);
    api.post("/volumes/create", Some(&json!({"Name": "../x"}))).expect(400);
    api.post("/volumes/create", Some(&json!({"Name": "x", "Driver": "nfs"})))
        .expect(501);
    api.post(
        "/volumes/create",
        Some(&json!({"Name": "x", "DriverOpts": {"type": "tmpfs"}})),
    )
    .expect(501);
    assert_eq!(
        api.get("/volumes?filters={\"colour\":[\"red\"]}").expect(400).message(),
        "invalid filter 'colour'"
    );
}

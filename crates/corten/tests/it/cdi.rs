//! Devices of the Container Device Interface, made of nodes that every host has; and `--gpus`.
use std::{fs, path::Path};

use corten_testkit::{daemon::Daemon, image};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{WAIT, background, setup, sh};

/// A daemon that finds this specification, and the directory that it is in.
fn daemon(file: &str, text: &str) -> (Daemon, TempDir) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join(file), text).expect("it is ours");
    let path = directory.path().to_str().expect("it is UTF-8");
    let daemon = setup().arguments(["--cdi-spec-dir", path]).start();
    daemon.load(&image::busybox());
    (daemon, directory)
}

fn document(kind: &str, devices: Value) -> String {
    json!({"cdiVersion": "0.7.0", "kind": kind, "devices": devices}).to_string()
}

#[test]
fn a_device_brings_nodes_mounts_variables_and_groups() {
    let library = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(library.path(), "a driver's library").expect("it is ours");
    let edits = json!({
        "env": ["CARD=zero"],
        "deviceNodes": [
            {"path": "/dev/card0", "hostPath": "/dev/zero"},
            {"path": "/dev/log", "type": "c", "major": 1, "minor": 11, "permissions": "r", "fileMode": 0o640},
        ],
        "mounts": [{"hostPath": library.path(), "containerPath": "/usr/lib/driver.so", "options": ["ro", "nosuid"]}],
        "additionalGids": [4711],
    });
    let devices = json!([{"name": "card0", "containerEdits": edits}]);
    let (daemon, _directory) = daemon("vendor.json", &document("vendor.com/card", devices));
    let script = "echo $CARD; cat /usr/lib/driver.so; echo; head -c 3 /dev/card0 | wc -c; id -G; \
                  ls -l /dev/log | cut -d' ' -f1; sh -c ': >/usr/lib/driver.so' 2>&1 | grep -o 'Read-only'; \
                  sh -c ': >/dev/log' 2>&1 | grep -o 'not permitted'";
    let output = sh(&daemon, "--device vendor.com/card=card0", script);
    let expected = "zero\na driver's library\n3\n0 10 4711\ncrw-r-----\nRead-only\nnot permitted";
    assert_eq!(output.ok().replace("0 4711", "0 10 4711"), expected);
    // Nothing of it for others.
    let without = sh(&daemon, "", "ls /dev/card0 /usr/lib/driver.so; echo $CARD");
    assert_eq!(without.text(), "");
    daemon.assert_nothing_remains();
}

#[test]
fn a_network_device_moves_into_the_container_with_what_it_has() {
    let edits = json!({"netDevices": [{"hostInterfaceName": "probe0", "name": "card"}]});
    let devices = json!([{"name": "zero", "containerEdits": edits}]);
    let text = json!({"cdiVersion": "1.1.0", "kind": "vendor.com/nic", "devices": devices}).to_string();
    let (daemon, _directory) = daemon("nic.json", &text);
    let run = |options: &str| {
        let words = format!("run --rm --device vendor.com/nic=zero {options} busybox ip address show dev card");
        daemon.docker(&words)
    };
    // It is not there yet.
    let error = run("").fails(125);
    assert!(
        error.contains("cannot move network device probe0 into the container: there is no such device"),
        "{error}"
    );
    for line in [
        "link add probe0 mtu 1400 type veth peer name far0",
        "address add 10.44.0.1/24 dev probe0",
    ] {
        daemon.network().ip(line);
    }
    for network in ["host", "container:other"] {
        background(&daemon, "--name other", WAIT);
        let error = run(&format!("--network {network}")).fails(125);
        assert!(error.contains("that has no network of its own"), "{error}");
        daemon.docker("rm -f other").ok();
    }
    assert!(daemon.network().interfaces().contains(&"probe0".to_owned()));
    let seen = run("--network none").ok();
    for part in ["10.44.0.1/24", "mtu 1400", ",UP"] {
        assert!(seen.contains(part), "{part}: {seen}");
    }
    // What is only software went with its namespace.
    assert!(!daemon.network().interfaces().contains(&"probe0".to_owned()));
    daemon.assert_nothing_remains();
}

#[test]
fn yaml_is_read_and_hooks_find_the_root_file_system() {
    // What drivers' own hooks do: the state on standard input names the bundle, the bundle the root.
    let hook = "bundle=$(sed 's/.*\"bundle\":\"\\([^\"]*\\)\".*/\\1/'); \
                root=$(sed 's/.*\"root\":{\"path\":\"\\([^\"]*\\)\".*/\\1/' $bundle/config.json); \
                ls $root/bin/busybox >$root/made-by-hook";
    let text = format!(
        "cdiVersion: 0.6.0\nkind: vendor.com/card\ndevices:\n- name: a\n  containerEdits:\n    env: [A=1]\n\
         containerEdits:\n  hooks:\n  - hookName: createContainer\n    path: /bin/sh\n    args: [sh, -c, '{}']\n    \
         env: ['PATH=/usr/bin:/bin']\n    timeout: 20\n",
        hook.replace('\'', "''")
    );
    let (daemon, _directory) = daemon("vendor.yaml", &text);
    let output = sh(&daemon, "--device vendor.com/card=a", "cat /made-by-hook").ok();
    assert!(output.ends_with("/bin/busybox"), "{output}");
    // And again at every start.
    let id = background(&daemon, "--name box --device vendor.com/card=a", WAIT);
    daemon.docker("restart -t 1 box").ok();
    assert_eq!(daemon.status(&id), "running");
    let requests = &daemon.inspect("box")["HostConfig"]["DeviceRequests"];
    assert_eq!(requests[0]["Driver"], "cdi");
    assert_eq!(requests[0]["DeviceIDs"], json!(["vendor.com/card=a"]));
}

#[test]
fn a_hook_that_fails_fails_the_start_and_leaves_nothing() {
    let hook =
        json!({"hookName": "createContainer", "path": "/bin/sh", "args": ["sh", "-c", "echo no card >&2; exit 9"]});
    let devices = json!([{"name": "a", "containerEdits": {"hooks": [hook]}}]);
    let (daemon, _directory) = daemon("vendor.json", &document("vendor.com/card", devices));
    let error = sh(&daemon, "--device vendor.com/card=a", "true").fails(125);
    assert!(
        error.contains("error running createContainer hook /bin/sh: exit status 9: no card"),
        "{error}"
    );
    daemon.docker("container prune -f").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn devices_that_nobody_describes_are_named() {
    let devices = json!([{"name": "a", "containerEdits": {"env": ["A=1"]}}]);
    let (daemon, directory) = daemon("vendor.json", &document("vendor.com/card", devices));
    let error = sh(
        &daemon,
        "--device vendor.com/card=b --device other.com/thing=that",
        "true",
    )
    .fails(125);
    assert!(
        error.contains("CDI device injection failed: unresolvable CDI devices vendor.com/card=b, other.com/thing=that"),
        "{error}"
    );
    // A driver that is installed meanwhile is found without a word to the daemon.
    let more = document(
        "other.com/thing",
        json!([{"name": "that", "containerEdits": {"env": ["B=2"]}}]),
    );
    fs::write(directory.path().join("other.json"), more).unwrap();
    assert_eq!(sh(&daemon, "--device other.com/thing=that", "echo $B").ok(), "2");
    daemon.docker("container prune -f").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn gpus_without_a_driver_are_refused_in_dockers_words() {
    let (daemon, directory) = daemon("none.txt", "no specification");
    let error = sh(&daemon, "--gpus all", "true").fails(125);
    assert!(
        error.contains("could not select device driver \"\" with capabilities: [[gpu]]"),
        "{error}"
    );
    let edits = |value: &str| json!({"env": [format!("GPU={value}")]});
    let devices = json!([
        {"name": "0", "containerEdits": edits("zero")}, {"name": "all", "containerEdits": edits("every")},
    ]);
    fs::write(
        directory.path().join("nvidia.json"),
        document("nvidia.com/gpu", devices),
    )
    .unwrap();
    assert_eq!(sh(&daemon, "--gpus all", "echo $GPU").ok(), "every");
    assert_eq!(sh(&daemon, "--gpus 1", "echo $GPU").ok(), "zero");
    assert_eq!(sh(&daemon, "--gpus device=0", "echo $GPU").ok(), "zero");
    assert_eq!(
        daemon
            .corten("run --rm --network none --gpus all busybox sh -c true")
            .ok(),
        ""
    );
}

#[test]
fn information_shows_directories_and_devices() {
    let devices = json!([{"name": "a", "containerEdits": {"env": ["A=1"]}}]);
    let (daemon, directory) = daemon("vendor.json", &document("vendor.com/card", devices));
    fs::write(directory.path().join("broken.yaml"), "kind: [").unwrap();
    let info = |path: &str| daemon.api().get(path).expect(200).json();
    let new = info("/v1.50/info");
    assert_eq!(new["CDISpecDirs"], json!([directory.path()]));
    assert_eq!(
        new["DiscoveredDevices"],
        json!([{"Source": "cdi", "ID": "vendor.com/card=a"}])
    );
    let warnings = new["Warnings"].as_array().unwrap();
    assert!(
        warnings
            .iter()
            .any(|w| w.as_str().unwrap().starts_with("WARNING: CDI: failed to parse")),
        "{warnings:?}"
    );
    assert_eq!(info("/v1.49/info").get("DiscoveredDevices"), None);
    let shown = |info: String| {
        let lines = info.lines().map(str::to_owned);
        let lines = lines
            .skip_while(|line| !line.starts_with(" CDI"))
            .take_while(|line| !line.starts_with(" Swarm"));
        lines.collect::<Vec<_>>()
    };
    let docker = shown(daemon.docker("info").ok());
    assert!(docker.concat().contains("vendor.com/card=a"), "{docker:?}");
    assert_eq!(shown(daemon.corten("info").ok()), docker);
}

#[test]
fn the_interface_can_be_switched_off() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("daemon.json");
    fs::write(&file, r#"{"features": {"cdi": false}}"#).unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let daemon = setup().arguments(["--config-file", &path(&file)]).start();
    daemon.load(&image::busybox());
    let error = sh(&daemon, "--device vendor.com/card=a", "true").fails(125);
    assert!(error.contains("could not select device driver \"cdi\""), "{error}");
    assert_eq!(daemon.api().get("/info").expect(200).json()["CDISpecDirs"], json!([]));
}

//! The Engine API as bytes: versions, headers, errors, and answers that begin before they end.
use serde_json::json;

use crate::{WAIT, background, daemon, setup};

#[test]
fn ping_tells_who_answers() {
    let daemon = setup().start();
    for path in ["/_ping", "/v1.24/_ping", "/v1.41/_ping", "/v1.50/_ping"] {
        let answer = daemon.api().get(path).expect(200);
        assert_eq!(answer.text(), "OK");
        assert_eq!(answer.header("api-version"), Some("1.51"));
        assert_eq!(answer.header("ostype"), Some("linux"));
        assert_eq!(
            answer
                .header("docker-experimental")
                .map(|value| value == "true" || value == "false"),
            Some(true)
        );
        assert!(answer.header("builder-version").is_some());
        assert_eq!(
            answer.header("cache-control"),
            Some("no-cache, no-store, must-revalidate")
        );
        assert_eq!(answer.header("pragma"), Some("no-cache"));
        assert!(answer.header("server").unwrap().contains("(linux)"));
    }
    let head = daemon.api().request("HEAD", "/_ping", None).expect(200);
    assert_eq!(head.header("content-length"), Some("0"));
}

#[test]
fn versions_are_served_from_the_oldest_to_the_newest() {
    let daemon = setup().start();
    let api = daemon.api();
    for minor in 24..=51 {
        api.get(&format!("/v1.{minor}/version")).expect(200);
        api.get(&format!("/v1.{minor}/containers/json")).expect(200);
    }
    api.get("/containers/json").expect(200);
    let answer = api.get("/v1.999/version").expect(400);
    assert_eq!(
        answer.message(),
        "client version 1.999 is too new. Maximum supported API version is 1.51"
    );
    let answer = api.get("/v1.12/version").expect(400);
    let expected = "client version 1.12 is too old. Minimum supported API version is 1.24, \
        please upgrade your client to a newer version";
    assert_eq!(answer.message(), expected);
    let version = api.get("/version").expect(200).json();
    assert_eq!(
        (version["ApiVersion"].as_str(), version["MinAPIVersion"].as_str()),
        (Some("1.51"), Some("1.24"))
    );
    assert_eq!(version["Os"], "linux");
    assert!(version["KernelVersion"].as_str().is_some_and(|text| !text.is_empty()));
}

#[test]
fn what_a_client_gets_wrong_is_no_failure_of_the_daemon() {
    let daemon = daemon();
    background(&daemon, "--name box", WAIT);
    let api = daemon.api();
    let message = api.get("/containers/box/top?ps_args=%C2%A4").expect(400).message();
    assert!(message.starts_with("error running ps: "), "{message}");
    let message = api.get("/containers/box/top?ps_args=-o%20comm").expect(400).message();
    assert_eq!(message, "Couldn't find PID field in ps output");
    daemon.docker("network create lane").ok();
    daemon.docker("create --name still busybox").ok();
    for name in ["box", "still"] {
        let leave = json!({"Container": name});
        let message = api
            .post("/networks/lane/disconnect", Some(&leave))
            .expect(403)
            .message();
        assert!(message.contains("is not connected to"), "{message}");
    }
}

#[test]
fn what_does_not_exist_is_404_with_a_message() {
    let daemon = setup().start();
    let api = daemon.api();
    let answer = api.get("/no/such/page").expect(404);
    assert_eq!(answer.message(), "page not found");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        api.get("/containers/nothing/json").expect(404).message(),
        "No such container: nothing"
    );
    assert_eq!(
        api.get("/images/nothing/json").expect(404).message(),
        "No such image: nothing:latest"
    );
    let create = json!({"Image": "nothing", "HostConfig": {"NetworkMode": "none"}});
    assert_eq!(
        api.post("/containers/create", Some(&create)).expect(404).message(),
        "No such image: nothing:latest"
    );
}

#[test]
fn what_comes_later_says_so() {
    let daemon = daemon();
    let api = daemon.api();
    for (method, path) in [
        ("POST", "/build"),
        ("POST", "/containers/x/update"),
        ("POST", "/commit?container=x"),
        ("POST", "/networks/create"),
    ] {
        let answer = api.request(method, path, None);
        assert!(
            answer.status == 501 || answer.status == 404 || answer.status == 400,
            "{method} {path}: {}",
            answer.status
        );
        assert!(!answer.message().is_empty());
    }
    let create = json!({"Image": "busybox", "HostConfig": {"NetworkMode": "none", "Cgroup": "container:x"}});
    let answer = api.post("/containers/create", Some(&create)).expect(501);
    assert!(answer.message().contains("not implemented"), "{}", answer.message());
}

#[test]
fn bodies_are_read_as_go_reads_them() {
    let daemon = daemon();
    let api = daemon.api();
    // Field names in any case, null for nothing.
    let body = json!({"image": "busybox", "CMD": ["true"], "hostconfig": {"networkmode": "none", "Binds": null}, "Env": null, "Labels": null});
    api.post("/containers/create?name=loose", Some(&body)).expect(201);
    assert_eq!(daemon.inspect("loose")["HostConfig"]["NetworkMode"], "none");
    let mut connection = api.open();
    connection.send_raw(
        "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}",
    );
    let answer = connection.response("POST").expect(400);
    assert!(answer.message().contains("application/json"), "{}", answer.message());
    let mut connection = api.open();
    connection.send_raw("POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\n{\"x\"");
    connection.response("POST").expect(400);
    // Cmd and Entrypoint may be one string.
    let body = json!({"Image": "busybox", "Entrypoint": "echo", "Cmd": "hi", "HostConfig": {"NetworkMode": "none"}});
    api.post("/containers/create?name=words", Some(&body)).expect(201);
    assert_eq!(daemon.docker("start -a words").ok(), "hi");
}

#[test]
fn nothing_to_run_is_refused() {
    let daemon = daemon();
    daemon.load(
        &corten_testkit::image::busybox()
            .tagged("empty:1")
            .with("Cmd", json!(null)),
    );
    let answer = daemon.api().post(
        "/containers/create",
        Some(&json!({"Image": "empty:1", "HostConfig": {"NetworkMode": "none"}})),
    );
    assert_eq!(answer.expect(400).message().to_lowercase(), "no command specified");
}

#[test]
fn attach_without_an_upgrade_gives_output_on_the_bare_connection() {
    let daemon = daemon();
    background(&daemon, "--name box", &format!("sleep 0.2; echo hello; {WAIT}"));
    let mut connection = daemon.api().open();
    connection.send("POST", "/containers/box/attach?stream=1&stdout=1&logs=1", None);
    let head = connection.head();
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-type"), Some("application/vnd.docker.raw-stream"));
    assert_eq!(head.header("transfer-encoding"), None);
    assert!(connection.frame().1.starts_with(b"hello\n"));
}

#[test]
fn attach_names_the_form_of_its_stream_by_version() {
    let daemon = daemon();
    background(&daemon, "--name box", WAIT);
    daemon
        .docker([
            "run",
            "-dt",
            "--name",
            "term",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            WAIT,
        ])
        .ok();
    for (path, expected) in [
        (
            "/containers/box/attach?stream=1&stdout=1",
            "application/vnd.docker.multiplexed-stream",
        ),
        (
            "/v1.42/containers/box/attach?stream=1&stdout=1",
            "application/vnd.docker.multiplexed-stream",
        ),
        (
            "/v1.41/containers/box/attach?stream=1&stdout=1",
            "application/vnd.docker.raw-stream",
        ),
        (
            "/containers/term/attach?stream=1&stdout=1",
            "application/vnd.docker.raw-stream",
        ),
    ] {
        let head = daemon.api().open().upgrade(path);
        assert_eq!(
            (head.status, head.header("content-type")),
            (101, Some(expected)),
            "{path}"
        );
        assert_eq!(head.header("connection"), Some("Upgrade"));
        assert_eq!(head.header("upgrade"), Some("tcp"));
    }
    let answer = daemon.api().post("/containers/nothing/attach?stream=1", None);
    assert_eq!(answer.expect(404).message(), "No such container: nothing");
}

#[test]
fn one_connection_carries_many_requests() {
    let daemon = setup().start();
    let mut connection = daemon.api().open();
    for _ in 0..20 {
        connection.send("GET", "/_ping", None);
        assert_eq!(connection.response("GET").expect(200).text(), "OK");
    }
}

#[test]
fn info_counts_and_describes() {
    let daemon = daemon();
    background(&daemon, "--name box", WAIT);
    daemon.docker("create --network none busybox").ok();
    let info = daemon.api().get("/info").expect(200).json();
    let numbers = [
        "Containers",
        "ContainersRunning",
        "ContainersPaused",
        "ContainersStopped",
        "Images",
    ]
    .map(|key| info[key].as_i64().unwrap());
    assert_eq!(numbers, [2, 1, 0, 1, 1]);
    assert_eq!(info["OSType"], "linux");
    assert_eq!(info["DockerRootDir"].as_str(), daemon.data_root().to_str());
    assert!(info["NCPU"].as_u64().unwrap() > 0 && info["MemTotal"].as_u64().unwrap() > 0);
    assert_eq!(info["Swarm"]["LocalNodeState"], "inactive");
    daemon.docker("info").ok();
    daemon.docker("version").ok();
}

#[test]
fn old_clients_get_the_shapes_they_know() {
    let daemon = daemon();
    let image = daemon.api().get("/v1.43/images/busybox/json").expect(200).json();
    assert_eq!(image["VirtualSize"], image["Size"]);
    let image = daemon.api().get("/v1.44/images/busybox/json").expect(200).json();
    assert!(image.get("VirtualSize").is_none());
    let list = daemon.api().get("/v1.43/images/json").expect(200).json();
    assert_eq!(list[0]["VirtualSize"], list[0]["Size"]);
    daemon.docker("create --name box --network none busybox").ok();
    let container = daemon.api().get("/v1.44/containers/box/json").expect(200).json();
    assert!(container["NetworkSettings"].get("Gateway").is_some());
}

#[test]
fn a_body_that_never_ends_is_no_danger() {
    let daemon = setup().start();
    let mut connection = daemon.api().open();
    connection.send_raw("POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n{");
    drop(connection);
    let long = format!("/containers/{}/json", "x".repeat(8000));
    assert!(daemon.api().get(&long).status >= 400);
    daemon.api().get("/_ping").expect(200);
}

//! Doors that let only some do only some things.
use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use corten_testkit::{
    api::Api,
    command::{Output, run},
    daemon::Daemon,
    image,
};
use serde_json::json;

use crate::{WAIT, background, setup};

/// A daemon with a second door, and where that is.
fn with_door(parameters: &str) -> (Daemon, PathBuf, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = directory.path().join("second.sock");
    let daemon = setup()
        .arguments(["-H", &format!("unix://{}?{parameters}", path.display())])
        .start();
    daemon.load(&image::busybox());
    (daemon, path, directory)
}

/// A request as another user of this machine.
fn as_user(user: u32, socket: &std::path::Path, path: &str) -> Output {
    let script = "import http.client, os, socket, sys\n\
        os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))\n\
        s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[2])\n\
        c = http.client.HTTPConnection('x'); c.sock = s; c.request('GET', sys.argv[3])\n\
        r = c.getresponse(); print(r.status, r.read().decode())";
    let mut command = Command::new("python3");
    command.args(["-c", script, &user.to_string()]).arg(socket).arg(path);
    run(&mut command)
}

#[test]
fn a_read_only_door_shows_and_changes_nothing() {
    let (daemon, path, _directory) = with_door("access=read");
    background(&daemon, "--name box -e PASSWORD=secret -e EMPTY=", WAIT);
    let api = Api::new(&path);
    for readable in [
        "/_ping",
        "/version",
        "/info",
        "/v1.41/containers/json",
        "/containers/box/json",
        "/containers/box/logs?stdout=1",
        "/containers/box/top",
        "/containers/box/stats?stream=0&one-shot=1",
        "/images/json",
        "/images/busybox/json",
        "/images/busybox/history",
        "/networks",
        "/volumes",
        "/system/df",
        "/events?since=1&until=2",
    ] {
        api.get(readable).expect(200);
    }
    for (method, refused) in [
        ("POST", "/containers/create"),
        ("POST", "/containers/box/stop"),
        ("POST", "/v1.41/containers/box/kill"),
        ("POST", "/containers/box/exec"),
        ("POST", "/containers/box/attach?stream=1&stdout=1"),
        ("GET", "/containers/box/attach/ws"),
        ("GET", "/containers/box/archive?path=/etc"),
        ("HEAD", "/containers/box/archive?path=/etc"),
        ("GET", "/containers/box/export"),
        ("GET", "/images/busybox/get"),
        ("GET", "/images/get?names=busybox"),
        ("DELETE", "/containers/box?force=1"),
        ("DELETE", "/images/busybox"),
        ("POST", "/volumes/create"),
        ("POST", "/networks/prune"),
        ("POST", "/containers/prune"),
        ("POST", "/images/load"),
        ("POST", "/build"),
    ] {
        let answer = api.request(method, refused, None).expect(403);
        if method != "HEAD" {
            let message = answer.message();
            let door = format!("access denied: unix://{} is a read-only door", path.display());
            assert!(message.starts_with(&door), "{message}");
        }
    }
    api.get("/nowhere").expect(404);
    assert_eq!(daemon.status("box"), "running");
    // Values of the environment are what people keep secrets in.
    let shown = api.get("/containers/box/json").json()["Config"]["Env"].to_string();
    assert!(
        shown.contains("PASSWORD=<hidden>") && !shown.contains("secret"),
        "{shown}"
    );
    assert!(
        daemon.inspect("box")["Config"]["Env"]
            .to_string()
            .contains("PASSWORD=secret")
    );
    // The docker command line works there as far as it only looks.
    let mut command = daemon.docker_command(["-H", &format!("unix://{}", path.display()), "ps", "-q"]);
    command.env_remove("DOCKER_HOST");
    assert_eq!(run(&mut command).ok().lines().count(), 1);
    let mut command = daemon.docker_command(["-H", &format!("unix://{}", path.display()), "rm", "-f", "box"]);
    command.env_remove("DOCKER_HOST");
    assert!(run(&mut command).error().contains("read-only door"));
}

#[test]
fn a_door_has_its_own_mode_and_group() {
    let (_daemon, path, _directory) = with_door("access=read&mode=0604&group=7");
    let metadata = fs::metadata(&path).unwrap();
    let gid = std::os::unix::fs::MetadataExt::gid(&metadata);
    assert_eq!((metadata.permissions().mode() & 0o777, gid), (0o604, 7));
}

#[test]
fn users_are_told_apart_by_the_kernel() {
    let (_daemon, path, _directory) = with_door("allow=12345");
    let welcome = as_user(12345, &path, "/_ping");
    assert!(welcome.clone().ok().starts_with("200 OK"), "{welcome:?}");
    let stranger = as_user(12346, &path, "/_ping");
    let text = stranger.clone().ok();
    assert!(
        text.starts_with("403 ") && text.contains("not user 12346"),
        "{stranger:?}"
    );
    assert!(Api::new(&path).get("/_ping").status == 200, "root always may");
}

#[test]
fn parameters_that_are_none_are_refused() {
    for (host, expected) in [
        ("unix:///tmp/x.sock?access=write", "access is \"read\" or \"full\""),
        ("unix:///tmp/x.sock?colour=red", "unknown parameter \"colour\""),
        ("tcp://127.0.0.1?allow=1", "allow is for unix sockets only"),
    ] {
        let output = setup().arguments(["-H", host]).start_in_vain();
        assert_eq!(output.code, 1);
        assert!(output.error().contains(expected), "{output:?}");
    }
}

#[test]
fn a_read_only_tcp_door_is_read_only_too() {
    let daemon = setup().arguments("-H tcp://127.0.0.1:2375?access=read").start();
    let docker = |words: &str| {
        let mut command = daemon.docker_command(&format!("-H tcp://127.0.0.1:2375 {words}"));
        command.env_remove("DOCKER_HOST");
        daemon.in_network(|| run(&mut command))
    };
    docker("ps").ok();
    let error = docker("volume create x").fails(1);
    assert!(error.contains("read-only door: POST"), "{error}");
    let body = json!({"Name": "data"});
    daemon.api().post("/volumes/create", Some(&body)).expect(201);
}

//! `docker commit`: a container becomes an image, whole or not at all.
use std::{fs, thread, time::Duration};

use corten_testkit::{archive::Tar, daemon::names_in, image, wait::wait_until};
use serde_json::json;

use crate::{
    WAIT, background,
    copy::{entries, events},
    daemon, kept,
};

#[test]
fn files_and_settings_become_an_image() {
    let daemon = daemon();
    let script =
        "echo made >/srv.txt; rm /etc/group; mkdir /d; echo 1 >/d/f; rm -r /home; mkdir /home; echo 2 >/home/new";
    kept(&daemon, "--name box -e A=1 --label a=1 -w /tmp", script).ok();
    let id = daemon
        .docker([
            "commit",
            "-a",
            "Ada <ada@example.org>",
            "-m",
            "a message",
            "box",
            "made:1",
        ])
        .ok();
    assert!(id.starts_with("sha256:"), "{id}");
    let image = daemon.docker("image inspect made:1").json()[0].clone();
    assert_eq!(image["Id"], id.as_str());
    assert_eq!(
        (&image["Author"], &image["Comment"]),
        (&json!("Ada <ada@example.org>"), &json!("a message"))
    );
    let config = &image["Config"];
    assert_eq!(config["Cmd"], json!(["sh", "-c", script]));
    assert_eq!(config["WorkingDir"], "/tmp");
    assert_eq!(config["Labels"], json!({"a": "1"}));
    assert!(config["Env"].as_array().unwrap().contains(&json!("A=1")), "{config}");
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    let show = "cat /srv.txt /d/f; ls /home; ls /etc; pwd";
    let printed = daemon
        .docker(["run", "--rm", "--network", "none", "made:1", "sh", "-c", show])
        .ok();
    assert_eq!(
        printed,
        "made\n1\nnew\nhostname\nhosts\nmtab\npasswd\nresolv.conf\n/tmp"
    );
    let history = daemon
        .docker("history --no-trunc --format {{.CreatedBy}}|{{.Comment}} made:1")
        .ok();
    assert_eq!(
        history.lines().next(),
        Some(format!("sh -c {script}|a message").as_str())
    );
}

#[test]
fn instructions_change_what_the_image_says() {
    let daemon = daemon();
    daemon
        .docker("run --name box --network none -e A=1 -e B=1 busybox true")
        .ok();
    let changes = [
        "CMD [\"echo\", \"changed\"]",
        "ENV B=2 C=3",
        "EXPOSE 80 53/udp",
        "LABEL k=v",
        "ONBUILD RUN make",
        "USER app",
        "VOLUME /data",
        "WORKDIR /srv",
        "STOPSIGNAL SIGINT",
        "HEALTHCHECK --interval=5s CMD true",
    ];
    let mut words = vec!["commit".to_owned()];
    for change in changes {
        words.extend(["--change".to_owned(), change.to_owned()]);
    }
    words.extend(["box".to_owned(), "changed:1".to_owned()]);
    daemon.docker(words.clone()).ok();
    let config = daemon.docker("image inspect changed:1").json()[0]["Config"].clone();
    assert_eq!(config["Cmd"], json!(["echo", "changed"]));
    assert_eq!(config["ExposedPorts"], json!({"80/tcp": {}, "53/udp": {}}));
    assert_eq!(config["OnBuild"], json!(["RUN make"]));
    assert_eq!(
        (&config["User"], &config["WorkingDir"], &config["StopSignal"]),
        (&json!("app"), &json!("/srv"), &json!("SIGINT"))
    );
    assert_eq!(config["Volumes"], json!({"/data": {}}));
    assert_eq!(config["Healthcheck"]["Interval"], 5_000_000_000_i64);
    let variables = config["Env"].as_array().unwrap();
    for variable in ["A=1", "B=2", "C=3"] {
        assert!(variables.contains(&json!(variable)), "{variables:?}");
    }
    // Nothing changed in the files: no layer, but a line in the history.
    let image = daemon.docker("image inspect changed:1").json()[0].clone();
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 1);
    assert_eq!(
        names_in(&daemon.data_root().join("layers")).len(),
        2,
        "empty, and busybox's"
    );
    words.pop();
    words.push("own:1".to_owned());
    daemon.corten(words).ok();
    assert_eq!(daemon.docker("image inspect own:1").json()[0]["Config"], config);
    assert_eq!(
        daemon.docker(["commit", "-c", "RUN make", "box"]).fails(1),
        "Error response from daemon: RUN is not a valid change command"
    );
}

#[test]
fn instructions_see_the_variables_of_the_container() {
    let daemon = daemon();
    daemon
        .docker("run --name box --network none -e PATH=/bin -e A=1 busybox true")
        .ok();
    let changes = [
        "commit",
        "-c",
        "ENV PATH=/opt:$PATH B=${A}${NONE:-2}",
        "-c",
        "WORKDIR /srv/$B",
        "-c",
        "# nothing",
    ];
    daemon
        .docker([changes.as_slice(), &["box", "changed:1"]].concat().as_slice())
        .ok();
    let config = daemon.docker("image inspect changed:1").json()[0]["Config"].clone();
    // Docker's command line sends variables in an order of its own.
    let mut variables: Vec<_> = config["Env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    variables.sort_unstable();
    assert_eq!(variables, ["A=1", "B=12", "PATH=/opt:/bin"]);
    assert_eq!(config["WorkingDir"], "/srv/12");
    for (change, error) in [
        ("STOPSIGNAL NOTHING", "invalid signal: NOTHING"),
        ("USER", "USER requires exactly one argument"),
    ] {
        let answer = daemon.docker(["commit", "-c", change, "box"]).fails(1);
        assert_eq!(answer, format!("Error response from daemon: {error}"));
    }
}

#[test]
fn the_body_goes_before_what_the_container_has() {
    let daemon = daemon();
    daemon
        .docker("run --name box --network none -e A=1 busybox touch /f")
        .ok();
    let answer = daemon.api().post(
        "/commit?container=box&repo=host:5000/team/made&tag=2&comment=by+hand&changes=ENV+B%3D2%0ALABEL+x%3Dy",
        Some(&json!({"Cmd": ["cat"], "Env": ["A=9"], "User": "app"})),
    );
    let id = answer.expect(201).json()["Id"].as_str().unwrap().to_owned();
    let image = daemon.docker(["image", "inspect", &id]).json()[0].clone();
    assert_eq!(image["RepoTags"], json!(["host:5000/team/made:2"]));
    assert_eq!(image["Config"]["Cmd"], json!(["cat"]));
    let variables = image["Config"]["Env"].as_array().unwrap();
    assert!(
        variables.contains(&json!("A=9")) && variables.contains(&json!("B=2")),
        "{variables:?}"
    );
    let api = daemon.api();
    api.post("/commit?container=nobody", None).expect(404);
    api.post("/commit?container=box&repo=UPPER", None).expect(400);
    api.post("/commit?container=box&changes=FROM+scratch", None).expect(400);
    assert_eq!(
        api.post("/commit", None).expect(400).message(),
        "invalid name or ID supplied: \"\""
    );
}

#[test]
fn an_image_of_a_container_saves_and_loads_bit_by_bit() {
    let daemon = daemon();
    let script = "cd /tmp; echo 1 >f; ln f hard; ln -s f link; mkfifo p; dd if=/dev/urandom of=big bs=1M count=3 2>/dev/null; \
                  rm /etc/group; chown -R 7:8 f; chmod 4711 f; truncate -s 100M sparse";
    kept(&daemon, "--name box", script).ok();
    let id = daemon.docker("commit box made:1").ok();
    let before = daemon.docker("save made:1").stdout;
    let show = [
        "run",
        "--rm",
        "--network",
        "none",
        "made:1",
        "sh",
        "-c",
        "cd /tmp; stat -c '%n %a %u:%g %h %s %F' *; md5sum big",
    ];
    let files = daemon.docker(show).ok();
    assert!(
        files.contains("f 4711 7:8 2 2 regular file") && files.contains("sparse 644 0:0 1 104857600"),
        "{files}"
    );
    daemon.docker("rm box").ok();
    daemon.docker("rmi made:1").ok();
    daemon.docker_with_input("load", &before).ok();
    assert_eq!(
        daemon
            .docker(["image", "inspect", "--format", "{{.Id}}", "made:1"])
            .ok(),
        id
    );
    assert!(daemon.docker("save made:1").stdout == before);
    assert_eq!(daemon.docker(show).ok(), files);
}

#[test]
fn a_running_container_is_frozen_while_it_is_read() {
    let daemon = daemon();
    background(&daemon, "--name box", WAIT);
    daemon.wait_for_log("box", "ready");
    daemon.docker("commit box one").ok();
    assert_eq!(daemon.status("box"), "running");
    daemon.docker("pause box").ok();
    daemon.docker("commit box two").ok();
    assert_eq!(daemon.status("box"), "paused", "who was paused stays so");
    daemon.docker("unpause box").ok();
    daemon.docker("commit --pause=false box three").ok();
    let told: Vec<String> = events(&daemon)
        .into_iter()
        .filter_map(|event| {
            let action = event["Action"].as_str()?;
            let reference = event["Actor"]["Attributes"]["imageRef"].as_str().unwrap_or_default();
            let asked = ["pause", "unpause", "commit"].contains(&action);
            asked.then(|| format!("{action} {reference}"))
        })
        .collect();
    let expected = [
        "pause ",
        "unpause ",
        "commit one:latest",
        "pause ",
        "commit two:latest",
        "unpause ",
        "commit three:latest",
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_container_outlives_its_image_and_still_commits() {
    let daemon = daemon();
    let layer = Tar::new().file("own", 0o644, b"1");
    daemon.load(&image::busybox().tagged("short:1").layer(layer));
    daemon.docker("run --name box --network none short:1 touch /f").ok();
    daemon.docker("rmi -f short:1").ok();
    daemon.docker("commit box long:1").ok();
    daemon.docker("rm box").ok();
    let printed = daemon
        .docker([
            "run",
            "--rm",
            "--network",
            "none",
            "long:1",
            "sh",
            "-c",
            "cat /own; ls /f",
        ])
        .ok();
    assert_eq!(printed, "1/f");
    assert!(
        entries(&daemon.docker("save long:1").stdout)
            .iter()
            .any(|(name, ..)| name == "manifest.json")
    );
}

#[test]
fn a_commit_of_a_commit_stands_on_its_layers() {
    let daemon = daemon();
    for round in 0..4 {
        let from = if round == 0 {
            "busybox".to_owned()
        } else {
            format!("made:{}", round - 1)
        };
        let script = format!("echo {round} >/r{round}; rm -f /r{}", round - 2);
        daemon
            .docker(["run", "--name", "box", "--network", "none", &from, "sh", "-c", &script])
            .ok();
        daemon.docker(["commit", "box", &format!("made:{round}")]).ok();
        daemon.docker("rm box").ok();
    }
    let printed = daemon
        .docker([
            "run",
            "--rm",
            "--network",
            "none",
            "made:3",
            "sh",
            "-c",
            "ls / | grep ^r[0-9]",
        ])
        .ok();
    assert_eq!(printed, "r2\nr3");
    let layers = daemon.docker("image inspect made:3").json()[0]["RootFS"]["Layers"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(layers, 5);
}

#[test]
fn kill_in_the_middle_leaves_the_whole_image_or_none() {
    let mut daemon = daemon();
    let script = "dd if=/dev/urandom of=/big bs=1M count=40 2>/dev/null; trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    background(&daemon, "--name box", script);
    daemon.wait_for_log("box", "ready");
    let layers = |daemon: &corten_testkit::daemon::Daemon| names_in(&daemon.data_root().join("layers")).len();
    let (mut whole, mut none) = (0, 0);
    for round in 0..10_u64 {
        let mut connection = daemon.api().open();
        connection.send("POST", &format!("/commit?container=box&repo=made&tag={round}"), None);
        thread::sleep(Duration::from_millis(5 + round * 40));
        daemon.kill_and_start();
        wait_until("it runs on", || daemon.status("box") == "running");
        let images = daemon.docker("images -q made").ok();
        let count = images.lines().count();
        match count {
            0 => none += 1,
            _ => {
                whole += 1;
                let reference = format!("made:{round}");
                let sum = |output: String| output.split(' ').next().unwrap_or_default().to_owned();
                let inside = sum(daemon
                    .docker(["run", "--rm", "--network", "none", &reference, "md5sum", "/big"])
                    .ok());
                assert_eq!(inside, sum(daemon.exec("box", "md5sum /big").ok()));
                daemon.docker(["rmi", &reference]).ok();
            }
        }
        assert_eq!(
            daemon.docker("images -aq").ok().lines().count(),
            1,
            "busybox alone is left"
        );
        assert_eq!(layers(&daemon), 2);
        for room in ["staging", "content/ingest"] {
            assert_eq!(names_in(&daemon.data_root().join(room)), Vec::<String>::new());
        }
        assert_eq!(names_in(&daemon.data_root().join("content/blobs/sha256")).len(), 2);
    }
    assert_eq!(whole + none, 10);
    daemon.docker("rm -f box").ok();
    daemon.assert_nothing_remains();
    assert!(fs::metadata(daemon.data_root().join("corten.db")).is_ok());
}

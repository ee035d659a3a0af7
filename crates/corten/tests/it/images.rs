//! Images: in by archive, out by archive, and what one can ask about them.
use std::process::{Command, Stdio};

use corten_testkit::{
    archive::Tar,
    command::run_with_input,
    daemon::{Daemon, names_in},
    image::{self, Image, digest},
};
use serde_json::json;

use crate::{WAIT, background, daemon, setup};

fn small(tag: &str, content: &str) -> Image {
    Image::new(tag, Tar::new().file("file", 0o644, content.as_bytes()))
}

/// The layers that are stored; `empty` is the lower directory of images without any.
fn layers(daemon: &Daemon) -> Vec<String> {
    let mut names = names_in(&daemon.data_root().join("layers"));
    names.retain(|name| name != "empty");
    names
}

#[test]
fn docker_archives_and_oci_archives_load_as_the_same_image() {
    let image = image::busybox();
    for archive in [image.docker_archive(), image.oci_archive()] {
        let daemon = setup().start();
        let said = daemon.docker_with_input("load", &archive).ok();
        assert_eq!(said, "Loaded image: busybox:latest");
        assert_eq!(daemon.docker("images --no-trunc -q").ok(), image.id());
        assert_eq!(
            daemon.docker("run --rm --network none busybox echo hello").ok(),
            "hello"
        );
    }
}

#[test]
fn compressed_archives_load_too() {
    let image = image::busybox();
    let daemon = setup().start();
    let zipped = run_with_input(Command::new("gzip").stdin(Stdio::piped()), &image.docker_archive()).stdout;
    assert_eq!(
        daemon.corten_with_input("load", &zipped).ok(),
        "Loaded image: busybox:latest"
    );
    assert_eq!(daemon.docker("images --no-trunc -q").ok(), image.id());
}

#[test]
fn what_is_saved_loads_as_the_same_image() {
    let daemon = daemon();
    let image = image::busybox();
    daemon.load(&small("second:1", "2"));
    let saved = daemon.docker("save busybox second:1").stdout;
    let other = setup().start();
    let said = other.docker_with_input("load", &saved).ok();
    assert!(
        said.contains("Loaded image: busybox:latest") && said.contains("Loaded image: second:1"),
        "{said}"
    );
    assert_eq!(other.docker("inspect -f {{.Id}} busybox").ok(), image.id());
    assert_eq!(
        other.docker("inspect -f {{.Id}} second:1").ok(),
        small("second:1", "2").id()
    );
    let names = run_with_input(Command::new("tar").arg("t"), &saved).ok();
    for name in ["manifest.json", "oci-layout", "index.json"] {
        assert!(names.lines().any(|line| line == name), "{name} is missing: {names}");
    }
    let file = daemon.root().join("saved.tar");
    daemon.corten(["save", "-o", file.to_str().unwrap(), "busybox"]).ok();
    let third = setup().start();
    third.corten(["load", "-i", file.to_str().unwrap()]).ok();
    assert_eq!(third.docker("inspect -f {{.Id}} busybox").ok(), image.id());
}

#[test]
fn an_import_makes_an_image_of_a_file_system() {
    let daemon = setup().start();
    let tar = image::busybox_layer().finish();
    let words = [
        "import",
        "--change",
        "CMD [\"echo\", \"imported\"]",
        "--change",
        "ENV A=b",
        "-m",
        "from a tar",
        "-",
        "made:1",
    ];
    let id = daemon.docker_with_input(words, &tar).ok();
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(daemon.docker("run --rm --network none made:1").ok(), "imported");
    assert_eq!(daemon.docker("run --rm --network none made:1 sh -c 'echo").code, 2);
    assert_eq!(
        daemon
            .docker(["run", "--rm", "--network", "none", "made:1", "sh", "-c", "echo $A"])
            .ok(),
        "b"
    );
    let history = daemon.docker("history --no-trunc --format {{.Comment}} made:1").ok();
    assert_eq!(history, "from a tar");
    let inspected = daemon.docker("image inspect made:1").json();
    assert_eq!(inspected[0]["RootFS"]["Layers"], json!([digest(&tar)]));
    let own = daemon.corten_with_input("import - made:2", &tar).ok();
    assert!(own.starts_with("sha256:"), "{own}");
}

#[test]
fn a_platform_is_the_images_or_it_is_refused() {
    let daemon = daemon();
    let here = daemon.docker("image inspect -f {{.Os}}/{{.Architecture}} busybox").ok();
    let elsewhere = "linux/s390x";
    let saved = daemon.docker(["save", "--platform", &here, "busybox"]).stdout;
    let mismatch = format!(
        "image with reference busybox was found but its platform ({here}) does not match the specified platform \
         ({elsewhere})"
    );
    let empty = setup().start();
    let absent = format!("the archive has no image for {elsewhere}, only for {here}");
    for own in [false, true] {
        let run = |daemon: &Daemon, words: &[&str]| match own {
            true => daemon.corten(words),
            false => daemon.docker(words),
        };
        for verb in ["history", "image inspect"] {
            let words = |platform| [verb.split(' ').collect(), vec!["--platform", platform, "busybox"]].concat();
            run(&daemon, &words(&here)).ok();
            let error = run(&daemon, &words(elsewhere)).fails(1);
            assert!(error.contains(&mismatch), "{error}");
        }
        let error = run(&daemon, &["save", "--platform", elsewhere, "busybox"]).fails(1);
        assert!(
            error.contains("no suitable export target found for platform linux/s390x"),
            "{error}"
        );
        let load = |platform| match own {
            true => empty.corten_with_input(["load", "--platform", platform], &saved),
            false => empty.docker_with_input(["load", "--platform", platform], &saved),
        };
        let error = load(elsewhere);
        assert!(
            error.error().contains(&absent) || error.text().contains(&absent),
            "{error:?}"
        );
        assert_eq!(empty.docker("images -q").ok(), "");
        assert_eq!(load(&here).ok(), "Loaded image: busybox:latest");
        empty.docker("rmi busybox").ok();
        let error = run(&daemon, &["save", "--platform", "vax", "busybox"]).fails(1);
        assert!(error.contains("unknown operating system or architecture"), "{error}");
    }
    let get = |query: &str| daemon.api().get(&format!("/images/busybox/json?{query}"));
    let asked = "platform=%7B%22os%22:%22linux%22%7D";
    assert_eq!(
        get(asked).expect(400).message(),
        "both OS and Architecture must be provided"
    );
    let object = "%7B%22os%22:%22linux%22,%22architecture%22:%22s390x%22%7D";
    get(&format!("platform={object}")).expect(404);
    assert_eq!(
        get(&format!("manifests=1&platform={object}")).expect(400).message(),
        "conflicting options: manifests and platform options cannot both be set"
    );
    // Clients from before there were platforms mean none.
    daemon
        .api()
        .get(&format!("/v1.48/images/busybox/json?platform={object}"))
        .expect(200);
    daemon
        .api()
        .delete(&format!("/images/busybox?platforms={object}"))
        .expect(404);
    // There are no lists of manifests, as with Docker's storage drivers.
    assert!(get("manifests=1").expect(200).json().get("Manifests").is_none());
    let listed = daemon.api().get("/images/json?manifests=1").expect(200).json();
    assert!(listed[0].get("Manifests").is_none(), "{listed}");
}

#[test]
fn tags_are_added_moved_and_removed() {
    let daemon = daemon();
    let id = image::busybox().id();
    daemon.docker("tag busybox example.org:5000/team/app:v1").ok();
    daemon.corten("tag busybox alias").ok();
    let listed = daemon.docker(["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok();
    let mut listed: Vec<_> = listed.lines().collect();
    listed.sort_unstable();
    assert_eq!(
        listed,
        ["alias:latest", "busybox:latest", "example.org:5000/team/app:v1"]
    );
    assert_eq!(daemon.docker("rmi alias").ok(), "Untagged: alias:latest");
    daemon.load(&small("second:1", "2"));
    daemon.docker("tag second:1 busybox").ok();
    assert_ne!(daemon.docker("inspect -f {{.Id}} busybox:latest").ok(), id);
    let error = daemon.docker("tag busybox UPPER").fails(1);
    assert!(
        error.contains("repository name must be lowercase") || error.contains("invalid reference format"),
        "{error}"
    );
    let error = daemon.docker("tag nothing x").fails(1);
    assert!(error.contains("No such image: nothing:latest"), "{error}");
}

#[test]
fn images_are_found_by_name_and_by_the_beginning_of_their_id() {
    let daemon = daemon();
    let id = image::busybox().id();
    let hexadecimal = id.strip_prefix("sha256:").unwrap();
    for reference in [
        "busybox",
        "busybox:latest",
        "docker.io/library/busybox",
        &id,
        hexadecimal,
        &hexadecimal[..12],
        &hexadecimal[..4],
    ] {
        assert_eq!(
            daemon.docker(["image", "inspect", "-f", "{{.Id}}", reference]).ok(),
            id,
            "{reference}"
        );
    }
    let short = &hexadecimal[..12];
    assert_eq!(
        daemon
            .docker(["run", "--rm", "--network", "none", short, "echo", "by id"])
            .ok(),
        "by id"
    );
    let error = daemon.docker("image inspect nothing").fails(1);
    assert!(error.contains("No such image: nothing"), "{error}");
}

#[test]
fn inspect_tells_what_the_configuration_says() {
    let daemon = setup().start();
    let image = small("full:1", "x")
        .with("Cmd", json!(["a", "b"]))
        .with("Entrypoint", json!(["e"]))
        .with("WorkingDir", json!("/w"))
        .with("User", json!("u"))
        .with("Labels", json!({"k": "v"}))
        .with("ExposedPorts", json!({"80/tcp": {}}))
        .with("Volumes", json!({"/v": {}}))
        .with("StopSignal", json!("SIGUSR1"));
    daemon.load(&image);
    let inspected = &daemon.docker("image inspect full:1").json()[0];
    let config = &inspected["Config"];
    for key in [
        "Cmd",
        "Entrypoint",
        "WorkingDir",
        "User",
        "Labels",
        "ExposedPorts",
        "Volumes",
        "StopSignal",
        "Env",
    ] {
        assert_eq!(config[key], image.config[key], "{key}");
    }
    assert_eq!(inspected["RepoTags"], json!(["full:1"]));
    assert_eq!(inspected["Os"], "linux");
    assert_eq!(inspected["Architecture"], image.architecture);
    assert_eq!(inspected["Created"], "2023-11-14T22:13:20Z");
    assert_eq!(inspected["Size"], 1);
    assert_eq!(inspected["RootFS"]["Type"], "layers");
}

#[test]
fn removing_the_last_name_removes_the_image() {
    let daemon = setup().start();
    daemon.load(&small("one:1", "1"));
    daemon.docker("tag one:1 one:2").ok();
    let id = small("one:1", "1").id();
    assert_eq!(daemon.docker("rmi one:1").ok(), "Untagged: one:1");
    let said = daemon.docker("rmi one:2").ok();
    assert!(said.starts_with("Untagged: one:2\n"), "{said}");
    assert!(said.contains(&format!("Deleted: {id}")), "{said}");
    assert_eq!(daemon.docker("images -aq").ok(), "");
    let error = daemon.docker("rmi one:2").fails(1);
    assert!(error.contains("No such image: one:2"), "{error}");
    assert_eq!(layers(&daemon), Vec::<String>::new());
}

#[test]
fn an_image_in_use_is_kept_unless_forced() {
    let daemon = daemon();
    let id = image::busybox().id();
    let short = &id[7..19];
    let container = background(&daemon, "--name box", WAIT);
    let error = daemon.docker("rmi busybox").fails(1);
    let expected = format!(
        "conflict: unable to remove repository reference \"busybox\" (must force) - container {} is using its referenced image {short}",
        &container[..12]
    );
    assert!(error.contains(&expected), "{error}");
    let error = daemon.docker(["rmi", "-f", short]).fails(1);
    let expected = format!(
        "conflict: unable to delete {short} (cannot be forced) - image is being used by running container {}",
        &container[..12]
    );
    assert!(error.contains(&expected), "{error}");
    daemon.docker("rm -f box").ok();
    daemon.docker("create --name stopped --network none busybox").ok();
    let error = daemon.docker(["rmi", short]).fails(1);
    assert!(
        error.contains("(must be forced) - image is being used by stopped container"),
        "{error}"
    );
    daemon.docker("tag busybox two").ok();
    let error = daemon.docker(["rmi", short]).fails(1);
    assert!(error.contains("(must be forced)"), "{error}");
    daemon.docker(["rmi", "-f", short]).ok();
    assert_eq!(daemon.docker("images -q").ok(), "");
    // What a container needs stays: it can still be started.
    daemon.docker("start -a stopped").ok();
}

#[test]
fn pruning_takes_what_nobody_names_or_uses() {
    let daemon = daemon();
    daemon.load(&small("one:1", "1"));
    daemon.load(&small("one:1", "2"));
    assert_eq!(
        daemon.docker("images -q --filter dangling=true").ok().lines().count(),
        1
    );
    let said = daemon.docker("image prune -f").ok();
    assert!(
        said.contains("deleted: sha256:") && said.contains("Total reclaimed space"),
        "{said}"
    );
    assert_eq!(daemon.docker("images -aq").ok().lines().count(), 2);
    daemon.docker("create --network none busybox").ok();
    daemon.docker("image prune -af").ok();
    assert_eq!(daemon.docker(["images", "--format", "{{.Repository}}"]).ok(), "busybox");
}

#[test]
fn lists_are_filtered() {
    let daemon = daemon();
    daemon.load(&small("other:1", "1").with("Labels", json!({"k": "v"})));
    let list = |filter: &str| {
        daemon
            .docker(["images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", filter])
            .ok()
    };
    assert_eq!(list("label=k=v"), "other:1");
    assert_eq!(list("reference=bus*"), "busybox:latest");
    assert_eq!(list("reference=*:1"), "other:1");
    assert_eq!(list("dangling=true"), "");
    assert_eq!(daemon.docker("images -q other").ok().lines().count(), 1);
    let answer = daemon
        .api()
        .get("/images/json?filters={\"no-such\":[\"x\"]}")
        .expect(400);
    assert!(answer.message().contains("no-such"), "{}", answer.message());
}

#[test]
fn layers_that_are_shared_are_kept_once() {
    let daemon = setup().start();
    let base = small("base:1", "base");
    let grown = base
        .clone()
        .tagged("grown:1")
        .layer(Tar::new().file("more", 0o644, b"more"));
    daemon.load(&base);
    daemon.load(&grown);
    assert_eq!(layers(&daemon).len(), 2);
    daemon.docker("rmi grown:1").ok();
    assert_eq!(layers(&daemon).len(), 1);
    daemon.docker("image inspect base:1").ok();
}

/// The content store is an OCI image layout that others can read.
#[test]
fn blobs_have_the_digest_that_they_are_named_by() {
    let daemon: Daemon = daemon();
    let blobs = daemon.data_root().join("content/blobs/sha256");
    let names = names_in(&blobs);
    assert!(!names.is_empty());
    for name in names {
        let bytes = std::fs::read(blobs.join(&name)).unwrap();
        assert_eq!(digest(&bytes), format!("sha256:{name}"));
    }
}

//! Archives made to break out, to lie, or to exhaust: each is refused by the name of the entry, and nothing stays.
use std::{fs, path::PathBuf};

use corten_testkit::{
    archive::{Header, Tar},
    daemon::{Daemon, names_in},
    image::{self, Image},
    wait::wait_until,
};
use serde_json::json;

use crate::setup;

/// Everything in the data root but the database, which may grow, once what was discarded is deleted.
fn census(daemon: &Daemon) -> Vec<PathBuf> {
    let trash = daemon.data_root().join("trash");
    wait_until("what was discarded is deleted", || names_in(&trash).is_empty());
    let mut found = Vec::new();
    let mut todo = vec![daemon.data_root()];
    while let Some(directory) = todo.pop() {
        for name in names_in(&directory) {
            let path = directory.join(name);
            if path.is_dir() && !path.is_symlink() {
                todo.push(path.clone());
            }
            if !path.to_string_lossy().contains("corten.db") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Loads an image with this layer; the error must name the entry, and the data root must be as before.
#[track_caller]
fn refused(layer: Tar, entry: &str) {
    let daemon = setup().start();
    let before = census(&daemon);
    let image = Image::new("hostile:1", layer);
    for archive in [image.docker_archive(), image.oci_archive()] {
        let output = daemon.docker_with_input("load", &archive);
        let error = output.clone().fails(1);
        assert!(error.contains(entry), "{entry} is not named: {output:?}");
        assert_eq!(daemon.docker("images -aq").ok(), "");
        assert_eq!(census(&daemon), before);
    }
    let error = daemon
        .docker_with_input("import - hostile:2", &image.layers[0])
        .fails(1);
    assert!(error.contains(entry), "{error}");
    assert_eq!(census(&daemon), before);
    // It goes on working.
    daemon.load(&image::busybox());
    assert_eq!(daemon.docker("run --rm --network none busybox echo fine").ok(), "fine");
}

#[test]
fn an_entry_that_climbs_out_is_refused() {
    refused(Tar::new().file("../escaped", 0o644, b"x"), "../escaped");
    refused(
        Tar::new().directory("a/", 0o755).file("a/../../escaped", 0o644, b"x"),
        "a/../../escaped",
    );
}

#[test]
fn an_entry_through_a_symbolic_link_stays_within() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    for link in [target.to_owned(), format!("../../../../../../../../..{target}")] {
        let daemon = setup().start();
        let image = Image::new("link:1", Tar::new().symlink("out", &link).file("out/file", 0o644, b"x"));
        // Refused, or written beneath the layer: never outside of it.
        let _ = daemon.docker_with_input("load", &image.docker_archive());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}

#[test]
fn an_entry_through_a_link_of_a_lower_layer_stays_within() {
    let outside = tempfile::tempdir().unwrap();
    let daemon = setup().start();
    let lower = Tar::new().symlink("out", outside.path().to_str().unwrap());
    let image = Image::new("link:1", lower).layer(Tar::new().file("out/file", 0o644, b"x").file(
        "out/.wh..wh..opq",
        0o644,
        b"",
    ));
    let _ = daemon.docker_with_input("load", &image.docker_archive());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_hard_link_out_is_refused() {
    refused(Tar::new().hard_link("passwd", "../../../../../../etc/passwd"), "passwd");
    refused(Tar::new().hard_link("shadow", "no/such/file"), "shadow");
}

#[test]
fn a_hard_link_to_an_absolute_path_means_the_layers_own() {
    let daemon = setup().start();
    let layer = Tar::new()
        .directory("etc/", 0o755)
        .file("etc/passwd", 0o644, b"own\n")
        .hard_link("copy", "/etc/passwd");
    let image = image::busybox().tagged("hard:1").layer(layer);
    let output = daemon.docker_with_input("load", &image.docker_archive());
    if output.code == 0 {
        assert_eq!(daemon.docker("run --rm --network none hard:1 cat /copy").ok(), "own");
    } else {
        assert!(output.error().contains("copy"), "{output:?}");
    }
}

#[test]
fn a_whiteout_cannot_climb_out() {
    let keep = tempfile::tempdir().unwrap();
    fs::write(keep.path().join("file"), "x").unwrap();
    refused(Tar::new().file("../.wh.file", 0o644, b""), ".wh.file");
    refused(Tar::new().file(".wh...", 0o644, b""), ".wh...");
    assert!(keep.path().join("file").exists());
}

#[test]
fn a_truncated_archive_is_refused_and_leaves_nothing() {
    let daemon = setup().start();
    let before = census(&daemon);
    let archive = image::busybox().docker_archive();
    for part in [10, 512, 700, archive.len() / 2, archive.len() - 5000] {
        let output = daemon.docker_with_input("load", &archive[..part]);
        assert_ne!(output.code, 0, "{part} bytes: {output:?}");
        assert_eq!(census(&daemon), before, "{part} bytes");
    }
}

#[test]
fn an_entry_that_claims_more_than_there_is_is_refused() {
    let header = Header::new(b'0', "huge", 0o644).size(8 << 30);
    refused(Tar::new().entry(header, b"little"), "huge");
}

#[test]
fn an_extended_header_without_end_is_refused() {
    let header = Header::new(b'x', "PaxHeaders/endless", 0o644).size(7 << 30);
    refused(
        Tar::new().entry(header, b"30 path=x\n"),
        "extension of 7516192768 bytes",
    );
}

#[test]
fn a_header_with_a_wrong_checksum_is_refused() {
    let daemon = setup().start();
    let mut image = Image::new("sum:1", Tar::new().file("file", 0o644, b"x"));
    image.layers[0][150] ^= 1;
    let error = daemon.docker_with_input("load", &image.docker_archive()).fails(1);
    assert!(error.contains("layer.tar"), "the layer is named: {error}");
}

#[test]
fn a_layer_that_is_not_what_the_configuration_says_is_refused() {
    let daemon = setup().start();
    let before = census(&daemon);
    let image = Image::new("liar:1", Tar::new().file("file", 0o644, b"honest"));
    let mut archive = image.docker_archive();
    let at = archive.windows(6).position(|window| window == b"honest").unwrap();
    archive[at..at + 6].copy_from_slice(b"crooks");
    let error = daemon.docker_with_input("load", &archive).fails(1);
    assert!(error.contains("sha256"), "the digests are named: {error}");
    let mut archive = image.oci_archive();
    let at = archive.windows(6).position(|window| window == b"honest").unwrap();
    archive[at..at + 6].copy_from_slice(b"crooks");
    daemon.docker_with_input("load", &archive).fails(1);
    assert_eq!(census(&daemon), before);
}

#[test]
fn a_manifest_that_points_out_of_the_archive_is_refused() {
    let daemon = setup().start();
    let before = census(&daemon);
    for (config, layer) in [
        ("../../etc/passwd", "layer.tar"),
        ("config.json", "/etc/passwd"),
        ("config.json", "missing.tar"),
    ] {
        let manifest = json!([{"Config": config, "RepoTags": ["x:1"], "Layers": [layer]}]);
        let archive = Tar::new()
            .file("config.json", 0o644, &Image::new("x:1", Tar::new()).configuration())
            .file("manifest.json", 0o644, manifest.to_string().as_bytes())
            .finish();
        let output = daemon.docker_with_input("load", &archive);
        assert_ne!(output.code, 0, "{output:?}");
        assert_eq!(census(&daemon), before);
    }
}

#[test]
fn long_names_and_attributes_are_kept() {
    let daemon = setup().start();
    let long = format!("deep/{}/{}", "a".repeat(120), "b".repeat(200));
    let layer = Tar::new()
        .extended(&[("path", &long), ("SCHILY.xattr.user.colour", "red")])
        .file("short", 0o600, b"content");
    daemon.load(&image::busybox().tagged("long:1").layer(layer));
    let printed = daemon
        .docker(["run", "--rm", "--network", "none", "long:1", "cat", &format!("/{long}")])
        .ok();
    assert_eq!(printed, "content");
}

#[test]
fn special_files_are_made() {
    let daemon = setup().start();
    let layer = Tar::new()
        .directory("special/", 0o755)
        .entry(Header::new(b'3', "special/null", 0o666).device(1, 3), b"")
        .entry(Header::new(b'6', "special/fifo", 0o644), b"");
    daemon.load(&image::busybox().tagged("special:1").layer(layer));
    let script = "ls -l /special | tail -n +2 | cut -c1; echo x >/special/null";
    let printed = daemon
        .docker(["run", "--rm", "--network", "none", "special:1", "sh", "-c", script])
        .ok();
    assert_eq!(printed, "p\nc");
}

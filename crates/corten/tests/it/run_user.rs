//! Who the command runs as.
use corten_testkit::image;
use serde_json::json;

use crate::{daemon, sh};

#[test]
fn users_are_names_or_numbers_of_the_image() {
    let daemon = daemon();
    let id = "id -u; id -g; id -G";
    for (option, expected) in [
        ("", "0\n0\n0"),
        ("-u app", "1000\n1000\n1000 29 60"),
        ("-u 1000", "1000\n1000\n1000 29 60"),
        ("-u 1000:1000", "1000\n1000\n1000"),
        ("-u app:audio", "1000\n29\n29"),
        ("-u 4242", "4242\n0\n0"),
        ("-u 4242:4343", "4242\n4343\n4343"),
        ("-u daemon", "1\n1\n1"),
        ("-u app --group-add audio --group-add 777", "1000\n1000\n1000 29 60 777"),
    ] {
        let printed = sh(&daemon, option, id).ok();
        let normal = |text: &str| {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            let mut groups: Vec<u32> = lines[2].split(' ').map(|group| group.parse().unwrap()).collect();
            groups.sort_unstable();
            groups.dedup();
            lines[2] = format!("{groups:?}");
            lines
        };
        assert_eq!(normal(&printed), normal(expected), "{option}");
    }
}

#[test]
fn an_unknown_user_is_refused_and_named() {
    let daemon = daemon();
    let error = sh(&daemon, "-u nobody-here", "true").fails(125);
    assert!(error.contains("unable to find user nobody-here"), "{error}");
    let error = sh(&daemon, "-u app:nogroup-here", "true").fails(125);
    assert!(error.contains("unable to find group nogroup-here"), "{error}");
    daemon.assert_nothing_remains();
}

#[test]
fn the_home_directory_follows_the_user() {
    let daemon = daemon();
    assert_eq!(sh(&daemon, "-u app", "echo $HOME").ok(), "/home/app");
    assert_eq!(sh(&daemon, "-u 4242", "echo $HOME").ok(), "/");
    assert_eq!(
        sh(&daemon, "-u app -e HOME=/elsewhere", "echo $HOME").ok(),
        "/elsewhere"
    );
}

#[test]
fn the_user_of_the_image_is_the_default() {
    let daemon = daemon();
    daemon.load(&image::busybox().tagged("user:1").with("User", json!("app")));
    assert_eq!(daemon.docker("run --rm --network none user:1 id -un").ok(), "app");
    assert_eq!(
        daemon.docker("run --rm --network none -u root user:1 id -un").ok(),
        "root"
    );
}

#[test]
fn an_ordinary_user_has_no_capabilities_in_effect() {
    let daemon = daemon();
    let script = "grep -E 'CapEff|CapBnd|CapAmb' /proc/self/status";
    let printed = sh(&daemon, "-u app", script).ok();
    assert!(printed.contains("CapEff:\t0000000000000000"), "{printed}");
    assert!(printed.contains("CapBnd:\t00000000a80425fb"), "{printed}");
    assert!(printed.contains("CapAmb:\t0000000000000000"), "{printed}");
}

#[test]
fn an_ordinary_user_can_write_to_its_standard_streams() {
    let daemon = daemon();
    assert_eq!(
        sh(&daemon, "-u app", "echo out >/dev/stdout; echo more >/proc/self/fd/1").ok(),
        "out\nmore"
    );
}

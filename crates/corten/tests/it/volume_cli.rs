//! Both command lines on volumes: the same words, tables, templates and exit codes.
use crate::{daemon, setup, sh};

#[test]
fn both_clients_print_the_same() {
    let daemon = daemon();
    daemon.docker("volume create --label tier=db store").ok();
    daemon
        .corten("volume create -o type=tmpfs -o device=tmpfs -o o=size=1m --label tier=web memory")
        .ok();
    daemon
        .docker("create --name box --network none -v store:/data -v /nameless busybox")
        .ok();
    for words in [
        "volume ls",
        "volume ls -q",
        "volume ls -q --filter dangling=true",
        "volume ls --filter label=tier=db --filter driver=local",
        "volume ls --filter name=mem --format json",
        "volume ls --format {{.Driver}}|{{.Name}}|{{.Scope}}|{{.Mountpoint}}|{{.Labels}}|{{.Links}}|{{.Size}}|{{.Availability}}",
        "volume ls --filter name=store --format {{.Labels}}",
        "volume ls --format table\\t{{.Name}}\\t{{.Driver}}",
        "volume inspect store memory",
        "volume inspect -f {{.Name}}:{{.Options}}:{{.Mountpoint}} memory",
        "volume inspect none",
        "volume rm none",
        "volume rm store none",
        "volume rm",
        "volume create xx yy",
        "volume create -d flocker xx",
        "volume create -o colour=red xx",
        "volume create --name one two",
        "volume create x",
        "volume ls extra",
        "volume ls --filter colour=red",
        "volume prune --all --filter all=1 -f",
    ] {
        let (theirs, ours) = (daemon.docker(words), daemon.corten(words));
        assert_eq!(ours.text(), theirs.text(), "{words}");
        assert_eq!(ours.code, theirs.code, "{words}: {ours:?} {theirs:?}");
        let first = |text: String| text.lines().next().unwrap_or_default().replace("corten", "docker");
        assert_eq!(first(ours.error()), first(theirs.error()), "{words}");
    }
}

#[test]
fn pruning_asks_takes_what_nobody_uses_and_says_how_much() {
    let daemon = daemon();
    sh(
        &daemon,
        "-v store:/data",
        "dd if=/dev/zero of=/data/file bs=64k count=4 2>/dev/null",
    )
    .ok();
    let nameless = daemon.corten("volume create").ok();
    assert_eq!(nameless.len(), 64);
    let asked = daemon.corten_with_input("volume prune", b"n\n");
    assert_eq!(
        asked.text().lines().next(),
        Some("WARNING! This will remove anonymous local volumes not used by at least one container.")
    );
    assert_eq!(daemon.corten("volume ls -q").ok().lines().count(), 2);
    let pruned = daemon.corten("volume prune -f").ok();
    assert_eq!(
        pruned,
        format!("Deleted Volumes:\n{nameless}\n\nTotal reclaimed space: 0B")
    );
    let pruned = daemon.corten("volume prune --all --force").ok();
    assert!(
        pruned.starts_with("Deleted Volumes:\nstore\n\nTotal reclaimed space: 26"),
        "{pruned}"
    );
    assert_eq!(daemon.corten("volume ls -q").ok(), "");
    assert_eq!(daemon.corten("volume rm -f none").ok(), "none");
    daemon.corten("volume create").ok();
    let pruned = daemon.corten("system prune --volumes -f").ok();
    assert!(pruned.contains("Deleted Volumes:"), "{pruned}");
}

#[test]
fn volumes_of_a_swarm_are_refused_by_name() {
    let daemon = setup().start();
    for words in [
        "volume update store",
        "volume create --group x store",
        "volume ls --cluster",
    ] {
        let error = daemon.corten(words).fails(1);
        assert!(error.contains("this node is not part of one"), "{words}: {error}");
    }
}

#[test]
fn disk_usage_counts_links() {
    let daemon = daemon();
    daemon
        .docker("create --name box --network none -v store:/data busybox")
        .ok();
    let usage = |client: &str| match client {
        "docker" => daemon.docker("system df -v").ok(),
        _ => daemon.corten("system df -v").ok(),
    };
    let line = |text: String| text.lines().find(|line| line.starts_with("store ")).map(str::to_owned);
    assert_eq!(line(usage("docker")), line(usage("corten")));
    assert!(line(usage("corten")).is_some_and(|line| line.contains(" 1 ")));
}

//! `--userns-remap` is not offered yet: it is refused, and `--userns=host` is what every container has.
use crate::{daemon, setup, sh};

#[test]
fn a_daemon_that_is_asked_for_user_namespaces_refuses_to_start() {
    let refused = setup().arguments("--userns-remap default").start_in_vain();
    assert!(
        refused.error().contains("--userns-remap is not implemented yet"),
        "{refused:?}"
    );
}

#[test]
fn the_hosts_users_may_be_asked_for() {
    let daemon = daemon();
    let map = sh(&daemon, "--userns host", "awk '{print $2}' /proc/self/uid_map").ok();
    assert_eq!(map, "0");
}

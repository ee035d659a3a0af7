//! The daemon itself: its flags, its files, its end.
use std::fs;

use corten_testkit::wait::wait_until;

use crate::{daemon, setup};

#[test]
fn two_daemons_live_side_by_side() {
    let one = daemon();
    let other = setup().start();
    assert_eq!(one.docker("images -q").ok().lines().count(), 1);
    assert_eq!(other.docker("images -q").ok(), "");
}

#[test]
fn a_second_daemon_on_the_same_data_root_is_refused() {
    let one = setup().start();
    let output = setup().data_root(&one.data_root()).start_in_vain();
    assert_ne!(output.code, 0);
    assert!(
        output.error().contains(&one.data_root().display().to_string()),
        "{output:?}"
    );
    one.docker("version").ok();
}

#[test]
fn the_pid_file_and_the_socket_go_away_with_the_daemon() {
    let mut daemon = setup().start();
    assert_eq!(
        fs::read_to_string(daemon.pid_file()).unwrap().trim(),
        daemon.pid().to_string()
    );
    daemon.stop();
    assert!(!daemon.pid_file().exists());
    assert!(!daemon.socket().exists());
    wait_until("the launcher is gone too", || daemon.processes().is_empty());
}

//! Black-box tests: the real binary, driven by the unmodified docker command line, on the real kernel, as root.
//!
//! A file per capability, each test a sentence. What they share is in `crates/testkit`.
use corten_testkit::{daemon::Daemon, daemon::Setup, image};

mod daemon;

fn setup() -> Setup {
    Setup::new(env!("CARGO_BIN_EXE_corten"))
}

/// A daemon with `busybox:latest` in it.
fn daemon() -> Daemon {
    let daemon = setup().start();
    daemon.load(&image::busybox());
    daemon
}

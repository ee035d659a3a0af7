//! A real Debian with a real service in it, made from Debian's packages once per checkout.
use std::{
    env,
    fs::{self, File},
    path::PathBuf,
    process::Command,
};

use rustix::fs::{FlockOperation, flock};

const SUITE: &str = "bookworm";

/// A tar archive of Debian 12 with redis-server, as `docker import` takes it.
///
/// Made by the first test that asks (a minute and a download of 40 MB); the others wait for it.
pub fn redis_archive() -> PathBuf {
    let directory = cache();
    fs::create_dir_all(&directory).expect("target/ can be written");
    let archive = directory.join(format!("{SUITE}-redis.tar"));
    let lock = File::create(directory.join("lock")).expect("target/ can be written");
    flock(&lock, FlockOperation::LockExclusive).expect("files can be locked");
    if !archive.exists() {
        // Overlayfs in a CI container cannot hold device nodes or suid bits everywhere; the temporary directory can.
        let root = tempfile::tempdir().expect("a temporary directory");
        let partial = archive.with_extension("partial");
        successful(
            Command::new("debootstrap")
                .args(["--variant=minbase", "--include=redis-server", SUITE])
                .arg(root.path())
                .env("DEBIAN_FRONTEND", "noninteractive"),
        );
        let skip = [
            "--exclude=./var/cache/apt/archives/*.deb",
            "--exclude=./var/lib/apt/lists/*_*",
            "--exclude=./dev/*",
        ];
        successful(
            Command::new("tar")
                .arg("-C")
                .arg(root.path())
                .args(skip)
                .arg("-cf")
                .arg(&partial)
                .arg("."),
        );
        fs::rename(&partial, &archive).expect("within one directory");
    }
    archive
}

/// `target/testkit`, of whatever checkout this was built in.
fn cache() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target")));
    target.join("testkit")
}

fn successful(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed:\n{said}\n{complaint}");
}

//! A real Debian with real services in it, made from Debian's packages once per checkout.
//!
//! The first test that asks makes an archive; the others wait for it.
use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use rustix::fs::{FlockOperation, flock};

const SUITE: &str = "bookworm";

/// What an archive does not need: caches, and device nodes, which the container has of its own.
const SKIPPED: [&str; 3] = [
    "--exclude=./var/cache/apt/archives/*.deb",
    "--exclude=./var/lib/apt/lists/*_*",
    "--exclude=./dev/*",
];

/// A tar archive of Debian 12 with redis-server, as `docker import` takes it: a minute, and a download of 40 MB.
pub fn redis_archive() -> PathBuf {
    made_once(&format!("{SUITE}-redis.tar"), |archive| {
        // Overlayfs in a CI container cannot hold device nodes or suid bits everywhere; the temporary directory can.
        let root = tempfile::tempdir().expect("a temporary directory");
        successful(
            Command::new("debootstrap")
                .args(["--variant=minbase", "--include=redis-server", SUITE])
                .arg(root.path())
                .env("DEBIAN_FRONTEND", "noninteractive"),
        );
        pack(root.path(), &[], archive);
    })
}

/// The same with nginx, PostgreSQL 15 and iperf3: another minute, and another 60 MB.
pub fn services_archive() -> PathBuf {
    let base = redis_archive();
    made_once(&format!("{SUITE}-services.tar"), |archive| {
        let root = tempfile::tempdir().expect("a temporary directory");
        successful(Command::new("tar").arg("-C").arg(root.path()).arg("-xpf").arg(base));
        let install = r#"
            set -e
            mount --rbind /dev "$0/dev"
            mount -t proc proc "$0/proc"
            cat /etc/resolv.conf >"$0/etc/resolv.conf"
            printf '#!/bin/sh\nexit 101\n' >"$0/usr/sbin/policy-rc.d"
            chmod 755 "$0/usr/sbin/policy-rc.d"
            export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
            chroot "$0" apt-get update -q
            chroot "$0" apt-get install -qy --no-install-recommends nginx-light postgresql iperf3"#;
        successful(
            Command::new("unshare")
                .args(["--mount", "--propagation", "private", "sh", "-c", install])
                .arg(root.path()),
        );
        // PostgreSQL loads it on demand, for queries that no test makes.
        let unused = [
            "--exclude=./usr/lib/*/libLLVM*",
            "--exclude=./usr/share/doc",
            "--exclude=./usr/share/locale",
        ];
        pack(root.path(), &unused, archive);
    })
}

fn pack(root: &Path, unused: &[&str], archive: &Path) {
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(root).args(SKIPPED).args(unused);
    successful(tar.arg("-cf").arg(archive).arg("."));
}

/// A file in the cache, made whole or not at all, by one process at a time.
fn made_once(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let directory = cache();
    fs::create_dir_all(&directory).expect("target/ can be written");
    let file = directory.join(name);
    let lock = File::create(file.with_extension("lock")).expect("target/ can be written");
    flock(&lock, FlockOperation::LockExclusive).expect("files can be locked");
    if !file.exists() {
        let partial = file.with_extension("partial");
        make(&partial);
        fs::rename(&partial, &file).expect("within one directory");
    }
    file
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

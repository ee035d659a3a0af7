//! Hosts of other kinds than a developer's: small virtual machines with a kernel of Debian 12 (`ci/guest`).
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// What `ci/guest/run` ends with when the machine lacks something that it needs.
const NOT_HERE: i32 = 2;

/// Where scripts of guests are.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ci/guest")
}

/// Runs a script of `ci/guest`, with the binary and these files beside it: what it said, which must have been without a
/// failure. Nothing where a guest cannot be run. `variables` are those of `ci/guest/run`.
#[track_caller]
pub fn run(script: &str, files: &[&Path], variables: &[(&str, &str)]) -> Option<String> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let corten = directory.path().join("corten");
    let mut strip = Command::new("strip");
    strip.arg("-o").args([&corten, Path::new(env!("CARGO_BIN_EXE_corten"))]);
    assert!(strip.status().expect("binutils come with every C compiler").success());
    let output = Command::new(self::directory().join("run"))
        .args([&self::directory().join(script), &corten])
        .args(files)
        .envs(variables.iter().copied())
        .output()
        .expect("bash runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(NOT_HERE) {
        println!("skipped: {error}");
        return None;
    }
    assert!(output.status.success(), "{said}{error}");
    Some(said)
}

#[test]
fn every_limit_holds_on_a_host_with_cgroup_v2_alone() {
    if let Some(said) = run("limits.sh", &[], &[]) {
        assert!(said.contains("ok   out of memory"), "{said}");
    }
}

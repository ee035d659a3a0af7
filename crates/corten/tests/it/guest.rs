//! A host whose cgroups are v2, whole, with a kernel of Debian 12: a small virtual machine (`ci/guest`).
use std::{path::Path, process::Command};

/// What `ci/guest/run` ends with when the machine lacks something that it needs.
const NOT_HERE: i32 = 2;

#[test]
fn every_limit_holds_on_a_host_with_cgroup_v2_alone() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let corten = directory.path().join("corten");
    let stripped = Command::new("strip")
        .arg("-o")
        .args([&corten, Path::new(env!("CARGO_BIN_EXE_corten"))])
        .status()
        .expect("binutils come with every C compiler");
    assert!(stripped.success());
    let output = Command::new(top.join("ci/guest/run"))
        .args([&top.join("ci/guest/limits.sh"), &corten])
        .output()
        .expect("bash runs");
    let said = String::from_utf8_lossy(&output.stdout);
    if output.status.code() == Some(NOT_HERE) {
        println!("skipped: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains("ok   out of memory"), "{said}");
}

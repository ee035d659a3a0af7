//! The integration tests of Docker's SDK for Python, as its source distribution carries them.
//!
//! `ci/python-sdk/left-out.txt` names those that are not run, each with its reason.
use std::{fs, path::Path, process::Command};

use corten_testkit::{archive::Tar, daemon::Daemon, image};

use crate::setup;

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ci/python-sdk");
/// What the suite has outside swarm, plugins, builds, pulls and password stores.
const EXPECTED: usize = 205;

/// What is left out, as pytest names it. A line without a reason is a mistake.
fn left_out() -> Vec<String> {
    let text = fs::read_to_string(Path::new(HERE).join("left-out.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, reason) = line
                .split_once("  ")
                .unwrap_or_else(|| panic!("no reason behind {line}"));
            assert!(!reason.trim().is_empty(), "no reason behind {name}");
            format!("tests/integration/{name}")
        })
        .collect()
}

/// Installed once in the build's own directory.
fn suite() -> std::path::PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-sdk");
    let prepared = Command::new(format!("{HERE}/prepare"))
        .arg(&directory)
        .output()
        .unwrap();
    assert!(
        prepared.status.success(),
        "{}",
        String::from_utf8_lossy(&prepared.stderr)
    );
    directory
}

fn pytest(daemon: &Daemon) -> Command {
    let suite = suite();
    let mut command = Command::new(suite.join("venv/bin/python"));
    command.current_dir(suite.join("docker-sdk"));
    command.args(["-m", "pytest", "tests/integration", "-q", "--timeout=120"]);
    command.args(["-p", "no:cacheprovider", "--tb=short", "-rfEsx"]);
    for name in left_out() {
        command.args(["--deselect", &name]);
    }
    command.env_clear().envs(std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        !name.starts_with("DOCKER_") && !name.starts_with("PYTHON")
    }));
    command.env("DOCKER_HOST", format!("unix://{}", daemon.socket().display()));
    let home = daemon.root().join("home");
    fs::create_dir_all(&home).unwrap();
    command.env("HOME", home);
    command
}

#[test]
fn the_integration_tests_of_dockers_sdk_for_python_pass() {
    let daemon = setup().start();
    // Of alpine's the suite wants a user and a directory.
    let users = "root:x:0:0:root:/root:/bin/sh\npostgres:x:70:70::/var/lib/postgresql:/bin/sh\n";
    let alpine =
        Tar::new()
            .directory("var/", 0o755)
            .directory("var/opt/", 0o755)
            .file("etc/passwd", 0o644, users.as_bytes());
    let image = image::busybox().layer(alpine);
    for tag in ["alpine:3.10", "alpine:latest", "busybox:latest"] {
        daemon.load(&image.clone().tagged(tag));
    }
    let mut pytest = pytest(&daemon);
    let output = daemon.in_network(|| pytest.output()).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let summary = text.lines().last().unwrap_or_default();
    let passed = summary.split(' ').next().and_then(|word| word.parse::<usize>().ok());
    assert!(passed.is_some_and(|passed| passed >= EXPECTED), "too few: {summary}");
}

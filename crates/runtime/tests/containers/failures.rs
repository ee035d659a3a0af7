//! Starts that cannot succeed: one clear sentence each, and nothing left behind.
use std::{fs, os::unix::fs::PermissionsExt};

use corten_runtime::shim::protocol::{Failure, FailureKind};
use serde_json::json;

use super::{Test, world::World};

pub const TESTS: &[Test] = &[
    ("missing_programs", missing_programs),
    ("programs_that_cannot_be_executed", programs_that_cannot_be_executed),
    ("unknown_users_and_groups", unknown_users_and_groups),
    ("missing_sources", missing_sources),
    ("a_limit_that_cannot_be_raised", a_limit_that_cannot_be_raised),
    (
        "contradictions_are_refused_before_anything_is_made",
        contradictions_are_refused_before_anything_is_made,
    ),
];

fn failure(world: &World) -> Failure {
    let failure = world.failure();
    world.assert_nothing_left();
    failure
}

fn expect(world: &World, kind: FailureKind, message: &str) {
    let failure = failure(world);
    assert_eq!((failure.kind, failure.message.as_str()), (kind, message));
}

fn missing_programs() {
    let world = World::new();
    world.arguments(&["foo"]);
    expect(
        &world,
        FailureKind::NotFound,
        r#"exec: "foo": executable file not found in $PATH"#,
    );
    world.arguments(&["/bin/foo"]);
    expect(
        &world,
        FailureKind::NotFound,
        r#"exec: "/bin/foo": stat /bin/foo: no such file or directory"#,
    );
    fs::write(world.lower().join("bin/script"), "#!/no/interpreter\n").unwrap();
    fs::set_permissions(world.lower().join("bin/script"), fs::Permissions::from_mode(0o755)).unwrap();
    world.arguments(&["/bin/script"]);
    expect(
        &world,
        FailureKind::NotFound,
        "exec /bin/script: no such file or directory",
    );
}

fn programs_that_cannot_be_executed() {
    let world = World::new();
    world.arguments(&["/etc/passwd"]);
    expect(
        &world,
        FailureKind::NotExecutable,
        r#"exec: "/etc/passwd": permission denied"#,
    );
    world.arguments(&["/etc"]);
    expect(&world, FailureKind::NotExecutable, r#"exec: "/etc": is a directory"#);
    // An ELF header for the S/390.
    let mut elf = b"\x7fELF\x02\x02\x01".to_vec();
    elf.resize(64, 0);
    elf[16..20].copy_from_slice(&[0, 2, 0, 22]);
    fs::write(world.lower().join("bin/foreign"), elf).unwrap();
    fs::set_permissions(world.lower().join("bin/foreign"), fs::Permissions::from_mode(0o755)).unwrap();
    world.arguments(&["foreign"]);
    expect(
        &world,
        FailureKind::NotExecutable,
        "exec /bin/foreign: exec format error",
    );
}

fn unknown_users_and_groups() {
    let world = World::new();
    let with = |user: &str| {
        world.request(|request| request.user = user.to_owned());
        &world
    };
    let message = "unable to find user nobody: no matching entries in passwd file";
    expect(with("nobody"), FailureKind::Invalid, message);
    expect(
        with("web:none"),
        FailureKind::Invalid,
        "unable to find group none: no matching entries in group file",
    );
    expect(
        with("4294967296"),
        FailureKind::Invalid,
        "uids and gids must be in range 0-2147483647",
    );
}

fn missing_sources() {
    let world = World::new();
    let source = world.path("not-there");
    let message = format!("bind source path does not exist: {}", source.display());
    world.mount(json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["rbind"]}));
    expect(&world, FailureKind::Invalid, &message);
    let world = World::new();
    world.mount(json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": ["nonsense=1"]}));
    let failure = failure(&world);
    assert!(
        failure
            .message
            .starts_with("cannot mount tmpfs at /mnt: tmpfs: Unknown parameter"),
        "{failure:?}"
    );
    let world = World::new();
    fs::remove_dir_all(world.lower()).unwrap();
    let failure = super::failures::failure(&world);
    let message = format!(
        "cannot mount the overlay root file system: {} is missing",
        world.lower().display()
    );
    assert!(failure.message.starts_with(&message), "{failure:?}");
}

fn a_limit_that_cannot_be_raised() {
    let world = World::new();
    let huge = 1u64 << 40;
    world.edit(|document| {
        document["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": huge, "hard": huge}]);
    });
    let failure = failure(&world);
    assert!(
        failure
            .message
            .starts_with("cannot set ulimit nofile to 1099511627776:1099511627776: "),
        "{failure:?}"
    );
}

fn contradictions_are_refused_before_anything_is_made() {
    let refused = |edit: fn(&mut serde_json::Value), message: &str| {
        let world = World::new();
        world.edit(edit);
        expect(&world, FailureKind::Invalid, message);
    };
    refused(|spec| spec["process"]["args"] = json!([]), "no command specified");
    refused(
        |spec| spec["process"]["args"] = json!(["a\0b"]),
        r#""a\0b" contains a NUL byte"#,
    );
    refused(
        |spec| spec["linux"]["sysctl"] = json!({"vm.swappiness": "1"}),
        r#"sysctl "vm.swappiness" is not in a separate kernel namespace"#,
    );
    refused(
        |spec| spec["linux"]["sysctl"] = json!({"net.a+b": "1"}),
        r#"invalid sysctl "net.a+b""#,
    );
    refused(
        |spec| spec["mounts"][0]["destination"] = json!("/"),
        r#"invalid mount destination "/""#,
    );
    refused(
        |spec| spec["process"]["rlimits"] = json!([{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}]),
        "RLIMIT_CPU: the soft limit 2 exceeds the hard limit 1",
    );
    refused(
        |spec| spec["hooks"] = json!({"poststop": [{"path": "bin/true"}]}),
        r#"invalid poststop hook "bin/true": its path is not absolute"#,
    );
}

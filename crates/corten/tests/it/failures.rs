//! What goes wrong on a real host: one clear error, and nothing left behind.
use std::{fs, process::Command};

use corten_testkit::{
    archive::Tar,
    command::run,
    daemon::names_in,
    image::{self, Image},
    wait::wait_until,
};
use serde_json::json;

use crate::{WAIT, background, daemon, kept, setup, sh};

#[test]
fn a_program_of_another_architecture_is_named() {
    let daemon = daemon();
    let mut foreign = fs::read("/bin/busybox")
        .or_else(|_| fs::read("/usr/bin/busybox"))
        .unwrap();
    foreign[18] = 0xf3; // e_machine: RISC-V
    daemon.load(
        &image::busybox()
            .tagged("foreign:1")
            .layer(Tar::new().file("foreign", 0o755, &foreign)),
    );
    let output = daemon.docker("run --rm --network none foreign:1 /foreign");
    let error = output.error();
    assert!(matches!(output.code, 125 | 126), "{output:?}");
    assert!(
        error.contains("/foreign") && error.contains("exec format error"),
        "{error}"
    );
    daemon.assert_nothing_remains();
}

#[test]
fn an_image_of_another_architecture_is_said_to_be() {
    let daemon = daemon();
    let mut image = image::busybox().tagged("other:1");
    image.architecture = "riscv64".to_owned();
    daemon.load(&image);
    // The programs in it are ours, so it runs; the warning tells what may be wrong.
    let output = daemon.docker("run --rm --network none other:1 echo ran");
    assert_eq!(output.text(), "ran");
    assert!(output.error().contains("riscv64"), "{output:?}");
    let error = daemon
        .docker("run --rm --pull never --network none --platform linux/riscv64 busybox true")
        .fails(125);
    assert!(error.contains("riscv64"), "{error}");
}

#[test]
fn a_script_without_its_interpreter_is_127() {
    let daemon = daemon();
    daemon.load(&image::busybox().tagged("script:1").layer(Tar::new().file(
        "script",
        0o755,
        b"#!/no/such/interpreter\n",
    )));
    let error = daemon.docker("run --rm --network none script:1 /script").fails(127);
    assert!(error.contains("no such file or directory"), "{error}");
    daemon.assert_nothing_remains();
}

#[test]
fn an_entry_point_that_cannot_be_executed_is_126_and_can_be_tried_again() {
    let daemon = daemon();
    daemon.load(
        &image::busybox()
            .tagged("plain:1")
            .with("Entrypoint", json!(["/etc/passwd"])),
    );
    let error = daemon.docker("run --name box --network none plain:1").fails(126);
    assert!(error.contains("/etc/passwd"), "{error}");
    daemon.assert_nothing_runs();
    let state = &daemon.inspect("box")["State"];
    assert_eq!(
        (state["Status"].as_str(), state["ExitCode"].as_i64()),
        (Some("created"), Some(126))
    );
    assert!(state["Error"].as_str().unwrap().contains("/etc/passwd"), "{state}");
    daemon.docker("start box").fails(1);
    daemon.docker("rm box").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn an_empty_image_has_no_program_and_says_so() {
    let daemon = setup().start();
    daemon.load(&Image::new("nothing:1", Tar::new()));
    let error = daemon.docker("run --rm --network none nothing:1 sh").fails(127);
    assert!(error.contains("sh") && error.contains("not found"), "{error}");
    daemon.assert_nothing_remains();
}

#[test]
fn a_memory_limit_that_no_program_can_start_in_is_reported() {
    let daemon = daemon();
    let error = sh(&daemon, "--memory 1b", "true").fails(125);
    assert!(error.contains("inimum memory limit allowed is 6MB"), "{error}");
    daemon.assert_nothing_remains();
}

#[test]
fn a_full_disk_is_one_clear_error() {
    let disk = tempfile::tempdir().unwrap();
    let options = c"size=6m";
    rustix::mount::mount(
        "none",
        disk.path(),
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        options,
    )
    .unwrap();
    let daemon = setup().data_root(&disk.path().join("data")).start();
    daemon.load(&image::busybox());
    let noise = vec![7; 8 << 20];
    let big = image::busybox()
        .tagged("big:1")
        .layer(Tar::new().file("noise", 0o644, &noise));
    let error = daemon.docker_with_input("load", &big.docker_archive()).fails(1);
    assert!(error.contains("No space left on device"), "{error}");
    assert_eq!(daemon.docker("images -q big").ok(), "");
    // What a container writes meets the same wall, and only it.
    let output = sh(&daemon, "", "dd if=/dev/zero of=/fill bs=1M count=10");
    assert!(output.error().contains("No space left on device"), "{output:?}");
    // Room comes back when what was removed is deleted, a moment later.
    let trash = daemon.data_root().join("trash");
    wait_until("what it wrote is deleted", || names_in(&trash).is_empty());
    assert_eq!(daemon.docker("run --rm --network none busybox echo fine").ok(), "fine");
    daemon.assert_nothing_remains();
    // Full to the brim: nothing can be made, and it is said.
    let brim = disk.path().join("brim");
    run(Command::new("dd")
        .args(["if=/dev/zero", "bs=4k"])
        .arg(format!("of={}", brim.display())));
    let output = daemon.docker("run --rm --network none busybox echo full");
    if output.code != 0 {
        assert!(
            output.error().contains("No space left on device") || output.error().contains("full"),
            "{output:?}"
        );
    }
    fs::remove_file(&brim).unwrap();
    assert_eq!(daemon.docker("run --rm --network none busybox echo fine").ok(), "fine");
    daemon.assert_nothing_remains();
    drop(daemon);
    rustix::mount::unmount(disk.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
}

#[test]
fn a_log_that_cannot_be_written_does_not_stop_the_container() {
    let disk = tempfile::tempdir().unwrap();
    rustix::mount::mount(
        "none",
        disk.path(),
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        c"size=6m",
    )
    .unwrap();
    let daemon = setup().data_root(&disk.path().join("data")).start();
    daemon.load(&image::busybox());
    let output = kept(&daemon, "--name box", "yes 0123456789 | head -n 600000; exit 3");
    assert_eq!(output.code, 3);
    assert_eq!(output.stdout.len(), 6_600_000);
    daemon.docker("rm box").ok();
    drop(daemon);
    rustix::mount::unmount(disk.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
}

#[test]
fn a_mount_that_fails_leaves_nothing() {
    let daemon = daemon();
    // A file cannot be mounted on a directory of the image.
    let file = daemon.root().join("file");
    fs::write(&file, "").unwrap();
    let error = sh(&daemon, ["-v", &format!("{}:/etc", file.display())], "true");
    assert!(matches!(error.code, 125..=127), "{error:?}");
    assert!(error.error().contains("/etc"), "{error:?}");
    let error = sh(&daemon, "--tmpfs /t:no-such-option=1", "true").fails(125);
    assert!(error.contains("no-such-option"), "{error}");
    daemon.assert_nothing_remains();
}

#[test]
fn a_layer_that_was_lost_is_named() {
    let daemon = daemon();
    daemon.docker("create --name box --network none busybox true").ok();
    let layers = daemon.data_root().join("layers");
    for name in corten_testkit::daemon::names_in(&layers) {
        fs::remove_dir_all(layers.join(name)).unwrap();
    }
    let error = daemon.docker("start box").fails(1);
    assert!(error.contains("layer") || error.contains("No such file"), "{error}");
    daemon.assert_nothing_runs();
    daemon.docker("rm box").ok();
}

#[test]
fn a_client_that_dies_within_run_leaves_a_running_container() {
    let daemon = daemon();
    let mut client = daemon
        .docker_command("run --name box --network none busybox sleep 1000")
        .spawn()
        .unwrap();
    wait_until("it runs", || daemon.docker("ps -q").ok().lines().count() == 1);
    client.kill().unwrap();
    client.wait().unwrap();
    assert_eq!(daemon.status("box"), "running");
    daemon.docker("rm -f box").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn a_hundred_starts_at_once_all_succeed() {
    let daemon = daemon();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..6 {
                    let output = sh(&daemon, "", "echo fine");
                    assert_eq!(output.ok(), "fine");
                }
            });
        }
    });
    daemon.assert_nothing_remains();
}

#[test]
fn a_daemon_without_descriptors_says_so_and_recovers() {
    let daemon = setup().wrapper("prlimit --nofile=200:200").start();
    daemon.load(&image::busybox());
    let idle: Vec<_> = (0..150)
        .filter_map(|_| std::os::unix::net::UnixStream::connect(daemon.socket()).ok())
        .collect();
    drop(idle);
    wait_until("it answers again", || {
        daemon.docker("run --rm --network none busybox true").code == 0
    });
    let id = background(&daemon, "", WAIT);
    daemon.docker(["rm", "-f", &id]).ok();
}

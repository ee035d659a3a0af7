//! Sockets that somebody else opened, and what a service manager is told.
use std::{fs, os::unix::net::UnixDatagram, path::Path, time::Duration};

use corten_testkit::{api::Api, process, wait::wait_until};
use rustix::process::Signal;

use crate::setup;

/// Opens sockets as systemd would and executes the daemon with them: `path` with mode and owner as they are, `name`d.
fn activator(sockets: &[(&Path, &str)]) -> Vec<String> {
    let script = "import os, socket, sys\n\
        count = int(sys.argv[1]); pairs = sys.argv[2:2 + 2 * count]; rest = sys.argv[2 + 2 * count:]\n\
        held = []\n\
        for path in pairs[::2]:\n\
        \x20   s = socket.socket(socket.AF_UNIX); s.bind(path); s.listen(16); held.append(os.dup(s.fileno()))\n\
        held = [os.dup2(os.dup(fd), 100 + i) for i, fd in enumerate(held)]\n\
        for i, fd in enumerate(held): os.dup2(fd, 3 + i, inheritable=True); os.close(fd)\n\
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count), LISTEN_FDNAMES=':'.join(pairs[1::2]))\n\
        os.execv(rest[0], rest)";
    let mut words = vec![
        "python3".to_owned(),
        "-c".to_owned(),
        script.to_owned(),
        sockets.len().to_string(),
    ];
    for (path, name) in sockets {
        words.extend([path.display().to_string(), (*name).to_owned()]);
    }
    words
}

#[test]
fn inherited_sockets_are_served_and_stay_when_the_daemon_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("activated.sock");
    let mut daemon = setup()
        .arguments("-H fd://")
        .wrapper(activator(&[(&path, "corten.socket")]))
        .start();
    assert_eq!(Api::new(&path).get("/_ping").expect(200).text(), "OK");
    let mut command = daemon.docker_command(["-H", &format!("unix://{}", path.display()), "version"]);
    command.env_remove("DOCKER_HOST");
    corten_testkit::command::run(&mut command).ok();
    daemon.stop();
    assert!(path.exists(), "the socket is the service manager's");
}

#[test]
fn one_of_several_is_chosen_by_name_or_number() {
    let directory = tempfile::tempdir().unwrap();
    let [full, read] = ["full.sock", "read.sock"].map(|name| directory.path().join(name));
    let _daemon = setup()
        .arguments("-H fd:// -H fd://looking?access=read")
        .wrapper(activator(&[(&read, "looking"), (&full, "all")]))
        .start();
    Api::new(&full)
        .post("/volumes/create", Some(&serde_json::json!({})))
        .expect(201);
    Api::new(&read).get("/volumes").expect(200);
    Api::new(&read)
        .post("/volumes/create", Some(&serde_json::json!({})))
        .expect(403);
}

#[test]
fn without_sockets_activation_is_refused() {
    let output = setup().arguments("-H fd://").start_in_vain();
    assert_eq!(output.code, 1);
    let error = output.error();
    assert!(error.contains("no sockets found via socket activation"), "{error}");
}

#[test]
fn a_service_manager_hears_of_readiness_reloads_and_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let hear = || {
        let mut buffer = [0; 256];
        let count = socket.recv(&mut buffer).expect("it is told in time");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    let mut daemon = setup()
        .wrapper(["env", &format!("NOTIFY_SOCKET={}", path.display())])
        .start();
    assert_eq!(hear(), "READY=1");
    process::signal(daemon.pid(), Signal::HUP);
    let reloading = hear();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(hear(), "READY=1");
    daemon.stop();
    assert_eq!(hear(), "STOPPING=1");
}

#[test]
fn a_watchdog_is_fed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let _daemon = setup()
        .wrapper([
            "env",
            &format!("NOTIFY_SOCKET={}", path.display()),
            "WATCHDOG_USEC=200000",
        ])
        .start();
    let mut fed = 0;
    wait_until("it is fed three times", || {
        let mut buffer = [0; 256];
        while let Ok(count) = socket.recv(&mut buffer) {
            fed += usize::from(&buffer[..count] == b"WATCHDOG=1");
        }
        fed >= 3
    });
}

#[test]
fn the_unit_files_name_what_there_is() {
    let unit = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../contrib/systemd")
            .join(name);
        fs::read_to_string(path).unwrap()
    };
    let service = unit("corten.service");
    for line in [
        "Type=notify",
        "KillMode=process",
        "Delegate=yes",
        "Requires=corten.socket",
    ] {
        assert!(service.lines().any(|found| found == line), "{line} in {service}");
    }
    let start = service
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart=@bindir@/corten daemon "));
    assert_eq!(start, Some("-H fd://"));
    let socket = unit("corten.socket");
    assert!(
        socket.contains(&format!("ListenStream={}", corten_socket())),
        "{socket}"
    );
}

fn corten_socket() -> &'static str {
    corten_api::transport::DEFAULT_SOCKET
}

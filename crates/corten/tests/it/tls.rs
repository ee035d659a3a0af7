//! TLS on TCP: the unmodified docker command line with certificates, and those who have none.
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
};

use corten_testkit::{
    command::{Output, run},
    daemon::{Daemon, Setup},
    image, process,
    wait::wait_until,
};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{WAIT, setup};

/// An authority, a server for 127.0.0.1 and a client, all in PEM.
fn certificates() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    authority(directory.path(), "ca");
    issue(
        directory.path(),
        "ca",
        "server",
        "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth",
    );
    issue(directory.path(), "ca", "client", "extendedKeyUsage=clientAuth");
    assert!(Path::new(&at("server.pem")).exists());
    directory
}

fn openssl(directory: &Path, words: &str) {
    let mut command = Command::new("openssl");
    command.args(words.split(' ')).current_dir(directory);
    run(&mut command).ok();
}

const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

fn authority(directory: &Path, name: &str) {
    openssl(
        directory,
        &format!("req -x509 {NEW_KEY} -keyout {name}.key -out {name}.pem -days 2 -subj /CN={name}"),
    );
}

fn issue(directory: &Path, authority: &str, name: &str, extensions: &str) {
    fs::write(directory.join("extensions"), extensions.replace("\\n", "\n")).unwrap();
    openssl(
        directory,
        &format!("req {NEW_KEY} -keyout {name}.key -out {name}.csr -subj /CN={name}"),
    );
    openssl(
        directory,
        &format!(
            "x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -CAcreateserial -out {name}.pem -days 2 \
             -extfile extensions"
        ),
    );
}

fn verifying(directory: &Path) -> Setup {
    let at = |name: &str| directory.join(name).display().to_string();
    setup().arguments(&format!(
        "-H tcp://127.0.0.1 --tlsverify --tlscacert {} --tlscert {} --tlskey {}",
        at("ca.pem"),
        at("server.pem"),
        at("server.key")
    ))
}

/// The docker command line over TLS, with these flags for it.
fn docker(daemon: &Daemon, flags: &str, words: &str) -> Output {
    let mut command = daemon.docker_command(&format!("-H tcp://127.0.0.1:2376 {flags} {words}"));
    command.env_remove("DOCKER_HOST");
    daemon.in_network(|| run(&mut command))
}

/// The same by our own.
fn corten(daemon: &Daemon, flags: &str, words: &str) -> Output {
    let mut command = daemon.corten_command(&format!("-H tcp://127.0.0.1:2376 {flags} {words}"));
    command.env_remove("DOCKER_HOST");
    daemon.in_network(|| run(&mut command))
}

fn client_flags(directory: &Path, client: &str) -> String {
    let at = |name: &str| directory.join(name).display().to_string();
    format!(
        "--tlsverify --tlscacert {} --tlscert {} --tlskey {}",
        at("ca.pem"),
        at(&format!("{client}.pem")),
        at(&format!("{client}.key"))
    )
}

#[test]
fn docker_works_with_a_certificate_and_not_without() {
    let directory = certificates();
    let daemon = verifying(directory.path()).start();
    daemon.load(&image::busybox());
    let flags = client_flags(directory.path(), "client");
    docker(&daemon, &flags, "version").ok();
    let output = docker(&daemon, &flags, "run --rm --network none busybox echo through tls");
    assert_eq!(output.ok(), "through tls");
    let output = corten(&daemon, &flags, "run --rm --network none busybox echo through tls");
    assert_eq!(output.ok(), "through tls");
    // Without one of its own, without an authority, and without a care who the daemon is.
    assert!(
        corten(&daemon, "--tls", "version")
            .fails(1)
            .contains("error during connect")
    );
    assert!(
        corten(&daemon, "--tlsverify", "version")
            .fails(1)
            .contains("--tlscacert")
    );
    let careless = flags.replace("--tlsverify", "--tls");
    corten(&daemon, &careless, "version").ok();
    // Half-closed streams, in both directions.
    let mut command = daemon.docker_command(&format!(
        "-H tcp://127.0.0.1:2376 {flags} run -i --rm --network none busybox cat"
    ));
    command.env_remove("DOCKER_HOST");
    let big = vec![b'x'; 1 << 20];
    let echoed = daemon.in_network(|| corten_testkit::command::run_with_input(&mut command, &big));
    assert_eq!(echoed.stdout.len(), big.len(), "{:?}", echoed.code);

    let ca = directory.path().join("ca.pem").display().to_string();
    let nobody = docker(&daemon, &format!("--tlsverify --tlscacert {ca}"), "version");
    assert_ne!(nobody.code, 0);
    authority(directory.path(), "strangers");
    issue(directory.path(), "strangers", "stranger", "extendedKeyUsage=clientAuth");
    let stranger = docker(&daemon, &client_flags(directory.path(), "stranger"), "version");
    assert_ne!(stranger.code, 0);
    let info = daemon.api().get("/info").expect(200).json();
    assert!(
        info["Warnings"].to_string().find("API is accessible").is_none(),
        "{info}"
    );
}

#[test]
fn tls_without_verification_lets_everybody_in_and_says_so() {
    let directory = certificates();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let daemon = setup()
        .arguments(&format!(
            "-H tcp://127.0.0.1:2376 --tls --tlscert {} --tlskey {}",
            at("server.pem"),
            at("server.key")
        ))
        .start();
    // The client checks the server as ever, and offers a certificate that nobody asks for.
    let flags = client_flags(directory.path(), "client").replace("--tlsverify", "--tls");
    docker(&daemon, &flags, "version").ok();
    let info = daemon.docker("info").ok();
    let warning = "API is accessible on https://127.0.0.1:2376 without TLS client verification";
    assert!(
        daemon.docker("info").error().contains(warning) || info.contains(warning),
        "{info}"
    );
}

#[test]
fn a_client_without_tls_is_told_so() {
    let directory = certificates();
    let daemon = verifying(directory.path()).start();
    let answer = daemon.in_network(|| {
        let mut stream = TcpStream::connect("127.0.0.1:2376").unwrap();
        stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    assert!(
        answer.contains("Client sent an HTTP request to an HTTPS server."),
        "{answer}"
    );
}

#[test]
fn a_renewed_certificate_is_in_force_after_a_reload() {
    let directory = certificates();
    let daemon = verifying(directory.path()).start();
    let flags = client_flags(directory.path(), "client");
    docker(&daemon, &flags, "version").ok();
    // Everything anew: what was trusted before is not any more.
    for name in ["ca", "server", "client"] {
        fs::copy(
            directory.path().join(format!("{name}.pem")),
            directory.path().join(format!("old-{name}.pem")),
        )
        .unwrap();
        fs::copy(
            directory.path().join(format!("{name}.key")),
            directory.path().join(format!("old-{name}.key")),
        )
        .unwrap();
    }
    authority(directory.path(), "ca");
    issue(directory.path(), "ca", "server", "subjectAltName=IP:127.0.0.1");
    issue(directory.path(), "ca", "client", "extendedKeyUsage=clientAuth");
    process::signal(daemon.pid(), Signal::HUP);
    wait_until("the new certificate is shown", || {
        docker(&daemon, &flags, "version").code == 0
    });
    // Files that are no good leave it as it is.
    fs::write(directory.path().join("server.pem"), "no certificate").unwrap();
    process::signal(daemon.pid(), Signal::HUP);
    wait_until("the daemon says so", || {
        daemon.log().contains("there is no certificate in it")
    });
    docker(&daemon, &flags, "version").ok();
}

#[test]
fn what_cannot_be_read_is_named() {
    let directory = certificates();
    fs::remove_file(directory.path().join("server.key")).unwrap();
    let output = verifying(directory.path()).start_in_vain();
    assert_eq!(output.code, 1);
    assert!(output.error().contains("server.key"), "{output:?}");
}

#[test]
fn a_container_is_attached_to_over_plain_tcp_as_well() {
    let daemon = setup().arguments("-H tcp://127.0.0.1:2375").start();
    daemon.load(&image::busybox());
    let tcp = |words: &str| {
        let mut command = daemon.docker_command(&format!("-H tcp://127.0.0.1:2375 {words}"));
        command.env_remove("DOCKER_HOST");
        daemon.in_network(|| run(&mut command))
    };
    assert_eq!(
        tcp("run --rm --network none busybox echo through tcp").ok(),
        "through tcp"
    );
    let mut words = vec![
        "-H",
        "tcp://127.0.0.1:2375",
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "none",
        "busybox",
    ];
    words.extend(["sh", "-c", WAIT]);
    let mut command = daemon.docker_command(&words[..]);
    command.env_remove("DOCKER_HOST");
    daemon.in_network(|| run(&mut command)).ok();
    assert_eq!(tcp("stop box").ok(), "box");
    let warnings = daemon.api().get("/info").expect(200).json()["Warnings"].to_string();
    assert!(
        warnings.contains("API is accessible on http://127.0.0.1:2375 without encryption"),
        "{warnings}"
    );
}

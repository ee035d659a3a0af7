//! Network namespaces of tests: the machine's own is never touched.
use std::{
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, OwnedFd},
    panic,
    process::Command,
    thread,
    time::Duration,
};

use corten_linux::namespace::{bring_loopback_up, unshare};

use crate::namespace::inside;

const CLONE_NEWNET: u64 = 0x4000_0000;

/// Runs a test on a thread of its own, in a network namespace of its own, which plays the host.
pub fn alone<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CLONE_NEWNET).expect("tests of networks need root");
            bring_loopback_up().expect("new namespaces have one");
            test()
        });
        thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
    })
}

/// A command of the shell, with the tools of an administrator, in the calling thread's namespace.
pub fn run(command: &str) {
    let output = Command::new("sh")
        .args(["-ec", command])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .expect("a shell");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command}: {error}");
}

/// One more namespace, with its loopback interface up: a container's, or another host's.
pub fn new_namespace() -> OwnedFd {
    let namespace = thread::spawn(|| {
        unshare(CLONE_NEWNET).expect("tests of networks need root");
        OwnedFd::from(File::open("/proc/thread-self/ns/net").expect("proc"))
    });
    let namespace = namespace.join().expect("it does not panic");
    inside(namespace.as_fd(), bring_loopback_up).expect("new namespaces have one");
    namespace
}

/// Does `from` reach a server that listens in `to`? An IPv6 address may take a second attempt of the kernel's: a
/// worker joins its multicast group.
pub fn reaches(from: &OwnedFd, to: &OwnedFd, address: &str) -> bool {
    let address: SocketAddr = address.parse().expect("valid");
    let server = inside(to.as_fd(), || TcpListener::bind(address)).expect("its own address");
    let patience = Duration::from_millis(if address.is_ipv6() { 10_000 } else { 900 });
    let client = inside(from.as_fd(), || TcpStream::connect_timeout(&address, patience));
    let Ok(mut client) = client else { return false };
    let (mut peer, _) = server.accept().expect("it is connected");
    peer.write_all(b"hello").expect("connected");
    drop(peer);
    let mut text = String::new();
    client.read_to_string(&mut text).expect("connected");
    text == "hello"
}

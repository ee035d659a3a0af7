//! Network namespaces of tests: the machine's own is never touched.
use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
    panic, thread,
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

//! Work inside another network namespace.
//!
//! A socket that is opened inside stays inside, whatever becomes of the thread that opened it.
use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd},
    process,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Runs `work` with the calling thread in `namespace`. `work` must not hand on to other threads what it does inside.
pub fn inside<T>(namespace: BorrowedFd, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let home = File::open("/proc/thread-self/ns/net")?;
    enter(namespace)?;
    let way_back = WayBack(home);
    let result = work();
    drop(way_back);
    result
}

/// Leads home even when the work panics.
struct WayBack(File);

impl Drop for WayBack {
    fn drop(&mut self) {
        if let Err(error) = enter(self.0.as_fd()) {
            // The thread would go on to do the host's work in a container.
            eprintln!("cannot return to the host's network namespace: {error}");
            process::abort();
        }
    }
}

fn enter(namespace: BorrowedFd) -> io::Result<()> {
    Ok(move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?)
}

#[cfg(test)]
mod tests {
    use std::{fs, panic};

    use super::*;
    use crate::testing::{alone, new_namespace};

    #[test]
    fn the_thread_comes_home_after_work_failure_and_panic() {
        alone(|| {
            let here = || fs::read_link("/proc/thread-self/ns/net").expect("proc");
            let home = here();
            let other = new_namespace();
            let there = inside(other.as_fd(), || Ok(here())).expect("root");
            assert_ne!(home, there);
            inside(other.as_fd(), || Err::<(), _>(io::Error::other("no"))).expect_err("it says no");
            panic::catch_unwind(|| inside::<()>(other.as_fd(), || panic!("at work"))).expect_err("it panics");
            assert_eq!(home, here());
        });
    }
}

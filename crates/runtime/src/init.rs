//! `docker-init`: the first process of a container that was asked for one.
//!
//! It starts the program, passes signals on to it, reaps whatever is orphaned, and ends as the program ended.
use std::{ffi::OsString, os::unix::process::CommandExt, process::Command};

use corten_linux::{process, signal};
use rustix::process::{Pid, Signal, WaitOptions, wait};

/// The name of the executable in the container.
pub const NAME: &str = "docker-init";

/// The body of `docker-init -- program arguments…`.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ! {
    let mut arguments = arguments.skip_while(|argument| argument == "--");
    let Some(program) = arguments.next() else {
        eprintln!("docker-init: no program to run");
        process::exit_now(1);
    };
    // SAFETY: this process never makes a thread.
    match unsafe { process::fork() } {
        Ok(None) => {
            let _ = signal::reset_all();
            let _ = take_foreground();
            let error = Command::new(&program).args(arguments).exec();
            eprintln!("docker-init: {}: {error}", program.to_string_lossy());
            process::exit_now(if error.kind() == std::io::ErrorKind::NotFound {
                127
            } else {
                126
            })
        }
        Ok(Some(child)) => watch(child),
        Err(error) => {
            eprintln!("docker-init: cannot fork: {error}");
            process::exit_now(1)
        }
    }
}

/// A process group of its own, in front of the terminal where there is one: job control signals reach the program.
fn take_foreground() -> rustix::io::Result<()> {
    rustix::process::setpgid(None, None)?;
    signal::ignore(Signal::TTOU.as_raw());
    let result = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpid());
    signal::set_default(Signal::TTOU.as_raw());
    result
}

fn watch(child: Pid) -> ! {
    signal::forward_all_to(child);
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == child => {
                let code = status
                    .exit_status()
                    .or(status.terminating_signal().map(|number| 128 + number));
                process::exit_now(code.unwrap_or(255));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => process::exit_now(255),
        }
    }
}

//! One executable, many faces: which of them am I?
//!
//! The decision falls before any thread exists: the launcher and everything it forks must stay single-threaded.
mod arguments;
mod cli;
mod command;
mod completion;
mod context;
mod failure;
mod flags;
mod help;
mod local;
mod manual;
mod order;
mod output;
mod progress;
mod session;
mod signals;
mod stream;
mod table;
mod template;
mod terminal;
mod units;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let called = arguments.next().unwrap_or_default();
    let face = Path::new(&called)
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
        .to_string();
    let mut rest = arguments.collect::<Vec<OsString>>();
    match face.as_str() {
        "dockerd" => return daemon(rest),
        "docker-init" => return init(rest),
        "runc" => return missing("runc"),
        _ => {}
    }
    match rest.first().and_then(|word| word.to_str()) {
        Some("daemon") => daemon(rest.split_off(1)),
        Some("detached-daemon") => {
            // Fails only for a process group's leader, which a process just spawned by us is not.
            let _ = rustix::process::setsid();
            daemon(rest.split_off(1))
        }
        Some("launcher") => launcher(),
        Some(name @ ("shim" | "runtime" | "registry")) => missing(name),
        _ => cli::main(if face == "docker" { "docker" } else { "corten" }, rest),
    }
}

fn daemon(arguments: Vec<OsString>) -> ExitCode {
    corten_daemon::daemon::main(std::iter::once(OsString::from("dockerd")).chain(arguments))
}

fn launcher() -> ExitCode {
    corten_runtime::launcher::serve()
}

fn init(arguments: Vec<OsString>) -> ExitCode {
    corten_runtime::init::run(arguments.into_iter())
}

fn missing(name: &str) -> ExitCode {
    eprintln!("corten: '{name}' is not implemented yet, see docs/compatibility.md");
    ExitCode::FAILURE
}

//! Containers from create to remove, through the engine's own verbs, on the real kernel.
//!
//! Needs root and a static busybox. The executable is its own launcher, hence the small harness.
mod basics;
mod images;
mod measure;
mod networks;
mod streams;
mod survival;
mod world;

use std::{future::Future, panic, pin::Pin, process::ExitCode};

use corten_runtime::launcher;

type Test = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()>>>);

/// Tests by their names.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub const TESTS: &[crate::Test] = &[$((stringify!($name), || Box::pin($name()))),*];
    };
}
pub(crate) use tests;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|argument| argument == launcher::ARGUMENT) {
        launcher::serve();
    }
    // It was started by one of us, in our network.
    if let [word, directory, parent, kind] = arguments.as_slice()
        && word == survival::VICTIM
    {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(survival::churn(directory.into(), parent.clone(), kind == "networks"));
    }
    let tests: Vec<Test> = [
        basics::TESTS,
        images::TESTS,
        streams::TESTS,
        networks::TESTS,
        survival::TESTS,
    ]
    .concat();
    let given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if given("--list") && given("--ignored") {
        // cargo-nextest asks for these apart, and skips what it is told.
        return ExitCode::SUCCESS;
    }
    if given("--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if let Some(reason) = world::unavailable() {
        println!("skipped: {reason}");
        return ExitCode::SUCCESS;
    }
    // A host of our own: bridges and firewall tables of tests are not the machine's.
    world::leave_the_hosts_network();
    if arguments.iter().any(|argument| argument == "--measure") {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(measure::measure());
        return ExitCode::SUCCESS;
    }
    let words: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let fits = |name: &str, word: &str| {
        if given("--exact") {
            name == word
        } else {
            name.contains(word)
        }
    };
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| fits(name, word));
    let mut failed = Vec::new();
    for (name, test) in tests.into_iter().filter(|(name, _)| wanted(name)) {
        let passed = panic::catch_unwind(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(test());
        })
        .is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        if !passed {
            failed.push(name);
        }
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("\nfailed: {}", failed.join(", "));
    ExitCode::FAILURE
}

//! Containers on the real kernel: every test drives a launcher and its shims as the daemon does.
//!
//! Needs root and a static busybox. The executable is its own launcher, hence the small harness.
#[allow(dead_code)]
mod world;

mod basics;
mod bench;
mod failures;
mod hooks;
mod isolation;
mod streams;
mod survival;

use std::{panic, process::ExitCode};

use corten_runtime::{init, launcher};

type Test = (&'static str, fn());

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    if arguments.next().is_some_and(|name| name.ends_with(init::NAME)) {
        init::run(arguments.map(Into::into));
    }
    let arguments: Vec<String> = arguments.collect();
    if arguments.first().is_some_and(|argument| argument == launcher::ARGUMENT) {
        launcher::serve();
    }
    let tests: Vec<Test> = [
        basics::TESTS,
        failures::TESTS,
        hooks::TESTS,
        isolation::TESTS,
        streams::TESTS,
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
    if arguments.first().is_some_and(|argument| argument == "bench") {
        bench::run(arguments.get(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(200));
        world::clear_up();
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
        let passed = panic::catch_unwind(test).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        if !passed {
            failed.push(name);
        }
    }
    world::clear_up();
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("\nfailed: {}", failed.join(", "));
    ExitCode::FAILURE
}

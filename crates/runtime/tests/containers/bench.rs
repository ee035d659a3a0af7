//! How long a start and an end take: `cargo test --release -p corten-runtime --test containers -- bench 200`.
//!
//! The container is Docker's default one without limits and filter, its program is busybox's `true`. Minima and medians
//! are printed; on a busy machine only the minima say something.
use std::{fs, time::Instant};

use super::world::{World, launch};

const PHASES: [&str; 5] = [
    "parse + compile",
    "launch → created",
    "start → started",
    "started → exited",
    "all",
];

pub fn run(rounds: usize) {
    let world = World::new();
    let mut times: [Vec<u128>; 5] = Default::default();
    for _ in 0..rounds {
        for name in ["exit", "state", "shim.sock"] {
            let _ = fs::remove_file(world.path("task").join(name));
        }
        let begin = Instant::now();
        let plan = world.plan().unwrap();
        let compiled = Instant::now();
        let mut container = launch(&plan).unwrap();
        let created = Instant::now();
        container.start().unwrap();
        let started = Instant::now();
        container.wait();
        let exited = Instant::now();
        let spans = [
            compiled - begin,
            created - compiled,
            started - created,
            exited - started,
            exited - begin,
        ];
        for (times, span) in times.iter_mut().zip(spans) {
            times.push(span.as_micros());
        }
    }
    idle(300);
    println!("{rounds} rounds, µs: minimum, 10th percentile, median");
    for (name, mut times) in PHASES.into_iter().zip(times) {
        times.sort_unstable();
        println!(
            "{name:30} {:6} {:6} {:6}",
            times[0],
            times[times.len() / 10],
            times[times.len() / 2]
        );
    }
}

/// Do starts stay what they are while others run, and what does each cost?
fn idle(count: usize) {
    let mut running = Vec::new();
    let mut times = Vec::new();
    for _ in 0..count {
        let world = World::new();
        let plan = world.arguments(&["sleep", "1000"]).plan().unwrap();
        let begin = Instant::now();
        let mut container = launch(&plan).unwrap();
        container.start().unwrap();
        times.push(begin.elapsed().as_micros());
        running.push((world, container));
    }
    let median = |times: &[u128]| {
        let mut times = times.to_vec();
        times.sort_unstable();
        times[times.len() / 2]
    };
    let (first, last) = (median(&times[..30]), median(&times[count - 30..]));
    println!("{count} idle: the first 30 started in {first} µs (median), the last 30 in {last}");
    let mut private = 0;
    for (_, container) in &running {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", container.state().shim_pid)).unwrap();
        let line = rollup.lines().find(|line| line.starts_with("Private_Dirty")).unwrap();
        private += line.split_ascii_whitespace().nth(1).unwrap().parse::<usize>().unwrap();
    }
    println!("a shim has {} KiB of memory of its own, on average", private / count);
    for (_, container) in &mut running {
        container.signal(9);
        container.wait();
    }
}

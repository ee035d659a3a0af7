//! Running, ending, and failing to start.
use corten_runtime::{shim::protocol::FailureKind, state::read_exit};

use super::{Test, world::World};

pub const TESTS: &[Test] = &[
    ("true_runs", true_runs),
    (
        "exit_codes_and_signals_are_reported",
        exit_codes_and_signals_are_reported,
    ),
];

fn true_runs() {
    let world = World::new();
    assert_eq!(world.run(), (0, String::new()));
    assert_eq!(read_exit(&world.path("task")).unwrap().unwrap().code, 0);
    world.assert_no_cgroup();
}

fn exit_codes_and_signals_are_reported() {
    for (script, code) in [("exit 7", 7), ("exit 255", 255), ("kill -9 $$; sleep 1", 0)] {
        let world = World::new();
        let (seen, printed) = world.script(script).run();
        assert_eq!(seen, code, "{script}: {printed}");
    }
    for signal in [9, 15] {
        let world = World::new();
        let mut container = world
            .script("trap 'exit 128' TERM; echo up; sleep 1000 & wait")
            .start()
            .unwrap();
        container.signal(signal);
        assert_eq!(container.wait().code, if signal == 9 { 137 } else { 128 });
    }
    let _ = FailureKind::Gone;
}

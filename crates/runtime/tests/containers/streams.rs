//! Output, input, terminals and the log.
use std::{
    fs,
    io::{Read, Write},
    net::Shutdown,
};

use corten_runtime::shim::protocol::ToShim;

use super::{
    Test,
    world::{World, exchange, unframe},
};

pub const TESTS: &[Test] = &[
    ("both_streams_are_logged", both_streams_are_logged),
    ("a_log_is_reopened", a_log_is_reopened),
    ("much_output_is_complete", much_output_is_complete),
    ("logs_rotate", logs_rotate),
    (
        "attached_input_ends_with_half_a_close",
        attached_input_ends_with_half_a_close,
    ),
    (
        "without_stdin_once_input_stays_open",
        without_stdin_once_input_stays_open,
    ),
    ("all_attachers_get_everything", all_attachers_get_everything),
    ("a_dead_attacher_is_dropped", a_dead_attacher_is_dropped),
    ("a_slow_attacher_loses_nothing", a_slow_attacher_loses_nothing),
    (
        "input_to_a_process_that_closed_it_is_refused",
        input_to_a_process_that_closed_it_is_refused,
    ),
    ("terminals_are_terminals", terminals_are_terminals),
    ("users_own_their_streams", users_own_their_streams),
];

fn both_streams_are_logged() {
    let world = World::new();
    world.request(|request| request.stdio.open_stdin = true);
    let mut container = world
        .script("echo out; read go; echo err >&2; read go; printf rest")
        .create()
        .unwrap();
    let mut input = container.attach([true, false, false]);
    container.start().unwrap();
    // Of what waits in both pipes at once nobody knows which came first.
    for printed in 1..=2 {
        while world.log_lines().len() < printed {
            std::thread::yield_now();
        }
        input.write_all(b"go\n").unwrap();
    }
    container.wait();
    let lines = world.log_lines();
    let seen: Vec<_> = lines
        .iter()
        .map(|l| (l["stream"].as_str().unwrap(), l["log"].as_str().unwrap()))
        .collect();
    assert_eq!(seen, [("stdout", "out\n"), ("stderr", "err\n"), ("stdout", "rest")]);
    let times: Vec<jiff::Timestamp> = lines
        .iter()
        .map(|line| line["time"].as_str().unwrap().parse().unwrap())
        .collect();
    assert!(times.is_sorted());
}

fn a_log_is_reopened() {
    let world = World::new();
    let mut container = world
        .script("trap 'echo two; exit' TERM; echo one; sleep 1000 & wait")
        .start()
        .unwrap();
    while world.printed().is_empty() {
        std::thread::yield_now();
    }
    fs::rename(world.path("log"), world.path("log.old")).unwrap();
    container.ask(ToShim::ReopenLog, &[]).unwrap();
    container.signal(15);
    container.wait();
    assert_eq!(world.printed(), "two\n");
}

fn much_output_is_complete() {
    let world = World::new();
    let (code, printed) = world.script("seq 300000").run();
    assert_eq!(code, 0);
    let wanted: String = (1..=300_000).map(|number| format!("{number}\n")).collect();
    assert!(printed == wanted);
    let world = World::new();
    world.script("head -c 100000 /dev/zero; echo; echo next").run();
    let lengths: Vec<_> = world
        .log_lines()
        .iter()
        .map(|line| line["log"].as_str().unwrap().len())
        .collect();
    assert_eq!(
        lengths,
        [16384, 16384, 16384, 16384, 16384, 16384, 100000 - 6 * 16384 + 1, 5]
    );
}

fn logs_rotate() {
    let world = World::new();
    world.request(|request| {
        let log = request.stdio.log.as_mut().unwrap();
        (log.max_bytes, log.max_files) = (Some(20_000), 3);
    });
    world.script("seq 10000").run();
    let sizes = ["log", "log.1", "log.2"].map(|name| fs::metadata(world.path(name)).unwrap().len());
    assert!(sizes.iter().all(|size| *size <= 20_000), "{sizes:?}");
    assert!(!world.path("log.3").exists());
    assert!(world.printed().ends_with("9999\n10000\n"));
}

fn attached_input_ends_with_half_a_close() {
    let world = World::new();
    world.request(|request| (request.stdio.open_stdin, request.stdio.stdin_once) = (true, true));
    // Every byte value, 20 MB, and a pattern that would show a lost or repeated block.
    let input: Vec<u8> = (0..20_000_000u32)
        .flat_map(|number| (number ^ number >> 11).to_le_bytes())
        .step_by(4)
        .collect();
    fs::write(world.path("input"), &input).unwrap();
    let mut container = world.arguments(&["cat"]).create().unwrap();
    let stream = container.attach([true, true, true]);
    container.start().unwrap();
    let output = exchange(stream, input.clone());
    assert!(unframe(&output, 1) == input);
    assert_eq!(container.wait().code, 0);
}

fn without_stdin_once_input_stays_open() {
    let world = World::new();
    world.request(|request| request.stdio.open_stdin = true);
    let mut container = world
        .script("read a; echo got $a; read b; echo got $b")
        .start()
        .unwrap();
    for word in ["one\n", "two\n"] {
        let mut stream = container.attach([true, false, false]);
        stream.write_all(word.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        // The shim drops an attacher that has no use any more.
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    assert_eq!(container.wait().code, 0);
    assert_eq!(world.printed(), "got one\ngot two\n");
}

fn all_attachers_get_everything() {
    let world = World::new();
    let mut container = world.script("seq 50000; echo problem >&2").create().unwrap();
    let streams: Vec<_> = (0..3).map(|_| container.attach([false, true, true])).collect();
    let mut only_errors = container.attach([false, false, true]);
    container.start().unwrap();
    let readers: Vec<_> = streams
        .into_iter()
        .map(|stream| std::thread::spawn(move || exchange(stream, Vec::new())))
        .collect();
    let wanted: String = (1..=50_000).map(|number| format!("{number}\n")).collect();
    for reader in readers {
        let frames = reader.join().unwrap();
        assert!(unframe(&frames, 1) == wanted.as_bytes());
        assert_eq!(unframe(&frames, 2), b"problem\n");
    }
    let mut errors = Vec::new();
    only_errors.read_to_end(&mut errors).unwrap();
    assert_eq!(errors, b"\x02\0\0\0\0\0\0\x08problem\n");
    container.wait();
}

fn a_dead_attacher_is_dropped() {
    let world = World::new();
    let mut container = world.script("seq 200000; echo end").create().unwrap();
    let mut stream = container.attach([true, true, true]);
    container.start().unwrap();
    stream.read_exact(&mut [0; 100]).unwrap();
    drop(stream);
    assert_eq!(container.wait().code, 0);
    assert!(world.printed().ends_with("200000\nend\n"));
}

fn a_slow_attacher_loses_nothing() {
    let world = World::new();
    let mut container = world.script("seq 200000").create().unwrap();
    let mut stream = container.attach([false, true, false]);
    container.start().unwrap();
    let mut frames = Vec::new();
    let mut part = [0; 65536];
    loop {
        if frames.len() < 600_000 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        match stream.read(&mut part).unwrap() {
            0 => break,
            length => frames.extend_from_slice(&part[..length]),
        }
    }
    let wanted: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    assert!(unframe(&frames, 1) == wanted.as_bytes());
    container.wait();
}

fn input_to_a_process_that_closed_it_is_refused() {
    let world = World::new();
    world.request(|request| request.stdio.open_stdin = true);
    let mut container = world.script("exec <&-; echo closed; sleep 1000").create().unwrap();
    let mut stream = container.attach([true, true, true]);
    container.start().unwrap();
    let mut line = [0; 15];
    stream.read_exact(&mut line).unwrap();
    let chunk = [b'x'; 65536];
    let refused = (0..100).any(|_| stream.write_all(&chunk).is_err());
    assert!(refused);
    container.signal(9);
    container.wait();
}

fn terminals_are_terminals() {
    let world = World::new();
    world.request(|request| {
        request.stdio.terminal = Some((33, 101));
        request.stdio.open_stdin = true;
    });
    let script = "tty; stty size; stat -c %F /dev/console; read line; echo got $line; stty size; echo err >&2";
    let mut container = world.script(script).create().unwrap();
    let mut stream = container.attach([true, true, true]);
    container.start().unwrap();
    assert!(container.state().terminal);
    let mut seen = String::new();
    let mut part = [0; 1000];
    while !seen.contains("special file\r\n") {
        let length = stream.read(&mut part).unwrap();
        assert!(length > 0, "{seen}");
        seen.push_str(std::str::from_utf8(&part[..length]).unwrap());
    }
    container.ask(ToShim::Resize { rows: 50, columns: 120 }, &[]).unwrap();
    stream.write_all(b"words\n").unwrap();
    stream.read_to_string(&mut seen).unwrap();
    assert_eq!(container.wait().code, 0);
    let wanted = "/dev/pts/0\r\n33 101\r\ncharacter special file\r\nwords\r\ngot words\r\n50 120\r\nerr\r\n";
    assert_eq!(seen, wanted);
    assert_eq!(world.printed(), wanted);
    // Where there is none, there is nothing to resize.
    let world = World::new();
    let mut container = world.script("read x").create().unwrap();
    container.ask(ToShim::Resize { rows: 1, columns: 1 }, &[]).unwrap();
}

fn users_own_their_streams() {
    for terminal in [None, Some((24, 80))] {
        let world = World::new();
        world.request(|request| {
            request.user = "web".to_owned();
            request.stdio.terminal = terminal;
        });
        let (code, printed) = world.script("echo one > /dev/stdout; echo two > /dev/stderr").run();
        assert_eq!((code, printed.replace('\r', "").as_str()), (0, "one\ntwo\n"));
    }
}

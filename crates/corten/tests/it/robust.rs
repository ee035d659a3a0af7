//! Clients that are slow, half gone, gone, greedy or mad: the daemon keeps nothing of theirs.
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    thread,
    time::Duration,
};

use corten_testkit::{api::Connection, daemon::Daemon, image, process, wait::wait_until};

use crate::{
    WAIT, background,
    metrics::{get, value},
    setup,
};

const METRICS: u16 = 9323;

fn daemon(arguments: &str) -> Daemon {
    let daemon = setup()
        .arguments(&format!("--metrics-addr 127.0.0.1:{METRICS} {arguments}"))
        .start();
    daemon.load(&image::busybox());
    daemon
}

/// What the daemon holds: open files, tasks.
fn held(daemon: &Daemon) -> (usize, usize) {
    let fds = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    let tasks = value(&get(daemon, METRICS, "/metrics"), "corten_daemon_tasks");
    (fds, tasks as usize)
}

/// Requests whose answers go on.
const STREAMS: [&str; 9] = [
    "GET /events",
    "GET /containers/box/logs?follow=1&stdout=1&stderr=1",
    "GET /containers/loud/logs?follow=1&stdout=1",
    "GET /containers/box/stats",
    "POST /containers/box/wait",
    "POST /containers/loud/attach?stream=1&stdout=1",
    "POST /containers/box/attach?stream=1&stdin=1&stdout=1&stderr=1",
    "GET /images/get?names=busybox",
    "GET /containers/json",
];

fn ask(daemon: &Daemon, line: &str, upgrade: bool) -> Connection {
    let mut connection = daemon.api().open();
    let upgrade = if upgrade && line.contains("/attach") {
        "Connection: Upgrade\r\nUpgrade: tcp\r\n"
    } else {
        ""
    };
    connection.send_raw(&format!(
        "{line} HTTP/1.1\r\nHost: x\r\n{upgrade}Content-Length: 0\r\n\r\n"
    ));
    connection
}

#[test]
fn clients_that_leave_take_everything_with_them() {
    let daemon = daemon("");
    background(&daemon, "-i --name box", WAIT);
    background(
        &daemon,
        "--name loud",
        "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done",
    );
    // What is made once, and stays, is made by now.
    for line in STREAMS {
        ask(&daemon, line, true).head();
    }
    wait_until("the first clients are forgotten", || {
        let before = held(&daemon);
        thread::sleep(Duration::from_millis(300));
        before == held(&daemon)
    });
    let before = held(&daemon);
    for round in 0..4 {
        let clients: Vec<_> = STREAMS
            .iter()
            .flat_map(|line| (0..5).map(|_| ask(&daemon, line, round % 2 == 0)).collect::<Vec<_>>())
            .collect();
        for (number, mut client) in clients.into_iter().enumerate() {
            match number % 4 {
                // Gone before the answer.
                0 => {}
                // Gone after its head.
                1 => drop(client.head()),
                // Done with sending, then gone, with answers unread.
                2 => {
                    client.half_close();
                    client.head();
                }
                // Slow: reads a byte now and then, never enough.
                _ => {
                    let mut byte = [0];
                    let _ = client.stream.read(&mut byte);
                    thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }
    wait_until("nothing of theirs is left", || {
        let (fds, tasks) = held(&daemon);
        fds <= before.0 && tasks <= before.1
    });
    daemon.docker("rm -f loud box").ok();
}

/// How a client asks for streams with an input.
#[derive(Clone, Copy)]
enum Way {
    Upgrade,
    /// The bare connection after `200`.
    Bare,
    /// The input as the request's body.
    Body,
}

impl Way {
    /// Asks, and says something.
    fn ask(self, daemon: &Daemon, path: &str, document: &str, input: &[u8]) -> Connection {
        let mut connection = daemon.api().open();
        let headers = match self {
            Way::Upgrade => "Connection: Upgrade\r\nUpgrade: tcp\r\n",
            Way::Bare => "",
            Way::Body => "Transfer-Encoding: chunked\r\n",
        };
        let length = match self {
            Way::Body => String::new(),
            _ => format!("Content-Length: {}\r\n", document.len()),
        };
        connection.send_raw(&format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{headers}{length}\r\n"
        ));
        match self {
            Way::Body => {
                let _ = connection.stream.write_all(format!("{:x}\r\n", input.len()).as_bytes());
                let _ = connection.stream.write_all(input);
                let _ = connection.stream.write_all(b"\r\n");
            }
            _ => {
                connection.send_raw(document);
                let _ = connection.stream.write_all(input);
            }
        }
        connection
    }
}

#[test]
fn clients_that_type_and_leave_take_everything_with_them() {
    let daemon = daemon("");
    background(&daemon, "-i --name deaf", WAIT);
    background(&daemon, "-i --name echo", "while read line; do echo $line; done");
    let exec = || {
        let body = serde_json::json!({"AttachStdin": true, "AttachStdout": true, "Cmd": ["cat"]});
        let answer = daemon
            .api()
            .post("/containers/deaf/exec", Some(&body))
            .expect(201)
            .json();
        format!("/exec/{}/start", answer["Id"].as_str().unwrap())
    };
    let attach = |name: &str| format!("/containers/{name}/attach?stream=1&stdin=1&stdout=1&stderr=1");
    let open = || {
        let shims = ["deaf", "echo"].map(|name| process::open_files(daemon.shim_pid(name)));
        (held(&daemon), shims)
    };
    // More than pipes and sockets on the way hold: nobody reads it.
    let much = vec![b'x'; 1 << 20];
    let clients = |round: usize| {
        let mut clients = Vec::new();
        for (number, way) in [Way::Upgrade, Way::Bare, Way::Body]
            .into_iter()
            .cycle()
            .take(9)
            .enumerate()
        {
            clients.push(way.ask(&daemon, &attach("echo"), "", b"a line\n"));
            if number % 3 == round % 3 {
                let client = way.ask(&daemon, &attach("deaf"), "", b"");
                client.stream.set_nonblocking(true).unwrap();
                let mut stream = &client.stream;
                let _ = stream.write_all(&much);
                client.stream.set_nonblocking(false).unwrap();
                clients.push(client);
            }
            if !matches!(way, Way::Body) {
                clients.push(way.ask(&daemon, &exec(), "{}", b"a line\n"));
            }
        }
        for (number, mut client) in clients.into_iter().enumerate() {
            match (number + round) % 4 {
                0 => {}
                1 => drop(client.head()),
                2 => {
                    client.half_close();
                    client.head();
                }
                _ => {
                    let mut byte = [0];
                    let _ = client.stream.read(&mut byte);
                }
            }
        }
    };
    let execs_ended = || !daemon.docker("top deaf").ok().contains("cat");
    // What some of them typed is kept for a container that may read it one day.
    (0..5).for_each(clients);
    wait_until("the first clients are forgotten", || {
        let before = open();
        thread::sleep(Duration::from_millis(300));
        before == open() && execs_ended()
    });
    let before = open();
    (5..10).for_each(clients);
    let mut left = before;
    let nothing = (0..1200).any(|_| {
        thread::sleep(Duration::from_millis(50));
        left = open();
        let ((fds, tasks), shims) = left;
        let no_more = fds <= before.0.0 && tasks <= before.0.1 && shims[0] <= before.1[0] && shims[1] <= before.1[1];
        no_more && execs_ended()
    });
    assert!(
        nothing,
        "(files, tasks), files of shims: {before:?} before, {left:?} now"
    );
    // Who left has not taken the container's input along.
    let mut last = Way::Upgrade.ask(&daemon, &attach("echo"), "", b"the last\n");
    last.head();
    while !last.frame().1.ends_with(b"the last\n") {}
    daemon.docker("rm -f deaf echo").ok();
    daemon.assert_nothing_remains();
}

#[test]
fn a_client_that_dawdles_with_its_head_is_cut_off() {
    let daemon = daemon("-H tcp://127.0.0.1:2375 --api-header-timeout 1");
    // Never says a word, says half of one, says one letter at a time, and is silent after an answer.
    let silent = daemon.api().open();
    let mut half = daemon.api().open();
    half.send_raw("GET /_ping HTTP/1.1\r\nHost: x\r\nX-Half: ");
    let mut between = daemon.api().open();
    between.send("GET", "/_ping", None);
    between.response("GET").expect(200);
    for mut client in [silent, half, between] {
        let mut rest = Vec::new();
        // The test's own patience ends this read with an error.
        client.stream.read_to_end(&mut rest).expect("closed by the daemon");
    }
    let cut = daemon.in_network(|| {
        let mut stream = TcpStream::connect("127.0.0.1:2375").unwrap();
        for byte in b"GET /_ping HTTP/1.1\r\nX: "
            .iter()
            .chain(std::iter::repeat_n(&b'x', 1000))
        {
            if stream.write_all(&[*byte]).is_err() {
                return true;
            }
            thread::sleep(Duration::from_millis(20));
        }
        false
    });
    assert!(cut, "a letter at a time is no way to send a request");
    daemon.api().get("/_ping").expect(200);
}

#[test]
fn a_full_door_says_so_and_others_stay_open() {
    let daemon = daemon("-H tcp://127.0.0.1:2375 --api-max-connections 5");
    let clients: Vec<_> = daemon.in_network(|| {
        let held: Vec<_> = (0..5).map(|_| TcpStream::connect("127.0.0.1:2375").unwrap()).collect();
        let mut late = TcpStream::connect("127.0.0.1:2375").unwrap();
        let mut answer = String::new();
        late.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 503") && answer.contains("too many connections"),
            "{answer}"
        );
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            answer.contains(&format!("Content-Length: {}\r\n", body.len())),
            "{answer}"
        );
        held
    });
    // The unix socket is another door.
    daemon.api().get("/_ping").expect(200);
    assert_eq!(
        value(
            &get(&daemon, METRICS, "/metrics"),
            "corten_api_refused_connections_total"
        ),
        1.0
    );
    drop(clients);
    wait_until("there is room again", || {
        daemon.in_network(|| {
            let mut stream = TcpStream::connect("127.0.0.1:2375").unwrap();
            let _ = stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
        })
    });
}

#[test]
fn requests_that_are_too_much_are_refused() {
    let daemon = daemon("");
    let raw = |text: &str| {
        let mut stream = UnixStream::connect(daemon.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let _ = stream.write_all(text.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer)
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let post = |body: &str| {
        let mut connection = daemon.api().open();
        connection.send_raw(&format!(
            "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: \
             {}\r\n\r\n{body}",
            body.len()
        ));
        connection.response("POST")
    };
    // Heads.
    let head = raw(&format!(
        "GET /_ping HTTP/1.1\r\nHost: x\r\nX: {}\r\nConnection: close\r\n\r\n",
        "x".repeat(1 << 20)
    ));
    assert!(head.starts_with("HTTP/1.1 431"), "{head}");
    let many: String = (0..500).map(|number| format!("X-{number}: y\r\n")).collect();
    let head = raw(&format!(
        "GET /_ping HTTP/1.1\r\nHost: x\r\n{many}Connection: close\r\n\r\n"
    ));
    assert!(head.starts_with("HTTP/1.1 431"), "{head}");
    let head = raw("BREW /coffee HTCPCP/1.0\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 400") || head.is_empty(), "{head}");
    // Documents: too deep, and deep in a filter.
    let deep = format!("{{\"Labels\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(post(&deep).expect(400).message().contains("recursion limit"));
    let filter = "%5B".repeat(2000);
    daemon
        .api()
        .get(&format!("/containers/json?filters={filter}"))
        .expect(400);
    // Too large: seventeen megabytes of nothing.
    let mut connection = daemon.api().open();
    connection.send_raw(
        "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: \
         99999999\r\n\r\n",
    );
    let block = vec![b' '; 1 << 20];
    for _ in 0..17 {
        if connection.stream.write_all(&block).is_err() {
            break;
        }
    }
    assert_eq!(connection.head().status, 400);
    daemon.api().get("/_ping").expect(200);
}

#[test]
fn what_is_sent_to_nobody_is_no_danger() {
    let daemon = daemon("");
    let before = held(&daemon);
    for _ in 0..20 {
        // A load that breaks off within its body.
        let mut connection = daemon.api().open();
        connection.send_raw("POST /images/load HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc");
        drop(connection);
        let mut connection = daemon.api().open();
        connection
            .send_raw("POST /images/create?fromSrc=- HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab");
        drop(connection);
    }
    wait_until("nothing of it is left", || {
        let (fds, tasks) = held(&daemon);
        fds <= before.0 && tasks <= before.1
    });
    daemon.api().get("/_ping").expect(200);
}

#[test]
fn clients_that_stop_in_the_middle_of_archives_hold_nobody_else_up() {
    let daemon = daemon("");
    // More than there are threads for such work.
    let stalled: Vec<_> = (0..600)
        .map(|number| {
            let mut connection = daemon.api().open();
            connection.send_raw(match number % 2 {
                0 => "POST /images/load HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc",
                _ => "GET /images/get?names=busybox HTTP/1.1\r\nHost: x\r\n\r\n",
            });
            connection
        })
        .collect();
    for _ in 0..3 {
        daemon.api().get("/containers/json?all=1&size=1").expect(200);
        daemon.api().get("/info").expect(200);
    }
    background(&daemon, "--name box", WAIT);
    drop(stalled);
    let archive = daemon.docker("save busybox");
    assert_eq!(archive.code, 0, "{:?}", archive.error());
}

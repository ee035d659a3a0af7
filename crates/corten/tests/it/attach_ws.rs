//! Attaching over a web socket, and several clients at the streams of one container.
use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use corten_testkit::{
    daemon::{Daemon, names_in},
    wait::wait_until,
};

use crate::{WAIT, background, create, daemon};

/// A client's end of a web socket.
struct WebSocket(UnixStream);

impl WebSocket {
    #[track_caller]
    fn open(daemon: &Daemon, path: &str) -> WebSocket {
        let mut stream = UnixStream::connect(daemon.socket()).unwrap();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: corten\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a head");
            answer.push(byte[0]);
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        // The example of RFC 6455.
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
        WebSocket(stream)
    }

    /// One message of that kind (1 text, 2 binary, 8 close, 9 ping), masked as clients must.
    fn send(&mut self, kind: u8, payload: &[u8]) {
        let mask = [1, 2, 3, 4];
        let mut frame = vec![0x80 | kind];
        match payload.len() {
            short @ 0..126 => frame.push(0x80 | short as u8),
            long => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&u16::try_from(long).unwrap().to_be_bytes());
            }
        }
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.0.write_all(&frame).unwrap();
    }

    /// The next message: its kind and payload.
    #[track_caller]
    fn receive(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).expect("a message");
        assert_eq!(head[0] & 0x80, 0x80, "whole messages only");
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                self.0.read_exact(&mut length).unwrap();
                u16::from_be_bytes(length).into()
            }
            127 => {
                let mut length = [0; 8];
                self.0.read_exact(&mut length).unwrap();
                u64::from_be_bytes(length) as usize
            }
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).unwrap();
        (head[0] & 0x0f, payload)
    }

    /// Binary messages until so many bytes have come.
    #[track_caller]
    fn take(&mut self, count: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < count {
            let (kind, payload) = self.receive();
            assert_eq!(kind, 2, "binary messages only");
            all.extend_from_slice(&payload);
        }
        all
    }
}

#[test]
fn messages_are_binary_and_never_multiplexed() {
    let daemon = daemon();
    background(
        &daemon,
        "-i --name box",
        "while read line; do echo \"got $line\"; echo bad >&2; done; echo over",
    );
    let mut socket = WebSocket::open(&daemon, "/containers/box/attach/ws?stream=1&stdin=1&stdout=1");
    socket.send(2, b"one\n");
    assert_eq!(socket.take(8), b"got one\n");
    socket.send(1, b"two\n");
    assert_eq!(socket.take(8), b"got two\n");
    socket.send(9, b"still there?");
    assert_eq!(socket.receive(), (10, b"still there?".to_vec()));
    // Both streams where both are wanted.
    let mut both = WebSocket::open(&daemon, "/containers/box/attach/ws?stream=1&stdout=1&stderr=1");
    // One that comes later is there when it sees something.
    loop {
        socket.send(2, b"x\n");
        socket.take(6);
        both.0.set_nonblocking(true).unwrap();
        let seen = both.0.peek_some();
        both.0.set_nonblocking(false).unwrap();
        if seen {
            break;
        }
    }
    let seen = both.take(10);
    assert!(seen.starts_with(b"got x\n") || seen.starts_with(b"bad\n"), "{seen:?}");
    daemon.docker("kill box").ok();
    // The container's end is the socket's.
    loop {
        let (kind, _) = both.receive();
        if kind == 8 {
            break;
        }
    }
}

trait Peek {
    fn peek_some(&mut self) -> bool;
}

impl Peek for UnixStream {
    /// Is something to be read? Waits a moment.
    fn peek_some(&mut self) -> bool {
        std::thread::sleep(std::time::Duration::from_millis(20));
        let mut byte = [0];
        rustix::net::recv(&*self, &mut byte, rustix::net::RecvFlags::PEEK).is_ok_and(|(count, _)| count > 0)
    }
}

#[test]
fn older_clients_get_every_stream() {
    let daemon = daemon();
    create(&daemon, "--name box", "echo out; echo err >&2");
    let mut old = WebSocket::open(&daemon, "/v1.41/containers/box/attach/ws?stream=1&stdout=1");
    let mut new = WebSocket::open(&daemon, "/v1.42/containers/box/attach/ws?stream=1&stdout=1");
    daemon.docker("start box").ok();
    let mut all = old.take(8);
    all.sort_unstable();
    let mut expected = b"out\nerr\n".to_vec();
    expected.sort_unstable();
    assert_eq!(all, expected);
    assert_eq!(new.take(4), b"out\n");
    assert_eq!(new.receive().0, 8);
    // What was printed before comes from the log.
    let mut past = WebSocket::open(&daemon, "/containers/box/attach/ws?logs=1&stdout=1");
    assert_eq!(past.take(4), b"out\n");
    assert_eq!(past.receive().0, 8);
}

#[test]
fn a_terminal_and_its_detach_keys_work_over_a_web_socket() {
    let daemon = daemon();
    daemon.docker("run -dit --name box --network none busybox sh").ok();
    let mut socket = WebSocket::open(
        &daemon,
        "/containers/box/attach/ws?stream=1&stdin=1&stdout=1&stderr=1&detachKeys=ctrl-x",
    );
    socket.send(2, b"echo answer=$((6*7))\r");
    let mut shown = Vec::new();
    while !String::from_utf8_lossy(&shown).contains("answer=42") {
        shown.extend(socket.receive().1);
    }
    socket.send(2, b"\x18");
    while socket.receive().0 != 8 {}
    assert_eq!(daemon.status("box"), "running");
}

#[test]
fn what_is_no_web_socket_is_refused() {
    let daemon = daemon();
    background(&daemon, "--name box", WAIT);
    let answer = daemon.api().get("/containers/box/attach/ws?stream=1").expect(400);
    assert!(answer.message().contains("web sockets"), "{}", answer.message());
}

#[test]
fn clients_that_leave_one_way_or_another_leave_nothing() {
    let daemon = daemon();
    background(&daemon, "-i --name box", WAIT);
    daemon.wait_for_log("box", "ready");
    let descriptors = |pid: i32| names_in(format!("/proc/{pid}/fd").as_ref()).len();
    let (shim, own) = (daemon.shim_pid("box"), daemon.pid());
    let path = "/containers/box/attach/ws?stream=1&stdin=1&stdout=1&stderr=1";
    drop(WebSocket::open(&daemon, path));
    wait_until("the first has left", || descriptors(shim) < 30);
    let before = (descriptors(shim), descriptors(own));
    for _ in 0..10 {
        let mut polite = WebSocket::open(&daemon, path);
        polite.send(8, b"");
        drop(polite);
        drop(WebSocket::open(&daemon, path));
        let mut plain = daemon.api().open();
        plain.upgrade("/containers/box/attach?stream=1&stdin=1&stdout=1");
        drop(plain);
        let mut half = daemon.api().open();
        half.upgrade("/containers/box/attach?stream=1&stdin=1&stdout=1");
        half.half_close();
        drop(half);
    }
    wait_until("nothing of them is left", || {
        descriptors(shim) <= before.0 && descriptors(own) <= before.1
    });
    assert_eq!(daemon.status("box"), "running");
}

#[test]
fn one_of_several_clients_may_be_slow_and_vanish() {
    let daemon = daemon();
    let script = "while read word; do yes $word | head -c 1000000; echo end; done";
    background(&daemon, "-i --name box", script);
    let attach = "/containers/box/attach?stream=1&stdin=1&stdout=1";
    let mut driver = daemon.api().open();
    driver.upgrade(attach);
    let mut quick = WebSocket::open(&daemon, "/containers/box/attach/ws?stream=1&stdout=1");
    let mut slow = daemon.api().open();
    slow.upgrade(attach);
    driver.send_raw("x\n");
    let from_driver = std::thread::spawn(move || {
        let mut seen = 0;
        while seen < 1_000_004 {
            seen += driver.frame().1.len();
        }
        driver
    });
    // Nothing is lost while the slow one holds it up; when it leaves, the others go on.
    slow.frame();
    drop(slow);
    let all = quick.take(1_000_004);
    assert!(all.ends_with(b"end\n") && all.len() == 1_000_004);
    let mut driver = from_driver.join().unwrap();
    driver.send_raw("y\n");
    assert_eq!(driver.frame().1[..2], *b"y\n");
}

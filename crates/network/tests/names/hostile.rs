//! Containers and servers that mean harm: nothing panics, nothing is left behind, others are served.
use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream, UdpSocket},
    os::fd::{AsFd, AsRawFd},
    time::{Duration, Instant},
};

use corten_network::dns::{lookup, message::Received, names::Names};
use domain::base::iana::{Rcode, Rtype};

use crate::world::{Answer, Container, SERVER, World, endpoint, framed, query, read_framed, view, world};

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }

    /// A packet as somebody might send who looks for a mistake of ours.
    fn packet(&mut self) -> Vec<u8> {
        let names = ["web", "a.b.c.a-net", "2.0.18.172.in-addr.arpa", "x.ip6.arpa", "."];
        let kinds = [Rtype::A, Rtype::AAAA, Rtype::PTR, Rtype::ANY, Rtype::MX];
        let size = (self.below(2) == 0).then(|| self.next() as u16);
        let mut packet = query(names[self.below(names.len())], kinds[self.below(kinds.len())], size);
        match self.below(6) {
            0 => {
                let length = self.below(600);
                packet = self.bytes(length);
            }
            1 => packet.truncate(self.below(packet.len() + 1)),
            // Compression pointers, to anywhere.
            2 => {
                for _ in 0..4 {
                    let at = 12 + self.below(packet.len() - 12);
                    packet[at] |= 0xc0;
                }
            }
            // Counts that promise too much.
            3 => {
                let counts = self.bytes(8);
                packet[4..12].copy_from_slice(&counts);
            }
            4 => {
                let more = self.below(300);
                let more = self.bytes(more);
                packet.extend(more);
            }
            _ => {}
        }
        for _ in 0..self.below(4) {
            if !packet.is_empty() {
                let at = self.below(packet.len());
                packet[at] = self.next() as u8;
            }
        }
        packet
    }
}

fn known(world: &World) {
    let web = endpoint("a", "1", &["web"], Some("172.18.0.2/16"), Some("fd00::2/64"));
    world.resolver.names().add(&web);
}

fn served(world: &World, id: &str) -> Container {
    let container = Container::new();
    world
        .resolver
        .serve(id, container.namespace.as_fd(), view(&["a"]))
        .expect("served");
    container
}

/// The sockets that somebody holds in the calling thread's namespace; closed ones, of which the kernel keeps something,
/// have no inode any more.
fn sockets() -> usize {
    let count = |kind: &str| {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{kind}")).expect("procfs");
        let inodes = text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(9));
        inodes.filter(|&inode| inode != "0").count()
    };
    ["udp", "udp6", "tcp", "tcp6"].into_iter().map(count).sum()
}

/// Waits until something is so.
fn wait_for(what: &str, so: impl Fn() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn whatever_is_read_is_answered_or_ignored() {
    let names = Names::default();
    names.add(&endpoint("a", "1", &["web"], Some("172.18.0.2/16"), Some("fd00::2/64")));
    let view = view(&["a"]);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut answered = 0;
    for turn in 0..200_000 {
        let packet = random.packet();
        match Received::read(&packet) {
            Received::Query(query) => {
                for limit in [query.limit, 65535] {
                    let answer = lookup::answer(&names, &view, &query, limit, turn);
                    answered += usize::from(answer.is_some());
                    let answer = answer.unwrap_or_else(|| lookup::failed(&query));
                    assert!((12..=limit).contains(&answer.len()), "{packet:02x?}");
                    assert_eq!(answer[..2], packet[..2]);
                }
                assert!(query.truncated().len() <= 512);
            }
            Received::Malformed(reply) => assert_eq!((reply.len(), reply[2] & 0x80), (12, 0x80)),
            Received::Noise => {}
        }
    }
    assert!(answered > 10_000, "{answered}");
}

#[test]
fn rubbish_does_not_keep_the_resolver_from_answering() {
    world(|world| {
        known(world);
        let container = served(world, "c");
        container.run(|| {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("free");
            let mut random = Random(7);
            for _ in 0..20_000 {
                let packet = random.packet();
                let _ = socket.send_to(&packet, SERVER);
            }
            let _ = socket.send_to(&[0xff; 60_000], SERVER);
        });
        assert_eq!(container.ask("web", Rtype::A).records, ["172.18.0.2"]);
        assert_eq!(container.ask("example.com", Rtype::A).records, ["192.0.2.1"]);
    });
}

#[test]
fn wrong_lengths_over_tcp_end_one_connection_only() {
    world(|world| {
        known(world);
        let container = served(world, "c");
        let before = container.run(sockets);
        container.run(|| {
            let mut random = Random(11);
            for length in [0_u16, 1, 11, 12, 13, 500, 4096, 4097, 65535] {
                for sent in [0, 1, 11, 40, 5000] {
                    let mut stream = TcpStream::connect(SERVER).expect("connected");
                    stream.write_all(&length.to_be_bytes()).expect("sent");
                    let _ = stream.write_all(&random.bytes(sent));
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                    let _ = stream.read_to_end(&mut Vec::new());
                }
            }
            // One after the other on one connection, in pieces.
            let mut stream = TcpStream::connect(SERVER).expect("connected");
            let question = framed(&query("web", Rtype::A, None));
            for piece in [&question[..], &question[..1], &question[1..7], &question[7..]] {
                stream.write_all(piece).expect("sent");
                std::thread::sleep(Duration::from_millis(20));
            }
            for _ in 0..2 {
                let answer = Answer::read(&read_framed(&mut stream).expect("answered"));
                assert_eq!(answer.records, ["172.18.0.2"]);
            }
        });
        wait_for("connections are closed", || container.run(sockets) == before);
    });
}

#[test]
fn slow_clients_are_let_go_and_starve_nobody() {
    world(|world| {
        known(world);
        let (slow, other) = (served(world, "slow"), served(world, "other"));
        let before = slow.run(sockets);
        let streams = slow.run(|| {
            let connect = |_| {
                let mut stream = TcpStream::connect(SERVER).expect("the kernel accepts");
                let _ = stream.write_all(&[0]);
                stream
            };
            (0..300).map(connect).collect::<Vec<_>>()
        });
        assert_eq!(slow.ask("web", Rtype::A).records, ["172.18.0.2"]);
        assert_eq!(other.ask_over_tcp("web", Rtype::A).records, ["172.18.0.2"]);
        // Each ends, at the latest when its time is over, though its client does nothing.
        for mut stream in streams {
            stream
                .set_read_timeout(Some(Duration::from_secs(60)))
                .expect("possible");
            let ended = stream.read(&mut [0; 1]);
            assert!(
                !ended
                    .as_ref()
                    .is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
                "{ended:?}"
            );
        }
        assert_eq!(slow.ask_over_tcp("web", Rtype::A).records, ["172.18.0.2"]);
        wait_for("connections are closed", || slow.run(sockets) == before);
    });
}

#[test]
fn a_flood_is_refused_at_once_and_others_are_served() {
    world(|world| {
        known(world);
        let (loud, other) = (served(world, "loud"), served(world, "other"));
        let (here, there) = (sockets(), loud.run(sockets));
        let (refused, flood) = loud.run(|| {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("free");
            socket.connect(SERVER).expect("possible");
            let question = query("silent.example.com", Rtype::A, None);
            let (mut refused, mut buffer) = (0, [0; 512]);
            // In steps that the socket's buffers hold.
            for step in 0..40 {
                for _ in 0..100 {
                    socket.send(&question).expect("sent");
                }
                let patience = if step == 39 { 1000 } else { 20 };
                socket
                    .set_read_timeout(Some(Duration::from_millis(patience)))
                    .expect("possible");
                while let Ok(length) = socket.recv(&mut buffer) {
                    assert_eq!(Answer::read(&buffer[..length]).code, Rcode::REFUSED);
                    refused += 1;
                }
            }
            (refused, socket)
        });
        assert!(refused > 3000, "{refused}");
        assert_eq!(loud.ask("web", Rtype::A).records, ["172.18.0.2"]);
        assert_eq!(other.ask("web", Rtype::A).records, ["172.18.0.2"]);
        assert_eq!(other.ask("example.com", Rtype::A).records, ["192.0.2.1"]);
        drop(flood);
        wait_for("questions end", || (sockets(), loud.run(sockets)) == (here, there));
        assert_eq!(loud.ask("example.com", Rtype::A).records, ["192.0.2.1"]);
    });
}

#[test]
fn forged_answers_do_not_count() {
    world(|world| {
        let container = served(world, "c");
        let answer = container.ask("forged.example.com", Rtype::A);
        assert_eq!(answer.records, ["192.0.2.1"]);
        for name in ["torn.example.com", "empty.example.com"] {
            assert_eq!(container.ask_over_tcp(name, Rtype::A).code, Rcode::SERVFAIL, "{name}");
        }
        // What came over UDP is all there is.
        assert!(container.ask("torn.example.com", Rtype::A).truncated);
    });
}

#[test]
fn a_stopped_container_leaves_nothing() {
    world(|world| {
        let here = sockets();
        let container = served(world, "c");
        let inside = fs::read_link(format!("/proc/self/fd/{}", container.namespace.as_raw_fd())).expect("procfs");
        let held = |path: &std::path::Path| fs::read_link(path).is_ok_and(|target| target == inside);
        let holders = || {
            let fds = fs::read_dir("/proc/self/fd").expect("procfs");
            fds.flatten().filter(|entry| held(&entry.path())).count()
        };
        let _flood = container.run(|| {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("free");
            for _ in 0..50 {
                let question = query("silent.example.com", Rtype::A, None);
                socket.send_to(&question, SERVER).expect("sent");
            }
            TcpStream::connect(SERVER).expect("connected")
        });
        wait_for("questions are on their way", || sockets() > here);
        assert_eq!(holders(), 2);
        world.resolver.stop("c");
        // The questions that were on their way end as well; the test's own connection stays.
        wait_for("everything is closed", || {
            sockets() == here && container.run(sockets) <= 1
        });
        wait_for("the namespace is let go", || holders() == 1);
    });
}

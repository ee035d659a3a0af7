//! Figures, to look at: `cargo test --release -p corten-network --test names speed -- --ignored --nocapture`.
use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::AsFd,
    thread,
    time::{Duration, Instant},
};

use domain::base::iana::Rtype;

use crate::world::{Container, SERVER, endpoint, query, view, world};

const QUERIES: usize = 100_000;
const ROUNDS: usize = 5;

/// How many answers a second a client gets that has so many questions open at a time.
fn per_second(server: SocketAddr, open: usize) -> f64 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("free");
    socket.connect(server).expect("possible");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("possible");
    let question = query("web", Rtype::A, None);
    let mut buffer = [0; 512];
    let start = Instant::now();
    for _ in 0..QUERIES / open {
        for _ in 0..open {
            socket.send(&question).expect("sent");
        }
        for _ in 0..open {
            socket.recv(&mut buffer).expect("answered");
        }
    }
    QUERIES as f64 / start.elapsed().as_secs_f64()
}

/// The least that anybody could do: one thread that sends back what it gets.
fn plain_loop(address: Ipv4Addr) -> SocketAddr {
    let socket = UdpSocket::bind((address, 53)).expect("free");
    let at = socket.local_addr().expect("bound");
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
    at
}

#[test]
#[ignore = "it measures, and asserts nothing"]
fn speed_of_local_names() {
    world(|world| {
        let names = world.resolver.names();
        names.add(&endpoint("a", "1", &["web"], Some("172.18.0.2/16"), None));
        let container = Container::new();
        world
            .resolver
            .serve("c", container.namespace.as_fd(), view(&["a"]))
            .expect("served");
        let plain = container.run(|| plain_loop(Ipv4Addr::new(127, 0, 0, 12)));
        for open in [1, 32] {
            for _ in 0..ROUNDS {
                let (ours, theirs) = container.run(move || (per_second(SERVER, open), per_second(plain, open)));
                println!(
                    "{open} open: resolver {ours:.0}/s, plain loop {theirs:.0}/s, ratio {:.2}",
                    ours / theirs
                );
            }
        }
    });
}

/// Bytes that this process has in memory.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("procfs");
    let pages: usize = text.split(' ').nth(1).expect("seven numbers").parse().expect("numbers");
    pages * 4096
}

#[test]
#[ignore = "it measures, and asserts nothing"]
fn speed_of_serving() {
    world(|world| {
        let containers: Vec<_> = (0..200).map(|_| Container::new()).collect();
        let timed = |what: &str, work: &dyn Fn(usize)| {
            let mut took: Vec<_> = (0..containers.len())
                .map(|index| {
                    let start = Instant::now();
                    work(index);
                    start.elapsed()
                })
                .collect();
            took.sort();
            println!(
                "{what}: min {:?}, median {:?}, max {:?}",
                took[0],
                took[took.len() / 2],
                took[took.len() - 1]
            );
        };
        let id = |index: usize| index.to_string();
        let serve = |index: usize| {
            let namespace = containers[index].namespace.as_fd();
            world
                .resolver
                .serve(&id(index), namespace, view(&["a"]))
                .expect("served");
        };
        let before = resident();
        timed("serve", &serve);
        println!(
            "memory per served container: {} bytes",
            (resident() - before) / containers.len()
        );
        timed("serve again", &serve);
        timed("stop", &|index| world.resolver.stop(&id(index)));
        timed("names.add", &|index| {
            let net = format!("172.18.{}.{}/16", index / 250, index % 250 + 2);
            world
                .resolver
                .names()
                .add(&endpoint("a", &id(index), &[&id(index), "web"], Some(&net), None));
        });
    });
}

//! What a container's interfaces cost. Nothing is asserted; figures are printed:
//!
//! ```text
//! cargo test -p corten-network --test measure -- --ignored --nocapture --test-threads 1
//! ```
use std::{
    fs::{self, File},
    net::Ipv4Addr,
    os::fd::{AsFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use corten_linux::{
    namespace::{bring_loopback_up, unshare},
    netlink::route::link::Port,
};
use corten_network::{
    bridge::{self, BridgeSpec},
    model::Mac,
    namespace::inside,
    wire::{self, Gateway, Plug, Wire},
};
use ipnet::IpNet;

const CLONE_NEWNET: u64 = 0x4000_0000;

fn new_namespace() -> OwnedFd {
    let namespace = thread::spawn(|| {
        unshare(CLONE_NEWNET).expect("root");
        OwnedFd::from(File::open("/proc/thread-self/ns/net").expect("proc"))
    });
    let namespace = namespace.join().expect("no panic");
    inside(namespace.as_fd(), bring_loopback_up).expect("new namespaces have one");
    namespace
}

fn alone(measure: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(|| {
        unshare(CLONE_NEWNET).expect("root");
        measure();
    });
    thread.join().expect("no panic");
}

fn make_bridge(ipv6: bool) {
    let mut addresses = vec!["10.64.0.1/16".parse().expect("valid")];
    if ipv6 {
        addresses.push("fd00:64::1/64".parse().expect("valid"));
    }
    bridge::create(&BridgeSpec {
        name: "br0",
        owner: "corten-measure",
        mtu: None,
        mac: None,
        addresses: &addresses,
        route_localnet: true,
    })
    .expect("root");
}

/// Connects container `number`, and says how long it took.
fn connect(namespace: &OwnedFd, number: u16, ipv6: bool) -> Duration {
    let [high, low] = (number + 2).to_be_bytes();
    let host_interface = format!("veth{number}");
    let ipv4 = IpNet::new(Ipv4Addr::new(10, 64, high, low).into(), 16).expect("valid");
    let mut addresses = vec![ipv4];
    let mut defaults = vec![Gateway::Via(Ipv4Addr::new(10, 64, 0, 1).into())];
    if ipv6 {
        addresses.push(format!("fd00:64::{:x}/64", number + 2).parse().expect("valid"));
        defaults.push(Gateway::Via("fd00:64::1".parse().expect("valid")));
    }
    let wire = Wire {
        network: "measure",
        plug: Plug::Bridge {
            bridge: "br0",
            host_interface: &host_interface,
            port: Port::default(),
        },
        interface: "eth0",
        mac: Some(Mac([2, 0x42, 10, 64, high, low])),
        addresses,
        defaults,
        mtu: None,
        sysctls: Vec::new(),
    };
    let start = Instant::now();
    wire::connect(namespace.as_fd(), &[wire]).expect("root");
    start.elapsed()
}

#[test]
#[ignore = "a measurement"]
fn time_of_a_connect_by_ports_on_the_bridge() {
    for ipv6 in [false, true] {
        alone(move || {
            make_bridge(ipv6);
            let mut namespaces = Vec::new();
            for ports in [1, 100, 500] {
                while namespaces.len() < ports {
                    let namespace = new_namespace();
                    connect(&namespace, namespaces.len() as u16, ipv6);
                    namespaces.push(namespace);
                }
                let mut times = Vec::new();
                for _ in 0..40 {
                    let namespace = new_namespace();
                    times.push(connect(&namespace, namespaces.len() as u16, ipv6));
                    namespaces.push(namespace);
                }
                times.sort();
                let families = if ipv6 { "IPv4 and IPv6" } else { "IPv4" };
                let (least, median) = (times[0], times[times.len() / 2]);
                println!("{families}, from {ports} ports on: min {least:?}, median {median:?}");
            }
        });
    }
}

#[test]
#[ignore = "a measurement"]
fn kernel_memory_of_a_container() {
    const COUNT: u16 = 200;
    for ipv6 in [false, true] {
        alone(move || {
            make_bridge(ipv6);
            // The kernel's caches warm up.
            let warm: Vec<_> = (1000..1020_u16)
                .map(|number| {
                    let namespace = new_namespace();
                    connect(&namespace, number - 200, ipv6);
                    namespace
                })
                .collect();
            let before = kernel_kib();
            let namespaces: Vec<_> = (0..COUNT).map(|_| new_namespace()).collect();
            let bare = kernel_kib();
            for (number, namespace) in (0..).zip(&namespaces) {
                connect(namespace, number, ipv6);
            }
            let connected = kernel_kib();
            let each = |from: u64, to: u64| (to.saturating_sub(from)) / u64::from(COUNT);
            let families = if ipv6 { "IPv4 and IPv6" } else { "IPv4" };
            println!(
                "{families}: a namespace {} KiB, its wire {} KiB, together {} KiB (slab and percpu)",
                each(before, bare),
                each(bare, connected),
                each(before, connected)
            );
            drop((warm, namespaces));
        });
        thread::sleep(Duration::from_secs(3));
    }
}

/// Slab and percpu memory of the whole machine, once it is calm.
fn kernel_kib() -> u64 {
    thread::sleep(Duration::from_secs(2));
    let text = fs::read_to_string("/proc/meminfo").expect("proc");
    let value = |name: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(name))
            .expect("every kernel has it");
        let number = line.split_whitespace().nth(1).expect("a number");
        number.parse::<u64>().expect("a number")
    };
    value("Slab:") + value("Percpu:")
}

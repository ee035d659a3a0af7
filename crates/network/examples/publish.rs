//! Measures host ports: what claiming and publishing them costs, and what they cost a new connection.
//!
//! `cargo run --release -p corten-network --example publish`, as root. Everything happens in network namespaces of its own.
//! Minimum and median of the rounds; compare minima, for medians show how busy the machine is.
use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use corten_linux::{
    namespace::{bring_loopback_up, unshare},
    netlink::route::link::Port,
};
use corten_network::{
    bridge::{self, BridgeSpec},
    error::Error,
    firewall::{
        keeper::Keeper,
        model::{BridgeRules, PortRule},
        table::Firewall,
    },
    model::{PortRequest, Protocol, PublishedPort},
    namespace::inside,
    ports::publisher::{Families, Publisher, Way},
    sysctl,
    wire::{self, Gateway, Plug, Wire},
};
use ipnet::IpNet;
use tokio::runtime::{Builder, Handle};

const CLONE_NEWNET: u64 = 0x4000_0000;
const TARGET: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 2);
const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn main() -> Result<(), Error> {
    unshare(CLONE_NEWNET).map_err(|error| Error::system("this needs root").because(error))?;
    bring_loopback_up().map_err(|error| Error::system("no loopback").because(error))?;
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| Error::system("no threads").because(error))?;
    let result = measure(runtime.handle().clone());
    runtime.shutdown_background();
    result
}

fn failed(error: io::Error) -> Error {
    Error::system("the kernel refuses").because(error)
}

fn measure(runtime: Handle) -> Result<(), Error> {
    sysctl::write("ipv4/ip_forward", "1").map_err(failed)?;
    let container = attach("br-a", "10.8.0.1/24", "10.8.0.2/24")?;
    let other = attach("lan0", "192.0.2.1/24", "192.0.2.2/24")?;
    let listener = inside(container.as_fd(), || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)));
    serve(listener.map_err(failed)?);
    let firewall = Arc::new(Firewall::open("corten"));
    let _keeper = Keeper::start(Arc::clone(&firewall))?;
    let subnet: IpNet = "10.8.0.0/24".parse().expect("a subnet");
    firewall.rebuild(&[BridgeRules::new("br-a", vec![subnet])], &[])?;
    let publisher = Publisher::new(runtime, true);
    for count in [1, 10, 100, 1000] {
        publish(&firewall, &publisher, count)?;
    }
    connections(&firewall, &other)
}

/// A bridge, and a namespace on it.
fn attach(bridge: &str, address: &str, inner: &str) -> Result<OwnedFd, Error> {
    let net = |text: &str| text.parse::<IpNet>().expect("an address");
    bridge::create(&BridgeSpec {
        name: bridge,
        owner: "measure",
        mtu: None,
        mac: None,
        addresses: &[net(address)],
        route_localnet: true,
    })?;
    let namespace = thread::spawn(|| {
        unshare(CLONE_NEWNET)?;
        bring_loopback_up()?;
        Ok(OwnedFd::from(File::open("/proc/thread-self/ns/net")?))
    });
    let namespace = namespace.join().expect("it does not panic").map_err(failed)?;
    let name = format!("v-{bridge}");
    let wire = Wire {
        network: bridge,
        plug: Plug::Bridge {
            bridge,
            host_interface: &name,
            port: Port::default(),
        },
        interface: "eth0",
        mac: None,
        addresses: vec![net(inner)],
        defaults: vec![Gateway::Via(net(address).addr())],
        mtu: None,
        sysctls: Vec::new(),
    };
    wire::connect(namespace.as_fd(), &[wire])?;
    Ok(namespace)
}

fn serve(listener: TcpListener) {
    thread::spawn(move || listener.incoming().for_each(drop));
}

fn rules(ports: &[PublishedPort]) -> Vec<PortRule> {
    let rule = |port: &PublishedPort| PortRule {
        protocol: port.protocol,
        host: port.host_ip,
        host_port: port.host_port,
        target: SocketAddr::from((TARGET, port.container_port)),
    };
    ports.iter().map(rule).collect()
}

fn publish(firewall: &Firewall, publisher: &Publisher, count: u16) -> Result<(), Error> {
    let wish = |number| PortRequest {
        protocol: Protocol::Tcp,
        container_port: 80,
        host_ip: None,
        host_ports: Some(10_000 + number..=10_000 + number),
    };
    let wishes: Vec<_> = (0..count).map(wish).collect();
    let families = Families {
        ipv4: Way::Host,
        ipv6: Way::Host,
    };
    let descriptors = || fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let mut times: [Vec<Duration>; 5] = Default::default();
    let mut held = 0_usize;
    for _ in 0..20 {
        let before = descriptors();
        let mut now = Instant::now();
        let mut lap = || {
            let lap = now.elapsed();
            now = Instant::now();
            lap
        };
        let claim = publisher.claim(&wishes, families)?;
        times[0].push(lap());
        let rules = rules(&claim.ports);
        firewall.publish(&rules)?;
        times[1].push(lap());
        claim.serve(Some(TARGET.into()), None);
        times[2].push(lap());
        held = held.max(descriptors().saturating_sub(before));
        lap();
        firewall.unpublish(&rules)?;
        times[3].push(lap());
        drop(claim);
        times[4].push(lap());
    }
    println!("{count} ports ({held} descriptors):");
    for (name, times) in ["claim", "publish", "serve", "unpublish", "free"]
        .iter()
        .zip(&mut times)
    {
        show(name, times);
    }
    Ok(())
}

fn show(name: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let (least, median) = (times[0], times[times.len() / 2]);
    println!("  {name:<42} min {least:>10.1?}  median {median:>10.1?}");
}

/// New connections from another host.
fn connections(firewall: &Firewall, other: &OwnedFd) -> Result<(), Error> {
    serve(TcpListener::bind((HOST, 9999)).map_err(failed)?);
    let rule = |port| PortRule {
        protocol: Protocol::Tcp,
        host: Ipv4Addr::UNSPECIFIED.into(),
        host_port: port,
        target: SocketAddr::from((TARGET, 80)),
    };
    println!("a new connection from another host:");
    let time = |name: &str, port| {
        let mut times = Vec::new();
        for _ in 0..2000 {
            let now = Instant::now();
            inside(other.as_fd(), || TcpStream::connect((HOST, port))).map_err(failed)?;
            times.push(now.elapsed());
        }
        show(name, &mut times);
        Ok::<_, Error>(())
    };
    for _ in 0..3 {
        time("to a server on the host", 9999)?;
        firewall.publish(&[rule(20_000)])?;
        time("to a published port, 1 published", 20_000)?;
        let many: Vec<_> = (20_001..21_000).map(rule).collect();
        firewall.publish(&many)?;
        time("to a published port, 1000 published", 20_500)?;
        firewall.unpublish(&many)?;
    }
    Ok(())
}

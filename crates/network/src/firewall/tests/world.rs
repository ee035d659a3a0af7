//! A host with two bridges, their containers, and another host on its uplink.
//!
//! The test's own thread is the host. Containers answer on TCP and UDP port 80 with the address that they see.
use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    process::Command,
    thread,
    time::Duration,
};

use corten_linux::netlink::route::link::Port;
use ipnet::IpNet;

use crate::{
    bridge::{self, BridgeSpec},
    firewall::{
        model::{BridgeRules, PortRule},
        table::Firewall,
    },
    model::Protocol,
    namespace::inside,
    sysctl,
    testing::{alone, new_namespace},
    wire::{self, Gateway, Plug, Wire},
};

/// How long silence lasts before it is an answer.
const PATIENCE: Duration = Duration::from_millis(700);

/// The host's addresses on the uplink, and the other host's.
pub const HOST: &str = "192.0.2.1";
pub const HOST6: &str = "2001:db8::1";
pub const OTHER: &str = "192.0.2.2";
pub const OTHER6: &str = "2001:db8::2";

/// Containers' addresses: two on `br-a`, one on `br-b`.
pub const A1: &str = "10.8.0.2";
pub const B1: &str = "10.9.0.2";
pub const A1_6: &str = "fd00:8::2";
pub const B1_6: &str = "fd00:9::2";

pub struct World {
    pub firewall: Firewall,
    pub other: OwnedFd,
    pub a1: OwnedFd,
    pub a2: OwnedFd,
    pub b1: OwnedFd,
    pub a: BridgeRules,
    pub b: BridgeRules,
}

/// How containers are plugged in, and whether frames between a bridge's ports pass the firewall.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub port: Port,
    pub bridge_netfilter: bool,
}

impl Default for Setting {
    fn default() -> Setting {
        Setting {
            port: Port {
                hairpin: true,
                isolated: false,
            },
            bridge_netfilter: true,
        }
    }
}

/// Runs a test in a world whose firewall knows both networks.
pub fn world(setting: Setting, test: impl FnOnce(&World) + Send) {
    alone(|| {
        let world = World::new(setting);
        let networks = [world.a.clone(), world.b.clone()];
        world.firewall.rebuild(&networks, &[]).expect("allowed");
        test(&world);
    });
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

pub fn run(command: &[&str]) -> String {
    let output = Command::new(command[0])
        .args(&command[1..])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Runs `work` in a namespace.
pub fn at<T>(namespace: &OwnedFd, work: impl FnOnce() -> T) -> T {
    inside(namespace.as_fd(), || Ok(work())).expect("root")
}

impl World {
    fn new(setting: Setting) -> World {
        sysctl::write("ipv4/ip_forward", "1").expect("root");
        sysctl::write("ipv6/conf/all/forwarding", "1").expect("root");
        let switch = if setting.bridge_netfilter { "1" } else { "0" };
        for name in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"] {
            sysctl::write_if_there(&format!("bridge/{name}"), switch).expect("root");
        }
        let other = new_namespace();
        connect_hosts(&other);
        make_bridge("br-a", &["10.8.0.1/24", "fd00:8::1/64"]);
        make_bridge("br-b", &["10.9.0.1/24", "fd00:9::1/64"]);
        let subnets = |texts: [&str; 2]| texts.map(net).to_vec();
        World {
            firewall: Firewall::open("corten"),
            other,
            a1: container("br-a", "veth-a1", ["10.8.0.2/24", "fd00:8::2/64"], setting.port),
            a2: container("br-a", "veth-a2", ["10.8.0.3/24", "fd00:8::3/64"], setting.port),
            b1: container("br-b", "veth-b1", ["10.9.0.2/24", "fd00:9::2/64"], setting.port),
            a: BridgeRules::new("br-a", subnets(["10.8.0.0/24", "fd00:8::/64"])),
            b: BridgeRules::new("br-b", subnets(["10.9.0.0/24", "fd00:9::/64"])),
        }
    }

    pub fn publish(&self, host: &str, port: u16, target: &str) {
        self.firewall
            .publish(&[rule(Protocol::Tcp, host, port, target)])
            .expect("free");
    }
}

pub fn rule(protocol: Protocol, host: &str, host_port: u16, target: &str) -> PortRule {
    PortRule {
        protocol,
        host: host.parse().expect("an address"),
        host_port,
        target: SocketAddr::new(target.parse().expect("an address"), 80),
    }
}

/// The other host knows the way to our containers, as anybody on the same wire may.
fn connect_hosts(other: &OwnedFd) {
    make_bridge("lan0", &["192.0.2.1/24", "2001:db8::1/64"]);
    let wire = Wire {
        network: "lan",
        plug: Plug::Bridge {
            bridge: "lan0",
            host_interface: "veth-lan",
            port: Port::default(),
        },
        interface: "eth0",
        mac: None,
        addresses: vec![net("192.0.2.2/24"), net("2001:db8::2/64")],
        defaults: Vec::new(),
        mtu: None,
        sysctls: Vec::new(),
    };
    wire::connect(other.as_fd(), &[wire]).expect("root");
    at(other, || {
        for (subnet, host) in [
            ("10.8.0.0/24", HOST),
            ("10.9.0.0/24", HOST),
            ("fd00:8::/64", HOST6),
            ("fd00:9::/64", HOST6),
        ] {
            run(&["ip", "route", "add", subnet, "via", host]);
        }
    });
    serve(other);
}

fn make_bridge(name: &str, addresses: &[&str]) {
    let addresses: Vec<_> = addresses.iter().map(|text| net(text)).collect();
    let spec = BridgeSpec {
        name,
        owner: "corten-test",
        mtu: None,
        mac: None,
        addresses: &addresses,
        route_localnet: true,
    };
    bridge::create(&spec).expect("root");
}

fn container(bridge: &str, host_interface: &str, addresses: [&str; 2], port: Port) -> OwnedFd {
    let namespace = new_namespace();
    let addresses: Vec<_> = addresses.iter().map(|text| net(text)).collect();
    let gateway = |net: &IpNet| Gateway::Via(net.hosts().next().expect("a gateway"));
    let wire = Wire {
        network: "net",
        plug: Plug::Bridge {
            bridge,
            host_interface,
            port,
        },
        interface: "eth0",
        mac: None,
        defaults: vec![
            gateway(&addresses[0].trunc()),
            Gateway::Via(match addresses[1].trunc() {
                IpNet::V6(net) => IpAddr::V6(Ipv6Addr::from(u128::from(net.addr()) + 1)),
                IpNet::V4(net) => IpAddr::V4(net.addr()),
            }),
        ],
        addresses,
        mtu: None,
        sysctls: Vec::new(),
    };
    wire::connect(namespace.as_fd(), &[wire]).expect("root");
    serve(&namespace);
    namespace
}

/// Servers that live as long as the test's process.
fn serve(namespace: &OwnedFd) {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 80));
    let (tcp, udp) = at(namespace, || {
        (
            TcpListener::bind(any).expect("free"),
            UdpSocket::bind(any).expect("free"),
        )
    });
    thread::spawn(move || {
        for connection in tcp.incoming() {
            let Ok(mut connection) = connection else { return };
            thread::spawn(move || {
                let peer = connection.peer_addr().map(|peer| peer.ip().to_canonical().to_string());
                let _ = writeln!(connection, "{}", peer.unwrap_or_default());
                // Whoever wishes goes on with an echo.
                let mut copy = connection.try_clone().expect("a descriptor");
                let _ = io::copy(&mut connection, &mut copy);
            });
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(peer.ip().to_canonical().to_string().as_bytes(), peer);
        }
    });
}

fn address(host: &str, port: u16) -> SocketAddr {
    SocketAddr::new(host.parse().expect("an address"), port)
}

/// A connection to a server of ours, and the address that the server sees.
pub fn connect(host: &str, port: u16) -> io::Result<(TcpStream, String)> {
    let mut stream = TcpStream::connect_timeout(&address(host, port), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE * 4))?;
    let mut seen = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 && byte != *b"\n" {
        seen.push(byte[0]);
    }
    Ok((stream, String::from_utf8_lossy(&seen).into_owned()))
}

/// Does a connection still carry data both ways?
pub fn echoes(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 5];
    stream.write_all(b"hello").is_ok() && stream.read_exact(&mut answer).is_ok() && answer == *b"hello"
}

/// Which address of ours a server sees when we come from `namespace` (the host without one); `-` when there is no answer.
pub fn seen(from: Option<&OwnedFd>, host: &str, port: u16) -> String {
    let work = || connect(host, port).map_or_else(|_| "-".to_owned(), |(_, seen)| seen);
    from.map_or_else(work, |namespace| at(namespace, work))
}

/// The same by UDP.
pub fn seen_udp(from: Option<&OwnedFd>, host: &str, port: u16) -> String {
    let work = || ask_udp(&udp_socket(host), host, port);
    from.map_or_else(work, |namespace| at(namespace, work))
}

pub fn udp_socket(host: &str) -> UdpSocket {
    let any = if address(host, 0).is_ipv4() {
        IpAddr::from(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::from(Ipv6Addr::UNSPECIFIED)
    };
    let socket = UdpSocket::bind((any, 0)).expect("a port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time");
    socket
}

pub fn ask_udp(socket: &UdpSocket, host: &str, port: u16) -> String {
    let mut buffer = [0; 64];
    let answer = socket
        .send_to(b"?", address(host, port))
        .and_then(|_| socket.recv(&mut buffer));
    answer.map_or_else(
        |_| "-".to_owned(),
        |length| String::from_utf8_lossy(&buffer[..length]).into_owned(),
    )
}

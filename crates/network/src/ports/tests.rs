//! Claims and the proxy, in network namespaces of their own.
use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    ops::RangeInclusive,
    thread,
    time::Duration,
};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};

use super::{
    claim::Claim,
    publisher::{Families, Publisher, Way},
};
use crate::{
    error::Result,
    model::{PortRequest, Protocol, PublishedPort},
    testing::alone,
};

const BOTH: Families = Families {
    ipv4: Way::Host,
    ipv6: Way::Host,
};
const IPV4: Families = Families {
    ipv4: Way::Host,
    ipv6: Way::Nowhere,
};
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("threads")
}

fn publisher(runtime: &Runtime, proxy: bool) -> Publisher {
    Publisher::new(runtime.handle().clone(), proxy)
}

fn wish(protocol: Protocol, host_ip: Option<&str>, host_ports: Option<RangeInclusive<u16>>) -> PortRequest {
    PortRequest {
        protocol,
        container_port: 80,
        host_ip: host_ip.map(|ip| ip.parse().expect("an address")),
        host_ports,
    }
}

fn claim(publisher: &Publisher, host_ip: Option<&str>, ports: RangeInclusive<u16>) -> Result<Claim> {
    publisher.claim(&[wish(Protocol::Tcp, host_ip, Some(ports))], BOTH)
}

fn sentence(result: Result<Claim>) -> String {
    result.err().expect("it is taken").to_string()
}

fn listed(claim: &Claim) -> Vec<String> {
    let text = |port: &PublishedPort| SocketAddr::new(port.host_ip, port.host_port).to_string();
    claim.ports.iter().map(text).collect()
}

#[test]
fn a_wish_without_an_address_takes_both_families_and_frees_them_again() {
    alone(|| {
        let runtime = runtime();
        let publisher = publisher(&runtime, true);
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            for served in [false, true] {
                let wishes = [wish(protocol, None, Some(8080..=8080))];
                let claim = publisher.claim(&wishes, BOTH).expect("free");
                assert_eq!(listed(&claim), ["0.0.0.0:8080", "[::]:8080"]);
                if served {
                    claim.serve(None, None);
                }
                for address in [Some("127.0.0.1"), Some("::1"), Some("::"), None] {
                    let error = publisher.claim(&[wish(protocol, address, Some(8080..=8080))], BOTH);
                    assert!(sentence(error).ends_with(":8080 failed: port is already allocated"));
                }
            }
        }
        let only = publisher
            .claim(&[wish(Protocol::Tcp, None, Some(8080..=8080))], IPV4)
            .expect("free");
        assert_eq!(listed(&only), ["0.0.0.0:8080"]);
        let six = claim(&publisher, Some("::"), 8080..=8080).expect("the other family is free");
        assert_eq!(listed(&six), ["[::]:8080"]);
    });
}

#[test]
fn what_the_host_has_is_refused_and_nothing_is_left() {
    alone(|| {
        let runtime = runtime();
        let publisher = publisher(&runtime, true);
        let server = TcpListener::bind("127.0.0.1:8081").expect("free");
        let wishes = [8080, 8081].map(|port| wish(Protocol::Tcp, None, Some(port..=port)));
        let error = publisher.claim(&wishes, BOTH);
        assert_eq!(
            sentence(error),
            "failed to bind host port 0.0.0.0:8081/tcp: address already in use"
        );
        let error = claim(&publisher, Some("127.0.0.1"), 8081..=8081);
        assert_eq!(
            sentence(error),
            "failed to bind host port 127.0.0.1:8081/tcp: address already in use"
        );
        let error = claim(&publisher, Some("192.0.2.77"), 8080..=8080);
        assert_eq!(
            sentence(error),
            "failed to bind host port 192.0.2.77:8080/tcp: cannot assign requested address"
        );
        TcpListener::bind("0.0.0.0:8080").expect("the first wish is free again");
        drop(server);
        publisher.claim(&wishes, BOTH).expect("all free");
    });
}

#[test]
fn ranges_give_the_first_free_port() {
    alone(|| {
        let runtime = runtime();
        let publisher = publisher(&runtime, true);
        let _host = TcpListener::bind("0.0.0.0:8001").expect("free");
        let first = claim(&publisher, None, 8000..=8002).expect("8000");
        let second = claim(&publisher, None, 8000..=8002).expect("8002");
        assert_eq!((first.ports[0].host_port, second.ports[0].host_port), (8000, 8002));
        assert_eq!(
            sentence(claim(&publisher, None, 8000..=8002)),
            "Bind for 0.0.0.0:8000-8002 failed: all ports are allocated"
        );
        drop(first);
        assert_eq!(
            claim(&publisher, None, 8000..=8002).expect("8000").ports[0].host_port,
            8000
        );
    });
}

#[test]
fn ephemeral_ports_come_from_the_hosts_range_one_after_the_other() {
    alone(|| {
        crate::sysctl::write("ipv4/ip_local_port_range", "40000 40002").expect("own namespace");
        let runtime = runtime();
        let publisher = publisher(&runtime, true);
        let any = || publisher.claim(&[wish(Protocol::Tcp, None, None)], BOTH);
        let ports = [(); 4].map(|()| any().expect("free").ports[0].host_port);
        // Nobody is given what somebody had a moment ago, where it can be helped.
        let _all = [any(), any(), any()].map(|claim| claim.expect("free"));
        assert_eq!(ports, [40000, 40001, 40002, 40000]);
        assert_eq!(
            sentence(any()),
            "Bind for 0.0.0.0:40000-40002 failed: all ports are allocated"
        );
    });
}

#[test]
fn after_a_restart_ports_are_taken_again_and_lost_ones_are_told() {
    alone(|| {
        let runtime = runtime();
        let first = publisher(&runtime, true);
        let wishes = [8080, 8081].map(|port| wish(Protocol::Tcp, None, Some(port..=port)));
        let ports = first.claim(&wishes, BOTH).expect("free").ports.clone();
        drop(first);
        let _thief = TcpListener::bind("127.0.0.1:8081").expect("free");
        let second = publisher(&runtime, true);
        let claim = second.reclaim(&ports);
        assert_eq!(claim.ports, ports);
        assert_eq!(
            claim.missing,
            ["failed to bind host port 0.0.0.0:8081/tcp: address already in use"]
        );
        TcpListener::bind("[::1]:8080").expect_err("held");
        drop(claim);
        TcpListener::bind("[::1]:8080").expect("free");
    });
}

#[test]
fn without_descriptors_the_error_says_so_and_nothing_is_left() {
    // In a process of its own: the limit is the process's.
    const MARK: &str = "CORTEN_TEST_DESCRIPTORS";
    if std::env::var_os(MARK).is_none() {
        let name = "ports::tests::without_descriptors_the_error_says_so_and_nothing_is_left";
        let status = std::process::Command::new(std::env::current_exe().expect("a path"))
            .args([name, "--exact"])
            .env(MARK, "1")
            .status();
        assert!(status.expect("a process").success());
        return;
    }
    alone(|| {
        let runtime = runtime();
        let publisher = publisher(&runtime, true);
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = Some(64);
        setrlimit(Resource::Nofile, limit).expect("lower");
        let wishes: Vec<_> = (8000..8100)
            .map(|port| wish(Protocol::Tcp, None, Some(port..=port)))
            .collect();
        let error = publisher.claim(&wishes, BOTH).err().expect("too many");
        assert!(error.to_string().contains("RLIMIT_NOFILE"), "{error}");
        publisher.claim(&wishes[..10], BOTH).expect("nothing is left of it");
    });
}

/// A server with an address that only the proxy leads to.
fn upstream() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.7:80").expect("free");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

fn serve(publisher: &Publisher, protocol: Protocol) -> Claim {
    let claim = publisher
        .claim(&[wish(protocol, None, Some(8080..=8080))], BOTH)
        .expect("free");
    claim.serve(Some("127.0.0.7".parse().expect("an address")), None);
    claim
}

#[test]
fn connections_are_forwarded_and_each_half_closes_by_itself() {
    alone(|| {
        let runtime = runtime();
        let (upstream, _) = upstream();
        let claim = serve(&publisher(&runtime, true), Protocol::Tcp);
        let server = thread::spawn(move || {
            for _ in 0..2 {
                let (mut peer, _) = upstream.accept().expect("a client");
                let mut text = String::new();
                peer.read_to_string(&mut text).expect("until it is closed");
                peer.write_all(text.to_uppercase().as_bytes()).expect("still open");
            }
        });
        for host in [IpAddr::from(Ipv6Addr::LOCALHOST), LOCALHOST] {
            let mut client = TcpStream::connect((host, 8080)).expect("held");
            client.write_all(b"hello").expect("connected");
            client.shutdown(Shutdown::Write).expect("connected");
            let mut text = String::new();
            client.read_to_string(&mut text).expect("connected");
            assert_eq!(text, "HELLO");
        }
        server.join().expect("no panic");
        // Nobody listens now.
        let mut client = TcpStream::connect("[::1]:8080").expect("held");
        client.read(&mut [0]).expect_err("reset");
        drop(claim);
        TcpStream::connect("[::1]:8080").expect_err("closed at once");
        TcpListener::bind("[::]:8080").expect("free at once");
    });
}

#[test]
fn without_a_proxy_ports_are_held_and_connections_reset() {
    alone(|| {
        let runtime = runtime();
        let (_upstream, _) = upstream();
        let _claim = serve(&publisher(&runtime, false), Protocol::Tcp);
        let mut client = TcpStream::connect("[::1]:8080").expect("held");
        client.read(&mut [0]).expect_err("reset");
        TcpListener::bind("[::1]:8080").expect_err("held");
    });
}

#[test]
fn datagrams_are_forwarded_and_answers_find_their_clients() {
    alone(|| {
        let runtime = runtime();
        let server = UdpSocket::bind("127.0.0.7:80").expect("free");
        let claim = serve(&publisher(&runtime, true), Protocol::Udp);
        let clients = ["[::1]:0", "[::1]:0", "127.0.0.1:0"].map(|address| {
            let socket = UdpSocket::bind(address).expect("a port");
            socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a time");
            socket
        });
        let mut buffer = [0; 16];
        for round in 0..2 {
            for (number, client) in clients.iter().enumerate() {
                let host = if number < 2 {
                    IpAddr::from(Ipv6Addr::LOCALHOST)
                } else {
                    LOCALHOST
                };
                client.send_to(&[number as u8, round], (host, 8080)).expect("sent");
                let (length, peer) = server.recv_from(&mut buffer).expect("forwarded");
                server.send_to(&buffer[..length], peer).expect("sent");
            }
            for (number, client) in clients.iter().enumerate() {
                let length = client.recv(&mut buffer).expect("answered");
                assert_eq!(buffer[..length], [number as u8, round]);
            }
        }
        // An answer comes from where the question went.
        let client = UdpSocket::bind("127.0.0.1:0").expect("a port");
        client.set_read_timeout(Some(Duration::from_secs(5))).expect("a time");
        client.send_to(b"who", "127.0.0.5:8080").expect("sent");
        let (length, peer) = server.recv_from(&mut buffer).expect("forwarded");
        server.send_to(&buffer[..length], peer).expect("sent");
        let (_, from) = client.recv_from(&mut buffer).expect("answered");
        assert_eq!(from.to_string(), "127.0.0.5:8080");
        drop(claim);
        UdpSocket::bind("[::]:8080").expect("free at once");
    });
}

#[test]
fn what_is_routed_takes_no_port_of_the_host() {
    alone(|| {
        let runtime = runtime();
        let publisher = publisher(&runtime, true);
        let routed6 = Families {
            ipv6: Way::Routed,
            ..BOTH
        };
        let both = Families {
            ipv4: Way::Routed,
            ipv6: Way::Routed,
        };
        let wishes = |address| [wish(Protocol::Tcp, address, Some(8080..=8080))];
        let mixed = publisher.claim(&wishes(None), routed6).expect("free");
        assert_eq!(listed(&mixed), ["0.0.0.0:8080", "[::]:0"]);
        TcpListener::bind("[::1]:8080").expect("nobody has it");
        TcpListener::bind("127.0.0.1:8080").expect_err("it is published");
        for (address, expected) in [
            (None, &["0.0.0.0:0", "[::]:0"][..]),
            (Some("127.0.0.1"), &["0.0.0.0:0"]),
            (Some("::1"), &["[::]:0"]),
        ] {
            let one = publisher.claim(&wishes(address), both).expect("none is needed");
            let other = publisher.claim(&wishes(address), both).expect("by several");
            assert_eq!(listed(&one), expected);
            assert_eq!(listed(&other), expected);
        }
        let ports = mixed.ports.clone();
        drop(mixed);
        let again = publisher.reclaim(&ports);
        assert!(again.missing.is_empty(), "{:?}", again.missing);
        TcpListener::bind("127.0.0.1:8080").expect_err("it is published");
        TcpListener::bind("[::1]:8080").expect("nobody has it");
    });
}

#[test]
fn what_has_no_choice_goes_first_and_addresses_of_one_wish_have_one_port() {
    alone(|| {
        let runtime = runtime();
        let publisher = publisher(&runtime, true);
        let mut wishes = vec![
            wish(Protocol::Tcp, None, None),
            wish(Protocol::Tcp, None, Some(8000..=8002)),
            wish(Protocol::Tcp, None, Some(8000..=8000)),
        ];
        let claimed = publisher.claim(&wishes, IPV4).expect("there are enough");
        assert_eq!(listed(&claimed)[..2], ["0.0.0.0:8000", "0.0.0.0:8001"]);
        drop(claimed);
        // Of two ports, one is somebody's on one of the addresses.
        let _somebody = TcpListener::bind("[::1]:8000").expect("free");
        let ports = Some(8000..=8001);
        wishes = ["127.0.0.1", "::1", "127.0.0.2"]
            .map(|address| wish(Protocol::Tcp, Some(address), ports.clone()))
            .into();
        let claimed = publisher.claim(&wishes, BOTH).expect("the other is free");
        assert_eq!(listed(&claimed), ["127.0.0.1:8001", "[::1]:8001", "127.0.0.2:8001"]);
        TcpListener::bind("127.0.0.1:8000").expect("it was given back");
        drop(claimed);
        // The same address twice is two ports.
        wishes = vec![wish(Protocol::Udp, Some("127.0.0.1"), Some(8000..=8001)); 2];
        let claimed = publisher.claim(&wishes, BOTH).expect("both are free");
        assert_eq!(listed(&claimed), ["127.0.0.1:8000", "127.0.0.1:8001"]);
    });
}

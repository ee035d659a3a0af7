//! Names: 127.0.0.11 in containers on users' networks, and the files in /etc that name things.
use std::{net::TcpStream, time::Duration};

use corten_testkit::{
    daemon::Daemon,
    image,
    names::{
        A, AAAA, Answer, EMBEDDED, NO_ERROR, NO_SUCH_NAME, PTR, SERVER_FAILURE, TXT, Zone, query, receive, reverse_name,
    },
    wait::wait_until,
    world::{FAR, FAR6, OTHER, World, with_resolv_conf},
};

use crate::{
    network::{address, address6, is_foreign, serve, up, world, world_with},
    setup,
};

/// A daemon whose host has this resolver configuration, and a network `lane`.
fn world_with_resolver(resolv_conf: &str) -> (World, Daemon, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let world = World::new();
    let wrapper = with_resolv_conf(&directory.path().join("resolv.conf"), resolv_conf);
    let daemon = world.start(setup().wrapper(wrapper));
    daemon.load(&image::busybox());
    daemon.docker("network create lane").ok();
    (world, daemon, directory)
}

/// What the outside world knows.
fn zone(world: &World, address: &str) -> Zone {
    let text = "x".repeat(200);
    let mut records = vec![
        ("www.example.org", A, FAR),
        ("www.example.org", AAAA, FAR6),
        ("printer.office.test", A, "192.0.2.9"),
        ("1.2.0.192.in-addr.arpa", PTR, "www.example.org"),
    ];
    records.extend([("big.example.org", TXT, text.as_str()); 5]);
    Zone::serve(&world.other, address, &records)
}

#[test]
fn containers_find_each_other_by_name_alias_and_id() {
    let (_world, daemon) = world();
    daemon.docker("network create --ipv6 --subnet fd07::/64 lane").ok();
    let id = up(
        &daemon,
        "web",
        "--network lane --network-alias www --network-alias static --hostname other",
    );
    up(&daemon, "client", "--network lane");
    let (inside, web) = (daemon.network_of("client"), address(&daemon, "web", "lane"));
    for name in ["web", "www", "static", &id[..12], "WEB", "web."] {
        let answer = inside.resolve(name, A);
        assert_eq!((answer.code, answer.records), (NO_ERROR, vec![web.clone()]), "{name}");
    }
    assert_eq!(inside.resolve("web", A).time_to_live, Some(600));
    assert_eq!(inside.resolve("web", AAAA).records, [address6(&daemon, "web", "lane")]);
    assert_eq!(inside.resolve_tcp("web", A).records, std::slice::from_ref(&web));
    let reverse = inside.resolve(&reverse_name(web.parse().unwrap()), PTR);
    assert_eq!(reverse.records, ["web.lane"]);
    let six = address6(&daemon, "web", "lane");
    assert_eq!(
        inside.resolve(&reverse_name(six.parse().unwrap()), PTR).records,
        ["web.lane"]
    );
    // By the C library's own resolver, or busybox's.
    let said = daemon.exec("client", "nslookup web").ok();
    assert!(said.contains(&web) && said.contains("127.0.0.11"), "{said}");
    daemon.exec("client", "ping -c 1 -w 20 www").ok();
    let written = daemon.exec("client", "cat /etc/resolv.conf").ok();
    assert!(written.lines().any(|line| line == "nameserver 127.0.0.11"), "{written}");
    assert!(written.contains("options ") && written.contains("ndots:0"), "{written}");
}

#[test]
fn names_follow_containers() {
    let (_world, daemon) = world();
    daemon.docker("network create lane").ok();
    up(&daemon, "client", "--network lane");
    let inside = daemon.network_of("client");
    assert!(inside.addresses_of("web").is_empty());
    up(&daemon, "web", "--network lane");
    assert_eq!(inside.addresses_of("web"), [address(&daemon, "web", "lane")]);
    daemon.docker("rename web site").ok();
    assert_eq!(inside.addresses_of("site"), [address(&daemon, "site", "lane")]);
    assert!(inside.addresses_of("web").is_empty());
    daemon.docker("stop -t 0 site").ok();
    assert!(inside.addresses_of("site").is_empty());
    daemon.docker("start site").ok();
    assert_eq!(inside.addresses_of("site"), [address(&daemon, "site", "lane")]);
    // Other networks know nothing of it.
    daemon.docker("network create else").ok();
    up(&daemon, "stranger", "--network else");
    assert!(daemon.network_of("stranger").addresses_of("site").is_empty());
}

#[test]
fn a_name_of_several_containers_has_all_their_addresses() {
    let (_world, daemon) = world();
    daemon.docker("network create lane").ok();
    up(&daemon, "client", "--network lane");
    for name in ["web1", "web2", "web3"] {
        up(&daemon, name, "--network lane --network-alias web");
    }
    let mut expected = ["web1", "web2", "web3"]
        .map(|name| address(&daemon, name, "lane"))
        .to_vec();
    expected.sort();
    let inside = daemon.network_of("client");
    assert_eq!(inside.addresses_of("web"), expected);
    // Each is the first now and then.
    let mut firsts: Vec<String> = (0..60).map(|_| inside.resolve("web", A).records[0].clone()).collect();
    firsts.sort();
    firsts.dedup();
    assert_eq!(firsts, expected);
    daemon.docker("rm -f web2").ok();
    assert_eq!(inside.addresses_of("web").len(), 2);
}

#[test]
fn other_names_are_asked_of_the_hosts_resolver() {
    let (world, daemon, _directory) =
        world_with_resolver(&format!("nameserver {OTHER}\nsearch office.test\noptions ndots:2\n"));
    let zone = zone(&world, &format!("{OTHER}:53"));
    up(&daemon, "box", "--network lane");
    let inside = daemon.network_of("box");
    assert_eq!(inside.addresses_of("www.example.org"), [FAR]);
    assert_eq!(inside.resolve("www.example.org", AAAA).records, [FAR6]);
    assert_eq!(
        inside.resolve("1.2.0.192.in-addr.arpa", PTR).records,
        ["www.example.org"]
    );
    assert_eq!(inside.resolve("nothing.example.org", A).code, NO_SUCH_NAME);
    // What does not fit is said, and comes over TCP.
    let answer = inside.resolve("big.example.org", TXT);
    assert!(answer.truncated || answer.records.len() == 5, "{answer:?}");
    assert_eq!(inside.resolve_tcp("big.example.org", TXT).records.len(), 5);
    assert!(zone.questions().contains(&"www.example.org".to_owned()));
    // Names of ours are not told to anyone.
    inside.addresses_of("box");
    inside.resolve("box", AAAA);
    assert!(!zone.questions().contains(&"box".to_owned()), "{:?}", zone.questions());
    // The container's own configuration: the host's search domains and options, one resolver.
    let written = daemon.exec("box", "cat /etc/resolv.conf").ok();
    assert!(
        written.contains("nameserver 127.0.0.11") && written.contains("search office.test"),
        "{written}"
    );
    assert!(written.contains("ndots:2"), "{written}");
    let said = daemon.exec("box", "ping -c 1 -w 1 printer").error();
    assert!(!said.contains("bad address"), "{said}");
}

#[test]
fn the_default_network_uses_the_hosts_resolver_itself() {
    let (world, daemon, _directory) = world_with_resolver(&format!("nameserver {OTHER}\nsearch office.test\n"));
    let _zone = zone(&world, &format!("{OTHER}:53"));
    let written = daemon.docker("run --rm busybox cat /etc/resolv.conf").ok();
    assert!(
        written.contains(&format!("nameserver {OTHER}")) && written.contains("search office.test"),
        "{written}"
    );
    let said = daemon.docker("run --rm busybox nslookup www.example.org").ok();
    assert!(said.contains(FAR), "{said}");
}

#[test]
fn resolvers_of_a_containers_own() {
    let (world, daemon, _directory) = world_with_resolver("nameserver 192.0.2.250\n");
    let _zone = zone(&world, &format!("{FAR}:53"));
    for network in ["lane", "bridge"] {
        let options = format!("--network {network} --dns {FAR} --dns-search office.test --dns-option ndots:3");
        up(&daemon, network, &options);
        let written = daemon.exec(network, "cat /etc/resolv.conf").ok();
        let resolver = if network == "lane" { "127.0.0.11" } else { FAR };
        assert!(written.contains(&format!("nameserver {resolver}")), "{written}");
        assert!(
            written.contains("search office.test") && written.contains("ndots:3"),
            "{written}"
        );
        let said = daemon.exec(network, "nslookup www.example.org").ok();
        assert!(said.contains(FAR), "{said}");
    }
}

#[test]
fn a_resolver_on_the_hosts_loopback_serves_containers() {
    if is_foreign() {
        return; // Docker gives such containers public resolvers instead.
    }
    let (world, daemon, _directory) = world_with_resolver("nameserver 127.0.0.53\n");
    let _zone = Zone::serve(&world.host, "127.0.0.53:53", &[("www.example.org", A, FAR)]);
    up(&daemon, "box", "--network lane");
    assert_eq!(daemon.network_of("box").addresses_of("www.example.org"), [FAR]);
    let said = daemon.docker("run --rm busybox nslookup www.example.org").ok();
    assert!(said.contains(FAR), "{said}");
}

#[test]
fn a_resolver_that_is_silent_does_not_delay_our_own_names() {
    let (_world, daemon, _directory) = world_with_resolver("nameserver 192.0.2.250\n");
    up(&daemon, "box", "--network lane");
    up(&daemon, "web", "--network lane");
    let inside = daemon.network_of("box");
    let socket = inside.udp_to(EMBEDDED).unwrap();
    socket.send(&query(1, "www.example.org", A)).unwrap();
    assert_eq!(inside.addresses_of("web"), [address(&daemon, "web", "lane")]);
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    assert_eq!(receive(&socket).unwrap().code, SERVER_FAILURE);
}

#[test]
fn a_container_may_serve_names_itself() {
    let (_world, daemon) = world();
    daemon.docker("network create lane").ok();
    up(&daemon, "names", "--network lane");
    up(&daemon, "client", "--network lane");
    let own = daemon.network_of("names");
    let _zone = Zone::serve(&own, "0.0.0.0:53", &[("own.test", A, "192.0.2.3")]);
    let there = format!("{}:53", address(&daemon, "names", "lane"));
    let answer = daemon.network_of("client").try_resolve(&there, "own.test", A).unwrap();
    assert_eq!(answer.records, ["192.0.2.3"]);
    // And still asks 127.0.0.11 for its neighbours.
    assert_eq!(own.addresses_of("client"), [address(&daemon, "client", "lane")]);
}

#[test]
fn nonsense_is_survived_and_thousands_of_questions_are_answered() {
    let (world, daemon, _directory) = world_with_resolver(&format!("nameserver {OTHER}\n"));
    let _zone = zone(&world, &format!("{OTHER}:53"));
    up(&daemon, "box", "--network lane");
    let inside = daemon.network_of("box");
    let good = query(7, "box", A);
    let socket = inside.udp_to(EMBEDDED).unwrap();
    for length in 0..good.len() {
        socket.send(&good[..length]).ok();
    }
    for at in 0..good.len() {
        for bits in [0xff, 0x80, 0x01] {
            let mut message = good.clone();
            message[at] ^= bits;
            socket.send(&message).ok();
        }
    }
    // A name that points at itself, and one that is too long.
    socket.send(&[&good[..12], &[0xc0, 12, 0, 1, 0, 1]].concat()).ok();
    socket.send(&query(8, &"a.".repeat(200), A)).ok();
    // Over TCP: a length that does not come, and one that is a lie.
    let mut silent: Vec<TcpStream> = Vec::new();
    for bytes in [&[0xff, 0xff][..], &[0, 1, 0], &[0, 0], &[]] {
        let mut stream = inside.connect(EMBEDDED, Duration::from_secs(5)).unwrap();
        std::io::Write::write_all(&mut stream, bytes).ok();
        silent.push(stream);
    }
    let own = address(&daemon, "box", "lane");
    assert_eq!(inside.addresses_of("box"), std::slice::from_ref(&own));
    // Many at once, ours and others': ours are all answered.
    let crowd = inside.udp_to(EMBEDDED).unwrap();
    for round in 0..20 {
        for number in 0..100_u16 {
            crowd.send(&query(round * 100 + number, "www.example.org", A)).ok();
        }
        assert_eq!(inside.addresses_of("box"), std::slice::from_ref(&own));
    }
    // Others' are refused for as long as too many of them are on their way.
    wait_until("the crowd has passed", || {
        inside.addresses_of("www.example.org") == [FAR]
    });
    assert_eq!(inside.resolve_tcp("box", A).records, [own]);
    drop(silent);
}

#[test]
fn names_in_etc_hosts() {
    let (_world, daemon) = world();
    let hosts = daemon
        .docker("run --rm --name box --hostname inside --add-host db:192.0.2.7 --add-host gate:host-gateway busybox cat /etc/hosts")
        .ok();
    for line in [
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "192.0.2.7\tdb",
        "172.17.0.1\tgate",
        "172.17.0.2\tinside",
    ] {
        assert!(hosts.lines().any(|found| found == line), "no {line:?} in {hosts}");
    }
    assert_eq!(
        daemon
            .docker("run --rm --hostname inside busybox cat /etc/hostname")
            .ok(),
        "inside"
    );
    let error = daemon.docker("run --rm --add-host nonsense busybox true").fails(125);
    assert!(error.contains("nonsense"), "{error}");
    // Both addresses of a container on two networks.
    daemon.docker("network create red").ok();
    daemon.docker("network create blue").ok();
    up(&daemon, "two", "--network red --hostname two");
    daemon.docker("network connect blue two").ok();
    let hosts = daemon.exec("two", "cat /etc/hosts").ok();
    for network in ["red", "blue"] {
        let line = format!("{}\ttwo", address(&daemon, "two", network));
        assert!(hosts.contains(&line), "no {line:?} in {hosts}");
    }
}

#[test]
fn the_daemons_resolvers_are_everyones() {
    let (world, daemon) = world_with(&["--dns", OTHER, "--dns-search", "office.test", "--dns-opt", "ndots:4"]);
    let _zone = zone(&world, &format!("{OTHER}:53"));
    daemon.docker("network create lane").ok();
    for network in ["lane", "bridge"] {
        up(&daemon, network, &format!("--network {network}"));
        let written = daemon.exec(network, "cat /etc/resolv.conf").ok();
        assert!(
            written.contains("search office.test") && written.contains("ndots:4"),
            "{written}"
        );
        let said = daemon.exec(network, "nslookup www.example.org").ok();
        assert!(said.contains(FAR), "{said}");
    }
}

#[test]
fn names_work_through_icc_and_internal_networks() {
    let (_world, daemon) = world();
    daemon.docker("network create --internal cellar").ok();
    up(&daemon, "web", "--network cellar");
    up(&daemon, "client", "--network cellar");
    let _server = serve(&daemon, "web", 80);
    assert_eq!(
        daemon.network_of("client").addresses_of("web"),
        [address(&daemon, "web", "cellar")]
    );
    let Answer { code, records, .. } = daemon.network_of("client").resolve("www.example.org", A);
    assert!(code != NO_ERROR && records.is_empty());
}

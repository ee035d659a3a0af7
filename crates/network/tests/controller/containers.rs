//! Containers' way: reserve, attach, connect, disconnect, release.
use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    os::fd::AsFd,
    thread,
};

use corten_network::{error::Kind, model::NetworkRequest};

use crate::world::{Container, connect, endpoint, id, network, port, reaches, request, talk, world};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[test]
fn containers_reach_each_other_the_host_and_are_reached_by_published_ports() {
    world(|world| {
        let controller = world.daemon();
        let net = network(&controller, "web", "10.77.0.0/24", &[]);
        let mut wish = request("server", vec![endpoint(&net)]);
        wish.ports = vec![port(80, 18080)];
        let server = Container::start(&controller, &wish);
        let client = Container::start(&controller, &request("client", vec![endpoint(&net)]));
        server.serve(80);
        assert_eq!(server.ipv4().to_string(), "10.77.0.2");
        assert_eq!(
            server.attachment.ports.len(),
            2,
            "both families: {:?}",
            server.attachment.ports
        );
        let gateway = Some("10.77.0.1".parse().expect("valid"));
        assert_eq!(client.default_routes(), [("eth0".to_owned(), gateway)]);
        let at = server.at(80);
        assert!(client.run(move || reaches(at)), "by its address");
        assert!(reaches(at), "from the host by its address");
        assert!(reaches(SocketAddr::new(LOOPBACK, 18080)), "by the published port");
        let published = SocketAddr::new("10.77.0.1".parse().expect("valid"), 18080);
        assert!(
            client.run(move || reaches(published)),
            "by the published port, from a neighbour"
        );
        assert!(
            server.run(move || reaches(published)),
            "by the published port, from itself"
        );
        controller.release(&id("server"));
        TcpListener::bind(("0.0.0.0", 18080)).expect("the port is free again");
        connect(SocketAddr::new(LOOPBACK, 18080)).expect_err("nobody is there any more");
        controller.release(&id("server"));
    });
}

#[test]
fn what_cannot_be_had_whole_is_not_had_at_all() {
    world(|world| {
        let controller = world.daemon();
        let one = network(&controller, "one", "10.77.0.0/29", &[]);
        let two = network(&controller, "two", "10.78.0.0/30", &[]);
        let holder = TcpListener::bind(("0.0.0.0", 18080)).expect("free");
        let mut wish = request("c", vec![endpoint(&one), endpoint(&two)]);
        wish.ports = vec![port(80, 18081), port(80, 18080)];
        let error = controller.reserve(&wish).expect_err("the port is taken");
        assert!(error.to_string().contains("18080"), "{error}");
        drop(holder);
        let attachment = controller.reserve(&wish).expect("everything is free");
        assert_eq!(
            attachment.endpoints[1].ipv4.expect("has one").addr().to_string(),
            "10.78.0.2"
        );
        // The second network is full: the first loses nothing by it.
        for _ in 0..20 {
            let error = controller
                .reserve(&request("other", vec![endpoint(&one), endpoint(&two)]))
                .expect_err("full");
            assert!(error.to_string().contains("no available IPv4 addresses"), "{error}");
        }
        for name in ["x", "y", "z", "w"] {
            controller
                .reserve(&request(name, vec![endpoint(&one)]))
                .expect("four are left");
        }
        controller
            .reserve(&request("v", vec![endpoint(&one)]))
            .expect_err("none is left");
    });
}

#[test]
fn chosen_addresses_and_interfaces_are_given_and_refused() {
    world(|world| {
        let controller = world.daemon();
        let net = network(&controller, "web", "10.77.0.0/24 fd77::/64", &[]);
        let mut wish = endpoint(&net);
        wish.ipv4 = "10.77.0.50".parse().ok();
        wish.ipv6 = "fd77::50".parse().ok();
        wish.mac = "02:00:00:00:00:07".parse().ok();
        wish.options = [("com.docker.network.endpoint.ifname".to_owned(), "lan0".to_owned())].into();
        let container = Container::start(&controller, &request("c", vec![wish.clone()]));
        assert_eq!(container.interfaces(), ["lan0"]);
        let end = &container.attachment.endpoints[0];
        assert_eq!(end.ipv6.expect("it has one").to_string(), "fd77::50/64");
        assert_eq!(end.mac.expect("it has one").to_string(), "02:00:00:00:00:07");
        assert_eq!(container.default_routes().len(), 2, "{:?}", container.default_routes());
        let error = controller
            .reserve(&request("d", vec![wish.clone()]))
            .expect_err("taken");
        assert_eq!(error.to_string(), "Address already in use");
        wish.ipv4 = "10.99.0.1".parse().ok();
        assert_eq!(
            controller
                .reserve(&request("d", vec![wish]))
                .expect_err("outside")
                .kind(),
            Kind::Invalid
        );
        // Of a failed wish for two addresses, the first is free again.
        let mut half = endpoint(&net);
        half.ipv4 = "10.77.0.60".parse().ok();
        half.ipv6 = "fd77::50".parse().ok();
        controller
            .reserve(&request("d", vec![half.clone()]))
            .expect_err("the second is taken");
        half.ipv6 = None;
        controller
            .reserve(&request("d", vec![half]))
            .expect("the first is free");
        let error = controller
            .reserve(&request("e", vec![endpoint(&net), endpoint(&net)]))
            .expect_err("twice");
        assert_eq!(error.kind(), Kind::Forbidden);
    });
}

#[test]
fn a_running_container_joins_and_leaves_networks() {
    world(|world| {
        let controller = world.daemon();
        let one = network(&controller, "one", "10.77.0.0/24", &[]);
        let two = network(&controller, "two", "10.78.0.0/24", &[]);
        let mut wish = request("c", vec![endpoint(&one)]);
        wish.ports = vec![port(80, 18080)];
        let mut container = Container::start(&controller, &wish);
        container.serve(80);
        let neighbour = Container::start(&controller, &request("n", vec![endpoint(&two)]));
        let mut join = endpoint(&two);
        join.gateway_priority = 1;
        let namespace = container.namespace.clone();
        controller
            .connect(&mut container.attachment, &join, namespace.as_fd())
            .expect("joined");
        assert_eq!(container.interfaces(), ["eth0", "eth1"]);
        let routes = container.default_routes();
        assert_eq!(routes, [("eth1".to_owned(), "10.78.0.1".parse().ok())]);
        let new = SocketAddr::new(
            container.attachment.endpoints[1].ipv4.expect("has one").addr().into(),
            80,
        );
        assert!(neighbour.run(move || reaches(new)));
        assert!(
            reaches(SocketAddr::new(LOOPBACK, 18080)),
            "the published port goes where the default route goes"
        );
        let twice = controller.connect(&mut container.attachment, &join, namespace.as_fd());
        assert_eq!(twice.expect_err("it is on it").kind(), Kind::Forbidden);
        assert_eq!(container.attachment.endpoints.len(), 2);
        controller
            .disconnect(&mut container.attachment, &two.id, namespace.as_fd())
            .expect("left");
        assert_eq!(container.interfaces(), ["eth0"]);
        assert_eq!(
            container.default_routes(),
            [("eth0".to_owned(), "10.77.0.1".parse().ok())]
        );
        assert!(reaches(SocketAddr::new(LOOPBACK, 18080)), "back again");
        let again = controller.disconnect(&mut container.attachment, &two.id, namespace.as_fd());
        again.expect_err("it has left");
        controller
            .connect(&mut container.attachment, &endpoint(&two), namespace.as_fd())
            .expect("joined again");
        assert_eq!(container.interfaces(), ["eth0", "eth1"], "the next free number");
        assert_eq!(container.default_routes()[0].0, "eth0", "without a priority, by name");
        controller.release(&id("c"));
        controller.release(&id("n"));
        controller.remove(&two.id).expect("nobody is on it");
    });
}

#[test]
fn a_join_that_fails_changes_nothing() {
    world(|world| {
        let controller = world.daemon();
        let one = network(&controller, "one", "10.77.0.0/24", &[]);
        let two = network(&controller, "two", "10.78.0.0/30", &[]);
        let mut container = Container::start(&controller, &request("c", vec![endpoint(&one)]));
        let before = container.attachment.clone();
        let mut join = endpoint(&two);
        join.gateway_priority = 1;
        join.options = [(
            "com.docker.network.endpoint.sysctls".to_owned(),
            "net.ipv4.conf.IFNAME.no_such_switch=1".to_owned(),
        )]
        .into();
        let namespace = container.namespace.clone();
        controller
            .connect(&mut container.attachment, &join, namespace.as_fd())
            .expect_err("no such switch");
        assert_eq!(container.attachment, before);
        assert_eq!(container.interfaces(), ["eth0"]);
        assert_eq!(container.default_routes()[0].0, "eth0");
        // The one address of the second network is free again.
        join.options.clear();
        controller
            .connect(&mut container.attachment, &join, namespace.as_fd())
            .expect("joined");
    });
}

#[test]
fn eight_start_at_once_and_none_gets_anothers_address() {
    world(|world| {
        let controller = world.daemon();
        let net = network(&controller, "web", "10.77.0.0/24", &[]);
        for round in 0..4 {
            let addresses: Vec<Ipv4Addr> = thread::scope(|scope| {
                let starts: Vec<_> = (0..8)
                    .map(|number| {
                        let (controller, net) = (&controller, &net);
                        scope.spawn(move || {
                            let container =
                                Container::start(controller, &request(&format!("c{number}"), vec![endpoint(net)]));
                            assert_eq!(container.interfaces(), ["eth0"]);
                            container.ipv4()
                        })
                    })
                    .collect();
                starts.into_iter().map(|start| start.join().expect("started")).collect()
            });
            assert_eq!(
                addresses.iter().collect::<HashSet<_>>().len(),
                8,
                "{round}: {addresses:?}"
            );
            (0..8).for_each(|number| controller.release(&id(&format!("c{number}"))));
        }
    });
}

#[test]
fn a_thousand_starts_never_meet_an_address_that_was_just_given_back() {
    world(|world| {
        let controller = world.daemon();
        let net = network(&controller, "web", "10.77.0.0/16", &[]);
        let mut seen = HashSet::new();
        for _ in 0..1000 {
            let attachment = controller
                .reserve(&request("c", vec![endpoint(&net)]))
                .expect("reserved");
            assert!(seen.insert(attachment.endpoints[0].ipv4), "{attachment:?}");
            controller.release(&id("c"));
        }
    });
}

#[test]
fn dual_stack_servers_are_reached_over_ipv6_as_well() {
    world(|world| {
        let controller = world.daemon();
        let net = network(&controller, "web", "10.77.0.0/24 fd77::/64", &[]);
        let one = Container::start(&controller, &request("one", vec![endpoint(&net)]));
        let two = Container::start(&controller, &request("two", vec![endpoint(&net)]));
        let listener = one.run(|| TcpListener::bind("[::]:80").expect("free"));
        let server = thread::spawn(move || listener.accept().map(drop));
        let address = one.attachment.endpoints[0].ipv6.expect("it has one").addr();
        let mut stream = two
            .run(move || connect(SocketAddr::new(address.into(), 80)))
            .expect("reached");
        server.join().expect("no panic").expect("accepted");
        assert!(!talk(&mut stream, b'x'), "it was only accepted");
    });
}

#[test]
fn whoever_restarts_with_an_address_of_its_own_is_not_taken_for_its_predecessor() {
    world(|world| {
        let controller = world.daemon();
        let net = network(&controller, "web", "10.77.0.0/24", &[]);
        let mut wish = endpoint(&net);
        wish.ipv4 = "10.77.0.50".parse().ok();
        // Their namespaces live on, as the kernel's own do for a while.
        let mut ended = Vec::new();
        for _ in 0..4 {
            let container = Container::start(&controller, &request("c", vec![wish.clone()]));
            let listener = container.run(|| TcpListener::bind("0.0.0.0:80").expect("free"));
            connect(container.at(80)).expect("the one that listens is reached");
            drop(listener);
            controller.release(&id("c"));
            ended.push(container);
        }
    });
}

#[test]
fn ports_are_published_as_long_as_a_network_leads_out() {
    world(|world| {
        let controller = world.daemon();
        let inner = NetworkRequest {
            name: "inner".to_owned(),
            internal: true,
            ..NetworkRequest::default()
        };
        let inner = controller.create(&id("inner"), &inner, |_| Ok(())).expect("made");
        let outer = network(&controller, "outer", "10.77.0.0/24", &[]);
        let mut wish = request("c", vec![endpoint(&inner)]);
        wish.ports = vec![port(80, 18080)];
        let published = SocketAddr::new(LOOPBACK, 18080);
        let mut container = Container::start(&controller, &wish);
        container.serve(80);
        assert!(container.attachment.ports.is_empty() && container.default_routes().is_empty());
        let namespace = container.namespace.clone();
        // Somebody else has the port: the join fails, and changes nothing.
        let holder = TcpListener::bind(("0.0.0.0", 18080)).expect("nobody holds it");
        let before = container.attachment.clone();
        let join = endpoint(&outer);
        controller
            .connect(&mut container.attachment, &join, namespace.as_fd())
            .expect_err("the port is taken");
        assert_eq!(
            (&container.attachment, container.interfaces()),
            (&before, vec!["eth0".to_owned()])
        );
        drop(holder);
        controller
            .connect(&mut container.attachment, &join, namespace.as_fd())
            .expect("joined");
        assert_eq!(container.attachment.ports.len(), 2);
        assert!(reaches(published));
        controller
            .disconnect(&mut container.attachment, &outer.id, namespace.as_fd())
            .expect("left");
        assert!(container.attachment.ports.is_empty());
        TcpListener::bind(("0.0.0.0", 18080)).expect("free again");
    });
}

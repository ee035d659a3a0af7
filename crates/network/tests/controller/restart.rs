//! A daemon that was killed at any instant, and a host that was started again.
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    os::fd::AsFd,
};

use corten_network::controller::{Controller, Restored};

use crate::world::{Container, connect, endpoint, id, interfaces, network, port, reaches, request, talk, world};

const PUBLISHED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 18080);

fn restore(controller: &Controller, networks: &[corten_network::model::Network], running: &[&Container]) {
    let running: Vec<Restored> = running
        .iter()
        .map(|container| Restored {
            attachment: &container.attachment,
            namespace: container.namespace.as_fd(),
            links: Vec::new(),
        })
        .collect();
    let failures = controller.restore(networks, &running);
    assert!(failures.is_empty(), "{failures:?}");
}

#[test]
fn the_next_daemon_takes_over_and_connections_live_on() {
    world(|world| {
        let first = world.daemon();
        let net = network(&first, "web", "10.77.0.0/24", &[]);
        let mut wish = request("c", vec![endpoint(&net)]);
        wish.ports = vec![port(80, 18080)];
        let container = Container::start(&first, &wish);
        container.serve(80);
        let mut open = connect(PUBLISHED).expect("reached");
        assert!(talk(&mut open, b'1'));
        drop(first);
        assert!(talk(&mut open, b'2'), "nobody is needed for what is established");
        let second = world.controller();
        restore(&second, std::slice::from_ref(&net), &[&container]);
        assert!(talk(&mut open, b'3'));
        assert!(reaches(PUBLISHED));
        TcpListener::bind(("0.0.0.0", 18080)).expect_err("the port is held");
        // The address and the subnet are taken.
        let mut same = endpoint(&net);
        same.ipv4 = Some(container.ipv4());
        let error = second.reserve(&request("d", vec![same])).expect_err("taken");
        assert_eq!(error.to_string(), "Address already in use");
        let other = second.reserve(&request("d", vec![endpoint(&net)])).expect("the next");
        assert_eq!(
            other.endpoints[0].ipv4.expect("it has one").addr().to_string(),
            "10.77.0.3"
        );
        second.remove(&net.id).expect_err("in use");
        second.release(&id("c"));
        connect(PUBLISHED).expect_err("released");
    });
}

#[test]
fn restoring_twice_changes_nothing() {
    world(|world| {
        let first = world.daemon();
        let net = network(&first, "web", "10.77.0.0/24", &[]);
        let mut wish = request("c", vec![endpoint(&net)]);
        wish.ports = vec![port(80, 18080)];
        let container = Container::start(&first, &wish);
        container.serve(80);
        drop(first);
        for _ in 0..3 {
            let next = world.controller();
            restore(&next, std::slice::from_ref(&net), &[&container]);
            assert!(reaches(PUBLISHED));
            assert_eq!(interfaces().iter().filter(|name| name.starts_with("veth")).count(), 1);
        }
    });
}

#[test]
fn what_nobody_recorded_is_swept_away_and_what_is_recorded_is_made() {
    world(|world| {
        let first = world.daemon();
        let net = network(&first, "web", "10.77.0.0/24", &[]);
        let unknown = network(&first, "lost", "10.78.0.0/24", &[]);
        // Killed while these started: their processes are gone, their records say nothing.
        let stray = Container::start(&first, &request("stray", vec![endpoint(&net)]));
        drop(first);
        let second = world.controller();
        restore(&second, std::slice::from_ref(&net), &[]);
        let names = interfaces();
        assert!(
            names.contains(&net.interface) && !names.contains(&unknown.interface),
            "{names:?}"
        );
        assert!(!names.iter().any(|name| name.starts_with("veth")), "{names:?}");
        drop(stray);
        // What the first daemon had for it is free.
        let mut same = endpoint(&net);
        same.ipv4 = "10.77.0.2".parse().ok();
        second.reserve(&request("c", vec![same])).expect("free");
    });
}

#[test]
fn after_a_start_of_the_host_everything_is_made_again() {
    let (net, wish) = {
        let (sender, receiver) = std::sync::mpsc::channel();
        world(move |world| {
            let first = world.daemon();
            let net = network(&first, "web", "", &[("com.docker.network.bridge.enable_icc", "true")]);
            sender.send(net).expect("there is a receiver");
        });
        let net = receiver.recv().expect("sent");
        let wish = request("c", vec![endpoint(&net)]);
        (net, wish)
    };
    world(move |world| {
        let controller = world.controller();
        restore(&controller, std::slice::from_ref(&net), &[]);
        let container = Container::start(&controller, &wish);
        container.serve(80);
        assert!(reaches(container.at(80)));
    });
}

#[test]
fn containers_come_back_to_a_bridge_that_was_removed_under_them() {
    world(|world| {
        let first = world.daemon();
        let net = network(&first, "web", "10.77.0.0/24", &[]);
        let container = Container::start(&first, &request("c", vec![endpoint(&net)]));
        container.serve(80);
        drop(first);
        let words = ["link", "del", net.interface.as_str()];
        assert!(
            std::process::Command::new("ip")
                .args(words)
                .status()
                .expect("iproute2")
                .success()
        );
        let second = world.controller();
        restore(&second, std::slice::from_ref(&net), &[&container]);
        assert!(reaches(container.at(80)));
    });
}

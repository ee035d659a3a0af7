//! The verbs on networks: create, remove, and what they leave.
use corten_network::{
    error::{Error, Kind},
    model::{NetworkRequest, SubnetRequest},
};

use crate::world::{Container, endpoint, id, interfaces, network, request, world};

#[test]
fn a_network_has_a_bridge_while_it_exists() {
    world(|world| {
        let controller = world.daemon();
        let net = network(&controller, "web", "", &[]);
        assert_eq!(net.subnets[0].subnet.to_string(), "172.17.0.0/16");
        assert!(interfaces().contains(&net.interface));
        let second = network(&controller, "db", "", &[("com.docker.network.bridge.name", "db0")]);
        assert_eq!(second.subnets[0].subnet.to_string(), "172.18.0.0/16");
        assert!(interfaces().contains(&"db0".to_owned()));
        controller.remove(&net.id).expect("nobody is on it");
        assert!(!interfaces().contains(&net.interface));
        assert_eq!(
            controller.remove(&net.id).expect_err("it is gone").kind(),
            Kind::NotFound
        );
        // Its subnet is free again.
        assert_eq!(
            network(&controller, "other", "", &[]).subnets[0].subnet.to_string(),
            "172.17.0.0/16"
        );
    });
}

#[test]
fn one_with_containers_on_it_stays() {
    world(|world| {
        let controller = world.daemon();
        let net = network(&controller, "web", "", &[]);
        let container = Container::start(&controller, &request("c", vec![endpoint(&net)]));
        let error = controller.remove(&net.id).expect_err("in use");
        assert_eq!(error.kind(), Kind::Forbidden);
        assert!(error.to_string().contains("has active endpoints"), "{error}");
        assert!(interfaces().contains(&net.interface));
        drop(container);
        controller.release(&id("c"));
        controller.remove(&net.id).expect("nobody is on it");
    });
}

#[test]
fn what_fails_leaves_nothing() {
    world(|world| {
        let controller = world.daemon();
        let before = interfaces();
        let wish = NetworkRequest {
            name: "web".to_owned(),
            ..NetworkRequest::default()
        };
        // Whoever should have written it down could not.
        let error = controller.create(&id("web"), &wish, |_| Err(Error::system("the disk is full")));
        assert_eq!(error.expect_err("refused").to_string(), "the disk is full");
        assert_eq!(interfaces(), before);
        // Something that is no bridge has the name.
        let taken = [("com.docker.network.bridge.name".to_owned(), "lo".to_owned())].into();
        let wish = NetworkRequest { options: taken, ..wish };
        controller.create(&id("web"), &wish, |_| Ok(())).expect_err("no bridge");
        assert_eq!(interfaces(), before);
        assert_eq!(
            network(&controller, "web", "", &[]).subnets[0].subnet.to_string(),
            "172.17.0.0/16"
        );
    });
}

#[test]
fn a_bridge_of_an_administrators_is_used_and_left() {
    world(|world| {
        let controller = world.daemon();
        for command in [
            "link add mine type bridge",
            "addr add 10.50.0.7/24 dev mine",
            "link set mine up",
        ] {
            let words = command.split(' ');
            assert!(
                std::process::Command::new("ip")
                    .args(words)
                    .status()
                    .expect("iproute2")
                    .success()
            );
        }
        let net = network(&controller, "web", "", &[("com.docker.network.bridge.name", "mine")]);
        assert!(net.adopted);
        assert_eq!(net.subnets[0].subnet.to_string(), "10.50.0.0/24");
        assert_eq!(net.subnets[0].gateway, "10.50.0.7".parse().ok());
        let container = Container::start(&controller, &request("c", vec![endpoint(&net)]));
        assert_eq!(container.ipv4().to_string(), "10.50.0.1");
        controller.release(&id("c"));
        controller.remove(&net.id).expect("nobody is on it");
        assert!(interfaces().contains(&"mine".to_owned()));
        // A route of the host's is in the way of what we choose, not of what users ask for.
        let chosen = network(&controller, "db", "", &[]);
        assert_eq!(chosen.subnets[0].subnet.to_string(), "172.17.0.0/16");
        let error = controller.create(
            &id("x"),
            &NetworkRequest {
                name: "x".to_owned(),
                subnets: vec![SubnetRequest {
                    subnet: "172.17.5.0/24".parse().ok(),
                    ..SubnetRequest::default()
                }],
                ..NetworkRequest::default()
            },
            |_| Ok(()),
        );
        let text = error.expect_err("overlap").to_string();
        assert!(
            text.contains("Pool overlaps with other one on this address space") && text.contains("db"),
            "{text}"
        );
    });
}

#[test]
fn pools_end_with_a_clear_error() {
    world(|world| {
        let controller = world.daemon();
        for number in 0..31 {
            network(&controller, &format!("n{number}"), "", &[]);
        }
        let wish = NetworkRequest {
            name: "more".to_owned(),
            ..NetworkRequest::default()
        };
        let error = controller.create(&id("more"), &wish, |_| Ok(())).expect_err("no more");
        assert_eq!(
            error.to_string(),
            "all predefined address pools have been fully subnetted"
        );
    });
}

#[test]
fn macvlan_networks_without_a_parent_are_islands() {
    world(|world| {
        let controller = world.daemon();
        let wish = NetworkRequest {
            name: "island".to_owned(),
            driver: "macvlan".to_owned(),
            ..NetworkRequest::default()
        };
        let net = controller.create(&id("island"), &wish, |_| Ok(())).expect("made");
        assert!(net.internal && net.subnets[0].gateway.is_none());
        let one = Container::start(&controller, &request("one", vec![endpoint(&net)]));
        let two = Container::start(&controller, &request("two", vec![endpoint(&net)]));
        one.serve(80);
        let at = one.at(80);
        assert!(two.run(move || crate::world::reaches(at)));
        assert!(two.default_routes().is_empty());
        drop((one, two));
        controller.release(&id("one"));
        controller.release(&id("two"));
        controller.remove(&net.id).expect("nobody is on it");
        assert!(!interfaces().contains(&net.interface));
    });
}

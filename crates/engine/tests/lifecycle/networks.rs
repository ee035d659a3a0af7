//! Containers on networks: addresses, published ports, other containers' namespaces, joining and leaving.
//!
//! The whole executable runs in a network namespace of its own, which stands for the host.
use std::{
    io::Read,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use corten_api::types::{
    container::{Empty, PortBinding},
    network::{EndpointIpam, EndpointSettings},
};
use corten_engine::{
    container::view::{ContainerView, CreateOptions, RemoveOptions},
    error::Kind,
    network::record::CreateNetwork,
};
use corten_network::model::{NetworkRequest, SubnetRequest};

use crate::world::{PATIENCE, World, config, named, parent, shell};

crate::tests![
    a_container_has_an_address_on_the_default_bridge,
    a_published_port_answers_and_is_free_again,
    a_port_in_use_is_an_error_that_leaves_nothing,
    a_network_that_is_gone_is_named,
    a_static_address_is_had_once,
    a_container_joins_the_namespace_of_another,
    links_are_hosts_and_variables,
    networks_are_joined_and_left_while_it_runs,
    attachments_survive_the_daemon,
    create_refuses_what_contradicts_itself,
    settings_of_an_interface_are_made,
    the_default_network_follows_its_configuration,
];

fn on(network: &str, mut options: CreateOptions) -> CreateOptions {
    options.host_config.network_mode = network.to_owned();
    options
}

fn publish(port: &str, host_port: u16, mut options: CreateOptions) -> CreateOptions {
    let binding = PortBinding {
        host_ip: String::new(),
        host_port: host_port.to_string(),
    };
    let ports = options.host_config.port_bindings.get_or_insert_default();
    ports.insert(port.to_owned(), Some(vec![binding]));
    options
}

/// Says one word to everybody who connects.
fn server(word: &str) -> CreateOptions {
    let script = format!("while :; do echo {word} | /bin/busybox nc -l -p 80; done");
    on("bridge", shell(&script))
}

fn inspect(world: &World, id: &str) -> ContainerView {
    world.engine().containers().inspect(id).expect("known")
}

fn address(world: &World, id: &str, network: &str) -> Ipv4Addr {
    let attachment = inspect(world, id).state.attachment.clone().expect("attached");
    let endpoint = attachment.endpoints.iter().find(|end| end.network_name == network);
    endpoint.expect("on it").ipv4.expect("an address").addr()
}

/// What a server says, once it listens.
pub fn hear(address: SocketAddr) -> String {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let mut text = String::new();
        let heard = TcpStream::connect_timeout(&address, Duration::from_secs(1)).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.read_to_string(&mut text)
        });
        match heard {
            Ok(_) if !text.is_empty() => return text.trim().to_owned(),
            outcome if std::time::Instant::now() > deadline => panic!("{address} says nothing: {outcome:?} {text:?}"),
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// What a container finds in a file of its own.
fn file(world: &World, id: &str, name: &str) -> String {
    std::fs::read_to_string(world.directory.path().join("data/containers").join(id).join(name)).expect(name)
}

async fn network(world: &World, name: &str, subnet: Option<&str>) -> String {
    let request = NetworkRequest {
        name: name.to_owned(),
        subnets: subnet
            .map(|subnet| SubnetRequest {
                subnet: Some(subnet.parse().expect("a subnet")),
                ..SubnetRequest::default()
            })
            .into_iter()
            .collect(),
        ..NetworkRequest::default()
    };
    let asked = CreateNetwork {
        request,
        ..CreateNetwork::default()
    };
    world.engine().networks().create(asked).await.expect("made")
}

async fn a_container_has_an_address_on_the_default_bridge() {
    let world = World::new().await;
    let (_, mut events) = world.engine().events().subscribe(None);
    let id = world.start(server("hello")).await;
    let own = address(&world, &id, "bridge");
    assert_eq!(hear((own, 80).into()), "hello");
    assert!(file(&world, &id, "hosts").contains(&format!("{own}\t{}", &id[..12])));
    world.remove(&id).await;
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        told.push(format!("{} {}", event.kind, event.action));
    }
    assert_eq!(
        told,
        [
            "container create",
            "network connect",
            "container start",
            "container kill",
            "network disconnect",
            "container die",
            "container destroy"
        ]
    );
    world.assert_clean();
}

async fn a_published_port_answers_and_is_free_again() {
    let world = World::new().await;
    // As in a script: the next one wants the port as soon as the one before is gone.
    for round in 0..10 {
        let word = format!("round-{round}");
        let id = world.start(publish("80/tcp", 18_080, server(&word))).await;
        assert_eq!(hear((Ipv4Addr::LOCALHOST, 18_080).into()), word);
        let ports = inspect(&world, &id).state.attachment.clone().expect("attached").ports;
        assert!(
            ports
                .iter()
                .all(|port| (port.container_port, port.host_port) == (80, 18_080))
        );
        world.remove(&id).await;
    }
    world.assert_clean();
}

async fn a_port_in_use_is_an_error_that_leaves_nothing() {
    let world = World::new().await;
    let containers = world.engine().containers();
    let first = world
        .start(publish("80/tcp", 18_081, named("first", server("first"))))
        .await;
    let second = world
        .create(publish("80/tcp", 18_081, named("second", server("second"))))
        .await;
    let error = containers.start(&second).await.expect_err("in use").to_string();
    assert!(
        error.starts_with("driver failed programming external connectivity on endpoint second ("),
        "{error}"
    );
    assert!(
        error.ends_with("Bind for 0.0.0.0:18081 failed: port is already allocated"),
        "{error}"
    );
    let state = inspect(&world, &second).state;
    assert_eq!((state.phase.status(), state.exit_code), ("created", 128));
    assert!(state.attachment.is_none());
    assert_eq!(world.names("run/tasks"), std::slice::from_ref(&first));
    assert_eq!(hear((Ipv4Addr::LOCALHOST, 18_081).into()), "first");

    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 18_082)).expect("free");
    let third = world.create(publish("80/tcp", 18_082, server("third"))).await;
    let error = containers.start(&third).await.expect_err("in use").to_string();
    assert!(error.contains("address already in use"), "{error}");
    drop(taken);
    containers.start(&third).await.expect("free now");
    assert_eq!(hear((Ipv4Addr::LOCALHOST, 18_082).into()), "third");
    for id in [first, second, third] {
        world.remove(&id).await;
    }
    world.assert_clean();
}

async fn a_network_that_is_gone_is_named() {
    let world = World::new().await;
    let id = world.create(on("nowhere", shell("true"))).await;
    let error = world.engine().containers().start(&id).await.expect_err("no network");
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (Kind::NotFound, "network nowhere not found")
    );
    network(&world, "nowhere", None).await;
    world.engine().containers().start(&id).await.expect("it is there now");
    world.remove(&id).await;
    world.assert_clean();
}

async fn a_static_address_is_had_once() {
    let world = World::new().await;
    network(&world, "fixed", Some("10.99.7.0/24")).await;
    network(&world, "chosen", None).await;
    let with_address = |network: &str, address: &str| {
        let mut options = on(network, shell("sleep 100"));
        let wish = EndpointSettings {
            ipam_config: Some(EndpointIpam {
                ipv4_address: address.to_owned(),
                ..EndpointIpam::default()
            }),
            mac_address: "02:00:00:00:07:09".to_owned(),
            ..EndpointSettings::default()
        };
        let endpoints = &mut options.networking.endpoints_config;
        endpoints.insert(network.to_owned(), Some(wish));
        options
    };
    let containers = world.engine().containers();
    // As in a script: the address is had again as soon as its last user is gone.
    let mut last = String::new();
    for _ in 0..5 {
        if !last.is_empty() {
            world.remove(&last).await;
        }
        last = world.start(with_address("fixed", "10.99.7.9")).await;
        assert_eq!(address(&world, &last, "fixed"), Ipv4Addr::new(10, 99, 7, 9));
    }
    let second = world.create(with_address("fixed", "10.99.7.9")).await;
    let error = containers.start(&second).await.expect_err("taken");
    assert_eq!(error.to_string(), "Address already in use");
    let refused = containers
        .create_on(Default::default(), with_address("chosen", "10.1.2.3"))
        .await
        .expect_err("no subnet of the user's");
    assert!(
        refused.to_string().ends_with(
            "user specified IP address is supported only when connecting to networks with user configured subnets"
        ),
        "{refused}"
    );
    world.remove(&last).await;
    containers.start(&second).await.expect("free now");
    world.remove(&second).await;
    world.assert_clean();
}

async fn a_container_joins_the_namespace_of_another() {
    let world = World::new().await;
    let containers = world.engine().containers();
    let target = world.start(named("target", server("hello"))).await;
    let script = "while :; do /bin/busybox nc 127.0.0.1 80 > /etc/hostname && break; sleep 0.05; done; sleep 100";
    let guest = world.start(on("container:target", shell(script))).await;
    let namespace = |id: &str| {
        let pid = inspect(&world, id).state.pid;
        std::fs::read_link(format!("/proc/{pid}/ns/net")).expect("runs")
    };
    assert_eq!(namespace(&target), namespace(&guest));
    let record = inspect(&world, &guest).record;
    assert_eq!(record.host_config.network_mode, format!("container:{target}"));
    assert_eq!(record.config.hostname, target[..12]);
    assert!(inspect(&world, &guest).state.attachment.is_none());
    // It has the other's files, not copies.
    let deadline = std::time::Instant::now() + PATIENCE;
    while file(&world, &target, "hostname") != "hello\n" {
        assert!(
            std::time::Instant::now() < deadline,
            "{}",
            file(&world, &target, "hostname")
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let error = containers
        .create_on(Default::default(), {
            let mut options = on("container:target", shell("true"));
            options.config.hostname = "mine".to_owned();
            options
        })
        .await
        .expect_err("its name is the other's");
    assert_eq!(error.to_string(), "conflicting options: hostname and the network mode");

    containers.restart(&target, None, Some(0)).await.expect("restarted");
    containers.restart(&guest, None, Some(0)).await.expect("restarted");
    assert_eq!(namespace(&target), namespace(&guest));
    containers.stop(&guest, None, Some(0)).await.expect("stopped");
    containers.stop(&target, None, Some(0)).await.expect("stopped");
    let error = containers.start(&guest).await.expect_err("nobody to join");
    assert_eq!(
        error.to_string(),
        format!("cannot join network of a non running container: {target}")
    );
    world.remove(&guest).await;
    world.remove(&target).await;
    world.assert_clean();
}

async fn links_are_hosts_and_variables() {
    let mut world = World::new().await;
    let mut options = named("db", server("data"));
    options.config.exposed_ports = Some([("80/tcp".to_owned(), Empty {})].into());
    options.config.env = vec!["USER=me".to_owned()];
    let db = world.start(options).await;
    let mut options = on("bridge", shell("env > /etc/hostname; sleep 100"));
    options.host_config.links = Some(vec!["db:store".to_owned()]);
    let web = world.start(named("web", options)).await;
    let deadline = std::time::Instant::now() + PATIENCE;
    while !file(&world, &web, "hostname").contains("STORE_ENV_USER=me") {
        assert!(
            std::time::Instant::now() < deadline,
            "{}",
            file(&world, &web, "hostname")
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let at = address(&world, &db, "bridge");
    let variables = file(&world, &web, "hostname");
    for line in [format!("STORE_PORT=tcp://{at}:80"), "STORE_NAME=/web/store".to_owned()] {
        assert!(variables.lines().any(|known| known == line), "{line} in {variables}");
    }
    let entry = |world: &World| format!("{}\tstore {} db", address(world, &db, "bridge"), &db[..12]);
    assert!(file(&world, &web, "hosts").contains(&entry(&world)));
    // It moves, before and after a change of daemons.
    for _ in 0..2 {
        world
            .engine()
            .containers()
            .stop(&db, None, Some(0))
            .await
            .expect("stopped");
        let between = world.start(server("in between")).await;
        world.engine().containers().start(&db).await.expect("started");
        let deadline = std::time::Instant::now() + PATIENCE;
        while !file(&world, &web, "hosts").contains(&entry(&world)) {
            assert!(std::time::Instant::now() < deadline, "{}", file(&world, &web, "hosts"));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let hosts = file(&world, &web, "hosts");
        assert_eq!(
            hosts.lines().filter(|line| line.contains("store")).count(),
            1,
            "{hosts}"
        );
        world.remove(&between).await;
        world.open().await;
    }
    let containers = world.engine().containers();
    containers.stop(&web, None, Some(0)).await.expect("stopped");
    containers.stop(&db, None, Some(0)).await.expect("stopped");
    let error = containers.start(&web).await.expect_err("db does not run");
    assert_eq!(
        error.to_string(),
        "Cannot link to a non running container: /db AS /web/store"
    );
    let mut options = on("bridge", shell("true"));
    options.host_config.links = Some(vec!["nobody".to_owned()]);
    let error = containers
        .create_on(Default::default(), options)
        .await
        .expect_err("nobody");
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (
            Kind::Invalid,
            "could not get container for nobody: No such container: nobody"
        )
    );
    world.remove(&web).await;
    world.remove(&db).await;
    world.assert_clean();
}

async fn networks_are_joined_and_left_while_it_runs() {
    let world = World::new().await;
    let (networks, containers) = (world.engine().networks(), world.engine().containers());
    let back = network(&world, "back", Some("10.99.8.0/24")).await;
    let id = world.start(named("web", server("hello"))).await;
    let wish = |alias: &str| EndpointSettings {
        aliases: Some(vec![alias.to_owned()]),
        ..EndpointSettings::default()
    };
    networks.connect("back", "web", wish("front")).await.expect("joined");
    let at = address(&world, &id, "back");
    assert_eq!(hear((at, 80).into()), "hello");
    assert!(file(&world, &id, "hosts").contains(&at.to_string()));
    let endpoint = |id: &str| {
        let attachment = inspect(&world, id).state.attachment.clone().expect("attached");
        attachment.endpoint(&back).cloned()
    };
    assert_eq!(endpoint(&id).expect("on it").names, ["web", "front", &id[..12]]);
    let error = networks
        .connect(&back, &id, EndpointSettings::default())
        .await
        .expect_err("twice");
    assert_eq!(
        error.to_string(),
        "endpoint with name web already exists in network back"
    );
    for (network, words) in [
        (
            "host",
            "container cannot be disconnected from host network or connected to host network",
        ),
        (
            "none",
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        ),
    ] {
        let error = networks
            .connect(network, &id, EndpointSettings::default())
            .await
            .expect_err(network);
        assert_eq!(error.to_string(), words);
    }
    containers.rename("web", "shop").await.expect("renamed");
    assert_eq!(endpoint(&id).expect("on it").names[0], "shop");
    networks.disconnect("back", "shop", false).await.expect("left");
    assert!(endpoint(&id).is_none());
    assert!(!file(&world, &id, "hosts").contains(&at.to_string()));
    let error = networks
        .disconnect("back", "shop", false)
        .await
        .expect_err("left already");
    assert_eq!(
        error.to_string(),
        format!("container {id} is not connected to network back")
    );
    // Its last one, and back again.
    networks.disconnect("bridge", "shop", false).await.expect("left");
    assert!(
        inspect(&world, &id)
            .state
            .attachment
            .clone()
            .expect("still its own")
            .endpoints
            .is_empty()
    );
    networks.connect("back", "shop", wish("front")).await.expect("joined");
    assert_eq!(hear((address(&world, &id, "back"), 80).into()), "hello");
    // At rest only the wishes change.
    containers.stop("shop", None, Some(0)).await.expect("stopped");
    networks
        .connect("bridge", "shop", EndpointSettings::default())
        .await
        .expect("noted");
    containers.start("shop").await.expect("started");
    assert_eq!(hear((address(&world, &id, "bridge"), 80).into()), "hello");
    assert_eq!(hear((address(&world, &id, "back"), 80).into()), "hello");

    let host = world.start(on("host", shell("sleep 100"))).await;
    let error = networks
        .connect("back", &host, EndpointSettings::default())
        .await
        .expect_err("host");
    assert_eq!(
        error.to_string(),
        "container sharing network namespace with another container or host cannot be connected to any other network"
    );
    world.remove(&host).await;
    world.remove(&id).await;
    world.assert_clean();
}

async fn attachments_survive_the_daemon() {
    let mut world = World::new().await;
    network(&world, "back", None).await;
    let id = world
        .start(publish("80/tcp", 18_083, on("back", server("hello"))))
        .await;
    let gone = world
        .start(publish("80/tcp", 18_084, on("back", shell("sleep 0.5"))))
        .await;
    let before = inspect(&world, &id).state.attachment.clone();
    world.close().await;
    world.wait_for_end(&gone).await;
    world.open().await;
    assert_eq!(inspect(&world, &id).state.attachment, before);
    assert_eq!(hear((Ipv4Addr::LOCALHOST, 18_083).into()), "hello");
    assert!(inspect(&world, &gone).state.attachment.is_none());
    let containers = world.engine().containers();
    // What the one that ended had is free, and what the other has is not.
    let next = world.start(publish("80/tcp", 18_084, on("back", server("next")))).await;
    assert_ne!(address(&world, &next, "back"), address(&world, &id, "back"));
    let other = world
        .create(publish("80/tcp", 18_083, on("back", server("other"))))
        .await;
    let error = containers.start(&other).await.expect_err("in use").to_string();
    assert!(error.contains("port is already allocated"), "{error}");
    for id in [id, gone, next, other] {
        world.remove(&id).await;
    }
    world.assert_clean();
}

async fn create_refuses_what_contradicts_itself() {
    let world = World::new().await;
    let containers = world.engine().containers();
    let refusal = |options: CreateOptions| async move {
        let refused = containers.create_on(Default::default(), options).await;
        refused.expect_err("refused").to_string()
    };
    let options = publish("80/tcp", 80, on("container:x", shell("true")));
    assert_eq!(
        refusal(options).await,
        "conflicting options: port publishing and the container type network mode"
    );
    let mut options = on("host", shell("true"));
    options.host_config.links = Some(vec!["a".to_owned()]);
    assert!(
        refusal(options)
            .await
            .starts_with("conflicting options: host type networking")
    );
    let mut options = on("bridge", shell("true"));
    let endpoints = &mut options.networking.endpoints_config;
    let wish = EndpointSettings {
        aliases: Some(vec!["a".to_owned()]),
        ..EndpointSettings::default()
    };
    endpoints.insert("bridge".to_owned(), Some(wish));
    assert_eq!(
        refusal(options).await,
        "invalid endpoint settings:\nnetwork-scoped alias is supported only for containers in user defined networks"
    );
    let mut options = on("bridge", shell("true"));
    options.config.mac_address = Some("nonsense".to_owned());
    assert_eq!(refusal(options).await, "invalid MAC address nonsense");

    let warned = containers
        .create_on(Default::default(), publish("80/tcp", 80, on("host", shell("true"))))
        .await
        .expect("created");
    assert_eq!(
        warned.warnings,
        ["Published ports are discarded when using host network mode"]
    );
    let options = RemoveOptions::default();
    containers.remove(&warned.id, options).await.expect("removed");
    world.assert_clean();
}

async fn settings_of_an_interface_are_made() {
    let world = World::new().await;
    let mut options = on("bridge", shell("sleep 100"));
    let settings = [("net.ipv4.conf.eth0.forwarding", "1"), ("net.core.somaxconn", "77")];
    options.host_config.sysctls = Some(settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    let id = world.start(options).await;
    let pid = inspect(&world, &id).state.pid;
    for (path, value) in [("ipv4/conf/eth0/forwarding", "1"), ("core/somaxconn", "77")] {
        // /proc/sys/net shows whoever opens it its own namespace.
        let read = std::process::Command::new("nsenter")
            .args(["-t", &pid.to_string(), "-n", "cat", &format!("/proc/sys/net/{path}")])
            .output()
            .expect("nsenter");
        assert_eq!(String::from_utf8_lossy(&read.stdout).trim(), value, "{path}");
    }
    world.remove(&id).await;
    world.assert_clean();
}

/// Opens the engine again, with another default network, or with none.
async fn reopen(world: &mut World, subnet: Option<&str>) {
    let mut config = config(world.directory.path(), &parent());
    config.network.no_default_bridge = subnet.is_none();
    config.network.default_bridge.subnets = vec![SubnetRequest {
        subnet: subnet.and_then(|subnet| subnet.parse().ok()),
        ..SubnetRequest::default()
    }];
    world.open_with(config).await;
}

async fn the_default_network_follows_its_configuration() {
    let mut world = World::new().await;
    let default = |world: &World| world.engine().networks().inspect("bridge").expect("there").record;
    let before = default(&world);
    let id = world.start(server("hello")).await;
    reopen(&mut world, Some("10.66.0.0/24")).await;
    assert_eq!(default(&world).network, before.network, "not under somebody who runs");
    world.remove(&id).await;
    reopen(&mut world, Some("10.66.0.0/24")).await;
    let after = default(&world);
    assert_eq!(after.network.id, before.network.id);
    assert_eq!(after.network.subnets[0].subnet.to_string(), "10.66.0.0/24");
    let id = world.start(server("again")).await;
    let address = address(&world, &id, "bridge");
    assert_eq!(address.to_string(), "10.66.0.2");
    assert_eq!(hear((address, 80).into()), "again");
    world.remove(&id).await;
    reopen(&mut world, None).await;
    let gone = world
        .engine()
        .networks()
        .inspect("bridge")
        .map(drop)
        .expect_err("there is none");
    assert_eq!(gone.kind(), Kind::NotFound);
    world.assert_clean();
}

//! What the tests of networks share: containers that wait, servers inside them, and what inspect says about them.
use corten_testkit::{
    daemon::{Arguments, Daemon},
    image,
    peer::Server,
    world::World,
};
use serde_json::Value;

use crate::{WAIT, setup};

/// A host with another host beside it, and a daemon with `busybox:latest` on it.
pub fn world() -> (World, Daemon) {
    world_with(&[])
}

/// The same with more of dockerd's flags.
pub fn world_with(flags: &[&str]) -> (World, Daemon) {
    let world = World::new();
    let daemon = world.start(setup().arguments(flags));
    daemon.load(&image::busybox());
    (world, daemon)
}

/// `docker run -d --name NAME OPTIONS busybox`, of a container that waits.
#[track_caller]
pub fn up(daemon: &Daemon, name: &str, options: impl Arguments) -> String {
    let mut words = vec!["run", "-d", "--name", name];
    let options = options.words();
    words.extend(options.iter().map(String::as_str));
    words.extend(["busybox", "sh", "-c", WAIT]);
    daemon.docker(words.as_slice()).ok()
}

/// A server inside a container, on every address of both families, that answers `NAME ADDRESS`.
#[track_caller]
pub fn serve(daemon: &Daemon, name: &str, port: u16) -> Server {
    daemon.network_of(name).serve(name, &format!("[::]:{port}"))
}

/// The container's end of a network, as inspect shows it.
#[track_caller]
pub fn endpoint(daemon: &Daemon, container: &str, network: &str) -> Value {
    daemon.inspect(container)["NetworkSettings"]["Networks"][network].clone()
}

/// The container's IPv4 address on a network.
#[track_caller]
pub fn address(daemon: &Daemon, container: &str, network: &str) -> String {
    let endpoint = endpoint(daemon, container, network);
    let address = endpoint["IPAddress"].as_str().unwrap_or_default();
    assert!(
        !address.is_empty(),
        "{container} has no address on {network}: {endpoint}"
    );
    address.to_owned()
}

/// The container's IPv6 address on a network.
#[track_caller]
pub fn address6(daemon: &Daemon, container: &str, network: &str) -> String {
    let endpoint = endpoint(daemon, container, network);
    let address = endpoint["GlobalIPv6Address"].as_str().unwrap_or_default();
    assert!(
        !address.is_empty(),
        "{container} has no IPv6 address on {network}: {endpoint}"
    );
    address.to_owned()
}

/// A network as inspect shows it.
#[track_caller]
pub fn network(daemon: &Daemon, reference: &str) -> Value {
    daemon.api().get(&format!("/networks/{reference}")).expect(200).json()
}

/// The bridge of the default network: its name has a suffix where a daemon does not have the usual run root.
#[track_caller]
pub fn default_bridge(daemon: &Daemon) -> String {
    let name = network(daemon, "bridge")["Options"]["com.docker.network.bridge.name"].clone();
    name.as_str().expect("the default network names its bridge").to_owned()
}

/// What a daemon of another kind cannot be asked for: Corten's own promises beyond Docker's.
pub fn is_foreign() -> bool {
    std::env::var_os("CORTEN_TEST_FOREIGN").is_some()
}

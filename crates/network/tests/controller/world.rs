//! A test's world: a host in a network namespace of its own, with a controller, and containers in others.
use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    thread,
    time::Duration,
};

use corten_linux::{
    namespace::{bring_loopback_up, enter, unshare},
    netlink::{
        route::list,
        socket::{Protocol as Family, Socket},
    },
};
use corten_network::{
    config::Config,
    controller::Controller,
    firewall::model::Switched,
    model::{
        AttachRequest, Attachment, DnsRequest, EndpointRequest, Network, NetworkRequest, PortRequest, Protocol,
        SubnetRequest,
    },
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const CLONE_NEWNET: u64 = 0x4000_0000;
const PATIENCE: Duration = Duration::from_secs(20);

pub struct World {
    pub files: TempDir,
    runtime: Runtime,
}

/// Runs a test as the host: in a thread and a namespace of its own, which all threads of the daemon's share.
pub fn world(test: impl FnOnce(&World) + Send + 'static) {
    let host = thread::spawn(move || {
        unshare(CLONE_NEWNET).expect("tests of networks need root");
        bring_loopback_up().expect("a new namespace has one");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let files = tempfile::tempdir().expect("a directory");
        std::fs::write(files.path().join("resolv.conf"), "nameserver 192.0.2.1\n").expect("written");
        test(&World { files, runtime });
    });
    if let Err(panic) = host.join() {
        std::panic::resume_unwind(panic);
    }
}

impl World {
    /// A daemon's controller; one after the other is a daemon that was killed and started again.
    pub fn controller(&self) -> Controller {
        let _inside = self.runtime.enter();
        Controller::open(Config {
            firewall: Switched::ON,
            forward: true,
            direct_routing: false,
            bridge_is_made: false,
            table: "corten-test".to_owned(),
            bridge: "corten0".to_owned(),
            address_pools: Vec::new(),
            identity: "test".to_owned(),
            dns: Vec::new(),
            resolv_conf: self.files.path().join("resolv.conf"),
            default_publish_address: None,
            proxy: true,
            flow_offload: true,
        })
        .expect("opened")
    }

    /// One that has restored nothing, and has its firewall.
    pub fn daemon(&self) -> Controller {
        let controller = self.controller();
        let failures = controller.restore(&[], &[]);
        assert!(failures.is_empty(), "{failures:?}");
        controller
    }
}

/// 64 digits that begin with a text's bytes.
pub fn id(text: &str) -> String {
    let mut id: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    id.extend(std::iter::repeat_n('0', 64 - id.len()));
    id
}

/// A network with a subnet, or with a chosen one where that is empty.
pub fn network(controller: &Controller, name: &str, subnet: &str, options: &[(&str, &str)]) -> Network {
    let request = NetworkRequest {
        name: name.to_owned(),
        subnets: subnet
            .split_whitespace()
            .map(|subnet| SubnetRequest {
                subnet: subnet.parse().ok(),
                ..SubnetRequest::default()
            })
            .collect(),
        ipv6: Some(subnet.contains("::")),
        options: options
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect::<BTreeMap<_, _>>(),
        ..NetworkRequest::default()
    };
    controller.create(&id(name), &request, |_| Ok(())).expect("made")
}

pub fn endpoint(network: &Network) -> EndpointRequest {
    EndpointRequest {
        network: network.id.clone(),
        ..EndpointRequest::default()
    }
}

pub fn request(container: &str, endpoints: Vec<EndpointRequest>) -> AttachRequest {
    AttachRequest {
        container: id(container),
        endpoints,
        ports: Vec::new(),
        dns: DnsRequest::default(),
        publish_all: Vec::new(),
    }
}

pub fn port(container_port: u16, host_port: u16) -> PortRequest {
    PortRequest {
        protocol: Protocol::Tcp,
        container_port,
        host_ip: None,
        host_ports: Some(host_port..=host_port),
    }
}

/// A container: a network namespace that lives as long as this.
pub struct Container {
    pub namespace: Arc<OwnedFd>,
    pub attachment: Attachment,
}

impl Container {
    pub fn new() -> Container {
        let namespace = thread::spawn(|| {
            unshare(CLONE_NEWNET).expect("tests of networks need root");
            bring_loopback_up().expect("a new namespace has one");
            File::open("/proc/thread-self/ns/net").expect("procfs").into()
        });
        Container {
            namespace: Arc::new(namespace.join().expect("made")),
            attachment: Attachment::default(),
        }
    }

    /// Made and attached.
    pub fn start(controller: &Controller, request: &AttachRequest) -> Container {
        let mut container = Container::new();
        container.attachment = controller.reserve(request).expect("reserved");
        controller
            .attach(&container.attachment, container.namespace.as_fd())
            .expect("attached");
        container
    }

    pub fn ipv4(&self) -> Ipv4Addr {
        self.attachment.endpoints[0].ipv4.expect("it has one").addr()
    }

    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ipv4().into(), port)
    }

    /// Does something inside, in a thread of its own.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = Arc::clone(&self.namespace);
        let inside = thread::spawn(move || {
            enter(namespace.as_fd(), CLONE_NEWNET).expect("entered");
            work()
        });
        match inside.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// A server inside that sends back what it gets, on every address.
    pub fn serve(&self, port: u16) {
        let listener = self.run(move || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("free"));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                thread::spawn(move || {
                    let mut byte = [0];
                    while let Ok(1) = stream.read(&mut byte) {
                        let _ = stream.write_all(&byte);
                    }
                });
            }
        });
    }

    /// Default routes: by which interface, to whom.
    pub fn default_routes(&self) -> Vec<(String, Option<IpAddr>)> {
        self.run(|| {
            let mut socket = Socket::open(Family::Route).expect("netlink");
            let links = list::links(&mut socket).expect("listed");
            let routes = list::routes(&mut socket).expect("listed");
            let defaults = routes.into_iter().filter(|route| route.destination.1 == 0);
            defaults
                .map(|route| {
                    let link = links.iter().find(|link| Some(link.index) == route.interface);
                    (link.expect("an interface").name.clone(), route.gateway)
                })
                .collect()
        })
    }

    /// Its interfaces but for `lo`.
    pub fn interfaces(&self) -> Vec<String> {
        let mut names: Vec<String> = self.run(interfaces).into_iter().filter(|name| name != "lo").collect();
        names.sort();
        names
    }
}

/// Interfaces of the calling thread's namespace.
pub fn interfaces() -> Vec<String> {
    let mut socket = Socket::open(Family::Route).expect("netlink");
    let links = list::links(&mut socket).expect("listed");
    links.into_iter().map(|link| link.name).collect()
}

/// Asks an echo server.
pub fn talk(stream: &mut TcpStream, byte: u8) -> bool {
    let mut answer = [0];
    stream.write_all(&[byte]).is_ok() && stream.read_exact(&mut answer).is_ok() && answer == [byte]
}

pub fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Connects, asks, and is answered.
pub fn reaches(address: SocketAddr) -> bool {
    connect(address).is_ok_and(|mut stream| talk(&mut stream, b'x'))
}

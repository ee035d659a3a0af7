//! A test's world: a host of its own in a network namespace, containers in others, and a server that the host asks.
use std::{
    fs::File,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use corten_network::{
    dns::{
        lookup::View,
        resolver::{Config, Resolver},
    },
    model::Endpoint,
};
use domain::{
    base::{
        Message, MessageBuilder, Name,
        iana::{Class, Rcode, Rtype},
    },
    rdata::{A, AllRecordData},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const CLONE_NEWNET: u64 = 0x4000_0000;
pub const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11)), 53);
const PATIENCE: Duration = Duration::from_secs(20);

pub struct World {
    pub resolver: Resolver,
    pub files: TempDir,
    pub upstream: Upstream,
    _runtime: Runtime,
}

/// Runs a test as the host: in a thread and a namespace of its own, which all threads of the daemon's share.
pub fn world(test: impl FnOnce(&World) + Send + 'static) {
    let host = thread::spawn(move || {
        corten_linux::namespace::unshare(CLONE_NEWNET).expect("root");
        corten_linux::namespace::bring_loopback_up().expect("a new namespace has one");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let files = tempfile::tempdir().expect("a directory");
        let resolv_conf = files.path().join("resolv.conf");
        std::fs::write(&resolv_conf, "nameserver 127.0.0.1\n").expect("written");
        let world = World {
            resolver: Resolver::open(runtime.handle().clone(), Config { resolv_conf }),
            files,
            upstream: Upstream::open(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            _runtime: runtime,
        };
        test(&world);
    });
    if let Err(panic) = host.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A container's network namespace.
pub struct Container {
    pub namespace: Arc<OwnedFd>,
}

impl Container {
    pub fn new() -> Container {
        let namespace = thread::spawn(|| {
            corten_linux::namespace::unshare(CLONE_NEWNET).expect("root");
            corten_linux::namespace::bring_loopback_up().expect("a new namespace has one");
            File::open("/proc/thread-self/ns/net").expect("procfs").into()
        });
        Container {
            namespace: Arc::new(namespace.join().expect("made")),
        }
    }

    /// Does something inside, in a thread of its own.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = Arc::clone(&self.namespace);
        let inside = thread::spawn(move || {
            corten_linux::namespace::enter(namespace.as_fd(), CLONE_NEWNET).expect("entered");
            work()
        });
        match inside.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Asks for a name over UDP, as programs do.
    pub fn ask(&self, name: &str, kind: Rtype) -> Answer {
        let query = query(name, kind, None);
        self.run(move || Answer::read(&over_udp(&query).expect("answered")))
    }

    pub fn ask_extended(&self, name: &str, kind: Rtype, size: u16) -> Answer {
        let query = query(name, kind, Some(size));
        self.run(move || Answer::read(&over_udp(&query).expect("answered")))
    }

    pub fn ask_over_tcp(&self, name: &str, kind: Rtype) -> Answer {
        let query = query(name, kind, None);
        self.run(move || Answer::read(&over_tcp(&query).expect("answered")))
    }
}

pub fn query(name: &str, kind: Rtype, size: Option<u16>) -> Vec<u8> {
    let name = Name::<Vec<u8>>::from_chars(name.chars()).expect("a name");
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(0x1234);
    builder.header_mut().set_rd(true);
    let mut question = builder.question();
    question.push((name, kind, Class::IN)).expect("fits");
    let mut rest = question.additional();
    if let Some(size) = size {
        rest.opt(|opt| {
            opt.set_udp_payload_size(size);
            Ok(())
        })
        .expect("fits");
    }
    rest.finish()
}

pub fn over_udp(query: &[u8]) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(SERVER)?;
    // A packet may be lost where thousands arrive at once: every client asks again.
    const TRIES: u32 = 4;
    socket.set_read_timeout(Some(PATIENCE / TRIES))?;
    let mut buffer = [0; 65536];
    for _ in 1..TRIES {
        socket.send(query)?;
        match socket.recv(&mut buffer) {
            Ok(length) => return Ok(buffer[..length].to_vec()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    socket.send(query)?;
    let length = socket.recv(&mut buffer)?;
    Ok(buffer[..length].to_vec())
}

pub fn over_tcp(query: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(SERVER)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&framed(query))?;
    read_framed(&mut stream)
}

pub fn framed(message: &[u8]) -> Vec<u8> {
    let mut framed = u16::try_from(message.len()).expect("small").to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    framed
}

pub fn read_framed(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub id: u16,
    pub code: Rcode,
    pub truncated: bool,
    pub ttl: Option<u32>,
    /// As zone files write them.
    pub records: Vec<String>,
    pub extended: bool,
}

impl Answer {
    pub fn read(bytes: &[u8]) -> Answer {
        let message = Message::from_octets(bytes).expect("a message");
        let mut records = Vec::new();
        let mut ttl = None;
        for record in message.answer().expect("a section").limit_to::<AllRecordData<_, _>>() {
            let record = record.expect("a record");
            ttl = Some(record.ttl().as_secs());
            records.push(record.data().to_string());
        }
        Answer {
            id: message.header().id(),
            code: message.header().rcode(),
            truncated: message.header().tc(),
            ttl,
            records,
            extended: message.opt().is_some(),
        }
    }
}

/// A name server over UDP and TCP. What it says goes by the first label:
/// `none…` does not exist, nor does anything in `none`; `silent…` is never answered; `refuse…` is declined; `big…` is 100
/// addresses, over UDP none and truncated; `fat…` 100 addresses even over UDP; `torn` and `empty` are cut over TCP; `forged`
/// comes after false answers; everything else is 192.0.2.1.
pub struct Upstream {
    pub asked: Arc<AtomicUsize>,
}

impl Upstream {
    pub fn open(address: IpAddr) -> Upstream {
        Upstream::start(address, false)
    }

    /// Whatever it is asked for, it has it.
    pub fn with_everything(address: Ipv4Addr) -> Upstream {
        Upstream::start(address.into(), true)
    }

    fn start(address: IpAddr, everything: bool) -> Upstream {
        let udp = UdpSocket::bind((address, 53)).expect("bound");
        let tcp = TcpListener::bind((address, 53)).expect("bound");
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        // They end with the test's process: nobody else is in their namespace.
        thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                count.fetch_add(1, Ordering::SeqCst);
                for forged in forged(&buffer[..length]) {
                    let _ = udp.send_to(&forged, from);
                }
                if let Some(answer) = reply(&buffer[..length], false, everything) {
                    let _ = udp.send_to(&answer, from);
                }
            }
        });
        let count = Arc::clone(&asked);
        thread::spawn(move || {
            while let Ok((mut stream, _)) = tcp.accept() {
                let count = Arc::clone(&count);
                thread::spawn(move || {
                    while let Ok(query) = read_framed(&mut stream) {
                        count.fetch_add(1, Ordering::SeqCst);
                        let Some(answer) = reply(&query, true, everything) else {
                            return;
                        };
                        let mut answer = framed(&answer);
                        match label(&query) {
                            Some(b"torn") => answer[0] = 0xff,
                            Some(b"empty") => answer = vec![0, 0],
                            _ => {}
                        }
                        if stream.write_all(&answer).is_err() || label(&query) == Some(b"torn") {
                            return;
                        }
                    }
                });
            }
        });
        Upstream { asked }
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// The first label of a question.
fn label(query: &[u8]) -> Option<&[u8]> {
    query.get(13..13 + usize::from(*query.get(12)?))
}

/// What an attacker would send before the answer: another id, another question, no answer at all, rubbish.
fn forged(query: &[u8]) -> Vec<Vec<u8>> {
    if label(query) != Some(b"forged") {
        return Vec::new();
    }
    let answer = reply(query, false, true).expect("it has everything");
    let changed = |at: usize| {
        let mut answer = answer.clone();
        answer[at] ^= 0x80;
        let last = answer.len() - 1;
        answer[last] = 66;
        answer
    };
    vec![
        changed(0),
        changed(2),
        changed(14),
        answer[..20].to_vec(),
        vec![0; 3],
        Vec::new(),
    ]
}

fn reply(query: &[u8], tcp: bool, everything: bool) -> Option<Vec<u8>> {
    let query = Message::from_octets(query).expect("the resolver sends messages only");
    let name = query.sole_question().expect("with one question").qname().to_string();
    let code = match &name {
        _ if everything => Rcode::NOERROR,
        name if name.starts_with("none") || name.ends_with("none") => Rcode::NXDOMAIN,
        name if name.starts_with("silent") => return None,
        name if name.starts_with("refuse") => Rcode::REFUSED,
        _ => Rcode::NOERROR,
    };
    let mut answer = MessageBuilder::new_vec().start_answer(&query, code).expect("fits");
    answer.header_mut().set_ra(true);
    let count = match &name {
        name if (name.starts_with("big") || name.starts_with("torn")) && !tcp => {
            answer.header_mut().set_tc(true);
            0
        }
        name if name.starts_with("big") || name.starts_with("fat") => 100,
        _ => u8::from(code == Rcode::NOERROR),
    };
    for last in 1..=count {
        answer
            .push((
                query.sole_question().expect("it was there").qname(),
                Class::IN,
                30,
                A::from_octets(192, 0, 2, last),
            ))
            .expect("fits");
    }
    let mut rest = answer.additional();
    if query.opt().is_some() {
        rest.opt(|opt| {
            opt.set_udp_payload_size(1232);
            Ok(())
        })
        .expect("fits");
    }
    Some(rest.finish())
}

/// An endpoint on the network `network`, whose name is `<network>-net`.
pub fn endpoint(network: &str, id: &str, names: &[&str], ipv4: Option<&str>, ipv6: Option<&str>) -> Endpoint {
    Endpoint {
        id: id.to_owned(),
        network: network.to_owned(),
        network_name: format!("{network}-net"),
        interface: "eth0".to_owned(),
        host_interface: String::new(),
        mac: None,
        ipv4: ipv4.map(|net| net.parse().expect("an address")),
        ipv6: ipv6.map(|net| net.parse().expect("an address")),
        link_local: Vec::new(),
        gateway4: None,
        gateway6: None,
        names: names.iter().map(|&name| name.to_owned()).collect(),
        links: Vec::new(),
        options: Default::default(),
        gateway_priority: 0,
    }
}

pub fn view(networks: &[&str]) -> View {
    View {
        networks: networks.iter().map(|&id| id.to_owned()).collect(),
        forward: true,
        ..View::default()
    }
}

//! DNS written by hand: a server that stands for the host's resolver, and a client that asks from inside a container.
//!
//! Only what tests need of RFC 1035: one question, answers of A, AAAA, PTR, CNAME and TXT.
use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{namespace::Namespace, wait::wait_for};

pub const A: u16 = 1;
pub const PTR: u16 = 12;
pub const TXT: u16 = 16;
pub const AAAA: u16 = 28;

/// Response codes.
pub const NO_ERROR: u8 = 0;
pub const SERVER_FAILURE: u8 = 2;
pub const NO_SUCH_NAME: u8 = 3;

const TICK: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(5);
/// The port of every resolver, and the address of the one in containers.
pub const EMBEDDED: &str = "127.0.0.11:53";

/// What a resolver answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub code: u8,
    pub truncated: bool,
    pub authoritative: bool,
    /// Addresses, names or texts, in the order of the message.
    pub records: Vec<String>,
    pub time_to_live: Option<u32>,
}

impl Answer {
    /// The records in an order of their own, for comparisons.
    pub fn sorted(mut self) -> Vec<String> {
        self.records.sort();
        self.records
    }
}

/// A query for one name, as a stub resolver sends it.
pub fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    put_name(&mut message, name);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}

fn put_name(message: &mut Vec<u8>, name: &str) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.push(0);
}

/// A name at `at`, following compression, and where the message goes on after it.
fn name_at(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let (mut labels, mut end) = (Vec::new(), None);
    for _ in 0..128 {
        let length = usize::from(*message.get(at)?);
        match length {
            0 => return Some((labels.join("."), end.unwrap_or(at + 1))),
            1..=63 => {
                let label = message.get(at + 1..at + 1 + length)?;
                labels.push(String::from_utf8_lossy(label).into_owned());
                at += 1 + length;
            }
            _ => {
                end = end.or(Some(at + 2));
                at = (length & 0x3f) << 8 | usize::from(*message.get(at + 1)?);
            }
        }
    }
    None
}

/// Reads an answer. None where the message is malformed.
pub fn parse(message: &[u8]) -> Option<Answer> {
    let count = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    let (questions, answers) = (count(4)?, count(6)?);
    let mut at = 12;
    for _ in 0..questions {
        at = name_at(message, at)?.1 + 4;
    }
    let mut answer = Answer {
        code: message[3] & 15,
        truncated: message[2] & 2 != 0,
        authoritative: message[2] & 4 != 0,
        records: Vec::new(),
        time_to_live: None,
    };
    for _ in 0..answers {
        at = name_at(message, at)?.1;
        let kind = count(at)?;
        let ttl = message.get(at + 4..at + 8)?;
        answer.time_to_live = Some(u32::from_be_bytes(ttl.try_into().ok()?));
        let length = usize::from(count(at + 8)?);
        let data = message.get(at + 10..at + 10 + length)?;
        answer.records.push(match kind {
            A => Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).to_string(),
            AAAA => Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).to_string(),
            TXT => String::from_utf8_lossy(data.get(1..)?).into_owned(),
            _ => name_at(message, at + 10)?.0,
        });
        at += 10 + length;
    }
    Some(answer)
}

/// The name that a reverse query asks for.
pub fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let digits = address.octets().into_iter().rev();
            let digits = digits.flat_map(|byte| [byte & 15, byte >> 4]);
            digits.map(|digit| format!("{digit:x}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

impl Namespace {
    /// Asks 127.0.0.11 over UDP until there is an answer.
    #[track_caller]
    pub fn resolve(&self, name: &str, kind: u16) -> Answer {
        wait_for(&format!("an answer about {name}"), || {
            self.try_resolve(EMBEDDED, name, kind).ok()
        })
    }

    /// Asks a resolver once over UDP.
    pub fn try_resolve(&self, server: &str, name: &str, kind: u16) -> io::Result<Answer> {
        let socket = self.udp_to(server)?;
        socket.send(&query(0x1234, name, kind))?;
        receive(&socket)
    }

    /// Asks 127.0.0.11 over TCP.
    #[track_caller]
    pub fn resolve_tcp(&self, name: &str, kind: u16) -> Answer {
        let message = query(0x4321, name, kind);
        let mut stream = self.connect(EMBEDDED, LIMIT).expect("the resolver listens on TCP");
        stream
            .write_all(&(message.len() as u16).to_be_bytes())
            .and_then(|()| stream.write_all(&message))
            .expect("the resolver reads");
        let answer = read_message(&mut stream).expect("the resolver answers");
        assert_eq!(answer[..2], [0x43, 0x21], "an answer has the id of its question");
        parse(&answer).expect("a whole message")
    }

    /// The addresses of a name, sorted; empty when there is no such name.
    #[track_caller]
    pub fn addresses_of(&self, name: &str) -> Vec<String> {
        self.resolve(name, A).sorted()
    }

    /// A socket that talks to a resolver, for messages of one's own.
    pub fn udp_to(&self, server: &str) -> io::Result<UdpSocket> {
        let server: SocketAddr = server.parse().expect("an address");
        let socket = self.inside(|| {
            let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
            socket.connect(server).map(|()| socket)
        })?;
        socket.set_read_timeout(Some(LIMIT))?;
        Ok(socket)
    }
}

/// The next answer of a socket made by [`Namespace::udp_to`].
pub fn receive(socket: &UdpSocket) -> io::Result<Answer> {
    let mut buffer = [0; 65536];
    let length = loop {
        match socket.recv(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            received => break received?,
        }
    };
    parse(&buffer[..length]).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// What a [`Zone`] knows, by name and kind.
type Records = BTreeMap<(String, u16), Vec<String>>;

/// A name server for the outside world: answers what it was told, everything else with "no such name".
///
/// Over UDP, answers beyond 512 bytes are truncated to none, so that clients must come again over TCP.
pub struct Zone {
    end: Arc<AtomicBool>,
    questions: Arc<Mutex<Vec<String>>>,
}

impl Zone {
    /// Serves `address` (`IP:PORT`) of a namespace: `(name, kind, data)`.
    #[track_caller]
    pub fn serve(namespace: &Namespace, address: &str, records: &[(&str, u16, &str)]) -> Zone {
        let mut known = Records::new();
        for (name, kind, data) in records {
            known
                .entry((name.to_lowercase(), *kind))
                .or_default()
                .push((*data).to_owned());
        }
        let sockets = namespace.inside(|| Ok::<_, io::Error>((UdpSocket::bind(address)?, TcpListener::bind(address)?)));
        let (udp, tcp) = sockets.unwrap_or_else(|error| panic!("cannot serve names at {address}: {error}"));
        udp.set_read_timeout(Some(TICK)).expect("not zero");
        tcp.set_nonblocking(true).expect("it is a socket");
        let zone = Zone {
            end: Arc::default(),
            questions: Arc::default(),
        };
        let (known, known_too) = (Arc::new(known.clone()), Arc::new(known));
        let (end, questions) = (zone.end.clone(), zone.questions.clone());
        thread::spawn(move || serve_udp(&udp, &known, &end, &questions));
        let (end, questions) = (zone.end.clone(), zone.questions.clone());
        thread::spawn(move || serve_tcp(&tcp, &known_too, &end, &questions));
        zone
    }

    /// The names that were asked for, each as often as it was; over TCP with `tcp ` before it.
    pub fn questions(&self) -> Vec<String> {
        self.questions.lock().expect("no thread panics with it").clone()
    }
}

impl Drop for Zone {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

fn serve_udp(socket: &UdpSocket, known: &Records, end: &AtomicBool, questions: &Mutex<Vec<String>>) {
    let mut buffer = [0; 4096];
    while !end.load(Ordering::Relaxed) {
        let Ok((length, peer)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let Some((name, mut answer)) = answer_to(&buffer[..length], known) else {
            continue;
        };
        questions.lock().expect("no thread panics with it").push(name);
        if answer.len() > 512 {
            let question_end = name_at(&answer, 12).map_or(12, |(_, at)| at + 4);
            answer.truncate(question_end);
            answer[2] |= 2;
            answer[6..8].fill(0);
        }
        let _ = socket.send_to(&answer, peer);
    }
}

fn serve_tcp(listener: &TcpListener, known: &Records, end: &AtomicBool, questions: &Mutex<Vec<String>>) {
    while !end.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else {
            thread::sleep(TICK);
            continue;
        };
        let _ = stream.set_nonblocking(false);
        let _ = stream.set_read_timeout(Some(LIMIT));
        while let Ok(message) = read_message(&mut stream) {
            let Some((name, answer)) = answer_to(&message, known) else {
                break;
            };
            questions
                .lock()
                .expect("no thread panics with it")
                .push(format!("tcp {name}"));
            let length = (answer.len() as u16).to_be_bytes();
            if stream.write_all(&[&length[..], &answer].concat()).is_err() {
                break;
            }
        }
    }
}

/// The question's name, and the whole answer.
fn answer_to(message: &[u8], known: &Records) -> Option<(String, Vec<u8>)> {
    let (name, end) = name_at(message, 12)?;
    let kind = u16::from_be_bytes([*message.get(end)?, *message.get(end + 1)?]);
    let name = name.to_lowercase();
    let exists = known.keys().any(|(known, _)| *known == name);
    let data = known.get(&(name.clone(), kind)).map_or(&[][..], Vec::as_slice);
    let mut answer = message.get(..end + 4)?.to_vec();
    answer[2] = 0x84 | answer[2] & 1;
    answer[3] = 0x80 | if exists { NO_ERROR } else { NO_SUCH_NAME };
    answer[6..12].copy_from_slice(&[0, data.len() as u8, 0, 0, 0, 0]);
    for record in data {
        let data = match kind {
            A => record.parse::<Ipv4Addr>().ok()?.octets().to_vec(),
            AAAA => record.parse::<Ipv6Addr>().ok()?.octets().to_vec(),
            TXT => [&[record.len() as u8], record.as_bytes()].concat(),
            _ => {
                let mut name = Vec::new();
                put_name(&mut name, record);
                name
            }
        };
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 60]);
        answer.extend((data.len() as u16).to_be_bytes());
        answer.extend(data);
    }
    Some((name, answer))
}

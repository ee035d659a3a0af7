//! One container's task: takes questions from its sockets, answers what is known here, and passes on the rest.
//!
//! Nothing that a container sends can make it wait for, or cost, more than its share: packets are taken in small groups,
//! and questions on their way, connections and their patience are bounded. What is over a bound is refused at once.
use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::dns::{
    forward::{self, Servers, Silent, Transport},
    lookup::{self, View},
    message::{Query, Received},
    names::Names,
    upstream::{self, HostServers},
};

/// Questions on their way to others, of all containers together; Docker's number.
pub const FORWARDED_MAX: usize = 1024;
/// Of these, one container's.
const FORWARDED_EACH: usize = 256;
const CONNECTIONS_EACH: usize = 64;
/// Packets taken before others have their turn.
const GROUP: usize = 32;
/// Of a query; a name has 255 bytes at most.
const QUERY_MAX: usize = 4096;
/// How long a connection may say nothing, and how long one message may take.
const IDLE: Duration = Duration::from_secs(10);
/// Of a wait after the system had no descriptors left.
const PAUSE: Duration = Duration::from_millis(50);
const STREAM_MAX: usize = u16::MAX as usize;

/// What all containers' tasks share.
#[derive(Debug)]
pub struct Shared {
    pub names: Names,
    pub host: HostServers,
    forwarded: Arc<Semaphore>,
    silent: Silent,
    turn: AtomicUsize,
}

impl Shared {
    pub fn new(host: HostServers) -> Shared {
        Shared {
            names: Names::default(),
            host,
            forwarded: Arc::new(Semaphore::new(FORWARDED_MAX)),
            silent: Silent::default(),
            turn: AtomicUsize::new(0),
        }
    }
}

/// One container's side.
#[derive(Debug)]
pub struct Client {
    namespace: OwnedFd,
    view: RwLock<Arc<View>>,
    forwarded: Arc<Semaphore>,
    /// Of the servers that it names itself.
    silent: Silent,
    connections: Arc<Semaphore>,
}

impl Client {
    pub fn new(namespace: OwnedFd, view: View) -> Client {
        Client {
            namespace,
            view: RwLock::new(Arc::new(view)),
            forwarded: Arc::new(Semaphore::new(FORWARDED_EACH)),
            silent: Silent::default(),
            connections: Arc::new(Semaphore::new(CONNECTIONS_EACH)),
        }
    }

    pub fn set_view(&self, view: View) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
    }

    fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What becomes of a packet.
enum Fate<'a> {
    Answer(Vec<u8>),
    Forward(Query<'a>, Permits),
    Nothing,
}

/// Room for one question on its way: the container's own, and the daemon's.
type Permits = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// Serves until it is dropped, and everything of the container's with it.
pub async fn serve(shared: Arc<Shared>, client: Arc<Client>, udp: UdpSocket, tcp: TcpListener) {
    let udp = Arc::new(udp);
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            ready = udp.readable() => {
                if ready.is_ok() && take_group(&shared, &client, &udp, &mut tasks) {
                    tokio::task::yield_now().await;
                }
            }
            accepted = tcp.accept() => match accepted {
                Ok((stream, _)) => {
                    if let Ok(permit) = Arc::clone(&client.connections).try_acquire_owned() {
                        tasks.spawn(connection(Arc::clone(&shared), Arc::clone(&client), stream, permit));
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a connection for names");
                    sleep(PAUSE).await;
                }
            },
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// Takes the packets that are there, at most a group; was it a full one?
fn take_group(shared: &Arc<Shared>, client: &Arc<Client>, udp: &Arc<UdpSocket>, tasks: &mut JoinSet<()>) -> bool {
    let mut buffer = [0; QUERY_MAX];
    let view = client.view();
    for _ in 0..GROUP {
        let (length, from) = match udp.try_recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(_) => continue,
        };
        match judge(shared, client, &view, &buffer[..length], Transport::Udp) {
            // A client that does not read loses answers, nobody else does.
            Fate::Answer(answer) => drop(udp.try_send_to(&answer, from)),
            Fate::Forward(query, permits) => {
                let question = query.bytes().to_vec();
                let task = pass_on(
                    Arc::clone(shared),
                    Arc::clone(client),
                    Arc::clone(udp),
                    question,
                    from,
                    permits,
                );
                tasks.spawn(task);
            }
            Fate::Nothing => {}
        }
    }
    true
}

fn judge<'a>(shared: &Shared, client: &Client, view: &View, bytes: &'a [u8], transport: Transport) -> Fate<'a> {
    let query = match Received::read(bytes) {
        Received::Query(query) => query,
        Received::Malformed(reply) => return Fate::Answer(reply),
        Received::Noise => return Fate::Nothing,
    };
    let limit = match transport {
        Transport::Udp => query.limit,
        Transport::Tcp => STREAM_MAX,
    };
    let turn = shared.turn.fetch_add(1, Ordering::Relaxed);
    if let Some(answer) = lookup::answer(&shared.names, view, &query, limit, turn) {
        return Fate::Answer(answer);
    }
    if !view.forward && view.servers.is_empty() {
        return Fate::Answer(lookup::failed(&query));
    }
    let own = Arc::clone(&client.forwarded).try_acquire_owned();
    let everybodys = Arc::clone(&shared.forwarded).try_acquire_owned();
    match (own, everybodys) {
        (Ok(own), Ok(everybodys)) => Fate::Forward(query, (own, everybodys)),
        _ => Fate::Answer(lookup::refused(&query)),
    }
}

/// A question that came over UDP goes on, and its answer goes back.
async fn pass_on(
    shared: Arc<Shared>,
    client: Arc<Client>,
    udp: Arc<UdpSocket>,
    question: Vec<u8>,
    from: SocketAddr,
    permits: Permits,
) {
    if let Some(answer) = ask_others(&shared, &client, &question, Transport::Udp).await {
        let _ = udp.send_to(&answer, from).await;
    }
    drop(permits);
}

/// The others' answer, or that there is none, cut to what the asker takes.
async fn ask_others(shared: &Shared, client: &Client, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let view = client.view();
    let servers = match view.servers.as_slice() {
        [] => Servers {
            addresses: shared.host.current().to_vec(),
            silent: &shared.silent,
            namespace: None,
        },
        own => Servers {
            addresses: upstream::named(own).collect(),
            silent: &client.silent,
            namespace: Some(client.namespace.as_fd()),
        },
    };
    let answer = forward::ask(&servers, question, transport).await;
    let Received::Query(query) = Received::read(question) else {
        return None;
    };
    match answer {
        Some(answer) if transport == Transport::Udp && answer.len() > query.limit => Some(query.truncated()),
        Some(answer) => Some(answer),
        None => Some(lookup::failed(&query)),
    }
}

/// One client's connection: questions one after the other, until it or its patience ends.
async fn connection(shared: Arc<Shared>, client: Arc<Client>, mut stream: TcpStream, permit: OwnedSemaphorePermit) {
    while let Ok(Some(question)) = read_question(&mut stream).await {
        let fate = judge(&shared, &client, &client.view(), &question, Transport::Tcp);
        let answer = match fate {
            Fate::Answer(answer) => Some(answer),
            Fate::Forward(_, permits) => {
                let answer = ask_others(&shared, &client, &question, Transport::Tcp).await;
                drop(permits);
                answer
            }
            Fate::Nothing => None,
        };
        let Some(answer) = answer else { break };
        let Ok(length) = u16::try_from(answer.len()) else { break };
        let mut framed = Vec::with_capacity(2 + answer.len());
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(&answer);
        if !matches!(timeout(IDLE, stream.write_all(&framed)).await, Ok(Ok(()))) {
            break;
        }
    }
    drop(permit);
}

/// `None` when the client has gone, was silent for too long, or sends what is no question.
async fn read_question(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let read = async {
        let length = usize::from(stream.read_u16().await?);
        if length > QUERY_MAX {
            return Ok(None);
        }
        let mut question = vec![0; length];
        stream.read_exact(&mut question).await?;
        Ok(Some(question))
    };
    timeout(IDLE, read).await.unwrap_or(Ok(None))
}

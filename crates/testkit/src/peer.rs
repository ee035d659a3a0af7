//! Small servers and clients inside namespaces. Every server tells its visitor its own name and the visitor's address.
//!
//! An answer is one line, `NAME ADDRESS`: enough to know who was reached, and as whom one came.
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{
    namespace::Namespace,
    wait::{PATIENCE, wait_for},
};

/// How long a packet that will not arrive is waited for.
const MOMENT: Duration = Duration::from_millis(700);
/// How long one that should arrive is waited for, before it is sent again.
const LONG: Duration = Duration::from_secs(5);
/// How often a server looks whether it should end.
const TICK: Duration = Duration::from_millis(20);

/// A server on threads of its own; ended when dropped.
pub struct Server {
    end: Arc<AtomicBool>,
    pub address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

fn parse(address: &str) -> SocketAddr {
    address
        .parse()
        .unwrap_or_else(|error| panic!("{address} is no address: {error}"))
}

impl Namespace {
    /// Serves TCP. The connection stays open after the greeting and gives back what it gets, until the client closes.
    #[track_caller]
    pub fn serve(&self, name: &str, address: &str) -> Server {
        let address = parse(address);
        let listener = self.inside(|| TcpListener::bind(address));
        let listener = listener.unwrap_or_else(|error| panic!("cannot listen at {address}: {error}"));
        let name = name.to_owned();
        serve_each(listener, move |stream, peer, end| {
            greet_and_echo(stream, &name, peer, end);
        })
    }

    /// Serves UDP: every packet is answered with `NAME ADDRESS` of its sender.
    #[track_caller]
    pub fn serve_udp(&self, name: &str, address: &str) -> Server {
        let address = parse(address);
        let socket = self.inside(|| UdpSocket::bind(address));
        let socket = socket.unwrap_or_else(|error| panic!("cannot bind {address}: {error}"));
        socket.set_read_timeout(Some(TICK)).expect("not zero");
        let end = Arc::new(AtomicBool::new(false));
        let server = Server {
            end: end.clone(),
            address: socket.local_addr().expect("it is bound"),
        };
        let name = name.to_owned();
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !end.load(Ordering::Relaxed) {
                if let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(format!("{name} {}\n", plain(peer)).as_bytes(), peer);
                }
            }
        });
        server
    }

    /// Serves files over HTTP, by path.
    #[track_caller]
    pub fn serve_files(&self, address: &str, files: Vec<(String, Vec<u8>)>) -> Server {
        let address = parse(address);
        let listener = self.inside(|| TcpListener::bind(address));
        let listener = listener.unwrap_or_else(|error| panic!("cannot listen at {address}: {error}"));
        let files = Arc::new(files);
        serve_each(listener, move |stream, _, _| serve_file(stream, &files))
    }

    /// Connects and reads the greeting: `NAME ADDRESS`. Tried once.
    pub fn try_ask(&self, address: &str) -> io::Result<String> {
        greeting(&mut self.connect(address, MOMENT)?)
    }

    /// Connects until there is a greeting.
    #[track_caller]
    pub fn ask(&self, address: &str) -> String {
        let mut last = String::new();
        wait_for(&format!("a server at {address}"), || {
            let answer = self.connect(address, LONG).and_then(|mut stream| greeting(&mut stream));
            answer.inspect_err(|error| last = error.to_string()).ok()
        })
    }

    /// Sends a packet until it is answered.
    #[track_caller]
    pub fn ask_udp(&self, address: &str) -> String {
        wait_for(&format!("an answer from {address}"), || self.try_ask_udp(address).ok())
    }

    /// Sends one packet and waits a moment for the answer.
    pub fn try_ask_udp(&self, address: &str) -> io::Result<String> {
        let address = parse(address);
        let socket = self.inside(|| {
            let local = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(local)?;
            socket.connect(address)?;
            Ok::<_, io::Error>(socket)
        })?;
        socket.set_read_timeout(Some(MOMENT))?;
        socket.send(b"who am I?")?;
        let mut buffer = [0; 2048];
        let length = socket.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned())
    }

    /// Panics unless nothing at all comes back from there within a moment, be it a greeting or a refusal.
    #[track_caller]
    pub fn assert_unreachable(&self, address: &str) {
        match self.try_ask(address) {
            Ok(answer) => panic!("{address} answers {answer:?}"),
            Err(error) => assert!(is_silence(&error), "{address}: {error}"),
        }
    }

    /// Panics unless connections there are refused or go nowhere.
    #[track_caller]
    pub fn assert_closed(&self, address: &str) {
        if let Ok(answer) = self.try_ask(address) {
            panic!("{address} answers {answer:?}");
        }
    }

    /// A connection, without a word yet.
    pub fn connect(&self, address: &str, limit: Duration) -> io::Result<TcpStream> {
        let address = parse(address);
        let stream = self.inside(|| TcpStream::connect_timeout(&address, limit))?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        Ok(stream)
    }

    /// A connection whose greeting was read: for what must survive.
    #[track_caller]
    pub fn converse(&self, address: &str) -> Conversation {
        let stream = self.connect(address, PATIENCE);
        let mut stream = stream.unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        let greeting = greeting(&mut stream).unwrap_or_else(|error| panic!("no greeting from {address}: {error}"));
        Conversation { stream, greeting }
    }

    /// `GET PATH`: status and body. Tried until something answers.
    #[track_caller]
    pub fn http(&self, address: &str, path: &str) -> (u16, String) {
        wait_for(&format!("HTTP at {address}"), || self.try_http(address, path).ok())
    }

    pub fn try_http(&self, address: &str, path: &str) -> io::Result<(u16, String)> {
        let mut stream = self.connect(address, LONG)?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok((status.ok_or(io::ErrorKind::InvalidData)?, body.to_owned()))
    }
}

/// An open connection to a [`Namespace::serve`].
pub struct Conversation {
    stream: TcpStream,
    pub greeting: String,
}

impl Conversation {
    /// Panics unless what is said comes back.
    #[track_caller]
    pub fn goes_on(&mut self) {
        self.stream.write_all(b"still there?\n").expect("the connection lives");
        let answer = line(&mut self.stream).expect("the connection lives");
        assert_eq!(answer, "still there?");
    }
}

/// A thread that accepts, and one for each connection.
fn serve_each(
    listener: TcpListener,
    work: impl Fn(TcpStream, SocketAddr, &AtomicBool) + Clone + Send + 'static,
) -> Server {
    listener.set_nonblocking(true).expect("it is a socket");
    let end = Arc::new(AtomicBool::new(false));
    let server = Server {
        end: end.clone(),
        address: listener.local_addr().expect("it is bound"),
    };
    thread::spawn(move || {
        while !end.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((stream, peer)) => {
                    let (work, end) = (work.clone(), end.clone());
                    let _ = stream.set_nonblocking(false);
                    thread::spawn(move || work(stream, peer, &end));
                }
                Err(_) => thread::sleep(TICK),
            }
        }
    });
    server
}

/// One request, one answer, and the connection is closed.
fn serve_file(mut stream: TcpStream, files: &[(String, Vec<u8>)]) {
    let mut lines = BufReader::new(&stream).lines();
    let Some(Ok(request)) = lines.next() else { return };
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let path = request.split(' ').nth(1).unwrap_or_default();
    let found = files.iter().find(|(name, _)| name == path);
    let (status, body) = found.map_or(("404 Not Found", &[][..]), |(_, body)| ("200 OK", body));
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(&[head.as_bytes(), body].concat());
}

fn greet_and_echo(mut stream: TcpStream, name: &str, peer: SocketAddr, end: &AtomicBool) {
    let _ = stream.set_read_timeout(Some(TICK));
    if stream
        .write_all(format!("{name} {}\n", plain(peer)).as_bytes())
        .is_err()
    {
        return;
    }
    let mut buffer = [0; 4096];
    while !end.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                if stream.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
            Err(error) if is_silence(&error) || error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

/// An address as people write it: an IPv4 client of an IPv6 socket is an IPv4 client.
fn plain(peer: SocketAddr) -> String {
    peer.ip().to_canonical().to_string()
}

fn greeting(stream: &mut TcpStream) -> io::Result<String> {
    line(stream)
}

fn line(stream: &mut TcpStream) -> io::Result<String> {
    let mut text = Vec::new();
    let mut byte = [0];
    loop {
        match stream.read(&mut byte) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) if byte[0] == b'\n' => return Ok(String::from_utf8_lossy(&text).into_owned()),
            Ok(_) => text.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

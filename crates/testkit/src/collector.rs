//! Servers that take logs: on UDP, TCP and unix sockets, keeping every byte that comes.
//!
//! Dropping one is its end: connections are cut, and nobody answers at its address any more.
use std::{
    io::{self, Read},
    net::{TcpListener, UdpSocket},
    os::unix::net::{UnixDatagram, UnixListener},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{namespace::Namespace, wait::wait_for};

/// How long a reader waits before it looks whether it is to end.
const TICK: Duration = Duration::from_millis(20);

/// A running server, and what it got.
pub struct Collector {
    /// 0 for unix sockets.
    pub port: u16,
    /// One for each datagram, or for each connection.
    received: Arc<Mutex<Vec<Vec<u8>>>>,
    end: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Collector {
    /// Port 0 is any that is free.
    #[track_caller]
    pub fn udp(network: &Namespace) -> Collector {
        let socket = network.inside(|| UdpSocket::bind("127.0.0.1:0")).expect("a free port");
        let port = socket.local_addr().expect("it is bound").port();
        socket.set_read_timeout(Some(TICK)).expect("sockets have timeouts");
        Collector::datagrams(port, move |buffer| socket.recv(buffer))
    }

    #[track_caller]
    pub fn unix_datagram(path: &Path) -> Collector {
        let socket = UnixDatagram::bind(path).expect("the path is free");
        socket.set_read_timeout(Some(TICK)).expect("sockets have timeouts");
        Collector::datagrams(0, move |buffer| socket.recv(buffer))
    }

    #[track_caller]
    pub fn tcp(network: &Namespace, port: u16) -> Collector {
        let listener = wait_for("the port is free", || {
            network.inside(|| TcpListener::bind(("127.0.0.1", port))).ok()
        });
        let port = listener.local_addr().expect("it is bound").port();
        listener.set_nonblocking(true).expect("sockets can be told");
        Collector::streams(port, move || {
            let (stream, _) = listener.accept()?;
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(TICK))?;
            Ok(Box::new(stream) as Box<dyn Read + Send>)
        })
    }

    #[track_caller]
    pub fn unix(path: &Path) -> Collector {
        let listener = UnixListener::bind(path).expect("the path is free");
        listener.set_nonblocking(true).expect("sockets can be told");
        Collector::streams(0, move || {
            let (stream, _) = listener.accept()?;
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(TICK))?;
            Ok(Box::new(stream) as Box<dyn Read + Send>)
        })
    }

    fn datagrams(port: u16, receive: impl Fn(&mut [u8]) -> io::Result<usize> + Send + 'static) -> Collector {
        Collector::serve(port, move |received, end| {
            let mut buffer = vec![0; 1 << 16];
            while !end.load(Ordering::Relaxed) {
                if let Ok(length) = receive(&mut buffer) {
                    received.lock().expect("nobody panics").push(buffer[..length].to_vec());
                }
            }
        })
    }

    fn streams(port: u16, accept: impl Fn() -> io::Result<Box<dyn Read + Send>> + Send + 'static) -> Collector {
        Collector::serve(port, move |received, end| {
            let mut readers = Vec::new();
            while !end.load(Ordering::Relaxed) {
                let Ok(stream) = accept() else {
                    thread::sleep(TICK);
                    continue;
                };
                let (received, end) = (Arc::clone(received), Arc::clone(end));
                readers.push(thread::spawn(move || read(stream, &received, &end)));
            }
            for reader in readers {
                let _ = reader.join();
            }
        })
    }

    fn serve(
        port: u16,
        server: impl FnOnce(&Arc<Mutex<Vec<Vec<u8>>>>, &Arc<AtomicBool>) + Send + 'static,
    ) -> Collector {
        let (received, end) = (Arc::default(), Arc::default());
        let (theirs, until) = (Arc::clone(&received), Arc::clone(&end));
        Collector {
            port,
            received,
            end,
            server: Some(thread::spawn(move || server(&theirs, &until))),
        }
    }

    /// All datagrams, or all connections' bytes, so far.
    pub fn received(&self) -> Vec<Vec<u8>> {
        self.received.lock().expect("nobody panics").clone()
    }

    /// The same as one text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.received().concat()).into_owned()
    }

    /// What it got, once it is as wanted.
    #[track_caller]
    pub fn wait_for<T>(&self, what: &str, mut find: impl FnMut(&[Vec<u8>]) -> Option<T>) -> T {
        wait_for(what, || find(&self.received()))
    }
}

fn read(mut stream: Box<dyn Read + Send>, received: &Mutex<Vec<Vec<u8>>>, end: &AtomicBool) {
    let place = {
        let mut received = received.lock().expect("nobody panics");
        received.push(Vec::new());
        received.len() - 1
    };
    let mut buffer = vec![0; 1 << 16];
    while !end.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => received.lock().expect("nobody panics")[place].extend_from_slice(&buffer[..length]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

//! The way to a remote: a stream or a datagram socket, to one of several addresses.
use std::{
    collections::BTreeMap,
    io::{self, IoSlice, Write},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use futures_util::FutureExt;
use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    io::Errno,
    net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{TcpStream, UdpSocket, UnixDatagram, UnixStream},
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use crate::log::remote::{
    address::{self, Address},
    fluentd::acknowledgement,
    message::Batch,
    tls,
};

const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// Of one that reads what it is sent.
const ACKNOWLEDGE_PATIENCE: Duration = Duration::from_secs(30);

pub enum Wire {
    Udp(UdpSocket),
    UnixDatagram(UnixDatagram),
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    /// To the first address that answers; the reason of the last one otherwise, in Go's words.
    pub async fn connect(addresses: &[Address], options: &BTreeMap<String, String>) -> io::Result<Wire> {
        let mut failed = io::Error::other("no address");
        for address in addresses {
            let attempt = match timeout(CONNECT_PATIENCE, connect(address, options)).await {
                Ok(attempt) => attempt,
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "i/o timeout")),
            };
            match attempt {
                Ok(wire) => return Ok(wire),
                Err(error) => {
                    let (network, place) = (address.network(), address.place());
                    let message = format!("dial {network} {place}: connect: {}", address::reason(&error));
                    failed = io::Error::new(error.kind(), message);
                }
            }
        }
        Err(failed)
    }

    /// All of it, or an error after which nobody knows how much. Waits for ever for one that takes nothing.
    pub async fn send(&mut self, batch: &Batch) -> io::Result<()> {
        if self.is_closed() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        match self {
            Wire::Udp(socket) => {
                for datagram in batch.datagrams() {
                    match socket.send(datagram).await {
                        // Nobody listens; who sends datagrams does not ask.
                        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                            let _ = socket.send(datagram).await;
                        }
                        sent => drop(sent?),
                    }
                }
                Ok(())
            }
            Wire::UnixDatagram(socket) => {
                for datagram in batch.datagrams() {
                    match socket.send(datagram).await {
                        Err(error) if is_too_large(&error) => send_as_file(socket, datagram).await?,
                        sent => drop(sent?),
                    }
                }
                Ok(())
            }
            Wire::Tcp(stream) => stream.write_all(&batch.bytes).await,
            Wire::Unix(stream) => stream.write_all(&batch.bytes).await,
            Wire::Tls(stream) => {
                stream.write_all(&batch.bytes).await?;
                stream.flush().await
            }
        }?;
        if batch.acknowledgements.is_empty() {
            return Ok(());
        }
        match timeout(ACKNOWLEDGE_PATIENCE, self.hear(&batch.acknowledgements)).await {
            Ok(heard) => heard,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no acknowledgement")),
        }
    }

    /// Has the other side hung up? Then what is written would go nowhere, and be no error yet.
    fn is_closed(&mut self) -> bool {
        match self {
            Wire::Udp(_) | Wire::UnixDatagram(_) => false,
            Wire::Tcp(stream) => hung_up(stream.as_fd()),
            Wire::Unix(stream) => hung_up(stream.as_fd()),
            Wire::Tls(stream) => matches!(stream.read(&mut [0; 256]).now_or_never(), Some(Ok(0) | Err(_))),
        }
    }

    async fn hear(&mut self, wanted: &[String]) -> io::Result<()> {
        let mut missing: Vec<&String> = wanted.iter().collect();
        let mut bytes = Vec::new();
        while !missing.is_empty() {
            let count = match self {
                Wire::Tcp(stream) => stream.read_buf(&mut bytes).await?,
                Wire::Unix(stream) => stream.read_buf(&mut bytes).await?,
                Wire::Tls(stream) => stream.read_buf(&mut bytes).await?,
                Wire::Udp(_) | Wire::UnixDatagram(_) => return Ok(()),
            };
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            while let Some((id, length)) = acknowledgement(&bytes) {
                missing.retain(|wanted| **wanted != id);
                bytes.drain(..length);
            }
        }
        Ok(())
    }
}

async fn connect(address: &Address, options: &BTreeMap<String, String>) -> io::Result<Wire> {
    match address {
        Address::Udp(place) => {
            let mut failed = io::ErrorKind::NotFound.into();
            for address in tokio::net::lookup_host(place).await? {
                let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any).await?;
                match socket.connect(address).await {
                    Ok(()) => return Ok(Wire::Udp(socket)),
                    Err(error) => failed = error,
                }
            }
            Err(failed)
        }
        Address::Tcp(place) => TcpStream::connect(place).await.map(Wire::Tcp),
        Address::Tls(place) => {
            let stream = TcpStream::connect(place).await?;
            tls::connect(stream, place, options)
                .await
                .map(|stream| Wire::Tls(Box::new(stream)))
        }
        Address::Unix(path) => UnixStream::connect(path).await.map(Wire::Unix),
        Address::UnixDatagram(path) => connect_datagram(path).map(Wire::UnixDatagram),
    }
}

fn connect_datagram(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(socket)
}

fn hung_up(fd: BorrowedFd) -> bool {
    let mut byte = [0; 1];
    match recv(fd, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((count, _)) => count == 0,
        Err(Errno::AGAIN | Errno::INTR) => false,
        Err(_) => true,
    }
}

fn is_too_large(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error())
}

/// A message that no datagram can hold goes as a sealed file in memory, beside an empty one.
async fn send_as_file(socket: &UnixDatagram, bytes: &[u8]) -> io::Result<()> {
    let mut file = std::fs::File::from(memfd_create("log", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.write_all(bytes)?;
    fcntl_add_seals(
        &file,
        SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL,
    )?;
    let file = OwnedFd::from(file);
    let send = || {
        let fds = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(socket, &[IoSlice::new(&[])], &mut control, flags)
    };
    socket.async_io(Interest::WRITABLE, || Ok(send()?)).await.map(drop)
}

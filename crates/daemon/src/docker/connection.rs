//! A client's connection, below and beyond HTTP.
//!
//! Half-closed connections stay open, because a client may end its side while it waits for an answer. A client that is
//! gone altogether looks the same to a read; on unix sockets the kernel tells the two apart, and [`Presence`] asks it.
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf, unix::AsyncFd},
    net::{TcpStream, UnixStream},
    sync::mpsc,
};
use tokio_rustls::server::TlsStream;

/// Before looking again, should the kernel wake us for anything but the end of a client.
const MISTAKEN_PAUSE: Duration = Duration::from_secs(1);

/// How long a client may take to read an answer's head before what follows is sent all the same.
const HEAD_PATIENCE: Duration = Duration::from_millis(50);
/// Looks at once, before waiting: most clients read while we look.
const HEAD_YIELDS: u32 = 16;
const HEAD_PERIOD: Duration = Duration::from_millis(1);

/// A client's connection.
#[derive(Debug)]
pub enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Forwards to the stream inside.
macro_rules! forward {
    ($($method:ident($($argument:ident: $kind:ty),*) -> $result:ty;)*) => {$(
        fn $method(self: Pin<&mut Self>, context: &mut Context<'_>, $($argument: $kind),*) -> Poll<io::Result<$result>> {
            match self.get_mut() {
                Socket::Unix(stream) => Pin::new(stream).$method(context, $($argument),*),
                Socket::Tcp(stream) => Pin::new(stream).$method(context, $($argument),*),
                Socket::Tls(stream) => Pin::new(stream).$method(context, $($argument),*),
            }
        }
    )*};
}

impl Socket {
    /// Whether what is written to its descriptor is what the client reads.
    pub fn is_direct(&self) -> bool {
        matches!(self, Socket::Unix(_) | Socket::Tcp(_))
    }

    /// For a thread that waits: the descriptor itself, where that is the connection.
    pub fn into_blocking(self) -> io::Result<OwnedFd> {
        let descriptor: OwnedFd = match self {
            Socket::Unix(stream) => stream.into_std()?.into(),
            Socket::Tcp(stream) => stream.into_std()?.into(),
            Socket::Tls(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        rustix::io::ioctl_fionbio(&descriptor, false)?;
        Ok(descriptor)
    }

    /// Where the kernel can tell: a handle that tells when the client is gone, and not only done with sending.
    pub fn presence(&self) -> Option<Presence> {
        match self {
            Socket::Unix(stream) => {
                let second = stream.as_fd().try_clone_to_owned();
                second.and_then(Presence::new).ok()
            }
            Socket::Tcp(_) | Socket::Tls(_) => None,
        }
    }
}

/// Waits a moment, at most [`HEAD_PATIENCE`], until the client has read what it was sent.
///
/// Clients exist (Docker's SDK for Python) that read an answer's head through a buffer and what follows an upgrade past
/// it: what reaches them together with the head is lost to them. Slower engines never met them.
pub async fn head_read(stream: &UnixStream) {
    let deadline = Instant::now() + HEAD_PATIENCE;
    let mut tries = 0;
    while corten_linux::socket::unread(stream.as_fd()).is_ok_and(|bytes| bytes > 0) && Instant::now() < deadline {
        tries += 1;
        if tries <= HEAD_YIELDS {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(HEAD_PERIOD).await;
        }
    }
}

/// A second descriptor of a client's unix socket, that only waits for its end.
#[derive(Debug)]
pub struct Presence(AsyncFd<OwnedFd>);

impl Presence {
    fn new(socket: OwnedFd) -> io::Result<Presence> {
        // Nobody sends what is urgent over a unix socket: all that comes is the news that both directions are closed.
        #[expect(
            deprecated,
            reason = "its successor is unsafe for the sake of types that change their descriptor; OwnedFd does not"
        )]
        AsyncFd::with_interest(socket, Interest::PRIORITY).map(Presence)
    }

    /// Ends when the client has closed both directions.
    pub async fn ended(&self) {
        while !self.hung_up() {
            let ready = self.0.ready(Interest::PRIORITY).await;
            if let Ok(mut ready) = ready
                && !self.hung_up()
            {
                ready.clear_ready();
                tokio::time::sleep(MISTAKEN_PAUSE).await;
            }
        }
    }

    fn hung_up(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds = [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::empty())];
        rustix::event::poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::HUP)
    }
}

impl AsyncRead for Socket {
    forward! {
        poll_read(buffer: &mut ReadBuf<'_>) -> ();
    }
}

impl AsyncWrite for Socket {
    forward! {
        poll_write(bytes: &[u8]) -> usize;
        poll_write_vectored(slices: &[io::IoSlice<'_>]) -> usize;
        poll_flush() -> ();
        poll_shutdown() -> ();
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// A connection taken from HTTP, with what was read ahead of it.
#[derive(Debug)]
pub struct Bare {
    pub read: Bytes,
    pub socket: Socket,
}

impl Bare {
    /// Puts bytes that were read too far back in front.
    pub fn rewind(self, bytes: Bytes) -> Bare {
        let read = match (bytes.is_empty(), self.read.is_empty()) {
            (true, _) => self.read,
            (_, true) => bytes,
            _ => [bytes, self.read].concat().into(),
        };
        Bare { read, ..self }
    }
}

impl AsyncRead for Bare {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.socket).poll_read(context, buffer);
        }
        let count = self.read.len().min(buffer.remaining());
        buffer.put_slice(&self.read.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bare {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

/// What is done with a bare connection. It begins with writing the answer's head.
pub type Work = Box<dyn FnOnce(Bare) -> BoxFuture<'static, ()> + Send>;

/// A request's way to take the connection that it came on away from HTTP without an upgrade.
#[derive(Debug, Clone)]
pub struct Takeover {
    sender: mpsc::Sender<Work>,
    direct: bool,
}

impl Takeover {
    /// The receiver is for whoever owns the connection; `direct` is [`Socket::is_direct`] of it.
    pub fn channel(direct: bool) -> (Takeover, mpsc::Receiver<Work>) {
        let (sender, receiver) = mpsc::channel(1);
        (Takeover { sender, direct }, receiver)
    }

    /// Whether the work may write to the connection's descriptor itself.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// Never returns: the request is over, and this future is dropped with HTTP's half of the connection.
    pub async fn take(self, work: Work) -> std::convert::Infallible {
        let _ = self.sender.send(work).await;
        std::future::pending().await
    }
}

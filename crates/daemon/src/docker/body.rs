//! Requests' bodies for code that blocks.
use std::{io, pin::pin, time::Duration, vec};

use axum::body::{Body, BodyDataStream, Bytes};
use bytes::Buf;
use futures_util::{FutureExt, StreamExt};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    task::yield_now,
    time::timeout,
};

/// A client that sends more than this after a failure is cut off after all.
const UNREAD_BYTES_MAX: usize = 4 << 30;

/// How long a client may send nothing in the middle of a body.
const STALL_PATIENCE: Duration = Duration::from_secs(300);

/// A batch that is this large is handed over, whatever follows.
const BATCH_BYTES: usize = 256 << 10;

/// How many batches wait for a slow reader.
const BATCHES_AHEAD: usize = 2;

/// The body as a reader. To be called by a handler, and read on a thread that may wait.
///
/// Docker's clients send an archive of small files as several tiny chunks each. What is there at once is handed over at
/// once, so that the thread is woken but once for it. The body has its turn until all is read, also after its reader was
/// dropped: a client that is cut off while it sends never sees the answer.
pub fn reader(body: Body, turn: OwnedSemaphorePermit) -> impl io::BufRead + Send + 'static {
    let (pieces, handing_over) = open(body, turn, Peer::Client);
    tokio::spawn(handing_over);
    pieces
}

/// The same for a verb that answers when it is done. Faster, because the body passes through no other task than the
/// connection's own.
pub async fn reading<V: Future>(body: Body, turn: OwnedSemaphorePermit, verb: impl FnOnce(Pieces) -> V) -> V::Output {
    let (pieces, handing_over) = open(body, turn, Peer::Client);
    let mut handing_over = Box::pin(handing_over);
    let mut verb = pin!(verb(pieces));
    tokio::select! {
        () = &mut handing_over => verb.await,
        result = &mut verb => {
            tokio::spawn(handing_over);
            result
        }
    }
}

/// The same of what a server sends us. Of one that is not needed any more the rest is left unread.
pub fn download(body: Body, turn: OwnedSemaphorePermit) -> impl io::BufRead + Send + 'static {
    let (pieces, handing_over) = open(body, turn, Peer::Server);
    tokio::spawn(handing_over);
    pieces
}

/// Who sends a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    Client,
    Server,
}

/// A reader, and the work that brings it what it reads.
fn open(body: Body, turn: OwnedSemaphorePermit, peer: Peer) -> (Pieces, impl Future<Output = ()> + Send + 'static) {
    let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
    let handing_over = async move {
        let mut body = body.into_data_stream();
        if hand_over(&mut body, peer, sender).await.is_none() && peer == Peer::Client {
            discard(body).await;
        }
        drop(turn);
    };
    let pieces = Pieces {
        batches,
        batch: Vec::new().into_iter(),
        piece: Bytes::new(),
        ended: false,
    };
    (pieces, handing_over)
}

/// What came at once. The end is an empty one: without it, the body was cut off.
type Batch = io::Result<Vec<Bytes>>;

/// Until the body's end or failure; none if nobody reads any more.
async fn hand_over(body: &mut BodyDataStream, peer: Peer, reader: mpsc::Sender<Batch>) -> Option<()> {
    let mut ended = None;
    while ended.is_none() {
        let mut batch = Vec::new();
        let mut size = 0;
        let mut piece = next(body, peer).await;
        ended = loop {
            match piece {
                Some(Ok(piece)) => {
                    size += piece.len();
                    batch.push(piece);
                }
                ended => break Some(ended),
            }
            if size >= BATCH_BYTES {
                break None;
            }
            piece = match next_ready(body).await {
                Some(ready) => ready,
                None => break None,
            };
        };
        if size > 0 {
            reader.send(Ok(batch)).await.ok()?;
        }
    }
    let last = match ended.flatten() {
        Some(Err(error)) => Err(error),
        _ => Ok(Vec::new()),
    };
    reader.send(last).await.ok()
}

/// The next piece, or a failure when nothing comes for too long.
async fn next(body: &mut BodyDataStream, peer: Peer) -> Option<io::Result<Bytes>> {
    match timeout(STALL_PATIENCE, body.next()).await {
        Ok(piece) => Some(piece?.map_err(io::Error::other)),
        Err(_) => Some(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            match peer {
                Peer::Client => "the client sent nothing for too long",
                Peer::Server => "the server sent nothing for too long",
            },
        ))),
    }
}

/// What follows without waiting for the client, if anything.
async fn next_ready(body: &mut BodyDataStream) -> Option<Option<io::Result<Bytes>>> {
    let ready = match body.next().now_or_never() {
        // The connection's task may hold more than it could pass on yet.
        None => {
            yield_now().await;
            body.next().now_or_never()
        }
        ready => ready,
    };
    ready.map(|piece| Some(piece?.map_err(io::Error::other)))
}

async fn discard(mut body: BodyDataStream) {
    let mut unread = 0;
    while let Some(Ok(piece)) = next(&mut body, Peer::Client).await {
        unread += piece.len();
        if unread > UNREAD_BYTES_MAX {
            return;
        }
    }
}

/// A body, for a thread that may wait.
pub struct Pieces {
    batches: mpsc::Receiver<Batch>,
    batch: vec::IntoIter<Bytes>,
    piece: Bytes,
    ended: bool,
}

impl io::BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.piece.is_empty() && !self.ended {
            if let Some(piece) = self.batch.next() {
                self.piece = piece;
                continue;
            }
            let batch = match self.batches.blocking_recv() {
                Some(batch) => batch?,
                None => return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the body was cut off")),
            };
            self.ended = batch.is_empty();
            self.batch = batch.into_iter();
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, amount: usize) {
        self.piece.advance(amount);
    }
}

impl io::Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = io::BufRead::fill_buf(self)?;
        let amount = available.len().min(buffer.len());
        buffer[..amount].copy_from_slice(&available[..amount]);
        io::BufRead::consume(self, amount);
        Ok(amount)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use futures_util::stream;
    use tokio::sync::Semaphore;

    use super::*;

    /// A body of `pieces`, and the only turn there is.
    fn begin(
        pieces: impl Iterator<Item = io::Result<Bytes>> + Send + 'static,
    ) -> (Arc<Semaphore>, impl io::BufRead + Send + 'static) {
        let turns = Arc::new(Semaphore::new(1));
        let turn = Arc::clone(&turns).try_acquire_owned().expect("nobody has it");
        (turns, reader(Body::from_stream(stream::iter(pieces)), turn))
    }

    #[tokio::test]
    async fn tiny_pieces_are_read_in_order_and_to_the_end() {
        let sent: Vec<u8> = (0..400_000_u32).map(|number| number.to_be_bytes()[3]).collect();
        let pieces: Vec<_> = sent.chunks(7).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let (turns, mut body) = begin(pieces.into_iter());
        let read = tokio::task::spawn_blocking(move || {
            let mut read = Vec::new();
            body.read_to_end(&mut read).map(|_| read)
        });
        assert!(read.await.expect("no panic").expect("whole") == sent);
        let _turn = turns.acquire().await.expect("given back at the end");
    }

    #[tokio::test]
    async fn a_body_that_fails_is_not_taken_for_a_short_one() {
        let pieces = [Ok(Bytes::from_static(b"half")), Err(io::Error::other("cut"))];
        let (_, mut body) = begin(pieces.into_iter());
        let read = tokio::task::spawn_blocking(move || {
            let mut read = Vec::new();
            (body.read_to_end(&mut read).map_err(|error| error.to_string()), read)
        });
        let (result, read) = read.await.expect("no panic");
        assert_eq!(read, b"half");
        assert!(result.expect_err("it failed").contains("cut"));
    }

    #[tokio::test]
    async fn what_nobody_reads_is_taken_from_the_client_all_the_same() {
        let taken = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&taken);
        let pieces = (0..1000).map(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok(Bytes::from(vec![0; BATCH_BYTES]))
        });
        let (turns, body) = begin(pieces);
        drop(body);
        let _turn = turns.acquire().await.expect("given back at the end");
        assert_eq!(taken.load(Ordering::Relaxed), 1000);
    }
}

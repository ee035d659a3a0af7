//! Requests' bodies for code that blocks.
use std::{io, time::Duration};

use axum::body::{Body, Bytes};
use futures_util::{Stream, StreamExt, stream};
use tokio::{runtime::Handle, sync::OwnedSemaphorePermit, time::timeout};
use tokio_util::io::{StreamReader, SyncIoBridge};

/// A client that sends more than this after a failure is cut off after all.
const UNREAD_BYTES_MAX: u64 = 4 << 30;

/// How long a client may send nothing in the middle of a body.
const STALL_PATIENCE: Duration = Duration::from_secs(300);

/// The body as a reader that copies nothing. To be called by a handler, and read on a thread that may wait.
///
/// It has its turn until all is read.
pub fn reader(body: Body, turn: OwnedSemaphorePermit) -> impl io::BufRead + Send + 'static {
    let stream = Box::pin(unstalled(body, turn));
    Whole(Some(SyncIoBridge::new(StreamReader::new(stream))))
}

/// A body that ends with a failure when nothing of it comes for too long.
fn unstalled(body: Body, turn: OwnedSemaphorePermit) -> impl Stream<Item = io::Result<Bytes>> {
    let start = Some((body.into_data_stream(), turn));
    stream::unfold(start, |state| async move {
        let (mut pieces, turn) = state?;
        match timeout(STALL_PATIENCE, pieces.next()).await {
            Ok(piece) => Some((piece?.map_err(io::Error::other), Some((pieces, turn)))),
            Err(_) => {
                let error = io::Error::new(io::ErrorKind::TimedOut, "the client sent nothing for too long");
                Some((Err(error), None))
            }
        }
    })
}

/// Reads to the end what a failed verb left unread: a client that is cut off while it sends never sees the answer.
struct Whole<R: io::Read + Send + 'static>(Option<R>);

impl<R: io::Read + Send + 'static> Whole<R> {
    fn inner(&mut self) -> &mut R {
        self.0.as_mut().expect("only a drop takes it")
    }
}

impl<R: io::Read + Send + 'static> io::Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner().read(buffer)
    }
}

impl<R: io::BufRead + Send + 'static> io::BufRead for Whole<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.as_mut().expect("only a drop takes it").fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.inner().consume(amount);
    }
}

impl<R: io::Read + Send + 'static> Drop for Whole<R> {
    fn drop(&mut self) {
        // On a thread of its own, as a handler that fails early must not wait.
        if let (Some(rest), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn_blocking(move || {
                let _ = io::copy(&mut io::Read::take(rest, UNREAD_BYTES_MAX), &mut io::sink());
            });
        }
    }
}

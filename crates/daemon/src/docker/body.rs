//! Requests' bodies for code that blocks.
use std::io;

use axum::body::Body;
use futures_util::TryStreamExt;
use tokio::runtime::Handle;
use tokio_util::io::{StreamReader, SyncIoBridge};

/// A client that sends more than this after a failure is cut off after all.
const UNREAD_BYTES_MAX: u64 = 4 << 30;

/// The body as a reader that copies nothing. To be called by a handler, and read on a thread that may wait.
pub fn reader(body: Body) -> impl io::BufRead + Send + 'static {
    let stream = body.into_data_stream().map_err(io::Error::other);
    Whole(Some(SyncIoBridge::new(StreamReader::new(Box::pin(stream)))))
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

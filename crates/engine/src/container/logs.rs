//! `logs`: what a container printed, from its json-file log.
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::mpsc;

/// Chunks of many stdcopy frames each, or of raw bytes for a container with a terminal.
#[derive(Debug)]
pub struct LogStream {
    pub tty: bool,
    chunks: mpsc::Receiver<io::Result<Bytes>>,
}

impl Stream for LogStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        self.chunks.poll_recv(context)
    }
}

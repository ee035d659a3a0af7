//! Blocks of a stream on their way from the thread that reads to the threads that use them.
use std::{
    io::{self, BufRead, Read},
    sync::{Arc, mpsc::Receiver},
};

/// Of one block: large enough that handing over costs nothing, small enough to stay in the processor's cache.
pub const SIZE: usize = 256 << 10;
/// How many blocks wait at most.
pub const WAITING: usize = 16;

/// The receiving end as a reader, without copies. Ends where the sender does.
#[derive(Debug)]
pub struct Blocks {
    receiver: Receiver<Arc<Vec<u8>>>,
    current: Arc<Vec<u8>>,
    position: usize,
}

impl Blocks {
    pub fn new(receiver: Receiver<Arc<Vec<u8>>>) -> Blocks {
        Blocks {
            receiver,
            current: Arc::default(),
            position: 0,
        }
    }
}

impl BufRead for Blocks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.position == self.current.len() {
            match self.receiver.recv() {
                Ok(block) => {
                    self.current = block;
                    self.position = 0;
                }
                Err(_) => return Ok(&[]),
            }
        }
        Ok(&self.current[self.position..])
    }

    fn consume(&mut self, amount: usize) {
        self.position += amount;
    }
}

impl Read for Blocks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

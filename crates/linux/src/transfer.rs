//! Bytes of an archive on their way out, copied as seldom as the kernel allows.
//!
//! Whoever makes an archive writes into a [`Sink`] and says which bytes are a file's: a sink that has a descriptor can then
//! let the kernel move them (`sendfile(2)`), and they never come into this process.
use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{buffer::spare_capacity, fs::sendfile, io::Errno};

/// Of one call: large enough that calls cost nothing, small enough that a client who leaves is noticed soon.
const STEP: usize = 4 << 20;
/// Of a read, where the kernel cannot move the bytes itself.
const BUFFER: usize = 256 << 10;

/// Takes bytes in order.
pub trait Sink: Send {
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// `length` bytes of a file from `offset` on, exactly: what the file has lost meanwhile comes as zeroes.
    fn file(&mut self, file: BorrowedFd, offset: u64, length: u64) -> io::Result<()> {
        let sent = read_into(file, offset, length, |bytes| self.bytes(bytes))?;
        zeroes(length - sent, |bytes| self.bytes(bytes))
    }
}

impl Sink for Vec<u8> {
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// A descriptor that blocks: a socket, a pipe, a file.
#[derive(Debug)]
pub struct Descriptor(pub OwnedFd);

impl Sink for Descriptor {
    fn bytes(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match rustix::io::write(&self.0, bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn file(&mut self, file: BorrowedFd, offset: u64, length: u64) -> io::Result<()> {
        let mut position = offset;
        let end = offset.saturating_add(length);
        while position < end {
            let step = usize::try_from(end - position).unwrap_or(STEP).min(STEP);
            match sendfile(self.0.as_fd(), file, Some(&mut position), step) {
                Ok(0) => return zeroes(end - position, |bytes| self.bytes(bytes)),
                Ok(_) | Err(Errno::INTR) => {}
                // A file system that cannot give its pages away.
                Err(Errno::INVAL | Errno::NOSYS) => {
                    let left = end - position;
                    let sent = read_into(file, position, left, |bytes| self.bytes(bytes))?;
                    return zeroes(left - sent, |bytes| self.bytes(bytes));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// HTTP's chunked coding (RFC 9112, section 7.1) on a socket that blocks.
///
/// What is small is gathered: a socket's other end is woken by every write.
#[derive(Debug)]
pub struct Chunked {
    socket: Descriptor,
    /// The next chunk's payload, as far as it is there.
    gathered: Vec<u8>,
    /// Whether the chunk before is still to be ended.
    open: bool,
}

/// Of a gathered chunk.
const GATHERED: usize = 64 << 10;
/// A file that is larger is moved by the kernel.
const SMALL: u64 = 16 << 10;

impl Chunked {
    /// Writes the message's head, as it is.
    pub fn begin(socket: OwnedFd, head: &[u8]) -> io::Result<Chunked> {
        let mut socket = Descriptor(socket);
        socket.bytes(head)?;
        Ok(Chunked {
            socket,
            gathered: Vec::with_capacity(GATHERED),
            open: false,
        })
    }

    /// Writes the last chunk; without it nobody takes the message for whole.
    pub fn finish(mut self) -> io::Result<OwnedFd> {
        self.flush()?;
        let end: &[u8] = if self.open { b"\r\n0\r\n\r\n" } else { b"0\r\n\r\n" };
        self.socket.bytes(end)?;
        Ok(self.socket.0)
    }

    fn next(&mut self, length: u64) -> String {
        let end = if std::mem::replace(&mut self.open, true) {
            "\r\n"
        } else {
            ""
        };
        format!("{end}{length:x}\r\n")
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut gathered = std::mem::take(&mut self.gathered);
        let result = self.chunk(&gathered);
        gathered.clear();
        self.gathered = gathered;
        result
    }

    fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let begin = self.next(bytes.len() as u64);
        let slices = [IoSlice::new(begin.as_bytes()), IoSlice::new(bytes)];
        let written = loop {
            match rustix::io::writev(self.socket.0.as_fd(), &slices) {
                Err(Errno::INTR) => {}
                written => break written?,
            }
        };
        match written.checked_sub(begin.len()) {
            Some(of_bytes) => self.socket.bytes(&bytes[of_bytes..]),
            None => {
                self.socket.bytes(&begin.as_bytes()[written..])?;
                self.socket.bytes(bytes)
            }
        }
    }
}

impl Sink for Chunked {
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.gathered.len() + bytes.len() > GATHERED {
            self.flush()?;
        }
        if bytes.len() > GATHERED {
            return self.chunk(bytes);
        }
        self.gathered.extend_from_slice(bytes);
        Ok(())
    }

    fn file(&mut self, file: BorrowedFd, offset: u64, length: u64) -> io::Result<()> {
        if length > SMALL {
            self.flush()?;
            let begin = self.next(length);
            self.socket.bytes(begin.as_bytes())?;
            return self.socket.file(file, offset, length);
        }
        let length = usize::try_from(length).expect("it is small");
        if self.gathered.len() + length > GATHERED {
            self.flush()?;
        }
        let end = self.gathered.len() + length;
        let mut position = offset;
        while self.gathered.len() < end {
            let before = self.gathered.len();
            match rustix::io::pread(file, spare_capacity(&mut self.gathered), position) {
                // It has become shorter.
                Ok(0) => self.gathered.resize(end, 0),
                Ok(count) => {
                    let count = count.min(end - before);
                    self.gathered.truncate(before + count);
                    position += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Reads up to `length` bytes; returns how many there were.
pub fn read_into(
    file: BorrowedFd,
    offset: u64,
    length: u64,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let mut buffer = vec![0; usize::try_from(length).unwrap_or(BUFFER).min(BUFFER)];
    let mut done = 0;
    while done < length {
        let step = usize::try_from(length - done).unwrap_or(BUFFER).min(BUFFER);
        match rustix::io::pread(file, &mut buffer[..step], offset + done) {
            Ok(0) => break,
            Ok(count) => {
                take(&buffer[..count])?;
                done += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(done)
}

/// So many zero bytes.
pub fn zeroes(mut count: u64, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    const ZEROES: [u8; 8192] = [0; 8192];
    while count > 0 {
        let step = count.min(ZEROES.len() as u64);
        take(&ZEROES[..step as usize])?;
        count -= step;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Seek, Write},
        os::unix::net::UnixStream,
        thread,
    };

    use super::*;

    #[test]
    fn a_file_arrives_whole_and_what_it_has_lost_as_zeroes() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..700_000_u32).map(|number| number as u8).collect();
        file.write_all(&bytes).unwrap();
        file.rewind().unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let reader = thread::spawn(move || {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).unwrap();
            all
        });
        let mut socket = Descriptor(ours.into());
        socket.bytes(b"head").unwrap();
        socket.file(file.as_fd(), 3, 700_010).unwrap();
        drop(socket);
        let mut expected = b"head".to_vec();
        expected.extend_from_slice(&bytes[3..]);
        expected.extend_from_slice(&[0; 13]);
        assert!(reader.join().unwrap() == expected);
        let mut memory = Vec::new();
        Sink::file(&mut memory, file.as_fd(), 699_998, 4).unwrap();
        assert_eq!(memory, [bytes[699_998], bytes[699_999], 0, 0]);
    }

    #[test]
    fn nobody_at_the_other_end_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(64 << 20).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let error = Descriptor(ours.into()).file(file.as_fd(), 0, 64 << 20).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn small_pieces_and_files_are_gathered_and_large_files_are_chunks() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let reader = thread::spawn(move || {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).unwrap();
            all
        });
        let mut chunks = Chunked::begin(ours.into(), b"HEAD\r\n\r\n").unwrap();
        chunks.bytes(b"abc").unwrap();
        chunks.bytes(b"").unwrap();
        chunks.file(file.as_fd(), 8, 4).unwrap();
        chunks.file(file.as_fd(), 0, SMALL + 1).unwrap();
        chunks.bytes(&[b'x'; GATHERED + 1]).unwrap();
        chunks.bytes(&[b'y'; GATHERED]).unwrap();
        chunks.file(file.as_fd(), 9, 2).unwrap();
        drop(chunks.finish().unwrap());
        let zeroes = vec![0; usize::try_from(SMALL).unwrap() + 1 - 10];
        let expected = [
            b"HEAD\r\n\r\n7\r\nabc89\0\0\r\n4001\r\n0123456789".as_slice(),
            &zeroes,
            b"\r\n10001\r\n",
            &[b'x'; GATHERED + 1],
            b"\r\n10000\r\n",
            &[b'y'; GATHERED],
            b"\r\n2\r\n9\0\r\n0\r\n\r\n",
        ];
        assert!(reader.join().unwrap() == expected.concat());
    }
}

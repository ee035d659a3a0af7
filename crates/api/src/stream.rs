//! stdcopy frames: standard output and error of a container in one byte stream.
//!
//! A frame is one byte for the stream, three zero bytes, the payload's length as four bytes big endian, the payload. A
//! container with a terminal has no frames: its stream is raw.
use bytes::{BufMut, Bytes, BytesMut};

pub const HEADER_BYTES: usize = 8;

/// Refuse frames beyond this: no writer makes them, so the stream is something else.
const MAX_PAYLOAD_BYTES: usize = 64 * 1024 * 1024;

/// Which stream a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    Stdin,
    Stdout,
    Stderr,
    /// The engine's own words about a failure in mid-stream.
    SystemError,
}

impl Stream {
    fn number(self) -> u8 {
        match self {
            Stream::Stdin => 0,
            Stream::Stdout => 1,
            Stream::Stderr => 2,
            Stream::SystemError => 3,
        }
    }

    fn from_number(number: u8) -> Option<Stream> {
        Some(match number {
            0 => Stream::Stdin,
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            3 => Stream::SystemError,
            _ => return None,
        })
    }
}

/// The eight bytes before a payload.
pub fn header(stream: Stream, payload_bytes: usize) -> [u8; HEADER_BYTES] {
    let length = u32::try_from(payload_bytes).expect("a frame's payload is far below 4 GiB");
    let [a, b, c, d] = length.to_be_bytes();
    [stream.number(), 0, 0, 0, a, b, c, d]
}

/// One whole frame.
pub fn encode(stream: Stream, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEADER_BYTES + payload.len());
    frame.put_slice(&header(stream, payload.len()));
    frame.put_slice(payload);
    frame.freeze()
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("unrecognized stream: {0}")]
    UnknownStream(u8),
    #[error("a frame of {0} bytes is larger than any engine sends")]
    TooLarge(usize),
}

/// Takes frames out of bytes as they arrive, however they are cut.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    pub fn new() -> Decoder {
        Decoder::default()
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if all of it has arrived.
    #[allow(
        clippy::should_implement_trait,
        reason = "an iterator would end where this only waits for more"
    )]
    pub fn next(&mut self) -> Result<Option<(Stream, Bytes)>, DecodeError> {
        if self.buffer.len() < HEADER_BYTES {
            return Ok(None);
        }
        let stream = Stream::from_number(self.buffer[0]).ok_or(DecodeError::UnknownStream(self.buffer[0]))?;
        let length = self.buffer[4..8]
            .iter()
            .fold(0, |length, &byte| (length << 8) | usize::from(byte));
        if length > MAX_PAYLOAD_BYTES {
            return Err(DecodeError::TooLarge(length));
        }
        if self.buffer.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(HEADER_BYTES + length);
        Ok(Some((stream, frame.split_off(HEADER_BYTES).freeze())))
    }

    /// Bytes of a frame whose rest has not come.
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_an_eight_byte_header_and_the_payload() {
        assert_eq!(&encode(Stream::Stderr, b"hello")[..], b"\x02\0\0\0\0\0\0\x05hello");
        assert_eq!(header(Stream::Stdout, 0x01020304), [1, 0, 0, 0, 1, 2, 3, 4]);
    }

    #[test]
    fn frames_come_out_whole_however_the_bytes_are_cut() {
        let mut wire = encode(Stream::Stdout, b"one").to_vec();
        wire.extend_from_slice(&encode(Stream::Stderr, b""));
        wire.extend_from_slice(&encode(Stream::Stdout, &[7; 300]));
        let mut decoder = Decoder::new();
        let mut frames = Vec::new();
        for byte in wire {
            decoder.push(&[byte]);
            while let Some(frame) = decoder.next().unwrap() {
                frames.push(frame);
            }
        }
        assert_eq!(decoder.pending(), 0);
        assert_eq!(frames.len(), 3);
        assert_eq!(frames[0], (Stream::Stdout, Bytes::from_static(b"one")));
        assert_eq!(frames[1], (Stream::Stderr, Bytes::new()));
        assert_eq!(frames[2].1.len(), 300);
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let mut decoder = Decoder::new();
        decoder.push(b"HTTP/1.1 200 OK");
        assert_eq!(decoder.next(), Err(DecodeError::UnknownStream(b'H')));
        let mut decoder = Decoder::new();
        decoder.push(&[1, 0, 0, 0, 255, 255, 255, 255]);
        assert!(matches!(decoder.next(), Err(DecodeError::TooLarge(_))));
    }
}

//! Compression of layers and archives: told by the first bytes, as names and media types lie.
use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;

use crate::layer::error::LayerError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

/// How many first bytes `detect` looks at.
pub const MAGIC: usize = 6;

/// Fails for compressions that Docker knows and this does not.
pub fn detect(start: &[u8]) -> Result<Compression, LayerError> {
    match start {
        [0x1f, 0x8b, 8, ..] => Ok(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Compression::Zstd),
        // A zstd stream may begin with skippable frames.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err(LayerError::Compression("xz")),
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] => Err(LayerError::Compression("bzip2")),
        _ => Ok(Compression::None),
    }
}

/// Inflates all members or frames up to the end of the input.
pub fn inflate<'a>(compression: Compression, input: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(MultiGzDecoder::new(input)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
    })
}

/// Reads ahead at least `wanted` bytes, or all there are, without taking them.
pub struct Peeked<R> {
    start: io::Cursor<Vec<u8>>,
    rest: R,
}

impl<R: Read> Peeked<R> {
    pub fn new(mut rest: R, wanted: usize) -> io::Result<Peeked<R>> {
        let mut start = Vec::with_capacity(wanted);
        rest.by_ref().take(wanted as u64).read_to_end(&mut start)?;
        Ok(Peeked {
            start: io::Cursor::new(start),
            rest,
        })
    }

    /// What was read ahead.
    pub fn start(&self) -> &[u8] {
        self.start.get_ref()
    }
}

impl<R: Read> Read for Peeked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.start.read(buffer)? {
            0 => self.rest.read(buffer),
            count => Ok(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write};

    use flate2::write::GzEncoder;

    use super::*;

    fn inflated(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        let peeked = Peeked::new(bytes, MAGIC)?;
        let compression = detect(peeked.start()).map_err(io::Error::other)?;
        inflate(compression, BufReader::new(peeked))?.read_to_end(&mut out)?;
        Ok(out)
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn all_members_and_frames_are_inflated() {
        let members = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(inflated(&members).unwrap(), b"one two");
        let frame = |text: &[u8]| zstd::encode_all(text, 1).unwrap();
        assert_eq!(inflated(&[frame(b"one "), frame(b"two")].concat()).unwrap(), b"one two");
        assert_eq!(inflated(b"plain").unwrap(), b"plain");
        assert_eq!(inflated(b"").unwrap(), b"");
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let gzip = gzip(&[7; 10000]);
        assert!(inflated(&gzip[..gzip.len() - 4]).is_err());
        let zstd = zstd::encode_all(&[7; 10000][..], 1).unwrap();
        assert!(inflated(&zstd[..zstd.len() - 2]).is_err());
    }

    #[test]
    fn other_compressions_are_named() {
        let error = detect(&[0xfd, b'7', b'z', b'X', b'Z', 0]).unwrap_err();
        assert!(error.to_string().starts_with("xz compression"));
    }
}

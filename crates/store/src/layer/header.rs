//! The 512-byte header of a tar entry.
//!
//! The same bytes mean different things in the formats: what ustar uses as the path's first half is GNU's place for
//! times and for the map of a sparse file.
use crate::layer::sparse::{self, Segment};

pub const BLOCK: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Before POSIX: no magic.
    V7,
    Ustar,
    Gnu,
}

#[derive(Debug, Clone)]
pub struct Header {
    bytes: [u8; BLOCK],
}

impl Header {
    /// `None` when the checksum is wrong. Some old writers summed signed bytes.
    pub fn new(bytes: [u8; BLOCK]) -> Option<Header> {
        let blank = |index: usize, byte: u8| if (148..156).contains(&index) { b' ' } else { byte };
        let told = number(&bytes[148..156]).ok()?;
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for (index, &byte) in bytes.iter().enumerate() {
            let byte = blank(index, byte);
            unsigned += i64::from(byte);
            signed += i64::from(byte as i8);
        }
        (told == unsigned || told == signed).then_some(Header { bytes })
    }

    pub fn format(&self) -> Format {
        match &self.bytes[257..265] {
            b"ustar  \0" => Format::Gnu,
            magic if magic.starts_with(b"ustar") => Format::Ustar,
            _ => Format::V7,
        }
    }

    pub fn kind_byte(&self) -> u8 {
        self.bytes[156]
    }

    /// Name with prefix.
    pub fn path(&self) -> Vec<u8> {
        let name = text(&self.bytes[..100]);
        let prefix = match self.format() {
            // star keeps times behind a shorter prefix.
            Format::Ustar if &self.bytes[508..] == b"tar\0" => text(&self.bytes[345..476]),
            Format::Ustar => text(&self.bytes[345..500]),
            _ => &[],
        };
        match prefix {
            [] => name.to_vec(),
            prefix => [prefix, b"/", name].concat(),
        }
    }

    pub fn link(&self) -> Vec<u8> {
        text(&self.bytes[157..257]).to_vec()
    }

    pub fn mode(&self) -> Result<u32, &'static str> {
        Ok((number(&self.bytes[100..108])? & 0o7777) as u32)
    }

    pub fn uid(&self) -> Result<u64, &'static str> {
        positive(&self.bytes[108..116])
    }

    pub fn gid(&self) -> Result<u64, &'static str> {
        positive(&self.bytes[116..124])
    }

    /// Of the data in the archive.
    pub fn size(&self) -> Result<u64, &'static str> {
        positive(&self.bytes[124..136])
    }

    pub fn modified(&self) -> Result<(i64, u32), &'static str> {
        Ok((number(&self.bytes[136..148])?, 0))
    }

    pub fn device(&self) -> Result<(u32, u32), &'static str> {
        let number = |field: &[u8]| u32::try_from(number(field)?).map_err(|_| "its device number is out of range");
        Ok((number(&self.bytes[329..337])?, number(&self.bytes[337..345])?))
    }

    /// Of an old GNU sparse file: its real size, the first segments, whether blocks with more follow.
    pub fn sparse(&self) -> Result<(u64, Vec<Segment>, bool), &'static str> {
        let mut segments = Vec::new();
        sparse::read_fields(&self.bytes[386..482], &mut segments)?;
        Ok((positive(&self.bytes[483..495])?, segments, self.bytes[482] != 0))
    }
}

/// A numeric field: octal digits, or base 256 when its first bit is set.
pub fn number(field: &[u8]) -> Result<i64, &'static str> {
    const PROBLEM: &str = "a number in its header is not a number";
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let mut value: i128 = if negative { -1 } else { 0 };
        for (index, &byte) in field.iter().enumerate() {
            let byte = if index == 0 && !negative { byte & 0x7f } else { byte };
            value = (value << 8) | i128::from(byte);
        }
        return i64::try_from(value).map_err(|_| PROBLEM);
    }
    let blank = |byte: &u8| *byte == b' ' || *byte == 0;
    let Some(start) = field.iter().position(|byte| !blank(byte)) else {
        return Ok(0);
    };
    let digits = &field[start..];
    let length = digits.iter().position(blank).unwrap_or(digits.len());
    digits[..length].iter().try_fold(0_i64, |value, &byte| match byte {
        b'0'..=b'7' => Ok(value << 3 | i64::from(byte - b'0')),
        _ => Err(PROBLEM),
    })
}

pub fn positive(field: &[u8]) -> Result<u64, &'static str> {
    u64::try_from(number(field)?).map_err(|_| "a number in its header is negative")
}

fn text(field: &[u8]) -> &[u8] {
    &field[..memchr::memchr(0, field).unwrap_or(field.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(number(b"0000644\0"), Ok(0o644));
        assert_eq!(number(b"   644 \0"), Ok(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Ok(0));
        assert_eq!(number(b"77777777777"), Ok(0o77777777777));
        assert_eq!(number(&[0x80, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1]), Ok((2 << 56) | 1));
        assert_eq!(number(&[0xff; 12]), Ok(-1));
        assert!(number(&[0x80 | 0x3f, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255]).is_err());
        assert!(number(b"12x4567\0").is_err());
        assert!(positive(&[0xff; 12]).is_err());
    }
}

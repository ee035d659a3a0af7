//! The compact log of driver `local`, which is also what remote drivers are fed from.
//!
//! A file is a row of pages of 64 KiB. A page is a magic number, then records, then zeroes; no record reaches over a
//! page's end. So a reader finds records from any page on: it searches for a time by halves, counts lines from the
//! end, and goes on behind a page that is damaged. A record is a header of twelve bytes and the text:
//!
//! ```text
//! u16  length of the text
//! u8   PRESENT | STDERR | ENDED | CONTINUES
//! u8   check of the header's other bytes
//! i64  nanoseconds since the epoch
//! ```
//!
//! Numbers are little-endian. The newline that ended a line is a flag, not a byte.
use super::writer::Stream;

pub const PAGE_BYTES: usize = 64 * 1024;
pub const MAGIC: [u8; 8] = *b"corten\x01\n";
pub const HEADER_BYTES: usize = 12;

/// Set in every record: a page's unused end is zeroes.
const PRESENT: u8 = 0x80;
const STDERR: u8 = 1;
/// A newline followed.
const ENDED: u8 = 2;
/// It goes on with a line whose beginning is in the records before.
const CONTINUES: u8 = 4;
/// No piece of the same line follows.
const LAST: u8 = 8;

/// One line, or a piece of a long one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub stream: Stream,
    pub ended: bool,
    pub continues: bool,
    /// A line's only or last piece; that of a stream which ended without a newline is not `ended`.
    pub last: bool,
    /// Since the epoch.
    pub nanoseconds: i64,
    pub text: &'a [u8],
}

/// What stands at a place of a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    Record(Record<'a>),
    /// The rest of this page holds nothing (any more).
    NextPage,
    /// More bytes are needed to tell.
    Incomplete,
}

/// How many bytes a record takes that would be written at `offset`: padding and a page's magic number included.
pub fn cost(offset: u64, text: usize) -> usize {
    let size = HEADER_BYTES + text;
    let (padding, magic) = lead(offset, size);
    padding + magic + size
}

/// Zeroes, and bytes of magic number, before a record of this size at `offset`.
fn lead(offset: u64, size: usize) -> (usize, usize) {
    let inside = (offset % PAGE_BYTES as u64) as usize;
    if inside == 0 {
        (0, MAGIC.len())
    } else if inside + size > PAGE_BYTES {
        (PAGE_BYTES - inside, MAGIC.len())
    } else {
        (0, 0)
    }
}

/// Writes a record, for `offset` of the file, to the beginning of `buffer`, which has the room; how long it is.
pub fn encode(buffer: &mut [u8], offset: u64, record: &Record) -> usize {
    let size = HEADER_BYTES + record.text.len();
    let (padding, magic) = lead(offset, size);
    buffer[..padding].fill(0);
    buffer[padding..padding + magic].copy_from_slice(&MAGIC[..magic]);
    let start = padding + magic;
    let mut header = [0; HEADER_BYTES];
    header[..2].copy_from_slice(&(record.text.len() as u16).to_le_bytes());
    header[2] = PRESENT
        | if record.stream == Stream::Stderr { STDERR } else { 0 }
        | if record.ended { ENDED } else { 0 }
        | if record.continues { CONTINUES } else { 0 }
        | if record.last { LAST } else { 0 };
    header[4..].copy_from_slice(&record.nanoseconds.to_le_bytes());
    header[3] = check(&header);
    buffer[start..start + HEADER_BYTES].copy_from_slice(&header);
    buffer[start + HEADER_BYTES..start + size].copy_from_slice(record.text);
    start + size
}

/// What stands at the beginning of `bytes`, which lie at `offset` of the file; `offset` is not the beginning of a page.
pub fn decode(bytes: &[u8], offset: u64) -> Step<'_> {
    let left = PAGE_BYTES - (offset % PAGE_BYTES as u64) as usize;
    if left < HEADER_BYTES || left == PAGE_BYTES {
        return Step::NextPage;
    }
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Step::Incomplete;
    };
    let length = usize::from(u16::from_le_bytes([header[0], header[1]]));
    let flags = header[2];
    if flags & PRESENT == 0 || header[3] != check(header) || HEADER_BYTES + length > left {
        return Step::NextPage;
    }
    let Some(text) = bytes[HEADER_BYTES..].get(..length) else {
        return Step::Incomplete;
    };
    Step::Record(Record {
        stream: if flags & STDERR == 0 {
            Stream::Stdout
        } else {
            Stream::Stderr
        },
        ended: flags & ENDED != 0,
        continues: flags & CONTINUES != 0,
        last: flags & LAST != 0,
        nanoseconds: i64::from_le_bytes(header[4..].try_into().expect("eight of twelve bytes")),
        text,
    })
}

fn check(header: &[u8; HEADER_BYTES]) -> u8 {
    let sum = header.iter().enumerate().filter(|(index, _)| *index != 3);
    sum.fold(0x5au8, |sum, (_, byte)| sum.rotate_left(1) ^ byte)
}

/// How long the whole part of a page is that a crash may have cut: `page` is what there is of it.
pub fn whole(page: &[u8]) -> usize {
    if !page.starts_with(&MAGIC) {
        return 0;
    }
    let mut at = MAGIC.len();
    while let Step::Record(record) = decode(&page[at..], at as u64) {
        at += HEADER_BYTES + record.text.len();
    }
    // A page that was padded is whole to its end.
    if page.len() == PAGE_BYTES && page[at..].iter().all(|&byte| byte == 0) {
        return PAGE_BYTES;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &[u8]) -> Record<'_> {
        Record {
            stream: Stream::Stderr,
            ended: true,
            continues: false,
            last: true,
            nanoseconds: 1_700_000_000_123_456_789,
            text,
        }
    }

    fn file(texts: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for text in texts {
            let offset = bytes.len() as u64;
            let cost = cost(offset, text.len());
            let mut part = vec![0xff; cost];
            assert_eq!(encode(&mut part, offset, &record(text)), cost);
            bytes.extend_from_slice(&part);
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut texts = Vec::new();
        for page in bytes.chunks(PAGE_BYTES) {
            if !page.starts_with(&MAGIC) {
                continue;
            }
            let mut at = MAGIC.len();
            while let Step::Record(record) = decode(&page[at..], at as u64) {
                texts.push(record.text.to_vec());
                at += HEADER_BYTES + record.text.len();
            }
        }
        texts
    }

    #[test]
    fn what_is_written_is_read() {
        let texts: Vec<Vec<u8>> = (0..3000).map(|number| vec![number as u8; number * 7 % 16385]).collect();
        let bytes = file(&texts);
        assert!(read(&bytes) == texts);
        assert_eq!(decode(&bytes[8..], 8), Step::Record(record(b"")));
    }

    #[test]
    fn a_file_that_was_cut_anywhere_is_whole_up_to_the_last_record() {
        let bytes = file(&[b"one".to_vec(), b"two".to_vec()]);
        let ends = [8, 8 + 15, 8 + 30];
        for length in 8..bytes.len() {
            let wanted = *ends.iter().rev().find(|end| **end <= length).unwrap();
            assert_eq!(whole(&bytes[..length]), wanted, "{length}");
        }
        assert_eq!(whole(b"garbage"), 0);
    }

    #[test]
    fn damage_costs_no_more_than_its_page() {
        let texts: Vec<Vec<u8>> = (0..400).map(|number| vec![number as u8; 1000]).collect();
        let bytes = file(&texts);
        for place in (0..bytes.len()).step_by(997) {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x55;
            let found = read(&damaged);
            assert!(found.len() >= texts.len() - 65, "{place}: {}", found.len());
        }
    }

    #[test]
    fn a_text_that_looks_like_a_record_is_a_text() {
        let forged = file(&[b"forged".to_vec()]);
        let bytes = file(&[forged.clone(), b"true".to_vec()]);
        assert_eq!(read(&bytes), [forged, b"true".to_vec()]);
    }
}

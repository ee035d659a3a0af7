//! One entry of a log, whatever format it was read from: a line, or a piece of a long one.
use memchr::memchr;

use crate::log::{json, times};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Without the newline that ended it.
    pub text: Text<'a>,
    pub stderr: bool,
    /// A newline followed.
    pub ended: bool,
    /// It goes on with the line of the entry before, of the same stream. Not known of json-file.
    pub continues: bool,
    /// No piece of the same line follows. Of json-file: a newline followed.
    pub last: bool,
    pub time: Time<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text<'a> {
    Plain(&'a [u8]),
    /// With JSON's escapes.
    Escaped(&'a [u8]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time<'a> {
    Nanoseconds(i64),
    /// RFC 3339.
    Text(&'a [u8]),
}

impl Text<'_> {
    pub fn append_to(&self, out: &mut Vec<u8>) {
        match self {
            Text::Plain(text) => out.extend_from_slice(text),
            Text::Escaped(text) => json::unescape(text, out),
        }
    }
}

impl Time<'_> {
    /// Since the epoch; absent where it is no time.
    pub fn nanoseconds(&self) -> Option<i64> {
        match self {
            Time::Nanoseconds(nanoseconds) => Some(*nanoseconds),
            Time::Text(text) => times::parse(text),
        }
    }
}

/// How a log's files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    Local,
}

/// What stands at the beginning of some bytes of a log.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// And how many bytes it took.
    Entry(Entry<'a>, usize),
    /// That many bytes hold nothing, or nothing that can be read. There may be fewer yet.
    Skip(usize),
    /// The bytes end before it does.
    Incomplete,
}

/// No line of ours is longer; what is, is damage.
const LINE_BYTES_MAX: usize = 1 << 20;

impl Format {
    /// `bytes` lie at `offset` of the file.
    pub fn next(self, bytes: &[u8], offset: u64) -> Next<'_> {
        match self {
            Format::Local => local(bytes, offset),
            Format::Json => match memchr(b'\n', bytes) {
                Some(end) => match json::parse(&bytes[..end]) {
                    Some(entry) => Next::Entry(entry, end + 1),
                    None => Next::Skip(end + 1),
                },
                None if bytes.len() > LINE_BYTES_MAX => Next::Skip(bytes.len()),
                None => Next::Incomplete,
            },
        }
    }
}

fn local(bytes: &[u8], offset: u64) -> Next<'_> {
    use corten_runtime::shim::log::{
        local::{HEADER_BYTES, MAGIC, PAGE_BYTES, Step, decode},
        writer::Stream,
    };
    let inside = (offset % PAGE_BYTES as u64) as usize;
    if inside == 0 {
        return match bytes.first_chunk() {
            Some(magic) if *magic == MAGIC => Next::Skip(MAGIC.len()),
            Some(_) => Next::Skip(PAGE_BYTES),
            None => Next::Incomplete,
        };
    }
    match decode(bytes, offset) {
        Step::Incomplete => Next::Incomplete,
        Step::NextPage => Next::Skip(PAGE_BYTES - inside),
        Step::Record(record) => Next::Entry(
            Entry {
                text: Text::Plain(record.text),
                stderr: record.stream == Stream::Stderr,
                ended: record.ended,
                continues: record.continues,
                last: record.last,
                time: Time::Nanoseconds(record.nanoseconds),
            },
            HEADER_BYTES + record.text.len(),
        ),
    }
}

//! One file of a log, plain or compressed, read at any place; and how to find a place in it.
//!
//! Places are found from the end backwards (the last so many entries) or by halves (a time): a log is not read through
//! to show its end.
use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
};

use corten_runtime::shim::log::local::{MAGIC, PAGE_BYTES};
use memchr::{memchr, memrchr_iter};

use crate::log::{
    archive::Archive,
    entry::{Format, Next},
    json,
};

const BLOCK_BYTES: usize = 64 << 10;
/// A search by halves ends here: what is left is read through.
const NEAR_BYTES: u64 = 256 << 10;

#[derive(Debug)]
pub struct Source {
    /// Of the file, or of the one that was compressed: it stays when the name changes.
    pub inode: u64,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    Plain(File),
    Compressed(Box<Archive>),
}

impl Source {
    pub fn plain(file: File) -> io::Result<Source> {
        Ok(Source {
            inode: file.metadata()?.ino(),
            bytes: Bytes::Plain(file),
        })
    }

    /// Absent when it is no archive of ours.
    pub fn compressed(file: File) -> io::Result<Option<Source>> {
        Ok(Archive::open(file)?.map(|archive| Source {
            inode: archive.inode,
            bytes: Bytes::Compressed(Box::new(archive)),
        }))
    }

    pub fn length(&self) -> io::Result<u64> {
        match &self.bytes {
            Bytes::Plain(file) => Ok(file.metadata()?.len()),
            Bytes::Compressed(archive) => Ok(archive.length),
        }
    }

    pub fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match &mut self.bytes {
            Bytes::Plain(file) => file.read_at(buffer, offset),
            Bytes::Compressed(archive) => archive.read_at(buffer, offset),
        }
    }

    /// As many bytes as there are, up to the buffer's length.
    fn read_full(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_at(&mut buffer[filled..], offset + filled as u64)? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(filled)
    }

    /// The time of the first entry that can be read at or after `offset`; `offset` is a line's or a page's beginning.
    pub fn time_at(&mut self, format: Format, offset: u64) -> io::Result<Option<i64>> {
        let mut block = vec![0; 2 * BLOCK_BYTES];
        let count = self.read_full(&mut block, offset)?;
        let mut at = 0;
        while at < count {
            match format.next(&block[at..count], offset + at as u64) {
                Next::Entry(entry, length) => match entry.time.nanoseconds() {
                    Some(time) => return Ok(Some(time)),
                    None => at += length,
                },
                Next::Skip(length) => {
                    let line = block.get(at..at + length).filter(|_| format == Format::Json);
                    let rewritten = line.and_then(|line| json::rewrite(line.trim_ascii_end()));
                    if let Some(line) = rewritten
                        && let Some(time) = json::parse(&line).and_then(|entry| entry.time.nanoseconds())
                    {
                        return Ok(Some(time));
                    }
                    at += length;
                }
                Next::Incomplete => break,
            }
        }
        Ok(None)
    }

    /// A place before the first entry at or after `time`, and not far before it. Times are taken to grow; where a
    /// clock was set back, entries around that moment may be missed.
    pub fn seek_time(&mut self, format: Format, length: u64, time: i64) -> io::Result<u64> {
        let (mut low, mut high) = (0, length);
        while high - low > NEAR_BYTES {
            let middle = self.boundary(format, low + (high - low) / 2, high)?;
            match self.time_at(format, middle)? {
                Some(found) if found < time => low = middle,
                _ => {
                    if middle >= high {
                        break;
                    }
                    high = middle;
                }
            }
        }
        Ok(low)
    }

    /// The next line's or page's beginning, or `high`.
    fn boundary(&mut self, format: Format, offset: u64, high: u64) -> io::Result<u64> {
        let page = PAGE_BYTES as u64;
        if format == Format::Local {
            return Ok((offset / page * page).min(high));
        }
        let mut block = vec![0; BLOCK_BYTES];
        let mut at = offset;
        while at < high {
            let count = self.read_at(&mut block, at)?;
            if let Some(end) = memchr(b'\n', &block[..count]) {
                return Ok((at + end as u64 + 1).min(high));
            }
            if count == 0 {
                break;
            }
            at += count as u64;
        }
        Ok(high)
    }

    /// Where the last `wanted` entries of the first `length` bytes begin, and how many there are.
    pub fn seek_last(&mut self, format: Format, length: u64, wanted: u64) -> io::Result<(u64, u64)> {
        if wanted == 0 || length == 0 {
            return Ok((length, 0));
        }
        match format {
            Format::Json => self.last_lines(length, wanted),
            Format::Local => self.last_records(length, wanted),
        }
    }

    fn last_lines(&mut self, length: u64, wanted: u64) -> io::Result<(u64, u64)> {
        let mut block = vec![0; BLOCK_BYTES];
        let (mut end, mut found) = (length, 0);
        while end > 0 {
            let start = end.saturating_sub(BLOCK_BYTES as u64);
            let part = &mut block[..(end - start) as usize];
            if self.read_full(part, start)? < part.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            for index in memrchr_iter(b'\n', part) {
                let after = start + index as u64 + 1;
                if after == length {
                    // The last line's own end.
                    continue;
                }
                found += 1;
                if found == wanted {
                    return Ok((after, found));
                }
            }
            end = start;
        }
        // The first line has no newline before it.
        Ok((0, found + 1))
    }

    /// Page by page, each from its beginning: records are only found forwards.
    fn last_records(&mut self, length: u64, wanted: u64) -> io::Result<(u64, u64)> {
        let mut page = vec![0; PAGE_BYTES];
        let mut found = 0;
        let mut start = (length - 1) / PAGE_BYTES as u64 * PAGE_BYTES as u64;
        loop {
            let most = (length - start).min(PAGE_BYTES as u64) as usize;
            let count = self.read_full(&mut page[..most], start)?;
            let places = records(&page[..count]);
            let missing = (wanted - found) as usize;
            if places.len() >= missing {
                return Ok((start + places[places.len() - missing] as u64, wanted));
            }
            found += places.len() as u64;
            if start == 0 {
                return Ok((0, found));
            }
            start -= PAGE_BYTES as u64;
        }
    }
}

/// Where the records of a page begin.
fn records(page: &[u8]) -> Vec<usize> {
    let mut places = Vec::new();
    if !page.starts_with(&MAGIC) {
        return places;
    }
    let mut at = MAGIC.len();
    while let Next::Entry(_, length) = Format::Local.next(&page[at..], at as u64) {
        places.push(at);
        at += length;
        if at >= page.len() {
            break;
        }
    }
    places
}

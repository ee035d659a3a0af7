//! The json-file log: one JSON object per line, in the form that Docker's clients and log collectors read.
//!
//! Lines are encoded into one buffer and written together; the time is taken once per block that was read, when its
//! lines arrived.
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use corten_linux::memory::Scratch;
use memchr::memchr;
use rustix::{
    fs::OFlags,
    time::{ClockId, clock_gettime},
};

use crate::process::plan::LogPlan;

/// Longer lines are split into pieces of this size, all but the last without a newline.
pub const PIECE_BYTES: usize = 16 * 1024;

/// A piece in which every byte needs six, and the frame around it.
const ENCODED_PIECE_MAX: usize = 6 * PIECE_BYTES + 256;
const BUFFER_BYTES: usize = 2 * ENCODED_PIECE_MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// A log that is being written. A full disk loses lines, never the container: what cannot be written is dropped.
pub(crate) struct Log {
    path: PathBuf,
    max_bytes: u64,
    max_files: u32,
    file: File,
    size: u64,
    /// Encoded and not yet written: `buffer[..filled]`.
    buffer: Scratch,
    filled: usize,
    /// What came of a line without its end, by stream.
    unfinished: [Vec<u8>; 2],
}

impl Log {
    pub fn open(plan: &LogPlan) -> io::Result<Log> {
        let file = append_to(&plan.path)?;
        let size = file.metadata()?.len();
        Ok(Log {
            path: plan.path.clone(),
            max_bytes: plan.max_bytes.unwrap_or(u64::MAX),
            max_files: plan.max_files,
            file,
            size,
            buffer: Scratch::new(BUFFER_BYTES)?,
            filled: 0,
            unfinished: [Vec::new(), Vec::new()],
        })
    }

    /// Takes what a stream printed and writes every line that it completes.
    pub fn feed(&mut self, stream: Stream, mut data: &[u8]) {
        let time = timestamp();
        while !data.is_empty() {
            let room = PIECE_BYTES - self.unfinished[stream as usize].len();
            let (piece, rest, ended) = match memchr(b'\n', &data[..data.len().min(room)]) {
                Some(end) => (&data[..end], &data[end + 1..], true),
                None if data.len() >= room => (&data[..room], &data[room..], false),
                None => {
                    self.unfinished[stream as usize].extend_from_slice(data);
                    break;
                }
            };
            self.put(stream, piece, ended, &time);
            data = rest;
        }
        self.flush();
    }

    /// Writes what never got its newline, without one: `logs` gives back the bytes that were printed.
    pub fn finish(&mut self) {
        let time = timestamp();
        for stream in [Stream::Stdout, Stream::Stderr] {
            if !self.unfinished[stream as usize].is_empty() {
                self.put(stream, &[], false, &time);
            }
        }
        self.flush();
    }

    /// Goes on in a new file under the same name.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.file = append_to(&self.path)?;
        self.size = self.file.metadata()?.len();
        Ok(())
    }

    /// Gives unused memory back.
    pub fn rest(&mut self) {
        self.buffer.release();
        for unfinished in &mut self.unfinished {
            unfinished.shrink_to_fit();
        }
    }

    fn put(&mut self, stream: Stream, piece: &[u8], ended: bool, time: &str) {
        if self.filled + ENCODED_PIECE_MAX > BUFFER_BYTES {
            self.flush();
        }
        let start = self.filled;
        let mut out = Encoder {
            buffer: &mut self.buffer,
            at: start,
        };
        out.raw(br#"{"log":""#);
        let unfinished = &mut self.unfinished[stream as usize];
        if unfinished.is_empty() {
            out.escaped(piece);
        } else {
            unfinished.extend_from_slice(piece);
            out.escaped(unfinished);
            unfinished.clear();
        }
        if ended {
            out.raw(br"\n");
        }
        out.raw(br#"","stream":""#);
        out.raw(stream.name().as_bytes());
        out.raw(br#"","time":""#);
        out.raw(time.as_bytes());
        out.raw(b"\"}\n");
        self.filled = out.at;
        let line = (self.filled - start) as u64;
        if self.size + self.filled as u64 > self.max_bytes && self.size + start as u64 > 0 {
            self.write_until(start);
            self.rotate();
            self.buffer.copy_within(start..self.filled, 0);
            self.filled = line as usize;
        }
    }

    fn flush(&mut self) {
        self.write_until(self.filled);
        self.filled = 0;
    }

    fn write_until(&mut self, end: usize) {
        if end > 0 && self.file.write_all(&self.buffer[..end]).is_ok() {
            self.size += end as u64;
        }
    }

    /// path → path.1 → path.2 …; the oldest falls off. What fails leaves the log where it is.
    fn rotate(&mut self) {
        let numbered = |number: u32| {
            let mut name = self.path.as_os_str().to_owned();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        if self.max_files > 1 {
            for number in (1..self.max_files - 1).rev() {
                let _ = fs::rename(numbered(number), numbered(number + 1));
            }
            let _ = fs::rename(&self.path, numbered(1));
        } else {
            let _ = fs::remove_file(&self.path);
        }
        if let Ok(file) = append_to(&self.path) {
            self.file = file;
            self.size = 0;
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW.bits() as i32;
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(flags)
        .open(path)
}

struct Encoder<'a> {
    buffer: &'a mut [u8],
    at: usize,
}

impl Encoder<'_> {
    fn raw(&mut self, bytes: &[u8]) {
        self.buffer[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// JSON's escapes, and those for `<`, `>`, `&` and the line separators that Docker's encoder makes. What is not
    /// UTF-8 becomes the replacement character.
    fn escaped(&mut self, bytes: &[u8]) {
        for chunk in bytes.utf8_chunks() {
            self.escaped_text(chunk.valid().as_bytes());
            for _ in chunk.invalid() {
                self.raw(br"\ufffd");
            }
        }
    }

    fn escaped_text(&mut self, text: &[u8]) {
        let mut plain = 0;
        let mut index = 0;
        while index < text.len() {
            let byte = text[index];
            if !SPECIAL[usize::from(byte)] {
                index += 1;
                continue;
            }
            let separator = byte == 0xe2;
            if separator && !matches!(text[index..], [_, 0x80, 0xa8 | 0xa9, ..]) {
                index += 3;
                continue;
            }
            self.raw(&text[plain..index]);
            match byte {
                b'"' => self.raw(br#"\""#),
                b'\\' => self.raw(br"\\"),
                b'\n' => self.raw(br"\n"),
                b'\r' => self.raw(br"\r"),
                b'\t' => self.raw(br"\t"),
                0xe2 => self.raw(if text[index + 2] == 0xa8 {
                    br"\u2028"
                } else {
                    br"\u2029"
                }),
                other => {
                    const HEX: &[u8; 16] = b"0123456789abcdef";
                    let digits = [HEX[usize::from(other >> 4)], HEX[usize::from(other & 15)]];
                    self.raw(br"\u00");
                    self.raw(&digits);
                }
            }
            index += if separator { 3 } else { 1 };
            plain = index;
        }
        self.raw(&text[plain..]);
    }
}

/// Bytes at which [`Encoder::escaped_text`] must look twice.
const SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table[b'<' as usize] = true;
    table[b'>' as usize] = true;
    table[b'&' as usize] = true;
    table[0x7f] = false;
    table[0xe2] = true;
    table
};

/// Now, in RFC 3339 with nanoseconds, without trailing zeros as Go prints them.
fn timestamp() -> String {
    let now = clock_gettime(ClockId::Realtime);
    format_time(now.tv_sec, now.tv_nsec as u32)
}

/// Days to a date after H. Hinnant's algorithm: no time zone tables in the shim.
fn format_time(seconds: i64, nanoseconds: u32) -> String {
    use std::fmt::Write;
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let mut text = String::with_capacity(32);
    let _ = write!(text, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if nanoseconds != 0 {
        let _ = write!(text, ".{nanoseconds:09}");
        text.truncate(text.trim_end_matches('0').len());
    }
    text.push('Z');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(directory: &Path, max_bytes: Option<u64>, max_files: u32) -> Log {
        Log::open(&LogPlan {
            path: directory.join("x.log"),
            max_bytes,
            max_files,
        })
        .unwrap()
    }

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        fs::read_to_string(path)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn lines_are_written_when_they_end() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log(directory.path(), None, 1);
        log.feed(Stream::Stdout, b"one\ntw");
        log.feed(Stream::Stderr, b"err\n");
        log.feed(Stream::Stdout, b"o\n\nrest");
        log.finish();
        let lines = lines(&directory.path().join("x.log"));
        let seen: Vec<_> = lines
            .iter()
            .map(|l| (l["log"].as_str().unwrap(), l["stream"].as_str().unwrap()))
            .collect();
        let wanted = [
            ("one\n", "stdout"),
            ("err\n", "stderr"),
            ("two\n", "stdout"),
            ("\n", "stdout"),
            ("rest", "stdout"),
        ];
        assert_eq!(seen, wanted);
    }

    #[test]
    fn long_lines_are_split() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log(directory.path(), None, 1);
        let long = [b"x".repeat(PIECE_BYTES * 2 + 5), b"\n".to_vec()].concat();
        for part in long.chunks(10_000) {
            log.feed(Stream::Stdout, part);
        }
        let lines = lines(&directory.path().join("x.log"));
        let lengths: Vec<_> = lines.iter().map(|line| line["log"].as_str().unwrap().len()).collect();
        assert_eq!(lengths, [PIECE_BYTES, PIECE_BYTES, 6]);
        assert!(lines[1]["log"].as_str().unwrap().ends_with('x'));
    }

    #[test]
    fn everything_a_process_can_print_is_json() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log(directory.path(), None, 1);
        let mut bytes: Vec<u8> = (0..=255).filter(|&byte| byte != b'\n').collect();
        bytes.extend_from_slice("ü€\u{2028}\u{2029}😀 <b>&".as_bytes());
        bytes.push(b'\n');
        log.feed(Stream::Stdout, &bytes);
        log.feed(Stream::Stdout, &[0xff; 3 * PIECE_BYTES]);
        log.finish();
        let text = fs::read_to_string(directory.path().join("x.log")).unwrap();
        assert!(text.contains(r"\u003cb\u003e\u0026"), "{text}");
        assert!(text.contains(r"\u2028\u2029"));
        let lines = lines(&directory.path().join("x.log"));
        assert_eq!(lines[0]["log"].as_str().unwrap(), String::from_utf8_lossy(&bytes));
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn files_rotate_before_they_grow_too_large() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log(directory.path(), Some(1000), 3);
        for number in 0..100 {
            log.feed(Stream::Stdout, format!("line {number}\n").as_bytes());
        }
        log.finish();
        let path = |suffix: &str| directory.path().join(format!("x.log{suffix}"));
        let mut all = Vec::new();
        for suffix in [".2", ".1", ""] {
            assert!(fs::metadata(path(suffix)).unwrap().len() <= 1000);
            all.extend(lines(&path(suffix)));
        }
        assert!(!path(".3").exists());
        assert_eq!(all.last().unwrap()["log"], "line 99\n");
        let first: usize = all[0]["log"].as_str().unwrap()["line ".len()..].trim().parse().unwrap();
        assert_eq!(all.len(), 100 - first);
    }

    #[test]
    fn one_file_begins_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log(directory.path(), Some(500), 1);
        log.feed(Stream::Stdout, &b"some words\n".repeat(100));
        assert!(fs::metadata(directory.path().join("x.log")).unwrap().len() <= 500);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn times_are_as_go_prints_them() {
        assert_eq!(format_time(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(format_time(951_782_399, 120_000_000), "2000-02-28T23:59:59.12Z");
        assert_eq!(format_time(1_709_164_800, 5), "2024-02-29T00:00:00.000000005Z");
        assert_eq!(
            format_time(4_102_444_799, 999_999_999),
            "2099-12-31T23:59:59.999999999Z"
        );
    }
}

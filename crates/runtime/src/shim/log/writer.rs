//! A container's output as it comes, cut into lines and written in blocks.
//!
//! All that was read together is encoded into one buffer and written together; the time is taken once, when it arrived.
//! A full disk loses lines, never the container, and never leaves half a line behind.
use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use corten_linux::memory::Scratch;
use memchr::memchr;

use super::{
    files::{self, Lock, append_to},
    json::{self, Frame},
    local::{self, PAGE_BYTES},
    time,
};
use crate::process::{plan::LogPlan, task::LogFormat};

/// Longer lines are split into pieces of this size, all but the last without a newline.
pub const PIECE_BYTES: usize = 16 * 1024;
/// What a block of short lines comes to, so that it is one write.
const BUFFER_BYTES: usize = 512 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// A log that is being written.
pub(crate) struct Log {
    path: PathBuf,
    format: LogFormat,
    max_bytes: u64,
    max_files: u32,
    /// May the container have to wait for whoever fetches the log?
    may_hold: bool,
    held: bool,
    file: File,
    size: u64,
    /// Encoded and not yet written: `buffer[..filled]`.
    buffer: Scratch,
    filled: usize,
    /// The most that one piece can take of it.
    piece_max: usize,
    /// What came of a line without its end, by stream.
    unfinished: [Vec<u8>; 2],
    /// Has a piece of the present line been written already?
    continues: [bool; 2],
}

/// What all lines of a block have in common.
struct Block {
    stream: Stream,
    nanoseconds: i64,
    frame: Option<Frame>,
}

/// How a piece of output comes to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Newline,
    /// By its size: its line goes on.
    Piece,
    OfStream,
}

impl Log {
    pub fn open(plan: &LogPlan) -> io::Result<Log> {
        let file = append_to(&plan.path)?;
        let piece_max = match &plan.format {
            LogFormat::Json { attributes } => json::GROWTH * PIECE_BYTES + Frame::room(attributes),
            LogFormat::Local => 2 * PAGE_BYTES,
        };
        let mut log = Log {
            path: plan.path.clone(),
            format: plan.format.clone(),
            max_bytes: plan.max_bytes.unwrap_or(u64::MAX),
            max_files: plan.max_files,
            may_hold: plan.hold,
            held: false,
            file,
            size: 0,
            buffer: Scratch::new(BUFFER_BYTES.max(2 * piece_max))?,
            filled: 0,
            piece_max,
            unfinished: [Vec::new(), Vec::new()],
            continues: [false; 2],
        };
        log.go_on_at_end()?;
        Ok(log)
    }

    /// Takes what a stream printed and writes every line that it completes.
    pub fn feed(&mut self, stream: Stream, mut data: &[u8]) {
        let block = self.block(stream);
        while !data.is_empty() {
            let room = PIECE_BYTES - self.unfinished[stream as usize].len();
            let (piece, rest, end) = match memchr(b'\n', &data[..data.len().min(room)]) {
                Some(end) => (&data[..end], &data[end + 1..], End::Newline),
                None if data.len() >= room => (&data[..room], &data[room..], End::Piece),
                None => {
                    self.unfinished[stream as usize].extend_from_slice(data);
                    break;
                }
            };
            self.put(&block, piece, end);
            data = rest;
        }
        self.flush();
    }

    /// Writes what never got its newline, without one: `logs` gives back the bytes that were printed.
    pub fn finish(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if !self.unfinished[stream as usize].is_empty() {
                let block = self.block(stream);
                self.put(&block, &[], End::OfStream);
            }
        }
        self.flush();
    }

    /// Must the container wait until a remote has taken more?
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Somebody has fetched more, or wants no waiting any more.
    pub fn look_again(&mut self) {
        self.held = self.held && files::must_hold(&self.path, self.max_files);
    }

    /// Goes on in a new file under the same name.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.file = append_to(&self.path)?;
        self.go_on_at_end()
    }

    /// Gives unused memory back.
    pub fn rest(&mut self) {
        self.buffer.release();
        for unfinished in &mut self.unfinished {
            unfinished.shrink_to_fit();
        }
    }

    fn block(&self, stream: Stream) -> Block {
        let nanoseconds = time::now();
        let frame = match &self.format {
            LogFormat::Json { attributes } => Some(Frame::new(stream, attributes, &time::rfc3339(nanoseconds))),
            LogFormat::Local => None,
        };
        Block {
            stream,
            nanoseconds,
            frame,
        }
    }

    /// One line or piece, after what is kept of it from before.
    fn put(&mut self, block: &Block, piece: &[u8], end: End) {
        if self.filled + self.piece_max > self.buffer.len() {
            self.flush();
        }
        let index = block.stream as usize;
        let mut unfinished = std::mem::take(&mut self.unfinished[index]);
        let text = if unfinished.is_empty() {
            piece
        } else {
            unfinished.extend_from_slice(piece);
            &unfinished
        };
        match &block.frame {
            Some(frame) => self.put_json(frame, text, end == End::Newline),
            None => self.put_local(block, text, end),
        }
        self.continues[index] = end == End::Piece;
        unfinished.clear();
        self.unfinished[index] = unfinished;
    }

    /// How long it is, is known when it is there: it may turn out to belong into the next file.
    fn put_json(&mut self, frame: &Frame, text: &[u8], ended: bool) {
        let start = self.filled;
        let length = frame.encode(&mut self.buffer[start..], text, ended);
        if self.is_full(start, length) && self.rotate(start) {
            self.buffer.copy_within(start..start + length, 0);
        }
        self.filled += length;
    }

    fn put_local(&mut self, block: &Block, text: &[u8], end: End) {
        let cost = local::cost(self.size + self.filled as u64, text.len());
        if self.is_full(self.filled, cost) {
            self.rotate(self.filled);
        }
        let record = local::Record {
            stream: block.stream,
            ended: end == End::Newline,
            continues: self.continues[block.stream as usize],
            last: end != End::Piece,
            nanoseconds: block.nanoseconds,
            text,
        };
        let offset = self.size + self.filled as u64;
        self.filled += local::encode(&mut self.buffer[self.filled..], offset, &record);
    }

    /// Would `more` bytes after `filled` ones make the file too large?
    fn is_full(&self, filled: usize, more: usize) -> bool {
        let size = self.size + filled as u64;
        size > 0 && size + more as u64 > self.max_bytes
    }

    fn flush(&mut self) {
        self.write_until(self.filled);
        self.filled = 0;
    }

    /// All or nothing of it.
    fn write_until(&mut self, end: usize) {
        if end == 0 {
            return;
        }
        let before = match self.file.metadata() {
            Ok(metadata) => metadata.len(),
            Err(_) => self.size,
        };
        if before != self.size && self.format == LogFormat::Local {
            // Somebody else has cut it: what is encoded belongs elsewhere.
            let _ = self.go_on_at_end();
            return;
        }
        match self.file.write_all(&self.buffer[..end]) {
            Ok(()) => self.size = before + end as u64,
            Err(_) => {
                let _ = self.file.set_len(before);
                self.size = before;
            }
        }
    }

    /// Writes what is encoded up to `end`, and begins a new file; false when that cannot be now. Then the present one
    /// goes on growing: by what was read already when the container has to wait, else until the daemon, which holds the
    /// lock for the time of two renames, lets it go; not for ever.
    fn rotate(&mut self, end: usize) -> bool {
        let _lock = match Lock::try_now(self.path.parent().unwrap_or(Path::new("/"))) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.size < 2 * self.max_bytes => return false,
            lock => lock.ok(),
        };
        if self.may_hold && files::must_hold(&self.path, self.max_files) {
            self.held = true;
            return false;
        }
        self.write_until(end);
        self.filled = 0;
        files::shift(&self.path, self.max_files);
        if let Ok(file) = append_to(&self.path) {
            self.file = file;
            self.size = 0;
        }
        true
    }

    /// Finds out where to go on, and takes away what a crash has left half written.
    fn go_on_at_end(&mut self) -> io::Result<()> {
        let size = self.file.metadata()?.len();
        self.size = match self.format {
            LogFormat::Local => self.cut_to_whole(size)?,
            LogFormat::Json { .. } => self.end_last_line(size)?,
        };
        Ok(())
    }

    fn cut_to_whole(&self, size: u64) -> io::Result<u64> {
        let start = size.saturating_sub(1) / PAGE_BYTES as u64 * PAGE_BYTES as u64;
        let mut page = vec![0; (size - start) as usize];
        self.file.read_exact_at(&mut page, start)?;
        let whole = start + local::whole(&page) as u64;
        if whole < size {
            self.file.set_len(whole)?;
        }
        Ok(whole)
    }

    fn end_last_line(&mut self, size: u64) -> io::Result<u64> {
        let mut last = [b'\n'];
        if size > 0 {
            self.file.read_exact_at(&mut last, size - 1)?;
        }
        if last == *b"\n" || self.file.write_all(b"\n").is_err() {
            return Ok(size);
        }
        Ok(size + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::{fs, os::unix::fs::MetadataExt};

    use crate::shim::log::position::{self, Position};

    fn plan(directory: &Path, max_bytes: Option<u64>, max_files: u32, format: LogFormat) -> LogPlan {
        LogPlan {
            path: directory.join("x.log"),
            format,
            max_bytes,
            max_files,
            hold: true,
        }
    }

    fn log(directory: &Path, max_bytes: Option<u64>, max_files: u32) -> Log {
        let format = LogFormat::Json {
            attributes: String::new(),
        };
        Log::open(&plan(directory, max_bytes, max_files, format)).unwrap()
    }

    fn local(directory: &Path, max_bytes: Option<u64>, max_files: u32) -> Log {
        Log::open(&plan(directory, max_bytes, max_files, LogFormat::Local)).unwrap()
    }

    /// (text, ended, continues) of each record.
    fn records(path: &Path) -> Vec<(String, bool, bool)> {
        let mut found = Vec::new();
        for page in fs::read(path).unwrap().chunks(PAGE_BYTES) {
            assert!(page.starts_with(&local::MAGIC));
            let mut at = local::MAGIC.len();
            while let local::Step::Record(record) = local::decode(&page[at..], at as u64) {
                let text = String::from_utf8_lossy(record.text).into_owned();
                at += local::HEADER_BYTES + record.text.len();
                found.push((text, record.ended, record.continues));
            }
        }
        found
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
    fn a_compact_log_knows_pieces_and_ends() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = local(directory.path(), None, 1);
        log.feed(Stream::Stdout, b"one\n");
        log.feed(
            Stream::Stdout,
            &[b"x".repeat(PIECE_BYTES + 1), b"\nrest".to_vec()].concat(),
        );
        log.finish();
        let seen = records(&directory.path().join("x.log"));
        let flags: Vec<_> = seen
            .iter()
            .map(|(text, ended, continues)| (text.len(), *ended, *continues))
            .collect();
        let wanted = [
            (3, true, false),
            (PIECE_BYTES, false, false),
            (1, true, true),
            (4, false, false),
        ];
        assert_eq!(flags, wanted);
    }

    #[test]
    fn a_compact_log_that_was_cut_goes_on_behind_its_last_record() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        local(directory.path(), None, 1).feed(Stream::Stdout, b"one\ntwo\n");
        let length = fs::metadata(&path).unwrap().len();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(length - 1)
            .unwrap();
        let mut log = local(directory.path(), None, 1);
        log.feed(Stream::Stdout, b"three\n");
        // Under its hands, too.
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        log.feed(Stream::Stdout, b"lost\n");
        log.feed(Stream::Stdout, b"four\n");
        let texts: Vec<_> = records(&path).into_iter().map(|record| record.0).collect();
        assert_eq!(texts, ["four"]);
    }

    #[test]
    fn compact_logs_rotate_and_no_line_is_in_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = local(directory.path(), Some(100_000), 3);
        let text: String = (0..13_000).map(|number| format!("line {number}\n")).collect();
        for part in text.as_bytes().chunks(7919) {
            log.feed(Stream::Stdout, part);
        }
        let mut all = Vec::new();
        for suffix in [".2", ".1", ""] {
            let path = directory.path().join(format!("x.log{suffix}"));
            assert!(fs::metadata(&path).unwrap().len() <= 100_000);
            all.extend(records(&path));
        }
        let first: usize = all[0].0["line ".len()..].parse().unwrap();
        assert_eq!(all.len(), 13_000 - first);
    }

    #[test]
    fn a_container_waits_for_who_fetches_and_only_then() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        let mut log = local(directory.path(), Some(70_000), 2);
        let block = b"a line of some length\n".repeat(2000);
        log.feed(Stream::Stdout, &block);
        let file = File::create(directory.path().join(position::FILE)).unwrap();
        let mut position = Position {
            inode: fs::metadata(&path).unwrap().ino(),
            hold: true,
            ..Position::default()
        };
        position.write(&file).unwrap();
        log.feed(Stream::Stdout, &block);
        assert!(!log.is_held(), "it has been rotated once, and is still there");
        log.feed(Stream::Stdout, &block);
        assert!(log.is_held());
        log.look_again();
        assert!(log.is_held());
        position.inode = fs::metadata(&path).unwrap().ino();
        position.write(&file).unwrap();
        log.look_again();
        assert!(!log.is_held());
        for _ in 0..5 {
            log.feed(Stream::Stdout, &block);
        }
        assert!(log.is_held());
        position.hold = false;
        position.write(&file).unwrap();
        log.look_again();
        log.feed(Stream::Stdout, &block);
        assert!(!log.is_held());
        let seen = records(&directory.path().join("x.log.1")).len() + records(&path).len();
        assert!(seen >= 4000, "{seen}");
    }

    #[test]
    fn half_a_line_that_a_crash_left_spoils_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        fs::write(&path, br#"{"log":"ha"#).unwrap();
        log(directory.path(), None, 1).feed(Stream::Stdout, b"whole\n");
        let text = fs::read_to_string(&path).unwrap();
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last["log"], "whole\n");
    }
}

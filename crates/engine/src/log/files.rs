//! The files of a log, read as one: `x` is written now, `x.1` (or `x.1.gz`) is older, `x.2` older still.
//!
//! A reader holds the files that it has still to read open, so a rotation under its hands loses nothing. Which files
//! there are is only believed when two looks at the directory agree, because a shim may be renaming them.
use std::{
    collections::{HashMap, VecDeque},
    fs::{self, File},
    io,
    ops::ControlFlow,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use corten_runtime::shim::log::files::{COMPRESSED, compressed, name};

use crate::log::{
    entry::{Entry, Format, Next},
    json,
    source::Source,
};

/// Looks at a directory whose files are being renamed, before the last is believed.
const LOOKS_MAX: usize = 100;

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Oldest,
    /// Before the last so many entries.
    Last(u64),
    /// Before the first entry of this time or later, in nanoseconds, and not far before it.
    Time(i64),
    /// In this file, whose first entry has this time, at this place; at the oldest when it is gone.
    Place {
        inode: u64,
        first: i64,
        offset: u64,
    },
}

/// How a reading came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// There may be more.
    Block,
    /// No more for now.
    End,
    /// Whoever took entries wanted no more.
    Stopped,
}

#[derive(Debug)]
pub struct LogFiles {
    path: PathBuf,
    format: Format,
    /// What is to be read, oldest first; the front is being read.
    queue: VecDeque<Source>,
    /// What was read of the front and holds no whole entry yet, and where it lies.
    buffer: Vec<u8>,
    buffer_at: u64,
    /// How far the front has been read at most: it is shorter when somebody has cut it.
    seen: u64,
    /// Where one who does not follow ends in the youngest file, however fast the container goes on printing.
    end: Option<u64>,
    /// There was a file to go on with, and it is gone.
    pub lost: bool,
}

impl LogFiles {
    pub fn open(path: PathBuf, format: Format, start: Start, follow: bool) -> io::Result<LogFiles> {
        let mut files = LogFiles {
            queue: collect(&path)?,
            path,
            format,
            buffer: Vec::new(),
            buffer_at: 0,
            seen: 0,
            end: None,
            lost: false,
        };
        let end = files.queue.back().map(Source::length).transpose()?;
        match start {
            Start::Oldest => {}
            Start::Last(wanted) => files.go_to_last(wanted, end.unwrap_or(0))?,
            Start::Time(time) => files.go_to_time(time)?,
            Start::Place { inode, first, offset } => files.go_to_place(inode, first, offset)?,
        }
        if !follow {
            files.end = Some(end.unwrap_or(0));
        }
        Ok(files)
    }

    /// Reads up to `most` bytes and gives each entry in them to `take`.
    pub fn read(&mut self, most: usize, mut take: impl FnMut(&Entry) -> ControlFlow<()>) -> io::Result<Reading> {
        if !self.fill(most)? {
            return Ok(Reading::End);
        }
        let mut at = 0;
        let mut stopped = false;
        while at < self.buffer.len() && !stopped {
            let bytes = &self.buffer[at..];
            match self.format.next(bytes, self.buffer_at + at as u64) {
                Next::Entry(entry, length) => {
                    stopped = take(&entry).is_break();
                    at += length;
                }
                Next::Skip(length) => {
                    if self.format == Format::Json
                        && let Some(line) = bytes.get(..length).and_then(json::rewrite)
                        && let Some(entry) = json::parse(&line)
                    {
                        stopped = take(&entry).is_break();
                    }
                    at += length;
                }
                Next::Incomplete => break,
            }
        }
        self.buffer_at += at as u64;
        self.buffer.drain(..at.min(self.buffer.len()));
        Ok(if stopped { Reading::Stopped } else { Reading::Block })
    }

    /// The file that is being read, and the place behind all entries that were given out.
    pub fn place(&self) -> Option<(u64, u64)> {
        Some((self.queue.front()?.inode, self.buffer_at))
    }

    /// The time of the first entry of the file that is being read.
    pub fn first_time(&mut self) -> io::Result<i64> {
        match self.queue.front_mut() {
            Some(source) => Ok(source.time_at(self.format, 0)?.unwrap_or(0)),
            None => Ok(0),
        }
    }

    /// Holds on to everything that is there and reads that only: the directory is about to go.
    pub fn let_go(&mut self) -> io::Result<()> {
        self.collect_younger()?;
        self.end = Some(self.queue.back().map_or(Ok(0), Source::length)?);
        Ok(())
    }

    /// Appends to the buffer; false when there is no more for now.
    fn fill(&mut self, most: usize) -> io::Result<bool> {
        loop {
            if self.queue.is_empty() {
                if self.end.is_some() {
                    return Ok(false);
                }
                self.queue = collect(&self.path)?;
                if self.queue.is_empty() {
                    return Ok(false);
                }
            }
            let last = self.queue.len() == 1;
            // Asked before the end is found: what was written before a rotation is read before it is believed.
            let replaced = last && self.end.is_none() && self.is_replaced()?;
            if self.fill_from_front(most, last)? {
                return Ok(true);
            }
            if !last {
                self.next_file();
            } else if replaced {
                self.collect_younger()?;
                if self.queue.len() == 1 {
                    return Ok(false);
                }
                self.next_file();
            } else {
                return Ok(false);
            }
        }
    }

    fn fill_from_front(&mut self, most: usize, last: bool) -> io::Result<bool> {
        let offset = self.buffer_at + self.buffer.len() as u64;
        let left = match self.end {
            Some(end) if last => end.saturating_sub(offset),
            _ => u64::MAX,
        };
        let Some(front) = self.queue.front_mut() else {
            return Ok(false);
        };
        let most = most.min(usize::try_from(left).unwrap_or(most));
        let start = self.buffer.len();
        self.buffer.resize(start + most, 0);
        let count = match front.read_at(&mut self.buffer[start..], offset) {
            // An archive that is damaged is one file less.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => 0,
            count => count?,
        };
        self.buffer.truncate(start + count);
        self.seen = self.seen.max(offset + count as u64);
        if count > 0 {
            return Ok(true);
        }
        // Cut in place: from the beginning again.
        if last && most > 0 && front.length()? < self.seen {
            self.buffer.clear();
            (self.buffer_at, self.seen) = (0, 0);
            return self.fill_from_front(most, last);
        }
        Ok(false)
    }

    /// Half an entry at the end of a file that is complete is damage.
    fn next_file(&mut self) {
        self.queue.pop_front();
        self.buffer.clear();
        (self.buffer_at, self.seen) = (0, 0);
    }

    fn is_replaced(&self) -> io::Result<bool> {
        let Some(front) = self.queue.front() else {
            return Ok(true);
        };
        match fs::metadata(&self.path) {
            Ok(metadata) => Ok(metadata.ino() != front.inode),
            // Between two renames.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Queues the files that are younger than the last one in the queue; all when that one is gone.
    fn collect_younger(&mut self) -> io::Result<()> {
        let mut found = collect(&self.path)?;
        if let Some(last) = self.queue.back() {
            // An inode's number may have been that of an older file, which is an archive now.
            if let Some(ours) = found.iter().rposition(|source| source.inode == last.inode) {
                found.drain(..=ours);
            }
        }
        self.queue.append(&mut found);
        Ok(())
    }

    fn go_to_last(&mut self, wanted: u64, end: u64) -> io::Result<()> {
        let mut missing = wanted;
        for index in (0..self.queue.len()).rev() {
            let youngest = index + 1 == self.queue.len();
            let source = &mut self.queue[index];
            let length = if youngest { end } else { source.length()? };
            let (offset, found) = source.seek_last(self.format, length, missing)?;
            missing -= found;
            if missing == 0 || index == 0 {
                self.queue.drain(..index);
                self.begin_at(offset);
                break;
            }
        }
        Ok(())
    }

    fn go_to_time(&mut self, time: i64) -> io::Result<()> {
        for index in (0..self.queue.len()).rev() {
            let source = &mut self.queue[index];
            let first = source.time_at(self.format, 0)?;
            if index == 0 || first.is_some_and(|first| first < time) {
                let length = source.length()?;
                let offset = source.seek_time(self.format, length, time)?;
                self.queue.drain(..index);
                self.begin_at(offset);
                break;
            }
        }
        Ok(())
    }

    fn go_to_place(&mut self, inode: u64, first: i64, offset: u64) -> io::Result<()> {
        for index in (0..self.queue.len()).rev() {
            let source = &mut self.queue[index];
            if source.inode != inode {
                continue;
            }
            let fresh = offset == 0 && first == 0;
            if fresh || source.time_at(self.format, 0)? == Some(first) {
                self.queue.drain(..index);
                self.begin_at(offset);
                return Ok(());
            }
        }
        self.lost = true;
        Ok(())
    }

    fn begin_at(&mut self, offset: u64) {
        (self.buffer_at, self.seen) = (offset, offset);
    }
}

/// How often the file of this inode has been rotated; absent when it is not there (uncompressed).
pub fn age_of(path: &Path, inode: u64) -> io::Result<Option<u32>> {
    Ok(look(path)?
        .into_iter()
        .find(|found| found.inode == inode && !found.compressed)
        .map(|found| found.age))
}

/// Is there a rotated file that is not compressed?
pub fn has_plain(path: &Path) -> io::Result<bool> {
    Ok(look(path)?.iter().any(|found| found.age > 0 && !found.compressed))
}

/// The oldest age that there is.
pub fn ages(path: &Path) -> io::Result<u32> {
    Ok(look(path)?.iter().map(|found| found.age).max().unwrap_or(0))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    age: u32,
    compressed: bool,
    inode: u64,
}

/// All files of a log, oldest first, open.
fn collect(path: &Path) -> io::Result<VecDeque<Source>> {
    let mut found = look(path)?;
    for _ in 0..LOOKS_MAX {
        let sources = open_all(path, &found)?;
        let again = look(path)?;
        if again == found
            && let Some(sources) = sources
        {
            return Ok(sources);
        }
        found = again;
    }
    Ok(open_all(path, &found)?.unwrap_or_default())
}

/// Absent when one of them is another file by now.
fn open_all(path: &Path, found: &[Found]) -> io::Result<Option<VecDeque<Source>>> {
    let mut sources = VecDeque::with_capacity(found.len());
    for one in found {
        let path = if one.compressed {
            compressed(path, one.age)
        } else {
            name(path, one.age)
        };
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        if file.metadata()?.ino() != one.inode {
            return Ok(None);
        }
        if !one.compressed {
            sources.push_back(Source::plain(file)?);
        } else if let Some(source) = Source::compressed(file)? {
            sources.push_back(source);
        }
    }
    Ok(Some(sources))
}

/// The files' names, oldest first: where a file is there plain and compressed, the plain one.
fn look(path: &Path) -> io::Result<Vec<Found>> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let own = path.file_name().unwrap_or_default().as_encoded_bytes();
    let mut found: HashMap<u32, Found> = HashMap::new();
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let Some((age, compressed)) = age(entry.file_name().as_encoded_bytes(), own) else {
            continue;
        };
        let Ok(metadata) = entry.metadata() else { continue };
        if !metadata.is_file() {
            continue;
        }
        let one = Found {
            age,
            compressed,
            inode: metadata.ino(),
        };
        let place = found.entry(age).or_insert(one);
        if place.compressed {
            *place = one;
        }
    }
    let mut found: Vec<Found> = found.into_values().collect();
    found.sort_by_key(|one| std::cmp::Reverse(one.age));
    Ok(found)
}

/// `x` is 0, `x.3` is 3, `x.3.gz` is 3 and compressed.
fn age(name: &[u8], own: &[u8]) -> Option<(u32, bool)> {
    let rest = name.strip_prefix(own)?;
    if rest.is_empty() {
        return Some((0, false));
    }
    let rest = std::str::from_utf8(rest.strip_prefix(b".")?).ok()?;
    let (digits, compressed) = match rest.strip_suffix(COMPRESSED) {
        Some(digits) => (digits, true),
        None => (rest, false),
    };
    let age: u32 = digits.parse().ok()?;
    (age > 0 && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some((age, compressed))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::log::archive;

    struct Fixture(tempfile::TempDir);

    impl Fixture {
        fn new() -> Fixture {
            Fixture(tempfile::tempdir().expect("writable"))
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("log")
        }

        /// A line for each letter; its second is its place in the alphabet.
        fn write(&self, name: &str, letters: &str) {
            let mut file = File::options()
                .append(true)
                .create(true)
                .open(self.0.path().join(name))
                .expect(name);
            for letter in letters.chars() {
                let second = u32::from(letter) - u32::from('a');
                let line = format!(
                    "{{\"log\":\"{letter}\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:{second:02}Z\"}}\n"
                );
                file.write_all(line.as_bytes()).expect(name);
            }
        }

        fn rename(&self, from: &str, to: &str) {
            fs::rename(self.0.path().join(from), self.0.path().join(to)).expect("renamed");
        }

        fn open(&self, start: Start, follow: bool) -> LogFiles {
            LogFiles::open(self.path(), Format::Json, start, follow).expect("readable")
        }
    }

    fn read(files: &mut LogFiles) -> String {
        let mut letters = Vec::new();
        while files
            .read(7, |entry| {
                entry.text.append_to(&mut letters);
                ControlFlow::Continue(())
            })
            .expect("readable")
            != Reading::End
        {}
        String::from_utf8(letters).expect("text")
    }

    fn second(second: i64) -> i64 {
        crate::log::times::parse(b"2026-01-01T00:00:00Z").expect("a time") + second * 1_000_000_000
    }

    #[test]
    fn who_does_not_follow_ends_where_the_log_ended() {
        let fixture = Fixture::new();
        fixture.write("log", "ab");
        let (mut whole, mut tail) = (fixture.open(Start::Oldest, false), fixture.open(Start::Last(1), false));
        fixture.write("log", "c");
        fixture.rename("log", "log.1");
        fixture.write("log", "d");
        assert_eq!(read(&mut whole), "ab");
        assert_eq!(read(&mut tail), "b");
    }

    #[test]
    fn rotated_files_are_read_oldest_first() {
        for compress in [false, true] {
            let fixture = Fixture::new();
            fixture.write("log.2", "ab");
            fixture.write("log.1", "c");
            fixture.write("log", "de");
            fixture.write("log.x", "zzz");
            if compress {
                archive::compress(&fixture.path(), 0, 3).expect("compressed");
                assert!(!has_plain(&fixture.path()).expect("readable"));
            }
            assert_eq!(read(&mut fixture.open(Start::Oldest, true)), "abcde");
            for (lines, text) in [(0, ""), (1, "e"), (3, "cde"), (4, "bcde"), (9, "abcde")] {
                assert_eq!(read(&mut fixture.open(Start::Last(lines), true)), text, "{lines}");
            }
            for (time, text) in [
                (0, "abcde"),
                (1, "abcde"),
                (2, "abcde"),
                (3, "cde"),
                (4, "de"),
                (9, "de"),
            ] {
                // Never less than what was asked for; from the file on that it is in.
                let found = read(&mut fixture.open(Start::Time(second(time)), true));
                assert_eq!(found, text, "{time}");
            }
        }
    }

    #[test]
    fn a_rotation_under_the_readers_hands_loses_nothing() {
        let fixture = Fixture::new();
        fixture.write("log", "a");
        let mut files = fixture.open(Start::Oldest, true);
        assert_eq!(read(&mut files), "a");
        fixture.write("log", "b");
        fixture.rename("log", "log.1");
        fixture.write("log", "c");
        fixture.rename("log.1", "log.2");
        fixture.rename("log", "log.1");
        // Ours is an archive by the time it is looked for.
        archive::compress(&fixture.path(), 0, 3).expect("compressed");
        fixture.write("log", "d");
        assert_eq!(read(&mut files), "bcd");
        fixture.write("log", "e");
        assert_eq!(read(&mut files), "e");
    }

    #[test]
    fn a_log_that_does_not_exist_yet_begins_when_it_does() {
        let fixture = Fixture::new();
        let mut files = fixture.open(Start::Last(5), true);
        assert_eq!(read(&mut files), "");
        fixture.write("log", "a");
        assert_eq!(read(&mut files), "a");
    }

    #[test]
    fn a_log_that_was_cut_in_place_is_read_from_its_beginning_again() {
        let fixture = Fixture::new();
        fixture.write("log", "ab");
        let mut files = fixture.open(Start::Oldest, true);
        assert_eq!(read(&mut files), "ab");
        File::create(fixture.path()).expect("cut");
        assert_eq!(read(&mut files), "");
        fixture.write("log", "c");
        assert_eq!(read(&mut files), "c");
    }

    #[test]
    fn a_place_is_found_again_in_whatever_file_it_is_now() {
        let fixture = Fixture::new();
        fixture.write("log", "ab");
        let mut files = fixture.open(Start::Oldest, true);
        let first = files.first_time().expect("readable");
        files.read(100, |_| ControlFlow::Continue(())).expect("readable");
        let (inode, offset) = files.place().expect("a file");
        let place = Start::Place { inode, first, offset };
        assert_eq!(read(&mut fixture.open(place, true)), "b");
        fixture.rename("log", "log.1");
        fixture.write("log", "c");
        assert_eq!(age_of(&fixture.path(), inode).expect("readable"), Some(1));
        assert_eq!(read(&mut fixture.open(place, true)), "bc");
        fs::remove_file(fixture.0.path().join("log.1")).expect("removed");
        let mut files = fixture.open(place, true);
        assert!(files.lost);
        assert_eq!(read(&mut files), "c");
    }

    #[test]
    fn a_directory_that_goes_takes_nothing_from_one_who_holds_on() {
        let fixture = Fixture::new();
        fixture.write("log", "a");
        let mut files = fixture.open(Start::Oldest, true);
        assert_eq!(read(&mut files), "a");
        fixture.rename("log", "log.1");
        fixture.write("log", "b");
        files.let_go().expect("open");
        fs::remove_dir_all(fixture.0.path()).expect("removed");
        assert_eq!(read(&mut files), "b");
        assert_eq!(read(&mut files), "");
    }

    #[test]
    fn damaged_lines_cost_themselves_only() {
        let fixture = Fixture::new();
        fixture.write("log", "a");
        let mut file = File::options().append(true).open(fixture.path()).expect("there");
        file.write_all(b"{\"log\":\"ha\n\0\0\0\0\n{\"time\":\"2026-01-01T00:00:00Z\",\"log\":\"x\"}\n\n")
            .expect("written");
        fixture.write("log", "b");
        file.write_all(b"{\"log\":\"half").expect("written");
        fixture.rename("log", "log.1");
        fixture.write("log", "c");
        assert_eq!(read(&mut fixture.open(Start::Oldest, false)), "axbc");
    }
}

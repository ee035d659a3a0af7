//! The files of a json-file log: `x-json.log` is written now, `x-json.log.1` is older, `.2` older still.
//!
//! A reader holds the file that it reads open, so a rotation under its hands loses nothing: it finds its file again by
//! inode, and goes on with the next younger one.
use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

const BLOCK: usize = 64 << 10;

/// Reads forwards through all files, then goes on with whatever is appended.
#[derive(Debug)]
pub struct LogFiles {
    path: PathBuf,
    max_files: u32,
    current: Option<Position>,
    /// Inode and length of the youngest file when this was opened: where a reader who does not follow ends, however
    /// fast the container goes on printing.
    end: Option<(u64, u64)>,
}

#[derive(Debug)]
struct Position {
    file: File,
    inode: u64,
    offset: u64,
}

impl LogFiles {
    /// At the beginning, or before the last so many lines; up to the present end unless it follows.
    pub fn open(path: PathBuf, max_files: u32, tail: Option<u64>, follow: bool) -> io::Result<LogFiles> {
        let mut files = LogFiles {
            path,
            max_files,
            current: None,
            end: None,
        };
        files.end = files.present_end()?;
        match tail {
            Some(lines) => files.seek_tail(lines)?,
            None => files.current = files.oldest()?,
        }
        if follow {
            files.end = None;
        }
        Ok(files)
    }

    pub fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// Appends the next bytes to `buffer`; 0 when there are no more for now.
    pub fn read(&mut self, buffer: &mut Vec<u8>, most: usize) -> io::Result<usize> {
        loop {
            let Some(position) = &mut self.current else {
                self.current = self.oldest()?;
                if self.current.is_none() {
                    return Ok(0);
                }
                continue;
            };
            let left = match self.end {
                Some((inode, length)) if inode == position.inode => length.saturating_sub(position.offset),
                _ => u64::MAX,
            };
            if left == 0 {
                return Ok(0);
            }
            let start = buffer.len();
            buffer.resize(start + most.min(usize::try_from(left).unwrap_or(most)), 0);
            let count = position.file.read_at(&mut buffer[start..], position.offset)?;
            buffer.truncate(start + count);
            position.offset += count as u64;
            if count > 0 {
                return Ok(count);
            }
            // Cut in place (by `truncate`, or a rotation with one file): from the beginning again.
            if position.file.metadata()?.len() < position.offset {
                position.offset = 0;
                continue;
            }
            let inode = position.inode;
            match self.younger(inode)? {
                Some(next) => self.current = Some(next),
                None => return Ok(0),
            }
        }
    }

    fn present_end(&self) -> io::Result<Option<(u64, u64)>> {
        match fs::metadata(self.name(0)) {
            Ok(metadata) => Ok(Some((metadata.ino(), metadata.len()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn name(&self, age: u32) -> PathBuf {
        if age == 0 {
            return self.path.clone();
        }
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{age}"));
        name.into()
    }

    fn open_age(&self, age: u32) -> io::Result<Option<Position>> {
        match File::open(self.name(age)) {
            Ok(file) => {
                let inode = file.metadata()?.ino();
                Ok(Some(Position { file, inode, offset: 0 }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn oldest(&self) -> io::Result<Option<Position>> {
        for age in (0..self.max_files.max(1)).rev() {
            if let Some(position) = self.open_age(age)? {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }

    /// The file after the one with this inode; absent when that is the one being written.
    fn younger(&self, inode: u64) -> io::Result<Option<Position>> {
        for age in 0..self.max_files.max(1) {
            let found = match fs::metadata(self.name(age)) {
                Ok(metadata) => metadata.ino() == inode,
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => return Err(error),
            };
            if found {
                return if age == 0 { Ok(None) } else { self.open_age(age - 1) };
            }
        }
        // Ours has been rotated away.
        self.oldest()
    }

    /// Stands before the last `lines` lines, found from the end backwards, block by block.
    fn seek_tail(&mut self, lines: u64) -> io::Result<()> {
        let mut missing = lines;
        for age in 0..self.max_files.max(1) {
            let Some(mut position) = self.open_age(age)? else { break };
            let length = match self.end {
                Some((inode, length)) if inode == position.inode => length,
                _ => position.file.metadata()?.len(),
            };
            let (offset, found) = last_lines(&position.file, length, missing)?;
            position.offset = offset;
            self.current = Some(position);
            missing -= found;
            if missing == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// Where the last `wanted` lines of a file begin, and how many there are.
fn last_lines(file: &File, length: u64, wanted: u64) -> io::Result<(u64, u64)> {
    if wanted == 0 || length == 0 {
        return Ok((length, 0));
    }
    let mut block = vec![0; BLOCK];
    let mut end = length;
    let mut found = 0;
    while end > 0 {
        let start = end.saturating_sub(BLOCK as u64);
        let part = &mut block[..usize::try_from(end - start).unwrap_or(BLOCK)];
        file.read_exact_at(part, start)?;
        for index in memchr::memrchr_iter(b'\n', part) {
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    struct Fixture(PathBuf);

    impl Fixture {
        fn new(name: &str) -> Fixture {
            let directory = std::env::temp_dir().join(format!("corten-test-{}-{name}", std::process::id()));
            fs::create_dir_all(&directory).expect("writable");
            Fixture(directory)
        }

        fn write(&self, name: &str, text: &str) {
            File::options()
                .append(true)
                .create(true)
                .open(self.0.join(name))
                .expect(name)
                .write_all(text.as_bytes())
                .expect(name);
        }

        fn open(&self, tail: Option<u64>) -> LogFiles {
            LogFiles::open(self.0.join("log"), 3, tail, true).expect("readable")
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn read_all(files: &mut LogFiles) -> String {
        let mut buffer = Vec::new();
        while files.read(&mut buffer, 7).expect("readable") > 0 {}
        String::from_utf8(buffer).expect("text")
    }

    #[test]
    fn who_does_not_follow_ends_where_the_log_ended() {
        let fixture = Fixture::new("end");
        fixture.write("log", "a\nb\n");
        let open = |tail| LogFiles::open(fixture.0.join("log"), 3, tail, false).expect("readable");
        let (mut whole, mut tail) = (open(None), open(Some(1)));
        fixture.write("log", "c\n");
        fs::rename(fixture.0.join("log"), fixture.0.join("log.1")).expect("rotated");
        fixture.write("log", "d\n");
        assert_eq!(read_all(&mut whole), "a\nb\n");
        assert_eq!(read_all(&mut tail), "b\n");
    }

    #[test]
    fn rotated_files_are_read_oldest_first() {
        let fixture = Fixture::new("order");
        fixture.write("log.2", "a\nb\n");
        fixture.write("log.1", "c\n");
        fixture.write("log", "d\ne\n");
        assert_eq!(read_all(&mut fixture.open(None)), "a\nb\nc\nd\ne\n");
        for (lines, text) in [
            (0, ""),
            (1, "e\n"),
            (3, "c\nd\ne\n"),
            (4, "b\nc\nd\ne\n"),
            (9, "a\nb\nc\nd\ne\n"),
        ] {
            assert_eq!(read_all(&mut fixture.open(Some(lines))), text, "{lines}");
        }
    }

    #[test]
    fn a_rotation_under_the_readers_hands_loses_nothing() {
        let fixture = Fixture::new("rotation");
        fixture.write("log", "a\n");
        let mut files = fixture.open(None);
        assert_eq!(read_all(&mut files), "a\n");
        fixture.write("log", "b\n");
        for (from, to) in [("log", "log.1"), ("log", "log.1")] {
            if fixture.0.join("log.1").exists() {
                fs::rename(fixture.0.join("log.1"), fixture.0.join("log.2")).expect("renamed");
            }
            fs::rename(fixture.0.join(from), fixture.0.join(to)).expect("renamed");
            fixture.write("log", "c\n");
        }
        assert_eq!(read_all(&mut files), "b\nc\nc\n");
    }

    #[test]
    fn a_log_that_does_not_exist_yet_begins_when_it_does() {
        let fixture = Fixture::new("late");
        let mut files = fixture.open(Some(5));
        assert_eq!(read_all(&mut files), "");
        fixture.write("log", "a\n");
        assert_eq!(read_all(&mut files), "a\n");
    }

    #[test]
    fn tails_cross_blocks() {
        let fixture = Fixture::new("blocks");
        let line = format!("{}\n", "x".repeat(1000));
        fixture.write("log", &line.repeat(300));
        assert_eq!(read_all(&mut fixture.open(Some(150))).len(), 150 * 1001);
    }
}

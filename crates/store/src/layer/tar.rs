//! A streaming tar reader: ustar, GNU, PAX and old V7 archives, entry by entry, with bounded memory.
//!
//! It follows GNU tar and, where that differs from Go's reader (which Docker's images were made for), Go: links,
//! directories and devices have no data whatever their size field says. Names are bytes exactly as the archive has
//! them; what may be done with a name is decided by `layer::apply`.
use std::io::{self, BufRead, Read};

use crate::layer::{
    error::{LayerError, printable},
    header::{BLOCK, Format, Header},
    pax::Pax,
    sparse::{self, Segment},
};

/// The longest path and link target, as the kernel's PATH_MAX.
pub const MAX_PATH: usize = 4096;
/// The longest extended header.
pub const MAX_EXTENDED: u64 = 1 << 20;
/// The most entries of one archive; a Linux distribution has some hundred thousand.
const MAX_ENTRIES: u64 = 16_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    CharacterDevice,
    BlockDevice,
    Fifo,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub path: Vec<u8>,
    /// Of symbolic and hard links.
    pub link: Vec<u8>,
    pub kind: Kind,
    /// The lowest 12 bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Of the file as it will be, holes included; 0 for everything that is no file.
    pub size: u64,
    /// Seconds since the epoch, and nanoseconds beyond them.
    pub modified: (i64, u32),
    /// Major and minor number.
    pub device: (u32, u32),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the data goes, when the file has holes.
    pub sparse: Option<Vec<Segment>>,
}

impl Entry {
    /// Without a name, and with nothing in it.
    pub fn of(kind: Kind) -> Entry {
        Entry {
            path: Vec::new(),
            link: Vec::new(),
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            modified: (0, 0),
            device: (0, 0),
            xattrs: Vec::new(),
            sparse: None,
        }
    }
}

#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    /// Of the entry that was returned last: data not read yet, and zeroes after it.
    remaining: u64,
    padding: u64,
    global: Pax,
    entries: u64,
    /// The name of the last entry, for errors.
    last: Vec<u8>,
    ended: bool,
}

impl<R: BufRead> Reader<R> {
    pub fn new(input: R) -> Reader<R> {
        Reader {
            input,
            remaining: 0,
            padding: 0,
            global: Pax::default(),
            entries: 0,
            last: Vec::new(),
            ended: false,
        }
    }

    /// The next entry; data of the entry before that was not read is skipped. `None` at the end mark, or where the
    /// input ends between two entries.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, LayerError> {
        self.skip_data()?;
        let mut long_path = None;
        let mut long_link = None;
        let mut pax = self.global.clone();
        while let Some(header) = self.header()? {
            match header.kind_byte() {
                b'x' | b'X' => {
                    let data = self.extension(&header)?;
                    pax.parse(&data, false).map_err(|problem| self.bad_header(problem))?;
                }
                b'g' => {
                    let data = self.extension(&header)?;
                    let parsed = self.global.parse(&data, true);
                    parsed.map_err(|problem| self.bad_header(problem))?;
                    pax = self.global.clone();
                }
                b'L' => long_path = Some(until_nul(self.extension(&header)?)),
                b'K' => long_link = Some(until_nul(self.extension(&header)?)),
                // A label of the archive.
                b'V' => {
                    self.remaining = header.size().map_err(|problem| self.bad_header(problem))?;
                    self.padding = padding(self.remaining);
                    self.skip_data()?;
                }
                _ => return self.entry(&header, long_path, long_link, pax).map(Some),
            }
        }
        Ok(None)
    }

    /// The data of the entry that `next_entry` returned last.
    pub fn data(&mut self) -> Data<'_, R> {
        Data { reader: self }
    }

    /// What was read from, standing wherever reading stopped.
    pub fn into_inner(self) -> R {
        self.input
    }

    fn header(&mut self) -> Result<Option<Header>, LayerError> {
        if self.ended {
            return Ok(None);
        }
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(self.bad_header("is one too many"));
        }
        let Some(block) = self.block()? else {
            self.ended = true;
            return Ok(None);
        };
        if block.iter().all(|&byte| byte == 0) {
            self.ended = true;
            return match self.block()? {
                Some(second) if second.iter().any(|&byte| byte != 0) => Err(self.bad_header("is no header")),
                _ => Ok(None),
            };
        }
        match Header::new(block) {
            Some(header) => Ok(Some(header)),
            None if self.entries == 1 => Err(LayerError::NotTar),
            None => Err(self.bad_header("is no header")),
        }
    }

    /// One block; `None` where the input ends.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, LayerError> {
        let mut block = [0; BLOCK];
        let mut have = 0;
        while have < BLOCK {
            match self.input.read(&mut block[have..]) {
                Ok(0) => break,
                Ok(count) => have += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(LayerError::Read(error)),
            }
        }
        match have {
            0 => Ok(None),
            BLOCK => Ok(Some(block)),
            _ if self.entries <= 1 => Err(LayerError::NotTar),
            _ => Err(self.bad_header("is cut off")),
        }
    }

    /// The data of an extended header.
    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, LayerError> {
        let size = header.size().map_err(|problem| self.bad_header(problem))?;
        if size > MAX_EXTENDED {
            return Err(self.bad_header(format!("has an extension of {size} bytes, more than {MAX_EXTENDED}")));
        }
        let mut data = vec![0; size as usize];
        self.remaining = size;
        self.padding = padding(size);
        let read = self.data().read_exact(&mut data);
        read.map_err(|_| self.bad_header("has an extension that is cut off"))?;
        self.skip_data()?;
        Ok(data)
    }

    fn entry(
        &mut self,
        header: &Header,
        long_path: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
        mut pax: Pax,
    ) -> Result<Entry, LayerError> {
        // As in GNU tar and Go: a PAX record says more than a GNU long name, and that more than the header.
        let path = pax.path.take().or(long_path).unwrap_or_else(|| header.path());
        let bad = |problem: &str| LayerError::entry(&path, problem);
        let kind = match header.kind_byte() {
            b'0' | 0 if header.format() == Format::V7 && path.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharacterDevice,
            b'4' => Kind::BlockDevice,
            b'5' | b'D' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => return Err(bad(&format!("type {:?} is not supported", char::from(other)))),
        };
        let link = match kind {
            Kind::Symlink | Kind::HardLink => pax.link.take().or(long_link).unwrap_or_else(|| header.link()),
            _ => Vec::new(),
        };
        check_name(&path).and_then(|()| check_name(&link)).map_err(bad)?;
        let stored = match (kind, header.kind_byte()) {
            (Kind::File, _) | (_, b'D') => pax.size.map_or_else(|| header.size(), Ok).map_err(bad)?,
            _ => 0,
        };
        let id = |from_pax: Option<u64>, from_header: Result<u64, &'static str>| {
            let id = from_pax.map_or(from_header, Ok)?;
            u32::try_from(id).map_err(|_| "its owner is out of range")
        };
        let mut entry = Entry {
            kind,
            mode: header.mode().map_err(bad)?,
            uid: id(pax.uid, header.uid()).map_err(bad)?,
            gid: id(pax.gid, header.gid()).map_err(bad)?,
            size: if kind == Kind::File { stored } else { 0 },
            modified: pax.modified.map_or_else(|| header.modified(), Ok).map_err(bad)?,
            device: match kind {
                Kind::CharacterDevice | Kind::BlockDevice => header.device().map_err(bad)?,
                _ => (0, 0),
            },
            xattrs: std::mem::take(&mut pax.xattrs),
            sparse: None,
            link,
            path,
        };
        self.last.clone_from(&entry.path);
        self.remaining = stored;
        self.padding = padding(stored);
        if kind == Kind::File {
            self.make_sparse(header, pax, &mut entry)?;
        }
        Ok(entry)
    }

    /// Finds the map of a file with holes, in whichever of the four ways it is written.
    fn make_sparse(&mut self, header: &Header, pax: Pax, entry: &mut Entry) -> Result<(), LayerError> {
        let size;
        let segments;
        if header.kind_byte() == b'S' && header.format() == Format::Gnu {
            let (real_size, mut map, mut more) = header
                .sparse()
                .map_err(|problem| LayerError::entry(&entry.path, problem))?;
            while more {
                let Some(block) = self.block()? else {
                    return Err(LayerError::entry(&entry.path, "its map of holes is cut off"));
                };
                more = sparse::read_extended(&block, &mut map)
                    .map_err(|problem| LayerError::entry(&entry.path, problem))?;
            }
            (size, segments) = (real_size, map);
        } else if let Some(described) = pax.sparse {
            if let Some(name) = described.name {
                check_name(&name).map_err(|problem| LayerError::entry(&name, problem))?;
                self.last.clone_from(&name);
                entry.path = name;
            }
            let Some(real_size) = described.size else {
                return Err(LayerError::entry(&entry.path, "its real size is not told"));
            };
            segments = match described.in_data {
                true => {
                    let map = sparse::read_leading(&mut self.data());
                    map.map_err(|error| LayerError::entry(&entry.path, error.to_string()))?
                }
                false => described.segments,
            };
            size = real_size;
        } else {
            return Ok(());
        }
        sparse::check(&segments, size, self.remaining).map_err(|problem| LayerError::entry(&entry.path, problem))?;
        entry.size = size;
        entry.sparse = Some(segments);
        Ok(())
    }

    fn skip_data(&mut self) -> Result<(), LayerError> {
        let mut left = self.remaining + self.padding;
        while left > 0 {
            let available = match self.input.fill_buf() {
                Ok(chunk) => chunk.len(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(LayerError::Read(error)),
            };
            if available == 0 {
                // Some writers leave out the padding of the last entry.
                if left <= self.padding {
                    break;
                }
                return Err(LayerError::entry(&self.last, "its data is cut off"));
            }
            let step = left.min(available as u64);
            self.input.consume(step as usize);
            left -= step;
        }
        self.remaining = 0;
        self.padding = 0;
        Ok(())
    }

    fn bad_header(&self, problem: impl Into<String>) -> LayerError {
        LayerError::Header {
            position: match self.last.as_slice() {
                [] => "the first header".to_owned(),
                last => format!("the header after entry {:?}", printable(last)),
            },
            problem: problem.into(),
        }
    }
}

/// The data of one entry. Ends with an error, not early, where the archive is cut off.
#[derive(Debug)]
pub struct Data<'a, R> {
    reader: &'a mut Reader<R>,
}

impl<R: BufRead> BufRead for Data<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.reader.remaining == 0 {
            return Ok(&[]);
        }
        let chunk = self.reader.input.fill_buf()?;
        if chunk.is_empty() {
            let kind = io::ErrorKind::UnexpectedEof;
            return Err(io::Error::new(kind, "the archive is cut off"));
        }
        let length = self.reader.remaining.min(chunk.len() as u64);
        Ok(&chunk[..length as usize])
    }

    fn consume(&mut self, amount: usize) {
        self.reader.input.consume(amount);
        self.reader.remaining -= amount as u64;
    }
}

impl<R: BufRead> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let chunk = self.fill_buf()?;
        let count = chunk.len().min(buffer.len());
        buffer[..count].copy_from_slice(&chunk[..count]);
        self.consume(count);
        Ok(count)
    }
}

/// Whether these first bytes of something look like a tar archive: a header, or the end mark of an empty one.
pub fn is_tar(start: &[u8]) -> bool {
    match start.get(..BLOCK).and_then(|block| block.try_into().ok()) {
        Some(block) => block == [0; BLOCK] || Header::new(block).is_some(),
        None => start.is_empty(),
    }
}

fn check_name(name: &[u8]) -> Result<(), &'static str> {
    match name {
        name if name.len() > MAX_PATH => Err("its name or link is too long"),
        name if name.contains(&0) => Err("its name or link has a zero byte"),
        _ => Ok(()),
    }
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = memchr::memchr(0, &bytes) {
        bytes.truncate(end);
    }
    bytes
}

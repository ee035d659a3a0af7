//! Rotated log files, compressed: gzip that any tool unpacks, and in which a reader finds its way.
//!
//! Each MiB (of the original) is a gzip member of its own; the last member is empty and carries, as an extra field,
//! how long the others are and which file they come from. So the end of a log is read without unpacking its beginning.
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use corten_runtime::shim::log::files::{self, Lock};
use flate2::{Compression, read::DeflateDecoder, write::GzEncoder};

/// Of the original; larger where more members would not fit into the index.
const MEMBER_BYTES: u64 = 1 << 20;
/// An extra field has at most 65535 bytes.
const MEMBERS_MAX: u64 = 16_000;
const FIELD: [u8; 2] = *b"CL";
const MAGIC: [u8; 8] = *b"corten-z";
/// inode, original length, member size; then 4 for each member; then how many, and the magic number.
const HEAD_BYTES: usize = 24;
const FOOT_BYTES: usize = 12;
/// An empty deflate stream, its checksum and its length.
const EMPTY: [u8; 10] = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const TEMPORARY: &str = ".gz.new";

/// A compressed file, open for reading at any place of the original.
#[derive(Debug)]
pub struct Archive {
    file: File,
    /// Of the file that it was made from.
    pub inode: u64,
    pub length: u64,
    member_bytes: u64,
    /// Where each member begins; one more for the end of the last.
    starts: Vec<u64>,
    unpacked: Option<(usize, Vec<u8>)>,
}

impl Archive {
    /// Absent when it is none of ours, or damaged.
    pub fn open(file: File) -> io::Result<Option<Archive>> {
        let size = file.metadata()?.len();
        let foot_at = size.checked_sub((FOOT_BYTES + EMPTY.len()) as u64);
        let Some(foot_at) = foot_at else { return Ok(None) };
        let mut foot = [0; FOOT_BYTES];
        file.read_exact_at(&mut foot, foot_at)?;
        let count = u32::from_le_bytes([foot[0], foot[1], foot[2], foot[3]]);
        let index_bytes = HEAD_BYTES as u64 + 4 * u64::from(count);
        if foot[4..] != MAGIC || u64::from(count) > MEMBERS_MAX || index_bytes > foot_at {
            return Ok(None);
        }
        let mut index = vec![0; index_bytes as usize];
        file.read_exact_at(&mut index, foot_at - index_bytes)?;
        let word = |at: usize| u64::from_le_bytes(index[at..at + 8].try_into().expect("eight bytes"));
        let mut starts = vec![0];
        for length in index[HEAD_BYTES..].chunks_exact(4) {
            let last = starts.last().expect("never empty");
            starts.push(last + u64::from(u32::from_le_bytes(length.try_into().expect("four bytes"))));
        }
        let (length, member_bytes) = (word(8), word(16));
        let sane = member_bytes == member_bytes_of(length) && length.div_ceil(member_bytes) == u64::from(count);
        if !sane || starts.last().is_some_and(|end| *end > size) {
            return Ok(None);
        }
        Ok(Some(Archive {
            file,
            inode: word(0),
            length,
            member_bytes,
            starts,
            unpacked: None,
        }))
    }

    /// As `pread` of the original.
    pub fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset >= self.length {
            return Ok(0);
        }
        let member = usize::try_from(offset / self.member_bytes).map_err(io::Error::other)?;
        if self.unpacked.as_ref().is_none_or(|(present, _)| *present != member) {
            let bytes = self.unpack(member)?;
            self.unpacked = Some((member, bytes));
        }
        let bytes = self.unpacked.as_ref().map_or(&[][..], |(_, bytes)| bytes);
        let inside = (offset % self.member_bytes) as usize;
        let part = bytes.get(inside..).unwrap_or_default();
        let count = part.len().min(buffer.len());
        buffer[..count].copy_from_slice(&part[..count]);
        if count == 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(count)
    }

    fn unpack(&self, member: usize) -> io::Result<Vec<u8>> {
        let (start, end) = (self.starts[member], self.starts[member + 1]);
        let mut packed = vec![0; usize::try_from(end - start).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut packed, start)?;
        // The header of a member that `pack` writes has no options.
        let deflated = packed.get(10..).ok_or(io::ErrorKind::InvalidData)?;
        let mut bytes = Vec::with_capacity(self.member_bytes as usize);
        DeflateDecoder::new(deflated)
            .take(self.member_bytes)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

fn member_bytes_of(length: u64) -> u64 {
    MEMBER_BYTES.max(length.div_ceil(MEMBERS_MAX))
}

/// Writes the compressed form of `original` into `target`.
fn pack(original: &File, target: &mut File) -> io::Result<()> {
    let metadata = original.metadata()?;
    let length = metadata.len();
    let member_bytes = member_bytes_of(length);
    let mut index = Vec::new();
    for number in [metadata.ino(), length, member_bytes] {
        index.extend_from_slice(&number.to_le_bytes());
    }
    let (mut part, mut count, mut offset) = (vec![0; member_bytes as usize], 0u32, 0);
    while offset < length {
        let most = (length - offset).min(member_bytes) as usize;
        original.read_exact_at(&mut part[..most], offset)?;
        let mut encoder = GzEncoder::new(Vec::with_capacity(most / 8), Compression::fast());
        encoder.write_all(&part[..most])?;
        let member = encoder.finish()?;
        target.write_all(&member)?;
        index.extend_from_slice(&u32::try_from(member.len()).map_err(io::Error::other)?.to_le_bytes());
        count += 1;
        offset += most as u64;
    }
    index.extend_from_slice(&count.to_le_bytes());
    index.extend_from_slice(&MAGIC);
    target.write_all(&trailer(&index)?)
}

/// An empty gzip member with an extra field.
fn trailer(index: &[u8]) -> io::Result<Vec<u8>> {
    let field = u16::try_from(index.len()).map_err(io::Error::other)?;
    let mut bytes = vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff];
    bytes.extend_from_slice(&(field + 4).to_le_bytes());
    bytes.extend_from_slice(&FIELD);
    bytes.extend_from_slice(&field.to_le_bytes());
    bytes.extend_from_slice(index);
    bytes.extend_from_slice(&EMPTY);
    Ok(bytes)
}

/// Compresses the rotated files of the log at `path` that are older than `after`, oldest first. What is being read
/// stays readable: a file is replaced by name, and only when its compressed form is complete.
pub fn compress(path: &Path, after: u32, max_files: u32) -> io::Result<()> {
    for age in (after + 1..max_files).rev() {
        match File::open(files::name(path, age)) {
            Ok(original) => replace(path, &original, max_files)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn replace(path: &Path, original: &File, max_files: u32) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(TEMPORARY);
    let made = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o640)
        .open(&temporary)
        .and_then(|mut target| pack(original, &mut target));
    if let Err(error) = made {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    let inode = original.metadata()?.ino();
    let _lock = Lock::wait(path.parent().unwrap_or(Path::new("/")))?;
    // It may have grown older meanwhile, or have been dropped.
    let age =
        (1..max_files).find(|age| fs::metadata(files::name(path, *age)).is_ok_and(|metadata| metadata.ino() == inode));
    match age {
        Some(age) => {
            fs::rename(&temporary, files::compressed(path, age))?;
            fs::remove_file(files::name(path, age))
        }
        None => fs::remove_file(&temporary),
    }
}

#[cfg(test)]
mod tests {
    use flate2::read::MultiGzDecoder;

    use super::*;

    fn archive(bytes: &[u8]) -> (tempfile::TempDir, Archive) {
        let directory = tempfile::tempdir().expect("writable");
        let path = directory.path().join("log");
        fs::write(files::name(&path, 2), bytes).expect("writable");
        compress(&path, 0, 3).expect("compressed");
        assert!(!files::name(&path, 2).exists());
        let file = File::open(files::compressed(&path, 2)).expect("made");
        (directory, Archive::open(file).expect("readable").expect("ours"))
    }

    #[test]
    fn an_archive_is_read_at_any_place_and_by_any_tool() {
        let bytes: Vec<u8> = (0..3_200_000u32)
            .map(|number| (number.wrapping_mul(number) / 7) as u8)
            .collect();
        let (directory, mut archive) = archive(&bytes);
        assert_eq!(archive.length, bytes.len() as u64);
        for offset in [0, 1, (1 << 20) - 1, 1 << 20, bytes.len() - 1] {
            let mut part = [0; 100];
            let count = archive.read_at(&mut part, offset as u64).expect("readable");
            assert!(count > 0 && part[..count] == bytes[offset..offset + count], "{offset}");
        }
        assert_eq!(archive.read_at(&mut [0; 9], bytes.len() as u64).expect("the end"), 0);
        let mut unpacked = Vec::new();
        let file = File::open(directory.path().join("log.2.gz")).expect("made");
        MultiGzDecoder::new(file).read_to_end(&mut unpacked).expect("gzip");
        assert!(unpacked == bytes);
    }

    #[test]
    fn a_damaged_archive_is_an_error_or_none_but_never_a_fall() {
        let bytes = b"some words and some more\n".repeat(4000);
        let (directory, _) = archive(&bytes);
        let path = directory.path().join("log.2.gz");
        let whole = fs::read(&path).expect("made");
        for place in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[place] ^= 0xff;
            for bytes in [&damaged[..], &whole[..place]] {
                fs::write(&path, bytes).expect("writable");
                if let Ok(Some(mut archive)) = Archive::open(File::open(&path).expect("made")) {
                    let _ = archive.read_at(&mut [0; 4096], 0);
                    let _ = archive.read_at(&mut [0; 4096], 50_000);
                }
            }
        }
    }

    #[test]
    fn only_what_is_older_is_compressed() {
        let directory = tempfile::tempdir().expect("writable");
        let path = directory.path().join("log");
        for age in 0..4 {
            fs::write(files::name(&path, age), b"x\n").expect("writable");
        }
        compress(&path, 1, 4).expect("compressed");
        let mut names: Vec<_> = fs::read_dir(directory.path())
            .expect("readable")
            .map(|entry| entry.expect("readable").file_name().into_string().expect("text"))
            .collect();
        names.sort();
        assert_eq!(names, ["log", "log.1", "log.2.gz", "log.3.gz"]);
    }
}

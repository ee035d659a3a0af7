//! Writing tar headers: the same bytes for the same entry, always.
//!
//! Plain ustar where an entry fits into it, with a PAX header in front where it does not. Fields that a program could not
//! read back as they were (a time within the second, names of users) are left out, as Docker's archives do.
use std::io::Write as _;

use crate::layer::{
    header::BLOCK,
    tar::{Entry, Kind},
};

/// What 7 octal digits hold.
const OCTAL_7: u64 = 0o7_777_777;
/// What 11 octal digits hold: 8 GiB.
const OCTAL_11: u64 = 0o77_777_777_777;

/// Of a file that root owns and everybody may read, made at the epoch.
pub fn file_header(name: &str, size: u64) -> [u8; BLOCK] {
    plain(name, Kind::File, 0o644, size)
}

/// `name` ends with a slash.
pub fn directory_header(name: &str) -> [u8; BLOCK] {
    plain(name, Kind::Directory, 0o755, 0)
}

/// What fills the last block of a file.
pub fn padding(size: u64) -> &'static [u8] {
    const ZEROES: [u8; BLOCK] = [0; BLOCK];
    &ZEROES[..(size.wrapping_neg() % BLOCK as u64) as usize]
}

/// The end mark.
pub fn end() -> [u8; 2 * BLOCK] {
    [0; 2 * BLOCK]
}

fn plain(name: &str, kind: Kind, mode: u32, size: u64) -> [u8; BLOCK] {
    debug_assert!(name.len() <= 100, "all names are ours, and short");
    let entry = Entry {
        path: name.as_bytes().to_vec(),
        mode,
        size,
        ..Entry::of(kind)
    };
    block(&entry, b"", name.as_bytes(), size)
}

/// Appends everything that stands before an entry's data. The data of a file with holes are its segments, one after the
/// other, and padding for their sum.
pub fn append(out: &mut Vec<u8>, entry: &Entry) {
    let map = sparse_map(entry);
    let stored = match &entry.sparse {
        None => entry.size,
        Some(segments) => map.len() as u64 + segments.iter().map(|segment| segment.length).sum::<u64>(),
    };
    let mut records = Vec::new();
    let (replaced, name): (Vec<u8>, &[u8]);
    let mut prefix = &b""[..];
    if entry.sparse.is_some() {
        record(&mut records, b"GNU.sparse.major", b"1");
        record(&mut records, b"GNU.sparse.minor", b"0");
        record(&mut records, b"GNU.sparse.name", &entry.path);
        record(&mut records, b"GNU.sparse.realsize", entry.size.to_string().as_bytes());
        replaced = beside(&entry.path, b"GNUSparseFile.0");
        name = &replaced;
    } else {
        match split(&entry.path) {
            Some(split) => (prefix, name) = split,
            None => {
                record(&mut records, b"path", &entry.path);
                name = &entry.path[..100];
            }
        }
    }
    if entry.link.len() > 100 {
        record(&mut records, b"linkpath", &entry.link);
    }
    for (key, value, largest) in [
        (&b"uid"[..], u64::from(entry.uid), OCTAL_7),
        (b"gid", u64::from(entry.gid), OCTAL_7),
        (b"size", stored, OCTAL_11),
    ] {
        if value > largest {
            record(&mut records, key, value.to_string().as_bytes());
        }
    }
    if !(0..=OCTAL_11 as i64).contains(&entry.modified.0) {
        record(&mut records, b"mtime", entry.modified.0.to_string().as_bytes());
    }
    for (key, value) in &entry.xattrs {
        record(&mut records, &[b"SCHILY.xattr.", key.as_slice()].concat(), value);
    }
    if !records.is_empty() {
        extended(out, &entry.path, &records);
    }
    out.extend_from_slice(&block(entry, prefix, &name[..name.len().min(100)], stored));
    out.extend_from_slice(&map);
}

/// A PAX header and its records.
fn extended(out: &mut Vec<u8>, path: &[u8], records: &[u8]) {
    let mut name = beside(path, b"PaxHeaders.0");
    name.truncate(100);
    let header = Entry {
        mode: 0o644,
        ..Entry::of(Kind::File)
    };
    let mut header = block(&header, b"", &name, records.len() as u64);
    header[156] = b'x';
    seal(&mut header);
    out.extend_from_slice(&header);
    out.extend_from_slice(records);
    out.extend_from_slice(padding(records.len() as u64));
}

/// `a/b` as `a/DIRECTORY/b`.
fn beside(path: &[u8], directory: &[u8]) -> Vec<u8> {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    match memchr::memrchr(b'/', path) {
        Some(slash) => [&path[..slash], b"/", directory, &path[slash..]].concat(),
        None => [directory, b"/", path].concat(),
    }
}

/// `length key=value`, where the length counts its own digits.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    let _ = write!(out, "{length} ");
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// GNU's format 1.0: numbers in lines, filled up to a whole block.
fn sparse_map(entry: &Entry) -> Vec<u8> {
    let mut map = Vec::new();
    if let Some(segments) = &entry.sparse {
        let _ = writeln!(map, "{}", segments.len());
        for segment in segments {
            let _ = write!(map, "{}\n{}\n", segment.offset, segment.length);
        }
        map.resize(map.len().next_multiple_of(BLOCK), 0);
    }
    map
}

/// Prefix and name, where ustar has room for them.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= 100 {
        return Some((b"", path));
    }
    if path.len() > 256 {
        return None;
    }
    // The slash is in neither; a directory's own slash at the end splits nothing off.
    let latest = (path.len() - 1).min(156);
    let slash = memchr::memrchr(b'/', &path[..latest])?;
    let (prefix, name) = (&path[..slash], &path[slash + 1..]);
    (name.len() <= 100 && !prefix.is_empty()).then_some((prefix, name))
}

fn block(entry: &Entry, prefix: &[u8], name: &[u8], size: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..name.len()].copy_from_slice(name);
    octal(&mut block[100..108], entry.mode.into());
    octal(&mut block[108..116], u64::from(entry.uid).min(OCTAL_7));
    octal(&mut block[116..124], u64::from(entry.gid).min(OCTAL_7));
    // Base 256 where octal digits end, beside the PAX record: some readers know only one of them.
    octal(&mut block[124..136], size);
    octal(&mut block[136..148], entry.modified.0.clamp(0, OCTAL_11 as i64) as u64);
    block[156] = match entry.kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharacterDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    };
    let link = &entry.link[..entry.link.len().min(100)];
    block[157..157 + link.len()].copy_from_slice(link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    if matches!(entry.kind, Kind::CharacterDevice | Kind::BlockDevice) {
        octal(&mut block[329..337], entry.device.0.into());
        octal(&mut block[337..345], entry.device.1.into());
    }
    block[345..345 + prefix.len()].copy_from_slice(prefix);
    seal(&mut block);
    block
}

fn seal(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
    octal(&mut block[148..155], sum);
}

/// Digits and a zero byte, or base 256 where there are too few digits.
fn octal(field: &mut [u8], mut value: u64) {
    let digits = field.len() - 1;
    if digits < 21 && value >> (3 * digits) != 0 {
        field.fill(0);
        field[0] = 0x80;
        let start = field.len() - 8.min(digits);
        let bytes = value.to_be_bytes();
        field[start..].copy_from_slice(&bytes[8 - 8.min(digits)..]);
        return;
    }
    field[digits] = 0;
    for digit in field[..digits].iter_mut().rev() {
        *digit = b'0' + (value & 7) as u8;
        value >>= 3;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{
        sparse::Segment,
        tar::{MAX_PATH, Reader},
    };

    fn read_back(entry: &Entry) -> Entry {
        let mut bytes = Vec::new();
        append(&mut bytes, entry);
        assert_eq!(bytes.len() % BLOCK, 0);
        Reader::new(&bytes[..]).next_entry().unwrap().unwrap()
    }

    #[test]
    fn what_is_written_reads_back() {
        for size in [0, 1, 512, (1 << 33) - 1, 1 << 33, 1 << 40] {
            let header = file_header("blobs/a", size);
            let entry = Reader::new(&header[..]).next_entry().unwrap().unwrap();
            assert_eq!((entry.size, entry.mode, entry.path), (size, 0o644, b"blobs/a".to_vec()));
            assert_eq!((size + padding(size).len() as u64) % 512, 0);
        }
        let directory = Reader::new(&directory_header("blobs/")[..])
            .next_entry()
            .unwrap()
            .unwrap();
        assert_eq!(directory.kind, Kind::Directory);
    }

    #[test]
    fn every_entry_reads_back_as_it_was() {
        let long = |length: usize, part: usize| -> Vec<u8> {
            let name = vec![b'n'; part];
            let mut path = Vec::new();
            while path.len() < length {
                path.extend_from_slice(&name);
                path.push(b'/');
            }
            path.truncate(length);
            path.pop();
            path.push(b'e');
            path
        };
        for path in [
            b"a".to_vec(),
            long(99, 9),
            long(100, 9),
            long(101, 9),
            long(156, 20),
            long(255, 99),
            long(256, 101),
            long(257, 30),
            long(300, 250),
            long(MAX_PATH, 200),
            b"not \xff\xfe utf-8".to_vec(),
        ] {
            let entry = Entry {
                path: path.clone(),
                mode: 0o4755,
                uid: 4_000_000_000,
                gid: 100_000,
                size: 7,
                modified: (-5, 0),
                xattrs: vec![(b"user.a".to_vec(), b"1\n2=\0".to_vec())],
                ..Entry::of(Kind::File)
            };
            assert_eq!(read_back(&entry), entry, "{} bytes", path.len());
            let directory = Entry {
                path: [path.as_slice(), b"/"].concat(),
                mode: 0o755,
                modified: (1 << 40, 0),
                ..Entry::of(Kind::Directory)
            };
            if directory.path.len() <= MAX_PATH {
                assert_eq!(read_back(&directory), directory, "{} bytes", path.len());
            }
            let link = Entry {
                path: b"link".to_vec(),
                link: path,
                ..Entry::of(Kind::Symlink)
            };
            assert_eq!(read_back(&link), link);
        }
        let device = Entry {
            path: b"dev/big".to_vec(),
            device: (4095, 0xf_ffff),
            ..Entry::of(Kind::BlockDevice)
        };
        assert_eq!(read_back(&device), device);
        let sparse = Entry {
            path: long(200, 150),
            size: 1 << 41,
            sparse: Some(vec![
                Segment { offset: 0, length: 1 },
                Segment {
                    offset: 1 << 40,
                    length: 1 << 34,
                },
            ]),
            ..Entry::of(Kind::File)
        };
        assert_eq!(read_back(&sparse), sparse);
    }
}

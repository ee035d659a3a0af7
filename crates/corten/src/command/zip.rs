//! Zip archives, as far as contexts need them: small ones, read as a whole.
//!
//! What is in an archive is what its directory at the end says; what stands before it is only looked up from there.
use std::io::Read;

use flate2::{Crc, read::DeflateDecoder};

/// How an archive with files in it begins.
pub const MAGIC: &[u8] = b"PK\x03\x04";
const DIRECTORY_END: &[u8] = b"PK\x05\x06";
const DIRECTORY_ENTRY: &[u8] = b"PK\x01\x02";
/// The end of the directory may be followed by a comment of that many bytes.
const COMMENT_MAX: usize = u16::MAX as usize;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// Its files by name, none of them larger than `largest`; directories are left out.
pub fn files(archive: &[u8], largest: u64) -> Result<Vec<(String, Vec<u8>)>, String> {
    let from = archive.len().saturating_sub(22 + COMMENT_MAX);
    let end = archive[from..]
        .windows(4)
        .rposition(|bytes| bytes == DIRECTORY_END)
        .ok_or("it has no directory")?;
    let end = from + end;
    let count = number(archive, end + 10, 2)?;
    let mut at = offset(archive, end + 16)?;
    let mut files = Vec::new();
    for _ in 0..count {
        if part(archive, at, 4)? != DIRECTORY_ENTRY {
            return Err("its directory is damaged".to_owned());
        }
        let (name, extra, comment) = (
            length(archive, at + 28)?,
            length(archive, at + 30)?,
            length(archive, at + 32)?,
        );
        let path = String::from_utf8_lossy(part(archive, at + 46, name)?).into_owned();
        if !path.ends_with('/') {
            let content = content(archive, at, largest).map_err(|reason| format!("cannot read {path:?}: {reason}"))?;
            files.push((path, content));
        }
        at += 46 + name + extra + comment;
    }
    Ok(files)
}

/// The content of the file whose directory entry is at `entry`.
fn content(archive: &[u8], entry: usize, largest: u64) -> Result<Vec<u8>, String> {
    let method = number(archive, entry + 10, 2)? as u16;
    let checksum = number(archive, entry + 16, 4)? as u32;
    let (packed, size) = (number(archive, entry + 20, 4)?, number(archive, entry + 24, 4)?);
    if size > largest {
        return Err("it is too large".to_owned());
    }
    let header = offset(archive, entry + 42)?;
    if part(archive, header, 4)? != MAGIC {
        return Err("its header is damaged".to_owned());
    }
    let start = header + 30 + length(archive, header + 26)? + length(archive, header + 28)?;
    let packed = part(archive, start, usize::try_from(packed).map_err(|_| CUT)?)?;
    let mut bytes = Vec::new();
    match method {
        STORED => bytes.extend_from_slice(packed),
        DEFLATED => {
            let inflated = DeflateDecoder::new(packed).take(size + 1).read_to_end(&mut bytes);
            inflated.map_err(|error| error.to_string())?;
        }
        other => return Err(format!("its compression {other} is not known")),
    }
    let mut crc = Crc::new();
    crc.update(&bytes);
    match bytes.len() as u64 == size && crc.sum() == checksum {
        true => Ok(bytes),
        false => Err("its checksum is wrong".to_owned()),
    }
}

const CUT: &str = "it ends too early";

fn part(archive: &[u8], at: usize, length: usize) -> Result<&[u8], String> {
    let end = at.checked_add(length).ok_or(CUT)?;
    archive.get(at..end).ok_or_else(|| CUT.to_owned())
}

/// Of so many bytes, the lowest first.
fn number(archive: &[u8], at: usize, bytes: usize) -> Result<u64, String> {
    let bytes = part(archive, at, bytes)?.iter().rev();
    Ok(bytes.fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn length(archive: &[u8], at: usize) -> Result<usize, String> {
    number(archive, at, 2).map(|length| length as usize)
}

/// An offset of four bytes; archives that need longer ones are no contexts.
fn offset(archive: &[u8], at: usize) -> Result<usize, String> {
    usize::try_from(number(archive, at, 4)?).map_err(|_| CUT.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::DeflateEncoder};

    use super::*;

    /// An archive of one file.
    fn archive(name: &str, content: &[u8], method: u16) -> Vec<u8> {
        let mut crc = Crc::new();
        crc.update(content);
        let packed = match method {
            DEFLATED => {
                let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(content).expect("memory");
                encoder.finish().expect("memory")
            }
            _ => content.to_vec(),
        };
        let mut common = vec![0; 4];
        common.extend(method.to_le_bytes());
        common.extend([0; 4]);
        common.extend(crc.sum().to_le_bytes());
        common.extend((packed.len() as u32).to_le_bytes());
        common.extend((content.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0; 2]);
        let local = [MAGIC, &common[..], name.as_bytes(), &packed].concat();
        let entry = [DIRECTORY_ENTRY, &[0; 2], &common[..], &[0; 14], name.as_bytes()].concat();
        let mut end = [DIRECTORY_END, &[0; 4], &1_u16.to_le_bytes(), &1_u16.to_le_bytes()].concat();
        end.extend((entry.len() as u32).to_le_bytes());
        end.extend((local.len() as u32).to_le_bytes());
        end.extend(2_u16.to_le_bytes());
        [local, entry, end, b"hi".to_vec()].concat()
    }

    #[test]
    fn files_are_read_stored_or_deflated() {
        let content = b"the same again, the same again, the same again";
        for method in [STORED, DEFLATED] {
            let found = files(&archive("tls/docker/ca.pem", content, method), 100).expect("readable");
            assert_eq!(found, [("tls/docker/ca.pem".to_owned(), content.to_vec())]);
        }
        assert_eq!(files(&archive("tls/", b"", STORED), 100), Ok(Vec::new()));
    }

    #[test]
    fn damage_is_found_wherever_it_is() {
        let whole = archive("meta.json", b"0123456789012345678901234567890123456789", DEFLATED);
        for length in 0..whole.len() - 24 {
            files(&whole[..length], 100).expect_err("cut");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            // It may be found or be of no importance, and never a panic.
            let _ = files(&damaged, 100);
        }
        assert!(files(&whole, 10).expect_err("large").contains("too large"));
        assert!(files(&archive("x", b"y", 99), 100).expect_err("unknown").contains("99"));
    }
}

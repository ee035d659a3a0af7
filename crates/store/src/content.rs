//! Content: blobs named by their sha256, in a directory that any OCI tool can read.
//!
//! A blob is written under a made-up name in `ingest` and renamed when its digest is known, so what has a digest for a
//! name has that digest.
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use sha2::{Digest, Sha256};

use crate::{error::Error, layout::Layout};

#[derive(Debug)]
pub struct Content {
    layout: Layout,
    next: AtomicU64,
}

/// A blob that is being written. Dropped unpublished, it is gone.
#[derive(Debug)]
pub struct Ingest<'a> {
    content: &'a Content,
    path: PathBuf,
    file: File,
    hasher: Sha256,
    size: u64,
    published: bool,
}

impl Content {
    /// Makes the directory an OCI image layout.
    pub fn open(layout: Layout) -> Result<Content, Error> {
        for (name, text) in [
            ("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#),
            (
                "index.json",
                r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#,
            ),
        ] {
            let path = layout.content().join(name);
            let whole = fs::read(&path).is_ok_and(|found| found == text.as_bytes());
            if !whole {
                fs::write(&path, text).map_err(Error::io("write", &path))?;
            }
        }
        Ok(Content {
            layout,
            next: AtomicU64::new(0),
        })
    }

    pub fn ingest(&self) -> Result<Ingest<'_>, Error> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.layout.ingest().join(number.to_string());
        Ok(Ingest {
            content: self,
            file: File::create(&path).map_err(Error::io("create", &path))?,
            path,
            hasher: Sha256::new(),
            size: 0,
            published: false,
        })
    }

    /// Keeps small content; returns its hexadecimal digest.
    pub fn put(&self, bytes: &[u8]) -> Result<String, Error> {
        let hex = digest(bytes);
        if self.layout.blob(&hex).exists() {
            return Ok(hex);
        }
        let mut ingest = self.ingest()?;
        ingest.write_all(bytes).map_err(Error::io("write", &ingest.path))?;
        ingest.publish()
    }

    pub fn read(&self, hex: &str) -> Result<Vec<u8>, Error> {
        let path = self.layout.blob(hex);
        fs::read(&path).map_err(|error| missing(hex, error, path))
    }

    /// The blob and its size.
    pub fn open_blob(&self, hex: &str) -> Result<(File, u64), Error> {
        let path = self.layout.blob(hex);
        let opened = File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (size, file) = opened.map_err(|error| missing(hex, error, path))?;
        Ok((file, size))
    }
}

impl Ingest<'_> {
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Gives the blob its name, and returns that.
    pub fn publish(mut self) -> Result<String, Error> {
        let hex = hex(&self.hasher.finalize_reset());
        let target = self.content.layout.blob(&hex);
        fs::rename(&self.path, &target).map_err(Error::io("create", &target))?;
        self.published = true;
        Ok(hex)
    }

    /// The digest of what was written so far.
    pub fn digest(&self) -> String {
        hex(&self.hasher.clone().finalize())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Write for Ingest<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.file.write(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Ingest<'_> {
    fn drop(&mut self) {
        if !self.published {
            // What cannot be removed now is when the store opens next.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The lower-case hexadecimal sha256.
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// The hexadecimal part of a well-formed `sha256:…`.
pub fn sha256_hex(digest: &str) -> Option<&str> {
    let hex = digest.strip_prefix("sha256:")?;
    let digits = hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (hex.len() == 64 && digits).then_some(hex)
}

fn missing(hex: &str, error: io::Error, path: PathBuf) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::NoSuchBlob { hex: hex.to_owned() },
        _ => Error::io("read", path)(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_appears_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path(), directory.path());
        fs::create_dir_all(layout.blobs()).unwrap();
        fs::create_dir_all(layout.ingest()).unwrap();
        let content = Content::open(layout.clone()).unwrap();
        let mut half = content.ingest().unwrap();
        half.write_all(b"half").unwrap();
        drop(half);
        assert_eq!(fs::read_dir(layout.ingest()).unwrap().count(), 0);
        let hex = content.put(b"hello\n").unwrap();
        assert_eq!(hex, "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
        assert_eq!(content.put(b"hello\n").unwrap(), hex);
        assert_eq!(content.read(&hex).unwrap(), b"hello\n");
        assert_eq!(content.open_blob(&hex).unwrap().1, 6);
        assert!(matches!(content.read("00"), Err(Error::NoSuchBlob { .. })));
    }
}

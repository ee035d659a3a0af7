//! How far a log has been fetched by the daemon, for a remote driver: a file of one fixed record beside the log.
//!
//! The daemon writes it in place after each batch that a remote took; a shim reads it before it would drop a file that
//! nobody has fetched yet. A record that is torn (the host crashed) is none.
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// Beside the log's files.
pub const FILE: &str = "delivered";

const MAGIC: u64 = 0x31_73_6f_50_67_6f_4c_43;
const WORDS: usize = 10;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// Of the file that is being fetched: it keeps it when it is renamed.
    pub inode: u64,
    /// Nanoseconds of its first record; an inode's number can come again.
    pub first: i64,
    /// What lies before this has been delivered.
    pub offset: u64,
    /// Must the container wait rather than lose what has not been fetched?
    pub hold: bool,
    /// Of stdout's and stderr's unfinished line: how many pieces are delivered, and the first one's time.
    pub pieces: [(u64, i64); 2],
}

impl Position {
    pub fn path(directory: &Path) -> PathBuf {
        directory.join(FILE)
    }

    /// Absent when there is none, or none that makes sense.
    pub fn read(file: &File) -> Option<Position> {
        let mut bytes = [0; 8 * WORDS];
        file.read_exact_at(&mut bytes, 0).ok()?;
        let word = |index: usize| u64::from_le_bytes(bytes[8 * index..][..8].try_into().expect("eight bytes"));
        if word(0) != MAGIC || word(WORDS - 1) != sum(&bytes[..8 * (WORDS - 1)]) {
            return None;
        }
        Some(Position {
            inode: word(1),
            first: word(2) as i64,
            offset: word(3),
            hold: word(4) != 0,
            pieces: [(word(5), word(6) as i64), (word(7), word(8) as i64)],
        })
    }

    /// In place, in one write: who is killed leaves the one before or this one.
    pub fn write(&self, file: &File) -> io::Result<()> {
        let [out, err] = self.pieces;
        let words = [
            MAGIC,
            self.inode,
            self.first as u64,
            self.offset,
            u64::from(self.hold),
            out.0,
            out.1 as u64,
            err.0,
            err.1 as u64,
        ];
        let mut bytes = Vec::with_capacity(8 * WORDS);
        for word in words {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        let sum = sum(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        file.write_all_at(&bytes, 0)
    }
}

/// FNV-1a.
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_and_a_torn_one_is_none() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(Position::read(&file), None);
        let position = Position {
            inode: 7,
            first: -1,
            offset: u64::MAX,
            hold: true,
            pieces: [(1, 2), (3, 4)],
        };
        position.write(&file).unwrap();
        assert_eq!(Position::read(&file), Some(position));
        for place in 0..80 {
            let mut byte = [0];
            file.read_exact_at(&mut byte, place).unwrap();
            file.write_all_at(&[byte[0] ^ 1], place).unwrap();
            assert_eq!(Position::read(&file), None, "{place}");
            file.write_all_at(&byte, place).unwrap();
        }
    }
}

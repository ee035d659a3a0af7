//! Writing tar headers for archives of our own: plain files and directories, always the same bytes for the same input.
use crate::layer::header::BLOCK;

/// Of a file that root owns and everybody may read, made at the epoch.
pub fn file_header(name: &str, size: u64) -> [u8; BLOCK] {
    header(name, b'0', 0o644, size)
}

/// `name` ends with a slash.
pub fn directory_header(name: &str) -> [u8; BLOCK] {
    header(name, b'5', 0o755, 0)
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

fn header(name: &str, kind: u8, mode: u32, size: u64) -> [u8; BLOCK] {
    debug_assert!(name.len() <= 100, "all names are ours, and short");
    let mut block = [0; BLOCK];
    block[..name.len()].copy_from_slice(name.as_bytes());
    let octal = |block: &mut [u8; BLOCK], start: usize, digits: usize, value: u64| {
        let text = format!("{value:0digits$o}");
        block[start..start + digits].copy_from_slice(text.as_bytes());
    };
    octal(&mut block, 100, 7, mode.into());
    octal(&mut block, 108, 7, 0);
    octal(&mut block, 116, 7, 0);
    match size < 1 << 33 {
        true => octal(&mut block, 124, 11, size),
        // Base 256, as 11 octal digits end at 8 GiB.
        false => {
            block[124] = 0x80;
            block[128..136].copy_from_slice(&size.to_be_bytes());
        }
    }
    octal(&mut block, 136, 11, 0);
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
    octal(&mut block, 148, 6, sum);
    block[154] = 0;
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::tar::{Kind, Reader};

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
}

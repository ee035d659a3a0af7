//! Maps of sparse files, in GNU tar's four ways of writing them down.
use std::io::{self, BufRead};

use crate::layer::header::{BLOCK, positive};

/// More than any sane file has, and 16 MiB of memory.
pub const MAX_SEGMENTS: usize = 1 << 20;

/// Bytes that are there, between holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    pub offset: u64,
    pub length: u64,
}

/// Pairs of 12-byte fields, up to the first empty one.
pub fn read_fields(fields: &[u8], segments: &mut Vec<Segment>) -> Result<(), &'static str> {
    for field in fields.chunks_exact(24) {
        if field[0] == 0 {
            break;
        }
        if segments.len() == MAX_SEGMENTS {
            return Err("it has too many holes");
        }
        segments.push(Segment {
            offset: positive(&field[..12])?,
            length: positive(&field[12..])?,
        });
    }
    Ok(())
}

/// A block that continues an old GNU header; says whether another follows.
pub fn read_extended(block: &[u8; BLOCK], segments: &mut Vec<Segment>) -> Result<bool, &'static str> {
    read_fields(&block[..504], segments)?;
    Ok(block[504] != 0)
}

/// GNU's format 1.0: decimal lines at the start of the data, filled up to a whole block.
pub fn read_leading(data: &mut impl BufRead) -> io::Result<Vec<Segment>> {
    let mut consumed = 0;
    let count = read_line(data, &mut consumed)?;
    if count > MAX_SEGMENTS as u64 {
        return Err(invalid("it has too many holes"));
    }
    let mut segments = Vec::new();
    for _ in 0..count {
        segments.push(Segment {
            offset: read_line(data, &mut consumed)?,
            length: read_line(data, &mut consumed)?,
        });
    }
    let mut rest = vec![0; consumed.wrapping_neg() % BLOCK];
    data.read_exact(&mut rest)?;
    Ok(segments)
}

/// Segments must ascend within the file, and be exactly the data that the archive has.
pub fn check(segments: &[Segment], size: u64, stored: u64) -> Result<(), &'static str> {
    let mut end = 0_u64;
    let mut sum = 0_u64;
    for segment in segments {
        let segment_end = segment.offset.checked_add(segment.length);
        match segment_end {
            Some(segment_end) if segment.offset >= end && segment_end <= size => end = segment_end,
            _ => return Err("its map of holes contradicts itself"),
        }
        // No overflow: segments do not overlap and end by `size`.
        sum += segment.length;
    }
    match sum == stored && i64::try_from(size).is_ok() {
        true => Ok(()),
        false => Err("its map of holes does not fit its data"),
    }
}

fn read_line(data: &mut impl BufRead, consumed: &mut usize) -> io::Result<u64> {
    let mut value = 0_u64;
    for position in 0.. {
        let mut byte = [0];
        data.read_exact(&mut byte)?;
        *consumed += 1;
        match byte[0] {
            b'\n' if position > 0 => return Ok(value),
            digit @ b'0'..=b'9' => {
                let next = value
                    .checked_mul(10)
                    .and_then(|v| v.checked_add(u64::from(digit - b'0')));
                value = next.ok_or_else(|| invalid("its map of holes has a number out of range"))?;
            }
            _ => break,
        }
    }
    Err(invalid("its map of holes is not a list of numbers"))
}

fn invalid(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

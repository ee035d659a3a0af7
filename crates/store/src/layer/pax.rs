//! PAX records: what a header has no room for, as `length key=value` lines.
use crate::layer::sparse::{MAX_SEGMENTS, Segment};

/// Records that matter for a file, merged from global and own headers.
#[derive(Debug, Clone, Default)]
pub struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub modified: Option<(i64, u32)>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: Option<PaxSparse>,
}

#[derive(Debug, Clone, Default)]
pub struct PaxSparse {
    /// The file's name, as the header has a made-up one.
    pub name: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub segments: Vec<Segment>,
    /// Format 1.0: the map precedes the data.
    pub in_data: bool,
}

impl Pax {
    /// Adds the records of one extended header. A global one is only trusted with what makes sense for many files.
    pub fn parse(&mut self, mut data: &[u8], global: bool) -> Result<(), &'static str> {
        const PROBLEM: &str = "has an extension that is not a list of records";
        // Trailing zeroes are tolerated, as Go and GNU tar do.
        while let Some(&first) = data.first().filter(|&&first| first != 0) {
            if !first.is_ascii_digit() {
                return Err(PROBLEM);
            }
            let space = memchr::memchr(b' ', &data[..data.len().min(20)]).ok_or(PROBLEM)?;
            let length = decimal(&data[..space])? as usize;
            let record = data.get(space + 1..length).ok_or(PROBLEM)?;
            let record = record.strip_suffix(b"\n").ok_or(PROBLEM)?;
            let equals = memchr::memchr(b'=', record).ok_or(PROBLEM)?;
            self.set(&record[..equals], &record[equals + 1..], global)?;
            data = &data[length..];
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8], global: bool) -> Result<(), &'static str> {
        match key {
            b"path" if !global => self.path = present(value),
            b"linkpath" if !global => self.link = present(value),
            b"size" if !global => self.size = number(value)?,
            b"uid" => self.uid = number(value)?,
            b"gid" => self.gid = number(value)?,
            b"mtime" if value.is_empty() => self.modified = None,
            b"mtime" => self.modified = Some(time(value)?),
            _ if global => {}
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.retain(|(known, _)| known != name);
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                } else if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
                    self.set_sparse(name, value)?;
                }
            }
        }
        Ok(())
    }

    fn set_sparse(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        const PROBLEM: &str = "has a map of holes that is not a list of numbers";
        let sparse = self.sparse.get_or_insert_default();
        match key {
            b"major" => sparse.in_data = value == b"1",
            b"name" => sparse.name = present(value),
            b"size" | b"realsize" => sparse.size = number(value)?,
            b"offset" => sparse.segments.push(Segment {
                offset: decimal(value)?,
                length: 0,
            }),
            b"numbytes" => sparse.segments.last_mut().ok_or(PROBLEM)?.length = decimal(value)?,
            b"map" => {
                let mut numbers = value.split(|&byte| byte == b',');
                while let Some(offset) = numbers.next().filter(|offset| !offset.is_empty()) {
                    let length = numbers.next().ok_or(PROBLEM)?;
                    sparse.segments.push(Segment {
                        offset: decimal(offset)?,
                        length: decimal(length)?,
                    });
                }
            }
            _ => {}
        }
        match sparse.segments.len() > MAX_SEGMENTS {
            true => Err("has too many holes"),
            false => Ok(()),
        }
    }
}

/// An empty value takes back what was said before.
fn present(value: &[u8]) -> Option<Vec<u8>> {
    (!value.is_empty()).then(|| value.to_vec())
}

fn number(value: &[u8]) -> Result<Option<u64>, &'static str> {
    match value {
        [] => Ok(None),
        value => decimal(value).map(Some),
    }
}

fn decimal(digits: &[u8]) -> Result<u64, &'static str> {
    let parsed = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'));
    parsed
        .and_then(|text| text.parse().ok())
        .ok_or("has an extension with a number that is none")
}

/// Seconds with an optional fraction, which counts towards zero for negative times as well.
fn time(value: &[u8]) -> Result<(i64, u32), &'static str> {
    const PROBLEM: &str = "has an extension with a time that is none";
    let text = std::str::from_utf8(value).map_err(|_| PROBLEM)?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(PROBLEM);
    }
    let seconds: i64 = whole.parse().map_err(|_| PROBLEM)?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: u32 = digits.parse().map_err(|_| PROBLEM)?;
    match whole.starts_with('-') && nanoseconds > 0 {
        true => Ok((seconds.checked_sub(1).ok_or(PROBLEM)?, 1_000_000_000 - nanoseconds)),
        false => Ok((seconds, nanoseconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_and_later_ones_win() {
        let mut pax = Pax::default();
        pax.parse(
            b"12 path=abc\n12 path=def\n20 mtime=-1.5000000\n29 SCHILY.xattr.user.a=1\n2=3\n",
            false,
        )
        .unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"def"[..]));
        assert_eq!(pax.modified, Some((-2, 500_000_000)));
        assert_eq!(pax.xattrs, [(b"user.a".to_vec(), b"1\n2=3".to_vec())]);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for bad in [
            &b"12 path=abc"[..],
            b"5 a=b\n",
            b"99 path=abc\n",
            b"x path=abc\n",
            b"12 pathabcd\n",
            b"0 a=b\n",
            b"3 a\n",
            b"18446744073709551615 a=b\n",
            b"11 size=-1\n",
        ] {
            assert!(
                Pax::default().parse(bad, false).is_err(),
                "{:?}",
                std::str::from_utf8(bad)
            );
        }
    }

    #[test]
    fn a_global_header_renames_nothing() {
        let mut pax = Pax::default();
        pax.parse(b"12 path=abc\n9 uid=12\n", true).unwrap();
        assert_eq!((pax.path, pax.uid), (None, Some(12)));
    }
}

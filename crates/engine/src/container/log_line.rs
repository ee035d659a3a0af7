//! One line of a json-file log, taken apart: `{"log":"text\n","stream":"stdout","time":"…"}`.
//!
//! Lines that look as our own writer writes them are read without a JSON parser, which is most of the speed of `logs`.
use std::borrow::Cow;

use jiff::Timestamp;
use memchr::memchr2;
use serde::Deserialize;

#[derive(Debug, PartialEq, Eq)]
pub struct LogLine<'a> {
    /// With its newline, unless it is a piece of a longer line.
    pub text: Cow<'a, [u8]>,
    pub stderr: bool,
    /// RFC 3339.
    pub time: Cow<'a, str>,
}

impl<'a> LogLine<'a> {
    /// `line` without its newline. Absent when it is damaged (a host that crashed can leave such).
    pub fn parse(line: &'a [u8]) -> Option<LogLine<'a>> {
        LogLine::parse_own(line).or_else(|| LogLine::parse_json(line))
    }

    fn parse_own(line: &'a [u8]) -> Option<LogLine<'a>> {
        let rest = line.strip_prefix(br#"{"log":""#)?;
        let (text, rest) = string(rest)?;
        let rest = rest.strip_prefix(br#","stream":"std"#)?;
        let (stderr, rest) = match rest.strip_prefix(br#"out","time":""#) {
            Some(rest) => (false, rest),
            None => (true, rest.strip_prefix(br#"err","time":""#)?),
        };
        let time = rest.strip_suffix(br#""}"#)?;
        Some(LogLine {
            text,
            stderr,
            time: Cow::Borrowed(std::str::from_utf8(time).ok()?),
        })
    }

    fn parse_json(line: &'a [u8]) -> Option<LogLine<'a>> {
        #[derive(Deserialize)]
        struct Line {
            #[serde(default)]
            log: String,
            #[serde(default)]
            stream: String,
            time: String,
        }
        let line: Line = serde_json::from_slice(line).ok()?;
        Some(LogLine {
            text: Cow::Owned(line.log.into_bytes()),
            stderr: line.stream == "stderr",
            time: Cow::Owned(line.time),
        })
    }

    pub fn timestamp(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }
}

/// A JSON string after its opening quote, and what follows its closing one.
fn string(input: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let first = memchr2(b'"', b'\\', input)?;
    if input[first] == b'"' {
        return Some((Cow::Borrowed(&input[..first]), &input[first + 1..]));
    }
    let mut text = Vec::with_capacity(input.len());
    let mut rest = input;
    loop {
        let next = memchr2(b'"', b'\\', rest)?;
        text.extend_from_slice(&rest[..next]);
        if rest[next] == b'"' {
            return Some((Cow::Owned(text), &rest[next + 1..]));
        }
        let escaped = *rest.get(next + 1)?;
        rest = &rest[next + 2..];
        match escaped {
            b'n' => text.push(b'\n'),
            b'r' => text.push(b'\r'),
            b't' => text.push(b'\t'),
            b'"' | b'\\' | b'/' => text.push(escaped),
            b'b' => text.push(8),
            b'f' => text.push(12),
            b'u' => {
                let (unit, after) = unit(rest)?;
                rest = after;
                let mut letter = u32::from(unit);
                if (0xd800..0xdc00).contains(&unit)
                    && let Some((low, after)) = rest.strip_prefix(br"\u").and_then(self::unit)
                    && (0xdc00..0xe000).contains(&low)
                {
                    letter = 0x10000 + (u32::from(unit - 0xd800) << 10) + u32::from(low - 0xdc00);
                    rest = after;
                }
                let letter = char::from_u32(letter).unwrap_or(char::REPLACEMENT_CHARACTER);
                text.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return None,
        }
    }
}

/// Four hexadecimal digits.
fn unit(input: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, rest) = input.split_at_checked(4)?;
    let digits = std::str::from_utf8(digits).ok()?;
    Some((u16::from_str_radix(digits, 16).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_way_and_the_parser_agree() {
        for text in [
            "plain\\n",
            "tab\\t \\\"quoted\\\" \\\\ \\u001b[0m\\n",
            "\\u00e4\\ud83d\\ude00\\r\\n",
            "\\u003c\\/",
            "",
        ] {
            let line = format!(r#"{{"log":"{text}","stream":"stderr","time":"2026-01-02T03:04:05.006Z"}}"#);
            let fast = LogLine::parse_own(line.as_bytes()).expect(text);
            assert_eq!(fast, LogLine::parse_json(line.as_bytes()).expect(text));
            assert!(fast.stderr);
        }
    }

    #[test]
    fn other_writers_lines_are_read_and_damaged_ones_are_not() {
        let line = br#"{"log":"a\n","stream":"stdout","attrs":{"k":"v"},"time":"2026-01-02T03:04:05Z"}"#;
        assert_eq!(LogLine::parse(line).expect("valid JSON").text.as_ref(), b"a\n");
        for damaged in [&b"{\"log\":\"a"[..], b"", b"\0\0\0"] {
            assert_eq!(LogLine::parse(damaged), None);
        }
    }
}

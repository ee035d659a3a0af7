//! One line of a json-file log, taken apart: `{"log":"text\n","stream":"stdout","time":"…"}`.
//!
//! Lines that look as our own writer or Docker's writes them are read without a JSON parser, and what needs no escape
//! is never copied: that is most of the speed of `logs`. What any other writer made is brought into this form first.
use memchr::{memchr2, memrchr};
use serde::Deserialize;

use crate::log::entry::{Entry, Text, Time};

/// `line` without its newline. Absent when it is damaged (a host that crashed can leave such).
pub fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let rest = line.strip_prefix(br#"{"log":""#)?;
    let (text, plain, rest) = string(rest)?;
    let (stderr, rest) = match rest.strip_prefix(br#","stream":"stdout","#) {
        Some(rest) => (false, rest),
        None => (true, rest.strip_prefix(br#","stream":"stderr","#)?),
    };
    // Attributes may stand before it.
    let before = rest.strip_suffix(br#""}"#)?;
    let quote = memrchr(b'"', before)?;
    let (before, time) = (&before[..=quote], &before[quote + 1..]);
    if !before.ends_with(br#""time":""#) {
        return None;
    }
    let (text, ended) = match text {
        [text @ .., b'\\', b'n'] if plain || ends_in_newline(text) => (text, true),
        text => (text, false),
    };
    Some(Entry {
        text: if plain { Text::Plain(text) } else { Text::Escaped(text) },
        stderr,
        ended,
        continues: false,
        last: ended,
        time: Time::Text(time),
    })
}

/// Is the backslash after `text` an escape's beginning, and not the second half of one?
fn ends_in_newline(text: &[u8]) -> bool {
    text.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 0
}

/// A JSON string after its opening quote: what it holds, whether the only escape in it is a newline at its end, and
/// what follows its closing quote.
fn string(input: &[u8]) -> Option<(&[u8], bool, &[u8])> {
    let mut at = memchr2(b'"', b'\\', input)?;
    if input[at..].starts_with(br#"\n""#) {
        return Some((&input[..at + 2], true, &input[at + 3..]));
    }
    let plain = input[at] == b'"';
    while input[at] != b'"' {
        at += 2;
        at += memchr2(b'"', b'\\', input.get(at..)?)?;
    }
    Some((&input[..at], plain, &input[at + 1..]))
}

/// Another writer's line in our form; absent when it is no JSON with a time.
pub fn rewrite(line: &[u8]) -> Option<Vec<u8>> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(default)]
        log: String,
        #[serde(default)]
        stream: String,
        time: String,
    }
    let line: Line = serde_json::from_slice(line).ok()?;
    let stream = if line.stream == "stderr" { "stderr" } else { "stdout" };
    let log = serde_json::to_string(&line.log).ok()?;
    let time = serde_json::to_string(&line.time).ok()?;
    Some(format!(r#"{{"log":{log},"stream":"{stream}","time":{time}}}"#).into_bytes())
}

/// Takes JSON's escapes away. What is none stays as it is.
pub fn unescape(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some(next) = memchr::memchr(b'\\', text) {
        out.extend_from_slice(&text[..next]);
        let Some(&escaped) = text.get(next + 1) else {
            text = &text[next..];
            break;
        };
        text = &text[next + 2..];
        match escaped {
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'u' => text = unescape_unit(text, out),
            other => out.push(other),
        }
    }
    out.extend_from_slice(text);
}

/// After `\u`: one letter, of one or two units; what follows.
fn unescape_unit<'a>(text: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let mut put = |letter: u32| {
        let letter = char::from_u32(letter).unwrap_or(char::REPLACEMENT_CHARACTER);
        out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
    };
    let Some((first, rest)) = unit(text) else {
        put(u32::from(char::REPLACEMENT_CHARACTER));
        return text;
    };
    if (0xd800..0xdc00).contains(&first)
        && let Some((second, rest)) = rest.strip_prefix(br"\u").and_then(unit)
        && (0xdc00..0xe000).contains(&second)
    {
        put(0x10000 + (u32::from(first - 0xd800) << 10) + u32::from(second - 0xdc00));
        return rest;
    }
    put(u32::from(first));
    rest
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

    /// The text with its newline, and the stream.
    fn read(line: &[u8]) -> Option<(Vec<u8>, bool)> {
        let entry = parse(line)?;
        let mut text = Vec::new();
        entry.text.append_to(&mut text);
        if entry.ended {
            text.push(b'\n');
        }
        Some((text, entry.stderr))
    }

    #[test]
    fn the_fast_way_and_the_parser_agree() {
        for text in [
            r"plain\n",
            r"no newline",
            r#"tab\t \"quoted\" \\ \u001b[0m\n"#,
            r"\u00e4\ud83d\ude00\r\n",
            r"\u003c\/",
            r"a backslash and an n: \\n",
            r"two \\\n",
            r#"{\"log\":\"x\\n\",\"stream\":\"stdout\",\"time\":\"y\"}\n"#,
            "",
        ] {
            for attributes in ["", r#""attrs":{"a":"\"time\":\"x\"}"},"#] {
                let line =
                    format!(r#"{{"log":"{text}","stream":"stderr",{attributes}"time":"2026-01-02T03:04:05.006Z"}}"#);
                let document: serde_json::Value = serde_json::from_str(&line).expect(text);
                let wanted = document["log"].as_str().expect("a text").as_bytes().to_vec();
                assert_eq!(read(line.as_bytes()), Some((wanted, true)), "{line}");
            }
        }
    }

    #[test]
    fn other_writers_lines_are_read_and_damaged_ones_are_not() {
        let line = br#"{ "time":"2026-01-02T03:04:05Z", "attrs":{"k":"v"},"stream":"stdout","log":"a\n" }"#;
        assert_eq!(parse(line), None);
        assert_eq!(read(&rewrite(line).expect("JSON")), Some((b"a\n".to_vec(), false)));
        for damaged in [&b"{\"log\":\"a"[..], b"", b"\0\0\0", br#"{"log":"a\"#, br#"{"log":"\"#] {
            assert_eq!((parse(damaged), rewrite(damaged)), (None, None));
        }
    }

    #[test]
    fn no_damage_makes_a_reader_fall() {
        let whole =
            br#"{"log":"some \u00e4\ud83d\ude00 text\\\n","stream":"stdout","time":"2026-01-02T03:04:05.006Z"}"#;
        for place in 0..whole.len() {
            for byte in [0, b'"', b'\\', b'u', 0xff, b'}'] {
                let mut line = whole.to_vec();
                line[place] = byte;
                let _ = read(&line);
                let _ = read(&line[..place]);
                line.remove(place);
                let _ = read(&line);
            }
        }
    }
}

//! Lines of a json-file log as bytes: `{"log":"text\n","stream":"stdout","attrs":{…},"time":"…"}`.
//!
//! What is the same for all lines of a block is made once ([`Frame`]); of the rest, sixteen bytes at a time are looked
//! at and copied while none of them needs an escape.
use super::writer::Stream;

/// A byte can need six: `\u001b`.
pub const GROWTH: usize = 6;

const HEAD: &[u8] = br#"{"log":""#;
/// As many bytes as are looked at together: compilers make one comparison of them.
const CHUNK: usize = 16;

/// What stands around the text of each line that was read together.
pub struct Frame {
    /// From the text's closing quote to the line's end.
    tail: Vec<u8>,
}

impl Frame {
    /// `attributes` is a JSON object, or empty.
    pub fn new(stream: Stream, attributes: &str, time: &str) -> Frame {
        let mut tail = Vec::with_capacity(64 + attributes.len());
        tail.extend_from_slice(br#"","stream":""#);
        tail.extend_from_slice(stream.name().as_bytes());
        tail.push(b'"');
        if !attributes.is_empty() {
            tail.extend_from_slice(br#","attrs":"#);
            tail.extend_from_slice(attributes.as_bytes());
        }
        tail.extend_from_slice(br#","time":""#);
        tail.extend_from_slice(time.as_bytes());
        tail.extend_from_slice(b"\"}\n");
        Frame { tail }
    }

    /// The most that a line can take around its text.
    pub fn room(attributes: &str) -> usize {
        128 + attributes.len()
    }

    /// Writes a line to the beginning of `buffer`, which has the room; how long it is.
    pub fn encode(&self, buffer: &mut [u8], text: &[u8], ended: bool) -> usize {
        let mut out = Out { buffer, at: 0 };
        out.raw(HEAD);
        out.escaped(text);
        if ended {
            out.raw(br"\n");
        }
        out.raw(&self.tail);
        out.at
    }
}

struct Out<'a> {
    buffer: &'a mut [u8],
    at: usize,
}

impl Out<'_> {
    fn raw(&mut self, bytes: &[u8]) {
        self.buffer[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// JSON's escapes, and those for `<`, `>`, `&` and the line separators that Docker's encoder makes. What is not
    /// UTF-8 becomes the replacement character.
    fn escaped(&mut self, mut text: &[u8]) {
        loop {
            let plain = plain_length(text);
            self.raw(&text[..plain]);
            text = &text[plain..];
            let Some(&byte) = text.first() else { return };
            if byte < 0x80 {
                self.escape(byte);
                text = &text[1..];
                continue;
            }
            let foreign = text.iter().position(u8::is_ascii).unwrap_or(text.len());
            for part in text[..foreign].utf8_chunks() {
                self.letters(part.valid().as_bytes());
                for _ in part.invalid() {
                    self.raw(br"\ufffd");
                }
            }
            text = &text[foreign..];
        }
    }

    fn escape(&mut self, byte: u8) {
        match byte {
            b'"' => self.raw(br#"\""#),
            b'\\' => self.raw(br"\\"),
            b'\n' => self.raw(br"\n"),
            b'\r' => self.raw(br"\r"),
            b'\t' => self.raw(br"\t"),
            other => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let digits = [HEX[usize::from(other >> 4)], HEX[usize::from(other & 15)]];
                self.raw(br"\u00");
                self.raw(&digits);
            }
        }
    }

    /// Letters beyond ASCII, of which only the two line separators are escaped.
    fn letters(&mut self, mut text: &[u8]) {
        while let Some(at) = text
            .windows(3)
            .position(|three| matches!(three, [0xe2, 0x80, 0xa8 | 0xa9]))
        {
            self.raw(&text[..at]);
            self.raw(if text[at + 2] == 0xa8 { br"\u2028" } else { br"\u2029" });
            text = &text[at + 3..];
        }
        self.raw(text);
    }
}

fn is_special(byte: u8) -> bool {
    (byte < 0x20)
        | (byte & 0x80 != 0)
        | (byte == b'"')
        | (byte == b'\\')
        | (byte == b'<')
        | (byte == b'>')
        | (byte == b'&')
}

/// How many bytes from the beginning stand for themselves.
fn plain_length(text: &[u8]) -> usize {
    let (chunks, rest) = text.as_chunks::<CHUNK>();
    let mut length = 0;
    for chunk in chunks {
        if chunk.iter().fold(false, |special, &byte| special | is_special(byte)) {
            break;
        }
        length += CHUNK;
    }
    let rest = if length == chunks.len() * CHUNK {
        rest
    } else {
        &text[length..length + CHUNK]
    };
    length + rest.iter().position(|&byte| is_special(byte)).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &[u8], ended: bool) -> String {
        let frame = Frame::new(Stream::Stderr, r#"{"tag":"x"}"#, "2026-01-02T03:04:05Z");
        let mut buffer = vec![0; GROWTH * text.len() + Frame::room(r#"{"tag":"x"}"#)];
        let length = frame.encode(&mut buffer, text, ended);
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_line_has_dockers_order_of_fields() {
        assert_eq!(
            encoded(b"hi", true),
            "{\"log\":\"hi\\n\",\"stream\":\"stderr\",\"attrs\":{\"tag\":\"x\"},\"time\":\"2026-01-02T03:04:05Z\"}\n"
        );
    }

    #[test]
    fn every_byte_at_every_place_comes_back() {
        let letters = "ü€\u{2028}\u{2029}😀".as_bytes();
        for byte in 0..=255u8 {
            for place in 0..40 {
                let mut text = vec![b'x'; 40];
                text[place] = byte;
                text.splice(place..place, letters.iter().copied());
                let line: serde_json::Value = serde_json::from_str(&encoded(&text, false)).unwrap();
                assert_eq!(line["log"].as_str().unwrap(), String::from_utf8_lossy(&text));
            }
        }
    }

    #[test]
    fn what_docker_escapes_for_the_web_is_escaped() {
        let line = encoded("<b>&\u{2028}\u{2029}".as_bytes(), false);
        assert!(line.contains(r"\u003cb\u003e\u0026\u2028\u2029"), "{line}");
    }
}

//! Detach keys: the sequence that takes a client away from a terminal and leaves the container running.
use crate::error::{Error, Result};

/// ctrl-p ctrl-q.
const DEFAULT: [u8; 2] = [16, 17];

/// Recognises the sequence in a stream of input, however it is cut into pieces.
#[derive(Debug)]
pub struct DetachKeys {
    keys: Vec<u8>,
    matched: usize,
}

impl DetachKeys {
    /// `ctrl-p,ctrl-q`, `a,b`, `ctrl-\`; absent or empty means the default.
    pub fn parse(text: Option<&str>) -> Result<DetachKeys> {
        let text = text.unwrap_or_default();
        let keys = match text {
            "" => DEFAULT.to_vec(),
            text => text
                .split(',')
                .map(key)
                .collect::<Option<Vec<u8>>>()
                .ok_or_else(|| Error::invalid(format!("Invalid detach keys ({text}) provided")))?,
        };
        Ok(DetachKeys { keys, matched: 0 })
    }

    /// The sequence.
    pub fn bytes(&self) -> &[u8] {
        &self.keys
    }

    /// Appends what is no part of the sequence to `output`. True when the sequence is complete.
    pub fn feed(&mut self, input: &[u8], output: &mut Vec<u8>) -> bool {
        for &byte in input {
            if byte != self.keys[self.matched] {
                // What looked like the beginning was meant for the container.
                output.extend_from_slice(&self.keys[..self.matched]);
                self.matched = 0;
            }
            if byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return true;
                }
            } else {
                output.push(byte);
            }
        }
        false
    }
}

fn key(text: &str) -> Option<u8> {
    let mut bytes = text.bytes();
    if let Some(name) = text.strip_prefix("ctrl-") {
        let &[name] = name.as_bytes() else { return None };
        return match name {
            b'a'..=b'z' => Some(name - b'a' + 1),
            b'@' => Some(0),
            b'[' => Some(27),
            b'\\' => Some(28),
            b']' => Some(29),
            b'^' => Some(30),
            b'_' => Some(31),
            _ => None,
        };
    }
    match (bytes.next(), bytes.next()) {
        (Some(byte), None) if byte.is_ascii() => Some(byte),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(keys: &str, pieces: &[&[u8]]) -> (bool, Vec<u8>) {
        let mut keys = DetachKeys::parse(Some(keys)).expect("valid");
        let mut output = Vec::new();
        let detached = pieces.iter().any(|piece| keys.feed(piece, &mut output));
        (detached, output)
    }

    #[test]
    fn the_sequence_is_found_across_pieces() {
        assert_eq!(feed("", &[b"ab\x10", b"\x11c"]), (true, b"ab".to_vec()));
        assert_eq!(feed("a,b", &[b"xab"]), (true, b"x".to_vec()));
    }

    #[test]
    fn a_beginning_that_was_none_reaches_the_container() {
        assert_eq!(feed("", &[b"\x10x\x10\x10\x11"]), (true, b"\x10x\x10".to_vec()));
        assert_eq!(feed("", &[b"\x10", b"\x12"]), (false, b"\x10\x12".to_vec()));
    }

    #[test]
    fn bad_keys_are_refused() {
        for text in ["ctrl-", "ctrl-1", "ab", "a,,b", "ä"] {
            let message = DetachKeys::parse(Some(text)).expect_err(text).to_string();
            assert_eq!(message, format!("Invalid detach keys ({text}) provided"));
        }
    }
}

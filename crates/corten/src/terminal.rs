//! The user's terminal: raw mode, its size, and the keys that detach.
//!
//! Raw mode is a value: dropping it gives the terminal back as it was, whatever ended the command.
use std::io::{self, IsTerminal};

use rustix::termios::{self, OptionalActions, Termios};

/// The terminal on standard input without its line discipline.
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    pub fn enter() -> io::Result<RawMode> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(RawMode { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Nothing can be done for a terminal that went away.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

pub fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}

pub fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

pub fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Rows and columns of the terminal on standard output.
pub fn size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// The keys that detach from a container, as bytes in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachKeys(Vec<u8>);

impl Default for DetachKeys {
    /// ctrl-p ctrl-q
    fn default() -> DetachKeys {
        DetachKeys(vec![0x10, 0x11])
    }
}

impl DetachKeys {
    /// Reads `ctrl-p,ctrl-q` or `a,b`; the empty string is the default.
    pub fn parse(text: &str) -> Result<DetachKeys, String> {
        if text.is_empty() {
            return Ok(DetachKeys::default());
        }
        let refuse = |key: &str| format!("invalid detach keys ({text}): unknown character: '{key}'");
        let mut keys = Vec::new();
        for key in text.split(',') {
            let byte = match (key.as_bytes(), key.strip_prefix("ctrl-").map(str::as_bytes)) {
                ([byte], _) => *byte,
                (_, Some([letter @ b'a'..=b'z'])) => letter - b'a' + 1,
                (_, Some([sign @ (b'@' | b'[' | b'\\' | b']' | b'^' | b'_')])) => sign - b'@',
                (_, Some([letter @ b'A'..=b'Z'])) => letter - b'A' + 1,
                _ if key.eq_ignore_ascii_case("del") => 127,
                _ => return Err(refuse(key)),
            };
            keys.push(byte);
        }
        Ok(DetachKeys(keys))
    }
}

/// Looks for the detach keys in what the user types. A beginning of them is held back until it is clear that it is not.
pub struct DetachFilter {
    keys: DetachKeys,
    matched: usize,
}

impl DetachFilter {
    pub fn new(keys: DetachKeys) -> DetachFilter {
        DetachFilter { keys, matched: 0 }
    }

    /// The bytes to pass on, and whether the keys were complete.
    pub fn pass(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let keys = &self.keys.0;
        let mut out = Vec::with_capacity(typed.len());
        for &byte in typed {
            if byte == keys[self.matched] {
                self.matched += 1;
                if self.matched == keys.len() {
                    return (out, true);
                }
                continue;
            }
            out.extend_from_slice(&keys[..self.matched]);
            self.matched = 0;
            if byte == keys[0] {
                self.matched = 1;
            } else {
                out.push(byte);
            }
        }
        (out, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_names() {
        assert_eq!(DetachKeys::parse(""), Ok(DetachKeys(vec![16, 17])));
        assert_eq!(DetachKeys::parse("ctrl-a,d"), Ok(DetachKeys(vec![1, b'd'])));
        assert_eq!(DetachKeys::parse("ctrl-],ctrl-@"), Ok(DetachKeys(vec![29, 0])));
        assert!(DetachKeys::parse("ctrl-!").is_err() && DetachKeys::parse("ab").is_err());
    }

    #[test]
    fn a_beginning_is_held_back_until_it_is_none() {
        let mut filter = DetachFilter::new(DetachKeys::default());
        assert_eq!(filter.pass(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(filter.pass(b"x"), (b"\x10x".to_vec(), false));
        assert_eq!(filter.pass(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(filter.pass(b"\x11rest"), (Vec::new(), true));
    }
}

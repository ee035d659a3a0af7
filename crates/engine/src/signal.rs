//! Signal names as clients write them: `SIGTERM`, `term`, `15`, `RTMIN+3`.
use crate::error::{Error, Result};

pub const INT: i32 = 2;
pub const QUIT: i32 = 3;
pub const KILL: i32 = 9;
pub const TERM: i32 = 15;

const NAMES: [(&str, i32); 38] = [
    ("ABRT", 6),
    ("ALRM", 14),
    ("BUS", 7),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("FPE", 8),
    ("HUP", 1),
    ("ILL", 4),
    ("INT", 2),
    ("IO", 29),
    ("IOT", 6),
    ("KILL", 9),
    ("PIPE", 13),
    ("POLL", 29),
    ("PROF", 27),
    ("PWR", 30),
    ("QUIT", 3),
    ("SEGV", 11),
    ("STKFLT", 16),
    ("STOP", 19),
    ("SYS", 31),
    ("TERM", 15),
    ("TRAP", 5),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("USR1", 10),
    ("USR2", 12),
    ("VTALRM", 26),
    ("WINCH", 28),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("RTMIN", RTMIN),
    ("RTMAX", RTMAX),
    ("UNUSED", 31),
    ("EMT", 7),
];
/// As C libraries count: the first two are theirs.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// The number of a signal by name (with or without `SIG`, in any case) or number.
pub fn parse(text: &str) -> Result<i32> {
    let refused = || Error::invalid(format!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=RTMAX).contains(&number) {
            Ok(number)
        } else {
            Err(refused())
        };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    let offset = |digits: &str| digits.parse::<i32>().ok().filter(|offset| (0..=30).contains(offset));
    let real_time = if let Some(digits) = name.strip_prefix("RTMIN+") {
        offset(digits).map(|offset| RTMIN + offset)
    } else if let Some(digits) = name.strip_prefix("RTMAX-") {
        offset(digits).map(|offset| RTMAX - offset)
    } else {
        None
    };
    real_time.ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_real_time_signals_are_understood() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("TERM", 15),
            ("term", 15),
            ("15", 15),
            ("9", 9),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmax-1", 63),
        ] {
            assert_eq!(parse(text).expect(text), number, "{text}");
        }
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for text in ["", "0", "-1", "65", "SIGFOO", "RTMIN+31", "RTMIN+-1", "SIG"] {
            assert_eq!(
                parse(text).expect_err(text).to_string(),
                format!("invalid signal: {text}")
            );
        }
    }
}

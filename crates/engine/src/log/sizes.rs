//! Numbers in the options of logs, as Go's libraries read them.
use crate::error::{Error, Result};

/// `10m`, `1.5 GB`, `4096`: powers of 1000, as `max-size` counts.
pub fn decimal_bytes(text: &str) -> Result<u64> {
    size(text, 1000.0)
}

/// The same in powers of 1024, as buffers are counted.
pub fn bytes(text: &str) -> Result<u64> {
    size(text, 1024.0)
}

fn size(text: &str, base: f64) -> Result<u64> {
    let refused = || Error::invalid(format!("invalid size: '{text}'"));
    let split = text
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| refused())?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let power = match unit.strip_suffix('i').unwrap_or(unit) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(refused()),
    };
    Ok((number * base.powi(power)) as u64)
}

/// As `strconv.ParseBool`.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, decimal, binary) in [
            ("10m", 10_000_000, 10 << 20),
            ("4096", 4096, 4096),
            ("1.5k", 1500, 1536),
            ("1GB", 1_000_000_000, 1 << 30),
            ("2 KiB", 2000, 2048),
            ("0", 0, 0),
        ] {
            assert_eq!(decimal_bytes(text).expect(text), decimal);
            assert_eq!(bytes(text).expect(text), binary);
        }
        for text in ["", "m", "1x", "-1", "1mm", "1.2.3"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}

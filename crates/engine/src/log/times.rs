//! Times in logs: RFC 3339 to nanoseconds and back, fast for the forms that writers of logs use.
use corten_runtime::shim::log::time::seconds;
use jiff::Timestamp;

/// Nanoseconds since the epoch.
pub fn parse(text: &[u8]) -> Option<i64> {
    parse_utc(text).or_else(|| {
        let time: Timestamp = std::str::from_utf8(text).ok()?.parse().ok()?;
        i64::try_from(time.as_nanosecond()).ok()
    })
}

/// `2026-01-02T03:04:05.678Z`.
fn parse_utc(text: &[u8]) -> Option<i64> {
    let (date, rest) = text.split_first_chunk::<19>()?;
    let digits = |range: std::ops::Range<usize>| {
        date[range].iter().try_fold(0i64, |number, digit| match digit {
            b'0'..=b'9' => Some(10 * number + i64::from(digit - b'0')),
            _ => None,
        })
    };
    if [date[4], date[7], date[10], date[13], date[16]] != *b"--T::" {
        return None;
    }
    let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
    let (hour, minute, second) = (digits(11..13)?, digits(14..16)?, digits(17..19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let fraction = rest.strip_suffix(b"Z")?;
    let nanoseconds = match fraction.split_first() {
        None => 0,
        Some((b'.', digits)) if (1..=9).contains(&digits.len()) => {
            let mut value = 0;
            for index in 0..9 {
                let digit = digits.get(index).copied().unwrap_or(b'0');
                value = 10 * value + i64::from(digit.is_ascii_digit().then(|| digit - b'0')?);
            }
            value
        }
        Some(_) => return None,
    };
    // A date to days, after H. Hinnant's algorithm.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    (days * 86_400 + hour * 3600 + minute * 60 + second)
        .checked_mul(1_000_000_000)?
        .checked_add(nanoseconds)
}

/// Writes times with nine digits of the fraction, so that columns stay columns. Remembers the last second.
#[derive(Debug, Default)]
pub struct Clock {
    second: i64,
    text: String,
}

impl Clock {
    pub fn append(&mut self, nanoseconds: i64, out: &mut Vec<u8>) {
        let second = nanoseconds.div_euclid(1_000_000_000);
        if self.text.is_empty() || second != self.second {
            self.second = second;
            self.text = seconds(nanoseconds);
        }
        out.extend_from_slice(self.text.as_bytes());
        let mut fraction = *b".000000000Z";
        let mut rest = nanoseconds.rem_euclid(1_000_000_000);
        for digit in fraction[1..10].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        out.extend_from_slice(&fraction);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_way_and_the_library_agree() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2000-02-29T23:59:59.12Z",
            "2024-12-31T01:02:03.000000005Z",
            "1969-12-31T23:59:59.999999999Z",
        ] {
            let wanted: Timestamp = text.parse().expect(text);
            assert_eq!(parse_utc(text.as_bytes()), i64::try_from(wanted.as_nanosecond()).ok());
            let mut out = Vec::new();
            Clock::default().append(parse(text.as_bytes()).expect(text), &mut out);
            assert_eq!(String::from_utf8(out).expect("digits"), format!("{wanted:.9}"));
        }
        assert_eq!(parse(b"2026-01-02T03:04:05+01:00"), parse(b"2026-01-02T02:04:05Z"));
        for text in [
            "",
            "yesterday",
            "2026-13-01T00:00:00Z",
            "2026-01-01T00:00:00.1234567890Z",
            "2026-01-01T00:00:00.Z",
        ] {
            assert_eq!(parse_utc(text.as_bytes()), None, "{text}");
        }
    }
}

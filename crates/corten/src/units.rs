//! Sizes, durations and times, as people write and read them on Docker's command line.
//!
//! Two families of size units exist side by side: limits are read in powers of 1024 (`512m`), disk sizes are shown in
//! powers of 1000 (`1.24MB`), memory figures in powers of 1024 with an `i` (`1.5MiB`).
use jiff::Timestamp;

/// A size such as `512m`, `1.5g`, `64MiB` or `1024`, in powers of 1024.
pub fn parse_bytes(text: &str) -> Result<i64, String> {
    let refuse = || format!("invalid size: '{text}'");
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number = match number.parse::<f64>() {
        Ok(number) if text.starts_with(|c: char| c.is_ascii_digit()) => number,
        _ => return Err(refuse()),
    };
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let power = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "ki" | "kib" => 1,
        "m" | "mb" | "mi" | "mib" => 2,
        "g" | "gb" | "gi" | "gib" => 3,
        "t" | "tb" | "ti" | "tib" => 4,
        "p" | "pb" | "pi" | "pib" => 5,
        _ => return Err(refuse()),
    };
    Ok((number * 1024f64.powi(power)) as i64)
}

/// A check: a size.
pub fn bytes(text: &str) -> Result<(), String> {
    parse_bytes(text).map(drop)
}

/// `1.24MB`: powers of 1000 with `digits` significant digits.
pub fn decimal_size(bytes: f64, digits: usize) -> String {
    scaled(
        bytes,
        1000.0,
        &["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"],
        digits,
    )
}

/// `1.5MiB`: powers of 1024 with four significant digits.
pub fn binary_size(bytes: f64) -> String {
    scaled(
        bytes,
        1024.0,
        &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"],
        4,
    )
}

fn scaled(mut value: f64, base: f64, units: &[&str], digits: usize) -> String {
    let mut unit = 0;
    while value >= base && unit < units.len() - 1 {
        value /= base;
        unit += 1;
    }
    format!("{}{}", significant(value, digits), units[unit])
}

/// `%.{digits}g`: that many significant digits, no trailing zeros, an exponent where the digits do not reach.
pub fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_string();
    }
    let scientific = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = scientific.split_once('e').expect("the format prints an exponent");
    let exponent: i32 = exponent.parse().expect("the format prints an exponent");
    if exponent < -4 || exponent >= digits as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim_zeros(mantissa), exponent.abs());
    }
    let decimals = (digits as i32 - 1 - exponent).max(0) as usize;
    trim_zeros(&format!("{value:.decimals$}")).to_string()
}

fn trim_zeros(text: &str) -> &str {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

/// `3 seconds`, `About a minute`, `5 weeks`.
pub fn human_duration(seconds: i64) -> String {
    let minutes = seconds / 60;
    let hours = (seconds as f64 / 3600.0 + 0.5) as i64;
    match () {
        () if seconds < 1 => "Less than a second".to_string(),
        () if seconds == 1 => "1 second".to_string(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_string(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_string(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// `3 seconds ago`, from seconds since the epoch.
pub fn ago(created: i64) -> String {
    format!("{} ago", human_duration(Timestamp::now().as_second() - created))
}

/// `2026-01-02 03:04:05 +0000 UTC`, from seconds since the epoch.
pub fn date(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        Err(_) => seconds.to_string(),
    }
}

/// `2026-01-02 03:04:05.123 +0000 UTC`, from RFC 3339: how Go prints a time. What is no time stays as it is.
pub fn go_time(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string(),
        Err(_) => text.to_string(),
    }
}

/// `2026-01-02T03:04:05Z`, from seconds since the epoch.
pub fn date_rfc3339(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Err(_) => seconds.to_string(),
    }
}

/// `1h2m3.5s` in nanoseconds.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let refuse = || format!("time: invalid duration {text:?}");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(refuse());
    }
    let mut nanoseconds = 0f64;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| refuse())?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        nanoseconds += number
            * match &rest[..letters] {
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                "" => return Err(format!("time: missing unit in duration {text:?}")),
                unit => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
            };
        rest = &rest[letters..];
    }
    Ok((sign * nanoseconds) as i64)
}

/// A check: a duration.
pub fn duration(text: &str) -> Result<(), String> {
    parse_duration(text).map(drop)
}

/// A point in time as `--since` takes it, to `seconds.nanoseconds` as the API takes it: a duration before now, a date,
/// or seconds since the epoch.
pub fn point_in_time(text: &str, now: Timestamp) -> Result<String, String> {
    // `0` is the beginning of time, and not now.
    if text != "0"
        && let Ok(before) = parse_duration(text).map(jiff::SignedDuration::from_nanos)
        && let Ok(time) = now.checked_sub(before)
    {
        return Ok(format!("{}.{:09}", time.as_second(), time.subsec_nanosecond()));
    }
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Ok(text.to_string());
    }
    let with_zone = text.parse::<Timestamp>();
    let without = || {
        text.parse::<jiff::civil::DateTime>()
            .and_then(|time| jiff::tz::TimeZone::UTC.to_timestamp(time))
    };
    match with_zone.or_else(|_| without()) {
        Ok(time) => Ok(format!("{}.{:09}", time.as_second(), time.subsec_nanosecond())),
        Err(_) => Err(format!("failed to parse value as time or duration: {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_powers_of_1024() {
        assert_eq!(parse_bytes("512m"), Ok(512 << 20));
        assert_eq!(parse_bytes("1.5g"), Ok(3 << 29));
        assert_eq!(parse_bytes("64MiB"), Ok(64 << 20));
        assert_eq!(parse_bytes("1024"), Ok(1024));
        assert_eq!(parse_bytes("32 KB"), Ok(32768));
        for bad in ["", "zz", "-1m", ".5m", "1x", "1.2.3m", "inf", "1mm"] {
            assert_eq!(parse_bytes(bad), Err(format!("invalid size: '{bad}'")));
        }
    }

    #[test]
    fn sizes_are_shown_with_significant_digits() {
        assert_eq!(decimal_size(0.0, 3), "0B");
        assert_eq!(decimal_size(999.0, 3), "999B");
        assert_eq!(decimal_size(1_240_000.0, 3), "1.24MB");
        assert_eq!(decimal_size(77_800_000.0, 3), "77.8MB");
        assert_eq!(decimal_size(187_654_321.0, 3), "188MB");
        assert_eq!(decimal_size(999_900.0, 3), "1e+03kB");
        assert_eq!(binary_size(1_572_864.0), "1.5MiB");
        assert_eq!(binary_size(8_123_456_789.0), "7.566GiB");
        assert_eq!(binary_size(104_857_600.0), "100MiB");
    }

    #[test]
    fn durations_are_shown_for_people() {
        let cases = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5399, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86400, "2 weeks"),
            (60 * 86400, "2 months"),
            (730 * 86400, "2 years"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human_duration(seconds), text);
        }
    }

    #[test]
    fn durations_are_read_with_units() {
        assert_eq!(parse_duration("1h2m3.5s"), Ok(3_723_500_000_000));
        assert_eq!(parse_duration("10ms"), Ok(10_000_000));
        assert_eq!(parse_duration("0"), Ok(0));
        assert!(parse_duration("10").is_err());
        assert!(parse_duration("").is_err());
    }

    #[test]
    fn points_in_time_are_durations_dates_or_seconds() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        assert_eq!(point_in_time("10m", now).unwrap(), "1699999400.000000000");
        assert_eq!(point_in_time("1700000000", now).unwrap(), "1700000000");
        assert_eq!(point_in_time("1700000000.5", now).unwrap(), "1700000000.5");
        assert_eq!(
            point_in_time("2023-11-14T22:13:20Z", now).unwrap(),
            "1700000000.000000000"
        );
        assert_eq!(
            point_in_time("2023-11-14T22:13:20.5+01:00", now).unwrap(),
            "1699996400.500000000"
        );
        assert_eq!(point_in_time("2023-11-14", now).unwrap(), "1699920000.000000000");
        assert_eq!(
            point_in_time("foo", now).unwrap_err(),
            "failed to parse value as time or duration: \"foo\""
        );
    }
}

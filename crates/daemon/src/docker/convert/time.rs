//! Times and durations in Docker's words.
//!
//! "Never" is Go's zero time, the first second of year 1, and never an empty string or null.
use jiff::Timestamp;

pub const NEVER: &str = "0001-01-01T00:00:00Z";

/// RFC 3339 in UTC with as many digits after the second as are needed.
pub fn rfc3339(time: Option<Timestamp>) -> String {
    time.map_or_else(|| NEVER.to_owned(), |time| time.to_string())
}

/// RFC 3339 in UTC, whole seconds.
pub fn rfc3339_seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second())
        .expect("whole seconds of a valid time are valid")
        .to_string()
}

/// How long between two times, roughly, for people: `3 seconds`, `About an hour`.
pub fn human_duration(from: Timestamp, to: Timestamp) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    let seconds = to.as_second().saturating_sub(from.as_second()).max(0);
    let hours = (seconds + HOUR / 2) / HOUR;
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..MINUTE => format!("{seconds} seconds"),
        _ if seconds / MINUTE == 1 => "About a minute".to_owned(),
        _ if seconds / MINUTE < 60 => format!("{} minutes", seconds / MINUTE),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(seconds: i64) -> String {
        let from = Timestamp::from_second(1_700_000_000).unwrap();
        human_duration(from, Timestamp::from_second(1_700_000_000 + seconds).unwrap())
    }

    #[test]
    fn durations_read_as_dockers() {
        let expected = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (59 * 60, "59 minutes"),
            (3600, "About an hour"),
            (89 * 60, "About an hour"),
            (90 * 60, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 24 * 3600, "2 weeks"),
            (60 * 24 * 3600, "2 months"),
            (730 * 24 * 3600, "2 years"),
            (-5, "Less than a second"),
        ];
        for (seconds, text) in expected {
            assert_eq!(after(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn times_have_as_many_digits_as_they_need() {
        let time = |nanoseconds| Some(Timestamp::new(1_700_000_000, nanoseconds).unwrap());
        assert_eq!(rfc3339(time(0)), "2023-11-14T22:13:20Z");
        assert_eq!(rfc3339(time(120_000_000)), "2023-11-14T22:13:20.12Z");
        assert_eq!(rfc3339(time(1)), "2023-11-14T22:13:20.000000001Z");
        assert_eq!(rfc3339(None), NEVER);
        assert_eq!(rfc3339_seconds(time(5).unwrap()), "2023-11-14T22:13:20Z");
    }
}

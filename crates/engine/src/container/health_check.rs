//! What a health check is: the command, and the times around it, with Docker's defaults.
use std::time::Duration;

use corten_api::types::container::{ContainerConfig, HealthConfig};

use crate::{
    container::health::Status,
    error::{Error, Result},
};

const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: i64 = 3;
/// Nothing may be asked for more often.
const MINIMUM_NANOSECONDS: i64 = 1_000_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub argv: Vec<String>,
    pub timeout: Duration,
    pub start_period: Duration,
    pub retries: i64,
    interval: Duration,
    start_interval: Duration,
}

impl Check {
    /// Absent where a container is not to be checked.
    pub fn of(config: &ContainerConfig) -> Option<Check> {
        let health = config.healthcheck.as_ref()?;
        let (kind, words) = health.test.as_deref()?.split_first()?;
        let shell = match kind.as_str() {
            "CMD" => &[][..],
            "CMD-SHELL" => config
                .shell
                .as_deref()
                .filter(|shell| !shell.is_empty())
                .unwrap_or_default(),
            _ => return None,
        };
        let default_shell = ["/bin/sh".to_owned(), "-c".to_owned()];
        let shell = if kind == "CMD-SHELL" && shell.is_empty() {
            &default_shell
        } else {
            shell
        };
        let argv: Vec<String> = shell.iter().chain(words).cloned().collect();
        let or = |nanoseconds: i64, default: Duration| match u64::try_from(nanoseconds) {
            Ok(0) | Err(_) => default,
            Ok(nanoseconds) => Duration::from_nanos(nanoseconds),
        };
        (!words.is_empty()).then(|| Check {
            argv,
            timeout: or(health.timeout, TIMEOUT),
            start_period: or(health.start_period, Duration::ZERO),
            retries: if health.retries > 0 { health.retries } else { RETRIES },
            interval: or(health.interval, INTERVAL),
            start_interval: or(health.start_interval, START_INTERVAL),
        })
    }

    /// How long to wait before the next check.
    pub fn pause(&self, status: Status, age: Duration) -> Duration {
        if status == Status::Starting && age < self.start_period {
            self.start_interval
        } else {
            self.interval
        }
    }
}

/// Refuses times that make no sense, in Docker's words.
pub fn validate(health: &HealthConfig) -> Result<()> {
    let times = [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ];
    for (name, nanoseconds) in times {
        if nanoseconds != 0 && nanoseconds < MINIMUM_NANOSECONDS {
            return Err(Error::invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
    }
    if health.retries < 0 {
        return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
    }
    Ok(())
}

/// An image's check under what the user says: each of both is a part of the other's.
pub fn merge(user: Option<HealthConfig>, image: Option<HealthConfig>) -> Option<HealthConfig> {
    let (Some(mut user), Some(image)) = (user.clone(), image.clone()) else {
        return user.or(image);
    };
    if user.test.as_ref().is_none_or(Vec::is_empty) {
        user.test = image.test;
    }
    for (own, default) in [
        (&mut user.interval, image.interval),
        (&mut user.timeout, image.timeout),
        (&mut user.start_period, image.start_period),
        (&mut user.start_interval, image.start_interval),
        (&mut user.retries, image.retries),
    ] {
        if *own == 0 {
            *own = default;
        }
    }
    Some(user)
}

/// As Go prints a duration: `1m30s`, `500ms`.
pub fn go_duration(duration: Duration) -> String {
    let fraction = |whole: u128, rest: u128, digits: usize| match rest {
        0 => whole.to_string(),
        rest => format!("{whole}.{}", format!("{rest:0digits$}").trim_end_matches('0')),
    };
    let nanoseconds = duration.as_nanos();
    match nanoseconds {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(nanoseconds / 1_000, nanoseconds % 1_000, 3)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(nanoseconds / 1_000_000, nanoseconds % 1_000_000, 6)),
        _ => {
            let (minutes, rest) = (nanoseconds / 60_000_000_000, nanoseconds % 60_000_000_000);
            let seconds = fraction(rest / 1_000_000_000, rest % 1_000_000_000, 9);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(test: &[&str]) -> ContainerConfig {
        ContainerConfig {
            healthcheck: Some(HealthConfig {
                test: Some(test.iter().map(|&word| word.to_owned()).collect()),
                ..HealthConfig::default()
            }),
            ..ContainerConfig::default()
        }
    }

    #[test]
    fn both_forms_become_a_command() {
        let argv = |config: &ContainerConfig| Check::of(config).map(|check| check.argv.join(" "));
        assert_eq!(argv(&config(&["CMD", "curl", "-f", "x"])).as_deref(), Some("curl -f x"));
        assert_eq!(
            argv(&config(&["CMD-SHELL", "exit 1"])).as_deref(),
            Some("/bin/sh -c exit 1")
        );
        let mut own = config(&["CMD-SHELL", "exit 1"]);
        own.shell = Some(vec!["/bin/bash".to_owned(), "-ec".to_owned()]);
        assert_eq!(argv(&own).as_deref(), Some("/bin/bash -ec exit 1"));
        for none in [&["NONE"][..], &[], &["CMD"], &["OTHER", "x"]] {
            assert_eq!(argv(&config(none)), None, "{none:?}");
        }
    }

    #[test]
    fn the_start_has_times_of_its_own() {
        let mut config = config(&["CMD", "x"]);
        let defaults = Check::of(&config).expect("a check");
        assert_eq!(defaults.pause(Status::Starting, Duration::ZERO), INTERVAL);
        config.healthcheck.as_mut().expect("given").start_period = 10_000_000_000;
        let check = Check::of(&config).expect("a check");
        assert_eq!(check.pause(Status::Starting, Duration::from_secs(9)), START_INTERVAL);
        assert_eq!(check.pause(Status::Starting, Duration::from_secs(10)), INTERVAL);
        assert_eq!(check.pause(Status::Healthy, Duration::ZERO), INTERVAL);
    }

    #[test]
    fn times_that_make_no_sense_are_refused() {
        let refused = |health: HealthConfig| validate(&health).expect_err("refused").to_string();
        let health = HealthConfig {
            interval: 1,
            ..HealthConfig::default()
        };
        assert_eq!(refused(health), "Interval in Healthcheck cannot be less than 1ms");
        let health = HealthConfig {
            retries: -1,
            ..HealthConfig::default()
        };
        assert_eq!(refused(health), "Retries in Healthcheck cannot be negative");
    }

    #[test]
    fn the_user_need_not_repeat_what_the_image_says() {
        let image = config(&["CMD", "x"]).healthcheck;
        let user = HealthConfig {
            interval: 5_000_000,
            ..HealthConfig::default()
        };
        let merged = merge(Some(user), image.clone()).expect("both");
        assert_eq!(
            (merged.interval, &merged.test),
            (5_000_000, &image.as_ref().expect("given").test)
        );
        assert_eq!(merge(None, image.clone()), image);
    }

    #[test]
    fn durations_read_as_gos() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (1_500, "1.5µs"),
            (500_000_000, "500ms"),
            (1_000_000_000, "1s"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanoseconds)), text);
        }
    }
}

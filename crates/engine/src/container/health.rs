//! A container's health, as its checks have found it.
//!
//! `starting` until the first success or too many failures in a row; failures in the start period do not count.
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How many results are remembered.
const KEPT: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Starting,
    Healthy,
    Unhealthy,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Status::Starting => "starting",
            Status::Healthy => "healthy",
            Status::Unhealthy => "unhealthy",
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    pub start: Timestamp,
    pub end: Timestamp,
    /// 0 is success; -1 where the check could not be carried out, or took too long.
    pub exit_code: i32,
    pub output: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    pub status: Status,
    pub failing_streak: i64,
    /// The last ones, oldest first.
    pub log: Vec<Probe>,
}

impl Default for Health {
    fn default() -> Health {
        Health {
            status: Status::Starting,
            failing_streak: 0,
            log: Vec::new(),
        }
    }
}

impl Health {
    /// Takes a result in; the new status where it is another one. `age` is the container's when the check began.
    pub fn note(&mut self, probe: Probe, age: Duration, start_period: Duration, retries: i64) -> Option<Status> {
        let before = self.status;
        let forgiven = before == Status::Starting && age < start_period;
        if probe.exit_code == 0 {
            self.failing_streak = 0;
            self.status = Status::Healthy;
        } else if !forgiven {
            self.failing_streak += 1;
            if self.failing_streak >= retries {
                self.status = Status::Unhealthy;
            }
        }
        if self.log.len() >= KEPT {
            self.log.drain(..=self.log.len() - KEPT);
        }
        self.log.push(probe);
        (self.status != before).then_some(self.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(10);

    fn note(health: &mut Health, exit_code: i32, seconds: u64) -> Option<Status> {
        let probe = Probe {
            start: Timestamp::UNIX_EPOCH,
            end: Timestamp::UNIX_EPOCH,
            exit_code,
            output: seconds.to_string(),
        };
        health.note(probe, Duration::from_secs(seconds), PERIOD, 3)
    }

    #[test]
    fn so_many_failures_in_a_row_are_unhealthy() {
        let mut health = Health::default();
        assert_eq!(note(&mut health, 0, 11), Some(Status::Healthy));
        assert_eq!(note(&mut health, 1, 12), None);
        assert_eq!(note(&mut health, 1, 13), None);
        assert_eq!(note(&mut health, 0, 14), None);
        assert_eq!(health.failing_streak, 0);
        assert_eq!(
            [15, 16, 17].map(|age| note(&mut health, 1, age)),
            [None, None, Some(Status::Unhealthy)]
        );
        assert_eq!(note(&mut health, 0, 18), Some(Status::Healthy));
    }

    #[test]
    fn failures_while_starting_are_forgiven_for_a_while() {
        let mut health = Health::default();
        for age in 0..5 {
            assert_eq!(note(&mut health, -1, age), None);
        }
        assert_eq!((health.status, health.failing_streak), (Status::Starting, 0));
        // The first success ends that.
        assert_eq!(note(&mut health, 0, 5), Some(Status::Healthy));
        assert_eq!(note(&mut health, 1, 6), None);
        assert_eq!(health.failing_streak, 1);
    }

    #[test]
    fn the_last_five_are_remembered() {
        let mut health = Health::default();
        for age in 0..8 {
            note(&mut health, 0, age);
        }
        let outputs: Vec<_> = health.log.iter().map(|probe| probe.output.as_str()).collect();
        assert_eq!(outputs, ["3", "4", "5", "6", "7"]);
    }
}

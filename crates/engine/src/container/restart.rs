//! Restart policies: does a container that ended start again, and when?
//!
//! Docker's rules. What a user stopped stays stopped while the daemon lives; a daemon that starts brings `always` back
//! even then. Beyond Docker: a start by policy that fails counts as one more end, so it is tried again.
use std::time::Duration;

use corten_api::types::container::{HostConfig, RestartPolicy};
use tokio::time::Instant;

use crate::{
    container::{state::Phase, supervised::Supervised},
    error::{Error, Result},
    signal,
};

/// The first pause before a restart; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Whoever ran for so long was well: the pauses begin anew.
const WELL_AFTER: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    No,
    /// At most so many times, 0 for as often as it takes.
    OnFailure {
        most: u32,
    },
    Always,
    UnlessStopped,
}

/// How a container came to its end.
#[derive(Debug, Clone, Copy)]
pub struct End {
    pub exit_code: i32,
    /// How often its policy has started it since a user did.
    pub restarts: u32,
    pub stopped_by_user: bool,
}

impl Policy {
    /// Of a record: checked when it was made.
    pub fn of(host: &HostConfig) -> Policy {
        let policy = &host.restart_policy;
        match policy.name.as_str() {
            "always" => Policy::Always,
            "unless-stopped" => Policy::UnlessStopped,
            "on-failure" => Policy::OnFailure {
                most: u32::try_from(policy.maximum_retry_count).unwrap_or_default(),
            },
            _ => Policy::No,
        }
    }

    /// Does a container start again after an end that nobody saw to its last consequence yet?
    pub fn after(self, end: End) -> bool {
        match self {
            Policy::No => false,
            Policy::OnFailure { most } => {
                end.exit_code != 0 && !end.stopped_by_user && (most == 0 || end.restarts < most)
            }
            Policy::Always | Policy::UnlessStopped => !end.stopped_by_user,
        }
    }

    /// Does a daemon that has just started also start a container that was at rest before?
    pub fn at_daemon_start(self, stopped_by_user: bool) -> bool {
        match self {
            Policy::No | Policy::OnFailure { .. } => false,
            Policy::Always => true,
            Policy::UnlessStopped => !stopped_by_user,
        }
    }
}

/// What a request asks for, in Docker's words.
pub fn check(policy: &RestartPolicy) -> Result<()> {
    let refuse = |why: String| Err(Error::invalid(format!("invalid restart policy: {why}")));
    let count = policy.maximum_retry_count;
    match policy.name.as_str() {
        // As it came from clients before there was a word for it.
        "" => Ok(()),
        "no" | "always" | "unless-stopped" if count == 0 => Ok(()),
        "no" | "always" | "unless-stopped" => {
            let and = if count < 0 { " and cannot be negative" } else { "" };
            refuse(format!("maximum retry count can only be used with 'on-failure'{and}"))
        }
        "on-failure" if count < 0 => refuse("maximum retry count cannot be negative".to_owned()),
        "on-failure" => Ok(()),
        other => refuse(format!(
            "unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )),
    }
}

/// The pauses between restarts.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    last: Duration,
}

impl Backoff {
    /// The pause after a run of this length.
    pub fn next(&mut self, ran: Duration) -> Duration {
        if ran >= WELL_AFTER {
            self.last = Duration::ZERO;
        }
        self.last = (self.last * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.last
    }
}

/// When the next try is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    At(Instant),
    /// When whoever brings containers back after a start of the daemon says so.
    InOrder,
}

/// All that a supervisor knows of restarts.
#[derive(Debug, Default)]
pub struct Restarts {
    pub due: Option<Due>,
    pub backoff: Backoff,
    /// The end that comes is what a user wants: no policy holds against it until the next start.
    pub end_is_wanted: bool,
    /// A user's restart is under way: the end that comes is no reason to remove the container.
    pub by_user: bool,
    /// With the end that comes it goes, with its anonymous volumes or without.
    pub removal: Option<bool>,
}

impl Restarts {
    /// Waits for the next try; for ever where there is none.
    pub async fn due(&self) {
        match self.due {
            Some(Due::At(instant)) => tokio::time::sleep_until(instant).await,
            Some(Due::InOrder) | None => std::future::pending().await,
        }
    }
}

impl Supervised {
    pub fn policy(&self) -> Policy {
        Policy::of(&self.record.host_config)
    }

    /// After an end: `Restarting`, with the next try on its way, or `Exited`.
    pub fn rest_or_restart(&mut self, ran: Duration) {
        let end = End {
            exit_code: self.state.exit_code,
            restarts: self.state.restart_count,
            stopped_by_user: self.restarts.end_is_wanted || self.state.stopped_by_user,
        };
        if !self.policy().after(end) {
            return self.state.go(Phase::Exited);
        }
        self.state.go(Phase::Restarting);
        self.state.restart_count = self.state.restart_count.saturating_add(1);
        let pause = self.restarts.backoff.next(ran);
        self.restarts.due = Some(Due::At(Instant::now() + pause));
        tracing::debug!(container = %self.record.id, ?pause, "restarts by its policy");
    }

    /// The next try, whose time has come.
    pub async fn retry(&mut self) {
        self.restarts.due = None;
        // It goes on waiting when the daemon ends with its containers: the next one brings it back.
        if self.state.phase != Phase::Restarting || self.context.is_stopping() {
            return;
        }
        if let Err(error) = self.launch().await {
            tracing::error!(container = %self.record.id, %error, "cannot restart a container");
        }
    }

    /// It waits no more for its next try.
    pub fn give_up_restarting(&mut self) {
        self.restarts.due = None;
        self.state.go(Phase::Exited);
        self.exits += 1;
        self.save_or_warn();
        self.show();
    }

    /// The record has another policy than before. One that waits for a next try that it does not allow rests.
    pub fn policy_changed(&mut self) {
        let end = End {
            exit_code: self.state.exit_code,
            // The try that it waits for is counted already.
            restarts: self.state.restart_count.saturating_sub(1),
            stopped_by_user: false,
        };
        if self.state.phase == Phase::Restarting && !self.policy().after(end) {
            self.give_up_restarting();
        }
    }

    /// A user wants it to end. Written down at once: a daemon that is killed now must not let the next one restart it.
    pub fn mark_stopped(&mut self) {
        if !self.state.phase.is_up() {
            return;
        }
        self.restarts.end_is_wanted = true;
        // What ends with its daemon was not stopped by a user.
        if !self.state.stopped_by_user && !self.context.is_stopping() {
            self.state.stopped_by_user = true;
            if self.policy() != Policy::No {
                self.save_or_warn();
            }
        }
    }

    /// Does whoever sends this signal want an end? `kill -s HUP` and its like ask for something else.
    pub fn is_meant_to_end(&self, number: i32) -> bool {
        [signal::KILL, signal::TERM, signal::INT, signal::QUIT].contains(&number) || number == self.stop_signal()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(exit_code: i32, restarts: u32, stopped_by_user: bool) -> End {
        End {
            exit_code,
            restarts,
            stopped_by_user,
        }
    }

    #[test]
    fn a_policy_looks_at_the_exit_code_the_count_and_the_user() {
        assert!(!Policy::No.after(end(1, 0, false)));
        for policy in [Policy::Always, Policy::UnlessStopped] {
            assert!(policy.after(end(0, 100, false)) && !policy.after(end(1, 0, true)));
        }
        let twice = Policy::OnFailure { most: 2 };
        assert!(twice.after(end(1, 1, false)) && !twice.after(end(1, 2, false)));
        assert!(!twice.after(end(0, 0, false)) && !twice.after(end(1, 0, true)));
        assert!(Policy::OnFailure { most: 0 }.after(end(1, 1000, false)));
    }

    #[test]
    fn a_new_daemon_brings_back_what_is_to_run_always() {
        assert!(Policy::Always.at_daemon_start(true));
        assert!(Policy::UnlessStopped.at_daemon_start(false) && !Policy::UnlessStopped.at_daemon_start(true));
        assert!(!Policy::OnFailure { most: 0 }.at_daemon_start(false) && !Policy::No.at_daemon_start(false));
    }

    #[test]
    fn pauses_double_to_a_minute_and_begin_anew_after_a_good_run() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..12)
            .map(|_| backoff.next(Duration::from_secs(9)).as_millis())
            .collect();
        assert_eq!(pauses[..4], [100, 200, 400, 800]);
        assert_eq!(pauses[9..], [51_200, 60_000, 60_000]);
        assert_eq!(backoff.next(Duration::from_secs(10)).as_millis(), 100);
    }

    #[test]
    fn policies_are_refused_in_dockers_words() {
        let refusal = |name: &str, count| {
            let policy = RestartPolicy {
                name: name.to_owned(),
                maximum_retry_count: count,
            };
            check(&policy).map_err(|error| error.to_string())
        };
        assert_eq!(refusal("on-failure", 3), Ok(()));
        assert_eq!(
            refusal("always", 1).unwrap_err(),
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        );
        assert_eq!(
            refusal("on-failure", -1).unwrap_err(),
            "invalid restart policy: maximum retry count cannot be negative"
        );
        assert_eq!(
            refusal("sometimes", 0).unwrap_err(),
            "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or \
             'unless-stopped'"
        );
    }
}
